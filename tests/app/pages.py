"""Reading a page that Streamlit's own test harness runs, and what it should say."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

import torch
from streamlit.testing.v1 import AppTest

import app
from adapler.model.flops import speedup
from app.markup import cards
from tests.app.markup.test_render import Reader

PAGE = Path(app.__file__).with_name("main.py")


def bodies(page: AppTest, mark: str) -> list[str]:
    return [element.body for element in page.get("html") if f'class="{mark}"' in element.body]


def shown(page: AppTest) -> str:
    """The text of the cards at the top."""
    return Reader(bodies(page, "al-cards")[0]).text


def lengths_shown(page: AppTest) -> list[int]:
    return [int(count) for count in re.findall(r"<b>(\d+)</b> of", bodies(page, "al-grid")[0])]


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
