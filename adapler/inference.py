"""Texts in, labels out: the batched forward loop of the project, and what `predict` makes of it.

Dimensions: B batch, N padded length, n texts, W inputs (more than n with windows), L layers, C labels.
"""

from __future__ import annotations

import copy
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from adapler.backbones.attention import HALF
from adapler.backbones.families import label_names, max_positions, ready, view
from adapler.calibration import (
    CALIBRATION,
    Calibration,
    Choice,
    Machine,
    one_target,
    read_calibration,
    write_calibration,
)
from adapler.errors import ArgumentError
from adapler.flops import adapler_flops, backbone_flops
from adapler.options import is_number
from adapler.passes import check_finite, plain_pass
from adapler.system import choose_dtype, replacing
from adapler.text import (
    INPUTS,
    RUN,
    Encoded,
    Encoding,
    choose_encoding,
    encode,
    file_beside,
    reading,
    recorded_encoding,
)

TOKEN_BUDGET = 8192  # padded tokens of a batch
# Of passes on a CPU that hold attention's weights and gradients. glibc keeps the memory of a freed tensor up to 32 MiB;
# larger ones (heads x N x N floats a text) are mapped and cleared anew, which takes nearly as long as the arithmetic.
GRADIENT_TOKEN_BUDGET = 1024
GPU_TOKEN_BUDGET = 65536  # on a GPU, whose kernels take longer to start than to run on small batches
# Memory of one padded token: the states of a layer and what it makes of them, some 25 rows of the hidden size of a
# large model in float32, with room to spare.
BYTES_A_TOKEN = 25 * 1024 * 4
CHUNK = 16_384  # rows of a large data set that are in memory at a time


# ---- batches


def token_budget_for(device: torch.device) -> int:
    """Default padded tokens of a batch: TOKEN_BUDGET; on a GPU more, as free memory allows."""
    if device.type != "cuda":
        return TOKEN_BUDGET
    free, _ = torch.cuda.mem_get_info(device)
    return max(TOKEN_BUDGET, min(GPU_TOKEN_BUDGET, free // 2 // BYTES_A_TOKEN))


def batches_by_length(lengths: Sequence[int], *, token_budget: int = TOKEN_BUDGET) -> Iterator[list[int]]:
    """Row indices in batches of similar length, longest first, at most `token_budget` padded tokens each (a row longer
    than that gets a batch of its own)."""
    if not (is_number(token_budget, whole=True) and token_budget >= 1):
        raise ArgumentError(f"token_budget: {token_budget!r} is not a whole number of at least 1")
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > token_budget:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def pad_rows(rows: Sequence[Mapping[str, Any]], *, pad_token_id: int, device: torch.device) -> dict[str, Tensor]:
    """Encoded rows -> padded tensors (B, N), padding on the right."""
    lengths = [len(row["input_ids"]) for row in rows]
    # One array of all rows' numbers, spread over the batch at once: lists of padded lists cost several times as much.
    real = np.arange(max(lengths)) < np.array(lengths)[:, None]  # (B, N)
    padded = {}
    for name, fill in {"input_ids": pad_token_id, "attention_mask": 0, "token_type_ids": 0}.items():
        if name in rows[0]:
            values = np.full(real.shape, fill, dtype=np.int64)
            values[real] = np.fromiter(chain.from_iterable(row[name] for row in rows), np.int64, count=sum(lengths))
            padded[name] = torch.from_numpy(values).to(device)
    return padded


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Within it a model is in evaluation mode; afterwards each of its modules is in its mode before: a training keeps
    some in evaluation mode. What is no module is left alone."""
    modules = {module: module.training for module in model.modules()} if isinstance(model, nn.Module) else {}
    try:
        for module in modules:
            module.training = False
        yield
    finally:
        for module, training in modules.items():
            module.training = training


# ---- Working copies: modules of their own that share a model's weights. Whatever is set on one - evaluation mode,
# hooks, the attention implementation - goes away with it, so that threads can ask one model at a time.


def working_copy(model: Any) -> Any:
    """The model in evaluation mode, as modules and configuration of its own on the same weights and buffers, with its
    hooks. Of tensors only those are copied that were made in `torch.inference_mode`, through which no gradient goes."""
    shared = {id(tensor): _ordinary(tensor) for tensor in (*model.parameters(), *model.buffers())}
    for module in model.modules():
        found = (value for value in vars(module).values() if isinstance(value, Tensor))
        shared |= {id(value): _ordinary(value) for value in found if id(value) not in shared}
    twin = copy.deepcopy(model, shared).eval()
    if hasattr(twin, "config"):
        twin.config.return_dict = True
    return twin


def answering(model: Any) -> Any:
    """The model itself for a pass without gradients; a working copy where it is in training mode, or where its
    configuration asks for tuples instead of outputs with names."""
    tuples = getattr(getattr(model, "config", None), "return_dict", None) is False
    return working_copy(model) if model.training or tuples else model


def _ordinary(tensor: Tensor) -> Tensor:
    if not tensor.is_inference() or torch.is_inference_mode_enabled():
        return tensor
    with torch.no_grad():
        made = tensor.clone()
    return nn.Parameter(made, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else made


@contextmanager
def differentiable(model: Any) -> Iterator[Any]:
    """A working copy whose activations carry gradients even when every weight is frozen; gradients are on inside."""

    def require(module: Any, inputs: Any, output: Tensor) -> Tensor:
        return output if output.requires_grad else output.requires_grad_()

    twin = working_copy(model)
    twin.get_input_embeddings().register_forward_hook(require)
    with torch.enable_grad():
        yield twin


def gradients_of(value: Tensor, by: Sequence[Tensor], *, model: Any, what: str) -> tuple[Tensor, ...]:
    """Gradients of a scalar by tensors that the model returned of the pass which it comes from; `what` they are, in
    words. ArgumentError where the value does not depend on one of them: what the model returns is a copy, or a part."""
    gradients = torch.autograd.grad(value, by, allow_unused=True)
    if any(gradient is None for gradient in gradients):
        raise ArgumentError(
            f"model: the {what} that {type(model).__name__} returns are not the ones its prediction is computed from; "
            "methods that read their gradients cannot run on it"
        )
    return gradients


# ---- The loop over batches


@torch.inference_mode()
def forward_all(
    model: Any,
    rows: Sequence[Mapping[str, Any]],
    *,
    pad_token_id: int,
    token_budget: int | None = None,
    progress: str | None = None,
    **arguments: Any,
) -> Iterator[tuple[list[int], Any]]:
    """Run a classifier over encoded rows in evaluation mode, in batches of similar length; yields the row indices of a
    batch and the model's output.

    Args:
        model: AdapLeR, an InferenceClassifier or any transformers classifier.
        rows: `Encoded.rows`, or other mappings of INPUTS.
        token_budget: padded tokens of a batch; default: see token_budget_for.
        progress: title of a progress bar; None for none.
        arguments: of the model's forward, such as removal and threshold_scale.
    """
    if isinstance(model, PreTrainedModel):
        arguments = {"return_dict": True, **arguments}  # whatever its configuration says
    budget = token_budget_for(model.device) if token_budget is None else token_budget
    batches = batches_by_length([len(row["input_ids"]) for row in rows], token_budget=budget)
    with evaluating(model), tqdm(total=len(rows), desc=progress, disable=progress is None, unit="text") as bar:
        for batch in batches:
            inputs = pad_rows([rows[row] for row in batch], pad_token_id=pad_token_id, device=model.device)
            yield batch, model(**inputs, **arguments)
            bar.update(len(batch))


@dataclass(frozen=True)
class Predictions:
    """Outputs over encoded rows, in their order."""

    logits: Tensor  # (W, C) float32
    lengths_in: Tensor  # (W,) long, tokens of each row
    lengths: Tensor  # (W, L) long, tokens that enter each layer (all of them for a plain classifier)


@torch.inference_mode()
def predict_rows(model: Any, rows: Any, *, depths: list[list[int]] | None = None, **options: Any) -> Predictions:
    """`forward_all`, gathered in the order of the rows; `rows` may be a `datasets.Dataset` of any size, of which CHUNK
    rows are in memory at a time. `depths` (AdapLeR only) gets the number of layers that each token of each row entered.
    """
    if not len(rows):
        raise ArgumentError("rows: nothing to predict")
    chunks: Iterable[Sequence[Any]] = [rows]
    if not isinstance(rows, Sequence):
        inputs = rows.select_columns([name for name in INPUTS if name in rows.column_names])
        chunks = (inputs.select(range(i, min(i + CHUNK, len(rows)))).to_list() for i in range(0, len(rows), CHUNK))
    lengths_in: list[int] = []
    order: list[int] = []
    logits, lengths = [], []
    by_row: list[list[int]] = [[]] * len(rows)
    for chunk in chunks:
        first = len(lengths_in)
        lengths_in += [len(row["input_ids"]) for row in chunk]
        for indices, output in forward_all(model, chunk, **options):
            batch = [first + index for index in indices]
            order += batch
            logits.append(output.logits.float().cpu())  # one transfer for the whole batch
            kept = getattr(output, "lengths", None)
            if kept is None:
                layers = model.config.num_hidden_layers
                kept = torch.tensor([lengths_in[row] for row in batch])[:, None].expand(-1, layers)
            lengths.append(kept.cpu())
            if depths is not None:
                for row, depth in zip(batch, output.retention_mask.sum(1).tolist(), strict=True):
                    by_row[row] = depth[: lengths_in[row]]
    if depths is not None:
        depths += by_row
    place = torch.tensor(order).argsort()  # (W,) where each row is in the order of the batches
    return Predictions(torch.cat(logits)[place], torch.tensor(lengths_in), torch.cat(lengths)[place])


# ---- texts


@dataclass(frozen=True)
class Prediction:
    """Result of `AdapLeRForSequenceClassification.predict` for one text.

    Attributes:
        label: the predicted label's name.
        score: its probability.
        probabilities: every label's.
        tokens: wordpieces, special tokens included; of several windows, one window's after the other's.
        layers: for each token, the number of layers that it entered (0 = dropped before the first).
        lengths: tokens that enter each layer, the sum over windows.
        speedup: FLOPs of the plain backbone divided by AdapLeR's on this text.
        windows: inputs that the text was read in; the probabilities are those of their mean logits.
        length: wordpieces of these inputs.
    """

    label: str
    score: float
    probabilities: dict[str, float]
    tokens: tuple[str, ...]
    layers: tuple[int, ...]
    lengths: tuple[int, ...]
    speedup: float
    windows: int = 1
    length: int = 0


def predictions(
    model: Any,
    tokenizer: Any,
    encoded: Encoded,
    found: Predictions,
    *,
    removal: str,
    depths: list[list[int]] | None = None,
) -> list[Prediction]:
    """The prediction of each text, from the outputs `found` of its windows; without the `depths` of predict_rows, it
    has no tokens and layers."""
    check_finite(found.logits)
    plain = backbone_flops(model.config, found.lengths_in)
    spent = adapler_flops(model.config, found.lengths_in, found.lengths) if removal == "hard" else plain
    owner = torch.tensor(encoded.owners)  # (W,)
    texts = int(owner[-1]) + 1

    def summed(values: Tensor) -> Tensor:
        """(W, ...) -> (n, ...)."""
        return values.new_zeros(texts, *values.shape[1:]).index_add_(0, owner, values)

    windows = summed(torch.ones_like(owner))  # (n,)
    probabilities = (summed(found.logits) / windows[:, None]).softmax(-1)  # (n, C)
    columns = (probabilities, summed(plain) / summed(spent), summed(found.lengths), windows, summed(found.lengths_in))
    tokens: list[list[str]] = [[] for _ in range(texts)]
    layers: list[list[int]] = [[] for _ in range(texts)]
    for index, row, depth in zip(encoded.owners, encoded.rows, depths, strict=True) if depths is not None else ():
        tokens[index] += tokenizer.convert_ids_to_tokens(row["input_ids"])
        layers[index] += depth
    names, results = label_names(model.config), []
    values = zip(*(column.tolist() for column in columns), tokens, layers, strict=True)
    for shares, speedup, lengths, count, length, pieces, depth in values:
        score, label = max(shares), names[shares.index(max(shares))]
        by_name, parts = dict(zip(names, shares, strict=True)), (tuple(pieces), tuple(depth), tuple(lengths))
        results.append(Prediction(label, score, by_name, *parts, speedup=speedup, windows=count, length=length))
    return results


def _columns_of(texts: Any) -> tuple[list[str], list[str] | None]:
    """Texts, and the second texts of pairs, out of a list, an array, a column of a table or a generator."""
    texts = texts.tolist() if hasattr(texts, "tolist") else texts  # of NumPy and pandas; pairs become lists
    if isinstance(texts, str) or hasattr(texts, "keys") or not isinstance(texts, Iterable):
        raise ArgumentError(f"texts: found {type(texts).__name__}; give a list of strings or of pairs")
    rows = [(text,) if isinstance(text, str) else tuple(text) if isinstance(text, list) else text for text in texts]
    for index, row in enumerate(rows):
        if not isinstance(row, tuple) or len(row) not in (1, 2) or len(row) != len(rows[0]):
            raise ArgumentError(f"texts: [{index}] is {row!r:.60}; give strings only, or pairs of strings only")
        if any(not isinstance(part, str) or not part.strip() for part in row):
            raise ArgumentError(f"texts: [{index}] is {row!r:.60}: empty, or no string")
    first = [row[0] for row in rows]
    return first, [row[1] for row in rows] if rows and len(rows[0]) == 2 else None


class Predicts:
    """A base class of AdapLeRForSequenceClassification: from texts to labels, and the calibration stored with it."""

    _source: tuple[str | Path, dict[str, Any]] | None = None  # where it was loaded from
    _run: tuple[bytes, Encoding | None] | None = None  # run.json there, and what it says of texts
    _calibration: Calibration | None = None
    _told: tuple[str, ...] = ()

    def remember_source(self, name_or_path: str | Path, **hub: Any) -> None:
        """Read run.json where the model comes from (HubArguments), CheckpointError if it is damaged; calibration.json
        there is read when a budget is given."""
        local = Path(name_or_path)
        self._source = (local.resolve() if local.exists() else name_or_path, hub)
        path = file_beside(name_or_path, RUN, **hub)
        self._run = None if path is None else (path.read_bytes(), recorded_encoding(name_or_path, **hub))

    def save_beside(self, folder: Path) -> None:
        """Write run.json and the calibration next to the saved model; those of another model are removed."""
        if self._run is None:
            (folder / RUN).unlink(missing_ok=True)
        else:
            with replacing(folder / RUN) as partial:
                partial.write_bytes(self._run[0])
        self.save_calibration(folder)

    def save_calibration(self, folder: Path) -> None:
        """Write the calibration; one of other weights, as after a training, is not kept and removed there."""
        try:
            calibration = self.calibration
        except ValueError:  # ArgumentError or CheckpointError: none, of other weights, or damaged
            calibration = None
        if calibration is None or calibration.model_checksum != weights_checksum(self):
            (folder / CALIBRATION).unlink(missing_ok=True)
        else:
            write_calibration(folder / CALIBRATION, calibration)

    def encoding(
        self, *, max_length: int | None = None, long_documents: str | None = None, stride: int | None = None
    ) -> Encoding:
        """The part of a long text that this model reads: as given, else as in training (run.json), else the first
        wordpieces; see `choose_encoding`."""
        recorded = None if self._run is None else self._run[1]
        how = choose_encoding(recorded, max_length=max_length, long_documents=long_documents, stride=stride)
        return how.within(max_positions(cast(Any, self).backbone.config))

    @property
    def calibration(self) -> Calibration:
        """The curve that `adapler calibrate` measured of this model; it can be set. ArgumentError if none is stored
        with the model, or one of other weights."""
        if self._calibration is None:
            name, hub = self._source or ("MODEL", {})
            path = file_beside(name, CALIBRATION, **hub) if self._source else None
            if path is None:
                command = f"adapler calibrate --model {name} --task TASK"
                raise ArgumentError(f"no calibration is stored with this model; `{command}` makes one")
            calibration = read_calibration(path)
            if calibration.model_checksum != weights_checksum(self):
                raise ArgumentError(
                    "the stored calibration was measured with other weights than this model has; `adapler calibrate` "
                    "measures it again"
                )
            self._calibration = calibration
        return self._calibration

    @calibration.setter
    def calibration(self, calibration: Calibration) -> None:
        self._calibration = calibration

    def choose_scale(
        self, *, speedup: float | None = None, max_drop: float | None = None, milliseconds: float | None = None
    ) -> Choice:
        """The threshold scale for one target, by the stored calibration, see `Calibration.choose`; printed, it says
        what to expect. ArgumentError for a target outside the measured curve, or no calibration of these weights."""
        return self.calibration.choose(speedup=speedup, max_drop=max_drop, milliseconds=milliseconds)

    def announce_scale(self, *, encoding: Encoding, runs: Any = None, **target: float) -> float:
        """The scale of `choose_scale`; what to expect of it goes to stderr, once for the same target. `runs`: the copy
        that will compute, where that is in another dtype."""
        choice = self.choose_scale(**target)
        machine = choice.other_machine(Machine.of(self if runs is None else runs))
        part = choice.other_reading(reading(encoding))
        notes = tuple(f"note: {note}" for note in (choice, machine, part) if note is not None)
        if notes != self._told:
            self._told = notes
            print(*notes, sep="\n", file=sys.stderr)
        return choice.threshold_scale

    def for_inference(self, *, dtype: str = "auto") -> Self:
        """A copy in evaluation mode with its layers in another dtype; this model is unchanged.

        Embeddings, Contribution Predictors, eta and the classification head stay in float32 and are shared, not copied;
        so do, on a CPU, the layers' norms, and the states between layers are then in float32.
        Call it again when the weights have changed. Its `backbone` cannot be called on its own in bfloat16.

        Args:
            dtype: "float32", "bfloat16", or "auto": bfloat16 where the model's device computes it in hardware.
        """
        return inference_copy(self, dtype=dtype)

    def predict(
        self,
        texts: Iterable[str] | Iterable[tuple[str, str]],
        *,
        tokenizer: Any,
        removal: str = "hard",
        threshold_scale: float | None = None,
        speedup: float | None = None,
        max_drop: float | None = None,
        milliseconds: float | None = None,
        max_length: int | None = None,
        long_documents: str | None = None,
        stride: int | None = None,
        token_budget: int | None = None,
        progress: str | None = None,
        dtype: str | None = None,
    ) -> list[Prediction]:
        """Classify texts or sentence pairs in evaluation mode, in batches by length, results in their order.

        Args:
            texts: in a list, an array, a column of a table or a generator.
            tokenizer: the model's; `transformers.AutoTokenizer.from_pretrained` on the same folder.
            threshold_scale: factor on every threshold (default 1); removal="none" drops nothing.
            speedup, max_drop, milliseconds: a target instead of a threshold_scale, see choose_scale; what to expect is
                printed to stderr when it differs from the last call's.
            max_length, long_documents, stride: see `encoding`; default: as in training.
            token_budget: padded tokens of a batch.
            progress: title of a progress bar.
            dtype: see for_inference; default: the model as it is. For many calls, call `for_inference` once instead.

        Raises:
            ArgumentError: an empty text, a wrong option, or a target that cannot be met; nothing is predicted then.
            DataError: a pair whose first text leaves no room for windows.
        """
        targets = {"speedup": speedup, "max_drop": max_drop, "milliseconds": milliseconds}
        target = check_removal(removal, threshold_scale, **targets)
        first, seconds = _columns_of(texts)
        model = self if dtype is None else self.for_inference(dtype=dtype)
        encoding = self.encoding(max_length=max_length, long_documents=long_documents, stride=stride)
        scale = 1.0 if threshold_scale is None else threshold_scale
        if target is not None:
            scale = self.announce_scale(runs=model, encoding=encoding, **dict([target]))
        if not first:
            return []
        encoded = encode(first, tokenizer, seconds=seconds, **encoding.arguments)
        if blank := encoded.blank():
            raise ArgumentError(f"texts: [{blank[0]}] gives no wordpieces, as an empty one")
        options: dict[str, Any] = {"token_budget": token_budget, "progress": progress}
        options |= {"removal": removal, "threshold_scale": scale, "pad_token_id": padding_of(tokenizer)}
        depths: list[list[int]] = []
        found = predict_rows(model, encoded.rows, depths=depths, **options)
        return predictions(model, tokenizer, encoded, found, removal=removal, depths=depths)


def check_removal(removal: str, threshold_scale: float | None, **targets: float | None) -> tuple[str, float] | None:
    """The one target that is given, by name; ArgumentError for a removal that `predict` does not have, or options that
    contradict each other."""
    if removal not in ("hard", "none"):
        raise ArgumentError(f"removal: {removal!r} is not 'hard' or 'none'")
    target = one_target(**targets) if any(value is not None for value in targets.values()) else None
    if target is not None and threshold_scale is not None:
        raise ArgumentError(f"{target[0]} and threshold_scale: only one of them can be given")
    name = target[0] if target else None if threshold_scale is None else "threshold_scale"
    if removal == "none" and name is not None:
        raise ArgumentError(f"{name}: removal='none' drops no tokens")
    return target


def padding_of(tokenizer: Any) -> int:
    """The id of its padding token; ArgumentError without one."""
    if tokenizer.pad_token_id is None:
        raise ArgumentError("tokenizer: has no padding token; `tokenizer.pad_token = ...` names one")
    return int(tokenizer.pad_token_id)


# ---- copies in another dtype, and what tells one model from another


def weights_checksum(model: Any) -> str:
    """sha256 over a model's weights: names, shapes and values; of another policy than AdapLeR's, its name and numbers.

    How weights are stored does not count, nor theta, which has no effect at inference. The backbone's are rounded to
    bfloat16 first, so that the same model in bfloat16 has the same checksum.
    """
    digest = hashlib.sha256()
    policy, options = (getattr(model.config, name, None) for name in ("policy", "policy_options"))
    if options or policy not in (None, "adapler"):
        digest.update(json.dumps([policy, options], sort_keys=True).encode())
    for name, parameter in model.named_parameters():
        if name != "theta":
            dtype = torch.bfloat16 if name.startswith("backbone.") else torch.float32
            values = parameter.detach().to(dtype).cpu().contiguous()
            digest.update(f"{name} {tuple(values.shape)}\n".encode())
            digest.update(values.view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


@torch.inference_mode(False)
def inference_copy(model: Any, *, dtype: str) -> Any:
    """See Predicts.for_inference; of a plain classifier of a supported family, the same.

    On a CPU the norms, and so the states between layers, stay in float32: half of the error is gone, and with
    AVX512-BF16 a layer takes as long. A GPU's kernel for norms wants its input in the dtype of its weights.
    """
    chosen = getattr(torch, choose_dtype(dtype, model.device))
    layers = view(getattr(model, "backbone", model)).layers
    mixed = chosen in HALF and model.device.type == "cpu"
    parts = [part for part in layers.modules() if isinstance(part, nn.Linear)] if mixed else layers
    shared = {id(tensor): tensor.detach() for tensor in model.buffers()}
    for parameter in model.parameters():
        shared[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
    for parameter in (one for part in parts for one in part.parameters()):
        if parameter.dtype != chosen:
            shared[id(parameter)] = nn.Parameter(parameter.detach().to(chosen), requires_grad=False)
    with torch.no_grad():
        made = copy.deepcopy(model, shared).eval()
    end_autocast(made)
    return made


def end_autocast(model: nn.Module) -> None:
    """Take the autocast away, in place, that accelerate leaves around the forward pass of a model that it trained."""
    for name in ("forward", "_original_forward"):
        vars(model).pop(name, None)


class InferenceClassifier(nn.Module):
    """A plain classifier's inference copy: real tokens packed, layers in another dtype (see `inference_copy`). The
    classifier, of a supported family (`adapler.backbones`), stays as it is.

    AdapLeR's `for_inference` with `removal="none"` computes the same.
    """

    def __init__(self, classifier: PreTrainedModel, *, dtype: str) -> None:
        super().__init__()
        self.classifier = ready(inference_copy(classifier, dtype=dtype))
        self.config = self.classifier.config
        self.eval()

    @property
    def device(self) -> torch.device:
        return self.classifier.device

    def forward(self, **batch: Tensor) -> SequenceClassifierOutput:
        """Logits (B, C) in float32 of a padded batch: input_ids (B, N), attention_mask, token_type_ids."""
        return SequenceClassifierOutput(logits=plain_pass(self.classifier, batch))
