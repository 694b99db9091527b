"""One text, one model, several scoring methods, one object: the evaluation of a corpus with one text.

    from analysis import explain
    e = explain("the plot is dull but the acting is wonderful .", methods=["cp", "saliency"], target="NEG")

W words of the text, n tokens of its one window; L layers, L' layers that a method scores; C classes
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from adapler.backbones.decomposition import PREDICTED, class_index, needs_labels, target_weights
from adapler.backbones.families import label_names
from adapler.contribution import threshold
from adapler.eraser import match_labels
from adapler.errors import ArgumentError
from adapler.options import ambiguous
from adapler.passes import check_finite
from adapler.policies import ContributionPolicy
from adapler.text import RUN, check_splits_words, encode, part_read
from analysis import scoring
from analysis.corpus import SPECIAL, Window, WordTokens, readable_tokens, words_of
from analysis.eraser import Given, as_array
from analysis.explanation import Explanation, MethodScores
from analysis.marks import by_index, word_mask
from analysis.scores import ScoringMethod, get_method, get_methods
from analysis.scores.base import check_target, in_format
from analysis.scores.contribution import scores_of_removal
from analysis.scoring import ScoredWindow, Scorer, Settings

DEFAULT_METHODS = ("saliency", "attention", "rollout")  # after the scores by which an AdapLeR model drops tokens
OPTIONS = ("max_length", "threshold_scale", "speedup", "seed", "device", "dtype")  # fields of `Settings`
Part = str | tuple[str, ...]


@torch.inference_mode(False)  # methods take gradients, which a caller's inference mode forbids
def explain(
    text: str | Sequence[str] | tuple[str | Sequence[str], str | Sequence[str]],
    *,
    model: Any = None,
    tokenizer: Any = None,
    query: str = "",
    methods: Sequence[str | Callable[..., Any]] | str | Callable[..., Any] | None = None,
    target: str | int = PREDICTED,
    gold: str | int | None = None,
    rationale: Sequence[Any] | None = None,
    scores: Mapping[str, Any] | None = None,
    name: str = "text",
    **options: Any,
) -> Explanation:
    """Score the tokens of one text with several methods, layer by layer.

    Args:
        text: a string; or a list of words; or a pair of texts, a tuple. A string is tokenised as the model's own
            pipeline does, and its words are what stands between white space. A list is tokenised word by word, as the
            documents of `rationale_eval.evaluate` are. Both texts of a pair are scored.
        model: an AdapLeR model or any sequence classifier of transformers: a folder, a hub name or an object; it is
            left as found. Default: the embedded checkpoint, checkpoints/movies-minilm. The last folder or name stays in
            memory, and is loaded again when a file in the folder has changed or a method is a function of your own.
        tokenizer: needed for a model object that does not say where it came from.
        query: a second text that is a question about the first: the model reads it, and it is not scored.
        methods: names of the registry with options, as in "integrated_gradients(n_steps=20)", or functions of your
            own, `(model, batch) -> scores`. Default: cp (AdapLeR's Contribution Predictors; AdapLeR models only),
            saliency, attention, rollout. `cp` scores the model that drops tokens; every other method scores the same
            model without removal.
        target: the logit that gradient and perturbation methods explain: "predicted" (by the model without removal),
            "gold", a class by name or index, or "contrast", "contrast:gold", "contrast:NAME": that class minus the
            strongest other. `methods=["saliency(target=POS)"]` sets it for one method.
        gold: the true class, by name or by index; for target="gold" and methods that need it.
        rationale: words that a human marked, for `metrics` and to be underlined: 0 or 1 for each word, spans
            `(start, end)` of words, or indices of words. Words of a second text follow those of the first.
        scores: scores that were made elsewhere, each one more method: name -> one number per word (or token), rows of
            them for several layers, or {word: score}. With `methods=[]` and no `model`, nothing is loaded: tokens are
            then words.
        name: the text's name in files and figures. The methods that draw take their seed from it: with a document's
            id their scores are those of an evaluation.
        options: max_length, threshold_scale, speedup, seed, device and dtype, as of `rationale_eval.evaluate`.

    Returns:
        an `analysis.explanation.Explanation`: `to_frame()`, `metrics(rationale)`, `plot(layer)`, `save(path)`, and
        the arrays `scores`, `kept`, `thresholds`, `probabilities`. In a notebook it shows the text, shaded.

    Raises:
        ArgumentError, CheckpointError, DataError: one line that says what is wrong with an argument or the model.

    >>> e = explain("the plot is dull but the acting is wonderful .", methods=["cp", "saliency"], target="NEG")
    >>> e.prediction, e.scores["saliency"].shape
    ('NEG', (6, 12))
    >>> e.to_frame().query("method == 'cp' and layer == 0").nlargest(3, "score")["token"].tolist()
    ['dull', 'wonderful', '[CLS]']
    """
    if unknown := [option for option in options if option not in OPTIONS]:
        raise ArgumentError(f"{unknown[0]}: no such option, there are {', '.join(OPTIONS)}")
    parts, settings = parts_of(text, query), Settings(methods=cast(Any, methods), **options)
    if model is None and settings.methods == []:
        if not scores:
            raise ArgumentError("methods: got none, and no scores either; at least one is needed")
        own, facts = read(parts, None, max_length=0, name=name, query=query), {}  # type: Text, dict[str, Any]
        facts = {"methods": {}, "model": "", "gold": None if gold is None else str(gold), "note": own.note}
    else:
        keep = all(get_method(one).of_package for one in settings.methods or ())  # else nobody knows what it changes
        subject = load(model, tokenizer, words=not isinstance(parts[0], str), device=settings.device, keep=keep)
        own, facts = _scored(parts, subject, settings, query=query, target=target, gold=gold, name=name)
    for key, values in (scores or {}).items():
        if key in facts["methods"]:
            raise ArgumentError(f"scores: {key!r} is the name of a method that runs too; take another name")
        facts["methods"][key] = saved_method(key, values, own)
    return Explanation(
        name=name,
        window=own.window,
        tokens=own.tokens,
        words=own.words,
        rationale=None if rationale is None else word_mask(rationale, len(own.words)),
        **facts,
    )


def _scored(
    parts: Sequence[Part],
    subject: Subject,
    settings: Settings,
    *,
    query: str,
    target: str | int,
    gold: str | int | None,
    name: str,
) -> tuple[Text, dict[str, Any]]:
    """The text as the model reads it; and of the explanation the methods, and what the model answers."""
    classifier, adapler, labels = subject.classifier, subject.adapler, subject.labels
    if needs_labels(target) and gold is None:
        raise ArgumentError(f"target: got {target!r}, and no gold= says which class that is")
    check_target(target, classifier.config)
    truth = None if gold is None else gold_index(gold, labels)
    how, remarks = scoring.decided(settings, classifier, adapler)
    text = read(parts, subject.tokenizer, max_length=how.max_length or 0, name=name, query=query)
    scorer = Scorer(classifier, in_format(adapler, how.dtype), subject.tokenizer, how)
    chosen = _methods(settings.methods, subject)
    scorer.methods = {key: _with_target(method, target) for key, method in chosen.items()}
    (found,) = scorer.score([text.window], None if truth is None else [truth])

    thresholds = None
    if found.lengths is not None and adapler.config.policy == ContributionPolicy.name:
        # another policy's thresholds are not in the unit of its scores, which are shares of a layer
        present = torch.tensor([len(text.window), *found.lengths[:-1].tolist()])
        thresholds = threshold(adapler.eta.detach().cpu().double(), present, scale=how.threshold_scale).numpy()
    said = [found.logits if one is None else one for one in (found.adapler_logits, found.logits)]
    for logits in said:
        check_finite(torch.from_numpy(logits))
    prediction, full_prediction = (labels[int(logits.argmax())] for logits in said)
    probabilities, full_probabilities = (_probabilities(logits, classifier.config) for logits in said)
    notes = [text.note, *remarks, _read_by_predict(subject, text), _unknown(text, subject.tokenizer)]
    if prediction != full_prediction:
        notes.append(
            f"removal changes the prediction from {full_prediction} to {prediction}; methods other than "
            f"{scores_of_removal(adapler)} score the model without removal"
        )
    return text, {
        "model": subject.name,
        "labels": labels,
        "prediction": prediction,
        "probabilities": probabilities,
        "full_prediction": full_prediction,
        "full_probabilities": full_probabilities,
        "target": str(target),
        "gold": None if truth is None else labels[truth],
        "thresholds": thresholds,
        "kept": found.retention,
        "dtype": how.dtype,
        "methods": {key: _method_scores(key, one, found, labels, truth) for key, one in scorer.methods.items()},
        "note": "; ".join(filter(None, notes)),
    }


# ---- the model


@dataclass(frozen=True, eq=False)
class Subject:
    """classifier: the plain one; adapler: None without removal."""

    classifier: Any
    adapler: Any
    tokenizer: Any
    name: str

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(label_names(self.classifier.config))


def load(source: Any, tokenizer: Any, *, words: bool, device: str, keep: bool) -> Subject:
    """The models and a tokenizer. words: whether the text is a list of words, which byte-level tokenizers read
    otherwise; keep: whether what runs leaves a model as it was, so that the next call may have it."""
    source = scoring.DEFAULT_ADAPLER if source is None else scoring.uncompiled(source)
    if not isinstance(source, str | os.PathLike) or tokenizer is not None or not keep:
        return _load(source, tokenizer, words=words, device=device)
    files = sorted((one.name, one.stat().st_size, one.stat().st_mtime_ns) for one in Path(source).glob("*"))
    return _last(os.path.realpath(source) if files else os.fspath(source), tuple(files), words, device)


@lru_cache(maxsize=1)
def _last(source: str, files: tuple[Any, ...], words: bool, device: str) -> Subject:
    """The last model that was loaded by its name; files: of its folder, as they are now."""
    return _load(source, None, words=words, device=device)


def _load(source: Any, tokenizer: Any, *, words: bool, device: str) -> Subject:
    model, adapler = (None, source) if scoring.is_adapler(source) else (source, None)
    classifier, adapler, tokenizer = scoring.load_models(model, adapler, tokenizer, device=device, words=words)
    if words:
        check_splits_words(tokenizer)
    label_names(classifier.config)  # of two classes of one name the answer would have the wrong probability
    name = os.fspath(source) if isinstance(source, str | os.PathLike) else getattr(source, "name_or_path", "")
    name = Path(name).absolute().name if name and Path(name).is_dir() else name  # without what lies above a folder
    return Subject(classifier, adapler, tokenizer, name or type(source).__name__)


def gold_index(gold: str | int, labels: Sequence[str]) -> int:
    """The gold class's index, by name or index; NEG stands for negative, as in an evaluation."""
    names = dict(enumerate(labels))
    if reason := ambiguous(gold, names):
        raise ArgumentError(f"gold: {reason}")
    try:
        return class_index(gold, names, len(labels))
    except ArgumentError as error:
        if isinstance(gold, str) and (found := match_labels([gold], labels)):
            return found[0]
        known = ", ".join(f"{label} ({index})" for index, label in names.items())
        raise ArgumentError(f"gold: got {gold!r}, the model's classes are {known}") from error


def _methods(wanted: Sequence[Any] | None, subject: Subject) -> dict[str, ScoringMethod]:
    """Methods by key, in the given order."""
    if wanted is None:
        first = [] if subject.adapler is None else [scores_of_removal(subject.adapler)]
        wanted = [*first, *DEFAULT_METHODS]
    chosen = {method.key: method for method in get_methods(wanted)}
    for method in chosen.values():
        if "adapler" in method.needs and subject.adapler is None:
            raise ArgumentError(f"methods: {method.name!r} needs an AdapLeR model, and {subject.name} is none")
    return chosen


def _with_target(method: ScoringMethod, target: str | int) -> ScoringMethod:
    """With that target, if it has one and none of its own, as `saliency(target=POS)` and `saliency_gold` have."""
    takes = method.has_target and method.options["target"] == PREDICTED
    return method.with_options(target=str(target)) if takes else method


def _method_scores(
    key: str, method: ScoringMethod, found: ScoredWindow, labels: Sequence[str], gold: int | None
) -> MethodScores:
    one, target = found.scores[key], None  # target: the class that is explained, or one minus another
    if method.has_target:
        truth, logits = None if gold is None else torch.tensor([gold]), torch.from_numpy(found.logits)[None].float()
        asked = cast(str | int, method.options["target"])
        weights = target_weights(asked, logits, labels=truth, id2label=dict(enumerate(labels)))[0]
        target = labels[int(weights.argmax())]
        target += f" minus {labels[int(weights.argmin())]}" if bool((weights < 0).any()) else ""
    layerwise = len(one.scores) > 1 if method.layerwise is None else method.layerwise
    title = method.title + key.removeprefix(method.name)
    return MethodScores(
        key, title, method.scope, target, one.scores, one.signed, layerwise, one.present, one.diagnostics
    )


def _probabilities(logits: NDArray[Any], config: Any) -> NDArray[np.float64] | None:
    """(C,) as transformers' pipeline has them: independent ones for several labels or one, none for a regression."""
    problem, values = getattr(config, "problem_type", None), torch.from_numpy(logits).double()
    if problem == "regression":
        return None
    several = problem == "multi_label_classification" or len(values) == 1
    return np.asarray((values.sigmoid() if several else values.softmax(-1)).numpy())


# ---- the text


@dataclass(frozen=True, eq=False)
class Text:
    """window: what the model is given; tokens: its n wordpieces; words: all W words, also those beyond the model's
    length, of a pair those of the second text last; note: what was left out, or ""."""

    window: Window
    tokens: tuple[str, ...]
    words: tuple[str, ...]
    note: str


def parts_of(text: Any, query: str = "") -> tuple[Part, ...]:
    """The one or two texts that are scored, each a string or words, and both of one kind.

    >>> parts_of("so dull ."), parts_of((["so", "dull"], "how is it ?"))
    (('so dull .',), (('so', 'dull'), ('how', 'is', 'it', '?')))
    """
    pair = isinstance(text, tuple)
    if pair and (len(text) != 2 or query):
        raise ArgumentError(
            f"text: a tuple is a pair of texts, got {len(text)}{' and a query' * bool(query)}; words are a list"
        )
    parts: list[Part] = []
    for part in text if pair else (text,):
        words = part.split() if isinstance(part, str) else part
        if not isinstance(words, list | tuple) or not words or not all(isinstance(w, str) and w.strip() for w in words):
            raise ArgumentError(
                f"text: got {str(part)[:40]!r}, must be a string, a list of words, or a pair of them, and not be empty"
            )
        if not isinstance(part, str) and all(len(word.split()) > 1 for word in part):
            raise ArgumentError(
                f"text: a list is one text, word by word, and {part[0][:40]!r} holds white space; explain one text"
            )
        parts.append(part if isinstance(part, str) else tuple(part))
    if len({type(part) for part in parts}) > 1:
        parts = [tuple(part.split()) if isinstance(part, str) else part for part in parts]
    return tuple(parts)


def read(parts: Sequence[Part], tokenizer: Any, *, max_length: int, name: str, query: str = "") -> Text:
    """The window of at most `max_length` wordpieces that the model reads. tokenizer None: every word is one token.

    Raises ArgumentError for a text without a wordpiece and a tokenizer that puts no special token first.
    """
    split = [part.split() if isinstance(part, str) else list(part) for part in parts]
    words, starts = tuple(word for one in split for word in one), np.cumsum([0, *map(len, split)])
    if tokenizer is None:
        if len(parts) > 1 or query:
            raise ArgumentError("text: a pair needs a tokenizer; give model= or tokenizer=")
        ids, marks = np.array(WordTokens().ids_of(words), dtype=np.int64), np.zeros(len(words), dtype=bool)
        return Text(Window(name, name, ids, None, np.arange(len(words)), marks), words, words, "")
    as_words = not isinstance(parts[0], str)
    second = (query.split() if as_words else query) if query else parts[1] if len(parts) > 1 else None
    encoded = encode([parts[0]], tokenizer, seconds=None if second is None else [second], max_length=max_length)
    row, record = encoded.rows[0], encoded.encodings[0]
    ids = np.full(len(row["input_ids"]), SPECIAL, dtype=np.int64)
    for part, (text, start) in enumerate(zip(parts, starts[:-1].tolist(), strict=True)):
        own = [token for token, sequence in enumerate(record.sequence_ids) if sequence == part]
        if not own:
            raise ArgumentError(f"text: {'the second text of the pair ' * bool(part)}gives no wordpiece")
        within = record.word_ids if as_words else None
        found = [within[i] for i in own] if within else word_indices(str(text), [record.offsets[i] for i in own])
        ids[own] = np.array(found) + start
    if ids[0] != SPECIAL:
        raise ArgumentError(
            f"tokenizer: {type(tokenizer).__name__} puts no special token first, where classifiers read"
        )
    types = row.get("token_type_ids")
    window = Window(
        name,
        name,
        np.array(row["input_ids"], dtype=np.int64),
        None if types is None else np.array(types, dtype=np.int64),
        ids,
        np.zeros(len(ids), dtype=bool),
    )
    note, seen = "", words_of([window], len(words))
    if record.overflowing:  # words after the last one in view; a word without a wordpiece is not lost
        lost = sum(end - 1 - int(np.flatnonzero(seen[:end]).max()) for end in starts[1:].tolist())
        note = (
            f"the text is longer than the input: the model reads {len(window)} wordpieces of it, "
            f"{lost} of its {len(words)} words are left out"
        )
    return Text(window, readable_tokens(tokenizer, window.input_ids.tolist()), words, note)


def word_indices(text: str, offsets: Sequence[tuple[int, int]]) -> list[int]:
    """The word, between white space, that each range of characters lies in.

    A range that begins with the space before its word (SentencePiece, byte-level BPE) belongs to that word.
    """
    ends = [match.end() for match in re.finditer(r"\S+", text)]
    found = []
    for start, end in offsets:
        inside = len(text[start:end]) - len(text[start:end].lstrip())
        first = start + inside if inside < end - start else start
        found.append(min(int(np.searchsorted(ends, first, side="right")), len(ends) - 1))
    return found


def _read_by_predict(subject: Subject, text: Text) -> str:
    """Where `predict` reads another part of a text, as in the model's training (run.json); else ""."""
    if subject.adapler is None:
        return ""
    how, tokens = subject.adapler.encoding(), len(text.window)
    length = how.max_length
    fits = tokens <= length and not text.note
    if fits or (how.long_documents == "truncate" and length == tokens):
        return ""
    why = f" ({RUN})" if "as in training" in how.note else ""
    return f"of a text longer than {length} tokens model.predict reads {part_read(how, length)}{why}"


def _unknown(text: Text, tokenizer: Any) -> str:
    """A note on wordpieces that the tokenizer does not know, or ""."""
    unknown = getattr(tokenizer, "unk_token_id", None)
    count = 0 if unknown is None else int(((text.window.input_ids == unknown) & ~text.window.special).sum())
    return f"{count} of the tokens unknown to the tokenizer ({tokenizer.unk_token})" if count else ""


# ---- scores that were made elsewhere


def saved_method(name: str, values: Any, text: Text) -> MethodScores:
    """Saved scores as a method called `name`.

    values: (W,) or (L', W), a score for each word; (n,) or (L', n), a score for each token, special ones included;
        or a dictionary from words, by index or by name, to scores: the others score 0. A pandas Series goes by its
        index: as numbers in that order where it is 0 to its length, else as a dictionary.

    A word's score is every one of its tokens'. Scores of which none is negative become shares of the input that sum
    to 1, as the scores of a method; others are signed and stay as they are.

    Raises ArgumentError for another number of scores, a word that is not there or there twice, and scores that are
    not finite.
    """
    where = f"scores: {name!r}"
    n_words, n_tokens = len(text.words), len(text.tokens)
    if isinstance(values, pd.Series):
        ordered = set(values.index) == set(range(len(values))) and values.index.is_unique
        values = by_index(values, where) if ordered else values.to_dict()
    by_name = isinstance(values, Mapping)
    try:
        array = _by_word(values, text.words) if by_name else as_array(values)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"{where}: {error}") from error
    rows = np.atleast_2d(array)  # (L', W) or (L', n)
    if rows.ndim != 2 or rows.shape[1] not in (n_words, n_tokens) or not len(rows):
        raise ArgumentError(
            f"{where} has the shape {array.shape}, must have a score for each of the {n_words} words, or of the "
            f"{n_tokens} tokens"
        )
    if n_words == n_tokens and text.window.special.any() and not by_name:
        raise ArgumentError(
            f"{where}: the text has as many words as tokens, {n_words}, so it is open which of them are scored; "
            "give {word index: score}"
        )
    if not np.isfinite(rows).all():
        raise ArgumentError(f"{where}: a score is NaN or infinite")
    signed, of_words = bool((rows < 0).any()), rows.shape[1] == n_words
    if of_words:
        given = Given(name, {text.window.document: rows}, signed=signed)
        scores = given.windows(text.window.document, [text.window])[0].scores
    else:
        total = rows.sum(axis=1, keepdims=True)  # a layer that marks nothing selects nothing
        scores = rows if signed else np.divide(rows, total, out=np.zeros_like(rows), where=total > 0)
    return MethodScores(name, name, "saved scores", None, scores, signed, array.ndim == 2, of_words=of_words)


def _by_word(values: Mapping[Any, Any], words: Sequence[str]) -> NDArray[np.float64]:
    array = np.zeros(len(words))
    for key, score in values.items():
        found = [i for i, word in enumerate(words) if word == key] if isinstance(key, str) else [key]
        if len(found) != 1 or found[0] not in range(len(words)):
            raise ValueError(f"{key!r} is not one word of the text; words are named by index, 0 to {len(words) - 1}")
        array[int(found[0])] = float(score)
    return array
