"""A model over the texts of a shard. What it computes depends on the shard alone.

The last digits of a matrix product depend on the rows that stand beside it, and on the number of threads that share
it. So the batches of a shard are a function of its texts, and each batch is computed by one thread; several threads
compute several batches. Then the same shard gives the same bits in any process, beside any other shard, on any number
of cores of the same kind. (On a GPU some sums have no fixed order, see `AdapLeRForSequenceClassification.forward`.)

Dimensions: n texts, W inputs (more than n with windows), L layers, C labels.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from adapler.backbones import label_names, max_positions
from adapler.bulk.job import Job
from adapler.data.text_formats import RAW, gives_wordpieces
from adapler.data.texts import TextRow
from adapler.distributed import device
from adapler.errors import DataError
from adapler.model.batching import batches_by_length, pad_rows
from adapler.model.prediction import EncodedTexts, encode_texts
from adapler.modeling import AdapLeRForSequenceClassification
from adapler.outputs import of_texts
from adapler.precision import choose_dtype, describe_dtype
from adapler.text import load_tokenizer

__all__ = ["Classifier", "Results"]

BATCH_TOKENS = 4096  # padded tokens of a batch, for each thread; another value changes the last digits of results


@dataclass(frozen=True)
class Results:
    """What the model says of the good rows of a shard, in their order.

    Attributes:
        places: where each of them stands in the shard.
        probabilities: (n, C), as lists, like all that follows.
        speedup: FLOPs of the backbone divided by AdapLeR's.
        length: wordpieces of the input; the sum over its windows.
        lengths: (n, L) wordpieces that enter each layer; sums over the windows.
        windows: how many.
        unread: of how many rows nothing but [CLS] entered the first layer, in any window.
        tokens, layers: wordpieces, and how many layers each entered; None where they were not asked for.
    """

    places: list[int]
    probabilities: list[list[float]]
    speedup: list[float]
    length: list[int]
    lengths: list[list[int]]
    windows: list[int]
    unread: int
    tokens: list[list[str]] | None = None
    layers: list[list[int]] | None = None


_Batch = tuple[Tensor, Tensor, list[list[int]] | None]


class Classifier:
    """A model and its tokenizer.

    Attributes:
        labels: the names of the labels.
        device, dtype: where and in what it computes.
        notes: what is to be said of that.
    """

    def __init__(self, job: Job, *, threads: int, place: str | None = None) -> None:
        """Load a model.

        Args:
            job: what is to be computed.
            threads: batches at the same time; 1 on a GPU.
            place: another device than the job's, of the same kind.

        Raises:
            CheckpointError, ArgumentError: a model that cannot be loaded, a device or a length that it does not have.
        """
        self.job = job
        where = device(place or job.device)
        loaded = AdapLeRForSequenceClassification.from_pretrained(job.model).to(where)
        self.model = loaded.for_inference(dtype=job.dtype)
        self.tokenizer = load_tokenizer(job.model, words=False)
        job.encoding.length_within(max_positions(self.model.backbone.config))  # said before any row is read
        self.labels = label_names(self.model.config)
        self.device, self.dtype = where.type, choose_dtype(job.dtype, where)
        self.notes = (describe_dtype(job.dtype, where),)
        self._threads_before = torch.get_num_threads()
        on_cpu = where.type == "cpu"
        self._pool = ThreadPoolExecutor(
            threads if on_cpu else 1, initializer=_one_thread if on_cpu else None, thread_name_prefix="batch"
        )

    def close(self) -> None:
        """Ends the threads, without waiting for batches that have not begun."""
        self._pool.shutdown(cancel_futures=True)
        torch.set_num_threads(self._threads_before)

    def start(self, shard: list[TextRow]) -> Callable[[], tuple[list[TextRow], Results]]:
        """Begins the work on a shard; calling what it returns waits for the end.

        A row that turns out to be bad here comes back with an `error`.
        """
        shard = [self._checked(row) for row in shard]
        places = [place for place, row in enumerate(shard) if row.error is None]
        texts = [shard[place].text for place in places]
        try:
            inputs = self._encoded(texts)
        except DataError:  # a pair that leaves no room for windows: only its own row suffers
            for place, text in zip(places, texts, strict=True):
                try:
                    self._encoded([text])
                except DataError as error:
                    shard[place] = replace(shard[place], error=str(error).partition(": ")[2], raw=_raw(text))
            places = [place for place in places if shard[place].error is None]
            inputs = self._encoded([shard[place].text for place in places])
        lengths = [len(row["input_ids"]) for row in inputs.rows]
        batches = list(batches_by_length(lengths, token_budget=BATCH_TOKENS))
        work = [self._pool.submit(self._forward, [inputs.rows[row] for row in batch]) for batch in batches]
        return lambda: (shard, self._gathered(places, inputs, batches, work))

    def _checked(self, row: TextRow) -> TextRow:
        """The row, which is bad when the tokenizer sees nothing in one of its texts."""
        texts = row.text if isinstance(row.text, tuple) else () if row.text is None else (row.text,)
        if row.error is not None or all(gives_wordpieces(text, self.tokenizer) for text in texts):
            return row
        return replace(row, error="blank: the text gives no wordpieces", raw=_raw(row.text))

    def _encoded(self, texts: Sequence[Any]) -> EncodedTexts:
        if not texts:
            return EncodedTexts([], None)
        columns = list(zip(*texts, strict=True)) if isinstance(texts[0], tuple) else [texts]
        return encode_texts(columns, self.tokenizer, self.job.encoding, config=self.model.backbone.config)

    @torch.inference_mode()
    def _forward(self, rows: list[dict[str, Any]]) -> _Batch:
        """Logits (B, C), lengths (B, L), and where asked for the layers that each token entered."""
        inputs = pad_rows(rows, pad_token_id=self.tokenizer.pad_token_id, device=self.model.device)
        how = {"removal": self.job.removal, "threshold_scale": self.job.threshold_scale}
        output = self.model(**inputs, **how, return_dict=True)
        depth = None
        if "layers" in self.job.columns:
            counts = output.retention_mask.sum(1).tolist()  # (B, N)
            depth = [one[: len(row["input_ids"])] for one, row in zip(counts, rows, strict=True)]
        return output.logits.float().cpu(), output.lengths.cpu(), depth

    @torch.inference_mode()
    def _gathered(
        self, places: list[int], inputs: EncodedTexts, batches: list[list[int]], work: list[Future[_Batch]]
    ) -> Results:
        """The batches' outputs in the order of the texts; of windows, mean logits and sums of all else."""
        if not inputs.rows:
            return Results([], [], [], [], [], [], 0)
        done = [future.result() for future in work]
        order = torch.tensor([row for batch in batches for row in batch]).argsort()
        found = of_texts(
            self.model.config,
            torch.cat([batch[0] for batch in done])[order],
            torch.cat([batch[1] for batch in done])[order],
            lengths_in=torch.tensor([len(row["input_ids"]) for row in inputs.rows]),
            owners=inputs.owners,
            removal=self.job.removal,
        )
        tokens = layers = None
        if "tokens" in self.job.columns:
            tokens = _joined([self.tokenizer.convert_ids_to_tokens(row["input_ids"]) for row in inputs.rows], inputs)
        if "layers" in self.job.columns:
            depths = [depth for batch in done for depth in batch[2] or ()]
            layers = _joined([depths[place] for place in order.tolist()], inputs)
        return Results(
            places=places,
            probabilities=found.probabilities.tolist(),
            speedup=found.speedup.tolist(),
            length=found.lengths_in.tolist(),
            lengths=found.lengths.tolist(),
            windows=found.windows.tolist(),
            unread=int((found.lengths[:, 0] == found.windows).sum()),  # [CLS] of each window
            tokens=tokens,
            layers=layers,
        )


def _raw(text: str | tuple[str, str] | None) -> str:
    """What the side file holds of a text that the model cannot read: itself, or a pair as JSON."""
    return (text if isinstance(text, str) else json.dumps(text, ensure_ascii=False))[:RAW]


def _joined(values: list[list[Any]], inputs: EncodedTexts) -> list[list[Any]]:
    """What is said of each input, one list for each text: its windows follow each other, overlaps included."""
    if inputs.owners is None:
        return values
    found: list[list[Any]] = [[] for _ in range(max(inputs.owners) + 1)]
    for owner, value in zip(inputs.owners, values, strict=True):
        found[owner].extend(value)
    return found


def _one_thread() -> None:
    """In each thread of the pool: its operations are not divided any further."""
    torch.set_num_threads(1)
