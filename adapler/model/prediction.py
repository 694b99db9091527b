"""Texts in, labels out: what `AdapLeRForSequenceClassification.predict` does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import nn
from tqdm import tqdm

from adapler.backbones import label_names, max_positions
from adapler.backbones.decomposition import evaluating
from adapler.budgets.curve import one_target, refuse_beside_target
from adapler.data.text_formats import gives_wordpieces, is_text
from adapler.eraser import excerpt
from adapler.errors import ArgumentError
from adapler.files import replacing
from adapler.model.batching import batches_by_length, pad_rows, token_budget_for
from adapler.model.inference_copy import inference_copy
from adapler.outputs import of_texts
from adapler.text import RUN, Encoding, choose_encoding, encode, read_run, recorded_encoding

OF_PREDICT = (
    *("removal", "threshold_scale", "max_length", "long_documents", "stride"),
    *("token_budget", "progress", "dtype"),
)


def check_predict_options(options: dict[str, Any]) -> None:
    """Raises ArgumentError for an option that `predict` does not have, or whose value needs no model to be refused."""
    for name in options:
        if name not in OF_PREDICT:
            raise ArgumentError(f"{name}: not an option of predict, which has {', '.join(OF_PREDICT)}")
    if options.get("removal", "hard") not in ("hard", "none"):
        raise ArgumentError(f"removal: {options['removal']!r} is not 'hard' or 'none'")
    if "threshold_scale" in options and options.get("removal") == "none":
        raise ArgumentError("threshold_scale: removal='none' drops no tokens")
    if not isinstance(options.get("progress"), str | None):
        raise ArgumentError(f"progress: {options['progress']!r} is not a title for the progress bar, or None")


@dataclass(frozen=True)
class Prediction:
    """What `AdapLeRForSequenceClassification.predict` says of one text.

    Attributes:
        label: the predicted label's name.
        score: its probability.
        probabilities: every label's.
        tokens: wordpieces, special tokens included; of several windows, one window's after the other's.
        layers: for each token, the number of layers that it entered (0 = dropped before the first).
        lengths: tokens that enter each layer, the sum over windows.
        speedup: FLOPs of the plain backbone divided by AdapLeR's on this text.
        windows: inputs that the text was read in; the probabilities are those of their mean logits.
    """

    label: str
    score: float
    probabilities: dict[str, float]
    tokens: tuple[str, ...]
    layers: tuple[int, ...]
    lengths: tuple[int, ...]
    speedup: float
    windows: int = 1


def _listed(texts: Any) -> list[Any]:
    """The texts as a list, whatever holds them: a list, an array, a column of a table, a generator."""
    if hasattr(texts, "tolist"):  # of NumPy and pandas; pairs become lists
        texts = texts.tolist()
    if isinstance(texts, str):
        raise ArgumentError("texts: one string; give a list of strings or of pairs")
    # To go through a mapping or a table gives its keys, which are no texts.
    if hasattr(texts, "keys") or not isinstance(texts, Iterable):
        raise ArgumentError(f"texts: found {type(texts).__name__}; give a list of strings or of pairs")
    return list(texts)


def _columns_of(texts: Sequence[Any]) -> list[list[str]]:
    """Strings as one column, pairs of strings as two; ArgumentError for anything else."""
    rows = [(text,) if isinstance(text, str) else text for text in texts]
    for number, row in enumerate(rows):
        name = f"texts: number {number} (counted from 0)"
        if not isinstance(row, tuple | list) or len(row) not in (1, 2) or any(not isinstance(x, str) for x in row):
            raise ArgumentError(f"{name} is neither a string nor a pair of strings, but {excerpt(row)}")
        if len(row) != len(rows[0]):
            raise ArgumentError(f"{name} differs in kind from number 0; give strings only or pairs only")
        if any(not part.strip() for part in row):
            raise ArgumentError(f"{name} is empty or white space")
        if not all(map(is_text, row)):
            raise ArgumentError(f"{name} holds half of a surrogate pair, which is not text")
    return [list(column) for column in zip(*rows, strict=True)]


@dataclass(frozen=True)
class EncodedTexts:
    """Inputs of a model, and the text that each of them is a window of; owners None: each text is one input."""

    rows: list[dict[str, Any]]
    owners: list[int] | None


def encode_texts(columns: Sequence[Sequence[str]], tokenizer: Any, encoding: Encoding, *, config: Any) -> EncodedTexts:
    """Token ids of texts, or of pairs; what is too long is cut, or becomes several windows.

    Args:
        columns: the texts; of pairs, the first ones and the second ones.
        tokenizer: a fast one, left as it was.
        encoding: how, see `adapler.text`.
        config: the backbone's.

    Raises:
        ArgumentError: a length that the model does not have, no tokenizer, or one of another model or without padding.
        DataError: a pair that leaves no room for windows.
    """
    length = encoding.length_within(max_positions(config))
    if getattr(tokenizer, "pad_token_id", 0) is None:
        raise ArgumentError("tokenizer: has no padding token; `tokenizer.pad_token = ...` names one")
    seconds = list(columns[1]) if len(columns) == 2 else None
    strategy, stride = encoding.long_documents, encoding.stride
    encoded = encode(
        list(columns[0]), tokenizer, seconds=seconds, max_length=length, truncation=strategy, stride=stride
    )
    _check_ids(encoded.rows, config)
    return EncodedTexts(encoded.rows, encoded.owners)


def _check_ids(rows: Sequence[dict[str, Any]], config: Any) -> None:
    highest = max((max(row["input_ids"]) for row in rows), default=0)
    if highest >= config.vocab_size:
        raise ArgumentError(
            f"tokenizer: gives the id {highest}, but the model has {config.vocab_size} wordpieces: it is another one's"
        )


@torch.inference_mode()
def predict_texts(
    model: Any,
    texts: Iterable[Any],
    *,
    tokenizer: Any,
    encoding: Encoding | None = None,
    removal: str = "hard",
    threshold_scale: float = 1.0,
    token_budget: int | None = None,
    progress: str | None = None,
) -> list[Prediction]:
    """See AdapLeRForSequenceClassification.predict. Dimensions: n texts, W inputs, C labels, L layers."""
    texts = _listed(texts)
    columns = _columns_of(texts)
    encoding, config, names = encoding or Encoding(), model.backbone.config, label_names(model.config)
    encoding.length_within(max_positions(config))
    if not texts:
        return []
    inputs = encode_texts(columns, tokenizer, encoding, config=config)
    for number, parts in enumerate(zip(*columns, strict=True)):
        if not all(gives_wordpieces(part, tokenizer) for part in parts):
            raise ArgumentError(f"texts: number {number} (counted from 0) gives no wordpieces, as an empty one")
    rows = inputs.rows
    budget = token_budget_for(model.device) if token_budget is None else token_budget
    order: list[int] = []
    logits, lengths = [], []
    depths: list[list[int]] = [[]] * len(rows)  # of each input, how many layers each token entered
    with tqdm(total=len(rows), desc=progress, disable=progress is None, unit="text") as bar:
        for batch in batches_by_length([len(row["input_ids"]) for row in rows], token_budget=budget):
            padded = pad_rows([rows[row] for row in batch], pad_token_id=tokenizer.pad_token_id, device=model.device)
            output = model(**padded, removal=removal, threshold_scale=threshold_scale, return_dict=True)
            # Each of these is one transfer for the whole batch.
            logits.append(output.logits.float().cpu())
            lengths.append(output.lengths.cpu())
            for row, depth in zip(batch, output.retention_mask.sum(1).tolist(), strict=True):
                depths[row] = depth[: len(rows[row]["input_ids"])]
            order += batch
            bar.update(len(batch))
    place = torch.tensor(order).argsort()  # (W,)
    found = of_texts(
        model.config,
        torch.cat(logits)[place],
        torch.cat(lengths)[place],
        lengths_in=torch.tensor([len(row["input_ids"]) for row in rows]),
        owners=inputs.owners,
        removal=removal,
    )
    shares, gains, left = found.probabilities.tolist(), found.speedup.tolist(), found.lengths.tolist()
    results, first = [], 0
    for number, count in enumerate(found.windows.tolist()):
        mine = range(first, first + count)
        first += count
        best = max(range(len(shares[number])), key=shares[number].__getitem__)
        ids = [one for row in mine for one in rows[row]["input_ids"]]
        results.append(
            Prediction(
                label=names[best],
                score=shares[number][best],
                probabilities={names[c]: share for c, share in enumerate(shares[number])},
                tokens=tuple(tokenizer.convert_ids_to_tokens(ids)),
                layers=tuple(depth for row in mine for depth in depths[row]),
                lengths=tuple(left[number]),
                speedup=gains[number],
                windows=count,
            )
        )
    return results


class Predicts:
    """A base class of AdapLeRForSequenceClassification: from texts to labels, in evaluation mode."""

    announce_scale: Callable[..., float]
    _run: tuple[bytes, Encoding | None] | None = None  # run.json beside the weights, and what it says of texts

    def remember_origin(self, name_or_path: str | Path, **arguments: Any) -> None:
        """Read run.json where the model comes from, with the arguments of `from_pretrained`."""
        names = ("subfolder", "revision", "token", "cache_dir", "local_files_only")
        hub = {name: arguments[name] for name in names if name in arguments}
        path, _ = read_run(name_or_path, **hub)
        self._run = None if path is None else (path.read_bytes(), recorded_encoding(name_or_path, **hub))

    def save_origin(self, folder: Path) -> None:
        """Copy run.json of where the model comes from beside a saved model, so that both read the same part of a text.

        Without one, another model's that is there is removed: it says how that one was trained.
        """
        if self._run is None:
            (folder / RUN).unlink(missing_ok=True)
        else:
            with replacing(folder / RUN) as partial:
                partial.write_bytes(self._run[0])

    def encoding(
        self, *, max_length: int | None = None, long_documents: str | None = None, stride: int | None = None
    ) -> Encoding:
        """Which part of a long text this model reads: what is asked for, for the rest what training did (run.json).

        `adapler predict` decides it in the same place, so both read the same. A model that was not loaded from a folder
        or the hub, or has no run.json there, reads the first wordpieces, as many as it has positions.

        Raises:
            ArgumentError: another policy, or a stride that is negative or without windows.
            CheckpointError: run.json is damaged.
        """
        recorded = None if self._run is None else self._run[1]
        return choose_encoding(recorded, max_length=max_length, long_documents=long_documents, stride=stride)

    def for_inference(self, *, dtype: str = "auto") -> Self:
        """A model in evaluation mode whose layers are in another number format; this one stays as it is.

        Embeddings, Contribution Predictors, eta and the classification head stay in float32 and are shared, not copied;
        so do, on a CPU, the layers' norms, and the states between layers are then in float32.
        Make it anew when the weights have changed. Its `backbone` cannot be called on its own in bfloat16.

        Args:
            dtype: "float32", "bfloat16", or "auto": bfloat16 where the model's device computes it in hardware.

        Raises:
            ArgumentError: another dtype.
        """
        return cast(Self, inference_copy(self, dtype=dtype))

    def predict(
        self,
        texts: Iterable[str] | Iterable[tuple[str, str]],
        *,
        tokenizer: Any,
        speedup: float | None = None,
        max_drop: float | None = None,
        milliseconds: float | None = None,
        **options: Any,
    ) -> list[Prediction]:
        """Classify texts or sentence pairs in evaluation mode, in batches by length, results in their order.

        Args:
            texts: strings, or pairs of strings, in a list, an array, a column of a table or a generator.
            tokenizer: the model's; `transformers.AutoTokenizer.from_pretrained` on the same folder.
            speedup, max_drop, milliseconds: a target instead of a threshold_scale, see choose_scale; what is to be
                expected is printed to stderr when it differs from the last call's.
            options: removal ("hard" or "none"), threshold_scale, max_length, long_documents and stride (as of
                `encoding`; default: as in training, by run.json beside the model), token_budget, progress (title of a
                progress bar), dtype (as of for_inference; default: the model as it is. For many calls, call
                `for_inference` once instead).

        Raises:
            ArgumentError: an empty text, a wrong option, or a target that cannot be met; nothing is predicted then.
            CheckpointError: run.json beside the model is damaged.
            DataError: a pair whose first text leaves no room for windows.
        """
        target = one_target(speedup=speedup, max_drop=max_drop, milliseconds=milliseconds)
        if target is not None:
            refuse_beside_target(target[0], options)
        check_predict_options(options)
        dtype = options.pop("dtype", None)
        how = {name: options.pop(name, None) for name in ("max_length", "long_documents", "stride")}
        runs = self if dtype is None else self.for_inference(dtype=dtype)
        encoding = self.encoding(**how)
        if target is not None:
            options["threshold_scale"] = self.announce_scale(runs=runs, encoding=encoding, **dict([target]))
        if runs is not self:
            return runs.predict(texts, tokenizer=tokenizer, **how, **options)
        options["encoding"] = encoding
        with evaluating(cast(nn.Module, self)):
            return predict_texts(self, texts, tokenizer=tokenizer, **options)
