"""Every registered method and metric has a page, and its docstring says all that the page promises."""

from __future__ import annotations

import importlib
import inspect
import re
import shlex
from typing import Any

import pytest
import yaml

from adapler.cli import ALIASES, options_of
from adapler.cli import COMMANDS as CLI
from analysis.metrics.plausibility import GROUPS, METRICS, get_metric
from analysis.scores import SCOPES, get_method, method_names
from docs.generate.docstrings import HEADINGS, METHOD_FIELDS, METRIC_FIELDS, docstring, formula, prose, sections
from docs.generate.methods import method_pages
from docs.generate.metrics import metric_families, metric_pages
from docs.generate.reference import COMMANDS, help_text, reference_pages, signature
from tests.test_layering import ROOT

PAGES = ROOT / "docs"


@pytest.mark.parametrize("name", method_names())
def test_a_method_says_everything(name: str) -> None:
    method = get_method(name)
    parts = sections(method.function, METHOD_FIELDS)
    missing = [field for field in ("Summary", *METHOD_FIELDS) if not parts.get(field)]
    assert missing == [], f"docstring of {method.function.__qualname__}: no {', '.join(missing)}"
    assert method.scope in SCOPES
    assert method.scope in parts["Layer"].lower(), f"Layer: does not begin with the method's scope, {method.scope!r}"


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_says_everything(name: str) -> None:
    metric = get_metric(name)
    parts = sections(metric.source, METRIC_FIELDS)
    missing = [field for field in ("Summary", *METRIC_FIELDS) if not parts.get(field)]
    assert missing == [], f"docstring of {metric.source.__qualname__}: no {', '.join(missing)}"
    assert metric.level


def test_every_method_has_a_page_with_its_words() -> None:
    pages = method_pages()
    assert set(pages) == {"methods/index.md", *(f"methods/{name}.md" for name in method_names())}
    for name in method_names():
        text = pages[f"methods/{name}.md"]
        headings = re.findall(r"^## (.*)$", text, flags=re.MULTILINE)
        assert headings[:5] == [HEADINGS[field] for field in METHOD_FIELDS]
        assert f"`{name}`" in text and get_method(name).scope in text
        assert f"]({name}.md)" in pages["methods/index.md"]


def test_every_metric_has_a_page_with_its_name() -> None:
    pages, families = metric_pages(), metric_families()
    assert set(pages) == {"metrics/index.md", *(f"metrics/{family}.md" for family in families)}
    assert sorted(metric.name for members in families.values() for metric in members) == sorted(METRICS)
    for family, members in families.items():
        for metric in members:
            assert f"| `{metric.name}` |" in pages[f"metrics/{family}.md"]
            assert f"`{metric.name}`" in pages["metrics/index.md"]


def test_fields_are_read_as_they_stand() -> None:
    def documented() -> None:
        """Name: what it is.

        Formula: a < b and
            a_i * b_i
        Range: 0 to 1. See https://example.org/a_b.

        >>> 1
        """

    parts = sections(documented, METRIC_FIELDS)
    assert parts == {
        "Summary": "Name: what it is.",
        "Formula": "a < b and a_i * b_i",
        "Range": "0 to 1. See https://example.org/a_b.",
    }
    assert prose("`a_b` a_b *c* https://example.org/a_b.") == r"`a_b` a\_b \*c\* <https://example.org/a_b>."
    assert formula("a < b") == '<div class="formula" markdown="0">a &lt; b</div>'


def _pages(entry: Any) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    return [page for part in (entry if isinstance(entry, list) else entry.values()) for page in _pages(part)]


def test_every_page_is_in_the_navigation() -> None:
    listed = _pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    written = {path.relative_to(PAGES).as_posix() for path in PAGES.rglob("*.md")}
    made = {"methods/index.md", "metrics/index.md", "contributing.md", "changelog.md"}
    made |= {"reference/adapler.md", "reference/analysis.md", "reference/commands.md"}
    made |= {path.relative_to(ROOT).with_name("report.md").as_posix() for path in (ROOT / "results").rglob("README.md")}
    assert sorted(listed) == sorted(written | made)


def test_pages_load_nothing_from_elsewhere() -> None:
    """No script, font, style or picture of another host."""
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "font: false" in settings and not re.search(r"https?://", settings)
    assert not re.search(r"@import|url\(", (PAGES / "assets" / "site.css").read_text(encoding="utf-8"))
    for path in PAGES.rglob("*.md"):
        assert not re.search(r"!\[[^\]]*\]\(http|<script|<img", path.read_text(encoding="utf-8")), path


def test_help_of_a_command_is_the_command_s() -> None:
    text = help_text("adapler evaluate")
    assert text.startswith("usage: adapler evaluate") and "--threshold-scale" in text


def test_the_reference_has_every_command_of_adapler() -> None:
    listed = {one.split()[1] for one in COMMANDS if one.startswith("adapler ")}
    assert listed == {*CLI}


def test_help_and_page_name_every_group_of_metrics() -> None:
    page = (PAGES / "how-to" / "evaluate.md").read_text(encoding="utf-8")
    listed = page.partition("or their groups ")[2].partition(".")[0]
    assert tuple(re.findall(r"`(\w+)`", listed)) == GROUPS
    assert f"groups ({', '.join(GROUPS)})" in " ".join(help_text("analysis.rationale_eval").split())


def test_signatures_are_as_written() -> None:
    def short(one: list[int], *, two: str = "a") -> None: ...

    def long(
        one: list[int], *, a_long_name: str = "some", another_long_name: float = 1.0, rest: object = object()
    ) -> int: ...

    assert signature("short", short) == "short(one: list[int], *, two: str = 'a') -> None"
    assert signature("long", long).splitlines() == [
        "long(",
        "    one: list[int],",
        "    *,",
        "    a_long_name: str = 'some',",
        "    another_long_name: float = 1.0,",
        "    rest: object = ...,",
        ") -> int",
    ]


def test_the_reference_names_what_users_import() -> None:
    pages = reference_pages()
    for line in ("from adapler import AdapLeRForSequenceClassification", "from adapler.flops import speedup"):
        assert line in pages["reference/adapler.md"]
    for line in (
        "from analysis import explain",
        "from analysis.rationale_eval import evaluate",
        "`RationaleReport.to_frame`",
    ):
        assert line in pages["reference/analysis.md"]


def test_methods_stand_under_their_class() -> None:
    for page in reference_pages().values():
        above = ""
        for level, title in re.findall(r"^(##+) `([\w.]+)`$", page, flags=re.MULTILINE):
            if level == "##":
                above = title
            else:
                assert title.partition(".")[0] == above


def test_what_pages_import_and_call_is_in_the_reference() -> None:
    reference = "\n".join(reference_pages().values())
    seen = 0
    for path in (ROOT / "README.md", *PAGES.rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        for where, names in re.findall(r"from ((?:adapler|analysis)[\w.]*) import ([\w, ]+)", text):
            for name in names.split(", "):
                if not inspect.ismodule(getattr(importlib.import_module(where), name)):
                    assert re.search(rf"from {re.escape(where)} import {name}\b", reference), f"{path.name}: {name}"
                    seen += 1
        for name in re.findall(r"\bmodel\.([a-z_]+)\(", text):
            assert f"`AdapLeRForSequenceClassification.{name}`" in reference, f"{path.name}: model.{name}"
            seen += 1
    assert seen > 10


def test_a_docstring_becomes_paragraphs_entries_and_code() -> None:
    def documented() -> None:
        """First sentence
        goes on.

            a = b < c

        Args:
            one: `x`, which
                goes on.
            two: y

        >>> 1 + 1
        2
        """

    text = docstring(documented)
    assert '<p class="docstring" style="margin-left: 0.0em">First sentence goes on.</p>' in text
    assert "```text\na = b < c\n```" in text and "```pycon\n>>> 1 + 1\n2\n```" in text
    assert "<strong>one</strong>: <code>x</code>, which goes on.</p>" in text and "<strong>two</strong>: y</p>" in text


def test_options_in_the_text_are_the_commands_own() -> None:
    """Every --option behind a command in the README, CONTRIBUTING.md and the pages is in that command's help."""
    helps: dict[str, str] = {}
    wrong, seen = [], 0
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES.rglob("*.md")):
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        for words in re.findall(r"(?:python -m|-m)? ?\b((?:adapler [a-z]|analysis\.[a-z])[^`#\n]*)", text):
            command = next((one for one in COMMANDS if re.match(re.escape(one) + r"(?![\w.])", words)), None)
            if command is None:
                continue
            if command not in helps:
                helps[command] = help_text(command)
            if command == "adapler run":
                helps[command] += "--policy-weight --policy-learning-rate --policy-temperature --keep --student-cosine"
            options = re.findall(r"(?<![\w-])--[a-z][\w-]*", words)
            seen += len(options)
            wrong += [
                f"{path.name}: {command} {one}"
                for one in options
                if one not in (*helps[command].split(), "--help")
                and not re.search(re.escape(one) + r"(?![\w-])", helps[command])
            ]
    assert wrong == []
    assert seen > 20


def test_commands_in_blocks_are_whole() -> None:
    """Every `adapler` command in a block of the README and the pages is accepted as it stands, up to reading files."""
    seen = 0
    for path in (ROOT / "README.md", *PAGES.rglob("*.md")):
        blocks = re.findall(
            r"^ *```(\w*)\n(.*?)^ *```$", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
        )
        lines = "\n".join(block for language, block in blocks if language in ("", "sh")).replace("\\\n", " ")
        for words in re.findall(r"^.*?\badapler ([a-z-]+ (?:-|[A-Z]).*)", lines, flags=re.MULTILINE):
            name, *rest = shlex.split(words, comments=True)
            if (name := ALIASES.get(name, name)) not in ("predict", "data"):  # predict looks for files, too
                options_of(name, rest)
            seen += 1
    assert seen > 15
