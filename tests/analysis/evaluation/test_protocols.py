from __future__ import annotations

from dataclasses import replace

import pytest

from adapler.errors import ArgumentError
from analysis.evaluation import protocols
from analysis.evaluation.protocols import PROTOCOLS, get_protocol
from analysis.metrics.registry import METRICS


def test_presets_are_complete() -> None:
    assert tuple(PROTOCOLS) == ("paper", "eraser", "ferret")
    for name, protocol in PROTOCOLS.items():
        assert get_protocol(name) is protocol and protocol.name == name
        assert protocol.policy in ("truncate", "rationale-windows", "all-windows")
        assert protocol.aggregation in ("none", "max", "mean", "sum")
        assert protocol.metrics and set(protocol.metrics) <= set(METRICS)
        assert len(set(protocol.metrics)) == len(protocol.metrics)
        assert protocol.source and protocol.note and protocol.hard_selection
    assert [p.needs_model for p in PROTOCOLS.values()] == [False, True, True]


def test_the_paper_protocol_runs_no_model_twice_and_keeps_its_columns() -> None:
    assert PROTOCOLS["paper"].metrics == (
        "average_precision", "fpr", "tpr", "j", "fpr_present", "tpr_present", "j_present", "fpr_content",
        "tpr_content", "j_content",
    )  # fmt: skip


def test_eraser_and_ferret_settings_follow_their_sources() -> None:
    eraser, ferret = PROTOCOLS["eraser"], PROTOCOLS["ferret"]
    assert (eraser.faithfulness.bins, eraser.faithfulness.rounding) == ((1, 5, 10, 20, 50), "up")
    assert eraser.faithfulness.variant == ferret.faithfulness.variant == "delete"
    assert ferret.faithfulness.bins == (10, 20, 30, 40, 50, 60, 70, 80, 90, 100)
    assert (ferret.faithfulness.rounding, ferret.faithfulness.positive_only) == ("down", True)


def test_unknown_names_are_errors() -> None:
    with pytest.raises(ArgumentError, match="protocol: got 'squad', allowed are paper, eraser, ferret"):
        get_protocol("squad")
    with pytest.raises(ArgumentError, match="metric: got 'ap', allowed are average_precision"):
        replace(PROTOCOLS["paper"], metrics=("ap",))


def test_the_table_says_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert protocols.main([]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 118
    words = " ".join(text.split())
    for part in ("paper", "eraser", "ferret", "all-windows", "token_iou_at_5", "rounded down"):
        assert part in words
    assert protocols.main(["--markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "|  | paper | eraser | ferret |"
    assert all(line.count("|") == 5 for line in lines)
    for protocol in PROTOCOLS.values():
        assert ", ".join(protocol.metrics) in "\n".join(lines) and protocol.note in "\n".join(lines)
