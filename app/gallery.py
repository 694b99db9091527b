"""Texts as pages that need no server: `python -m app.gallery --output gallery`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from adapler import AdapLeRForSequenceClassification
from adapler.embedded import CHECKPOINT, SAMPLE
from adapler.eraser import read_corpus
from adapler.errors import ArgumentError
from adapler.options import option, parse, user_errors
from adapler.system import replacing
from adapler.text import load_tokenizer
from app import markup, methods, player
from app.context import FIRST_TEXT
from app.documents import Document, of_split, parts_of, read_upload
from app.joining import join_words
from app.tracing import Trace, read_limit, trace

FIRST = 6  # documents, if nothing else is asked for


@dataclass
class GalleryOptions:
    """Pages of texts, each with a player, and an index."""

    output: str = option("output folder", basic=True)
    model: str = option("AdapLeR model", default=str(CHECKPOINT), basic=True)
    threshold_scale: float = option("factor on the thresholds", default=1.0, basic=True)
    text: list[str] = option("texts, each in quotes", default_factory=list, basic=True)
    texts: str | None = option("file of texts, .txt or .jsonl", default=None, basic=True)
    documents: list[str] = option("ids of documents of the corpus", default_factory=list, basic=True)
    data: str = option("corpus in ERASER layout", default=str(SAMPLE), basic=True)
    split: str = option("split of the corpus", default="test", basic=True)
    methods: list[str] = option("scoring methods of the second player", default_factory=list, basic=True)
    title: str = option("title of the index", default="AdapLeR, layer by layer", basic=True)


@dataclass
class Page:
    file: str
    document: Document
    trace: Trace
    scored: list[methods.Scored] = field(default_factory=list)


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(
        GalleryOptions, argv, prog="python -m app.gallery", example="python -m app.gallery --output gallery"
    )
    model = AdapLeRForSequenceClassification.from_pretrained(options.model).eval()
    tokenizer = load_tokenizer(options.model)
    scale, pages = options.threshold_scale, []
    for number, document in enumerate(_documents(options), 1):
        start, end = parts_of(document, tokenizer, limit=read_limit(model, tokenizer))[0]
        document = document.between(start, end)
        marks = {"rationale": document.rationale, "query": document.query_words}
        read = trace(model, tokenizer, document.words, threshold_scale=scale, **marks)  # type: ignore[arg-type]
        scored = [
            methods.score(model, tokenizer, document, name, threshold_scale=scale, dtype="float32")
            for name in options.methods
        ]
        pages.append(Page(f"{number:02}.html", document, read, scored))
    with replacing(options.output) as folder:
        folder.mkdir()
        for page in pages:
            (folder / page.file).write_text(page_html(page, title=options.title), encoding="utf-8")
        (folder / "index.html").write_text(index_html(pages, title=options.title, scale=scale), encoding="utf-8")
    print(f"{options.output}: {len(pages)} texts; open index.html")
    return 0


def _documents(options: GalleryOptions) -> list[Document]:
    found = [Document(f"text {number}", " ".join(text.split())) for number, text in enumerate(options.text, 1)]
    if empty := [one.name for one in found if not one.words]:
        raise ArgumentError(f"--text: {empty[0]} has no word")
    if options.texts is not None:
        found += read_upload(Path(options.texts).name, Path(options.texts).read_bytes())
    if options.documents or not found:
        corpus = read_corpus(options.data)
        if options.split not in corpus.splits:
            raise ArgumentError(f"--split: {options.split} is not one of {', '.join(corpus.splits)}")
        named = {one.name: one for one in of_split(corpus, options.split, title=corpus.name)}
        if missing := [name for name in options.documents if name not in named]:
            raise ArgumentError(f"--documents: {missing[0]} is not in {options.split}")
        if not options.documents:  # both labels, and a sentence on which removal matters
            by_label = [[one for one in named.values() if one.label == label] for label in corpus.labels]
            found.append(Document("a sentence", FIRST_TEXT))
            found += [one for pair in zip(*by_label, strict=False) for one in pair][: FIRST - 1]
        found += [named[name] for name in options.documents]
    return found


def page_html(page: Page, *, title: str) -> str:
    drawn = {"tokens": page.trace, "words": join_words(page.trace)}
    data = {"layers": {key: player.drawn(one, [player.layers_panel(one)], plays=True) for key, one in drawn.items()}}
    if page.scored:
        data["story"] = {
            key: player.drawn(one, [player.story_panel(one, scored) for scored in page.scored], mode=player.STORY)
            for key, one in drawn.items()
        }
    place = '<div data-player="{}"><label><input type="checkbox"> whole words</label><div class="al-place"></div></div>'
    body = [
        f'<nav><a href="index.html">{escape(title)}</a></nav>',
        markup.headline(page.trace, page.document),
        *(place.format(name) for name in data),
        markup.legend(page.trace),
    ]
    return markup.page(page.document.called(), "\n".join(body), data=json.dumps(data))


def index_html(pages: Sequence[Page], *, title: str, scale: float) -> str:
    """A card a text: its last layer, and whether removal changes the verdict."""
    cards = "".join(
        f'<a class="al-card" href="{page.file}"><div class="al-thumb"><div class="al-text">'
        f"{markup.text_at(page.trace, page.trace.layers - 1)}</div></div>"
        f'<div class="al-value">{escape(page.trace.label)} '
        f"{markup.percent(float(page.trace.probabilities.max()))}</div>"
        f'<div class="al-note">{_said(page)}</div></a>'
        for page in sorted(pages, key=lambda page: page.trace.label == page.trace.full_label)
    )
    said = f"What the model reads to the end, at threshold scale {scale:g}. Open a text and press Play."
    return markup.page(title, f'{markup.title(title, said)}<div class="al-cards">{cards}</div>')


def _said(page: Page) -> str:
    trace = page.trace
    same = trace.label == trace.full_label
    verdict = "same verdict as with all tokens" if same else f"<b>{escape(trace.full_label)} with all tokens</b>"
    label = f"label {escape(page.document.label)}, " if page.document.label else ""
    return f"{label}{verdict}; {trace.lengths[-1]} of {len(trace)} tokens, {trace.speedup:.1f}x less compute"


if __name__ == "__main__":
    with user_errors():
        sys.exit(main())
