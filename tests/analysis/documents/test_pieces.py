"""Tokens as people read them."""

from __future__ import annotations

from types import SimpleNamespace

from tokenizers import Tokenizer, models, pre_tokenizers

from analysis.documents.pieces import readable_tokens


def tokenizer_of(pre_tokenizer: str, tokens: list[str]) -> SimpleNamespace:
    backend = Tokenizer(models.WordLevel({token: number for number, token in enumerate(tokens)}, unk_token=tokens[0]))
    backend.pre_tokenizer = getattr(pre_tokenizers, pre_tokenizer)()
    return SimpleNamespace(
        backend_tokenizer=backend, convert_ids_to_tokens=lambda ids: [tokens[number] for number in ids]
    )


def byte_letters(text: str) -> str:
    """As a byte-level tokenizer writes it."""
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)[0][0]


def test_bytes_become_letters() -> None:
    smile = byte_letters("\U0001f642")
    tokens = ["<s>", byte_letters(" caf\u00e9"), byte_letters(" na\u00ef")[:-1], byte_letters("\u00ef")[-1] + "ve"]
    tokens += [smile[:2], smile[2:], "<\u65e5>", byte_letters(" ")]
    assert len(smile) == 4 and tokens[1] != "\u0120caf\u00e9"
    shown = readable_tokens(tokenizer_of("ByteLevel", tokens), range(len(tokens)))
    letters = ["\u0120caf\u00e9", "\u0120na", "\u00efve", "\u00b7", "\U0001f642"]
    assert shown == ("<s>", *letters, "<\u65e5>", "\u0120")


def test_other_tokenizers_tokens_stay_as_they_are() -> None:
    tokens = ["[CLS]", "\u00c3\u00a9", "##\u00e9"]
    assert readable_tokens(tokenizer_of("Whitespace", tokens), [2, 1]) == ("##\u00e9", "\u00c3\u00a9")
