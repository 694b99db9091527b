"""Scoring methods judged by truth and by humans, in one table for a classifier: `python -m analysis.truth`.

    human           average precision against the words that people marked; human_soft: mean over the annotators (Plank,
                    2022, https://aclanthology.org/2022.emnlp-main.731)
    edited          the same against the words that a person changed to flip the label (others might flip it, too);
                    edited_flipped: of the pairs of texts for which the classifier changes its mind
    planted         a rare word that decides the label of a classifier trained on it: whether it has the highest score
                    (planted_first; Bastings et al., 2022, https://aclanthology.org/2022.emnlp-main.64)
    shapley         Spearman's correlation with exact Shapley values of the predicted class's logit, on sentences of at
                    most 10 tokens, others masked; of scores without a sign with the absolute values. KernelSHAP and
                    Shapley sampling estimate them (Lundberg and Lee, 2017, https://arxiv.org/abs/1705.07874)
    random_half, random_all
                    |Spearman's correlation| with the scores of the model whose head and half of the layers, or all, are
                    drawn anew. LOWER is better: an explanation that stays is not one of this model (Adebayo et al.,
                    2018, https://arxiv.org/abs/1810.03292). Random scores have about 0.
    stability       Spearman's correlation of the words' scores with those after another last punctuation mark or a
                    synonym, where the model predicts the same class (Alvarez-Melis and Jaakkola, 2018,
                    https://arxiv.org/abs/1806.08049). Scores that do not depend on the model are most stable.
    soft_comprehensiveness_equal, soft_sufficiency_equal
                    soft metrics in which every method keeps half of the tokens, see `equal_chances`

Higher is better where nothing else is said. A method is judged at one layer: those that look from a layer to the output
at the first, others at the last.

    B batch, n tokens of a text, C classes
"""

from __future__ import annotations

import copy
import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import comb
from scipy.stats import spearmanr
from transformers import AutoTokenizer

from adapler import AdapLeRForSequenceClassification
from adapler.backbones.families import PREDICTED
from adapler.eraser import EraserExample
from adapler.errors import ArgumentError
from adapler.inference import padding_of, predict_rows, working_copy
from adapler.options import option, parse, record, user_errors
from analysis.corpus import Window, align, collate, load_corpus
from analysis.marks import annotator_masks
from analysis.metrics import plausibility as pl
from analysis.metrics.faithfulness import SOFT, FaithfulnessSettings, Versions, soft_rows
from analysis.report import bootstrap_intervals, holm, paired_permutation_test
from analysis.scores import Batch, ScoringMethod, get_methods
from analysis.scores.base import AT_INPUT, TO_OUTPUT, classifier_logits
from analysis.scores.inputs import Presence

METHODS = (
    *("attention", "attention_received", "rollout", "attention_gradient", "attention_gradient_local", "saliency"),
    *("saliency_signed", "gradient_l2", "integrated_gradients(n_steps=5)", "deeplift", "decompx", "attnlrp", "globenc"),
    *("alti", "value_zeroing", "cp", "cp_carried", "position", "random"),
)
CONTROLS = ("position", "random")
CLASSIFIER = "classifier"  # in the column of methods: what the classifier itself does
LOWER = ("random_half", "random_all")  # of the columns, those where lower is better
COLUMNS: tuple[str, ...] = ("human", "human_soft", "edited", "edited_flipped", "planted_first", "shapley")
COLUMNS += (*LOWER, "stability", *(f"{name}_equal" for name in SOFT))
SYNONYMS = {"film": "movie", "movie": "film", "great": "superb", "bad": "poor", "good": "fine", "funny": "amusing"}
MOST_EXACT = 10  # tokens of a text whose subsets are all evaluated
RETENTION = 0.5
PLANTS = ("violin", "harbor")  # the word that decides, by class
_WORDS = re.compile(r"\w+(?:'\w+)?|[^\w\s]")

Row = tuple[str, str, str, float]  # document, method, metric, value
Scores = tuple[bool, NDArray[np.float64]]  # whether signed; (n,)


@dataclass
class TruthOptions:
    """Judge scoring methods by truth and by humans. The same command continues a run that was stopped."""

    output: str = option("folder for table.md, means.csv, paired.csv, agreement.csv and values.parquet", basic=True)
    human: str = option("texts that people marked: an ERASER folder or archive, or JSON lines", basic=True)
    model: str = option("AdapLeR model", default="checkpoints/movies-minilm", basic=True)
    edited: str = option("JSON lines with pairs of texts, `original` and `edited`", default="", basic=True)
    methods: list[str] = option("scoring methods", default_factory=lambda: list(METHODS), basic=True)
    documents: int = option("texts of each kind, at most", default=40, basic=True)
    max_length: int = option("wordpieces of a text, at most", default=256)
    longest: int = option("leave out pairs of texts with more words than this", default=10_000)
    plant: bool = option("train a classifier on planted words", default=True)
    seed: int = option("of everything that is drawn", default=0)


# ---------------------------------------------------------------- measures


def edited_words(words: Sequence[str], others: Sequence[str]) -> NDArray[np.bool_]:
    """(n,) bool: the words of a text that its edited version does not have in the same place (difflib)."""
    edited = np.ones(len(words), dtype=bool)
    for block in SequenceMatcher(a=list(words), b=list(others), autojunk=False).get_matching_blocks():
        edited[block.a : block.a + block.size] = False
    return edited


def shapley_values(worth: ArrayLike) -> NDArray[np.float64]:
    """(n,) exact Shapley values of n tokens, from the value of all their subsets.

    worth: (2^n,); entry k is the value of the tokens whose bits are set in k (token 0 is bit 0).

        phi_i = sum over subsets S without i of |S|! (n - |S| - 1)! / n! * (v(S and i) - v(S))
    """
    values = np.asarray(worth, dtype=np.float64)
    there = all_subsets(len(values).bit_length() - 1)  # (2^n, n)
    size, n = there.sum(1, keepdims=True), there.shape[1]
    weights = np.append(1 / (n * comb(n - 1, np.arange(n))), 0.0)  # of |S| tokens without i
    return np.asarray(values @ np.where(there, weights[size - 1], -weights[size]))


def all_subsets(n: int) -> NDArray[np.bool_]:
    """(2^n, n) bool, in the order of `shapley_values`."""
    return np.asarray((np.arange(1 << n)[:, None] >> np.arange(n)) & 1 == 1)


def equal_chances(scores: ArrayLike, retention: float = RETENTION) -> NDArray[np.float64]:
    """(n,) the probability q of each token to stay in (or leave) a text, of the same mean for every method.

    Without equal retention a method with large shares keeps more, and does well for that. With it, the order and the
    spacing of the scores are left: q_i = clip(s~_i + b, 0, 1), s~ the scores moved to 0..1 and b such that the mean of
    q is `retention`. Huang and Chan (2026), https://arxiv.org/abs/2601.03089; how q is brought to one mean is ours.

    >>> equal_chances([1, 3, 2]).tolist(), equal_chances([0, 0, 0, 1]).round(3).tolist()
    ([0.0, 1.0, 0.5], [0.333, 0.333, 0.333, 1.0])
    """
    values = np.asarray(scores, dtype=np.float64)
    spread = np.ptp(values) if len(values) else 0.0
    if spread == 0:
        return np.full(len(values), retention)
    unit = (values - values.min()) / spread
    shift = brentq(lambda b: np.clip(unit + b, 0, 1).mean() - retention, -1, 1, xtol=1e-15)
    return np.asarray(np.clip(unit + shift, 0, 1).round(12))


def rank_correlation(first: ArrayLike, second: ArrayLike) -> float:
    """Spearman's; NaN with fewer than two values, or when either is constant."""
    a, b = pl.as_scores(first), pl.as_scores(second)
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    return float(round(spearmanr(a, b).statistic, 12))


# ---------------------------------------------------------------- judgements


def marked_text(name: str, words: Sequence[str], marks: ArrayLike = ()) -> EraserExample:
    """Words (n,), and which of them count (n,)."""
    return EraserExample(name, tuple(words), "", tuple(pl.spans_of(marks)))


@dataclass
class Judge:
    """A classifier (with the AdapLeR model that it belongs to), its tokenizer and the methods."""

    adapler: Any
    tokenizer: Any
    methods: Sequence[ScoringMethod]
    max_length: int
    seed: int = 0

    def read(self, text: EraserExample) -> tuple[Window, Batch]:
        """One text as the classifier reads it."""
        window = align(text, self.tokenizer, max_length=self.max_length).windows[0]
        tokens = {"pad_token_id": self.tokenizer.pad_token_id, "mask_token_id": self.tokenizer.mask_token_id}
        return window, collate([window], **tokens, seed=self.seed)

    def scores(self, text: EraserExample, target: int, adapler: Any = None) -> dict[str, Scores]:
        """Of every method, of the content tokens."""
        (window, batch), result = self.read(text), {}
        model = self.adapler if adapler is None else adapler
        for method in self.methods:
            takes = method.has_target and method.options["target"] == PREDICTED
            chosen = method.with_options(target=str(target)) if takes else method
            found = chosen(model if "adapler" in method.needs else model.backbone, batch)
            layer = 0 if method.scope in (TO_OUTPUT, AT_INPUT) else -1
            result[method.key] = found.signed, found.scores[0, layer].double().numpy()[~window.special]
        return result

    def predicted(self, text: EraserExample) -> int:
        return int(classifier_logits(self.adapler.backbone, self.read(text)[1]).argmax())

    def judge(
        self, text: EraserExample, column: str, *, models: dict[str, Any] | None = None, soft: bool = False
    ) -> list[Row]:
        """Against the marked words; with `models` also randomisation and stability, with `soft` the soft metrics."""
        target = self.predicted(text)
        own = self.scores(text, target)
        window, _ = self.read(text)
        rows = list(_marked(text, column, window, own))
        for name, model in (models or {}).items():
            for method, (_, scores) in self.scores(text, target, model).items():
                rows.append((text.id, method, name, abs(rank_correlation(own[method][1], scores))))
        if models:
            rows += self._stability(text, target, own)
        if soft:
            how: dict[str, Any] = {"target": target, "settings": FaithfulnessSettings(seed=self.seed)}
            versions = Versions(self._probabilities, window.input_ids, ~window.special, **how)
            values = np.array([scores for _, scores in own.values()])
            for method, row in zip(own, soft_rows(versions, values, chances=equal_chances), strict=True):
                rows += [(text.id, method, f"{metric}_equal", row[metric]) for metric in SOFT]
        return rows

    def shapley(self, text: EraserExample) -> list[Row]:
        """Agreement with the exact Shapley values of the predicted class's logit, other tokens masked."""
        target = self.predicted(text)
        document = Presence(working_copy(self.adapler.backbone), self.read(text)[1], str(target), "mask")
        if not 3 <= (n := len(document.positions)) <= MOST_EXACT:
            return []
        subsets = torch.split(torch.from_numpy(all_subsets(n)).float(), document.per_pass)
        exact = shapley_values(torch.cat([document.value(part) for part in subsets]).double().numpy())
        return [
            (text.id, method, "shapley", rank_correlation(exact if signed else np.abs(exact), scores))
            for method, (signed, scores) in self.scores(text, target).items()
        ]

    def flips(self, first: EraserExample, second: EraserExample) -> list[Row]:
        return [(first.id, CLASSIFIER, "flips", float(self.predicted(first) != self.predicted(second)))]

    def right(self, text: EraserExample, kind: int) -> list[Row]:
        return [(text.id, CLASSIFIER, "planted_accuracy", float(self.predicted(text) == kind))]

    def _stability(self, text: EraserExample, target: int, own: dict[str, Scores]) -> Iterator[Row]:
        """Over the words that stay; each word has the mean of its wordpieces."""
        for kind, changed in _changed(text):
            if self.predicted(changed) != target:
                continue
            first, other = self.read(text)[0], self.read(changed)[0]
            both = min(int(first.words.max()), int(other.words.max())) + 1
            keep = np.array([a == b for a, b in zip(text.words[:both], changed.words[:both], strict=True)])
            for method, (_, scores) in self.scores(changed, target).items():
                pair = (_by_word(own[method][1], first)[:both][keep], _by_word(scores, other)[:both][keep])
                yield f"{text.id} {kind}", method, "stability", rank_correlation(*pair)

    def _probabilities(self, inputs: list[NDArray[np.int64]]) -> NDArray[np.float64]:
        """(inputs, C) of the classifier."""
        rows = [{"input_ids": ids, "attention_mask": np.ones_like(ids)} for ids in inputs]
        logits = predict_rows(self.adapler.backbone, rows, pad_token_id=padding_of(self.tokenizer)).logits
        return np.asarray(logits.double().softmax(-1).numpy())


def _marked(text: EraserExample, column: str, window: Window, own: dict[str, Scores]) -> Iterator[Row]:
    """Average precision, recall at the size of the rationale and precision at 1, of the marked words' wordpieces."""
    labels = window.rationale[~window.special]
    people = annotator_masks(text)[:, window.words[~window.special]]  # (A, n_c)
    for method, (_, scores) in own.items():
        if labels.any() and not labels.all():
            yield text.id, method, column, pl.average_precision(labels, scores)
            yield text.id, method, f"{column}_recall", pl.top_k_f1(labels, scores, int(labels.sum()))
            yield text.id, method, f"{column}_first", float(labels[scores == scores.max()].mean())
        if len(people):  # who marked no word in view is left out
            by_person = [pl.average_precision(one, scores) for one in people if one.any()]
            yield text.id, method, f"{column}_soft", float(np.mean(by_person)) if by_person else math.nan


def _by_word(scores: NDArray[np.float64], window: Window) -> NDArray[np.float64]:
    """(words in view,) mean over the wordpieces of each word."""
    places = window.words[~window.special]
    return np.bincount(places, weights=scores) / np.maximum(np.bincount(places), 1)


def _changed(text: EraserExample) -> Iterator[tuple[str, EraserExample]]:
    """The text with its last punctuation mark gone or added, and with one word replaced by a synonym."""
    words = text.words
    yield "punctuation", marked_text(text.id, words[:-1] if words[-1] in (".", "!", "?") else (*words, "."))
    for place, word in enumerate(words):
        if other := SYNONYMS.get(word.lower()):
            yield "synonym", marked_text(text.id, (*words[:place], other, *words[place + 1 :]))
            break


# ---------------------------------------------------------------- other models


def randomised(adapler: Any, *, share: float, seed: int = 0) -> Any:
    """A copy whose head and last `share` of the layers are drawn anew; the embeddings stay."""
    model = copy.deepcopy(adapler).eval()
    backbone = model.backbone
    layers = next(one for one in backbone.modules() if isinstance(one, torch.nn.ModuleList))
    base = {id(one) for one in backbone.base_model.modules()}
    head = [one for one in backbone.modules() if id(one) not in base]
    pooler = getattr(backbone.base_model, "pooler", None) or torch.nn.ModuleList()
    chosen = list(layers)[len(layers) - math.ceil(share * len(layers)) :]
    parts = [*head, *pooler.modules(), *(part for layer in chosen for part in layer.modules())]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in parts:
            if isinstance(part, torch.nn.Linear):
                part.weight.copy_(torch.randn(part.weight.shape, generator=generator) * 0.02)
                if part.bias is not None:
                    part.bias.zero_()
            elif isinstance(part, torch.nn.LayerNorm):
                part.weight.fill_(1.0)
                part.bias.zero_()
    return model


def planted(texts: Sequence[EraserExample], *, seed: int) -> list[tuple[EraserExample, int]]:
    """Beginnings of texts with one of PLANTS put in at random, and the class that it decides."""
    draw = np.random.default_rng(seed)
    found = []
    for text in texts:
        words = [word for word in text.words[:40] if word.lower() not in PLANTS]
        kind, place = int(draw.integers(2)), int(draw.integers(len(words) + 1))
        words.insert(place, PLANTS[kind])
        found.append((marked_text(f"{text.id} planted", words, np.arange(len(words)) == place), kind))
    return found


def plant(judge: Judge, train: Sequence[tuple[EraserExample, int]], *, steps: int = 120, batch_size: int = 16) -> Judge:
    """The classifier fine-tuned on planted words, without AdapLeR's own methods."""
    torch.manual_seed(judge.seed)
    model = copy.deepcopy(judge.adapler)
    options: dict[str, Any] = {"is_split_into_words": True, "truncation": True, "max_length": 64, "padding": True}
    optimiser = torch.optim.AdamW(model.backbone.parameters(), lr=1e-4)
    draw = np.random.default_rng(judge.seed)
    model.backbone.train()
    for _ in range(steps):
        chosen = [train[i] for i in draw.integers(len(train), size=batch_size)]
        inputs = judge.tokenizer([list(text.words) for text, _ in chosen], return_tensors="pt", **options)
        loss = model.backbone(**inputs, labels=torch.tensor([kind for _, kind in chosen])).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return replace(judge, adapler=model.eval(), methods=[one for one in judge.methods if "adapler" not in one.needs])


# ---------------------------------------------------------------- texts


def words_of(text: str) -> tuple[str, ...]:
    return tuple(_WORDS.findall(re.sub(r"<br\s*/?>", " ", text)))


def human_texts(path: str) -> list[EraserExample]:
    """The annotated texts of the test split; of several annotators, the words that most of them marked count."""
    return [one for one in load_corpus(path).splits["test"] if one.annotated and one.spans]


def edited_pairs(path: str, *, longest: int) -> list[tuple[EraserExample, EraserExample]]:
    """Both texts of each pair of the test split, with the words marked that the other one does not have."""
    found = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        one, two = words_of(row["original"]["text"]), words_of(row["edited"]["text"])
        if row.get("split", "test") == "test" and max(len(one), len(two)) <= longest:
            first = marked_text(f"{row['id']} original", one, edited_words(one, two))
            found.append((first, marked_text(f"{row['id']} edited", two, edited_words(two, one))))
    return found


def short_texts(texts: Sequence[EraserExample]) -> Iterator[EraserExample]:
    """Their sentences of 4 to 9 words, which are few enough wordpieces for all subsets."""
    for text in texts:
        start = 0
        for end, word in enumerate(text.words):
            if word[-1:] in ".!?":
                if 3 <= end - start <= 8:
                    yield marked_text(f"{text.id} {start}", text.words[start : end + 1])
                start = end + 1


# ---------------------------------------------------------------- the table


class Parts:
    """Rows by part, a line each in a file, so that a run continues where it was stopped."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        """Raises ArgumentError for a file of other settings; `asked` are the rows of this run's parts."""
        lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []  # the last: cut short, or ""
        if lines and json.loads(lines[0]) != json.loads(json.dumps(settings)):
            raise ArgumentError(f"{path}: was written with other options; delete it, or choose another --output")
        self.rows: dict[str, list[Row]] = dict(json.loads(line) for line in lines[1:])
        path.write_text("".join(f"{line}\n" for line in lines or [json.dumps(settings)]), encoding="utf-8")
        self.path, self.asked = path, list[Row]()

    def add(self, name: str, make: Callable[..., Iterable[Row]], *arguments: Any, **options: Any) -> None:
        if name not in self.rows:
            self.rows[name] = list(make(*arguments, **options))
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([name, self.rows[name]]) + "\n")
        self.asked += self.rows[name]


def run(options: TruthOptions, *, progress: Callable[[str], None] = print) -> pd.DataFrame:
    """values (document, method, metric, value); method CLASSIFIER: whether it flips with the edit (`flips`), whether it
    is right on planted words (`planted_accuracy`)."""
    settings = {name: value for name, value in record(options).items() if name not in ("output", "documents")}
    parts = Parts(Path(options.output) / "parts.jsonl", settings)
    model = AdapLeRForSequenceClassification.from_pretrained(options.model).eval()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    judge = Judge(model, tokenizer, get_methods(options.methods), options.max_length, options.seed)
    draw = np.random.default_rng(options.seed)
    most = options.documents

    def some(texts: Sequence[Any]) -> list[Any]:
        return [texts[i] for i in draw.permutation(len(texts))[:most]]

    humans = human_texts(options.human)
    pairs = edited_pairs(options.edited, longest=options.longest) if options.edited else []
    others = [one for one, _ in pairs]
    models = {"random_half": randomised(model, share=0.5), "random_all": randomised(model, share=1.0)}
    for i, text in enumerate(some(humans)):
        more: dict[str, Any] = {"models": models if i % 2 == 0 else None, "soft": i % 4 == 0}
        parts.add(f"human {text.id}", judge.judge, text, "human", **more)
    progress("human, randomised, stability, soft")
    for pair in some(pairs):
        parts.add(f"flips {pair[0].id}", judge.flips, *pair)
        for text in pair:
            parts.add(f"edited {text.id}", judge.judge, text, "edited")
    progress("edited")
    for text in some(list(short_texts([*humans, *others]))):
        parts.add(f"shapley {text.id}", judge.shapley, text)
    progress("shapley")
    made = planted([*humans, *others], seed=options.seed)
    made = [made[i] for i in draw.permutation(len(made))]
    train, test = made[len(made) // 5 :], made[: len(made) // 5][:most]
    other = cache(lambda: plant(judge, train))  # trained where a part is missing
    for text, kind in test if options.plant else []:
        parts.add(f"right {text.id}", lambda *given: other().right(*given), text, kind)
        parts.add(f"planted {text.id}", lambda *given: other().judge(*given), text, "planted")
    progress("planted")
    flipped = {pair_of(text) for text, _, metric, value in parts.asked if metric == "flips" and value}
    rows = [(*row[:2], "edited_flipped", row[3]) for row in parts.asked if row[2] == "edited"]
    rows = [*parts.asked, *(row for row in rows if pair_of(row[0]) in flipped)]
    return pd.DataFrame(rows, columns=["document", "method", "metric", "value"])


def pair_of(document: str) -> str:
    """The id of the text that a document is one side, or a changed copy, of."""
    return re.sub(r" (original|edited|punctuation|synonym)$", "", document)


def by_text(values: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Metric -> (texts, methods); both texts of a pair, and a text's two changes, are one text: their mean."""
    return {
        str(metric): part.pivot_table("value", "document", "method", sort=False)
        for metric, part in values.assign(document=values.document.map(pair_of)).groupby("metric", sort=False)
    }


def summary(values: pd.DataFrame) -> pd.DataFrame:
    """metric, method, mean, low, high, n: with bootstrap intervals over texts."""
    parts = []
    for metric, table in by_text(values).items():
        found = bootstrap_intervals(table.to_numpy().T, resamples=2000)._asdict()
        parts.append(pd.DataFrame({"metric": metric, "method": table.columns, **found}))
    return pd.concat(parts, ignore_index=True)


def paired(values: pd.DataFrame) -> pd.DataFrame:
    """metric, best, method, difference, low, high, p: the best method less each other one on the same texts, with a
    bootstrap interval, and the p of a permutation test by Holm; controls are left out."""
    parts = []
    for metric, table in by_text(values[~values.method.isin([*CONTROLS, CLASSIFIER])]).items():
        sign, mean = -1 if metric in LOWER else 1, table.mean()
        if metric in COLUMNS and len(table.columns) > 1:
            best = str((sign * mean).idxmax())
            off = (table[best].to_numpy() - table.drop(columns=best).to_numpy().T) * sign  # (methods, texts)
            found, p = bootstrap_intervals(off, resamples=2000), holm(paired_permutation_test(off, 0 * off))
            part = {"metric": metric, "best": best, "method": table.columns.drop(best), "difference": found.mean}
            parts.append(pd.DataFrame(part | {"low": found.low, "high": found.high, "p": p}))
    return pd.concat(parts)


def agreement(values: pd.DataFrame, *, resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """truth, other, correlation, low, high, methods: rank correlation of two columns over methods, each with better
    being higher; controls are left out. The interval resamples texts, which adds noise to both and so lies low."""
    tables = by_text(values[~values.method.isin([*CONTROLS, CLASSIFIER])])
    draw, rows = np.random.default_rng(seed), []
    for first, other in product([one for one in COLUMNS if one in tables], repeat=2):
        methods = tables[first].columns.intersection(tables[other].columns)
        if COLUMNS.index(first) <= COLUMNS.index(other) or len(methods) < 3:
            continue
        texts = tables[first].index.union(tables[other].index)
        both = [(-1 if one in LOWER else 1) * tables[one].reindex(texts)[methods].to_numpy() for one in (first, other)]

        def correlation(chosen: NDArray[np.int64], both: Sequence[NDArray[np.float64]] = both) -> float:
            there = [~np.isnan(one[chosen]) for one in both]
            if any(not one.any(0).all() for one in there):
                return math.nan
            return rank_correlation(*(np.nanmean(one[chosen], axis=0) for one in both))

        again = [correlation(draw.integers(len(texts), size=len(texts))) for _ in range(resamples)]
        interval = np.nanquantile(again, [0.025, 0.975]) if not np.isnan(again).all() else (math.nan, math.nan)
        rows.append((first, other, correlation(np.arange(len(texts))), *interval, len(methods)))
    return pd.DataFrame(rows, columns=["truth", "other", "correlation", "low", "high", "methods"])


def markdown(means: pd.DataFrame, found: pd.DataFrame) -> str:
    """The table, best first by humans, and the correlations with humans."""
    cell = ["{:.2f} ({:.2f}-{:.2f})".format(*row) for row in means[["mean", "low", "high"]].to_numpy()]
    cells = means.assign(cell=cell)
    wide = cells.pivot(index="method", columns="metric", values="cell").fillna("-")
    shown = [one for one in COLUMNS if one in wide]
    lines = ["| method | " + " | ".join(shown) + " |", "|" + " --- |" * (len(shown) + 1)]
    for method in means[means.metric == "human"].sort_values("mean", ascending=False).method:
        lines.append("| " + " | ".join([method, *wide.loc[method, shown]]) + " |")
    lines += ["", "| truth | rank correlation with human | methods |", "| --- | --- | --- |"]
    for one in found[found.other == "human"].itertuples():
        lines.append(f"| {one.truth} | {one.correlation:.2f} ({one.low:.2f}-{one.high:.2f}) | {one.methods} |")
    said = {"flips": "predictions that flip with the edit", "planted_accuracy": "accuracy on planted words"}
    lines += ["", *(f"* {text}: {wide[name][CLASSIFIER]}" for name, text in said.items() if name in wide)]
    return "\n".join(lines).replace("nan (nan-nan)", "-") + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write table.md, means.csv, paired.csv, agreement.csv and values.parquet."""
    example = "--human data/eraser/movies --edited imdb_counterfactual.jsonl --output results/truth/movies"
    words = sys.argv[1:] if arguments is None else arguments
    options = parse(TruthOptions, list(words), prog="python -m analysis.truth", example=example)
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    values = run(options)
    means, found = summary(values), agreement(values)
    values.round(4).to_parquet(folder / "values.parquet", index=False)
    means.round(4).to_csv(folder / "means.csv", index=False)
    paired(values).round(4).to_csv(folder / "paired.csv", index=False)
    found.round(4).to_csv(folder / "agreement.csv", index=False)
    (folder / "table.md").write_text(markdown(means, found), encoding="utf-8")
    print(markdown(means, found))
    return 0


if __name__ == "__main__":
    with user_errors():
        sys.exit(main())
