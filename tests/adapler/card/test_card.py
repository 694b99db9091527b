"""The model card: what was measured of these weights stands in it, what was measured of others does not."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from adapler.card import model_card, read_facts
from adapler.cli import main
from adapler.errors import ArgumentError, CheckpointError, run_command
from adapler.modeling import AdapLeRForSequenceClassification
from adapler.training.records import write_record


@pytest.fixture
def trained(run_folder: Path, tmp_path: Path) -> Path:
    """A model of its own to write a card for."""
    return Path(shutil.copytree(run_folder / "phi-0.1-post-hoc", tmp_path / "mine"))


def test_the_card_holds_what_was_measured(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--license", "apache-2.0", "--language", "en", "--base-model", "org/tiny"]
    assert main(["card", "--model", str(trained), *options]) == 0
    output = capsys.readouterr()
    assert output.out.startswith(f"{trained / 'README.md'}; ") and output.err == ""
    card = ModelCard.load(trained / "README.md")
    assert card.data.license == "apache-2.0" and card.data.language == ["en"] and card.data.base_model == "org/tiny"
    measured = {
        split: json.loads((trained / f"evaluation-{split}.json").read_text()) for split in ("validation", "test")
    }
    on_hub = {one.dataset_split: one.metric_value for one in card.data.eval_results or ()}
    assert on_hub == {split: round(result["hard"][0]["score"], 4) for split, result in measured.items()}
    for split, result in measured.items():
        (row,) = result["hard"]
        (line,) = (line for line in card.text.splitlines() if f"tiny, {split}" in line and "| hard |" in line)
        assert f"| {row['score']:.3f} | {row['speedup']:.2f}x |" in line
    assert "* rows: 24 train, 8 validation" in card.text and "NEG, POS" in card.text and "from org/tiny" in card.text
    assert "```sh" not in card.text, "it was trained by another program"


@pytest.mark.parametrize("program", ["adapler", "__main__.py"])
def test_the_command_can_be_typed_again(trained: Path, program: str) -> None:
    record = json.loads((trained / "run.json").read_text())
    write_record(trained / "run.json", record | {"arguments": [program, "run", "--task", "my films", "--phi", "0.1"]})
    assert "```sh\nadapler run --task 'my films' --phi 0.1\n```" in str(model_card(read_facts(trained)))


@pytest.mark.parametrize(
    "said, factor",
    [({}, None), ({"reached": {"factor": 1.0}}, None), ({"reached": {"factor": 0.956}}, "0.956"),
     ({"reached": {"factor": 0.5}, "threshold_scale": 1.5}, "0.75"), ({"threshold_scale": 0.95}, "0.95")],
)  # fmt: skip
def test_thresholds_that_are_not_the_kept_epochs(trained: Path, said: dict[str, Any], factor: str | None) -> None:
    write_record(trained / "run.json", json.loads((trained / "run.json").read_text()) | said)
    found = re.findall(r"^\* thresholds multiplied afterwards by: (.*)$", str(model_card(read_facts(trained))), re.M)
    assert found == ([] if factor is None else [factor])


def test_what_was_measured_of_other_weights_is_left_out(trained: Path) -> None:
    path = trained / "evaluation-test.json"
    write_record(path, json.loads(path.read_text()) | {"model_checksum": "another"})
    facts = read_facts(trained)
    assert [result["split"] for result in facts.evaluations] == ["validation"]
    assert facts.notes == (f"{path}: left out, it was measured with other weights than lie beside it",)
    assert "test (" not in str(model_card(facts))


def test_a_calibration_stands_in_it_unless_it_is_of_other_weights(trained: Path, task_folder: Path) -> None:
    quick = ["--points", "4", "--timed-single", "2", "--resamples", "100"]
    assert main(["calibrate", "--model", str(trained), "--task", str(task_folder), *quick]) == 0
    facts = read_facts(trained)
    assert facts.calibration is not None
    point = facts.calibration.points[-1]
    assert f"| {point.threshold_scale:g} | {point.score:.3f} [" in str(model_card(facts))
    assert "speedup=4" not in str(model_card(facts)), "what this curve may not reach"
    model = AdapLeRForSequenceClassification.from_pretrained(trained)
    model.eta.data[:] = 0.3
    kept = (trained / "calibration.json").read_bytes()
    model.save_pretrained(trained)
    (trained / "calibration.json").write_bytes(kept)
    facts = read_facts(trained)
    assert facts.calibration is None and not facts.evaluations
    assert any("calibration.json: left out" in note for note in facts.notes), facts.notes
    assert "Speed on demand" not in str(model_card(facts))


def test_a_model_without_a_record_has_a_card_that_says_less(trained: Path) -> None:
    (trained / "run.json").unlink()
    facts = read_facts(trained)
    assert "no run.json" in facts.notes[0]
    text = str(model_card(facts, name="films"))
    assert "# films\n" in text and "## Training" not in text and "seed" not in text


def test_layers_that_drop_nothing_are_said(trained: Path, tmp_path: Path) -> None:
    assert "Contribution Predictors (`mlp`). The backbone" in str(model_card(read_facts(trained)))
    load = AdapLeRForSequenceClassification.from_pretrained
    load(trained, policy_options={"first_layer": 1}).save_pretrained(tmp_path / "later")
    assert "(`mlp`) from layer 1 on, counted from 0. The backbone" in str(model_card(read_facts(tmp_path / "later")))


def test_another_policy_is_called_by_its_name_and_rule(tiny_classifier_folder: Path, tmp_path: Path) -> None:
    AdapLeRForSequenceClassification.from_backbone(
        tiny_classifier_folder, policy="cls_topk", policy_options={"keep": 0.6}
    ).save_pretrained(tmp_path)
    text = str(model_card(read_facts(tmp_path)))
    assert (
        "by the removal policy `cls_topk` (keep 0.6). After a layer's attention the tokens stay to which [CLS]" in text
    )
    assert "AdapLeR]" not in text


@pytest.mark.parametrize(
    ("policy", "scale"),
    [("adapler", "a factor on every threshold"), ("cls_topk", "which divides the number of tokens that stay")],
)
def test_the_scale_is_said_as_the_policy_takes_it(policy: str, scale: str, trained: Path) -> None:
    facts = read_facts(trained)
    facts.config.policy, facts.config.predictor = policy, None if policy != "adapler" else facts.config.predictor
    assert f"The scale is `threshold_scale`, {scale}." in str(model_card(facts))


def test_a_card_is_not_overwritten_unasked(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (trained / "README.md").write_text("by hand", encoding="utf-8")
    assert run_command(main, ["card", "--model", str(trained)]) == 2
    assert "README.md is there already; --overwrite replaces it" in capsys.readouterr().err
    assert (trained / "README.md").read_text(encoding="utf-8") == "by hand"
    assert main(["card", "--model", str(trained), "--overwrite"]) == 0
    assert "# mine\n" in (trained / "README.md").read_text(encoding="utf-8")


def test_bad_models(tmp_path: Path, tiny_classifier_folder: Path) -> None:
    with pytest.raises(ArgumentError, match="--model: .*nowhere is not a folder"):
        main(["card", "--model", str(tmp_path / "nowhere")])
    with pytest.raises((ArgumentError, CheckpointError)):
        main(["card", "--model", str(shutil.copytree(tiny_classifier_folder, tmp_path / "plain"))])
    assert not (tmp_path / "plain" / "README.md").exists()
    for name in ("a\nb", " "):
        with pytest.raises(ArgumentError, match="--name: .* must be one line of text"):
            main(["card", "--model", str(tmp_path / "plain"), "--name", name])


def test_an_evaluation_of_another_part_of_the_texts_is_told_apart(trained: Path) -> None:
    path = trained / "evaluation-test.json"
    result = json.loads(path.read_text())
    encoding = result["encoding"] | {"max_length": 5}
    write_record(trained / "evaluation-short.json", result | {"encoding": encoding})
    card = model_card(read_facts(trained))
    assert [one.dataset_split for one in card.data.eval_results or ()] == ["validation", "test"]
    (row,) = result["hard"]
    lines = [line for line in str(card).splitlines() if "tiny, test (" in line and f"| {row['score']:.3f} |" in line]
    assert sum("), max_length 5, longer texts: truncate |" in line for line in lines) == len(lines) / 2 > 0
