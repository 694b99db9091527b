"""Faithfulness of one text: does the model need the tokens that a method ranks first, and are they enough?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from adapler.inference import pad_rows
from analysis.faithfulness import version_types
from analysis.metrics.faithfulness import FaithfulnessSettings, PerturbedDocument, faithfulness_rows
from app.model.comparing import Comparison
from app.model.tracing import Trace, encode
from app.sources.documents import Document

BATCH = 16
SHARE = 20  # % of the content tokens
KEPT = "Only the tokens that the model keeps to the end"


@torch.inference_mode()
def table(
    model: Any, tokenizer: Any, document: Document, trace: Trace, found: Mapping[str, Comparison]
) -> tuple[pd.DataFrame, float, str]:
    """(a row for each method: method, tokens, comprehensiveness, sufficiency, and both AOPCs; p of the whole text;
    the class that it is of). The class is the one that the model without removal predicts, which is the model that is
    asked, for all methods; a method's scores are those of layer 0, where every token still has one. A policy that
    decides nothing there has none: what follows from them is not defined.

    The last row feeds the tokens that `trace` (of tokens) keeps to the end once more: only its sufficiency is defined.
    """
    read = {
        name: one[0].cpu().numpy()
        for name, one in encode(model, tokenizer, document.words, document.query_words)[0].items()
    }
    ids, types = read["input_ids"], read.get("token_type_ids")
    content = trace.words >= 0

    def predict(inputs: list[NDArray[np.int64]]) -> NDArray[np.float64]:
        rows = []
        for start in range(0, len(inputs), BATCH):
            chosen = [{"input_ids": one.tolist()} for one in inputs[start : start + BATCH]]
            for one in chosen:
                one["attention_mask"] = [1] * len(one["input_ids"])
                if types is not None:
                    one["token_type_ids"] = version_types(types, content, length=len(one["input_ids"])).tolist()
            batch = pad_rows(chosen, pad_token_id=tokenizer.pad_token_id, device=model.device)
            logits = model(**batch, removal="none", return_dict=True).logits
            rows.append(logits.double().softmax(-1).cpu().numpy())
        return np.concatenate(rows)

    target = int(trace.full_probabilities.argmax())
    settings = FaithfulnessSettings()
    scores = np.array([one.scores[0][content] for one in found.values()]).reshape(len(found), int(content.sum()))
    judged = faithfulness_rows(predict, ids, content, scores, target=target, settings=settings)
    perturbed = PerturbedDocument(ids, content, "delete", None)
    kept = trace.enters[-1][content]
    whole, only = predict([ids, perturbed.keeping(kept)])[:, target]
    rows: list[dict[str, Any]] = []
    for one, row, own in zip(found.values(), judged, scores, strict=True):
        rows.append({"method": one.title, "tokens": int(np.ceil(SHARE * content.sum() / 100))})
        if own.any():
            rows[-1] |= {
                "comprehensiveness": row[f"comprehensiveness_{SHARE}"],
                "sufficiency": row[f"sufficiency_{SHARE}"],
                "AOPC comprehensiveness": row["aopc_comprehensiveness"],
                "AOPC sufficiency": row["aopc_sufficiency"],
            }
    rows.append({"method": KEPT, "tokens": int(kept.sum()), "sufficiency": float(whole - only)})
    return pd.DataFrame(rows), float(whole), trace.full_label
