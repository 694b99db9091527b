"""A text, a model and methods -> an `Explanation`, by what scores the documents of an evaluation (`scoring.Scorer`).

W words of the text, n tokens of its one window; L layers, L' layers that a method scores; C classes
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from adapler import AdapLeRForSequenceClassification
from adapler.backbones import label_names, max_positions
from adapler.backbones.loading import read_config
from adapler.backbones.targets import PREDICTED, class_index, needs_labels, target_weights
from adapler.contribution import threshold
from adapler.data import match_labels
from adapler.errors import ArgumentError, ambiguous
from adapler.outputs import check_finite
from adapler.policies import ContributionPolicy
from adapler.text import RUN, check_splits_words, encode, load_tokenizer, part_read, reading
from analysis import loading
from analysis.alignment import SPECIAL, Window, WordTokens, words_of
from analysis.corpus import by_index, word_mask
from analysis.eraser import Given
from analysis.explanation import Explanation, MethodScores
from analysis.scores import ScoringMethod, get_method
from analysis.scores.contribution import scores_of_removal
from analysis.scores.passes import in_format
from analysis.scoring import ScoredWindow, Scorer
from analysis.settings import Settings
from analysis.tokens import readable_tokens

DEFAULT_METHODS = ("saliency", "attention", "rollout")  # after the scores by which an AdapLeR model drops tokens
Part = str | tuple[str, ...]


def explained(
    parts: Sequence[Part],
    *,
    source: Any,
    tokenizer: Any,
    query: str,
    methods: Any,
    target: str | int,
    gold: str | int | None,
    rationale: Any,
    scores: Mapping[str, Any],
    name: str,
    options: Mapping[str, Any],
) -> Explanation:
    """See `analysis.explain`."""
    settings = Settings(methods=methods, **options)
    own = any(
        not str(getattr(get_method(one).function, "__module__", None)).startswith("analysis.scores.")
        for one in settings.methods or ()
    )  # nobody knows what it does to a model
    subject = load(source, tokenizer, words=not isinstance(parts[0], str), device=settings.device, keep=not own)
    classifier, adapler, labels = subject.classifier, subject.adapler, subject.labels
    names = dict(enumerate(labels))
    if needs_labels(target) and gold is None:
        raise ArgumentError(f"target: got {target!r}, and no gold= says which class that is")
    if reason := ambiguous(target, names):  # methods get it as text, which would be the class of that name
        raise ArgumentError(f"target: {reason}")
    truth = None if gold is None else gold_index(gold, labels)
    chosen = _methods(settings.methods, subject)
    if clash := [key for key in scores if key in chosen]:
        raise ArgumentError(f"scores: {clash[0]!r} is the name of a method that runs too; take another name")
    scale, choice = loading.choose_scale(adapler, threshold_scale=settings.threshold_scale, speedup=settings.speedup)
    length, dtype = (
        loading.input_length(classifier, settings.max_length),
        loading.choose_format(settings.dtype, classifier)[0],
    )
    settings = replace(settings, methods=[], threshold_scale=scale, speedup=None, dtype=dtype)  # type: ignore[arg-type]
    text = read(parts, subject.tokenizer, max_length=length, name=name, query=query)

    scorer = Scorer(classifier, in_format(adapler, dtype), subject.tokenizer, settings)
    scorer.methods = {key: _with_target(method, target) for key, method in chosen.items()}
    with torch.inference_mode(False):  # methods take gradients, which a caller's inference mode forbids
        (found,) = scorer.score([text.window], None if truth is None else [truth])
    thresholds = None
    if found.lengths is not None and adapler.config.policy == ContributionPolicy.name:
        # another policy's thresholds are not in the unit of its scores, which are shares of a layer
        present = torch.tensor([len(text.window), *found.lengths[:-1].tolist()])
        thresholds = threshold(adapler.eta.detach().cpu().double(), present, scale=scale).numpy()
    logits = torch.from_numpy(found.logits)[None].float()  # (1, C)
    check_finite(logits)
    if logits.shape[1] != len(labels):
        raise ArgumentError(
            f"id2label: {len(labels)} labels have names, and {subject.name} gives {logits.shape[1]} logits"
        )
    target_weights(
        str(target), logits, labels=None if truth is None else torch.tensor([truth]), id2label=names
    )  # refused where no method has a target, too
    of_methods = {
        key: _method_scores(key, method, found, _described(method, labels, logits, truth))
        for key, method in scorer.methods.items()
    }
    answer = _answer(found, subject)
    unlike = (
        None if choice is None else choice.other_reading(reading({"max_length": length, "long_documents": "truncate"}))
    )
    notes = [
        text.note,
        "" if choice is None else f"speedup {options['speedup']:g}: threshold_scale {scale:.4g}",
        unlike or "",
        _read_by_predict(subject, text),
        _unknown(text, subject.tokenizer),
        answer.pop("note", ""),
    ]
    facts = answer | {"thresholds": thresholds, "kept": found.retention}
    facts |= {"model": subject.name, "labels": labels, "target": str(target), "methods": of_methods}
    facts |= {"dtype": "float64" if loading.in_float64(classifier) else dtype, "note": "; ".join(filter(None, notes))}
    return explanation(
        text, scores=scores, rationale=rationale, gold=None if truth is None else labels[truth], name=name, **facts
    )


def explanation(
    text: Text,
    *,
    scores: Mapping[str, Any],
    rationale: Any,
    gold: Any,
    name: str,
    methods: Mapping[str, MethodScores] | None = None,
    model: str = "",
    note: str = "",
    **facts: Any,
) -> Explanation:
    """With saved scores as more methods; without `methods` they are all there is."""
    return Explanation(
        name=name,
        model=model,
        window=text.window,
        tokens=text.tokens,
        words=text.words,
        methods=dict(methods or {}) | {key: saved_method(key, values, text) for key, values in scores.items()},
        gold=None if gold is None else str(gold),
        rationale=None if rationale is None else word_mask(rationale, len(text.words)),
        note=note or text.note,
        **facts,
    )


# ---- the model


@dataclass(frozen=True, eq=False)
class Subject:
    """classifier: the plain one; adapler: None without removal; labels: the C classes' names."""

    classifier: Any
    adapler: Any
    tokenizer: Any
    name: str

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(label_names(self.classifier.config))


_kept: dict[tuple[Any, ...], Subject] = {}  # the last model that was loaded by its name


def load(source: Any, tokenizer: Any, *, words: bool, device: str, keep: bool) -> Subject:
    """The models and a tokenizer. words: whether the text is a list of words, which byte-level tokenizers read
    otherwise; keep: whether what runs leaves a model as it was, so that the next call may have it."""
    source = loading.default_adapler() if source is None else loading.uncompiled(source)
    if not isinstance(source, str | os.PathLike):
        return _load(source, tokenizer, words=words, device=device)
    origin = os.path.expanduser(os.fspath(source))
    files = sorted((one.name, one.stat().st_size, one.stat().st_mtime_ns) for one in Path(origin).glob("*"))
    key = (os.path.realpath(origin) if files else origin, *files, words, str(loading.choose_device(device)))
    subject = _kept.pop(key, None) if tokenizer is None else None
    _kept.clear()  # let go before its successor is loaded
    subject = subject or _load(origin, tokenizer, words=words, device=device)
    if keep and tokenizer is None:
        _kept[key] = subject
    return subject


def _load(source: Any, tokenizer: Any, *, words: bool, device: str) -> Subject:
    if isinstance(source, str):
        origin, is_adapler = source, read_config(source).model_type == "adapler"
    else:
        origin = str(getattr(source, "name_or_path", "") or "")
        is_adapler = isinstance(source, AdapLeRForSequenceClassification)
        classes = [one.__name__ for one in type(source).__mro__]
        if not isinstance(source, torch.nn.Module) or not hasattr(source, "config"):
            raise ArgumentError(f"model: got a {classes[0]}, must be a model, a folder or a hub name")
        from_transformers = type(source).__module__.startswith("transformers.")  # one's own is taken at its word
        if from_transformers and not any(one.endswith("ForSequenceClassification") for one in classes):
            raise ArgumentError(f"model: {classes[0]} is no classifier, need a ...ForSequenceClassification")
    if tokenizer is None and not origin:
        raise ArgumentError("tokenizer: the model does not say where it came from; pass tokenizer=")
    if tokenizer is None:
        tokenizer = load_tokenizer(origin, words=words)
    elif words:
        check_splits_words(tokenizer)
    model, adapler = (None, source) if is_adapler else (source, None)
    classifier, adapler, tokenizer = loading.load_models(model, adapler, tokenizer, device=device)
    label_names(classifier.config)  # of two classes of one name the answer would have the wrong probability
    name = Path(origin).absolute().name if Path(origin).is_dir() else origin  # without what lies above a folder
    return Subject(classifier, adapler, tokenizer, name if origin else type(source).__name__)


def gold_index(gold: str | int, labels: Sequence[str]) -> int:
    """The gold class's index, by name or index; NEG stands for negative, as in an evaluation."""
    if reason := ambiguous(gold, dict(enumerate(labels))):
        raise ArgumentError(f"gold: {reason}")
    try:
        return class_index(gold, dict(enumerate(labels)), len(labels))
    except ArgumentError as error:
        if isinstance(gold, str) and (found := match_labels([gold], labels)):
            return found[0]
        known = ", ".join(f"{label} ({index})" for index, label in enumerate(labels))
        raise ArgumentError(f"gold: got {gold!r}, the model's classes are {known}") from error


def _methods(wanted: Sequence[Any] | None, subject: Subject) -> dict[str, ScoringMethod]:
    """Methods by key, in the order asked for."""
    if wanted is None:
        first = [] if subject.adapler is None else [scores_of_removal(subject.adapler)]
        wanted = [*first, *DEFAULT_METHODS]
    chosen: dict[str, ScoringMethod] = {}
    for method in map(get_method, wanted):
        if method.key in chosen:
            raise ArgumentError(f"methods: {method.key!r} is named twice")
        if "adapler" in method.needs and subject.adapler is None:
            raise ArgumentError(f"methods: {method.name!r} needs an AdapLeR model, and {subject.name} is none")
        chosen[method.key] = method
    return chosen


def _with_target(method: ScoringMethod, target: str | int) -> ScoringMethod:
    """With that target, if it has one and none of its own, as `saliency(target=POS)` and `saliency_gold` have."""
    takes = method.has_target and method.options["target"] == PREDICTED
    return method.with_options(target=str(target)) if takes else method


def _described(method: ScoringMethod, labels: Sequence[str], logits: torch.Tensor, gold: int | None) -> str | None:
    """What the method explains, in words: a class, or one class minus another; None without a target."""
    option = method.options.get("target")
    if not method.has_target or not isinstance(option, str | int):
        return None
    truth = None if gold is None else torch.tensor([gold])
    weights = target_weights(option, logits, labels=truth, id2label=dict(enumerate(labels)))[0]
    name = labels[int(weights.argmax())]
    return f"{name} minus {labels[int(weights.argmin())]}" if bool((weights < 0).any()) else name


def _method_scores(key: str, method: ScoringMethod, found: ScoredWindow, target: str | None) -> MethodScores:
    one = found.scores[key]
    layerwise = len(one.scores) > 1 if method.layerwise is None else method.layerwise
    title = method.title + key.removeprefix(method.name)
    return MethodScores(
        key, title, method.scope, target, one.scores, one.signed, layerwise, one.present, one.diagnostics
    )


def _answer(found: ScoredWindow, subject: Subject) -> dict[str, Any]:
    """Fields of the explanation: what the model answers, with and without removal."""
    labels, config = subject.labels, subject.classifier.config
    label, share = labels[int(found.logits.argmax())], _probabilities(found.logits, config)
    full = {"full_prediction": label, "full_probabilities": share}
    if found.adapler_logits is None:
        return full | {"prediction": label, "probabilities": share}
    check_finite(torch.from_numpy(found.adapler_logits))
    prediction, note = labels[int(found.adapler_logits.argmax())], ""
    if prediction != label:
        note = (
            f"removal changes the prediction from {label} to {prediction}; methods other than "
            f"{scores_of_removal(subject.adapler)} score the model without removal"
        )
    shares = _probabilities(found.adapler_logits, config)
    return full | {"prediction": prediction, "probabilities": shares, "note": note}


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
        if not isinstance(part, str) and not (isinstance(part, list | tuple) and all(isinstance(w, str) for w in part)):
            raise ArgumentError(
                f"text: got {type(part).__name__}, must be a string, a list of words, or a pair of them"
            )
        if not part or not (part.strip() if isinstance(part, str) else all(word.strip() for word in part)):
            raise ArgumentError("text: is empty, or has an empty word")
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
        ids = np.array(WordTokens().ids_of(words), dtype=np.int64)
        return Text(
            Window(name, name, ids, None, np.arange(len(words)), np.zeros(len(words), dtype=bool)), words, words, ""
        )
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
    length = how.length_within(max_positions(subject.adapler.backbone.config))
    fits = tokens <= length and not text.note
    if fits or (how.long_documents == "truncate" and length == tokens):
        return ""
    why = f" ({RUN})" if how.max_length is not None else ""
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
        array = (
            _by_word(values, text.words)
            if by_name
            else np.asarray(
                values.detach().cpu().double() if isinstance(values, torch.Tensor) else values, dtype=np.float64
            )
        )
    except (TypeError, ValueError, RuntimeError) as error:
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
