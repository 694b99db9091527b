"""Which rows stand together in a batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import RandomSampler
from transformers import TrainerCallback, set_seed
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from adapler.cli.parser import main
from adapler.training.collator import LengthSampler
from adapler.training.stages.finetune import FinetuneTrainer
from tests.adapler.training.common import trainer


def padding(order: list[int], lengths: list[int], *, size: int) -> int:
    batches = [[lengths[row] for row in order[start : start + size]] for start in range(0, len(order), size)]
    return sum(max(batch) * len(batch) - sum(batch) for batch in batches)


@pytest.mark.parametrize("rows", [1, 7, 64, 1003])
def test_every_row_once_in_an_order_of_the_seed_and_the_epoch(rows: int) -> None:
    lengths = torch.randint(3, 60, (rows,), generator=torch.Generator().manual_seed(1)).tolist()

    def order(seed: int, epoch: int) -> list[int]:
        sampler = LengthSampler(lengths, batch_size=8, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    first = order(5, 0)
    assert sorted(first) == list(range(rows)) and first == order(5, 0)
    if rows < 64:
        return
    assert first != order(5, 1) and first != order(6, 0)
    assert padding(first, lengths, size=8) < 0.2 * padding(list(range(rows)), lengths, size=8)
    longest = [max(lengths[row] for row in first[start : start + 8]) for start in range(0, rows, 8)]
    assert longest != sorted(longest, reverse=True), "batches come in no order of length"


def by_length(folder: Path, tokenizer: Any) -> Any:
    """A trainer that keeps a checkpoint every three steps; an epoch has four."""
    set_seed(7)
    one = trainer(folder, tokenizer, settings={"group_by_length": True})
    one.args.eval_strategy, one.args.load_best_model_at_end = IntervalStrategy.NO, False
    one.args.save_strategy, one.args.save_steps = SaveStrategy.STEPS, 3
    return one


def test_a_training_killed_within_an_epoch_goes_on_in_the_same_order(tmp_path: Path, tiny_tokenizer: Any) -> None:
    class Kill(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 7:
                raise KeyboardInterrupt

    straight = by_length(tmp_path / "straight", tiny_tokenizer)
    straight.train()
    killed = by_length(tmp_path / "killed", tiny_tokenizer)
    killed.add_callback(Kill())
    with pytest.raises(KeyboardInterrupt):
        killed.train()
    resumed = by_length(tmp_path / "killed", tiny_tokenizer)
    resumed.train(resume_from_checkpoint=True)
    assert straight.state.global_step == resumed.state.global_step == 8
    for (name, a), b in zip(straight.core.state_dict().items(), resumed.core.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_predictions_stay_in_the_order_of_their_rows(tmp_path: Path, tiny_tokenizer: Any) -> None:
    grouped = by_length(tmp_path / "grouped", tiny_tokenizer)
    plain = trainer(tmp_path / "plain", tiny_tokenizer, model=grouped.core)
    found, expected = (one.predict(one.eval_dataset) for one in (grouped, plain))
    assert found.label_ids.tolist() == grouped.eval_dataset["labels"]
    torch.testing.assert_close(torch.tensor(found.predictions[0]), torch.tensor(expected.predictions[0]))


def test_the_setting_reaches_the_trainer_and_the_record(
    task_folder: Path, tmp_path: Path, tiny_classifier_folder: Path
) -> None:
    """As an option and in a recipe; by default, rows are drawn at random, as before."""
    seen: list[type] = []
    step = FinetuneTrainer._get_train_sampler

    def spy(self: Any, *args: Any) -> Any:
        sampler = step(self, *args)
        seen.append(type(sampler))
        return sampler

    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("command: finetune\ngroup_by_length: true\n", encoding="utf-8")
    base = [
        "finetune",
        "--task",
        str(task_folder),
        "--model",
        str(tiny_classifier_folder),
        "--max-length",
        "16",
        "--max-steps",
        "1",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FinetuneTrainer, "_get_train_sampler", spy)
        for name, more in {"plain": [], "option": ["--group-by-length"], "recipe": ["--config", str(recipe)]}.items():
            assert main([*base, "--precision", "float32", *more, "--output", str(tmp_path / name)]) == 0
            record = json.loads((tmp_path / name / "run.json").read_text(encoding="utf-8"))
            assert record["settings"]["group_by_length"] is (name != "plain")
    assert seen == [RandomSampler, LengthSampler, LengthSampler]
