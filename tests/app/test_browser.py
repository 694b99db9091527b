"""The page in Chromium: what only a browser shows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import torch

from adapler import AdapLeRForSequenceClassification
from adapler.embedded import CHECKPOINT, SAMPLE
from adapler.eraser import read_corpus
from adapler.flops import speedup
from adapler.text import load_tokenizer
from app.context import FIRST_TEXT
from tests.app.browser import find_chromium, launch, serve, settle

pytestmark = [pytest.mark.browser, pytest.mark.skipif(find_chromium() is None, reason="no Chromium")]


SIZES = [(1280, 720), (390, 844)]
REVIEW = " ".join(read_corpus(SAMPLE).splits["test"][0].words[:120])
# What controls hold, and the player's layer.
STATE = """() => [
    ...document.querySelectorAll("textarea, input:not([type=file]), [data-tag], [role=radio], .al-at")
].map(one => [one.ariaLabel, one.value ?? one.innerText, one.checked, one.ariaChecked])"""


@pytest.fixture(scope="module")
def browser(app_checkpoints: Path, app_corpus: Path) -> Iterator[Any]:
    """Makes contexts of Chromium, at a server with another checkpoint and corpus beside the embedded ones."""
    from playwright.sync_api import sync_playwright

    arguments = ["--checkpoints", str(app_checkpoints), "--data", str(app_corpus)]
    with sync_playwright() as playwright, serve(arguments) as server:
        chromium = launch(playwright)
        yield lambda **options: chromium.new_context(
            **{"viewport": {"width": 1280, "height": 720}, "base_url": server.url, **options}
        )
        chromium.close()


@pytest.fixture(scope="module")
def tab(browser: Any) -> Any:
    def new(path: str = "/", **options: Any) -> Any:
        return opened(browser(**options), path)

    return new


def opened(context: Any, path: str) -> Any:
    page = context.new_page()
    page.goto(path)
    settle(page)
    return page


@pytest.mark.parametrize("size", SIZES)
def test_the_first_screen_says_it_all(tab: Any, size: tuple[int, int]) -> None:
    page = tab(viewport={"width": size[0], "height": size[1]}, reduced_motion="reduce")
    for selector in (".al-head-line h1", ".al-head-line p", ".al-play", ".al-text:not(.al-legend)"):
        box = page.locator(selector).first.bounding_box()
        assert box["y"] > 40 and box["y"] + box["height"] <= size[1] and box["x"] + box["width"] <= size[0], selector
    assert page.locator(".al-play").inner_text().endswith("Replay"), "at rest on the last layer"
    assert page.locator(".al-text .cut, .al-text .gone").count() > 5


def test_it_plays_once_from_the_plain_text(tab: Any) -> None:
    page = tab()
    page.get_by_label("Previous layer").click()
    page.locator(".al-play").click()
    page.wait_for_function("document.querySelector('.al-play').textContent.includes('Replay')", timeout=20_000)
    page.locator(".al-play").click()
    assert page.locator(".al-at").inner_text() == "The text"


def where(page: Any) -> str:
    return str(page.evaluate("location.href"))  # `page.url` does not know what a script has put there


def assert_same(page: Any, address: str, state: Any) -> None:
    """Soon: on a slow machine, controls come one after the other."""
    for _ in range(20):
        if (where(page), page.evaluate(STATE)) == (address, state):
            return
        page.wait_for_timeout(500)
    assert where(page) == address
    assert [one for one in page.evaluate(STATE) if one not in state] == []
    assert page.evaluate(STATE) == state


def press(page: Any, name: str, key: str) -> None:
    if name == "Layer":
        slider = page.get_by_label(name, exact=True)
    else:
        slider = page.get_by_test_id("stSlider").filter(has_text=name).locator("input, [role=slider]").first
    slider.focus()
    slider.press(key)
    settle(page)


def choose(page: Any, menu: str, entry: str | int) -> None:
    options = page.get_by_role("option")
    for _ in range(3):  # a menu that is drawn anew closes
        page.get_by_role("combobox", name=menu).first.click()
        page.wait_for_timeout(500)
        if options.count():
            break
    (options.nth(entry) if isinstance(entry, int) else options.filter(has_text=entry).first).click()
    page.keyboard.press("Escape")
    settle(page)


def click(page: Any, text: str) -> None:
    page.get_by_text(text, exact=True).last.click()
    settle(page)


def edit(page: Any, token: int = 2) -> None:
    page.locator("[data-token]").filter(visible=True).nth(token).click()
    page.get_by_role("button", name="Apply to").click()
    settle(page)


def type_text(page: Any) -> None:
    page.locator("textarea").fill("a cat & a \u201cbrave\u201d film , 100 % fun")
    page.locator("textarea").press("Control+Enter")
    settle(page)


# The view that is clicked; what is changed there, one after the other; how the address begins to tell it.
CHANGES: list[tuple[str, list[tuple[Any, ...]], list[str]]] = [
    (
        "Layer by layer",
        [(type_text,), (click, "Words"), (press, "Layer", "ArrowLeft")],
        ["text=a", "units=Words", "layer=4"],
    ),
    ("Layer by layer", [(choose, "Text", 3), (click, "All layers")], ["document=", "show=All+layers"]),
    ("Who finds it?", [(choose, "Text", 1), (choose, "Methods", 0), (press, "Layer", "Home")], ["methods=", "layer=0"]),
    ("Side by side", [(press, "On the right", "ArrowRight"), (click, "Sentences")], ["scale2=0.55", "units=Sentences"]),
    (
        "Side by side",
        [(click, "Checkpoint"), (choose, "On the right", "tiny")],
        ["differs=Checkpoint", "checkpoint2=tiny"],
    ),
    ("Side by side", [(click, "Text"), (choose, "On the right", 2)], ["differs=Text", "document2="]),
    ("What if?", [(edit,), (click, "Keep always"), (edit, 5)], ["edits="]),
    (
        "Budget",
        [(press, "Threshold scale", "ArrowLeft"), (click, "Words"), (type_text,)],
        ["scale=0.95", "units=Words", "text=a"],
    ),
    ("Trust", [(press, "Threshold scale", "ArrowRight")], ["scale=1.05"]),
    (
        "Trust",
        [(click, "Settings"), (choose, "Corpus", "tiny-films"), (choose, "Split", "train")],
        ["corpus=tiny", "split="],
    ),
    (
        "How it works",
        [(click, "Settings"), (choose, "Checkpoint", "tiny"), (choose, "dtype", "bfloat16")],
        ["dtype=bf"],
    ),
    ("Corpus", [(choose, "Report", 1), (choose, "Metric", "fpr"), (choose, "Methods", 0)], ["report=", "metric=fpr"]),
    (
        "Take away",
        [
            (press, "Lines of text for each layer", "ArrowRight"),
            (choose, "The passage begins with", 1),
            (click, "Key below the text"),
            (choose, "Layers", 0),
        ],
        ["lines=4", "begins=", "figure-key=false"],
    ),
]


@pytest.mark.parametrize(("view", "changes", "told"), CHANGES, ids=[f"{one[0]}-{one[2][0]}" for one in CHANGES])
def test_the_address_is_the_state(browser: Any, view: str, changes: Any, told: list[str]) -> None:
    """Click first, then change; reload, a second tab with the copied address, another view and Back."""
    context = browser(reduced_motion="reduce")
    page = opened(context, "/story")
    page.get_by_role("link", name=view, exact=True).click()
    settle(page)
    before = page.evaluate(STATE)
    for change, *arguments in changes:
        change(page, *arguments)
    address, state = where(page), page.evaluate(STATE)
    assert state != before
    for part in told:
        assert part in address
    page.reload()
    settle(page)
    assert_same(page, address, state)
    second = opened(context, address)
    assert_same(second, address, state)
    press(second, "Threshold scale", "End")
    page.get_by_role("link", name="How it works" if view != "How it works" else "Budget", exact=True).click()
    settle(page)
    page.go_back()
    settle(page)
    assert_same(page, address, state)  # whatever the other tab does
    context.close()


def test_edits_outlive_another_view(tab: Any) -> None:
    page = tab("/what_if")
    edit(page)
    page.get_by_role("link", name="Budget", exact=True).click()
    settle(page)
    assert "edits" not in where(page)
    page.get_by_role("link", name="What if?", exact=True).click()
    page.get_by_text("Now read to the end").wait_for()
    settle(page)
    assert "edits=" in where(page)
    page.get_by_role("button", name="Undo").click()
    settle(page)
    assert "edits" not in where(page) and not page.get_by_text("Now read to the end").count()


def test_all_by_keyboard(tab: Any) -> None:
    page = tab(reduced_motion="reduce")
    page.locator(".al-play").wait_for()
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.className") == "al-play":
            break
    else:
        raise AssertionError("Play is none of the first ten")
    page.keyboard.press("Enter")
    page.locator("[data-token]").first.focus()
    seen = []
    for _ in range(page.locator("[data-token]").count()):
        seen.append(page.evaluate("Number(document.activeElement.dataset.token)"))
        page.keyboard.press("Enter")
        assert page.locator(".al-detail").count(), "its details"
        page.keyboard.press("Escape")
        page.keyboard.press("ArrowRight")
    assert seen == list(range(len(seen))) and len(seen) == 22


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/", "/story", "/sides", "/what_if", "/trust", "/how"])
def test_contrast(tab: Any, path: str, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]

    page = tab(path, color_scheme=scheme, reduced_motion="reduce")
    found = Axe().run(page, options={"runOnly": ["color-contrast"]}).response["violations"]
    assert not found, [(node["target"], node["any"][0]["message"]) for one in found for node in one["nodes"]]


@pytest.mark.parametrize(
    ("text", "scale"), [(FIRST_TEXT, 1.0), ("A dull start, but the ending is unforgettably good!", 0.6), (REVIEW, 1.3)]
)
def test_displayed_numbers_are_the_models(tab: Any, text: str, scale: float) -> None:
    model, tokenizer = AdapLeRForSequenceClassification.from_pretrained(CHECKPOINT).eval(), load_tokenizer(CHECKPOINT)
    batch = tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        hard, full = model(**batch, removal="hard", threshold_scale=scale), model(**batch, removal="none")
    size, layers = batch["input_ids"].shape[1], model.num_layers
    lengths, kept, scores = hard.lengths[0].tolist(), hard.retention_mask[0], hard.contribution_scores[0]
    page = tab(f"/?text={quote(text)}&scale={scale}", reduced_motion="reduce")
    faster = speedup(model.config, torch.tensor([size]), hard.lengths)
    assert f"read {lengths[-1]} of {size} tokens to the end" in page.locator("h1").inner_text()
    assert f"{faster:.1f}x less compute" in page.locator("h1").inner_text()
    for logits, shown in zip(
        (hard.logits, full.logits),
        re.findall(r"([A-Z]+) >?([\d.]+)%", page.locator(".al-head-line p").inner_text()),
        strict=True,
    ):
        share, label = (float(one) for one in logits[0].softmax(-1).max(-1))
        assert shown[0] == model.config.id2label[int(label)] and abs(float(shown[1]) - 100 * share) <= 0.5
    for layer in reversed(range(layers)):
        assert page.locator(".al-layer .al-count b").inner_text() == str(lengths[layer])
        n = lengths[layer - 1] if layer else size
        threshold = scale * model.eta[layer].item() / n
        titles = page.locator("[data-token]").evaluate_all("all => all.map(one => one.title)")
        assert len(titles) == size
        for token, title in enumerate(titles):
            depth = int(kept[:, token].sum())
            assert ("never dropped" if depth == layers else f"dropped before layer {depth}") in title
            assert ("score" in title) == (depth >= layer)
            if depth >= layer:
                said = re.search(r"score (\S+) = (\S+)/n, n = (\d+) \| threshold ([^ ]+)", title)
                assert said is not None and int(said[3]) == n
                score = float(scores[layer, token])
                assert float(said[1]) == pytest.approx(score, rel=1e-3, abs=5.1e-5)
                assert float(said[2]) == pytest.approx(score * n, abs=5.1e-3)
                assert float(said[4]) == pytest.approx(threshold, rel=1e-3, abs=5.1e-5)
        page.get_by_label("Previous layer").click()
    assert page.locator(".al-at").inner_text() == "The text"


@pytest.mark.parametrize("size", SIZES)
def test_details_are_in_view(tab: Any, size: tuple[int, int]) -> None:
    page = tab(viewport={"width": size[0], "height": size[1]}, reduced_motion="reduce")
    page.locator("[data-token]").nth(3).click()
    box = page.locator(".al-detail svg").bounding_box()
    assert 0 <= box["y"] and box["y"] + box["height"] <= size[1]
    page.keyboard.press("Escape")


def test_a_typed_text_stands_in_the_address(tab: Any) -> None:
    page = tab(reduced_motion="reduce")
    page.get_by_label("Type a sentence").fill("so dull , but i liked it")
    page.keyboard.press("Control+Enter")
    settle(page)
    assert "text=so+dull" in where(page)
    page.reload()
    settle(page)
    assert page.get_by_label("Type a sentence").input_value() == "so dull , but i liked it"
