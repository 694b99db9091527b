"""An AdapLeR model is trained further."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, set_seed

from adapler import AdapLeRForSequenceClassification, ArgumentError
from adapler.cli.parser import main
from adapler.training.trainer import AdapLeRTrainer
from tests.adapler.training.common import QUICK, trainer
from tests.conftest import tiny_adapler


def test_training_goes_on_from_an_adapler_model(task_folder: Path, run_folder: Path, tmp_path: Path) -> None:
    """From its backbone, predictors, eta and theta; its saliency and reference score are its backbone's."""
    start = run_folder / "phi-0.1-post-hoc"
    task = ["--task", str(task_folder), "--model", str(start)]
    saliency = ["saliency", *task, "--max-length", "16", "--precision", "float32"]
    assert main([*saliency, "--output", str(tmp_path / "saliency")]) == 0
    train = ["train", *task, "--saliency", str(tmp_path / "saliency"), "--freeze-backbone", *QUICK]
    before: dict[str, torch.Tensor] = {}
    with pytest.MonkeyPatch.context() as patch:
        begin = AdapLeRTrainer.train

        def look(self: AdapLeRTrainer, *args: object, **kwargs: object) -> object:
            before.update({name: tensor.clone() for name, tensor in self.core.state_dict().items()})
            return begin(self, *args, **kwargs)

        patch.setattr(AdapLeRTrainer, "train", look)
        assert main([*train, "--output", str(tmp_path / "further")]) == 0
    trained = AdapLeRForSequenceClassification.from_pretrained(start).state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in trained.items())
    after = AdapLeRForSequenceClassification.from_pretrained(tmp_path / "further").state_dict()
    assert not torch.equal(after["eta"], before["eta"])
    record = json.loads((tmp_path / "further" / "run.json").read_text())
    first = json.loads((start / "run.json").read_text())
    assert record["start"] == "adapler" and first["start"] == "classifier" and record["model"] == start.name
    assert record["reference_score"] == json.loads((start / "evaluation-validation.json").read_text())["none"]["score"]

    assert record["objectives"]["predictor"] == "mlp" and record["objectives"]["contribution_hidden_size"] == 32
    wide = AdapLeRForSequenceClassification.from_backbone(run_folder / "finetuned", predictor="contextual")
    wide.save_pretrained(tmp_path / "wide")
    AutoTokenizer.from_pretrained(start).save_pretrained(tmp_path / "wide")
    own = [str(tmp_path / "wide") if word == str(start) else word for word in train]
    assert main([*own, "--output", str(tmp_path / "wider")]) == 0
    assert json.loads((tmp_path / "wider" / "run.json").read_text())["objectives"]["predictor"] == "contextual"

    with pytest.raises(ArgumentError, match="^--contribution-hidden-size: 8, but .* has 32$"):
        main([*train, "--contribution-hidden-size", "8", "--output", str(tmp_path / "other")])
    with pytest.raises(ArgumentError, match="^--predictor: contextual, but .* has mlp$"):
        main([*train, "--predictor", "contextual", "--output", str(tmp_path / "other")])
    with pytest.raises(ArgumentError, match="^--predictor: mlp, but .* has contextual$"):
        main([*own, "--predictor", "mlp", "--output", str(tmp_path / "other")])
    with pytest.raises(ArgumentError, match="^--predictor: 'mpl' is not one of contextual, mlp; "):
        main([*train, "--predictor", "mpl", "--output", str(tmp_path / "other")])
    with pytest.raises(ArgumentError, match="^--reinit-head: yes, but training keeps the head of .*, a fine-tuned"):
        main([*train, "--reinit-head", "yes", "--output", str(tmp_path / "other")])


def test_a_recorded_score_of_other_rows_is_measured_anew(task_folder: Path, run_folder: Path, tmp_path: Path) -> None:
    finetuned = Path(shutil.copytree(run_folder / "finetuned", tmp_path / "finetuned"))
    record = json.loads((finetuned / "run.json").read_text())
    train = ["train", "--task", str(task_folder), "--finetuned", str(finetuned), "--freeze-backbone", *QUICK]
    train += ["--saliency", str(run_folder / "saliency")]

    def reference(name: str, **changes: object) -> float:
        (finetuned / "run.json").write_text(json.dumps({**record, "best": 0.9876, **changes}))
        assert main([*train, "--output", str(tmp_path / name)]) == 0
        return float(json.loads((tmp_path / name / "run.json").read_text())["reference_score"])

    assert reference("same") == 0.9876
    true = record["validation"]["accuracy"]
    assert reference("rows", data_checksum="of other rows") == true
    assert reference("part", encoding={**record["encoding"], "long_documents": "last"}) == true


def test_a_model_whose_own_configuration_wants_tuples_trains_alike(tmp_path: Path, tiny_tokenizer: Any) -> None:
    found = []
    for as_object in (True, False):
        set_seed(3)
        one = trainer(tmp_path / str(as_object), tiny_tokenizer, model=tiny_adapler(eta=0.5))
        one.core.config.return_dict = as_object
        one.train()
        assert one.core.config.return_dict is as_object
        names = ("eval_accuracy", "eval_speedup", "eval_lengths", "eval_selection", "eval_loss")
        points = [[row[name] for name in names] for row in one.state.log_history if names[0] in row]
        found.append((points, one.core.state_dict()))
    (points, weights), (others, other_weights) = found
    assert len(points) == 2 and points == others
    assert all(torch.equal(tensor, other_weights[name]) for name, tensor in weights.items())
