"""Chosen texts as a folder of pages that need no Python and no network: `python -m app.gallery`.

    python -m app.gallery --output gallery
    python -m app.gallery --output gallery --text "dull from start to end" --methods cp saliency attention
    python -m app.gallery --output gallery --data data/eraser/movies --split test --documents negR_000.txt posR_000.txt

Each page plays its text through the layers as the app does, and says whose numbers it shows: checkpoint, threshold
scale, date, and the command that makes it again. A text that is longer than the model's input has a page for each part.
A folder that an earlier run has made is replaced; any other one is left alone.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from html import escape
from pathlib import Path

import adapler
from adapler.eraser import read_corpus
from adapler.errors import ArgumentError, CommandParser, DataError, run_command
from adapler.files import replacing
from analysis.scores import get_method
from app.markup import cards, pages, render, render_methods, strip
from app.markup import player as drawing
from app.model import comparing
from app.model.comparing import Comparison
from app.model.joining import join_words
from app.model.tracing import ADAPLER, Trace, read_limit, trace
from app.panels.common import subject
from app.panels.notes import cut, reading_notes
from app.sources import documents, loading, uploads
from app.sources.documents import Document

RECORD = "gallery.json"  # what tells a gallery from any other folder
DATA, SPLIT = next(iter(loading.CORPORA.values())), "test"
FIRST = 6  # documents of the corpus where none is named
DOT = " \N{MIDDLE DOT} "


@dataclass(frozen=True)
class Page:
    """file: its name; part: of a long text, "" for the only one; trace: of tokens; found: scores by method."""

    file: str
    document: Document
    part: str
    trace: Trace
    found: dict[str, Comparison]

    @property
    def title(self) -> str:
        return f"{self.document.name}, {self.part}" if self.part else self.document.name


@dataclass(frozen=True)
class Origin:
    """What made a gallery: checkpoint (its name), weights (their checksum), scale, made (the day), command."""

    checkpoint: str
    weights: str
    scale: float
    made: str
    command: str


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; errors are AdapLeRError."""
    asked = _parser().parse_args(argv)
    if asked.output.exists() and not (asked.output / RECORD).is_file():
        raise ArgumentError(f"--output: {asked.output} is there already and is no gallery; name another folder")
    if not 0 <= asked.threshold_scale < float("inf"):
        raise ArgumentError(f"--threshold-scale: {asked.threshold_scale:g} is not a number of at least 0")
    for method in asked.methods:
        get_method(method)  # raises for an unknown one before anything is computed
    checkpoint = loading.read_checkpoint(asked.model)
    origin = Origin(
        checkpoint=_named(asked.model),
        weights=checkpoint.weights,
        scale=asked.threshold_scale,
        made=date.today().isoformat(),
        command=_command(asked),
    )
    made = [page for one in _texts(asked) for page in _pages(checkpoint, one, asked.methods, scale=origin.scale)]
    made = [
        Page(
            f"{number:0{len(str(len(made)))}}-{_slug(page.title)}.html",
            page.document,
            page.part,
            page.trace,
            page.found,
        )
        for number, page in enumerate(made, 1)
    ]
    with replacing(asked.output) as folder:
        folder.mkdir()
        for number, page in enumerate(made):
            before, after = (made[at].file if 0 <= at < len(made) else None for at in (number - 1, number + 1))
            html = page_html(page, origin, title=asked.title, before=before, after=after)
            (folder / page.file).write_text(html, encoding="utf-8")
        (folder / "index.html").write_text(index_html(made, origin, title=asked.title), encoding="utf-8")
        record = {**vars(origin), "adapler": adapler.__version__, "pages": [page.file for page in made]}
        (folder / RECORD).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{len(made)} {'page' if len(made) == 1 else 'pages'}; open {asked.output / 'index.html'}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m app.gallery", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="folder to make")
    parser.add_argument("--model", type=Path, default=loading.CHECKPOINTS / loading.DEFAULT_CHECKPOINT,
                        help="AdapLeR checkpoint; default: the embedded one")  # fmt: skip
    parser.add_argument("--threshold-scale", type=float, default=1.0, help="factor on every threshold; default 1")
    parser.add_argument("--text", nargs="+", default=[], metavar="TEXT", help="texts, each in quotes")
    parser.add_argument("--texts", type=Path, metavar="FILE", help=uploads.LIMITS)
    parser.add_argument("--documents", nargs="+", default=[], metavar="ID",
                        help=f"of the corpus; without any text, the first {FIRST}")  # fmt: skip
    parser.add_argument("--data", type=Path, help="corpus in ERASER layout; default: the embedded sample")
    parser.add_argument("--split", help=f"of the corpus; default {SPLIT}")
    parser.add_argument("--methods", nargs="*", default=[], metavar="METHOD",
                        help="scoring methods to compare; `python -m analysis.scores` lists them")  # fmt: skip
    parser.add_argument("--title", default="AdapLeR, layer by layer", help="of the index page")
    return parser


def _texts(asked: argparse.Namespace) -> list[Document]:
    """Everything that was asked for, in the order of the options.

    Raises:
        DataError, ArgumentError: a text without a word, a file or corpus that cannot be read, an unknown document.
    """
    found = []
    for number, text in enumerate(asked.text, 1):
        if not text.split():
            raise ArgumentError(f"--text: the text number {number} has no word")
        found.append(Document(f"text {number}", " ".join(text.split())))
    if asked.texts is not None:
        try:
            content = asked.texts.read_bytes()
        except OSError as error:
            raise DataError(f"--texts: {asked.texts}: cannot be read ({error.strerror})") from error
        found += uploads.read_upload(asked.texts.name, content)
    if asked.documents or not found:
        return found + _of_corpus(asked.data or DATA, asked.split or SPLIT, asked.documents)
    for option in ("data", "split"):
        if (value := getattr(asked, option)) is not None:
            raise ArgumentError(f"--{option}: {value} is not read beside --text and --texts without --documents")
    return found


def _of_corpus(data: Path, split: str, names: Sequence[str]) -> list[Document]:
    corpus = read_corpus(data)
    if split not in corpus.splits:
        raise ArgumentError(f"--split: {split} is none of {', '.join(corpus.splits)}")
    found = {one.name: one for one in documents.of_split(corpus, split, title=corpus.name)}
    for name in names:
        if name not in found:
            raise ArgumentError(f"--documents: {name} is not in {split} of {data.name}, which has {_some(list(found))}")
    return [found[name] for name in names or list(found)[:FIRST]]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" ... (of {len(names)})" if len(names) > 3 else "")


def _pages(checkpoint: loading.Checkpoint, document: Document, methods: Sequence[str], *, scale: float) -> list[Page]:
    """A page for each part of the text that the model can read whole."""
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    try:
        ranges = documents.parts_of(document, tokenizer, limit=read_limit(model, tokenizer))
    except ArgumentError as error:
        raise ArgumentError(f"{document.name}: {error}") from error
    made = []
    for number, (start, end) in enumerate(ranges, 1):
        part = document.part(start, end) if len(ranges) > 1 else document
        read = trace(
            model,
            tokenizer,
            part.words,
            rationale=part.rationale,
            query=part.query_words,
            threshold_scale=scale,
        )
        found = {}
        for name in comparing.distinct(model, methods):
            method_scale = scale if "adapler" in get_method(name).needs else 1.0  # the others see no removal
            found[name] = comparing.compare(model, tokenizer, part, name, threshold_scale=method_scale)
        made.append(Page("", part, f"part {number} of {len(ranges)}" if len(ranges) > 1 else "", read, found))
    return made


def page_html(page: Page, origin: Origin, *, title: str, before: str | None, after: str | None) -> str:
    """The page of a text. title: of the gallery; before, after: files of its neighbours."""
    drawn = {"tokens": page.trace, "words": join_words(page.trace)}
    data = {"layers": {key: drawing.drawn(one, [drawing.layers_panel(one)]) for key, one in drawn.items()}}
    links = [("index.html", title), (before, "Previous text"), (after, "Next text")]
    whose = subject(page.document, checkpoint=origin.checkpoint, scale=origin.scale, dtype="float32")
    said = [f"{note}." for note in reading_notes(page.trace)] + [cut(page.trace)] * page.trace.cut_short
    notes = "".join(f"<p class=al-facts>{escape(note)}</p>" for note in said)
    body = [
        "<nav>" + "".join(f'<a href="{escape(file)}">{escape(name)}</a>' for file, name in links if file) + "</nav>",
        f"<h1>{render.visible(page.title)}</h1><p class=al-facts>{render.visible(whose)}</p>",
        cards.verdict(page.trace, page.document.label, known=page.document.labels),
        notes,
        strip.strip(page.trace),
        pages.player("layers"),
        render.legend(page.trace),
    ]
    if page.found:
        signed = any(one.signed for one in page.found.values())
        data["methods"] = {
            key: drawing.drawn(one, [render_methods.panel(one, found) for found in page.found.values()])
            for key, one in drawn.items()
        }
        body += ["<h2>Other scores of the same text</h2>", pages.player("methods")]
        body.append(render_methods.legend(page.trace, signed=signed))
    return pages.whole(f"{page.title} - {title}", "\n".join([*body, _footer(origin)]), data=data)


def index_html(made: Sequence[Page], origin: Origin, *, title: str) -> str:
    """The page that leads to the others."""
    rows = [
        (
            f'<a href="{escape(page.file)}">{render.visible(page.title)}</a>',
            render.visible(" ".join(page.document.words[:14])) + (" ..." if len(page.document.words) > 14 else ""),
            escape(page.document.label or ""),
            f"{escape(page.trace.label)} {cards.percent(float(page.trace.probabilities.max()))}",
            "same" if page.trace.label == page.trace.full_label else escape(page.trace.full_label),
            f"{page.trace.lengths[-1]} of {len(page.trace)}",
            f"{page.trace.speedup:.2f}x",
        )
        for page in made
    ]
    head = ("text", "begins", "label", "verdict", "without removal", "tokens in the last layer", "FLOPs speedup")
    body = (
        f"<h1>{escape(title)}</h1><p>A text classifier that drops the tokens it does not need, layer by layer "
        f"({_method({page.trace.policy for page in made})}). Open a text and press Play; click a token for its "
        f"score, threshold and fate at every layer.</p>{pages.table(head, rows)}{_footer(origin)}"
    )
    return pages.whole(title, body)


def _method(policies: Collection[str]) -> str:
    """What drops the tokens; all pages are of one model."""
    policy = next(iter(policies), ADAPLER)
    return "AdapLeR, Modarressi, Mohebbi and Pilehvar, ACL 2022" if policy == ADAPLER else f"by the policy {policy}"


def _footer(origin: Origin) -> str:
    facts = [f"checkpoint {origin.checkpoint} (weights {origin.weights})", f"threshold scale {origin.scale:g}"]
    said = DOT.join([*facts, f"adapler {adapler.__version__}", f"made on {origin.made}"])
    return f"<footer><p>{escape(said)}. This command makes it again:</p><pre>{escape(origin.command)}</pre></footer>"


def _command(asked: argparse.Namespace) -> str:
    """The command without what the machine's folders are called: a gallery is made to be handed on."""
    words = ["python", "-m", "app.gallery", "--model", _named(asked.model)]
    words += ["--threshold-scale", str(asked.threshold_scale)]
    if asked.text:
        words += ["--text", *asked.text]
    if asked.texts is not None:
        words += ["--texts", _named(asked.texts)]
    if asked.documents or not (asked.text or asked.texts):
        words += ["--data", _named(asked.data or DATA), "--split", asked.split or SPLIT]
        words += ["--documents", *asked.documents] if asked.documents else []
    words += ["--methods", *asked.methods] if asked.methods else []
    return shlex.join([*words, "--title", asked.title, "--output", asked.output.name])


def _named(path: Path) -> str:
    return loading.public_name(path, path.resolve().name)


def _slug(title: str) -> str:
    kept = "".join(char if char.isalnum() and char.isascii() else "-" for char in title)
    return "-".join(part for part in kept.split("-") if part)[:60] or "text"


if __name__ == "__main__":
    sys.exit(run_command(main))
