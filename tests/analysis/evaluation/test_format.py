"""The number format of an analysis: what is computed in it, and who says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapler import precision
from adapler.errors import ArgumentError
from analysis import explain, loading, rationale_eval
from analysis.command.console import header
from analysis.explanation.page import whole_page
from analysis.output.report import RationaleReport
from analysis.output.tables import note
from analysis.scores import Batch
from analysis.scores.passes import adapler_pass, in_format, run_format
from tests.analysis.conftest import GOOD


def run(adapler: Any, corpus: Path, **options: Any) -> RationaleReport:
    options = {"max_length": 24, "methods": ["cp", "attention"], "progress": False, **options}
    return rationale_eval.evaluate(adapler=adapler, data=corpus, **options)


def test_adapler_drops_what_for_inference_drops(
    reducer: Any, tiny_tokenizer: Any, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an evaluation and in `explain`, to the bit; the model that was given stays as it is."""
    fast = reducer.for_inference(dtype="bfloat16")
    e = explain(GOOD, model=reducer, tokenizer=tiny_tokenizer, methods=["cp"], dtype="bfloat16")
    ids = torch.tensor(e.window.input_ids)[None]
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.no_grad():
        expected, exact = fast(**batch), reducer(**batch)
    assert np.array_equal(e.scores["cp"], expected.contribution_scores[0].numpy())
    assert not np.array_equal(e.scores["cp"], exact.contribution_scores[0].numpy())
    assert np.array_equal(e.kept, expected.retention_mask[0].bool().numpy())
    assert all(parameter.dtype == torch.float32 for parameter in reducer.parameters())

    report = run(reducer, corpus_folder, tokenizer=tiny_tokenizer, dtype="bfloat16")
    plain = run(reducer, corpus_folder, tokenizer=tiny_tokenizer)
    monkeypatch.setattr(loading, "_check_weights", lambda name, model: None)  # refused otherwise: not in float32
    rough = run(fast, corpus_folder, tokenizer=tiny_tokenizer, model=reducer.backbone, methods=["cp"])
    cp = report.methods.index("cp")
    assert np.array_equal(report.values[cp], rough.values[0], equal_nan=True)
    assert not np.array_equal(report.values, plain.values, equal_nan=True)


def test_an_adapler_pass_is_not_changed_by_autocast(reducer: Any, batch: Batch) -> None:
    with run_format("bfloat16", torch.device("cpu")):
        assert torch.is_autocast_enabled("cpu")
        inside = adapler_pass(reducer, batch).logits
    with torch.no_grad():
        outside = reducer(**batch.model_inputs(), removal="hard").logits
    assert torch.equal(inside, outside)
    assert in_format(reducer, "float32") is reducer and in_format(None, "bfloat16") is None


def test_reports_say_the_format(adapler_folder: Path, corpus_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = run(adapler_folder, corpus_folder)
    assert plain.meta["dtype"] == "float32" and "note:" not in capsys.readouterr().err
    assert "bfloat16" not in note(plain) + header(plain)
    rough = run(adapler_folder, corpus_folder, dtype="bfloat16")
    assert "note: dtype bfloat16 (" in capsys.readouterr().err
    assert "computed in bfloat16" in note(rough) and "computed in bfloat16" in rough.to_markdown()
    assert "precision  bfloat16 on cpu" in header(rough)
    with pytest.raises(ArgumentError, match="dtype differs, float32 and bfloat16"):
        RationaleReport.merge([plain, rough])


def test_auto_asks_the_device(
    adapler_folder: Path,
    corpus_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for has, chosen in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(precision, "has_bfloat16", lambda device, has=has: has)
        assert run(adapler_folder, corpus_folder, dtype="auto", methods=["cp"]).meta["dtype"] == chosen
        e = explain("a dull film .", model=adapler_folder, methods=["cp"], dtype="auto")
        assert e.dtype == e.to_dict()["dtype"] == chosen
        assert capsys.readouterr().err.count(f"note: dtype {chosen} (auto: ") == 1
        said = f"in {chosen}" if chosen != "float32" else ""
        assert said in repr(e) and said in whole_page(e)
        assert ("in bfloat16" in repr(e)) == ("in bfloat16" in whole_page(e)) == has
    assert explain("a dull film .", model=adapler_folder, methods=["cp"]).dtype == "float32"
    with pytest.raises(ArgumentError, match="^dtype: 'half' is not one of auto, float32, bfloat16$"):
        explain("a dull film .", model=adapler_folder, dtype="half")


def test_choose_format_has_a_note_about_all_but_the_default(reducer: Any) -> None:
    assert loading.choose_format("float32", reducer) == ("float32", None)
    chosen, note = loading.choose_format("bfloat16", reducer)
    assert chosen == "bfloat16" and note and note.startswith("note: ")


def test_weights_in_float64_are_computed_with_as_they_are(classifier: Any, tiny_tokenizer: Any) -> None:
    """Autocast leaves them, so that numbers in float64 were said to be in bfloat16."""
    wide = classifier.double()
    for dtype in ("float32", "auto"):
        assert explain(GOOD, model=wide, tokenizer=tiny_tokenizer, methods="attention", dtype=dtype).dtype == "float64"
        chosen, said = loading.choose_format(dtype, wide)
        assert chosen == "float32" and said == "note: the model's weights are float64, and so is what it computes"
    with pytest.raises(ArgumentError, match="^dtype: got 'bfloat16', and the model's weights are float64; give it in"):
        explain(GOOD, model=wide, tokenizer=tiny_tokenizer, methods="attention", dtype="bfloat16")
    with pytest.raises(ArgumentError, match="^dtype: 'float16' is not one of"):
        loading.choose_format("float16", wide)


def test_a_report_of_a_model_in_float64_says_so(reducer: Any, tiny_tokenizer: Any, corpus_folder: Path) -> None:
    """It was called one in float32, and could be merged with one."""
    plain = run(reducer, corpus_folder, tokenizer=tiny_tokenizer, limit=2)
    wide = run(reducer.double(), corpus_folder, tokenizer=tiny_tokenizer, limit=2)
    assert plain.meta["dtype"] == "float32" and wide.meta["dtype"] == "float64"
    assert "computed in float64" in note(wide) and "precision  float64 on cpu" in header(wide)
