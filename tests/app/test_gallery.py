"""The command that makes pages which stand alone."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from adapler.errors import ArgumentError, DataError
from analysis.loading import checksums
from app import gallery
from app.model import tracing
from tests.app.conftest import DOCUMENTS


def make(folder: Path, checkpoint: Path, *options: str) -> dict[str, Any]:
    assert gallery.main(["--output", str(folder), "--model", str(checkpoint), *options]) == 0
    record: dict[str, Any] = json.loads((folder / "gallery.json").read_text(encoding="utf-8"))
    assert {path.name for path in folder.iterdir()} == {"index.html", "gallery.json", *record["pages"]}
    return record


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="al-data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    read: dict[str, Any] = json.loads(found[1])
    return read


def test_pages_hold_the_numbers_of_the_model(
    app_checkpoints: Path, app_corpus: Path, app_model: Any, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    options = ["--data", str(app_corpus), "--documents", "neg_1", "pos_1", "--threshold-scale", "0.5"]
    record = make(tmp_path / "out", app_checkpoints / "tiny", *options, "--methods", "saliency")
    assert record["pages"] == ["1-neg-1.html", "2-pos-1.html"] and record["scale"] == 0.5
    page = (tmp_path / "out" / "1-neg-1.html").read_text(encoding="utf-8")
    words = tuple(DOCUMENTS["neg_1"][0].split())
    gold = tracing.np.array([3 <= word < 5 for word in range(len(words))])
    trace = tracing.trace(app_model, tiny_tokenizer, words, rationale=gold, threshold_scale=0.5)
    drawn = data_of(page)["layers"]["tokens"]
    assert drawn["panels"][0]["depth"] == trace.depth.tolist()
    assert [token["text"] for token in drawn["tokens"] if token["flags"] & 2] == ["not", "good"]
    assert [one["title"] for one in data_of(page)["methods"]["words"]["panels"]] == ["Saliency"]
    for file in ("index.html", "1-neg-1.html"):
        text = unescape((tmp_path / "out" / file).read_text(encoding="utf-8"))
        assert record["command"] in text and record["made"] in text and record["weights"] in text
        assert str(tmp_path) not in text and str(app_corpus.parent) not in text, "no folder of the machine"
    assert record["weights"] == f"sha256:{checksums(None, app_model)['adapler'][:16]}", "as a report has it"
    assert record["command"].startswith("python -m app.gallery --model tiny --threshold-scale 0.5 --data tiny-films ")


def test_only_the_packages_scripts_may_run(app_checkpoints: Path, tmp_path: Path) -> None:
    text = "</script><script>alert(1)</script> <b>film</b> dull"
    record = make(tmp_path / "out", app_checkpoints / "tiny", "--text", text, "a great film")
    page = (tmp_path / "out" / record["pages"][0]).read_text(encoding="utf-8")
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", page, re.DOTALL)
    assert len(scripts) == 2, "data and player"
    allowed = "sha256-" + base64.b64encode(hashlib.sha256(scripts[1].encode()).digest()).decode()
    policy = unescape(re.findall(r'Policy" content="([^"]*)"', page)[0])
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src '{allowed}'"
    assert not re.search(r"""(src|href)="?(https?:)?//""", page)
    shown = "".join(" " * token["space"] + token["text"] for token in data_of(page)["layers"]["tokens"]["tokens"])
    assert shown == f"[CLS] {text} [SEP]"


def test_a_long_text_has_a_page_for_each_part(app_checkpoints: Path, app_corpus: Path, tmp_path: Path) -> None:
    record = make(tmp_path / "out", app_checkpoints / "tiny", "--data", str(app_corpus), "--documents", "long_1")
    assert len(record["pages"]) > 1 and record["pages"][0] == "1-long-1-part-1-of-" + record["pages"][0][-6:]
    words = []
    for page in record["pages"]:
        tokens = data_of((tmp_path / "out" / page).read_text(encoding="utf-8"))["layers"]["words"]["tokens"]
        words += [token["text"] for token in tokens if not token["flags"] & 1]
    assert words == DOCUMENTS["long_1"][0].split()


def test_lines_of_a_file(app_checkpoints: Path, tmp_path: Path) -> None:
    rows = [{"id": "a", "text": "a great film", "label": "POS"}, {"id": "b/../c", "text": "dull", "label": "NEG"}]
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    record = make(tmp_path / "out", app_checkpoints / "tiny", "--texts", str(file))
    assert record["pages"] == ["1-a.html", "2-b-c.html"]
    assert "--texts mine.jsonl" in record["command"]


def test_a_gallery_is_replaced_and_nothing_else(app_checkpoints: Path, tmp_path: Path) -> None:
    make(tmp_path / "out", app_checkpoints / "tiny", "--text", "a great film", "dull")
    assert len(make(tmp_path / "out", app_checkpoints / "tiny", "--text", "dull")["pages"]) == 1
    (tmp_path / "mine").mkdir()
    with pytest.raises(ArgumentError, match="mine is there already and is no gallery"):
        make(tmp_path / "mine", app_checkpoints / "tiny", "--text", "dull")


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        (["--text", " "], ArgumentError, "--text: the text number 1 has no word"),
        (["--text", "\u200b", "--documents", "neg_1"], ArgumentError, "text 1: the text gives no wordpieces"),
        (["--documents", "neg_9"], ArgumentError, "neg_9 is not in test of tiny-films, which has neg_1, pos_1, long_1"),
        (["--split", "dev"], ArgumentError, "--split: dev is none of train, test"),
        (["--threshold-scale", "-1"], ArgumentError, "--threshold-scale: -1"),
        (["--methods", "salience"], ArgumentError, "salience"),
        (["--texts", "nowhere.jsonl"], DataError, "--texts: nowhere.jsonl: cannot be read"),
        (["--text", "dull"], ArgumentError, "tiny-films is not read beside --text and --texts without --documents"),
    ],
)
def test_what_cannot_be_shown_is_said(
    app_checkpoints: Path, app_corpus: Path, tmp_path: Path, options: list[str], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=re.escape(said)):
        make(tmp_path / "out", app_checkpoints / "tiny", "--data", str(app_corpus), *options)
    assert not (tmp_path / "out").exists()
