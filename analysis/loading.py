"""Names on a command line -> models and a tokenizer, with the defaults of a fresh clone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from adapler import AdapLeRForSequenceClassification
from adapler.backbones.attention import HALF
from adapler.backbones.families import check_task
from adapler.backbones.loading import is_local, load_any_classifier, read_config
from adapler.data import match_labels
from adapler.embedded import CHECKPOINT
from adapler.errors import ArgumentError
from adapler.system import choose_device, choose_dtype, describe_dtype
from adapler.text import load_tokenizer, reading
from analysis.corpus import load_corpus
from analysis.settings import Settings

__all__ = ["load_corpus", "load_models"]

MAX_LENGTH = 512  # wordpieces of an input when nobody says how many
DEFAULT_ADAPLER = CHECKPOINT


def short_path(path: str | Path) -> str:
    """A path as the user would type it: relative where it lies below the working directory."""
    absolute = Path(path).absolute()
    here = Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(path)


def public_path(path: str | Path) -> str:
    """A path as a report may show it to others: relative below the working directory, else its last part only.

    A hub name stays as it is.
    """
    absolute = Path(path).expanduser().absolute()
    here = Path.cwd()
    return absolute.relative_to(here).as_posix() if absolute.is_relative_to(here) else absolute.name


def decided(settings: Settings, model: Any, adapler: Any) -> tuple[Settings, str, list[str]]:
    """The settings with dtype, threshold scale and length decided; the dtype of the model's layers; notes for a reader.

    The default dtype is float32 and not "auto": published numbers are in it, and a score that is a small difference
    (value zeroing, attention received) loses digits in bfloat16, so that a table would depend on the machine. Weights
    in float64 are computed with as they are.

    Raises ArgumentError for bfloat16 of float64 weights, a length that the model does not take, a scale or a speedup
    without an AdapLeR model, both of them, and a speedup outside the curve that `adapler calibrate` stored.
    """
    device, dtype, notes = next(model.parameters()).device, settings.dtype, []  # type: Any, Any, list[str]
    float64 = any(one.dtype == torch.float64 for one in model.parameters())
    if float64 and dtype == "bfloat16":
        raise ArgumentError("dtype: got 'bfloat16', and the model's weights are float64; give it in float32")
    if float64:
        notes.append("the model's weights are float64, and so is what it computes")
    elif dtype != "float32":
        notes.append(describe_dtype(dtype, device))
    dtype = "float32" if float64 else choose_dtype(dtype, device)
    length = input_length(model, settings.max_length)
    scale, speedup = settings.threshold_scale, settings.speedup
    if adapler is None and (speedup is not None or scale != 1):
        name, value = ("speedup", speedup) if speedup is not None else ("threshold_scale", scale)
        raise ArgumentError(f"{name}: got {value}, but there is no AdapLeR model (--adapler)")
    if speedup is not None:
        if scale != 1:
            raise ArgumentError("speedup and threshold_scale: only one of them can be given")
        choice = adapler.choose_scale(speedup=speedup)
        scale = choice.threshold_scale
        here = reading({"max_length": length, "long_documents": settings.truncation})
        notes += [note for note in (str(choice), choice.other_reading(here)) if note]
    how = replace(settings, dtype=dtype, threshold_scale=scale, speedup=None, max_length=length)
    return how, "float64" if float64 else dtype, notes


def uncompiled(model: Any) -> Any:
    """The model that `torch.compile` made another one of, whose modules methods read; anything else as it is."""
    return getattr(model, "_orig_mod", model)


def load_models(
    model: Any, adapler: Any, tokenizer: Any = None, *, device: str = "auto", words: bool = True
) -> tuple[Any, Any, Any]:
    """(classifier, AdapLeR model or None, tokenizer), each given as an object, a folder or a hub name.

    Neither model nor adapler: the embedded checkpoint. adapler alone: its own backbone is the classifier. model alone:
    no AdapLeR. device: where the models go; "auto": models given as objects stay where they are (one that is loaded
    beside an object goes to it), others go to the first GPU if there is one. Raises CheckpointError for what cannot be
    loaded, ArgumentError for two models that do not fit, for weights in half precision, and for a device that is not
    there. words: as of `adapler.text.load_tokenizer`.
    """
    model, adapler = uncompiled(model), uncompiled(adapler)
    if model is None and adapler is None:
        adapler = DEFAULT_ADAPLER
    given = [
        one.device for one in (model, adapler) if not isinstance(one, str | os.PathLike) and hasattr(one, "device")
    ]
    named = next((one for one in (adapler, model) if isinstance(one, str | os.PathLike)), None)
    reducer: Any = adapler
    if isinstance(adapler, str | os.PathLike):
        reducer = AdapLeRForSequenceClassification.from_pretrained(_name(adapler))
    elif adapler is not None and not isinstance(adapler, AdapLeRForSequenceClassification):
        raise ArgumentError(f"adapler: got a {type(adapler).__name__}, must be an AdapLeR model or its folder")
    if isinstance(model, str | os.PathLike):
        model = load_classifier(_name(model))
    elif model is None:
        model = reducer.backbone
    if isinstance(model, AdapLeRForSequenceClassification):
        model = model.backbone
    config, kinds = getattr(model, "config", None), type(model).__mro__
    headless = kinds[0].__module__.startswith("transformers.") and not any(
        one.__name__.endswith("ForSequenceClassification") for one in kinds
    )  # a class of one's own is taken at its word
    if headless or not isinstance(model, torch.nn.Module) or getattr(config, "is_encoder_decoder", config is None):
        raise ArgumentError(
            f"model: got a {kinds[0].__name__}, must be an encoder with a classification head "
            "(...ForSequenceClassification), a folder or a hub name"
        )
    for name, one in (("model", model), ("adapler", reducer)):
        if one is not None and (low := {p.dtype for p in one.parameters() if p.dtype in HALF}):
            kind = str(min(low, key=str)).removeprefix("torch.")  # what is computed would be called float32
            raise ArgumentError(f"{name}: its weights are {kind}; give it in float32, and dtype='bfloat16' for speed")
    if reducer is not None:
        _check_fit(model, reducer)
    place = given[0] if device == "auto" and given else choose_device(device)
    for one in (model, reducer):
        if one is not None:
            one.to(place)
    if tokenizer is None:
        tokenizer = named or getattr(reducer, "name_or_path", "") or getattr(model, "name_or_path", "")
        if not tokenizer:
            raise ArgumentError("tokenizer: the model does not say where it came from; pass tokenizer=")
    if isinstance(tokenizer, str | os.PathLike):
        tokenizer = load_tokenizer(_name(tokenizer), words=words)
    return model, reducer, tokenizer


def gold_indices(model: Any, corpus: Any, examples: Sequence[Any]) -> list[int]:
    """The model's index of each document's label.

    Raises ArgumentError where the names do not tell, and for a model that does not choose one of several labels.
    """
    if hasattr(model.config, "num_labels"):  # a class of one's own is taken at its word
        check_task(model.config)
    # Predictions go by id2label; label2id is another dictionary, which need not agree.
    names = [str(name) for _, name in sorted((int(index), name) for index, name in model.config.id2label.items())]
    indices = match_labels(list(corpus.labels), names)
    if indices is None:
        raise ArgumentError(
            f"{corpus.name}: its labels, {', '.join(corpus.labels)}, are not the model's: {', '.join(names)}"
        )
    known = dict(zip(corpus.labels, indices, strict=True))
    return [known[example.label] for example in examples]


def input_length(model: Any, wanted: int | None) -> int:
    """`wanted`, or MAX_LENGTH as far as the model goes; ArgumentError for more than it takes."""
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is None or positions < 1:  # XLNet says -1
        return wanted or MAX_LENGTH
    for name, module in model.named_modules():
        # RoBERTa counts positions from padding_idx + 1
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            positions -= module.padding_idx + 1
            break
    if wanted is not None and wanted > positions:
        raise ArgumentError(f"max_length: got {wanted}, {type(model).__name__} takes at most {positions} tokens")
    return min(wanted or MAX_LENGTH, int(positions))


def is_adapler(model: Any) -> bool:
    """Whether an object, a folder or a hub name is an AdapLeR model. Raises CheckpointError if there is none."""
    if isinstance(model, str | os.PathLike):
        return bool(read_config(_name(model)).model_type == "adapler")
    return isinstance(uncompiled(model), AdapLeRForSequenceClassification)


def load_classifier(name: str) -> Any:
    """A fine-tuned classifier in float32, of any architecture; of an AdapLeR model its backbone. Raises CheckpointError
    for an encoder without a trained head, a regression or a multi-label classifier, or weights that are not finite."""
    if is_adapler(name):
        return AdapLeRForSequenceClassification.from_pretrained(name).backbone
    return load_any_classifier(name)


def _name(source: str | os.PathLike[str]) -> str:
    source = source if isinstance(source, str) else Path(source)
    name = os.fspath(source)
    return os.path.expanduser(name) if is_local(source) else name


def _check_fit(model: Any, adapler: Any) -> None:
    mine = (model.config.num_hidden_layers, model.config.vocab_size, dict(model.config.id2label))
    theirs = (adapler.config.num_hidden_layers, adapler.backbone.config.vocab_size, dict(adapler.config.id2label))
    for what, one, other in zip(("layers", "vocabulary entries", "labels"), mine, theirs, strict=True):
        if one != other:
            raise ArgumentError(f"model and adapler do not fit: the model has {what} {one}, AdapLeR {other}")
