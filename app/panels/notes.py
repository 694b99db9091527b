"""What a reader should know of a verdict: what makes it doubtful, and where `adapler predict` may say another."""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np

from adapler.errors import AdapLeRError, counted
from adapler.text import part_read
from app.model.tracing import Trace, read_limit

FEW_WORDS = 5  # a shorter text says too little
ENOUGH_PIECES = 8  # of fewer, one rare word decides how many there are a word
MANY_PIECES = 1.7  # wordpieces a word, punctuation not counted; English reviews have up to 1.3, German some 2.2


def reading_notes(trace: Trace) -> tuple[str, ...]:
    """What makes the verdict on this text doubtful: unknown tokens, special ones that the text names, very few words,
    or a tokenizer made for another language; empty where nothing does. `trace` has tokens, not whole words."""
    content = trace.words >= 0
    alone = content & np.array([_is_ideographs(surface) for surface in trace.surfaces])  # (n,)
    # a mark behind a word is a wordpiece in every language
    spelled = content & ~alone & np.array([any(map(str.isalnum, surface)) for surface in trace.surfaces])  # (n,)
    words, unknown = len(np.unique(trace.words[content & ~alone])) + int(alone.sum()), int(trace.unknown.sum())
    pieces = float(spelled.sum()) / max(1, len(np.unique(trace.words[spelled])))  # a word
    notes = []
    if unknown:
        name = trace.pieces[int(trace.unknown.argmax())]
        notes.append(f"{unknown} of {len(trace)} tokens unknown: the model reads {name} in their place")
    if trace.typed is not None and trace.typed.any():
        names = dict.fromkeys(trace.pieces[token] for token in np.flatnonzero(trace.typed))
        notes.append(f"the text has {', '.join(names)}: the model reads its own special token there, and not a word")
    if pieces > MANY_PIECES and spelled.sum() >= ENOUGH_PIECES:
        notes.append(
            f"{pieces:.1f} wordpieces a word, punctuation not counted: probably a language that this model was not "
            "made for"
        )
    elif 0 < words < FEW_WORDS:
        notes.append(f"very short: {counted(words, 'word')}; the verdict may mean little")
    return tuple(notes)


def _is_ideographs(surface: str) -> bool:
    """Whether a token is a word of its own, with no white space around it: tokenizers take ideographs so."""
    return surface != "" and all(unicodedata.name(letter, "").startswith("CJK ") for letter in surface)


def cut(trace: Trace) -> str:
    """What of a text the model does not read, where it is longer than its input; "" where it is not."""
    if trace.unread_words:
        return f"The model reads {trace.limit} tokens; {trace.unread_words} words behind them are not seen."
    if trace.cut_short:  # no white space in it
        return f"The model reads {trace.limit} tokens; what the last word has behind them is not seen."
    return ""


def read_otherwise(model: Any, tokenizer: Any, *, tokens: int) -> str:
    """What of a text as long as this `adapler predict` reads, where it is not what the page does; "" where it is.

    tokens: of the text, special ones included; as many as `read_limit` stand for more, too.
    """
    try:
        how = model.encoding()
    except AdapLeRError:  # run.json is damaged, which the commands say
        return ""
    limit = read_limit(model, tokenizer)
    length = min(how.max_length or limit, limit)
    if (length, how.long_documents) == (limit, "truncate") or (tokens <= length and tokens < limit):
        return ""
    return (
        f"Of a text longer than {length} tokens, adapler predict reads {part_read(how, length)} with this model, as in "
        f"its training; this page reads the first {limit}, or those of the part that is chosen: the verdict may be "
        "another."
    )
