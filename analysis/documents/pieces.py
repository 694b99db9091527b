"""Tokens as people read them."""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Sequence
from typing import Any

from transformers.convert_slow_tokenizer import bytes_to_unicode

from adapler.text import is_byte_level

SHARES = "\u00b7"  # a token that ends within a letter
_BYTES = {letter: byte for byte, letter in bytes_to_unicode().items()}  # GPT-2's letters for bytes
_SPACE = "\u0120"  # the space before a word


def readable_tokens(tokenizer: Any, ids: Sequence[int]) -> tuple[str, ...]:
    """A tokenizer's tokens, those of a byte-level one with their letters; the sign for a space before a word stays.

    A letter of several bytes may be shared by tokens: the last of them has it, one that has no other shows a dot.
    """
    tokens = [str(token) for token in tokenizer.convert_ids_to_tokens(list(ids))]
    if not is_byte_level(tokenizer):
        return tuple(tokens)
    decoder = getincrementaldecoder("utf-8")("replace")
    shown = []
    whole = set(getattr(tokenizer, "added_tokens_decoder", ()))  # special ones, too: texts, and not bytes
    for number, token in zip(ids, tokens, strict=True):
        if number in whole or not _BYTES.keys() >= set(token):
            decoder.reset()
            shown.append(token)
            continue
        sign = _SPACE if token.startswith(_SPACE) else ""
        letters = decoder.decode(bytes(_BYTES[letter] for letter in token.removeprefix(sign)))
        shown.append(sign + letters if letters or token == sign else sign + SHARES)
    return tuple(shown)
