"""Exports: tables, the figure of a document, an animation, and the token grid as a standalone page."""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from adapler.errors import ArgumentError
from analysis.figures.tokens import PREFIXES, DocumentScores
from app import markup
from app.documents import Document
from app.joining import sentence_starts
from app.tracing import SPECIAL, Trace

MIME = {"png": "image/png", "svg": "image/svg+xml", "pdf": "application/pdf", "gif": "image/gif", "mp4": "video/mp4"}
SECONDS, LAST, RATE = 1.1, 2.6, 10  # of a layer, and of the last one; pictures a second of a film
LINES = 100  # of text at most, in an animation
MARGIN = 24  # pixels around it
DRAWING = Lock()  # matplotlib's settings are the process's


def layer_table(trace: Trace) -> pd.DataFrame:
    """A row a layer: tokens (or words) that enter it, those present before, those dropped in between, the threshold
    of a wordpiece (none where nothing is decided), and FLOPs, which are of tokens in both cases."""
    return pd.DataFrame(
        {
            "layer": range(trace.layers),
            trace.unit: trace.lengths,
            "present": trace.present,
            "dropped": trace.present - trace.lengths,
            "threshold": trace.known_thresholds,
            "FLOPs share": trace.layer_flops / trace.layer_flops.sum(),
            "speedup": trace.plain_layer_flops / trace.layer_flops,
        }
    )


def token_table(trace: Trace) -> pd.DataFrame:
    """Tidy: a row for each layer and token. Special tokens and a query's have no word; a token that was dropped before
    has no score, and nobody has one where nothing is decided."""
    layers, size = trace.layers, len(trace)
    words = pd.array([int(word) if word >= 0 else None for word in trace.words], dtype="Int64")
    present = np.vstack([np.ones((1, size), dtype=bool), trace.enters[:-1]])
    decided = ~np.isnan(trace.known_thresholds)[:, None]  # (L, 1)
    return pd.DataFrame(
        {
            "layer": np.repeat(np.arange(layers), size),
            "position": np.tile(np.arange(size), layers),
            "word": pd.concat([pd.Series(words)] * layers, ignore_index=True),
            "token": np.tile(np.array(trace.pieces, dtype=object), layers),
            "rationale": np.tile(trace.gold, layers),
            "present": present.ravel(),
            "score": np.where(present & decided, trace.scores, np.nan).ravel(),
            "threshold": np.repeat(trace.known_thresholds, size),
            "enters": trace.enters.ravel(),
        }
    )


def csv(table: pd.DataFrame, *, subject: str) -> bytes:
    """The table and whose numbers they are. Text that a spreadsheet would take for a formula gets an apostrophe."""
    whole = table.assign(made_of=subject)
    for name in whole.columns:
        if not pd.api.types.is_numeric_dtype(whole[name]):
            whole[name] = whole[name].map(_guarded)
    return whole.to_csv(index=False, lineterminator="\n").encode()


def _guarded(value: Any) -> Any:
    formula = isinstance(value, str) and value.lstrip()[:1] in tuple("=+-@") and any(map(str.isalnum, value))
    return f"'{value}" if formula else value


def html_page(trace: Trace, document: Document, *, subject: str) -> bytes:
    """The headline and all layers as one file that needs no other and runs nothing."""
    body = (
        markup.headline(trace.tokens or trace, document)
        + f"<p>{markup.visible(subject)}</p>"
        + markup.legend(trace)
        + markup.layer_grid(trace)
    )
    return markup.page(f"{document.name}, layer by layer", body).encode()


def record(trace: Trace, document: Document) -> DocumentScores:
    """The document as figures of the analysis take it."""

    def shown(token: int) -> str:
        special = trace.words[token] == SPECIAL
        text = markup.seen(trace.pieces[token] if special else trace.surfaces[token]) or "\N{MIDDLE DOT}"
        # figures take one such sign of a wordpiece away: a text's own, as of ##this, has to stay
        return f"{PREFIXES[-1]}{text}" if text.startswith(PREFIXES) else text

    return DocumentScores(
        id=document.name,
        tokens=tuple(shown(token) for token in range(len(trace))),
        words=np.maximum(trace.words, SPECIAL),  # there, a query has no words
        rationale=trace.gold,
        scores={"cp": trace.scores.clip(min=0).astype(np.float32)},
        retention=trace.enters,
        prediction=trace.label,
        label=document.label,
    )


def sentences(trace: Trace, document: Document) -> dict[str, int]:
    """Possible starts of a passage: first words of each sentence that the model reads -> index of its first word."""
    read = sorted({int(one) for one in trace.words if one >= 0})
    starts = (read[place] for place in sentence_starts([document.words[word] for word in read]))
    return {f"{word}: {' '.join(document.words[word : word + 6])} ...": word for word in starts}


def figure(
    trace: Trace,
    document: Document,
    kind: str,
    *,
    layers: tuple[int, ...],
    lines: int,
    start: int | None = None,
    key: bool = True,
    subject: str = "",
) -> bytes:
    """The document's figure for a paper as png, svg or pdf; what made it stands in the file's properties."""
    from analysis.figures.tokens import Panel, passages_figure

    panel = Panel(record(trace, document), "cp", layers=layers, layerwise=True)
    stream = io.BytesIO()
    with DRAWING:
        drawn = passages_figure([panel], unit=trace.unit, n_lines=lines, start=start, key=key)
        name = {"svg": "Description", "pdf": "Subject"}.get(kind, "Comment")
        drawn.savefig(stream, format=kind, dpi=200, metadata={name: subject} if subject else None)
    return stream.getvalue()


def encoder() -> str | None:
    """The ffmpeg of the path, or of the package imageio-ffmpeg; None without one."""
    if found := shutil.which("ffmpeg"):
        return found
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        return str(get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        return None


def animation(trace: Trace, document: Document, kind: str) -> bytes:
    """The text at each layer as gif or mp4. Raises ArgumentError for an mp4 without ffmpeg."""
    found = [
        Image.open(io.BytesIO(figure(trace, document, "png", layers=(layer,), lines=LINES, key=False))).convert("RGB")
        for layer in range(trace.layers)
    ]
    width, height = (max(sizes) + 2 * MARGIN for sizes in zip(*(one.size for one in found), strict=True))
    frames = []
    for one in found:
        sheet = Image.new("RGB", (width + width % 2, height + height % 2), "white")  # as a video needs them
        sheet.paste(one, (MARGIN, MARGIN))
        frames.append(sheet)
    return _gif(frames) if kind == "gif" else _mp4(frames)


def _gif(frames: list[Image.Image]) -> bytes:
    """One palette for all frames, so that what stays does not flicker."""
    palette = frames[0].quantize(128, dither=Image.Dither.NONE)
    flat = [one.quantize(palette=palette, dither=Image.Dither.NONE) for one in frames]
    durations = [round(1000 * SECONDS)] * (len(flat) - 1) + [round(1000 * LAST)]
    stream = io.BytesIO()
    flat[0].save(stream, "GIF", save_all=True, append_images=flat[1:], duration=durations, loop=0, disposal=1)
    return stream.getvalue()


def _mp4(frames: list[Image.Image]) -> bytes:
    """H.264 in the form that every browser and slide program plays."""
    program = encoder()
    if program is None:
        raise ArgumentError("an MP4 needs ffmpeg on the server's path, or `pip install imageio-ffmpeg`")
    with tempfile.TemporaryDirectory() as name:
        pictures = 0
        for number, frame in enumerate(frames):
            for _ in range(round(RATE * (LAST if number == len(frames) - 1 else SECONDS))):
                frame.save(Path(name) / f"{pictures}.png", compress_level=1)
                pictures += 1
        command = [program, "-v", "error", "-framerate", str(RATE), "-i", "%d.png", "-c:v", "libx264"]
        command += ["-pix_fmt", "yuv420p", "-movflags", "+faststart", "out.mp4"]
        done = subprocess.run(command, cwd=name, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise ArgumentError(f"ffmpeg could not make the MP4: {(done.stderr or 'no message').strip()[-200:]}")
        return (Path(name) / "out.mp4").read_bytes()


def telling_layers(trace: Trace, most: int) -> list[int]:
    """At most so many layers for a figure: the first, then those before which most tokens go, in order."""
    gone = trace.present - trace.lengths
    order = sorted(range(1, trace.layers), key=lambda layer: (-int(gone[layer]), layer))
    return sorted([0, *order[: most - 1]])
