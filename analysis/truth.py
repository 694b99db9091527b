"""Methods by truth beside methods by humans: one table for a classifier, `python -m analysis.truth`.

Truth that nobody annotates, each explained in `analysis.metrics.truth`:

    edited         words that a person changed to flip the label (pairs of texts): AP and F1@k on both texts of a pair
    planted        a rare word that decides the label of a classifier trained on it: precision at 1
    shapley        rank correlation with exact Shapley values, on sentences of at most 10 tokens
    random_half, random_all
                   likeness of the scores when the head and half of the layers, or all, are drawn anew (lower is better)
    stability      likeness of the scores when the last punctuation mark or a synonym changes
    soft_comprehensiveness_equal, soft_sufficiency_equal
                   soft metrics in which every method keeps half of the tokens

beside `human`, the average precision against the marks of people. A method is judged at one layer: those that look from
a layer to the output at the first, others at the last.

    B batch, n tokens of a text, C classes
"""

from __future__ import annotations

import copy
import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer

from adapler import AdapLeRForSequenceClassification
from adapler.backbones.decomposition import working_copy
from adapler.backbones.targets import PREDICTED
from adapler.eraser import read_corpus
from adapler.errors import ArgumentError, run_command
from adapler.options import option, parse, record
from analysis.metrics import plausibility as pl
from analysis.metrics import truth
from analysis.metrics.faithfulness import SOFT, FaithfulnessSettings, soft_rows
from analysis.metrics.statistics import bootstrap_intervals
from analysis.scores import Batch, ScoringMethod, get_methods
from analysis.scores.inputs import content, presence
from analysis.scores.passes import classifier_logits
from analysis.scores.registry import AT_INPUT, TO_OUTPUT

METHODS = (
    *("attention", "attention_received", "rollout", "attention_gradient", "attention_gradient_local", "saliency"),
    *("saliency_signed", "gradient_l2", "smoothgrad(n_samples=10)", "integrated_gradients(n_steps=20)", "deeplift"),
    *("gradient_shap(n_samples=10)", "decompx", "attnlrp", "globenc", "alti", "value_zeroing", "cp", "cp_carried"),
    *("position", "random"),
)
LOWER = ("random_half", "random_all")  # of the columns, those where lower is better
SYNONYMS = {"film": "movie", "movie": "film", "great": "superb", "bad": "poor", "good": "fine", "funny": "amusing"}
PLANTS = ("violin", "harbor")  # the word that decides, by class
_WORDS = re.compile(r"\w+(?:'\w+)?|[^\w\s]")


@dataclass
class TruthOptions:
    """Judge scoring methods by truth and by humans."""

    output: str = option("folder for table.md, means.csv and values.csv", basic=True)
    model: str = option("AdapLeR model", default="checkpoints/movies-minilm", basic=True)
    human: str = option("texts that people marked: an ERASER folder or archive, or JSON lines", default="", basic=True)
    edited: str = option("JSON lines with pairs of texts, `original` and `edited`", default="", basic=True)
    methods: list[str] = option("scoring methods", default_factory=lambda: list(METHODS), basic=True)
    documents: int = option("texts of each kind, at most", default=40, basic=True)
    max_length: int = option("wordpieces of a text, at most", default=256)
    plant: bool = option("train a classifier on planted words", default=True)
    seed: int = option("of everything that is drawn", default=0)

    def __post_init__(self) -> None:
        if not (self.human or self.edited):
            raise ArgumentError("--human, --edited: at least one is needed")


@dataclass(frozen=True, eq=False)
class Text:
    """Words, and which of them count (None: nobody has said)."""

    id: str
    words: tuple[str, ...]
    marks: NDArray[np.bool_] | None = None
    other: tuple[str, ...] = ()  # the text that it was edited to


@dataclass
class Judge:
    """A classifier (with the AdapLeR model that it belongs to), its tokenizer, the methods, and what was found."""

    adapler: Any
    tokenizer: Any
    methods: Sequence[ScoringMethod]
    max_length: int
    seed: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def classifier(self) -> Any:
        return self.adapler.backbone

    def add(self, document: str, method: str, metric: str, value: float) -> None:
        self.rows.append({"document": document, "method": method, "metric": metric, "value": value})

    def batch(self, text: Text) -> tuple[Batch, NDArray[np.int64]]:
        """One text, and the index of the word (n,) that each token belongs to, -1 for special ones."""
        options: dict[str, Any] = {"is_split_into_words": True, "truncation": True, "max_length": self.max_length}
        encoding = self.tokenizer(list(text.words), **options)
        words = np.array([-1 if word is None else word for word in encoding.word_ids()])
        batch = Batch.from_encoding(dict(encoding), self.tokenizer, ids=[text.id], seed=self.seed)
        return replace(batch, special=torch.from_numpy(words < 0)[None]), words

    def scores(self, batch: Batch, target: int, adapler: Any = None) -> Iterator[tuple[str, bool, NDArray[np.float64]]]:
        """Name, whether signed, and scores (n_c,) of the content tokens, of each method for one text."""
        model = self.adapler if adapler is None else adapler
        inside = content(batch)[0].numpy()
        for method in self.methods:
            chosen = method
            if method.has_target and method.options["target"] == PREDICTED:
                chosen = method.with_options(target=str(target))
            found = chosen(model if "adapler" in method.needs else model.backbone, batch)
            layer = 0 if method.scope in (TO_OUTPUT, AT_INPUT) else -1
            yield method.key, found.signed, found.scores[0, layer].double().numpy()[inside]

    def predicted(self, batch: Batch) -> int:
        return int(classifier_logits(self.classifier, batch)[0].argmax())

    # ---------------------------------------------------------------- judgements of one text

    def judge_marks(self, text: Text, column: str) -> None:
        """AP, F1@k and precision at 1 against the marked words, of their wordpieces."""
        batch, words = self.batch(text)
        labels = np.asarray(text.marks)[words[words >= 0]]
        if not labels.any() or labels.all():
            return
        for name, _, scores in self.scores(batch, self.predicted(batch)):
            self.add(text.id, name, column, pl.average_precision(labels, scores))
            self.add(text.id, name, f"{column}_roc_auc", pl.roc_auc(labels, scores))
            self.add(text.id, name, f"{column}_f1", pl.top_k_f1(labels, scores, int(labels.sum())))
            self.add(text.id, name, f"{column}_first", truth.precision_at_1(labels, scores))

    def judge_shapley(self, text: Text) -> None:
        """Against the exact Shapley values of the predicted class's logit, other tokens masked."""
        batch, _ = self.batch(text)
        target = self.predicted(batch)
        document = presence(working_copy(self.classifier), batch, str(target), "mask")
        n = len(document.positions)
        if not 3 <= n <= truth.MOST_EXACT:
            return
        subsets = torch.split(torch.from_numpy(truth.all_subsets(n)).float(), document.per_pass)
        exact = truth.shapley_values(torch.cat([document.value(part) for part in subsets]).double().numpy())
        for name, signed, scores in self.scores(batch, target):
            self.add(text.id, name, "shapley", truth.shapley_correlation(exact if signed else np.abs(exact), scores))

    def judge_randomised(self, text: Text, models: dict[str, Any]) -> None:
        batch, _ = self.batch(text)
        target = self.predicted(batch)
        own = {name: scores for name, _, scores in self.scores(batch, target)}
        for column, model in models.items():
            for name, _, scores in self.scores(replace(batch, _memo={}), target, model):
                self.add(text.id, name, column, truth.randomisation(own[name], scores))

    def judge_stability(self, text: Text) -> None:
        """Of the words that stay; each word has the mean of its wordpieces."""
        batch, words = self.batch(text)
        target = self.predicted(batch)
        own = {name: _by_word(scores, words) for name, _, scores in self.scores(batch, target)}
        for kind, changed in _changed(text):
            other, places = self.batch(changed)
            if self.predicted(other) != target:
                continue
            both = min(int(words.max()), int(places.max())) + 1
            keep = np.array([a == b for a, b in zip(text.words[:both], changed.words[:both], strict=True)])
            for name, _, scores in self.scores(other, target):
                value = truth.stability(own[name][:both][keep], _by_word(scores, places)[:both][keep])
                self.add(f"{text.id} {kind}", name, "stability", value)

    def judge_soft(self, text: Text) -> None:
        batch, _ = self.batch(text)
        target = self.predicted(batch)
        found = list(self.scores(batch, target))
        ids, inside = batch.input_ids[0].numpy(), content(batch)[0].numpy()
        rows = soft_rows(
            self._probabilities,
            ids,
            inside,
            np.array([scores for *_, scores in found]),
            target=target,
            settings=FaithfulnessSettings(seed=self.seed),
            chances=truth.equal_chances,
        )
        for (name, *_), row in zip(found, rows, strict=True):
            for metric in SOFT:
                self.add(text.id, name, f"{metric}_equal", row[metric])

    def _probabilities(self, inputs: list[NDArray[np.int64]]) -> NDArray[np.float64]:
        """(inputs, C), in batches of similar length."""
        result: list[Any] = [None] * len(inputs)
        order = sorted(range(len(inputs)), key=lambda i: len(inputs[i]))
        for start in range(0, len(order), 32):
            part = order[start : start + 32]
            padded = self.tokenizer.pad({"input_ids": [inputs[i].tolist() for i in part]}, return_tensors="pt")
            with torch.no_grad():
                logits = self.classifier(input_ids=padded["input_ids"], attention_mask=padded["attention_mask"]).logits
            for i, row in zip(part, logits.double().softmax(-1).numpy(), strict=True):
                result[i] = row
        return np.array(result)


def _by_word(scores: NDArray[np.float64], words: NDArray[np.int64]) -> NDArray[np.float64]:
    """(words in view,) mean over the wordpieces of each word."""
    places = words[words >= 0]
    counts = np.bincount(places)
    return np.bincount(places, weights=scores) / np.maximum(counts, 1)


def _changed(text: Text) -> Iterator[tuple[str, Text]]:
    """The text with its last punctuation mark gone or added, and with one word replaced by a synonym."""
    marked = text.words[-1] in (".", "!", "?")
    yield "punctuation", replace(text, words=text.words[:-1] if marked else (*text.words, "."))
    place = next((i for i, word in enumerate(text.words) if word.lower() in SYNONYMS), None)
    if place is not None:
        words = list(text.words)
        words[place] = SYNONYMS[words[place].lower()]
        yield "synonym", replace(text, words=tuple(words))


def randomised(adapler: Any, *, share: float, seed: int = 0) -> Any:
    """A copy whose head and last `share` of the layers are drawn anew; the embeddings stay."""
    model = copy.deepcopy(adapler).eval()
    backbone = model.backbone
    layers = next(one for one in backbone.modules() if isinstance(one, torch.nn.ModuleList))
    base = {id(one) for one in backbone.base_model.modules()}
    head = [one for one in backbone.modules() if id(one) not in base]
    pooler = getattr(backbone.base_model, "pooler", None)
    chosen = list(layers)[len(layers) - math.ceil(share * len(layers)) :]
    parts = [*head, *(pooler.modules() if pooler is not None else ()), *(m for one in chosen for m in one.modules())]
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


def planted(texts: Sequence[Text], *, seed: int) -> list[tuple[Text, int]]:
    """Beginnings of texts with one of PLANTS put in at random, and the class that it decides."""
    draw = np.random.default_rng(seed)
    found = []
    for text in texts:
        words = [word for word in text.words[:40] if word.lower() not in PLANTS]
        kind, place = int(draw.integers(2)), int(draw.integers(len(words) + 1))
        words.insert(place, PLANTS[kind])
        marks = np.arange(len(words)) == place
        found.append((Text(f"{text.id} planted", tuple(words), marks), kind))
    return found


def plant(judge: Judge, texts: Sequence[Text], *, steps: int = 120, batch_size: int = 16) -> tuple[Judge, float]:
    """The classifier fine-tuned on planted words (AdapLeR's own methods left out); accuracy on the last fifth."""
    torch.manual_seed(judge.seed)
    model = copy.deepcopy(judge.adapler)
    pairs = planted(texts, seed=judge.seed)
    train = pairs[: len(pairs) * 4 // 5]
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
    model.eval()
    methods = [one for one in judge.methods if "adapler" not in one.needs]
    made = replace(judge, adapler=model, methods=methods)
    test = pairs[len(train) :]
    return made, float(np.mean([made.predicted(made.batch(text)[0]) == kind for text, kind in test]))


# ---------------------------------------------------------------- texts


def words_of(text: str) -> tuple[str, ...]:
    return tuple(_WORDS.findall(re.sub(r"<br\s*/?>", " ", text)))


def human_texts(path: str) -> list[Text]:
    """An ERASER corpus's test split, or JSON lines with tokens and one rationale or several (then: of the majority)."""
    if not path.endswith(".jsonl"):
        return [Text(one.id, tuple(one.words), one.rationale()) for one in read_corpus(path).splits["test"]]
    found = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        marks = np.atleast_2d(np.array(row["rationale"]))
        found.append(Text(str(row["id"]), tuple(row["tokens"]), marks.mean(0) > 0.5))
    return found


def edited_texts(path: str) -> list[Text]:
    """Both texts of each pair of the test split, the words that the other one does not have marked."""
    found = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row.get("split", "test") == "test":
            one, two = words_of(row["original"]["text"]), words_of(row["edited"]["text"])
            found.append(Text(f"{row['id']} original", one, truth.edited_words(one, two), two))
            found.append(Text(f"{row['id']} edited", two, truth.edited_words(two, one), one))
    return found


def sentences(texts: Sequence[Text]) -> Iterator[Text]:
    """Sentences of 3 to 9 words."""
    for text in texts:
        start = 0
        for end, word in enumerate(text.words):
            if word[-1:] in ".!?":
                if 3 <= end - start <= 8:
                    yield Text(f"{text.id} {start}", text.words[start : end + 1])
                start = end + 1


# ---------------------------------------------------------------- the table


def run(options: TruthOptions, *, progress: Callable[[str], None] = print) -> tuple[pd.DataFrame, dict[str, Any]]:
    """values (document, method, metric, value), and facts: how often the model flips with the edit, accuracy on planted
    words."""
    model = AdapLeRForSequenceClassification.from_pretrained(options.model).eval()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    judge = Judge(model, tokenizer, get_methods(options.methods), options.max_length, options.seed)
    draw = np.random.default_rng(options.seed)

    def some(texts: Sequence[Text], most: int) -> list[Text]:
        chosen = draw.permutation(len(texts))[:most]
        return [texts[i] for i in sorted(chosen)]

    facts: dict[str, Any] = {"settings": record(options)}
    humans = human_texts(options.human) if options.human else []
    edits = edited_texts(options.edited) if options.edited else []
    for text in some([one for one in humans if one.marks is not None and one.marks.any()], options.documents):
        judge.judge_marks(text, "human")
    progress("human")
    pairs = some(edits[::2], options.documents)
    flips = []
    for text in pairs:
        both = (text, next(one for one in edits if one.other == text.words and one.words == text.other))
        flips.append(len({judge.predicted(judge.batch(one)[0]) for one in both}) > 1)
        for one in both:
            judge.judge_marks(one, "edited")
    facts["flips"] = float(np.mean(flips)) if flips else None
    progress("edited")
    base = some([one for one in edits or humans if len(one.words) > 4], 10 * options.documents)
    short = [one for one in humans if len(one.words) <= 8] or list(sentences(base))
    for text in some(short, options.documents):
        judge.judge_shapley(text)
    progress("shapley")
    models = {"random_half": randomised(model, share=0.5), "random_all": randomised(model, share=1.0)}
    for text in base[: options.documents // 2]:
        judge.judge_randomised(text, models)
        judge.judge_stability(text)
    progress("randomised, stability")
    for text in base[: options.documents // 4]:
        judge.judge_soft(text)
    progress("soft")
    if options.plant:
        made, facts["planted_accuracy"] = plant(judge, base)
        for text, _ in planted(base, seed=options.seed)[-options.documents :]:
            made.judge_marks(text, "planted")
        progress("planted")
    return pd.DataFrame(judge.rows), facts


def summary(values: pd.DataFrame) -> pd.DataFrame:
    """method, metric, mean, low, high, n: with bootstrap intervals over texts."""
    rows = []
    for (method, metric), part in values.groupby(["method", "metric"], sort=False):
        found = bootstrap_intervals(part["value"].to_numpy(), resamples=1000)
        rows.append((method, metric, float(found.mean), float(found.low), float(found.high), int(found.n)))
    return pd.DataFrame(rows, columns=["method", "metric", "mean", "low", "high", "n"])


COLUMNS: tuple[str, ...] = ("human", "edited", "planted_first", "shapley", "random_half", "random_all", "stability")
COLUMNS += tuple(f"{name}_equal" for name in SOFT)


def agreement(means: pd.DataFrame, *, leave_out: Sequence[str] = ("random", "position")) -> pd.DataFrame:
    """Rank correlation over methods of each truth with `human`; lower-is-better columns are turned."""
    wide = means.pivot(index="method", columns="metric", values="mean").drop(index=list(leave_out), errors="ignore")
    rows = []
    for column in [one for one in COLUMNS[1:] if one in wide]:
        both = wide[["human", column]].dropna() if "human" in wide else wide[[]].iloc[:0]
        sign = -1 if column in LOWER else 1
        found = truth.rank_correlation(both["human"], sign * both[column]) if len(both) > 2 else math.nan
        rows.append((column, found, len(both)))
    return pd.DataFrame(rows, columns=["truth", "rank correlation with human", "methods"])


def markdown(means: pd.DataFrame, facts: dict[str, Any]) -> str:
    """The table, best first by edited words (or humans), and the correlations."""
    cells = means.assign(
        cell=[
            f"{m:.2f} ({low:.2f}-{high:.2f})" for m, low, high in zip(means["mean"], means.low, means.high, strict=True)
        ]
    )
    wide = cells.pivot(index="method", columns="metric", values="cell")
    shown = [one for one in COLUMNS if one in wide]
    order = means[means.metric == ("edited" if "edited" in shown else "human")].sort_values("mean", ascending=False)
    lines = ["| method | " + " | ".join(shown) + " |", "|" + " --- |" * (len(shown) + 1)]
    for method in order.method:
        lines.append("| " + " | ".join([method, *(str(wide.loc[method].get(c, "-")) for c in shown)]) + " |")
    found = agreement(means)
    lines += ["", "| truth | rank correlation with human | methods |", "| --- | --- | --- |"]
    lines += [f"| {a} | {b:.2f} | {n} |" for a, b, n in found.itertuples(index=False)]
    said = {"flips": "predictions that flip with the edit", "planted_accuracy": "accuracy on planted words"}
    lines += ["", *(f"* {text}: {facts[name]:.3f}" for name, text in said.items() if facts.get(name) is not None)]
    return "\n".join(lines).replace("nan (nan-nan)", "-") + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write table.md, means.csv, values.csv and facts.json."""
    example = "--human data/eraser/movies --edited imdb_counterfactual.jsonl --output results/truth/movies"
    words = sys.argv[1:] if arguments is None else arguments
    options = parse(TruthOptions, list(words), prog="python -m analysis.truth", example=example).options
    values, facts = run(options)
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    means = summary(values)
    values.round(4).to_csv(folder / "values.csv", index=False)
    means.round(4).to_csv(folder / "means.csv", index=False)
    (folder / "facts.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    (folder / "table.md").write_text(markdown(means, facts), encoding="utf-8")
    print(markdown(means, facts))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
