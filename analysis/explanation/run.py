"""A text, a model and methods -> an `Explanation`.

    n tokens that the model reads, C classes, L layers (L' of one method)

The text becomes one batch of one window, as in an evaluation, so that the numbers are the same. What several methods
need of the model (its attention weights, its gradients, AdapLeR's pass) is computed once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from adapler.backbones import max_positions
from adapler.backbones.targets import PREDICTED, needs_labels, target_weights
from adapler.errors import ArgumentError, ambiguous
from adapler.outputs import check_finite
from adapler.policies import ContributionPolicy
from adapler.text import RUN, part_read, reading
from analysis import loading
from analysis.alignment import collate
from analysis.corpus import word_mask
from analysis.explanation.arguments import Method, check_arguments, gold_index, is_own, listed_methods
from analysis.explanation.result import Explanation, MethodScores
from analysis.explanation.saved import SavedScores, saved_method
from analysis.explanation.subject import Subject, subject_of
from analysis.explanation.text import Source, Text, read_text, split_source
from analysis.scores import Batch, LayerScores, ScoringMethod, get_method
from analysis.scores.contribution import scores_of_removal
from analysis.scores.passes import adapler_pass, classifier_logits, in_format, run_format

DEFAULT_METHODS = ("cp", "saliency", "attention", "rollout")  # `cp` with an AdapLeR model only, see scores_of_removal


@loading.outside_inference_mode
def run(
    text: Source,
    *,
    model: Any = None,
    tokenizer: Any = None,
    methods: Sequence[Method] | Method | None = None,
    target: str | int = "predicted",
    gold: str | int | None = None,
    rationale: Sequence[Any] | NDArray[Any] | None = None,
    scores: Mapping[str, SavedScores] | None = None,
    max_length: int | None = None,
    threshold_scale: float = 1.0,
    speedup: float | None = None,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "float32",
    name: str = "text",
) -> Explanation:
    """See `analysis.explain`."""
    check_arguments(
        threshold_scale=threshold_scale, seed=seed, max_length=max_length, device=device, name=name, scores=scores
    )
    wanted = listed_methods(methods)
    saved = dict(scores or {})
    if wanted == [] and not saved:
        raise ArgumentError("methods: got none, and no scores either; at least one is needed")
    is_string = isinstance(split_source(text)[0], str)
    needed = wanted != [] or model is not None  # saved scores alone need no model
    keep = not any(is_own(one) for one in wanted or ())
    models = subject_of(model, tokenizer, words=not is_string, device=device, keep=keep)
    with models if needed else nullcontext(Subject(None, None, tokenizer, "")) as subject:
        if subject.adapler is None and threshold_scale != 1:
            raise ArgumentError(f"threshold_scale: got {threshold_scale}, but there is no AdapLeR model")
        scale, choice = loading.choose_scale(subject.adapler, threshold_scale=threshold_scale, speedup=speedup)
        if subject.classifier is not None and needs_labels(target) and gold is None:
            raise ArgumentError(f"target: got {target!r}, and no gold= says which class that is")
        # methods get it as text, which would be the class of that name
        if subject.classifier is not None and (reason := ambiguous(target, dict(enumerate(subject.labels)))):
            raise ArgumentError(f"target: {reason}")
        chosen = _methods(wanted, subject)
        if clash := [key for key in saved if key in chosen]:
            raise ArgumentError(f"scores: {clash[0]!r} is the name of a method that runs too; take another name")
        longest = _length(subject, max_length)
        read = read_text(text, subject.tokenizer, max_length=longest, name=name)
        otherwise = _read_by_predict(subject, read)
        gold_label = None if gold is None else gold_index(gold, subject.labels)
        marked = None if rationale is None else word_mask(rationale, len(read.words))
        facts: dict[str, Any] = {}
        found: dict[str, MethodScores] = {}
        if subject.classifier is not None:
            dtype = loading.choose_format(dtype, subject.classifier)[0]  # the result says what it is
            subject = replace(subject, adapler=in_format(subject.adapler, dtype))
            batch = _batch(read, subject, gold_label, seed=seed, threshold_scale=scale)
            targeted = {key: _with_target(method, target) for key, method in chosen.items()}
            with run_format(dtype, batch.input_ids.device):
                results = {key: _score(method, batch, subject) for key, method in targeted.items()}
                computed = "float64" if loading.in_float64(subject.classifier) else dtype
                facts = _answers(batch, subject) | {"dtype": computed}
                logits = classifier_logits(subject.classifier, batch).float().cpu()
            # whether any method has a target or not, the result says what it is
            target_weights(str(target), logits, labels=batch.labels, id2label=dict(enumerate(subject.labels)))
            for key, method in targeted.items():
                described = _described(method, subject.labels, logits, gold_label)
                found[key] = _method_scores(key, method, results[key], len(read.tokens), described)
        found |= {key: saved_method(key, values, read) for key, values in saved.items()}
        at = "" if choice is None else f"speedup {speedup:g}: threshold_scale {scale:.4g}"
        view = {"max_length": longest, "long_documents": "truncate"}
        unlike = None if choice is None else choice.other_reading(reading(view))
        notes = [read.note, at, unlike, otherwise, _unknown(read, subject.tokenizer), facts.pop("note", "")]
        return Explanation(
            name=name,
            model=subject.name,
            window=read.window,
            tokens=read.tokens,
            words=read.words,
            methods=found,
            labels=subject.labels,
            target=str(target),
            gold=None if gold_label is None else subject.labels[gold_label] if subject.labels else str(gold),
            rationale=marked,
            note="; ".join(note for note in notes if note),
            **facts,
        )


def _methods(wanted: Sequence[Method] | None, subject: Subject) -> dict[str, ScoringMethod]:
    """Methods by name, in the order asked for."""
    if wanted is None:
        others = [name for name in DEFAULT_METHODS if name != "cp"]
        wanted = others if subject.adapler is None else [scores_of_removal(subject.adapler), *others]
    chosen: dict[str, ScoringMethod] = {}
    for one in wanted:
        method = get_method(one)
        if method.key in chosen:
            raise ArgumentError(f"methods: {method.key!r} is named twice")
        if "adapler" in method.needs and subject.adapler is None:
            raise ArgumentError(f"methods: {method.name!r} needs an AdapLeR model, and {subject.name} is none")
        chosen[method.key] = method
    return chosen


def _read_by_predict(subject: Subject, read: Text) -> str:
    """Where `predict` reads another part of a text, as in the model's training (run.json); else ""."""
    if subject.adapler is None:
        return ""
    how, tokens = subject.adapler.encoding(), len(read.window)
    length = how.length_within(max_positions(subject.adapler.backbone.config))
    fits = tokens <= length and not read.note
    if fits or (how.long_documents == "truncate" and length == tokens):
        return ""
    why = f" ({RUN})" if how.max_length is not None else ""
    return f"of a text longer than {length} tokens model.predict reads {part_read(how, length)}{why}"


def _length(subject: Subject, wanted: int | None) -> int:
    """The longest input, as in an evaluation."""
    if subject.classifier is not None:
        return loading.input_length(subject.classifier, wanted)
    if wanted is not None:
        raise ArgumentError("max_length: no model is run, so the whole text is in view; leave it out")
    return loading.MAX_LENGTH


def _batch(read: Text, subject: Subject, gold: int | None, *, seed: int, threshold_scale: float) -> Batch:
    tokenizer = subject.tokenizer
    return collate(
        [read.window],
        labels=None if gold is None else [gold],
        pad_token_id=tokenizer.pad_token_id,
        mask_token_id=tokenizer.mask_token_id,
        device=next(subject.classifier.parameters()).device,
        seed=seed,
        threshold_scale=threshold_scale,
    )


def _with_target(method: ScoringMethod, target: str | int) -> ScoringMethod:
    """The method with that target, if it has one and none of its own: `saliency(target=POS)` and `saliency_gold`
    stay as they are."""
    if not method.has_target or method.options["target"] != PREDICTED:
        return method
    return method.with_options(target=str(target))


def _described(method: ScoringMethod, labels: Sequence[str], logits: torch.Tensor, gold: int | None) -> str | None:
    """What the method explains, in words: a class, or one class minus another; None for a method without a target.

    logits: (1, C) of the input as it is.
    """
    option = method.options.get("target")
    if not method.has_target or not isinstance(option, str | int):
        return None
    truth = None if gold is None else torch.tensor([gold])
    weights = target_weights(option, logits, labels=truth, id2label=dict(enumerate(labels)))[0]
    name = labels[int(weights.argmax())]
    return f"{name} minus {labels[int(weights.argmin())]}" if bool((weights < 0).any()) else name


def _score(method: ScoringMethod, batch: Batch, subject: Subject) -> LayerScores:
    return method(subject.adapler if "adapler" in method.needs else subject.classifier, batch)


def _method_scores(
    key: str, method: ScoringMethod, result: LayerScores, n_tokens: int, target: str | None
) -> MethodScores:
    def plain(values: torch.Tensor) -> NDArray[Any]:
        array: NDArray[Any] = values[0].detach().cpu().numpy()
        return array

    return MethodScores(
        name=key,
        title=method.title + key.removeprefix(method.name),
        scope=method.scope,
        target=target,
        scores=plain(result.scores.float())[:, :n_tokens],
        signed=result.signed,
        layerwise=result.scores.shape[1] > 1 if method.layerwise is None else method.layerwise,
        present=None if result.present is None else plain(result.present.bool())[:, :n_tokens],
        diagnostics={name: plain(values.float()) for name, values in result.diagnostics.items()},
    )


def _answers(batch: Batch, subject: Subject) -> dict[str, Any]:
    """Fields of the explanation: what the model answers, with and without removal, and what it drops."""
    logits = classifier_logits(subject.classifier, batch)[0].cpu().double()  # (C,)
    check_finite(logits)
    if len(logits) != len(subject.labels):
        raise ArgumentError(
            f"id2label: has names for {len(subject.labels)} labels, and {subject.name} gives {len(logits)} logits"
        )
    full = {
        "full_prediction": subject.labels[int(logits.argmax())],
        "full_probabilities": _probabilities(logits, subject.classifier.config),
    }
    if subject.adapler is None:
        return full | {"prediction": full["full_prediction"], "probabilities": full["full_probabilities"]}
    output = adapler_pass(subject.adapler, batch)
    reduced = output.logits[0].detach().cpu().double()
    check_finite(reduced)
    kept = output.retention_mask[0].bool().cpu().numpy()  # (L, n)
    prediction = subject.labels[int(reduced.argmax())]
    note, own = "", subject.adapler.config.policy == ContributionPolicy.name
    if prediction != full["full_prediction"]:
        note = (
            f"removal changes the prediction from {full['full_prediction']} to {prediction}; methods other than "
            f"{scores_of_removal(subject.adapler)} score the model without removal"
        )
    return full | {
        "prediction": prediction,
        "probabilities": _probabilities(reduced, subject.classifier.config),
        "kept": kept,
        # (L,); another policy's bars are not in the unit of its scores, which are shares of a layer
        "thresholds": output.bars[0].cpu().double().numpy() if own else None,
        "note": note,
    }


def _probabilities(logits: torch.Tensor, config: Any) -> NDArray[np.float64] | None:
    """(C,) as transformers' pipeline has them: independent ones for several labels or one, none for a regression."""
    problem = getattr(config, "problem_type", None)
    if problem == "regression":
        return None
    several = problem == "multi_label_classification" or len(logits) == 1
    values: NDArray[np.float64] = (logits.sigmoid() if several else logits.softmax(-1)).numpy()
    return values


def _unknown(read: Text, tokenizer: Any) -> str:
    """A note on wordpieces that the tokenizer does not know, or ""."""
    unknown = getattr(tokenizer, "unk_token_id", None)
    if unknown is None:
        return ""
    count = int(((read.window.input_ids == unknown) & ~read.window.special).sum())
    return f"{count} of the tokens unknown to the tokenizer ({tokenizer.unk_token})" if count else ""
