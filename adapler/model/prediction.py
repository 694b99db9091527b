"""Texts in, labels out: what `AdapLeRForSequenceClassification.predict` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

import torch
from tqdm import tqdm

from adapler.backbones.families import max_positions
from adapler.budgets.curve import one_target, refuse_beside_target
from adapler.errors import ArgumentError
from adapler.model.batching import batches_by_length, pad_rows, token_budget_for
from adapler.model.flops import adapler_flops, backbone_flops
from adapler.model.inference_copy import inference_copy


@dataclass(frozen=True)
class Prediction:
    """What `AdapLeRForSequenceClassification.predict` says of one text.

    Attributes:
        label: the predicted label's name.
        score: its probability.
        probabilities: every label's.
        tokens: wordpieces, special tokens included.
        layers: for each token, the number of layers that it entered (0 = dropped before the first).
        lengths: tokens that enter each layer.
        speedup: FLOPs of the plain backbone divided by AdapLeR's on this text.
    """

    label: str
    score: float
    probabilities: dict[str, float]
    tokens: tuple[str, ...]
    layers: tuple[int, ...]
    lengths: tuple[int, ...]
    speedup: float


def _columns_of(texts: Sequence[Any]) -> list[list[str]]:
    """Strings as one column, pairs of strings as two; ArgumentError for anything else."""
    if isinstance(texts, str):
        raise ArgumentError("texts: one string; give a list of strings or of pairs")
    rows = [(text,) if isinstance(text, str) else text for text in texts]
    for number, row in enumerate(rows):
        name = f"texts: number {number} (counted from 0)"
        if not isinstance(row, tuple | list) or len(row) not in (1, 2) or any(not isinstance(x, str) for x in row):
            raise ArgumentError(f"{name} is neither a string nor a pair of strings")
        if len(row) != len(rows[0]):
            raise ArgumentError(f"{name} differs in kind from number 0; give strings only or pairs only")
        if any(not part.strip() for part in row):
            raise ArgumentError(f"{name} is empty or white space")
    return [list(column) for column in zip(*rows, strict=True)]


@torch.inference_mode()
def predict_texts(
    model: Any,
    texts: Sequence[Any],
    *,
    tokenizer: Any,
    removal: str = "hard",
    threshold_scale: float = 1.0,
    max_length: int | None = None,
    token_budget: int | None = None,
    progress: str | None = None,
) -> list[Prediction]:
    """See AdapLeRForSequenceClassification.predict."""
    columns = _columns_of(texts)
    limit = max_positions(model.backbone.config)
    if max_length is not None and not 3 <= max_length <= limit:
        raise ArgumentError(f"max_length: {max_length} is not between 3 and the model's {limit}")
    if not texts:
        return []
    encoded = tokenizer(*columns, truncation=True, max_length=max_length or limit)
    rows = [{name: encoded[name][i] for name in encoded} for i in range(len(texts))]
    budget = token_budget_for(model.device) if token_budget is None else token_budget
    names = model.config.id2label
    results: list[Prediction | None] = [None] * len(texts)
    with tqdm(total=len(texts), desc=progress, disable=progress is None, unit="text") as bar:
        for batch in batches_by_length([len(row["input_ids"]) for row in rows], token_budget=budget):
            inputs = pad_rows([rows[row] for row in batch], pad_token_id=tokenizer.pad_token_id, device=model.device)
            output = model(**inputs, removal=removal, threshold_scale=threshold_scale)
            # Each of these is one transfer for the whole batch.
            probabilities = output.logits.float().softmax(-1).tolist()
            depth, lengths = output.retention_mask.sum(1).tolist(), output.lengths.cpu()
            lengths_in = torch.tensor([len(rows[row]["input_ids"]) for row in batch])
            flops = backbone_flops(model.config, lengths_in)
            if removal == "hard":
                gains = (flops / adapler_flops(model.config, lengths_in, lengths)).tolist()
            else:
                gains = [1.0] * len(batch)
            for i, (row, left) in enumerate(zip(batch, lengths.tolist(), strict=True)):
                ids, shares = rows[row]["input_ids"], probabilities[i]
                best = max(range(len(shares)), key=shares.__getitem__)
                results[row] = Prediction(
                    label=names[best],
                    score=shares[best],
                    probabilities={names[c]: share for c, share in enumerate(shares)},
                    tokens=tuple(tokenizer.convert_ids_to_tokens(ids)),
                    layers=tuple(depth[i][: len(ids)]),
                    lengths=tuple(left),
                    speedup=gains[i],
                )
            bar.update(len(batch))
    return [result for result in results if result is not None]


class Predicts:
    """A base class of AdapLeRForSequenceClassification: from texts to labels, in evaluation mode."""

    training: bool
    eval: Callable[[], Any]
    train: Callable[[bool], Any]
    announce_scale: Callable[..., float]

    def for_inference(self, *, dtype: str = "auto") -> Self:
        """A model in evaluation mode whose layers are in another number format; this one stays as it is.

        Embeddings, Contribution Predictors, eta and the classification head stay in float32 and are shared, not copied.
        Make it anew when the weights have changed. Its `backbone` cannot be called on its own in bfloat16.

        Args:
            dtype: "float32", "bfloat16", or "auto": bfloat16 where the model's device computes it in hardware.

        Raises:
            ArgumentError: another dtype.
        """
        return cast(Self, inference_copy(self, dtype=dtype))

    def predict(
        self,
        texts: Sequence[str] | Sequence[tuple[str, str]],
        *,
        tokenizer: Any,
        speedup: float | None = None,
        max_drop: float | None = None,
        milliseconds: float | None = None,
        **options: Any,
    ) -> list[Prediction]:
        """Classify texts or sentence pairs in evaluation mode, in batches by length, results in their order.

        Args:
            texts: strings, or pairs of strings.
            tokenizer: the model's; `transformers.AutoTokenizer.from_pretrained` on the same folder.
            speedup, max_drop, milliseconds: a target instead of a threshold_scale, see choose_scale; what is to be
                expected is printed to stderr when it differs from the last call's.
            options: removal ("hard" or "none"), threshold_scale, max_length (wordpieces; longer texts are
                truncated; default the model's limit), token_budget, progress (title of a progress bar), dtype (as of
                for_inference; default: the model as it is. For many calls, call `for_inference` once instead).

        Raises:
            ArgumentError: an empty text, a wrong option, or a target that cannot be met; nothing is predicted then.
        """
        target = one_target(speedup=speedup, max_drop=max_drop, milliseconds=milliseconds)
        if target is not None:
            refuse_beside_target(target[0], options)
            options["threshold_scale"] = self.announce_scale(**dict([target]))
        if options.get("removal", "hard") not in ("hard", "none"):
            raise ArgumentError(f"removal: {options['removal']!r} is not 'hard' or 'none'")
        dtype = options.pop("dtype", None)
        if dtype is not None:
            return self.for_inference(dtype=dtype).predict(texts, tokenizer=tokenizer, **options)
        training = self.training
        self.eval()
        try:
            return predict_texts(self, texts, tokenizer=tokenizer, **options)
        finally:
            self.train(training)
