"""CHANGELOG.md is in the form of keepachangelog.com and has something to say of this version."""

from __future__ import annotations

import re

import adapler
from tests.test_layering import ROOT

KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def _versions() -> dict[str, str]:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    parts = re.split(r"^## \[([^\]]+)\].*$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_there_is_an_entry() -> None:
    versions = _versions()
    entry = versions.get("Unreleased", "") + versions.get(adapler.__version__, "")
    assert re.search(r"^\* \S", entry, flags=re.MULTILINE), "CHANGELOG.md: nothing under Unreleased or this version"
    assert next(iter(versions)) == "Unreleased"


def test_released_versions_have_a_date_and_this_one_is_among_them() -> None:
    heads = re.findall(r"^## \[(\d[^\]]*)\](.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert adapler.__version__ in dict(heads)
    assert all(re.fullmatch(r" - \d{4}-\d{2}-\d{2}", rest) for _, rest in heads)


def test_kinds_of_changes_are_the_standard_s() -> None:
    for version, text in _versions().items():
        assert set(re.findall(r"^### (.*)$", text, flags=re.MULTILINE)) <= KINDS, version
