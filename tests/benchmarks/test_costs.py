"""The table of training minutes, from records."""

from __future__ import annotations

from pathlib import Path

from benchmarks.tradeoff.report.costs import cost_table
from benchmarks.tradeoff.report.tables import write_results
from tests.benchmarks.stand_ins import candidate, predicted, record, some_records, write


def test_minutes_are_means_over_models_and_hours_their_sum() -> None:
    plain = record("finetuned", tested={None: predicted([])}, validation=[candidate(None, 0.9, 1.0)])
    plain |= {"cost": {"epochs": 1.0, "minutes": 30.0, "own_epochs": 1.0, "own_minutes": 30.0}}
    seeds = []
    for seed, (whole, own, device) in enumerate([(50.0, 20.0, "Zen"), (60.0, 40.0, "Core")]):
        one = record("power", tested={1.0: predicted([])}, validation=[candidate(1.0, 0.9, 2.0)], seed=seed)
        one["cost"] |= {"minutes": whole, "own_minutes": own}
        one["machine"] |= {"device": device}
        seeds.append(one)
    other = seeds[0] | {"task": "mrpc", "cost": {"minutes": 5.0, "own_minutes": 3.0}}
    assert cost_table([plain | {"machine": {"device": "Zen"}}, *seeds, other]) == [
        ["system", "SST-2", "MRPC"],
        ["Fine-tuned backbone", "30 b", ""],
        ["PoWER-BERT", "55 (30) ab", "5 (3) b"],
        ["hours", "1.5", "0.1"],
    ]


def test_the_page_has_it_for_each_backbone(tmp_path: Path) -> None:
    output = tmp_path / "results"
    write(output, [*some_records(), *(one | {"backbone": "small"} for one in some_records(task="imdb"))])
    write_results(output)
    text = (output / "table.md").read_text(encoding="utf-8")
    tables = text.split("### What training took\n")[1:]
    assert [table.split("| system | ")[1].split(" |")[0] for table in tables] == ["IMDB", "SST-2"]
    assert all("| AdapLeR | 5 (3) a |" in table and "\na: A processor\n" in table for table in tables)
