"""How `adapler predict` classifies: which part of a long text is read, and the results of some rows at a time."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from adapler.cli.budget import scale_of
from adapler.data.texts import TextRow
from adapler.errors import ArgumentError, CheckpointError, DataError
from adapler.training.settings import Execution

__all__ = ["POLICIES", "Classifier", "Encoding", "encoding_of"]

POLICIES = ("truncate", "last", "windows")
PROGRESS_ROWS = 64  # fewer are done before a progress bar is seen


@dataclass(frozen=True)
class Encoding:
    """How texts become inputs, and where that comes from."""

    max_length: int | None = None
    long_documents: str = "truncate"
    stride: int | None = None
    note: str = ""


def encoding_of(args: argparse.Namespace) -> Encoding:
    """The options, or what run.json beside the model says of its training."""
    recorded = _recorded(Path(args.model) / "run.json")
    how = recorded or Encoding()
    policy = args.long_documents or how.long_documents
    if args.stride is not None and (args.stride < 0 or policy != "windows"):
        raise ArgumentError(f"--stride: {args.stride} must be at least 0, and --long-documents windows")
    changed = args.max_length is not None or policy != how.long_documents
    chosen = Encoding(
        max_length=how.max_length if args.max_length is None else args.max_length,
        long_documents=policy,
        stride=args.stride if args.stride is not None else None if changed else how.stride,
    )
    length = "the model's longest input" if chosen.max_length is None else f"max_length {chosen.max_length}"
    because = "as in training (run.json)" if recorded is not None else "no run.json beside the model says more"
    if changed or args.stride is not None:
        because = "as asked for"
    return replace(chosen, note=f"{length}, longer texts: {chosen.long_documents}; {because}")


def _recorded(path: Path) -> Encoding | None:
    """The `encoding` of a run.json; None where there is none. Raises CheckpointError for one that is damaged."""
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read ({' '.join(str(error).split()):.100})") from error
    encoding = record.get("encoding") if isinstance(record, dict) else None
    if encoding is None:
        return None
    length, policy, stride = (
        (encoding.get(name) for name in ("max_length", "long_documents", "stride"))
        if isinstance(encoding, dict)
        else (None, None, None)
    )
    good = type(length) is int and policy in POLICIES and (stride is None or type(stride) is int)
    if not good:
        raise CheckpointError(
            f"{path}: 'encoding' must have max_length (a whole number), long_documents ({', '.join(POLICIES)}) and "
            f"stride (a whole number or null), found {repr(encoding)[:80]}"
        )
    return Encoding(max_length=length, long_documents=str(policy), stride=stride)


class Classifier:
    """A model and its tokenizer; the results of a shard are those of `Prediction`, as plain values."""

    def __init__(self, model: Any, tokenizer: Any, args: argparse.Namespace, encoding: Encoding) -> None:
        self.model, self.tokenizer, self.encoding = model, tokenizer, encoding
        self.execution = Execution(device=args.device, precision=args.precision)
        self.options = {"removal": args.removal, "threshold_scale": scale_of(model, args, self.execution)}
        self.labels = [str(model.config.id2label[index]) for index in range(model.config.num_labels)]
        if encoding.long_documents == "last":
            tokenizer.truncation_side = "left"

    @classmethod
    def load(cls, args: argparse.Namespace, encoding: Encoding) -> Classifier:
        from adapler import AdapLeRForSequenceClassification
        from adapler.data.encoding import load_tokenizer
        from adapler.distributed import device

        model = AdapLeRForSequenceClassification.from_pretrained(args.model).to(device(args.device))
        return cls(model, load_tokenizer(args.model, words=False), args, encoding)

    def classify(
        self, shard: list[TextRow], *, failed: Callable[[TextRow], None]
    ) -> tuple[list[TextRow], list[dict[str, Any] | None]]:
        """The rows, and the result of each: None for a bad row.

        A row that turns out to be bad here gets an `error`, and `failed` is called with it.
        """
        from adapler.training.stages.evaluate import autocast

        with autocast(self.model, self.execution):
            return self._classify(shard, failed=failed)

    def _classify(
        self, shard: list[TextRow], *, failed: Callable[[TextRow], None]
    ) -> tuple[list[TextRow], list[dict[str, Any] | None]]:
        good = [place for place, row in enumerate(shard) if row.error is None]
        found: list[dict[str, Any] | None] = [None] * len(shard)
        if not good:
            return shard, found
        texts = [shard[place].text for place in good]
        if self.encoding.long_documents != "windows":
            for place, prediction in zip(good, self._whole(texts), strict=True):
                found[place] = asdict(prediction) | {"windows": 1}
            return shard, found
        shard = list(shard)
        try:
            for place, result in zip(good, self._windows(texts), strict=True):
                found[place] = result
        except DataError:  # a pair that leaves no room for windows: only its own row suffers
            for place in good:
                try:
                    (found[place],) = self._windows([shard[place].text])
                except DataError as error:
                    shard[place] = replace(shard[place], error=str(error).partition(": ")[2])
                    failed(shard[place])
        return shard, found

    def _whole(self, texts: list[Any]) -> list[Any]:
        predictions: list[Any] = self.model.predict(
            texts,
            tokenizer=self.tokenizer,
            max_length=self.encoding.max_length,
            progress="predict" if len(texts) > PROGRESS_ROWS else None,
            **self.options,
        )
        return predictions

    def _windows(self, texts: list[Any]) -> list[dict[str, Any]]:
        """As `evaluate` does it: logits are the mean over the windows. Lengths are sums over the windows."""
        from datasets import Dataset

        from adapler.backbones.families import max_positions
        from adapler.data.encoding import encode
        from adapler.inference.evaluation import by_example
        from adapler.inference.predict import predict_rows
        from adapler.model.flops import adapler_flops, backbone_flops

        names = ("text_a", "text_b") if isinstance(texts[0], tuple) else ("text_a",)
        columns = zip(*texts, strict=True) if len(names) == 2 else [texts]
        ids = [str(number) for number in range(len(texts))]
        data = Dataset.from_dict({"id": ids, **dict(zip(names, map(list, columns), strict=True))})
        encoded = encode(
            data,
            self.tokenizer,
            columns=names,
            max_length=self.encoding.max_length or max_positions(self.model.backbone.config),
            policy="windows",
            stride=self.encoding.stride,
        )
        predictions = predict_rows(
            self.model,
            encoded.to_list(),
            pad_token_id=self.tokenizer.pad_token_id,
            progress="predict" if len(texts) > PROGRESS_ROWS else None,
            **self.options,
        )
        lengths_in, lengths = predictions.lengths_in, predictions.lengths  # (W,), (W, L)
        _, logits = by_example(predictions.logits, encoded["example_id"][:])  # (texts, C)
        plain = backbone_flops(self.model.config, lengths_in).double()
        spent = adapler_flops(self.model.config, lengths_in, lengths).double()
        results: list[dict[str, Any]] = [{"windows": 0, "lengths": [0] * lengths.shape[1]} for _ in texts]
        flops = [[0.0, 0.0] for _ in texts]
        for window, owner in enumerate(map(int, encoded["example_id"])):
            result = results[owner]
            result["windows"] += 1
            result["lengths"] = [a + b for a, b in zip(result["lengths"], lengths[window].tolist(), strict=True)]
            flops[owner] = [flops[owner][0] + float(plain[window]), flops[owner][1] + float(spent[window])]
        for owner, probabilities in enumerate(logits.softmax(-1).tolist()):
            best = max(range(len(probabilities)), key=probabilities.__getitem__)
            results[owner] |= {
                "label": self.labels[best],
                "score": probabilities[best],
                "probabilities": dict(zip(self.labels, probabilities, strict=True)),
                "speedup": flops[owner][0] / flops[owner][1] if self.options["removal"] == "hard" else 1.0,
            }
        return results
