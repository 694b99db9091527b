"""The tables of the pages on the trade-off are those that the benchmark wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pyarrow.parquet as pq
import pytest
import torch
from transformers import BertConfig

from adapler import AdapLeRConfig
from adapler.model.flops import adapler_flops, backbone_flops
from benchmarks.tradeoff.records import Key, read_records
from tests.test_layering import ROOT

RESULTS = ROOT / "results" / "tradeoff"
FIRST = "| system | "  # the pages' heading where table.md has a longer one


def tables_of(name: str) -> Iterator[tuple[str, list[str]]]:
    """The lines of each table of a page, without its rule, and the heading above it."""
    heading, table = "", []
    for line in [*(ROOT / name).read_text(encoding="utf-8").splitlines(), ""]:
        if line.startswith("|"):
            table.append(line)
            continue
        if table:
            yield heading, table[:1] + table[2:]
        table = []
        if line.startswith("#"):
            heading = line.lstrip("# ").partition(":")[0]  # SST-2: 67349 training rows


PAGES = {"results/tradeoff/README.md": 15}  # how many tables are the benchmark's


@pytest.mark.parametrize("page", PAGES)
def test_tables_are_the_benchmark_s(page: str) -> None:
    """All lines of a table stand in one table that was written, in its order; a page may leave some out."""
    written = [
        (heading, [line.replace("| where a speedup is asked for | ", FIRST) for line in table])
        for heading, table in tables_of("results/tradeoff/table.md")
    ]
    found = 0
    for heading, table in tables_of(page):
        same = [(title, rows) for title, rows in written if rows[0] == table[0]]
        if len(same) > 2:  # a table that every task has; the first one of two of the movies is of base size
            base = heading.startswith("Base size")
            same = [(title, rows) for title, rows in same if title == ("Movies" if base else heading)]
            same = same[:1] if base else same[-1:]
        if same:
            found += 1
            assert any(line_by_line(table, rows) for _, rows in same), f"{page}, {heading}"
    assert found == PAGES[page]


def line_by_line(part: list[str], whole: list[str]) -> bool:
    """Whether `part` is `whole` without some of its lines."""
    rest = iter(whole)
    return all(line in rest for line in part)


def test_the_front_page_has_two_of_the_speeds() -> None:
    """AdapLeR's cell and the best other's, which stand in one column there, beside each other here."""
    asked = "Where a speedup is asked for"
    written = [table for heading, table in tables_of("results/tradeoff/table.md") if heading == asked]
    head, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in written[-1]]
    [shown] = [table for _, table in tables_of("README.md") if table[0].startswith("| task |")]
    speeds = ("2x", "4x")
    titles = [f"{speed}: {who}" for speed in speeds for who in ("AdapLeR", "best other")]
    assert shown[0] == f"| task | classifier | {' | '.join(titles)} |"
    for line, ours, theirs in zip(shown[1:], rows[::2], rows[1::2], strict=True):
        cells = [row[head.index(speed)] for speed in speeds for row in (ours, theirs)]
        assert line == f"| {' | '.join([*ours[:2], *cells])} |"
        assert (ours[2], theirs[2]) == ("AdapLeR", "best other")


SIZES = {6: {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536}, 12: {}}


@pytest.mark.parametrize(
    ("policy", "whole", "layers", "said"),
    [
        ("ltp", 2, 6, "LTP is 3.9x to 4.2x"),
        ("trbert", 1, 6, "TR-BERT 5.0x to 5.9x"),
        ("ltp", 2, 12, "6.8x to 8.5x, and"),
        ("trbert", 1, 12, "and 8.3x to 11.7x"),
    ],
)
def test_where_curves_have_to_end(policy: str, whole: int, layers: int, said: str) -> None:
    """One token is left from the first decision on; `whole` layers have all of them."""
    config = AdapLeRConfig(backbone_config=BertConfig(**SIZES[layers]).to_dict(), policy=policy)
    lengths = torch.tensor([25, 53, 266, 497])
    left = torch.ones(4, layers)
    left[:, :whole] = lengths[:, None]
    found = backbone_flops(config, lengths) / adapler_flops(config, lengths, left)
    assert f"{float(found.min()):.1f}x to {float(found.max()):.1f}x" in said
    assert said in (RESULTS / "README.md").read_text(encoding="utf-8").replace("\n  ", " ")


def test_how_often_adapler_was_trained() -> None:
    titles = {"dbpedia14": "DBpedia", "mnli": "MNLI", "sst2": "SST-2", "mrpc": "MRPC", "hatexplain": "HateXplain"}
    titles |= {"imdb": "IMDB", "movies": "movies", "ag_news": "AG News", "qnli": "QNLI"}
    tasks: dict[int, list[str]] = {}
    for name, title in titles.items():
        models = list((RESULTS / "records" / "MiniLM-L6" / name).glob("adapler*-seed-42.json"))
        tasks.setdefault(len(models), []).append(title)
    words = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five"}
    nouns = {min(tasks): " trained models"}
    parts = [f"{words[count]}{nouns.get(count, '')} on {', '.join(tasks[count])}" for count in sorted(tasks)]
    said = ", ".join(" and ".join(part.rsplit(", ", 1)) for part in parts)
    assert f"AdapLeR has {said}, with its options;" in (RESULTS / "README.md").read_text(encoding="utf-8")


def test_what_layer_0_and_the_last_one_read_near_twice_the_speed() -> None:
    shares: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    spared = set()
    for path in sorted((RESULTS / "records" / "MiniLM-L6" / "ag_news").glob("*.json")):
        name = path.stem
        for point in json.loads(path.read_text(encoding="utf-8"))["test"]:
            if "layer-0-whole" in name or point["scale"] is None or not 1.8 <= point["speedup"] <= 2.5:
                continue
            first, last = (100 * point["lengths"][layer] / point["lengths_in"] for layer in (0, -1))
            shares[name.startswith("adapler")].append((first, last))
            if not name.startswith("adapler") and first < 99.9:
                spared.add(f"{name.partition('-')[0].title()} in one seed {first:.0f} %")
    (ours, ours_last), (theirs, theirs_last) = (zip(*shares[own], strict=True) for own in (True, False))
    page = (RESULTS / "README.md").read_text(encoding="utf-8").replace("\n", " ")
    assert f"keep {min(ours):.0f} to {max(ours):.0f} % of the tokens in layer 0" in page
    assert f"and {min(ours_last):.0f} to {max(ours_last):.0f} % in the last one" in page
    assert f"all of them in layer 0 ({' '.join(spared)}) and" in page, theirs
    assert f"{min(theirs_last):.0f} to {max(theirs_last):.0f} % in the last." in page


def test_layer_0_spared_after_training() -> None:
    found = [
        json.loads((RESULTS / "first-layer" / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("all-layers", "from-layer-1")
    ]
    page = (RESULTS / "README.md").read_text(encoding="utf-8")
    for rows in zip(*(one["hard"] for one in found), strict=True):
        cells = [f"{100 * row['score']:.1f} ({row['speedup']:.2f}x)" for row in rows]
        assert f"| {rows[0]['threshold_scale']:g} | {cells[0]} | {cells[1]} |" in page
    assert all(one["split"] == "validation" and one["examples"] == 1000 for one in found)


def test_every_column_of_predictions_has_a_record() -> None:
    """The report reads those that a record names; any other is of a measurement that nothing says anything of."""
    named: dict[str, set[str]] = {}
    for record in read_records(RESULTS):
        columns = {Key.of(record).column(point["scale"]) for point in record["test"]}
        named.setdefault(record["task"], {"example_id", "label"}).update(columns)
    found = {path.stem: set(pq.read_schema(path).names) for path in (RESULTS / "predictions").glob("*.parquet")}
    assert found.keys() == named.keys()
    assert {task: names ^ named[task] for task, names in found.items() if names != named[task]} == {}
