"""The verdicts on many texts at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch

from adapler.model.batching import pad_rows
from adapler.model.flops import speedup
from app.model.tracing import encode
from app.sources import labels
from app.sources.documents import Document

BATCH = 16  # texts of similar length
SHOWN = 80  # characters of a text


@torch.inference_mode()
def table(model: Any, tokenizer: Any, found: Sequence[Document], *, threshold_scale: float = 1.0) -> pd.DataFrame:
    """A row for each text, in their order: line, text, gold, verdict, probability, right (of a text with a label that
    is one of the model's, else <NA>), without removal (the verdict), tokens, last layer (tokens that reach it), FLOPs
    speedup. A text that is longer than the model's input is read as far as the model reads.
    """
    encoded = [encode(model, tokenizer, document.words, document.query_words)[0] for document in found]
    rows = [{name: values[0].tolist() for name, values in one.items()} for one in encoded]
    order = sorted(range(len(rows)), key=lambda row: len(rows[row]["input_ids"]))
    names = [str(model.config.id2label[number]) for number in range(model.config.num_labels)]
    answers: list[dict[str, Any]] = [{} for _ in rows]
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        batch = pad_rows([rows[row] for row in chosen], pad_token_id=tokenizer.pad_token_id, device=model.device)
        hard = model(**batch, removal="hard", threshold_scale=threshold_scale)
        full = model(**batch, removal="none")
        lengths_in, lengths = batch["attention_mask"].sum(1).cpu(), hard.lengths.cpu()
        shares = hard.logits.double().softmax(-1).cpu()
        for place, row in enumerate(chosen):
            best = int(shares[place].argmax())
            size = lengths_in[place : place + 1]
            answers[row] = {
                "line": found[row].name,
                "text": found[row].text[:SHOWN],
                "gold": found[row].label,
                "verdict": names[best],
                "probability": float(shares[place, best]),
                "right": _right(found[row], best, names),
                "without removal": names[int(full.logits[place].argmax())],
                "tokens": int(size),
                "last layer": int(lengths[place, -1]),
                "FLOPs speedup": speedup(model.config, size, lengths[place : place + 1]),
            }
    return pd.DataFrame(answers).astype({"right": "boolean"})


def _right(document: Document, verdict: int, names: Sequence[str]) -> bool | None:
    if document.label is None:
        return None
    gold = labels.match(document.label, names, known=document.labels).index
    return None if gold is None else gold == verdict
