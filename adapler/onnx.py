"""A model's folder as ONNX, which drops tokens for real and runs without PyTorch: two graphs, the tokenizer, a JSON.

The number of tokens between two layers depends on the data: each layer's Contribution Predictor is followed by NonZero
and Gather, so a dropped token costs nothing afterwards. Each graph is compared with PyTorch before anything is written.

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
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from adapler.backbones import first_position, label_names, max_positions, view
from adapler.backbones.packing import Segments
from adapler.contribution import MASKED, retention, threshold
from adapler.errors import ArgumentError, CheckpointError
from adapler.export import record_of_copy
from adapler.files import replacing
from adapler.predictors import PackedRow, members

ATTENTION = "adapler_onnx"
# torch.export wants an upper bound of every size that depends on the data. No batch comes near this one.
MOST_TOKENS = 1 << 24


def _bounded(size: Any) -> None:
    """Tells the exporter in which range a size lies that depends on the data."""
    torch._check(size >= 1)  # type: ignore[no-untyped-call]
    torch._check(size <= MOST_TOKENS)  # type: ignore[no-untyped-call]


def plain_attention(query: Tensor, key: Tensor, value: Tensor, *, scale: float, bias: Tensor | None = None) -> Tensor:
    """Softmax attention in the two products that every runtime has; (B, H, N, E) each, `bias` (B, 1, 1, N)."""
    logits = (query * scale) @ key.transpose(-1, -2)  # (B, H, N, N)
    return (logits if bias is None else logits + bias).softmax(-1) @ value


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
    """What transformers calls in every layer of a model that is exported.

    Without `cell`, attention between all tokens of the one text. With it, the texts of a batch lie one after the other:
    they are spread to a padded form for the two products of attention only, and packed again after it.

    Args:
        module, attention_mask, kwargs: as transformers hands them over; not used.
        query, key, value: (1, H, n, E).
        scaling: factor on q . k.
        cell: (n,) where each token stands in the padded form, flattened to (B * N,).
        bias: (B, N) what is added to the logits of each key: 0, and MASKED at padding.

    Returns:
        (1, n, H, E), None.
    """
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if cell is None or bias is None:
        return plain_attention(query, key, value, scale=scale).transpose(1, 2), None
    heads, size = query.shape[1], query.shape[3]
    rows, width = bias.shape

    def spread(packed: Tensor) -> Tensor:
        flat = packed[0].transpose(0, 1).reshape(-1, heads * size)  # (n, H * E)
        padded = flat.new_zeros(rows * width, heads * size).index_copy(0, cell, flat)  # (B * N, H * E)
        return padded.view(rows, width, heads, size).transpose(1, 2)  # (B, H, N, E)

    out = plain_attention(spread(query), spread(key), spread(value), scale=scale, bias=bias[:, None, None, :])
    flat = out.transpose(1, 2).reshape(rows * width, heads * size)  # (B * N, H * E)
    return flat.index_select(0, cell).view(1, -1, heads, size), None


AttentionInterface.register(ATTENTION, exported_attention)


class _Graph(nn.Module):
    """The parts of an AdapLeR model that a graph is made of; its attention must be ATTENTION by now."""

    eta: Tensor

    def __init__(self, adapler: Any) -> None:
        super().__init__()
        self.backbone = adapler.backbone
        self.predictors = adapler.contribution_predictors
        self.register_buffer("eta", adapler.removal_policy.factors.detach())  # 0 where a layer drops nothing

    def embed(self, input_ids: Tensor, positions: Tensor, token_type_ids: Tensor | None) -> Tensor:
        """(1, T) ids and positions counted from 0 -> (1, T, D)."""
        first = first_position(self.backbone.config)
        return view(self.backbone).embed(input_ids, positions=positions + first, token_type_ids=token_type_ids)


class OneText(_Graph):
    """A single text: no padding, no borders between texts."""

    def forward(
        self, input_ids: Tensor, token_type_ids: Tensor | None, threshold_scale: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Classify one text.

        Args:
            input_ids, token_type_ids: (1, N), special tokens included; types for backbones that have them.
            threshold_scale: scalar, factor on every eta.

        Returns:
            logits (1, C), lengths (1, L), retention (1, L, N) bool.
        """
        number = input_ids.shape[1]
        place = torch.arange(number)  # (n,) where each token stood in the input
        hidden = self.embed(input_ids, place[None], token_type_ids)
        owner = torch.zeros_like(place)
        lengths, retained = [], []
        for index, predictor in enumerate(self.predictors):
            present = torch.full((1,), 1.0) * place.shape[0]
            row = PackedRow(Segments(present, owners=owner), place)
            scores = predictor(hidden[0], row).softmax(-1)  # (n,)
            delta = threshold(self.eta[index], present, scale=cast(float, threshold_scale))  # (1,)
            keep = retention(scores, delta, is_cls=place == 0)
            kept = keep.nonzero()[:, 0]
            _bounded(kept.shape[0])
            hidden, place = hidden.index_select(1, kept), place.index_select(0, kept)
            owner = torch.zeros_like(place)
            lengths.append(keep.sum())
            retained.append(torch.zeros(number, dtype=torch.bool).index_fill(0, place, True))
            hidden = view(self.backbone).layer(index, hidden, positions=place[None])  # (1, n, D)
        logits = view(self.backbone).head(hidden[:, 0])
        return logits, torch.stack(lengths)[None], torch.stack(retained)[None]


class PackedTexts(_Graph):
    """Several texts, one after the other in one row."""

    def forward(
        self, input_ids: Tensor, token_type_ids: Tensor | None, lengths: Tensor, threshold_scale: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Classify the texts of a row.

        Args:
            input_ids, token_type_ids: (T,), each text with its special tokens; types for backbones that have them.
            lengths: (B,) long, tokens of each text; their sum is T.
            threshold_scale: scalar, factor on every eta.

        Returns:
            logits (B, C), lengths (B, L) tokens that enter each layer.
        """
        ends = lengths.cumsum(0)  # (B,)
        place = torch.arange(input_ids.shape[0])  # (T,)
        owner = (place[:, None] >= ends).sum(1)  # (T,) the text of each token
        offset = place - (ends - lengths).index_select(0, owner)  # (T,) its place in the text
        hidden = self.embed(input_ids[None], offset[None], None if token_type_ids is None else token_type_ids[None])
        is_cls = offset == 0
        entered = []
        for index, predictor in enumerate(self.predictors):
            row = PackedRow(Segments(lengths, owners=owner), place)
            scores = self._softmax(predictor(hidden[0], row), owner, lengths)  # (n,)
            delta = threshold(self.eta[index], lengths.to(scores.dtype), scale=cast(float, threshold_scale))  # (B,)
            keep = retention(scores, delta.index_select(0, owner), is_cls=is_cls)
            kept = keep.nonzero()[:, 0]
            _bounded(kept.shape[0])
            lengths = (members(owner, lengths.shape[0]) & keep).sum(1)
            hidden, place = hidden.index_select(1, kept), place.index_select(0, kept)
            owner, is_cls = owner.index_select(0, kept), is_cls.index_select(0, kept)
            entered.append(lengths)
            longest = cast(int, lengths.max().item())
            _bounded(longest)
            first = lengths.cumsum(0) - lengths  # (B,) where each text begins now
            column = torch.arange(kept.shape[0]) - first.index_select(0, owner)  # (n,)
            padding = torch.arange(longest) >= lengths[:, None]  # (B, N)
            hidden = view(self.backbone).layer(
                index,
                hidden,
                positions=column[None],
                cell=owner * longest + column,
                bias=padding.to(hidden.dtype) * MASKED,
            )  # (1, n, D)
        first = lengths.cumsum(0) - lengths
        return view(self.backbone).head(hidden[0].index_select(0, first)), torch.stack(entered, dim=1)

    @staticmethod
    def _softmax(scores: Tensor, owner: Tensor, lengths: Tensor) -> Tensor:
        """Softmax of (n,) scores within each text."""
        own = members(owner, lengths.shape[0])  # (B, n)
        top = scores.masked_fill(~own, torch.finfo(scores.dtype).min).amax(1)  # (B,)
        weights = (scores - top.index_select(0, owner)).exp()
        total = own.to(weights.dtype) @ weights  # (B,)
        return weights / total.index_select(0, owner)


TOLERANCE = 1e-4  # of logits, in float32
# Sums in another order change the last bits of a score. A score this near to its threshold (relative) may fall either
# way, and everything after it differs then.
ROUNDING = 1e-4


@dataclass(frozen=True)
class Difference:
    """A graph against PyTorch on some texts.

    Attributes:
        logits: largest difference of a logit, over texts whose kept tokens are the same.
        texts: how many were compared.
        on_threshold: texts of which a score lies on its threshold to rounding and fell the other way; their logits
            were not compared.
    """

    logits: float
    texts: int
    on_threshold: int


def run_graph(
    session: Any, texts: Sequence[Sequence[int]], *, types: Sequence[Sequence[int]] | None = None, scale: float = 1.0
) -> tuple[Any, Any]:
    """Classify encoded texts with a graph in onnxruntime: all at once in a packed graph, else one by one.

    Args:
        session: an onnxruntime.InferenceSession.
        texts: token ids of each, special tokens included.
        types: token types of each; default 0. Not used by graphs without them.
        scale: factor on every eta.

    Returns:
        logits (B, C) float32, lengths (B, L) int64.
    """
    wanted = {one.name for one in session.get_inputs()}
    types = [[0] * len(ids) for ids in texts] if types is None else types
    packed = "lengths" in wanted

    def feed(ids: Sequence[int], kinds: Sequence[int]) -> dict[str, Any]:
        values = {"input_ids": ids, "token_type_ids": kinds}
        arrays = {name: np.array(value, dtype=np.int64) for name, value in values.items() if name in wanted}
        shaped = arrays if packed else {name: value[None] for name, value in arrays.items()}
        return {**shaped, "threshold_scale": np.array(scale, dtype=np.float32)}

    if packed:
        inputs = feed([token for ids in texts for token in ids], [kind for kinds in types for kind in kinds])
        inputs["lengths"] = np.array([len(ids) for ids in texts], dtype=np.int64)
        logits, lengths = session.run(["logits", "layer_lengths"], inputs)
        return logits, lengths
    outputs = [
        session.run(["logits", "layer_lengths"], feed(ids, kinds)) for ids, kinds in zip(texts, types, strict=True)
    ]
    return np.concatenate([out[0] for out in outputs]), np.concatenate([out[1] for out in outputs])


@torch.inference_mode()
def compare(
    adapler: Any,
    session: Any,
    texts: Sequence[Sequence[int]],
    *,
    where: Path | str,
    types: Sequence[Sequence[int]] | None = None,
    scale: float = 1.0,
) -> Difference:
    """Compare a float32 graph with its model.

    Args:
        adapler: the model, in evaluation mode and float32.
        session, texts, types, scale: see run_graph.
        where: the graph's file, for messages.

    Raises:
        CheckpointError: a text has other kept tokens although none of its scores lies on its threshold, or a logit
            differs by more than 1e-4.
    """
    logits, lengths = run_graph(session, texts, types=types, scale=scale)
    worst, on_threshold = 0.0, 0
    for number, ids in enumerate(texts):
        kinds = None if types is None else torch.tensor([list(types[number])])
        out = adapler(torch.tensor([list(ids)]), token_type_ids=kinds, removal="hard", threshold_scale=scale)
        same = torch.from_numpy(lengths[number]) == out.lengths[0]  # (L,)
        if not bool(same.all()):
            layer = int((~same).nonzero()[0])
            if not _on_threshold(adapler, out, layer=layer, scale=scale):
                raise CheckpointError(
                    f"{where}: {int(lengths[number][layer])} tokens enter layer {layer} of a text of {len(ids)}, "
                    f"PyTorch keeps {int(out.lengths[0, layer])}; the graph is not the model"
                )
            on_threshold += 1
            continue
        difference = float((torch.from_numpy(logits[number]) - out.logits[0]).abs().max())
        if not difference <= TOLERANCE:  # NaN included
            said = f"logits differ from PyTorch's by {difference:.2g}, at most {TOLERANCE:g} is allowed"
            raise CheckpointError(f"{where}: {said}")
        worst = max(worst, difference)
    return Difference(worst, len(texts), on_threshold)


def _on_threshold(adapler: Any, out: Any, *, layer: int, scale: float) -> bool:
    """Whether a score that layer `layer` decides on lies on its threshold to rounding (one text)."""
    before: Tensor = out.retention_mask[0, layer - 1] if layer else torch.ones_like(out.retention_mask[0, 0])
    delta = threshold(adapler.removal_policy.factors[layer].float(), before.sum(), scale=scale)
    scores = out.contribution_scores[0, layer][before]
    return bool(((scores - delta).abs() <= ROUNDING * delta).any())


# Relative or rotary positions, as MPNet's and ModernBERT's, are not in the graphs.
BACKBONES = ("bert", "roberta", "xlm-roberta", "camembert", "ernie", "electra", "distilbert")
OPSET = 20  # the first with GELU as one operator
ONE, PACKED, DESCRIPTION = "one.onnx", "packed.onnx", "adapler.json"
CHECKED_SCALES = (0.0, 1.0, 1e6)  # nothing is dropped; as trained; everything but [CLS]
CHECKED_LENGTHS = (3, 4, 17, 60, 128)


@dataclass(frozen=True)
class Exported:
    """What was written: bytes of each graph, and its largest difference from PyTorch.

    Of int8 it is only a measure, of logits with nothing dropped: what is kept differs where a score moves.
    """

    sizes: dict[str, int]
    differences: dict[str, float]


def export_onnx(
    adapler: Any, output: Path, *, tokenizer: Any, int8: bool = False, record: Path, threshold_scale: float = 1.0
) -> Exported:
    """Write a folder that onnxruntime can classify with: one.onnx, packed.onnx, the tokenizer and adapler.json.

    The graphs drop tokens for real. Each float32 graph is run beside PyTorch before anything is written.

    Args:
        adapler: the model; computes in float32, on the CPU.
        output: the folder, replaced whole.
        tokenizer: the model's.
        int8: store the backbone's matrices as int8 (dynamic quantisation: activations are quantised as they come).
            The Contribution Predictors and the head stay float32.
        record: a run.json, whose `encoding` goes into adapler.json, and which is copied, if it is there. The model's
            calibration is copied too, but with int8: speedups hold for the graphs, times are PyTorch's.
        threshold_scale: by which eta was multiplied, for the copy of the record.

    Raises:
        ArgumentError: a package of the extra `onnx` is missing, the model's backbone is none of BACKBONES, or its
            removal policy is not AdapLeR's.
        CheckpointError: a graph does not give the model's logits, see `compare`, or the record is damaged.
    """
    _check_packages()
    if adapler.backbone.config.model_type not in BACKBONES:
        raise ArgumentError(
            f"--onnx: the backbone of this model is {adapler.backbone.config.model_type!r}; graphs are of "
            f"{', '.join(BACKBONES)} only"
        )
    recorded = record_of_copy(record, threshold_scale=threshold_scale)
    if adapler.config.policy != "adapler":
        raise ArgumentError(f"--onnx: the policy of this model is {adapler.config.policy!r}; graphs are AdapLeR's only")
    import onnxruntime

    original, adapler = adapler, copy.deepcopy(adapler).cpu().float().eval()
    config = adapler.backbone.config
    texts, types = _texts_to_check(config)
    sizes, differences = {}, {}
    with replacing(output) as partial:
        partial.mkdir()
        for name in (ONE, PACKED):
            path = partial / name
            _write_graph(adapler, path, packed=name == PACKED)
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            found = [compare(adapler, session, texts, types=types, scale=scale, where=name) for scale in CHECKED_SCALES]
            differences[name] = max(one.logits for one in found)
            if int8:
                exact, _ = run_graph(session, texts, types=types, scale=0.0)
                del session  # it may hold the file open
                _quantise(path)
                session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
                rounded, _ = run_graph(session, texts, types=types, scale=0.0)
                differences[name] = float(abs(exact - rounded).max())
            sizes[name] = path.stat().st_size
        tokenizer.save_pretrained(partial)
        description = _description(adapler, int8=int8, record=json.loads(recorded or "{}"))
        (partial / DESCRIPTION).write_text(
            json.dumps(description, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        if recorded is not None:
            (partial / record.name).write_text(recorded, encoding="utf-8")
        if not int8:  # which is another model: other scores
            original.save_calibration(partial)
    return Exported(sizes, differences)


def _check_packages() -> None:
    missing = [name for name in ("onnx", "onnxruntime", "onnxscript") if find_spec(name) is None]
    if missing:
        raise ArgumentError(f"--onnx: {missing[0]} is not installed; pip install 'adapler[onnx]' installs it")


def has_token_types(config: Any) -> bool:
    """Whether a backbone tells the first text of a pair from the second."""
    return int(getattr(config, "type_vocab_size", 0)) > 1


def _write_graph(adapler: Any, path: Path, *, packed: bool) -> None:
    """One graph in float32. The model is a copy whose attention is exchanged while it is exported."""
    from torch.onnx import export

    traced = copy.deepcopy(adapler)
    traced.backbone.config._attn_implementation = ATTENTION
    lengths = torch.tensor([7, 3, 9])  # an example; the graph takes any
    ids = torch.full((int(lengths.sum()),), 1) if packed else torch.full((1, 9), 1)
    types = torch.zeros_like(ids) if has_token_types(traced.backbone.config) else None
    any_length = {0 if packed else 1: torch.export.Dim.DYNAMIC}
    any_number = {0: torch.export.Dim.DYNAMIC}
    arguments: list[tuple[str, Any, Any]] = [("input_ids", ids, any_length)]
    arguments.append(("token_type_ids", types, None if types is None else any_length))
    if packed:
        arguments.append(("lengths", lengths, any_number))
    arguments.append(("threshold_scale", torch.tensor(1.0), {}))
    with _quiet():
        program = export(
            (PackedTexts if packed else OneText)(traced).eval(),
            tuple(value for _, value, _ in arguments),
            dynamo=True,
            opset_version=OPSET,
            input_names=[name for name, value, _ in arguments if value is not None],
            output_names=["logits", "layer_lengths"] + ([] if packed else ["retention"]),
            dynamic_shapes=tuple(shape for _, _, shape in arguments),
            verbose=False,
        )
        program.save(path)  # type: ignore[union-attr]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Within it, warnings of the exporter about its own code are hidden: no user can act on them."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnx_ir", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _quantise(path: Path) -> None:
    """The backbone's matrices of a graph as int8, each column with its own scale.

    Only products with a constant matrix: those of attention stay float32. The exporter writes the Contribution
    Predictors and the head, which read two-dimensional inputs, as Gemm and not as MatMul. The nodes are named, because
    onnxruntime would turn every Gemm into a MatMul and quantise it too.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(path)
    graph = model.graph
    constant = {one.name for one in graph.initializer}
    matrices = [node.name for node in graph.node if node.op_type == "MatMul" and node.input[1] in constant]
    exact = path.with_suffix(".float32")
    # Versions of onnxruntime up to 1.30 transpose matrices and leave the shapes that are noted of them as they were.
    del graph.value_info[:]
    onnx.save(model, exact)
    root, level = logging.getLogger(), logging.getLogger().level
    root.setLevel(logging.ERROR)  # it advises to preprocess the graph, which the exporter has done
    try:
        quantize_dynamic(
            exact,
            path,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=matrices,
            per_channel=True,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )
    finally:
        root.setLevel(level)
        exact.unlink()


def _texts_to_check(config: Any) -> tuple[list[list[int]], list[list[int]] | None]:
    """Ids of several lengths, drawn with a fixed seed; the second half of each is a second text."""
    most = max_positions(config)
    lengths = sorted({min(length, most) for length in (*CHECKED_LENGTHS, most)})
    draw = torch.Generator().manual_seed(0)
    texts = [torch.randint(0, config.vocab_size, (length,), generator=draw).tolist() for length in lengths]
    if not has_token_types(config):
        return texts, None
    return texts, [[int(place >= length // 2) for place in range(length)] for length in lengths]


def _description(adapler: Any, *, int8: bool, record: dict[str, Any]) -> dict[str, Any]:
    """adapler.json."""
    config = adapler.backbone.config
    types = ["token_type_ids"] if has_token_types(config) else []
    return {
        "labels": label_names(adapler.config),
        "backbone": config.model_type,
        "layers": adapler.num_layers,
        "max_length": max_positions(config),
        "encoding": record.get("encoding"),
        "precision": "int8" if int8 else "float32",
        "opset": OPSET,
        "graphs": {
            ONE: {
                "inputs": ["input_ids", *types, "threshold_scale"],
                "outputs": ["logits", "layer_lengths", "retention"],
            },
            PACKED: {
                "inputs": ["input_ids", *types, "lengths", "threshold_scale"],
                "outputs": ["logits", "layer_lengths"],
            },
        },
    }
