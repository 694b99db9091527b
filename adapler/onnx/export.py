"""A model's folder as ONNX: two graphs, the tokenizer, and a small JSON that says how to run them."""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from adapler.backbones import label_names, max_positions
from adapler.errors import ArgumentError
from adapler.export import record_of_copy
from adapler.files import replacing
from adapler.onnx import ATTENTION, OneText, PackedTexts, compare, run_graph

__all__ = ["DESCRIPTION", "ONE", "OPSET", "PACKED", "Exported", "export_onnx"]

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
