"""The equations of the policies: those of the page are those of docs/explanation/policies.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.markup.terms import HIGHEST, RULES

PAGE = (Path(__file__).parents[3] / "docs" / "explanation" / "policies.md").read_text(encoding="utf-8")
SECTIONS = {
    "cls_topk": "Controls",
    "ltp": "LTP",
    "power": "PoWER-BERT",
    "random_topk": "Controls",
    "transkimmer": "Transkimmer",
    "trbert": "TR-BERT",
}
PROBABILITIES = ("transkimmer", "trbert")  # whose score the page calls p
LETTERS = {"sum": "\u03a3", "theta": "\u03b8", "delta": "\u03b4", "neq": "\u2260", "cdot": "\u00b7", "max": "max",
           "lceil": "\u2308", "rceil": "\u2309"}  # fmt: skip
DROPPED = r"\text{token } i \text{ is dropped if } s_i < "


def plain(equation: str) -> str:
    """LaTeX as the page writes it, without white space."""
    equation = equation.replace("10^{-5}", "1e-5")
    equation = re.sub(r"\\(?:mathrm|text)\{([^}]*)\}", r"\1", equation)
    equation = re.sub(r"\\frac\{([^}]*)\}\{(\w+)\}", r"\1/\2 ", equation)
    equation = re.sub(r"\\frac\{([^}]*)\}\{([^}]*)\}", r"\1/(\2) ", equation)
    equation = re.sub(r"\\([a-z]+)", lambda found: LETTERS[found[1]], equation.replace(r"\,", " ").replace("\\ ", " "))
    equation = re.sub(r"_\{(\w+)\}", r"_\1", equation)
    return re.sub(r"\s", "", equation)


def section(policy: str) -> str:
    return re.sub(r"\s", "", PAGE.partition(f"## {SECTIONS[policy]}\n")[2].partition("\n## ")[0])


def row(policy: str) -> list[str]:
    """Of the table of the policies: decides, score, it stays when, what trains it."""
    found = re.search(rf"^\| `{policy}` \|(.*)\|$", PAGE, re.MULTILINE)
    assert found is not None
    return [cell.strip() for cell in found[1].split("|")]


@pytest.mark.parametrize("policy", RULES)
def test_a_score_is_the_same_in_both(policy: str) -> None:
    for equation in RULES[policy].score:
        said = plain(equation)
        if policy in PROBABILITIES and said.startswith("s_i="):
            said = f"p{said[1:]}"
        assert said in section(policy), said


@pytest.mark.parametrize("policy", RULES)
def test_a_bar_is_the_same_in_both(policy: str) -> None:
    """At scale c = 1 a token stays where the table says so; c stands where the page says what a scale does."""
    *named, last = RULES[policy].bar
    for equation in named:
        assert plain(equation) in section(policy), plain(equation)
    stays = row(policy)[2]
    if last == HIGHEST:
        assert "highest" in stays and "k=" in plain(named[0])
        return
    bar = plain(last.removeprefix(DROPPED)).replace("c/", "1/").removeprefix("c")
    assert last.startswith(DROPPED) and stays in (f"p_i \u2265 {bar}", f"score \u2265 {bar}"), bar


def test_every_policy_of_the_page_is_compared() -> None:
    assert sorted(RULES) == sorted(SECTIONS)
