"""Damaged input of many kinds: it loads, or it is refused in one line; nothing else, and nothing half-written."""

from __future__ import annotations

import io
import json
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapler.data import install_archive, load_task, read_corpus
from adapler.errors import AdapLeRError
from tests.adapler.data.corpora import files_of, row, rows, write

NAMES = (
    "movies docs movies/docs movies/docs/neg_1 movies/docs/neg_1/below movies/train.jsonl movies/train.jsonl/below "
    "./movies/docs/new movies/docs.jsonl movies/SOURCE.json movies/SOURCE.json/below movies/./docs//x other/test.jsonl "
    "movies/meta.json movies/docs/._x __MACOSX/x caf\udce9 . a/../b"
).split() + ["movies/docs/" + "x" * 255, "movies/docs/" + "y" * 256, " ", "movies/docs/two words"]
KINDS = [tarfile.REGTYPE] * 8 + [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, b"9", tarfile.GNUTYPE_SPARSE]


def hostile_archive(draw: random.Random) -> bytes:
    """A good corpus with members of odd names and kinds, and now and then a changed, lost or doubled piece."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=draw.choice([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])) as tar:
        members = [(f"movies/{name}", text.encode(), tarfile.REGTYPE) for name, text in files_of().items()]
        members += [
            (draw.choice(NAMES), b"x" * draw.randrange(3), draw.choice(KINDS)) for _ in range(draw.randrange(4))
        ]
        draw.shuffle(members)
        for name, data, kind in members:
            member = tarfile.TarInfo(name)
            member.type, member.size = kind, len(data)
            if draw.random() < 0.05:
                member.pax_headers = {
                    draw.choice(["size", "path", "mtime", "GNU.sparse.size"]): draw.choice("x 9 -1 1e9".split())
                }
            tar.addfile(member, io.BytesIO(data))
    content = bytearray(stream.getvalue())
    for _ in range(draw.choice([0, 0, 1, 3])):
        place = draw.randrange(len(content))
        content[place] = draw.randrange(256)
    if draw.random() < 0.2:
        place = draw.randrange(len(content))
        del content[place : place + draw.choice([1, 512, 5000])]
    return bytes(content)


def test_hostile_archives(tmp_path: Path) -> None:
    draw = random.Random(0)
    refused = 0
    for number in range(300):
        archive = tmp_path / f"{number}.tar"
        archive.write_bytes(hostile_archive(draw))
        try:
            folder = install_archive(archive, tmp_path / "to" / str(number))
            assert read_corpus(folder).checksum == read_corpus(archive).checksum
        except AdapLeRError as error:
            assert "\n" not in str(error)
            refused += 1
            assert not (tmp_path / "to" / str(number)).exists() or not any((tmp_path / "to" / str(number)).iterdir())
    assert 100 < refused < 290, "both things happen"


DEEP = "[" * 3000 + "]" * 3000
VALUES: list[Any] = [None, True, 0, -1, 7, 10**30, 0.5, "", " ", "x", [], [[]], {}, [None], ["a"], [1], {"a": 1}]


def damaged(draw: random.Random, value: Any) -> Any:
    """The value with one part of it, at any depth, replaced, dropped or doubled."""
    if isinstance(value, dict) and value and draw.random() < 0.8:
        name = draw.choice(sorted(value))
        return (
            {**value, name: damaged(draw, value[name])}
            if draw.random() < 0.8
            else {k: v for k, v in value.items() if k != name}
        )
    if isinstance(value, list) and value and draw.random() < 0.7:
        place = draw.randrange(len(value))
        return [*value[:place], damaged(draw, value[place]), *value[place + draw.choice([0, 1, 1]) :]]
    return draw.choice(VALUES)


def damaged_text(draw: random.Random, text: str) -> bytes:
    """JSON lines with a damaged value, or with a damaged character."""
    lines = text.splitlines()
    place = draw.randrange(len(lines))
    how = draw.random()
    if how < 0.6:
        lines[place] = json.dumps(damaged(draw, json.loads(lines[place])))
    elif how < 0.7:
        name = draw.choice(["label", "text", "tokens", "max_length", "labels", "evidences", "query", "id"])
        lines[place] = lines[place][:-1] + f', "{name}": {draw.choice([DEEP, "9" * 5000, "NaN", "1e999"])}}}'
    elif how < 0.8:
        lines[place] = draw.choice([DEEP, "9" * 5000, '"\\ud800"', "{}", '{"\\ud800": 1}', "null"])
    content = bytearray("\n".join(lines).encode())
    if how > 0.8:
        content[draw.randrange(len(content))] = draw.randrange(256)
    return bytes(content)


def survive(load: Callable[[Path], Any], folder: Path) -> bool:
    try:
        load(folder)
    except AdapLeRError as error:
        assert "\n" not in str(error) and len(str(error)) < 500 + len(str(folder))
        return False
    return True


@pytest.mark.parametrize("one_file", [False, True])
def test_damaged_corpora(tmp_path: Path, one_file: bool) -> None:
    draw = random.Random(int(one_file))
    splits = rows() | {
        "val": [row("pos_1", "POS", query="why?"), row("neg_2", "NEG") | {"annotation_id": 3, "docids": ["neg_2"]}]
    }
    files = files_of(splits, one_file=one_file)
    loaded = 0
    for number in range(120):
        folder = write(tmp_path / str(number), files)
        name = draw.choice(sorted(files))
        if name.endswith(".jsonl"):
            (folder / name).write_bytes(damaged_text(draw, files[name]))
        loaded += survive(load_task, folder)
    assert 10 < loaded < 110


@pytest.mark.parametrize("kind", ["text", "tokens"])
def test_damaged_tasks(tmp_path: Path, kind: str) -> None:
    draw = random.Random(kind)
    value = {"text": "a b", "tokens": ["a", "b"]}[kind]
    lines = [{"id": str(n), kind: value, "query": "q" * n, "label": "ab"[n % 2]} for n in range(6)]
    text = "\n".join(json.dumps(line) for line in lines)
    files = {"train.jsonl": text, "dev.jsonl": text, "meta.json": json.dumps({"labels": ["a", "b"], "max_length": 20})}
    loaded = 0
    for number in range(200):
        folder = write(tmp_path / str(number), files)
        name = draw.choice(sorted(files))
        (folder / name).write_bytes(damaged_text(draw, files[name]))
        loaded += survive(load_task, folder)
    assert 10 < loaded < 190
