"""Other systems' curves: read with every value checked, and shown for the same task, encoder and metric only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapler.errors import DataError
from app.sources import loading
from app.work import systems
from app.work.origin import Training
from app.work.systems import Systems

HEAD = "task,system,backbone,seed,budget,scale,metric,validation_score,validation_speedup,score,speedup"
FILMS = Training("films", "rows", ("org/mini-L2", "org/all-L2"), "started")
LINES = (
    "films,finetuned,mini-L2,1,,,accuracy,.9,1,.88,1",
    "films,finetuned,mini-L2,2,,,accuracy,.9,1,.9,1",
    "films,power,mini-L2,1,.1,1,accuracy,.85,3,.8,2",
    "films,power,mini-L2,2,.1,1,accuracy,.87,3,.9,4",
    "films,power,mini-L2,1,.1,.5,accuracy,.8,2,.99,1.5",  # slower and worse on validation
    "films,power,mini-L2,2,.1,.5,accuracy,.8,2,.99,1.5",
    "films,power,mini-L2,1,.5,1,accuracy,.7,9,.7,9",  # too far below the classifier
    "films,power,mini-L2,2,.5,1,accuracy,.7,9,.7,9",
    "films,power,mini-L2,1,.1,.7,accuracy,.89,2,.99,1.5",  # of one seed
    "films,adapler-wide-eyed,mini-L2,1,.2,1,accuracy,.88,2,.87,2",
    "films,power,other-L2,1,.1,1,accuracy,.5,3,.5,3",
    "news,power,mini-L2,1,.1,1,accuracy,.5,3,.5,3",
)


def write(folder: Path, lines: Any = LINES, head: str = HEAD) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / systems.NAME).write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    return folder


def record(folder: Path, **more: Any) -> None:
    path = folder / "records" / "mini-L2" / "films" / f"{more['system']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(more), encoding="utf-8")


def find(*folders: Path, training: Training = FILMS, **more: Any) -> tuple[Systems | None, list[str]]:
    options: dict[str, Any] = {"task": None, "metric": "accuracy", "layers": 2, **more}
    return systems.find(folders, training=training, **options)


def test_means_over_seeds_of_the_same_task_and_encoder(tmp_path: Path) -> None:
    found, said = find(write(tmp_path / "mine"))
    assert found is not None and said == []
    assert (found.file, found.task, found.backbone) == ("mine/curves.csv", "films", "mini-L2")
    assert (found.called, found.metric, found.coverage) == ("org/mini-L2", "accuracy", "")
    assert found.same_rows is None and found.seeds() == (1, 2)
    table = found.points("test").set_index(["system", "budget", "scale"])
    mean = table.loc[("power", 0.1, 1.0)]
    assert mean[["score", "low", "high", "speedup", "seeds"]].tolist() == pytest.approx([0.85, 0.8, 0.9, 8 / 3, 2])
    assert mean["drawn"] and not table.loc[("power", 0.1, 0.5)]["drawn"] and not table.loc[("power", 0.5, 1)]["drawn"]
    assert not table.loc[("power", 0.1, 0.7)]["drawn"], "a line joins means over the same seeds"
    assert table.loc[("finetuned",)]["drawn"].tolist() == [True]
    assert table.loc[("adapler-wide-eyed",)]["title"].tolist() == ["AdapLeR, wide eyed"]
    validation = found.points("validation").set_index(["system", "budget", "scale"])
    assert validation.loc[("power", 0.1, 1.0)][["score", "speedup"]].tolist() == pytest.approx([0.86, 3])


def test_records_say_coverage_titles_and_rows(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine")
    plain = {"test": [{"lengths": [3, 3]}], "coverage": "subset", "data_checksum": "rows", "model_checksum": "begin"}
    record(folder, system="finetuned", title="F", **plain)
    record(folder, system="power", title="Power!", coverage="subset", data_checksum="rows", model_checksum="p")
    (folder / "records" / "mini-L2" / "films" / "bad.json").write_text("{", encoding="utf-8")
    found, _ = find(folder)
    assert found is not None and found.same_rows is True and found.coverage == "a subset of the published rows"
    titles = found.points("test").drop_duplicates("system").set_index("system")["title"]
    assert titles["power"] == "Power!" and titles["finetuned"] == "Fine-tuned classifier"
    other, _ = find(folder, training=Training("films", "others", ("mini-L2",)))
    assert other is not None and other.same_rows is False
    found, said = find(folder, layers=4)
    assert found is None and "are of the encoder mini-L2, other-L2; the checkpoint's is org/mini-L2, 4" in said[0]
    unnamed, _ = find(folder, training=Training("films", "rows", (), "begin"))
    assert unnamed is not None and unnamed.called == "", "it began with the classifier of these records"


def test_the_surest_that_is_known_of_the_encoder_decides(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine")
    assert find(folder, training=Training("films", None, ("org/other", "mini-L2")))[0] is None, "its card errs"
    mine = Training("films", None, ("mini-L2",), None, "weights")
    assert find(folder, training=mine)[0] is not None, "records without a checksum"
    record(folder, system="power", encoder_checksum="others")
    assert find(folder, training=mine)[0] is None, "an equal name of other weights"
    record(folder, system="power", encoder_checksum="weights")
    found, _ = find(folder, training=Training("films", None, ("org/other",), None, "weights"))
    assert found is not None and found.called == ""


def test_what_does_not_match_is_not_shown(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine")
    for more, sentence in (
        ({"training": Training("books", None, ("mini-L2",))}, "has no curves for books, but for films, news."),
        ({"training": Training(None, None, ("mini-L2",))}, "nothing in the checkpoint's folder says for which task"),
        (
            {"training": Training("films")},
            "are of the encoder mini-L2, other-L2; the checkpoint's is not known by name.",
        ),
        ({"training": Training("films", None, ("mini",))}, "the checkpoint's is mini, 2 layers."),
        ({"metric": "f1"}, "its metric for films is accuracy, and the checkpoint's f1."),
    ):
        found, said = find(folder, **more)
        assert found is None and len(said) == 1 and sentence in said[0], said
        assert str(tmp_path) not in said[0]
    assert find(folder, training=Training(None, None, ("mini-L2",)), task="films")[0] is not None
    assert find() == (None, [])


BAD = {
    "gone": (None, "cannot be read"),
    "empty": ("", "no column task, system"),
    "other columns": ("a,b\n1,2\n", "no column task, system, backbone"),
    "no rows": (HEAD + "\n", "has no rows"),
    "words": (f"{HEAD}\n{LINES[0].replace('.88', 'high')}\n", "line 2: score is 'high', not a number from 0 to 1"),
    "percent": (f"{HEAD}\n{LINES[0].replace('.88', '88')}\n", "line 2: score is '88', not a number from 0 to 1"),
    "nan": (f"{HEAD}\n{LINES[0].replace('.88', 'nan')}\n", "line 2: score is 'nan'"),
    "zero": (f"{HEAD}\n{LINES[0][:-1]}0\n", "line 2: speedup is '0', not a number above 0"),
    "no system": (f"{HEAD}\n{LINES[0].replace('finetuned', '')}\n", "line 2: system is '', not a name"),
    "short": (f"{HEAD}\n{LINES[0]}\nfilms,power\n", "line 3: not as many cells"),
    "long": (f"{HEAD}\n{LINES[0]},1\n", "line 2: not as many cells"),
    "quote": (f'{HEAD}\n"films', "is not a CSV table"),
    "bytes": (b"\xff\xfe\x00", "is not a CSV table"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_malformed_file_is_one_line(name: str, tmp_path: Path) -> None:
    content, sentence = BAD[name]
    folder = tmp_path / "mine"
    folder.mkdir()
    if content is not None:
        raw = content if isinstance(content, bytes) else content.encode()
        (folder / systems.NAME).write_bytes(raw)
        with pytest.raises(DataError, match="^mine/curves.csv"):
            systems.read(str(folder / systems.NAME), 0, "mine/curves.csv")
    found, said = find(folder)
    assert found is None and len(said) == 1 and said[0].startswith("mine/curves.csv") and sentence in said[0]
    assert "\n" not in said[0] and str(tmp_path) not in said[0]
    found, said = find(folder, write(tmp_path / "good"))
    assert found is not None and len(said) == 1, "the next folder is looked at, and the sentence stays"


def test_a_backbone_of_the_file_leads_to_no_other_folder(tmp_path: Path) -> None:
    lines = [line.replace("mini-L2", "../mini-L2") for line in LINES]
    folder = write(tmp_path / "mine" / "records", lines)
    record(tmp_path / "mine", system="finetuned", coverage="subset")
    found, _ = find(folder)
    assert found is not None and found.coverage == ""


def test_the_embedded_results_are_read() -> None:
    training = Training("imdb", None, ("sentence-transformers/all-MiniLM-L6-v2",))
    found, said = find(*loading.TRADEOFF, training=training, layers=6)
    assert found is not None and said == []
    assert found.file == "results/tradeoff/curves.csv" and found.coverage
    assert {"finetuned", "power", "ltp"} <= set(found.rows["system"]) and found.points("test")["drawn"].any()
    movies, said = find(*loading.TRADEOFF, training=Training("no-such-task"), layers=6)
    assert movies is None and len(said) == 1
