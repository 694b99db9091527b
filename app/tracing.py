"""One text through one model: everything the page shows of it, as plain values.

n tokens that the model reads (special ones and those of a query included), L layers, C labels. A trace with whole
words (`join_words`) has words for tokens, and its n is their number; a special token counts as one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from adapler.backbones.families import max_positions
from adapler.errors import ArgumentError, DataError
from adapler.flops import adapler_flops, backbone_flops, layer_flops, policy_flops
from adapler.passes import check_finite
from adapler.text import encode as encode_texts

ADAPLER = "adapler"  # the policy that all others stand beside
TOKENS = "tokens"
SPECIAL = -1  # the word index of a token that the tokenizer added
QUERY = -2  # that of the query's first word; the second is -3, and so on


@dataclass(frozen=True, eq=False)
class Trace:
    """Fate of each token in each layer.

    Attributes:
        pieces: (n,) tokens as the tokenizer names them.
        surfaces: (n,) the characters of the text that each stands for; "" where it shares them with the one before.
        words: (n,) index of the word a token comes from, SPECIAL for a special token, QUERY and below in a query.
        gold: (n,) bool, its word is in the human rationale.
        unknown: (n,) bool, the vocabulary has nothing for it: the model reads the unknown token in its place.
        scores: (L, n) by which it was decided who enters the layer (contribution scores, or those of another policy),
            0 where the token was dropped before.
        enters: (L, n) bool, the token enters the layer.
        thresholds: (L,) score below which layer l drops a token.
        typed: (n,) bool, a word of the text that is the name of a special token, and is read as that token.
        undecided: layers before which the policy decides nothing: scores and thresholds of them are 0 and say nothing.
        labels: names; probabilities (C,) of them with removal, full_probabilities (C,) without.
        layer_flops: (L,) of each layer with what decides in it; plain_layer_flops is the same layer on the whole text.
        flops, plain_flops: of the whole model with removal and without.
        unread_words: words beyond the model's limit.
        limit: most tokens that the model reads.
        cut_short: whether there is more of the text than that, be it of its last word.
        policy: what has decided, by the name of `adapler.policies`.
        unit: what is counted: TOKENS, or as `app.joining` has made of them.
        tokens: of words and sentences only: the trace that they were joined from.
        groups: of words and sentences only: (n,) the tokens of each, by their index in `tokens`.
    """

    pieces: tuple[str, ...]
    surfaces: tuple[str, ...]
    words: NDArray[np.int64]
    gold: NDArray[np.bool_]
    unknown: NDArray[np.bool_]
    scores: NDArray[np.float64]
    enters: NDArray[np.bool_]
    thresholds: NDArray[np.float64]
    labels: tuple[str, ...]
    probabilities: NDArray[np.float64]
    full_probabilities: NDArray[np.float64]
    layer_flops: NDArray[np.float64]
    plain_layer_flops: float
    flops: float
    plain_flops: float
    unread_words: int
    limit: int
    cut_short: bool = False
    typed: NDArray[np.bool_] | None = None
    undecided: tuple[int, ...] = ()
    policy: str = ADAPLER
    unit: str = TOKENS
    tokens: Trace | None = None
    groups: tuple[tuple[int, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.pieces)

    @property
    def layers(self) -> int:
        return len(self.enters)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(L,) tokens that enter each layer."""
        return np.asarray(self.enters.sum(1))

    @property
    def present(self) -> NDArray[np.int64]:
        """(L,) the n of 1/n: tokens of which some are dropped before each layer, those that entered the one before."""
        return np.concatenate([[len(self)], self.lengths[:-1]])

    @property
    def totals(self) -> NDArray[np.float64]:
        """(L,) what the scores of each layer add up to: 1 for AdapLeR's, and where nothing is decided."""
        sums = np.ones(self.layers) if self.policy == ADAPLER else self.scores.clip(min=0).sum(1)
        return np.where(sums > 0, sums, 1.0)

    @property
    def ratios(self) -> NDArray[np.float64]:
        """(L, n) the scores as multiples of the mean of those that a layer decides about, AdapLeR's of 1/n; a negative
        one, as of a token that [CLS] does not see, is 0."""
        return self.scores.clip(min=0) * (self.present / self.totals)[:, None]

    @property
    def known_thresholds(self) -> NDArray[np.float64]:
        """(L,) `thresholds`, NaN where nothing is decided."""
        return np.where(np.isin(np.arange(self.layers), self.undecided), np.nan, self.thresholds)

    @property
    def depth(self) -> NDArray[np.int64]:
        """(n,) layers that each token enters: it is removed before the layer of this number, L for never."""
        return np.asarray(self.enters.sum(0))

    @property
    def speedup(self) -> float:
        return self.plain_flops / self.flops

    @property
    def label(self) -> str:
        return self.labels[int(self.probabilities.argmax())]

    @property
    def full_label(self) -> str:
        return self.labels[int(self.full_probabilities.argmax())]


@torch.inference_mode()
def trace(
    model: Any,
    tokenizer: Any,
    words: tuple[str, ...],
    *,
    rationale: NDArray[np.bool_],
    query: tuple[str, ...] = (),
    threshold_scale: float = 1.0,
    fate: NDArray[np.int64] | None = None,
) -> Trace:
    """Run AdapLeR on one text, with removal and without.

    Args:
        model: AdapLeRForSequenceClassification in evaluation mode; not changed.
        tokenizer: its fast tokenizer.
        words: the text, split at white space; at least one.
        rationale: (len(words),) bool.
        query: words of the second segment; none for a text alone.
        threshold_scale: factor on every threshold; 0 keeps all tokens.
        fate: (len(words),) 1 for words that stay whatever they score, -1 for those that go at once, else 0.

    Raises:
        ArgumentError: as `encode`, and logits that are not finite.
    """
    batch, encoding = encode(model, tokenizer, words, query)
    index = _word_indices(encoding)  # (n,)
    cut_short = bool(encoding.overflowing)
    read = int(index.max()) + 1 if cut_short else len(words)
    content = index >= 0
    gold = np.zeros(len(index), dtype=np.bool_)
    gold[content] = rationale[index[content]]
    forced = None
    if fate is not None and fate.any():
        tokens = np.zeros(len(index), dtype=np.int64)
        tokens[content] = fate[index[content]]
        forced = torch.tensor(tokens[None], device=model.device)  # (1, n)
    hard = model(**batch, removal="hard", threshold_scale=threshold_scale, fate=forced, return_dict=True)
    full = model(**batch, removal="none", return_dict=True)
    check_finite(torch.cat([hard.logits, full.logits]))

    lengths_in, lengths = torch.tensor([len(index)]), hard.lengths.cpu()
    present, after = torch.cat([lengths_in, lengths[0, :-1]]), lengths[0]  # (L,) each
    scores, bars = hard.contribution_scores[0], hard.bars[0]
    decides = ~bars.isneginf()  # (L,)
    bars = bars.where(decides, 0.0)
    best = scores.index_fill(1, scores.new_zeros(1, dtype=torch.long), 0.0).amax(1)  # (L,) without [CLS]
    # infinity where [CLS] alone stays, which JSON has no number for: what no token reaches is the same
    bars = bars.where(bars.isfinite(), torch.nextafter(best, torch.full_like(best, torch.inf)))
    if model.removal_policy.place == "between":
        # What is decided after a layer's attention says who enters the next layer.
        scores, bars, decides = (torch.cat([torch.zeros_like(one[:1]), one[:-1]]) for one in (scores, bars, decides))
        present, after = after, torch.cat([after[1:], after[-1:]])
    config, ids = model.config, batch["input_ids"][0].cpu().numpy()
    return Trace(
        pieces=tuple(encoding.tokens),
        surfaces=_surfaces(words, index, encoding.offsets, query=query),
        words=index,
        gold=gold,
        unknown=(ids == tokenizer.unk_token_id) & (index != SPECIAL),
        scores=scores.double().cpu().numpy(),
        enters=hard.retention_mask[0].cpu().numpy(),
        thresholds=bars.double().cpu().numpy(),
        labels=tuple(config.id2label[number] for number in range(config.num_labels)),
        probabilities=hard.logits[0].double().softmax(-1).cpu().numpy(),
        full_probabilities=full.logits[0].double().softmax(-1).cpu().numpy(),
        layer_flops=(layer_flops(config, lengths[0], after=after) + policy_flops(config, present)).numpy(),
        plain_layer_flops=float(layer_flops(config, lengths_in)),
        flops=float(adapler_flops(config, lengths_in, lengths)),
        plain_flops=float(backbone_flops(config, lengths_in)),
        unread_words=len(words) - read,
        limit=read_limit(model, tokenizer),
        cut_short=cut_short,
        typed=np.isin(ids, tokenizer.all_special_ids) & (ids != tokenizer.unk_token_id) & (index != SPECIAL),
        undecided=tuple(layer for layer, decided in enumerate(decides.tolist()) if not decided),
        policy=config.policy,
    )


def encode(
    model: Any, tokenizer: Any, words: tuple[str, ...], query: tuple[str, ...] = ()
) -> tuple[dict[str, torch.Tensor], Any]:
    """(the model's input for one text, as much of it as it reads; the tokenizer's account of it).

    The input is the one of an evaluation: the query is never cut.

    Raises:
        ArgumentError: the tokenizer sees nothing in the text, or the query alone leaves no room for it.
    """
    limit = read_limit(model, tokenizer)
    seconds = [list(query)] if query else None
    try:
        found = encode_texts([list(words)], tokenizer, seconds=seconds, max_length=limit, truncation="truncate")
    except DataError as error:
        raise ArgumentError(str(error)) from error
    encoding = found.encodings[0]
    if all(segment != 0 for segment in encoding.sequence_ids):
        raise ArgumentError("the text gives no wordpieces: to the model it is an empty one")
    return {name: torch.tensor([row], device=model.device) for name, row in found.rows[0].items()}, encoding


def read_limit(model: Any, tokenizer: Any) -> int:
    """Most tokens that the model reads, special ones included; RoBERTa's first position comes after padding's."""
    config = model.backbone.config
    return int(min(max_positions(config), tokenizer.model_max_length))


def _word_indices(encoding: Any) -> NDArray[np.int64]:
    """(n,) `Trace.words`."""
    places = zip(encoding.word_ids, encoding.sequence_ids, strict=True)
    return np.array(
        [SPECIAL if word is None else QUERY - word if segment == 1 else word for word, segment in places],
        dtype=np.int64,
    )


def _surfaces(
    words: tuple[str, ...],
    index: NDArray[np.int64],
    offsets: list[tuple[int, int]],
    *,
    query: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """The characters of each token. Byte-level tokens that share one character show it once."""
    surfaces, last, end = [], SPECIAL, 0
    for word, (first, after) in zip(index.tolist(), offsets, strict=True):
        begin = max(first, end) if word == last else first
        written = "" if word == SPECIAL else words[word] if word >= 0 else query[QUERY - word]
        surfaces.append(written[begin:after])
        last, end = word, after
    return tuple(surfaces)
