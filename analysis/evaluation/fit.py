"""Whether a model fits a corpus: its labels, and how long an input may be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from adapler.backbones.families import check_task
from adapler.data import match_labels
from adapler.errors import ArgumentError
from analysis.evaluation.settings import MAX_LENGTH


def gold_indices(model: Any, corpus: Any, examples: Sequence[Any]) -> list[int]:
    """The model's index of each document's label.

    Names are the same in any case. A corpus whose labels are numbers has the model's indices, whatever it calls them,
    unless all of them are names of the model ("1" to "5" of stars, say). A model without names (LABEL_i) has the
    corpus's, in their order. NEG stands for negative, in any case.

    Raises ArgumentError that names the document and its label for one that the model does not have, and for a model
    that does not choose one of several labels.
    """
    if hasattr(model.config, "num_labels"):  # a class of one's own is taken at its word
        check_task(model.config)
    # Predictions go by id2label; label2id is another dictionary, which need not agree.
    known = {str(name): int(index) for index, name in model.config.id2label.items()}
    if same := _in_any_case(known, corpus.labels):
        known |= same
    elif not known.keys() & set(corpus.labels):
        if all(name.isdecimal() for name in corpus.labels):
            known = {str(index): index for index in sorted(known.values())}
        elif len(known) == len(corpus.labels) and all(name.startswith("LABEL_") for name in known):
            known = {name: index for index, name in enumerate(corpus.labels)}
        else:
            found = match_labels(corpus.labels, list(known))
            known |= (
                {}
                if found is None
                else {one: known[list(known)[i]] for one, i in zip(corpus.labels, found, strict=True)}
            )
    if unknown := [example for example in examples if example.label not in known]:
        example = unknown[0]
        raise ArgumentError(
            f"document {example.id}: label {example.label!r} is not among the model's labels, {', '.join(known)}"
        )
    return [known[example.label] for example in examples]


def _in_any_case(known: Mapping[str, int], labels: Sequence[str]) -> dict[str, int]:
    """The labels, where each is one of the model's names but for the case, and no two are alike; else nothing."""
    names = {name.lower(): index for name, index in known.items()}
    if len(names) < len(known) or len({label.lower() for label in labels}) < len(labels):
        return {}
    return {label: names[label.lower()] for label in labels} if names.keys() >= {one.lower() for one in labels} else {}


def input_length(model: Any, wanted: int | None) -> int:
    """`wanted`, or MAX_LENGTH as far as the model goes; ArgumentError for more than it takes."""
    positions = _positions(model)
    if wanted is None:
        return MAX_LENGTH if positions is None else min(MAX_LENGTH, positions)
    if positions is not None and wanted > positions:
        raise ArgumentError(f"max_length: got {wanted}, {type(model).__name__} takes at most {positions} tokens")
    return wanted


def _positions(model: Any) -> int | None:
    """The longest input that the model takes, None where its configuration says nothing about that."""
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is None or positions < 1:  # XLNet says -1
        return None
    for name, module in model.named_modules():
        # RoBERTa counts positions from padding_idx + 1
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return int(positions - module.padding_idx - 1)
    return int(positions)
