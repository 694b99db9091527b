"""Reading a page that Streamlit's own test harness runs, and what it should say."""

from __future__ import annotations

import json
from html import unescape
from pathlib import Path
from typing import Any

import torch
from streamlit.testing.v1 import AppTest

import app
from adapler.flops import speedup
from app.markup import cards
from tests.app.markup.test_render import Reader

PAGE = Path(app.__file__).with_name("main.py")


def bodies(page: AppTest, mark: str) -> list[str]:
    return [element.body for element in page.get("html") if f'class="{mark}"' in element.body]


def played(page: AppTest, number: int = 0) -> dict[str, Any]:
    """What a player of the page was given, see `app.markup.player.drawn`."""
    proto = page.get("bidi_component")[number].proto
    found: dict[str, Any] = json.loads(proto.mixed.json or proto.json)
    return found


def text_played(page: AppTest, number: int = 0) -> str:
    """A player's text."""
    return "".join(" " * token["space"] + token["text"] for token in played(page, number)["tokens"])


def marked(page: AppTest) -> list[str]:
    """Tokens of the rationale on the player."""
    return [token["text"] for token in played(page)["tokens"] if token["flags"] & 2]


def methods_said(page: AppTest, layer: int = 0) -> str:
    """Titles and notes of the methods on the player."""
    panels = played(page)["panels"]
    return "\n".join(" ".join([one["title"], *one["notes"][min(layer, len(one["notes"]) - 1)]]) for one in panels)


def shown(page: AppTest) -> str:
    """The text of the cards at the top."""
    return Reader(bodies(page, "al-cards")[0]).text


def lengths_shown(page: AppTest) -> list[int]:
    data = played(page)
    return [sum(depth > layer for depth in data["panels"][0]["depth"]) for layer in range(data["layers"])]


def expected(model: Any, tokenizer: Any, text: str, scale: float = 1.0) -> tuple[str, list[int], str]:
    """(verdict, lengths, speedup) straight from the model."""
    batch = tokenizer(text, return_tensors="pt", truncation=True, max_length=40)
    with torch.no_grad():
        out = model(**batch, removal="hard", threshold_scale=scale)
    probabilities = out.logits[0].softmax(-1)
    best = int(probabilities.argmax())
    gain = speedup(model.config, torch.tensor([batch["input_ids"].shape[1]]), out.lengths)
    percent = unescape(cards.percent(float(probabilities[best])))
    return f"{model.config.id2label[best]} {percent}", out.lengths[0].tolist(), cards.cheaper(gain)


def check(page: AppTest, model: Any, tokenizer: Any, text: str, scale: float = 1.0) -> None:
    assert not page.exception and not page.error
    verdict, lengths, gain = expected(model, tokenizer, text, scale)
    assert verdict in shown(page) and gain in shown(page)
    assert lengths_shown(page) == lengths
    assert f"{lengths[-1]} of " in shown(page)


def plain(text: str) -> str:
    """Markdown as it is read."""
    return text.replace("\\", "")
