"""What is played, as a file: the text at each layer, drawn by the analysis layer, as GIF or MP4."""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from adapler.errors import ArgumentError
from app.markup import export
from app.markup.export import Origin
from app.model.tracing import Trace
from app.sources.documents import Document

MIME = {"gif": "image/gif", "mp4": "video/mp4"}
SECONDS, LAST = 1.1, 2.6  # of a layer, and of the last one; the player's own
RATE = 10  # pictures a second of a film
LINES = 100  # of text at most, for the memory of a model that reads thousands of tokens: 512 wordpieces have some 30
COLORS = 128
MARGIN = 24  # pixels around the text


def encoder() -> str | None:
    """The ffmpeg that makes MP4s: that of the path, or of the package imageio-ffmpeg; None without one."""
    if found := shutil.which("ffmpeg"):
        return found
    try:
        from imageio_ffmpeg import get_ffmpeg_exe
    except ImportError:
        return None
    try:
        return str(get_ffmpeg_exe())
    except RuntimeError:  # the package without its program
        return None


def animation(trace: Trace, document: Document, kind: str, *, origin: Origin | None = None) -> bytes:
    """The file. kind: one of MIME; origin: what the file says of itself.

    Raises:
        ArgumentError: a text without a word to draw, or an MP4 without an encoder.
    """
    frames = drawn(trace, document)
    note = origin.line() if origin else ""
    return gif(frames, note=note) if kind == "gif" else mp4(frames, note=note)


def drawn(trace: Trace, document: Document) -> list[Image.Image]:
    """The text at each layer, all of one size, with even sides, as a video needs them."""
    found = []
    for layer in range(trace.layers):
        content = export.figure(trace, document, kind="png", layout=export.Layout(LINES, (layer,), key=False))
        found.append(Image.open(io.BytesIO(content)).convert("RGB"))
    width, height = (max(size) + 2 * MARGIN for size in zip(*(one.size for one in found), strict=True))
    frames = []
    for one in found:
        sheet = Image.new("RGB", (width + width % 2, height + height % 2), "white")
        sheet.paste(one, (MARGIN, MARGIN))
        frames.append(sheet)
    return frames


def gif(frames: Sequence[Image.Image], *, note: str = "") -> bytes:
    """One palette for all frames, so that what stays does not flicker."""
    size = frames[0].size
    sheet = Image.new("RGB", (size[0], size[1] * len(frames)), "white")
    for number, frame in enumerate(frames):
        sheet.paste(frame, (0, number * size[1]))
    palette = sheet.quantize(COLORS, dither=Image.Dither.NONE)
    flat = [palette.crop((0, number * size[1], size[0], (number + 1) * size[1])) for number in range(len(frames))]
    durations = [round(1000 * SECONDS)] * (len(flat) - 1) + [round(1000 * LAST)]
    stream = io.BytesIO()
    flat[0].save(
        stream,
        "GIF",
        save_all=True,
        append_images=flat[1:],
        duration=durations,
        loop=0,
        optimize=True,
        disposal=1,
        comment=note.encode(),
    )
    return stream.getvalue()


def mp4(frames: Sequence[Image.Image], *, note: str = "") -> bytes:
    """H.264 in the form that every browser and slide program plays. Raises ArgumentError without an encoder."""
    program = encoder()
    if program is None:
        raise ArgumentError("an MP4 needs ffmpeg on the server's path, or `pip install imageio-ffmpeg`")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pictures = 0
        for number, frame in enumerate(frames):
            frame.save(folder / "frame.png")
            # one file a picture: how long ffmpeg holds the last one of a list of durations is its own matter
            for _ in range(round(RATE * (LAST if number == len(frames) - 1 else SECONDS))):
                shutil.copy(folder / "frame.png", folder / f"{pictures}.png")
                pictures += 1
        command = [program, "-v", "error", "-framerate", str(RATE), "-i", "%d.png", "-c:v", "libx264"]
        command += ["-pix_fmt", "yuv420p", "-movflags", "+faststart", "-metadata", f"comment={note}", "out.mp4"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode or not (folder / "out.mp4").is_file():
            raise ArgumentError(f"ffmpeg could not make the MP4: {(done.stderr or 'no message').strip()[-200:]}")
        return (folder / "out.mp4").read_bytes()
