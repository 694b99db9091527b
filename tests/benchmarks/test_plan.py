"""How long the plan takes a run to be: epochs of all stages, and a rate out of the records that there are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapler.errors import ArgumentError, DataError
from benchmarks.tradeoff.__main__ import build_parser, settings_of
from benchmarks.tradeoff.plan import RATE, Job, Rates, Settings, TaskFacts, epochs_of, facts_of, plan, table_of
from benchmarks.tradeoff.records import check_encoder, read_records, starting_points
from benchmarks.tradeoff.systems import Recipe, cost_of, read_system_recipe, system_of
from benchmarks.tradeoff.work import training_command
from tests.benchmarks import stand_ins
from tests.benchmarks.stand_ins import candidate, predicted
from tests.test_layering import ROOT

FACTS = TaskFacts(
    data="d",
    checksum="c",
    coverage="subset",
    rows={"train": 10, "validation": 2, "test": 2},
    lengths={"train": 9.0},
    flops={"train": 1e12, "validation": 0.0, "test": 0.0},
)


def recipe(**options: Any) -> Recipe:
    return Recipe(Path("r.yaml"), options, (None,))


def record(system: str, *, minutes: float, epochs: float = 3, flops: float = 1e12) -> dict[str, Any]:
    cost = {"own_minutes": minutes, "own_epochs": epochs}
    return {"backbone": "tiny", "system": system, "cost": cost, "epoch_flops": flops}


def test_epochs_of_all_stages_are_counted_as_a_record_counts_them() -> None:
    power = system_of("power")
    assert epochs_of("qnli", power, recipe(policy_epochs=[3, 4])) == 7
    ran = {"stages": [{"epochs": [{"epoch": 1.0}, {"epoch": 3.0}]}, {"epochs": [{"epoch": 4.0}]}]}
    assert cost_of(Path(), system_of("finetuned"), ran)["epochs"] == 7
    assert epochs_of("qnli", system_of("cls_topk"), recipe(policy_epochs=[2])) == 2
    assert epochs_of("qnli", system_of("cls_topk"), recipe(policy_epochs=2)) == 2
    assert epochs_of("qnli", power, recipe(policy_epochs=[3, 4]), asked=1) == 2, "one of each stage"
    with pytest.raises(ArgumentError, match="^--policy-epochs: 1 value, 'power' has 2 stages: search, retrain"):
        epochs_of("qnli", power, recipe(policy_epochs=[3]))


def test_epochs_that_a_recipe_does_not_name_are_those_of_the_command() -> None:
    assert (
        epochs_of("qnli", system_of("adapler"), recipe()) == 5
        and epochs_of("qnli", system_of("adapler"), recipe(epochs=4)) == 4
    )
    ltp = system_of("ltp")
    assert epochs_of("mrpc", ltp, recipe()) == 15 > epochs_of("mnli", ltp, recipe()), "longer on a small task"


def test_every_recipe_can_be_counted() -> None:
    for path in sorted((ROOT / "configs").glob("*/power.yaml")):
        system = system_of("power")
        found = read_system_recipe(ROOT / "configs", path.parent.name, system)
        assert epochs_of(path.parent.name, system, found) == sum(found.options["policy_epochs"]) > 0


def test_rates_come_from_the_same_system_then_from_others_and_last_from_a_guess() -> None:
    power, trbert, finetuned = system_of("power"), system_of("trbert"), system_of("finetuned")
    guess = Rates([], backbone="tiny")
    assert guess.source(power) == "guess"
    assert guess.minutes(power, FACTS, points=2, epochs=6) == pytest.approx(2 * 6 * power.passes * 1e12 / RATE)

    known = Rates([record("power", minutes=m) for m in (3.0, 6.0, 90.0)], backbone="tiny")
    assert known.source(power) == "records" and known.source(trbert) == "other records"
    assert known.minutes(power, FACTS, points=1, epochs=6) == pytest.approx(12), "the median is 2 minutes an epoch"
    assert known.minutes(trbert, FACTS, points=1, epochs=6) == pytest.approx(12 * trbert.passes / power.passes)

    tuned = Rates([record("power", minutes=6.0), record("finetuned", minutes=9.0)], backbone="tiny")
    expected = 3 * trbert.passes / finetuned.passes
    assert tuned.minutes(trbert, FACTS, points=1, epochs=1) == pytest.approx(expected), "fine-tuning goes before others"
    assert Rates([record("power", minutes=6.0)], backbone="another").source(power) == "guess"
    assert Rates([record("power", minutes=6.0, epochs=0)], backbone="tiny").source(power) == "guess"


def job(system: str, options: Recipe, **changes: Any) -> Job:
    values = {"budgets": (None,), "folder": Path("f"), "minutes": 1.0, "source": "other records", **changes}
    return Job("qnli", system_of(system), 1, recipe=options, facts=FACTS, **values)


def test_the_plan_says_where_its_minutes_come_from() -> None:
    jobs = [job("power", recipe(), source=source) for source in ("records", "other records", "guess")]
    header, *lines, _ = table_of(jobs, workers=1).splitlines()
    column = header.index("from")
    assert [line[column:] for line in lines] == ["records", "other records", "guess"]


def test_a_quick_run_shortens_every_stage() -> None:
    settings = Settings(tasks=("qnli",), systems=("power",), seeds=(1,), backbone="b", name="tiny", epochs=1)
    words = training_command(job("power", recipe(policy_epochs=[3, 3])), settings, budget=0.1)
    at = words.index("--policy-epochs")
    assert words[at + 1 : at + 3] == ["1", "1"] and words[at + 3 :] == []
    assert "--policy-epochs" not in training_command(job("adapler", recipe()), settings, budget=0.1)


def test_a_backbone_that_is_an_adapler_model_is_refused() -> None:
    given = Settings(
        tasks=("mrpc",), systems=("power",), seeds=(1,), backbone=str(ROOT / "checkpoints" / "movies-minilm"), name="x"
    )
    with pytest.raises(ArgumentError, match="^--backbone: .*movies-minilm is an AdapLeR model"):
        facts_of("mrpc", given)


def test_a_record_of_another_encoder_of_the_same_name_is_refused() -> None:
    one = {"backbone": "tiny", "task": "sst2", "system": "power", "seed": 1, "budget": 0.5}
    for found, asked in ((None, "a"), ("a", None), ("a", "a")):
        check_encoder([one | {"encoder_checksum": found}, one], asked, Path("out"))
    path = "out/records/tiny/sst2/power-0.5-seed-1.json"
    with pytest.raises(ArgumentError, match=f"^--backbone: another encoder than that of {path}; give another "):
        check_encoder([one | {"encoder_checksum": "a"}], "b", Path("out"))


def test_points_of_several_classifiers_are_said() -> None:
    one = {"task": "sst2", "backbone": "tiny", "seed": 1}
    records = [one | {"classifier_checksum": name} for name in ("a", "a", "b", None)]
    assert starting_points([*records[:2], one]) == [] == starting_points([records[0], records[2] | {"seed": 2}])
    (line,) = starting_points(records)
    assert line.startswith("sst2, tiny, seed 1: the points start from 2 classifiers of one recipe (2, 1 points)")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("validation_share: 0.2", "validation_share draws other rows for each seed"),
        ("limit: 500", "limit leaves out training rows, which no table would say; give --limit"),  # it said "complete"
        ("target_speedup: 4", "target_speedup chooses the budget that a point is known by"),  # none was found, trained
    ],
)
def test_options_that_no_recipe_may_have_are_refused(tmp_path: Path, option: str, message: str) -> None:
    path = tmp_path / "sst2" / "adapler.yaml"
    path.parent.mkdir()
    path.write_text(f"command: run\nphi: 1.0e-3\n{option}\n")
    with pytest.raises(DataError, match=f"adapler.yaml: {message}"):
        read_system_recipe(tmp_path, "sst2", system_of("adapler"))


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Of a task whose classifier and random tokens have recipes."""
    monkeypatch.setattr("benchmarks.tradeoff.plan.facts_of", lambda *_: FACTS)
    monkeypatch.setattr("benchmarks.tradeoff.plan.model_checksum", lambda _: None)
    folder = tmp_path / "configs" / "sst2"
    folder.mkdir(parents=True)
    (folder / "finetuned.yaml").write_text("command: finetune\nepochs: 5\n", encoding="utf-8")
    (folder / "random_topk.yaml").write_text("command: run\npolicy_epochs: 1\nkeep: 0.7\n", encoding="utf-8")
    places = {"configs": tmp_path / "configs", "output": tmp_path / "out", "runs": tmp_path / "runs"}
    return Settings(("sst2",), ("random_topk",), (1, 2), backbone="b", name="tiny", **places)


def test_a_classifier_that_is_gone_is_part_of_the_plan(asked: Settings) -> None:
    """Its record is there, its weights are not, so the first run of its folder makes it anew."""
    settings = replace(asked, systems=("finetuned", "random_topk"), seeds=(1,))
    plain = stand_ins.record("finetuned", tested={None: predicted([])}, validation=[candidate(None, 0.9, 1.0)])
    stand_ins.write(settings.output, [plain | {"data_checksum": "c"}])
    records = read_records(settings.output)
    (gone,) = plan(settings, records)
    weights = settings.runs / "tiny" / "sst2" / "seed-1" / "finetuned" / "run.json"
    weights.parent.mkdir(parents=True)
    weights.write_text("{}", encoding="utf-8")
    (there,) = plan(settings, records)
    assert gone.system.name == there.system.name == "random_topk"
    rates = Rates(records, backbone="tiny")
    assert gone.minutes - there.minutes == pytest.approx(
        rates.minutes(system_of("finetuned"), FACTS, points=1, epochs=5)
    )


def test_a_short_run_of_a_further_seed_brings_its_classifier_along(asked: Settings) -> None:
    """The classifier takes longer than the limit, and the run needs it; alone it is not run."""
    for systems in (("random_topk",), ("finetuned", "random_topk")):
        jobs = plan(replace(asked, systems=systems, further_seeds_below=3.0), [])
        assert [(job.system.name, job.seed) for job in jobs] == [
            *(("finetuned", 1), ("random_topk", 1), ("finetuned", 2), ("random_topk", 2))
        ]
        assert jobs[2].minutes > 3.0 > jobs[3].minutes
    alone = plan(replace(asked, systems=("finetuned",), further_seeds_below=3.0), [])
    assert [job.seed for job in alone] == [1]


@pytest.mark.parametrize("minutes", ["nan", "-3", "inf"])
def test_a_limit_that_is_no_number_of_minutes_is_refused(minutes: str) -> None:
    with pytest.raises(ArgumentError, match=f"^--further-seeds-below: {float(minutes)} is not a number of at least 0"):
        settings_of(build_parser().parse_args(["--backbone", "b", "--further-seeds-below", minutes]))
