"""What a new user asks, and that two clicks answer it; docs/how-to/app.md has the list."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.app.e2e.browser import AppPage

Visit = Callable[..., AppPage]
Step = Callable[[AppPage], object]


def view(name: str) -> Step:
    return lambda app: app.view(name)


def word(text: str) -> Step:
    return lambda app: app.page.locator(".al-player [data-token]", has_text=re.compile(f"^{text}$")).first.click()


def button(key: str) -> Step:
    return lambda app: app.widget(key).locator("button").first.click()


def point_at(term: str) -> Step:
    return lambda app: app.page.get_by_role("button", name=term, exact=True).first.hover()


def slide(to: str) -> Step:
    """As if the mouse had dragged it: one movement."""
    return lambda app: app.slide("scale", to)


# Question, what is done, where the answer stands, the answer.
QUESTIONS: dict[str, tuple[list[Step], str, str]] = {
    "What does the colour mean?": ([point_at("contribution score")], ".al-legend", "shaded by contribution score"),
    "When was this word dropped, and why?": (
        [word("whole")], ".al-detail", r"up to layer 1 and dropped before layer 2: it scores 0\.\d\d/n, less",
    ),
    "What happens without it?": ([word("horribly"), button("without")], ".stMain", r"Delete: horribly[\s\S]*Now read"),
    "Does dropping tokens change the verdict?": ([], ".al-cards", "same verdict"),
    "Which method agrees best with the annotator here?": ([view("compare")], ".al-methods", r"AP 0\.\d\d \(chance"),
    "How fast is it at scale 1.2, and what does that cost?": (
        [view("trust"), slide("ArrowRight " * 4)], ".al-cards", r"below[\s\S]*[56]\.\d\dx",
    ),
    "Which verdicts are wrong though the model is sure?": (
        [view("trust"), AppPage.read_all], ".stMain", r"\d of the 9 wrong verdicts have a probability",
    ),
    "Are the kept tokens enough for the verdict?": (
        [view("what-if"), lambda app: app.widget("faithful").locator("summary").click()],
        ".stMain", "Without removal the whole text is NEG with probability",
    ),
    "Where else is this word read?": ([word("horribly"), AppPage.read_all], ".stMain", "of 43 other documents"),
    "What is 1/n?": ([view("how")], ".stMain", r"so that"),
}  # fmt: skip


@pytest.mark.parametrize("question", QUESTIONS)
def test_two_clicks_answer_it(visit: Visit, question: str) -> None:
    steps, place, answer = QUESTIONS[question]
    assert len(steps) <= 2
    app = visit()
    for step in steps:
        step(app)
    expect(app.page.locator(place).first).to_contain_text(re.compile(answer))
