"""A model's folder in half the size: the backbone's weights as float16, in a shard of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from adapler.errors import ArgumentError, CheckpointError
from adapler.modeling import ETA_MAX, ETA_MIN, AdapLeRForSequenceClassification
from adapler.system import check_output_folder, replacing
from adapler.text import RUN, load_tokenizer, record_of_copy
from adapler.training.config import ExportConfig

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = "model.safetensors.index.json"


def run_export(config: ExportConfig) -> None:
    """The command `adapler export`."""
    check_output_folder(config.output, former=("adapler.json" if config.onnx else INDEX,))  # which it replaces
    model = AdapLeRForSequenceClassification.from_pretrained(config.model)
    how: dict[str, Any] = {"tokenizer": load_tokenizer(config.model, words=False), "record": config.model / RUN}
    how["threshold_scale"] = config.threshold_scale
    if config.threshold_scale != 1:
        scale_eta(model, config.threshold_scale)
    if not config.onnx:
        size = export(model, config.output, **how)
        print(f"{config.output}: {size / 1e6:.1f} MB")
        return
    from adapler.onnx import export_onnx

    kind = "int8, from float32, nothing dropped" if config.int8 else "float32, from PyTorch"
    for name, (size, difference) in export_onnx(model, config.output, int8=config.int8, **how).items():
        print(f"{config.output / name}: {size / 1e6:.1f} MB; logits differ by at most {difference:.1g} ({kind})")


def scale_eta(adapler: AdapLeRForSequenceClassification, scale: float) -> None:
    """Multiply every eta by a threshold scale, in place; ArgumentError for another removal policy, or an eta that would
    leave its bounds."""
    if not hasattr(adapler, "eta"):
        raise ArgumentError(f"--threshold-scale: the policy of this model is {adapler.config.policy!r}, without eta")
    with torch.no_grad():
        scaled = adapler.eta * scale  # (L,)
        if outside := [value for value in scaled.tolist() if not ETA_MIN <= value <= ETA_MAX]:
            made = f"--threshold-scale: {scale:g} makes an eta {outside[0]:.3g}"
            raise ArgumentError(f"{made}, which is not in [{ETA_MIN:g}, {ETA_MAX:g}]")
        adapler.eta.copy_(scaled)


def export(
    adapler: AdapLeRForSequenceClassification,
    output: Path,
    *,
    tokenizer: Any,
    record: Path,
    threshold_scale: float = 1.0,
) -> int:
    """Write a model and its tokenizer, the backbone's weights in float16, the rest in float32; returns their bytes.

    Lossless for a backbone that `--half` rounded. Backbone and predictors are two shards, so that predictors trained
    anew replace a small file only. `record`, a run.json, is copied if it is there, with `threshold_scale` if eta was
    multiplied by one, and so is the model's calibration, unless the weights have changed.

    Raises:
        CheckpointError: the record is damaged, or a weight is beyond float16; nothing is written.
    """
    recorded = record_of_copy(record, threshold_scale=threshold_scale)
    shards: dict[str, dict[str, torch.Tensor]] = {name: {} for name in SHARDS}
    exact = True
    for name, tensor in adapler.state_dict().items():
        of_backbone = name.startswith("backbone.")
        stored = tensor.half() if of_backbone and tensor.is_floating_point() else tensor
        if not bool(stored.isfinite().all()):
            most = f"{float(tensor.abs().max()):.6g}"
            raise CheckpointError(f"weights {name!r} reach {most}, and float16, as which they are stored, 65504")
        exact = exact and torch.equal(stored.to(tensor.dtype), tensor)
        shards[SHARDS[0 if of_backbone else 1]][name] = stored.contiguous()
    size = sum(tensor.nbytes for weights in shards.values() for tensor in weights.values())
    places = {name: shard for shard, weights in shards.items() for name in weights}
    index = json.dumps({"metadata": {"total_size": size}, "weight_map": places}, indent=2)
    with replacing(output) as partial:
        partial.mkdir()
        adapler.config.architectures = [type(adapler).__name__]
        adapler.config.save_pretrained(partial)
        for shard, weights in shards.items():
            save_file(weights, partial / shard, metadata={"format": "pt"})
        (partial / INDEX).write_text(index + "\n", encoding="utf-8")
        tokenizer.save_pretrained(partial)
        if recorded is not None:
            (partial / RUN).write_text(recorded, encoding="utf-8")
        if exact:
            adapler.save_calibration(partial)
    return size
