"""From encoded rows to batches: which rows stand together, and how they are padded.

Dimensions: B batch, N longest row of the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Sampler, SequentialSampler
from transformers import PreTrainedTokenizerBase


class PaddingCollator:
    """Pads the rows of a batch on the right.

    Rows have input_ids, attention_mask, perhaps token_type_ids, labels and saliency; other columns are left out.
    The batch has the first three as (B, N), labels as (B,), and saliency as (B, N) with zeros at padding, or as
    (B, L, N) where the rows have it for each of L layers.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer

    def __call__(self, rows: list[Mapping[str, Any]]) -> dict[str, Tensor]:
        names = ("input_ids", "attention_mask", "token_type_ids")
        batch = dict(
            self.tokenizer.pad(
                [{name: row[name] for name in names if name in row} for row in rows],
                padding_side="right",
                return_tensors="pt",
            )
        )
        if "labels" in rows[0]:
            batch["labels"] = torch.tensor([row["labels"] for row in rows])
        if "saliency" in rows[0]:
            targets = [torch.as_tensor(row["saliency"]) for row in rows]  # (n,) or (L, n) each
            saliency = torch.zeros(len(rows), *targets[0].shape[:-1], batch["input_ids"].shape[1])
            for index, target in enumerate(targets):
                saliency[index, ..., : target.shape[-1]] = target
            batch["saliency"] = saliency
        return batch


POOL = 50  # batches that are drawn together and then sorted by length


class LengthSampler(Sampler[int]):
    """Rows in a random order in which the rows of a batch are about equally long, so that there is little to pad.

    Fifty batches are drawn at random and sorted by length; then all batches are shuffled. The order depends on the seed
    and the epoch alone, so a training that was stopped within an epoch goes on exactly where it was.
    """

    def __init__(self, lengths: Sequence[int], *, batch_size: int, seed: int) -> None:
        super().__init__()
        self.lengths, self.batch_size, self.seed, self.epoch = torch.tensor(lengths), batch_size, seed, 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer when an epoch begins."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed((self.seed << 20) + self.epoch)
        rows, pool = torch.randperm(len(self), generator=generator), POOL * self.batch_size
        for start in range(0, len(rows), pool):
            drawn = rows[start : start + pool].clone()
            rows[start : start + pool] = drawn[self.lengths[drawn].argsort(descending=True, stable=True)]
        full = len(rows) // self.batch_size
        for batch in torch.randperm(full, generator=generator).tolist():
            yield from rows[batch * self.batch_size : (batch + 1) * self.batch_size].tolist()
        yield from rows[full * self.batch_size :].tolist()  # a last batch that is not full stays the last


class SamplesByLength:
    """For a Trainer: `train_sampling_strategy="group_by_length"` with LengthSampler.

    transformers' own sampler draws from the global generator, so a run that was stopped within an epoch would go on in
    another order, and it shuffles the evaluation set too, whose predictions must stay in the order of their rows.
    """

    args: Any
    train_dataset: Any

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        rows = self.train_dataset if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)  # type: ignore[misc]
        batch_size = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        lengths = [len(ids) for ids in rows["input_ids"]]
        return LengthSampler(lengths, batch_size=batch_size, seed=self.args.seed)

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_eval_sampler(eval_dataset)  # type: ignore[misc]
        return SequentialSampler(eval_dataset) if self.args.world_size <= 1 else None
