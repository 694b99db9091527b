"""What is played, as a file."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adapler.errors import ArgumentError
from app.markup import animation, export
from app.sources.documents import Document
from tests.app.markup.test_render import make_trace

TRACE = make_trace(["a", "Dull", "film"], [3, 1, 2], gold=np.array([False, False, True, False, False]))
DOCUMENT = Document("mine", "a Dull film")


def test_gif_has_a_frame_for_each_layer() -> None:
    origin = export.Origin("tiny", "sha256:0f1e", 1.0, "float32", "mine", "2031-02-03", "streamlit run app/main.py")
    made = Image.open(io.BytesIO(animation.animation(TRACE, DOCUMENT, "gif", origin=origin)))
    assert made.info["comment"].decode() == origin.line()
    assert made.n_frames == TRACE.layers and made.info["loop"] == 0
    durations, pictures = [], []
    for frame in range(made.n_frames):
        made.seek(frame)
        durations.append(made.info["duration"])
        pictures.append(np.asarray(made.convert("RGB")))
    assert durations == [1100, 1100, 2600]
    assert all((one != other).any() for one, other in zip(pictures, pictures[1:], strict=False)), "something is dropped"


def test_a_long_text_is_drawn_to_its_end() -> None:
    words = ["international", "entertainment", "professional"] * 170
    layout = export.Layout(animation.LINES, (0,), key=False)
    drawn = export._figure(make_trace(words, [3] * len(words)), Document("x", " ".join(words)), layout)
    assert sum(text.get_text() in words for text in drawn.axes[0].texts) == len(words)


def test_mp4_is_made_by_the_servers_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in notes what it is given; the real one is not everywhere."""
    script = tmp_path / "ffmpeg"
    script.write_text(
        f"#!{sys.executable}\nimport pathlib, sys\n"
        "told = [str(len(list(pathlib.Path().glob('[0-9]*.png'))))] + sys.argv[1:]\n"
        "at = [pathlib.Path(f'{n}.png').read_bytes() for n in (21, 22, 47)]\n"
        "told += [str(one == at[-1]) for one in at[:2]]\n"
        "pathlib.Path(sys.argv[-1]).write_text(' '.join(told))\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path) + os.pathsep + os.environ["PATH"])
    told = animation.animation(TRACE, DOCUMENT, "mp4").decode()
    assert told.startswith("48 ") and told.endswith("False True"), "layers of 11, 11 and 26 tenths of a second"
    assert "-framerate 10 " in told and "libx264" in told and "yuv420p" in told
    for frame in animation.drawn(TRACE, DOCUMENT):
        assert frame.size[0] % 2 == frame.size[1] % 2 == 0


def test_an_mp4_without_a_program_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(animation, "encoder", lambda: None)
    with pytest.raises(ArgumentError, match="ffmpeg on the server's path, or `pip install imageio-ffmpeg`"):
        animation.animation(TRACE, DOCUMENT, "mp4")


def test_a_failing_ffmpeg_is_heard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "ffmpeg"
    script.write_text("#!/bin/sh\necho no libx264 >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setattr(animation, "encoder", lambda: str(script))
    with pytest.raises(ArgumentError, match="could not make the MP4: no libx264"):
        animation.animation(TRACE, DOCUMENT, "mp4")


def test_a_real_encoder_makes_a_film() -> None:
    if (program := animation.encoder()) is None:
        pytest.skip("no ffmpeg")
    made = animation.animation(TRACE, DOCUMENT, "mp4")
    assert made[4:8] == b"ftyp"
    read = subprocess.run([program, "-i", "-", "-f", "null", "-"], input=made, capture_output=True)
    assert b"yuv420p" in read.stderr


def test_figures_have_the_texts_own_letters_and_the_layers_that_tell_most() -> None:
    assert export.record(TRACE, DOCUMENT).tokens == ("[CLS]", "a", "Dull", "film", "[SEP]")
    deep = make_trace(["a"] * 9, [9, 9, 9, 2, 2, 2, 5, 5, 7], layers=9)
    assert export.telling_layers(deep, 4) == [0, 2, 5, 7]
    assert export.telling_layers(TRACE, 6) == [0, 1, 2]
