"""What the pages say of speed is what the records of results/performance hold."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
README = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())


def record(name: str) -> Any:
    return json.loads((ROOT / "results" / "performance" / name).read_text(encoding="utf-8"))


def cells(line: str) -> list[str]:
    return [cell.strip(" *") for cell in line.strip().strip("|").split("|")]


def share(row: Any) -> str:
    """What of the executed FLOPs speedup over the packed backbone becomes time."""
    kept = row[f"over packed {row['dtype']}"]["median"] / row["flops"]["executed"]
    return f"{kept:.2f}".removeprefix("0")


def test_the_turns_of_reviews_in_batches() -> None:
    rows = {
        (row["system"], row["dtype"], row["threads"]): row
        for row in record("inference-ceiling.json")
        if (row["data"], row["batch"]) == ("movies", "tokens")
    }
    table = PAGE[PAGE.index("| EPYC, reviews in batches | dtype |") :]
    titles = {"sorted": "transformers, sorted by length", "packed": "packed, no removal"}
    for system, title in {**titles, "adapler 0": "AdapLeR, scale 0", "adapler 1": "AdapLeR, scale 1"}.items():
        for dtype in ("float32", "bfloat16"):
            line = next(line for line in table.splitlines() if line.startswith(f"| {title} | {dtype} |"))
            both = [rows[system, dtype, threads] for threads in (1, 2)]
            shown = [" / ".join(f"{row['ms']['median']:.1f}" for row in both)]
            for base in ("sorted float32", f"sorted {dtype}", f"packed {dtype}"):
                shown.append(" / ".join(f"{row.get(f'over {base}', {'median': 1})['median']:.2f}x" for row in both))
            assert [cell.replace("*", "") for cell in cells(line)[2:]] == shown


def keyed(name: str) -> dict[tuple[Any, ...], Any]:
    return {(row["data"], row["batch"], row["system"], row["dtype"], row["threads"]): row for row in record(name)}


FORMATS = [(dtype, threads) for dtype in ("float32", "bfloat16") for threads in (1, 2)]
PLACES = {
    "reviews in batches": ("movies", "tokens"),
    "sentences in batches": ("sst2", "tokens"),
    "reviews one by one": ("movies", "1"),
}
DAYS = ("inference-ceiling-amx.json", "inference-ceiling-amx-again.json", "inference-ceiling-amx-third.json")


def both(rows: dict[tuple[Any, ...], Any], place: tuple[str, str]) -> list[str]:
    """Of each format and number of threads: AdapLeR at scale 1 and, in brackets, the layers alone."""
    return [f"{share(rows[*place, 'adapler 1', *how])} ({share(rows[*place, 'ceiling 1', *how])})" for how in FORMATS]


def kept(rows: dict[tuple[Any, ...], Any], place: tuple[str, str]) -> list[str]:
    """The same at scale 0, of the packed backbone's speed."""
    found = [
        [rows[*place, f"{system} 0", *how][f"over packed {how[0]}"]["median"] for system in ("adapler", "ceiling")]
        for how in FORMATS
    ]
    return [f"{ours:.2f} ({alone:.2f})".replace("0.", ".") for ours, alone in found]


def test_what_of_the_flops_becomes_time() -> None:
    rows, earlier = keyed("inference-ceiling.json"), keyed("inference-sentences-again.json")
    table = PAGE[PAGE.index("| | goal | float32, 1 thread |") :].split("\n\n")[0].splitlines()[2:]
    expected = {title: both(rows, place) for title, place in PLACES.items()}
    expected["sentences, an hour earlier"] = both(earlier, PLACES["sentences in batches"])
    assert {cells(line)[0]: cells(line)[2:] for line in table} == expected


def test_what_is_kept_where_nothing_is_dropped() -> None:
    epyc, days = keyed("inference-ceiling.json"), [keyed(name) for name in DAYS]
    expected = {f"{title}, nothing dropped": kept(epyc, place) for title, place in PLACES.items()}
    expected |= {f"nothing dropped, day {n}": kept(day, PLACES["reviews in batches"]) for n, day in enumerate(days, 1)}
    lines = [cells(line) for line in PAGE.splitlines()]
    assert {line[0]: line[1:] for line in lines if line[0] in expected} == expected


def test_what_is_left_with_the_least_that_choosing_costs() -> None:
    rows = keyed("inference-least.json")
    for title, place in PLACES.items():
        line = next(line for line in PAGE.splitlines() if line.startswith(f"| {title}, least |"))
        systems = [
            [share(rows[*place, system, *how]) for system in ("adapler 1", "ceiling 1", "least 1")] for how in FORMATS
        ]
        assert cells(line)[2:] == [f"{ours} ({alone}; {least})" for ours, alone, least in systems]
    for base, said in (("float32", "9.5x and 9.0x"), ("bfloat16", "5.5x and 5.4x")):
        found = [rows["movies", "tokens", "adapler 1", "bfloat16", n][f"over sorted {base}"]["median"] for n in (1, 2)]
        assert " and ".join(f"{value:.1f}x" for value in found) == said and said in PAGE


def test_what_the_front_page_says_of_speed() -> None:
    found = record("inference-ceiling.json")
    rows = {
        (row["batch"], row["system"], row["dtype"], row["threads"]): row for row in found if row["data"] == "movies"
    }
    ours, theirs = rows["tokens", "adapler 1", "bfloat16", 2], rows["tokens", "sorted", "float32", 2]
    assert f"a review takes {ours['ms']['median']:.1f} ms in batches" in README
    exact = ours["over sorted float32"]["median"]
    length, paper = theirs["ms"]["median"], ours["flops"]["paper"]
    assert f"sorted by length, takes {length:.1f} ms, {exact:.0f}x as long (FLOPs speedup {paper:.2f}x;" in README
    one_by_one = [rows["1", "adapler 1", dtype, threads] for dtype in ("float32", "bfloat16") for threads in (1, 2)]
    shares = [row[f"over packed {row['dtype']}"]["median"] / row["flops"]["executed"] for row in one_by_one]
    said = f"{min(shares):.2f} to {max(shares):.2f}".replace("0.", ".")
    assert f"One by one, the measured speedup is {said} of that in FLOPs;" in README


def test_the_three_days_with_matrix_units() -> None:
    days = [keyed(file) for file in DAYS]
    expected = {
        f"{title}, day {number}": both(day, place)
        for title, place in PLACES.items()
        for number, day in enumerate(days, 1)
        if (*place, "adapler 1", "float32", 1) in day
    }
    table = PAGE[PAGE.index("| Xeon with AMX, scale 1 |") :].split("\n\n")[0].splitlines()[2:]
    assert {cells(line)[0]: cells(line)[2:] for line in table} == expected

    titles = {"AdapLeR over transformers' float32 model": ("adapler 1", "sorted float32")}
    titles |= {"AdapLeR over transformers in bfloat16": ("adapler 1", "sorted bfloat16")}
    titles |= {"the layers alone over transformers in bfloat16": ("ceiling 1", "sorted bfloat16")}
    table = PAGE[PAGE.index("| reviews in batches, bfloat16, 1 / 2 threads |") :].split("\n\n")[0].splitlines()[2:]
    assert [cells(line)[0] for line in table] == list(titles)
    for line, (system, base) in zip(table, titles.values(), strict=True):
        rows = [[day["movies", "tokens", system, "bfloat16", n][f"over {base}"] for n in (1, 2)] for day in days]
        assert cells(line)[1:] == [" / ".join(f"{row['median']:.1f}x" for row in day) for day in rows]


def test_the_labels_of_both_formats() -> None:
    rows, amx = record("formats.json"), record("formats-amx.json")
    table = PAGE[PAGE.index("| bfloat16 against float32 |") :].split("\n\n")[0].splitlines()[2:]
    shown = [cells(line) for line in table]

    def same(row: Any) -> int:
        return round(float(row["same label"]) * int(row["texts"]))

    for (title, *found), row in zip([*shown[:2], *shown[5:]], [*rows[:2], *amx], strict=True):
        assert f": {row['texts']:,} test " in title
        accuracies = ", ".join(f"{row[f'accuracy {dtype}']:.3f}".removeprefix("0") for dtype in ("float32", "bfloat16"))
        share_of_tokens = f"{100 * row['kept differently, of tokens x layers']:.2f} %"
        assert found == [f"{same(row):,}", accuracies, share_of_tokens], title
    reviews = [row for row in rows if row["data"] == "movies"]
    assert f"all {sum(row['texts'] for row in reviews):,} reviews" in shown[2][0]
    assert shown[2][1] == f"{sum(map(same, reviews)):,}"


def test_training_on_the_machine_with_matrix_units() -> None:
    runs = [record(f"training-amx{file}.json")[0]["epochs"] for file in ("", "-again")]
    for name in ("full training, first", "full training, last", "post hoc, first", "post hoc, last"):
        [line] = [cells(line) for line in PAGE.splitlines() if line.startswith(f"| AMX, {name} |")]
        epochs = [run[f"{name.replace(' training', '')}, {way}"] for way in ("exact", "local") for run in runs]
        shown = [f"{epoch['ratio']:.2f}".removeprefix("0") for epoch in epochs]
        assert line[1] == f"{epochs[0]['goal']:.2f}".removeprefix("0")
        assert [*line[2:4], *line[5:]] == shown  # between them a run without a record
    first, later = (run["full, first, local"] for run in runs)
    for epoch, said in ((later, "{}, range {} to {})"), (first, "({}, range {} to {})")):
        numbers = (epoch[key] for key in ("ratio", "ratio_min", "ratio_max"))
        assert said.format(*(f"{number:.2f}".removeprefix("0") for number in numbers)) in PAGE
    packed, again = (f"{run['plain, packed']['ratio']:.2f}".removeprefix("0") for run in runs)
    own = runs[0]["plain, transformers' attention"]["ratio"]
    assert f"takes {packed} of the plain epoch there, with later code {again}; " in PAGE
    assert f"transformers' own attention takes {own:.2f}." in PAGE


def test_the_onnx_table() -> None:
    page = (ROOT / "docs" / "how-to" / "onnx.md").read_text(encoding="utf-8")
    found = record("onnx-reviews.json")
    titles = {"torch float32": "PyTorch float32", "torch bfloat16": "PyTorch bfloat16"}
    for system, title in {**titles, "onnx float32": "ONNX float32", "onnx int8": "ONNX int8"}.items():
        line = next(line for line in page.splitlines() if line.startswith(f"| {title} |"))
        shown = []
        for graph in ("one.onnx", "packed.onnx"):
            row = found["graphs"][graph][system]
            shown += [f"{row['milliseconds']:.1f}", f"{row['ratio']:.2f}x".removeprefix("0")]
        same = round(min(found["graphs"][g][system]["agreement"] for g in found["graphs"]) * found["texts"])
        assert cells(line)[1:] == [*shown, f"{same} of {found['texts']}"]


def test_the_table_of_many_rows() -> None:
    page = (ROOT / "docs" / "how-to" / "predict.md").read_text(encoding="utf-8")
    lines = [cells(line) for line in page[page.index("| rows | processes |") :].splitlines() if line.startswith("| 1")]
    rows = record("predict.json")
    assert all(row["same_bytes_as_first"] for row in rows)
    for line, row in zip(lines, rows, strict=True):
        rate = f"{row['rows_per_second']:,.0f}" if "rows_per_second" in row else ""
        assert (line[0], line[2:]) == (f"{row['rows']:,}", [rate, f"{row['peak_mb']:,} MB"])
        assert line[1].startswith("Ray, 2" if row["engine"] == "ray" else str(row["processes"]))
        assert ("killed ten times" in line[1]) == (row.get("kills") == 10)
    [whole] = [row for row in rows if (row["rows"], row["engine"], row["processes"]) == (100_000, "local", 1)]
    assert f"100,000 of them took {whole['seconds']:.0f} s" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_table_of_lengths_and_batches() -> None:
    rows = {
        (row["max_length"], row["batch"], row["dtype"]): row
        for row in record("inference-lengths-amx.json")
        if row["system"] == "adapler 1"
    }
    lines = PAGE[PAGE.index("| reviews cut at |") :].split("\n\n")[0].splitlines()[2:]
    for line in map(cells, lines):
        length, dtype = int(line[0].split()[0]), line[2]
        assert line[1] == f"{rows[length, 'tokens', dtype]['flops']['executed']:.2f}x"
        for cell, batch in zip(line[3:], ("1", "8", "32", "tokens"), strict=True):
            row = rows[length, batch, dtype]
            assert (
                cell == f"{row[f'over sorted {dtype}']['median']:.2f}x ({row[f'over packed {dtype}']['median']:.2f}x)"
            )
    assert 2 * len(lines) == len(rows) / 2


def test_the_figure_of_faster_thresholds() -> None:
    share = {
        (row["batch"], row["dtype"], row["system"]): row[f"over packed {row['dtype']}"]["median"]
        / row["flops"]["executed"]
        for row in record("realised-amx.json")
        if row["system"].startswith("adapler ")
    }
    text = PAGE[PAGE.index("### Faster thresholds") : PAGE.index("### Lengths and batches")]
    batches = [
        f"{share['tokens', 'float32', f'adapler {scale}']:.2f}".removeprefix("0") for scale in (0, 0.5, 0.75, 1, 1.25)
    ]
    assert f"{min(batches)} to {max(batches)} of the FLOPs become time" in text
    half = [f"{share['tokens', 'bfloat16', f'adapler {scale}']:.2f}".removeprefix("0") for scale in (0, 1, 2)]
    assert f"it is {half[0]} at scale 0, {half[1]} at scale 1 and {half[2]} at 14.7x" in text


def test_the_goals_and_where_they_are_reached() -> None:
    """The numbers of the two goals over transformers; the other goals' are in the tables below."""

    def found(name: str, base: str) -> list[float]:
        rows = keyed(name)
        return [rows["movies", "tokens", "adapler 1", "bfloat16", n][f"over sorted {base}"]["median"] for n in (1, 2)]

    goals = PAGE[PAGE.index("| goal, embedded model |") :].split("\n\n")[0].splitlines()[2:]
    for line, base in zip(goals[:2], ("float32", "bfloat16"), strict=True):
        _, epyc, amx = cells(line)
        one, two = found("inference-ceiling.json", base)
        assert epyc == f"reached: {one:.1f}x, {two:.1f}x"
        values = [value for name in DAYS for value in found(name, base)]
        assert f": {min(values):.1f}x to {max(values):.1f}x" in amx


def test_the_earlier_code_on_another_epyc() -> None:
    rows = keyed("inference-ceiling-before.json")
    table = PAGE[PAGE.index("| another EPYC, earlier code |") :].split("\n\n")[0].splitlines()[2:]
    over = [rows["movies", "tokens", "adapler 1", "bfloat16", n]["over sorted float32"]["median"] for n in (1, 2)]
    one_by_one = both(rows, PLACES["reviews one by one"])
    nothing = [cell.split()[0] for cell in kept(rows, PLACES["reviews in batches"])[2:]]
    expected = [[f"{value:.1f}x" for value in over], one_by_one[:2], one_by_one[2:], nothing]
    assert [cells(line)[1:] for line in table] == expected


def test_reviews_one_by_one_on_a_third_machine() -> None:
    rows = json.loads((ROOT / "results" / "performance" / "inference-one-by-one-avx512.json").read_text())
    by = {(row["system"], row["threads"]): row for row in rows}

    def share(system: str, threads: int) -> str:
        row = by[system, threads]
        return f"{row['over packed float32']['median'] / row['flops']['executed']:.2f}".removeprefix("0")

    one, two = (f"{share('adapler 1', n)} ({share('ceiling 1', n)})" for n in (1, 2))
    text = " ".join(PAGE.split())
    assert f"-avx512.json`): {one} on one thread and {two} on two" in text
    ours, alone = (by[system, 1]["ms"]["median"] for system in ("adapler 1", "ceiling 1"))
    assert f"a review takes {ours:.0f} ms, {alone:.0f} in the layers alone" in text


def test_the_times_of_the_embedded_model() -> None:
    curve = json.loads((ROOT / "checkpoints" / "movies-minilm" / "calibration.json").read_text())
    shown = {
        float(cells(line)[0]): cells(line)[1:] for line in PAGE.splitlines() if re.match(r"\| [\d.]+ \| [\d.]+x", line)
    }
    points = {point["threshold_scale"]: point for point in curve["points"]}
    assert len(shown) == 5
    for scale, (flops, batches, single) in shown.items():
        point, none = points[scale], curve["none"]
        assert flops == f"{point['speedup']:.2f}x"
        digits = len(batches.rstrip("x").partition(".")[2])
        assert batches == f"{none['milliseconds'] / point['milliseconds']:.{digits}f}x"
        assert single == f"{none['milliseconds_single'] / point['milliseconds_single']:.{digits}f}x"

    def became(key: str, scales: Iterable[float]) -> str:
        """The least and the most of the FLOPs speedup that became time, from scale .75 on."""
        shares = [none[key] / points[at][key] / points[at]["speedup"] for at in scales if at >= 0.75]
        return " to ".join(f"{share:.2f}".removeprefix("0") for share in (min(shares), max(shares)))

    batches, single = "milliseconds", "milliseconds_single"
    said = f"on, {became(batches, shown)} of the FLOPs become time in batches, {became(single, shown)} one by one."
    assert said in PAGE
    assert f"after the other, {became(batches, points)} and {became(single, points)}." in PAGE
