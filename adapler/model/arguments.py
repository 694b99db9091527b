"""The checks of what `forward` is given, before anything is computed.

Dimensions: B batch, N padded length.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from adapler.backbones import families
from adapler.errors import ArgumentError, is_number
from adapler.model.configuration import AdapLeRConfig
from adapler.policies import ContributionPolicy

IGNORED = -100  # the label of a row that does not count in the loss


def refuse_unsupported(**wanted: bool) -> None:
    """Raises ArgumentError for the first argument of transformers' classifiers that is asked for; AdapLeR has none."""
    for name in (name for name, value in wanted.items() if value):
        after = " after its set_attn_implementation('eager')" if name == "output_attentions" else ""
        raise ArgumentError(f"{name}: AdapLeR does not support it; the plain classifier in model.backbone does{after}")


def _check_whole_numbers(name: str, values: Any) -> None:
    """Raises ArgumentError for what is no tensor of whole numbers."""
    if not isinstance(values, Tensor):
        raise ArgumentError(f"{name}: found {type(values).__name__}, a tensor is needed")
    if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
        raise ArgumentError(f"{name}: found {values.dtype}, whole numbers are needed")


def _check_range(name: str, values: Tensor, count: int, what: str) -> None:
    """Raises ArgumentError for a number that is none of `count` things; not on a GPU, whose work it would wait for."""
    if values.device.type != "cpu" or not values.numel():
        return
    lowest, highest = int(values.min()), int(values.max())
    if lowest < 0 or highest >= count:
        found = lowest if lowest < 0 else highest
        raise ArgumentError(f"{name}: {found} is not between 0 and {count - 1}; the model has {count} {what}")


def checked_labels(labels: Any, logits: Tensor) -> Tensor:
    """(B,) class indices of logits (B, C); IGNORED is that of a row that does not count, as in transformers.

    Raises:
        ArgumentError: no whole numbers, not one a row, or on a CPU one that is no class.
    """
    _check_whole_numbers("labels", labels)
    if labels.numel() != len(logits):
        raise ArgumentError(f"labels: shape {tuple(labels.shape)} is not ({len(logits)},), one class index a row")
    indices: Tensor = labels.reshape(-1).long()  # (B,)
    if indices.device.type == "cpu":
        _check_range("labels", indices[indices != IGNORED], logits.shape[1], "labels")
    return indices


def check_arguments(
    backbone: PreTrainedModel,
    input_ids: Tensor | None,
    attention_mask: Tensor | None,
    *,
    token_type_ids: Tensor | None,
    removal: str,
    threshold_scale: float,
) -> tuple[Tensor, Tensor]:
    """The ids (B, N), and their mask (B, N): all ones where none is given.

    Raises:
        ArgumentError: an argument has a wrong value or shape, or the backbone's attention cannot drop tokens.
    """
    if input_ids is None:
        raise ArgumentError("input_ids: missing")
    _check_whole_numbers("input_ids", input_ids)
    for name, tensor in (("attention_mask", attention_mask), ("token_type_ids", token_type_ids)):
        if tensor is not None and not isinstance(tensor, Tensor):
            raise ArgumentError(f"{name}: found {type(tensor).__name__}, a tensor is needed")
    if removal not in ("none", "soft", "hard"):
        raise ArgumentError(f"removal: {removal!r} is not one of 'none', 'soft', 'hard'")
    if not (is_number(threshold_scale) and threshold_scale >= 0):
        raise ArgumentError(f"threshold_scale: {threshold_scale!r} is not a number of at least 0")
    if input_ids.dim() != 2 or not input_ids.numel():
        raise ArgumentError(f"input_ids: shape {tuple(input_ids.shape)} is not (batch, length), each at least 1")
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    # Tokens are picked by their place in the batch: of another shape they would get the types of others.
    for name, values in (("attention_mask", mask), ("token_type_ids", token_type_ids)):
        if values is not None and values.shape != input_ids.shape:
            raise ArgumentError(
                f"{name}: shape {tuple(values.shape)} is not that of input_ids, {tuple(input_ids.shape)}"
            )
    _check_range("input_ids", input_ids, backbone.get_input_embeddings().num_embeddings, "wordpieces")
    types = getattr(families.encoder_of(backbone).embeddings, "token_type_embeddings", None)
    if token_type_ids is not None and types is not None:
        _check_whole_numbers("token_type_ids", token_type_ids)
        _check_range("token_type_ids", token_type_ids, types.num_embeddings, "types")
    implementation = families.family_of(backbone.config).implementation
    if backbone.config._attn_implementation != implementation:
        raise ArgumentError(
            f"attention implementation: {backbone.config._attn_implementation!r} cannot drop tokens; "
            f"call model.backbone.set_attn_implementation({implementation!r}) first"
        )
    return input_ids, mask


def check_options(
    config: AdapLeRConfig, ids: Tensor, *, removal: str, scale: float, fate: Tensor | None, soft: Mapping[str, Any]
) -> None:
    """Raises ArgumentError for an option that would have no effect, or has a wrong shape.

    Args:
        config: the model's. A policy other than AdapLeR's fades tokens in its own way, without AdapLeR's options.
        ids: (B, N).
        removal: the mode.
        scale, fate: see `forward`.
        soft: the options of soft mode, among them `probe`; None where they are not given.
    """
    if fate is not None and (removal != "hard" or not isinstance(fate, Tensor) or fate.shape != ids.shape):
        found = f"shape {tuple(fate.shape)}" if isinstance(fate, Tensor) else type(fate).__name__
        raise ArgumentError(
            f"fate: got {found}, removal {removal!r}; must have the shape {tuple(ids.shape)} of input_ids, in hard mode"
        )
    if removal == "soft" and scale != 1 and config.policy != ContributionPolicy.name:
        raise ArgumentError(f"threshold_scale: has no effect on the gates of {config.policy!r}; removal='hard' has it")
    for name in (name for name, value in soft.items() if value is not None):
        if removal != "soft":
            raise ArgumentError(f"{name}: has an effect with removal='soft' only, and removal is {removal!r}")
        if config.policy != ContributionPolicy.name:
            raise ArgumentError(f"{name}: an option of AdapLeR's soft removal, and the policy is {config.policy!r}")
    probe, layers = soft.get("probe"), config.num_hidden_layers
    if probe is not None and not (isinstance(probe, Tensor) and probe.shape == (layers,)):
        found = f"shape {tuple(probe.shape)}" if isinstance(probe, Tensor) else type(probe).__name__
        raise ArgumentError(f"probe: got {found}; a tensor of shape ({layers},) is needed, one factor a layer")


def checked_positions(backbone: PreTrainedModel, mask: Tensor, position_ids: Tensor | None) -> Tensor:
    """(B, N) positions of all tokens, each one that the backbone has an embedding for.

    Raises:
        ArgumentError: a row is too long for the backbone, or `position_ids` have a wrong shape or value.
    """
    limit = int(backbone.config.max_position_embeddings)
    if position_ids is None:
        positions = families.position_ids(backbone, mask)
        longest = families.max_positions(backbone.config)
        if mask.shape[1] > longest and int(positions.max()) >= limit:  # padding alone may be longer
            raise ArgumentError(f"input_ids: a row of more than {longest} tokens, the model's limit; truncate it")
        return positions
    _check_whole_numbers("position_ids", position_ids)
    if position_ids.shape not in (mask.shape, (1, mask.shape[1])):
        raise ArgumentError(
            f"position_ids: shape {tuple(position_ids.shape)} is not that of input_ids, {tuple(mask.shape)}"
        )
    positions = torch.where(mask.bool(), position_ids, 0)
    if int(positions.min()) < 0 or int(positions.max()) >= limit:
        raise ArgumentError(f"position_ids: outside 0 to {limit - 1}, the positions that the backbone has")
    return positions
