"""A model's folder for others: in half the size, its backbone as float16, or as ONNX, which runs without PyTorch.

A graph drops tokens for real: each layer's Contribution Predictor is followed by NonZero and Gather, so a dropped token
costs nothing afterwards. Each graph is compared with PyTorch before anything is written.

Dimensions: B texts, N tokens of a text (in a batch: of the longest), T tokens of a batch, n tokens that are left,
L layers, D hidden size, H heads, E head size, C labels.
"""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AttentionInterface

from adapler.backbones.attention import Segments
from adapler.backbones.families import first_position, label_names, max_positions, view
from adapler.contribution import MASKED, PackedRow, members, retention, threshold
from adapler.errors import ArgumentError, CheckpointError
from adapler.modeling import ETA_MAX, ETA_MIN, AdapLeRForSequenceClassification
from adapler.system import check_output_folder, replacing
from adapler.text import RUN, load_tokenizer, record_of_copy
from adapler.training.config import ExportConfig

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = "model.safetensors.index.json"
ATTENTION = "adapler_onnx"
# torch.export wants an upper bound of every size that depends on the data. No batch comes near this one.
MOST_TOKENS = 1 << 24
# Relative or rotary positions, as MPNet's and ModernBERT's, are not in the graphs.
BACKBONES = ("bert", "roberta", "xlm-roberta", "camembert", "ernie", "electra", "distilbert")
OPSET = 20  # the first with GELU as one operator
ONE, PACKED, DESCRIPTION = "one.onnx", "packed.onnx", "adapler.json"
CHECKED_SCALES = (0.0, 1.0, 1e6)  # nothing is dropped; as trained; everything but [CLS]
CHECKED_LENGTHS = (3, 4, 17, 60, 128)
TOLERANCE = 1e-4  # of logits, in float32
# Sums in another order change the last bits of a score. A score this near to its threshold (relative) may fall either
# way, and everything after it differs then.
ROUNDING = 1e-4


def run_export(config: ExportConfig) -> None:
    """The command `adapler export`."""
    check_output_folder(config.output, former=(DESCRIPTION if config.onnx else INDEX,))  # which it replaces
    model = AdapLeRForSequenceClassification.from_pretrained(config.model)
    how: dict[str, Any] = {"tokenizer": load_tokenizer(config.model, words=False), "record": config.model / RUN}
    how["threshold_scale"] = config.threshold_scale
    if config.threshold_scale != 1:
        scale_eta(model, config.threshold_scale)
    if not config.onnx:
        size = export(model, config.output, **how)
        print(f"{config.output}: {size / 1e6:.1f} MB")
        return
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
    multiplied by one, and so is the model's calibration, unless the weights have changed. CheckpointError for a damaged
    record, or a weight beyond float16; then nothing is written.
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


# ONNX


def _bounded(size: Any) -> None:
    """Tell the exporter the range of a size that depends on the data."""
    torch._check(size >= 1)  # type: ignore[no-untyped-call]
    torch._check(size <= MOST_TOKENS)  # type: ignore[no-untyped-call]


def exported_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    cell: Tensor | None = None,
    bias: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention of a model that is exported, in the two products that every runtime has.

    Without `cell`, attention between all tokens of the one text, query, key and value (1, H, n, E) -> (1, n, H, E).
    With it, the texts of a batch lie one after the other: they are spread to a padded form for the two products only.

    Args:
        cell: (n,) where each token stands in the padded form, flattened to (B * N,).
        bias: (B, N) what is added to the logits of each key: 0, and MASKED at padding.
    """
    query = query * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if cell is None or bias is None:
        return ((query @ key.transpose(-1, -2)).softmax(-1) @ value).transpose(1, 2), None
    heads, size = query.shape[1], query.shape[3]
    rows, width = bias.shape

    def spread(packed: Tensor) -> Tensor:
        flat = packed[0].transpose(0, 1).reshape(-1, heads * size)  # (n, H * E)
        padded = flat.new_zeros(rows * width, heads * size).index_copy(0, cell, flat)  # (B * N, H * E)
        return padded.view(rows, width, heads, size).transpose(1, 2)  # (B, H, N, E)

    logits = spread(query) @ spread(key).transpose(-1, -2) + bias[:, None, None, :]  # (B, H, N, N)
    flat = (logits.softmax(-1) @ spread(value)).transpose(1, 2).reshape(rows * width, heads * size)  # (B * N, H * E)
    return flat.index_select(0, cell).view(1, -1, heads, size), None


AttentionInterface.register(ATTENTION, exported_attention)


class Graph(nn.Module):
    """An AdapLeR model as a graph is made of it; the attention of its backbone must be ATTENTION by now."""

    eta: Tensor

    def __init__(self, adapler: Any) -> None:
        super().__init__()
        self.backbone = adapler.backbone
        self.predictors = adapler.contribution_predictors
        self.register_buffer("eta", adapler.removal_policy.factors.detach())  # 0 where a layer drops nothing

    def forward(
        self, input_ids: Tensor, token_type_ids: Tensor | None, lengths: Tensor | None, threshold_scale: Tensor
    ) -> tuple[Tensor, ...]:
        """Classify one text, (1, N) ids and types (for backbones that have them), or several that lie one after the
        other in a row, (T,), with their lengths (B,); `threshold_scale` is a scalar, a factor on every eta.

        Gives logits (B, C), lengths (B, L) tokens that enter each layer, and of one text retention (1, L, N) bool.
        """
        alone, ids = lengths is None, input_ids.flatten()
        types = None if token_type_ids is None else token_type_ids.flatten()[None]
        family, number = view(self.backbone), ids.shape[0]
        place = torch.arange(number)  # (T,) where each token stood in the row
        lengths = torch.full((1,), 1) * number if lengths is None else lengths
        ends = lengths.cumsum(0)  # (B,)
        owner = (place[:, None] >= ends).sum(1)  # (T,) the text of each token
        offset = place - (ends - lengths).index_select(0, owner)  # (T,) its place in the text
        positions = offset[None] + first_position(self.backbone.config)
        hidden = family.embed(ids[None], positions=positions, token_type_ids=types)  # (1, T, D)
        is_cls = offset == 0
        entered, retained = [], []
        for index, predictor in enumerate(self.predictors):
            scores = predictor(hidden[0], PackedRow(Segments(lengths, owners=owner), place))  # (n,)
            scores = scores.softmax(-1) if alone else self._softmax(scores, owner, lengths)
            delta = threshold(self.eta[index], lengths.to(scores.dtype), scale=cast(float, threshold_scale))  # (B,)
            keep = retention(scores, delta.index_select(0, owner), is_cls=is_cls)
            kept = keep.nonzero()[:, 0]
            _bounded(kept.shape[0])
            lengths = (members(owner, lengths.shape[0]) & keep).sum(1)
            hidden, place = hidden.index_select(1, kept), place.index_select(0, kept)
            owner, is_cls = owner.index_select(0, kept), is_cls.index_select(0, kept)
            entered.append(lengths)
            first, padded = lengths.cumsum(0) - lengths, {}  # (B,) where each text begins now
            if alone:
                retained.append(torch.zeros(number, dtype=torch.bool).index_fill(0, place, True))
            else:
                longest = cast(int, lengths.max().item())
                _bounded(longest)
                column = torch.arange(kept.shape[0]) - first.index_select(0, owner)  # (n,)
                padding = torch.arange(longest) >= lengths[:, None]  # (B, N)
                padded = {"cell": owner * longest + column, "bias": padding.to(hidden.dtype) * MASKED}
            hidden = family.layer(index, hidden, positions=place[None], **padded)  # (1, n, D)
        logits = family.head(hidden[0].index_select(0, first))
        return logits, torch.stack(entered, dim=1), *([torch.stack(retained)[None]] if alone else [])

    @staticmethod
    def _softmax(scores: Tensor, owner: Tensor, lengths: Tensor) -> Tensor:
        """Softmax of (n,) scores within each text."""
        own = members(owner, lengths.shape[0])  # (B, n)
        top = scores.masked_fill(~own, torch.finfo(scores.dtype).min).amax(1)  # (B,)
        weights = (scores - top.index_select(0, owner)).exp()
        total = own.to(weights.dtype) @ weights  # (B,)
        return weights / total.index_select(0, owner)


def run_graph(
    session: Any, texts: Sequence[Sequence[int]], *, types: Sequence[Sequence[int]] | None = None, scale: float = 1.0
) -> tuple[Any, Any]:
    """Classify encoded texts with a graph in an onnxruntime.InferenceSession: all at once in a packed graph, else one
    by one; gives logits (B, C) float32 and lengths (B, L) int64. `types`: token types of each text; default 0.
    """
    wanted = {one.name for one in session.get_inputs()}
    types = [[0] * len(ids) for ids in texts] if types is None else types

    def run(**inputs: Any) -> Any:
        feed = {name: np.array(value, dtype=np.int64) for name, value in inputs.items() if name in wanted}
        return session.run(["logits", "layer_lengths"], feed | {"threshold_scale": np.array(scale, dtype=np.float32)})

    if "lengths" in wanted:
        row = {"input_ids": list(chain(*texts)), "token_type_ids": list(chain(*types))}
        logits, lengths = run(**row, lengths=[len(ids) for ids in texts])
    else:
        found = [run(input_ids=[ids], token_type_ids=[kinds]) for ids, kinds in zip(texts, types, strict=True)]
        logits, lengths = (np.concatenate(each) for each in zip(*found, strict=True))
    return logits, lengths


@torch.inference_mode()
def compare(
    adapler: Any,
    session: Any,
    texts: Sequence[Sequence[int]],
    *,
    where: Path | str,
    types: Sequence[Sequence[int]] | None = None,
    scale: float = 1.0,
) -> tuple[float, int]:
    """Compare a float32 graph with its model, in evaluation mode and float32.

    Gives the largest difference of a logit, over texts whose kept tokens are the same, and how many others there are:
    a score of theirs lies on its threshold to rounding and fell the other way. CheckpointError where none does, or a
    logit differs by more than 1e-4.
    """
    logits, lengths = run_graph(session, texts, types=types, scale=scale)
    worst, on_threshold = 0.0, 0
    for number, ids in enumerate(texts):
        kinds = None if types is None else torch.tensor([list(types[number])])
        out = adapler(torch.tensor([list(ids)]), token_type_ids=kinds, removal="hard", threshold_scale=scale)
        same = torch.from_numpy(lengths[number]) == out.lengths[0]  # (L,)
        difference = float((torch.from_numpy(logits[number]) - out.logits[0]).abs().max())
        if not bool(same.all()):
            layer = int((~same).nonzero()[0])
            before = out.retention_mask[0, layer - 1] if layer else torch.ones_like(out.retention_mask[0, 0])  # (N,)
            delta = out.bars[0, layer]
            if not bool(((out.contribution_scores[0, layer][before] - delta).abs() <= ROUNDING * delta).any()):
                raise CheckpointError(
                    f"{where}: {int(lengths[number][layer])} tokens enter layer {layer} of a text of {len(ids)}, "
                    f"PyTorch keeps {int(out.lengths[0, layer])}; the graph is not the model"
                )
            on_threshold += 1
        elif difference <= TOLERANCE:
            worst = max(worst, difference)
        else:  # NaN included
            said = f"logits differ from PyTorch's by {difference:.2g}, at most {TOLERANCE:g} is allowed"
            raise CheckpointError(f"{where}: {said}")
    return worst, on_threshold


def export_onnx(
    adapler: Any, output: Path, *, tokenizer: Any, int8: bool = False, record: Path, threshold_scale: float = 1.0
) -> dict[str, tuple[int, float]]:
    """Write a folder that onnxruntime can classify with: one.onnx, packed.onnx, the tokenizer and adapler.json.

    Gives each graph's size in bytes and its largest difference from PyTorch; of int8, of logits with nothing dropped.
    `int8` stores the backbone's matrices so (dynamic quantisation: activations are quantised as they come), predictors
    and head stay float32. `record` and the calibration (speedups hold for the graphs, times are PyTorch's) are copied
    as by `export`, but no calibration with int8, which is another model. CheckpointError where a graph does not give
    the model's logits, see `compare`.
    """
    missing = [name for name in ("onnx", "onnxruntime", "onnxscript") if find_spec(name) is None]
    if missing:
        raise ArgumentError(f"--onnx: {missing[0]} is not installed; pip install 'adapler[onnx]' installs it")
    kind, policy = adapler.backbone.config.model_type, adapler.config.policy
    if kind not in BACKBONES:
        only = ", ".join(BACKBONES)
        raise ArgumentError(f"--onnx: the backbone of this model is {kind!r}; graphs are of {only} only")
    if not hasattr(adapler, "contribution_predictors"):
        raise ArgumentError(f"--onnx: the policy of this model is {policy!r}; graphs are AdapLeR's only")
    import onnxruntime

    recorded = record_of_copy(record, threshold_scale=threshold_scale)
    original, adapler = adapler, copy.deepcopy(adapler).cpu().float().eval()
    texts, types = _texts_to_check(adapler.backbone.config)
    written = {}
    with replacing(output) as partial:
        partial.mkdir()
        for name in (ONE, PACKED):
            path = partial / name
            _write_graph(adapler, path, packed=name == PACKED)
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            found = [compare(adapler, session, texts, types=types, scale=scale, where=name) for scale in CHECKED_SCALES]
            difference = max(worst for worst, _ in found)
            if int8:
                exact, _ = run_graph(session, texts, types=types, scale=0.0)
                del session  # it may hold the file open
                _quantise(path)
                session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
                rounded, _ = run_graph(session, texts, types=types, scale=0.0)
                difference = float(abs(exact - rounded).max())
            written[name] = (path.stat().st_size, difference)
        tokenizer.save_pretrained(partial)
        encoding = json.loads(recorded or "{}").get("encoding")
        about = json.dumps(_description(adapler, int8=int8, encoding=encoding), indent=2, ensure_ascii=False)
        (partial / DESCRIPTION).write_text(about + "\n", encoding="utf-8")
        if recorded is not None:
            (partial / record.name).write_text(recorded, encoding="utf-8")
        if not int8:
            original.save_calibration(partial)
    return written


def has_token_types(config: Any) -> bool:
    """Whether a backbone tells the first text of a pair from the second."""
    return int(getattr(config, "type_vocab_size", 0)) > 1


def _write_graph(adapler: Any, path: Path, *, packed: bool) -> None:
    """One graph in float32. The model is a copy whose attention is exchanged while it is exported."""
    traced = copy.deepcopy(adapler)
    traced.backbone.config._attn_implementation = ATTENTION
    lengths = torch.tensor([7, 3, 9])  # an example; the graph takes any
    ids = torch.full((int(lengths.sum()),), 1) if packed else torch.full((1, 9), 1)
    any_length = {0 if packed else 1: torch.export.Dim.DYNAMIC}
    arguments: dict[str, tuple[Any, Any]] = {  # None: the graph has no such input
        "input_ids": (ids, any_length),
        "token_type_ids": (torch.zeros_like(ids), any_length)
        if has_token_types(adapler.backbone.config)
        else (None,) * 2,
        "lengths": (lengths, {0: torch.export.Dim.DYNAMIC}) if packed else (None, None),
        "threshold_scale": (torch.tensor(1.0), {}),
    }
    with _quiet():
        program = torch.onnx.export(
            Graph(traced).eval(),
            tuple(value for value, _ in arguments.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=[name for name, (value, _) in arguments.items() if value is not None],
            output_names=["logits", "layer_lengths"] + ([] if packed else ["retention"]),
            dynamic_shapes=tuple(shape for _, shape in arguments.values()),
            verbose=False,
        )
        program.save(path)  # type: ignore[union-attr]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Within it, only errors are logged: no user can act on what the exporter and the quantiser say of their work."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(level)


def _quantise(path: Path) -> None:
    """The backbone's matrices of a graph as int8, each column with its own scale.

    Products of attention, which have no constant matrix, stay float32, and so do predictors and head, which the
    exporter writes as Gemm. The nodes are named, because onnxruntime would turn every Gemm into a MatMul.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(path)
    constant = {one.name for one in model.graph.initializer}
    matrices = [node.name for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in constant]
    # Versions of onnxruntime up to 1.30 transpose matrices and leave the shapes that are noted of them as they were.
    del model.graph.value_info[:]
    with _quiet():
        quantize_dynamic(
            model,
            path,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=matrices,
            per_channel=True,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )


def _texts_to_check(config: Any) -> tuple[list[list[int]], list[list[int]] | None]:
    """Ids of several lengths, drawn with a fixed seed; the second half of each is a second text."""
    most = max_positions(config)
    lengths = sorted({min(length, most) for length in (*CHECKED_LENGTHS, most)})
    draw = torch.Generator().manual_seed(0)
    texts = [torch.randint(0, config.vocab_size, (length,), generator=draw).tolist() for length in lengths]
    if not has_token_types(config):
        return texts, None
    return texts, [[int(place >= length // 2) for place in range(length)] for length in lengths]


def _description(adapler: Any, *, int8: bool, encoding: Any) -> dict[str, Any]:
    """adapler.json."""
    config = adapler.backbone.config
    words = ["input_ids", "token_type_ids"] if has_token_types(config) else ["input_ids"]
    outputs = ["logits", "layer_lengths"]
    return {
        "labels": label_names(adapler.config),
        "backbone": config.model_type,
        "layers": adapler.num_layers,
        "max_length": max_positions(config),
        "encoding": encoding,
        "precision": "int8" if int8 else "float32",
        "opset": OPSET,
        "graphs": {
            ONE: {"inputs": [*words, "threshold_scale"], "outputs": [*outputs, "retention"]},
            PACKED: {"inputs": [*words, "lengths", "threshold_scale"], "outputs": outputs},
        },
    }
