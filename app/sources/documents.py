"""The text that is looked at, and the parts that it has when it is longer than the model's input."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapler.eraser import EraserCorpus, EraserExample, queries_differ
from adapler.errors import ArgumentError
from adapler.text import tokenized
from analysis.alignment import align

MAX_CHARACTERS = 20_000


@dataclass(frozen=True)
class Document:
    """A text, and what is known of it.

    name     its id in a corpus, or a file's name
    text     words separated by white space
    label    gold label as the corpus or file writes it, None where there is none
    spans    human rationale: half-open ranges of words
    query    second segment of the model's input, "" for none: as an evaluation of the corpus gives it
    labels   all labels of the corpus or file, in the order of their numbers
    source   corpus and split for the reader's eyes, "" for a text of the user's own
    excerpt  which part of a longer text it is, for the reader's eyes; "" for a whole one
    """

    name: str
    text: str
    label: str | None = None
    spans: tuple[tuple[int, int], ...] = ()
    query: str = ""
    labels: tuple[str, ...] = ()
    source: str = ""
    excerpt: str = ""

    @cached_property
    def words(self) -> tuple[str, ...]:
        return tuple(self.text.split())

    @property
    def query_words(self) -> tuple[str, ...]:
        return tuple(self.query.split())

    @property
    def rationale(self) -> NDArray[np.bool_]:
        """(words,) bool."""
        return rationale_of(len(self.words), self.spans)

    def part(self, start: int, end: int) -> Document:
        """The words [start, end) as a document of their own."""
        inside = ((max(first, start) - start, min(after, end) - start) for first, after in self.spans)
        text = " ".join(self.words[start:end])
        return replace(self, text=text, spans=tuple(span for span in inside if span[0] < span[1]))

    def cut(self) -> Document:
        """The first MAX_CHARACTERS characters of a longer text, and of a longer query."""
        one = self if len(self.query) <= MAX_CHARACTERS else replace(self, query=self.query[:MAX_CHARACTERS])
        if len(self.text) <= MAX_CHARACTERS:
            return one
        kept = self.text[:MAX_CHARACTERS]
        return replace(one.part(0, len(kept.split())), text=kept)

    def example(self) -> EraserExample:
        """The same for the analysis layer."""
        return EraserExample(self.name, self.words, self.label or "", self.spans, self.query)


def of_example(
    example: EraserExample, *, with_query: bool = False, labels: tuple[str, ...] = (), source: str = ""
) -> Document:
    """A document of a corpus; `with_query`: its query is part of the model's input."""
    # a word with white space in it, a no-break space say, would shift all others when the text is split again
    sign = "\N{REPLACEMENT CHARACTER}"
    words = [word if word.split() == [word] else sign.join(word.split()) or sign for word in example.words]
    return Document(
        name=example.id,
        text=" ".join(words),
        label=example.label,
        spans=example.spans,
        query=" ".join(example.query.split()) if with_query else "",
        labels=labels,
        source=source,
    )


def of_split(
    corpus: EraserCorpus, split: str, *, title: str, only: EraserExample | None = None
) -> tuple[Document, ...]:
    """All documents of a split, or `only` one of them, as the model is given them; `title` is the corpus's for the
    reader."""
    with_query, source = queries_differ(corpus), f"{title}, {split}"
    return tuple(
        of_example(example, with_query=with_query, labels=corpus.labels, source=source)
        for example in (corpus.splits[split] if only is None else (only,))
    )


def rationale_of(words: int, spans: tuple[tuple[int, int], ...]) -> NDArray[np.bool_]:
    """(words,) bool from word ranges."""
    mask = np.zeros(words, dtype=np.bool_)
    for start, end in spans:
        mask[start:end] = True
    return mask


def check_readable(tokenizer: Any, words: tuple[str, ...], query: tuple[str, ...] = (), *, limit: int) -> None:
    """Whether a model can say anything about this text. limit: most tokens that it reads.

    Raises:
        ArgumentError: the tokenizer sees nothing in the text, or the query alone leaves no room for it.
    """

    def pieces(of: tuple[str, ...]) -> int:
        encoding = tokenized(tokenizer, list(of), is_split_into_words=True, add_special_tokens=False, verbose=False)
        return len(encoding["input_ids"])

    if not pieces(words):
        raise ArgumentError("the text gives no wordpieces: to the model it is an empty one")
    if query and (own := pieces(query)) + tokenizer.num_special_tokens_to_add(pair=True) + 1 > limit:
        raise ArgumentError(f"the second text alone is {own} tokens long; of both, the model reads {limit}")


def parts_of(document: Document, tokenizer: Any, *, limit: int) -> tuple[tuple[int, int], ...]:
    """Ranges of words, one after the other, each of which the model can read whole; one where all fit. Of a single word
    that is longer than its input it reads the beginning.

    Raises:
        ArgumentError: as `check_readable`.
    """
    check_readable(tokenizer, document.words, document.query_words, limit=limit)
    windows = align(
        document.example(), tokenizer, max_length=limit, policy="all-windows", with_query=bool(document.query)
    ).windows
    starts = sorted({int(window.words[~window.special].min()) for window in windows})
    starts[0] = 0
    return tuple(zip(starts, [*starts[1:], len(document.words)], strict=True))
