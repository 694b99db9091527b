"""The model card: `README.md` of a model, as the Hugging Face hub shows it. Every number in it was measured."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from adapler.backbones.families import label_names
from adapler.errors import ArgumentError, CheckpointError
from adapler.evaluation import curve_table, evaluation_table
from adapler.modeling import AdapLeRForSequenceClassification
from adapler.system import read_json, replacing
from adapler.text import RUN, read_run
from adapler.training.config import CardConfig
from adapler.training.records import model_checksum

TEMPLATE = """---
{head}
---

# {name}

A text classifier that drops tokens layer by layer, by the removal policy `{policy}`{options} of
[AdapLeR](https://aclanthology.org/2022.acl-long.1)'s package. The backbone is `{backbone}`, {layers} layers, {width}
wide{made}. Labels: {labels}. `removal="none"` is the classifier without removal, `removal="hard"` drops the tokens.
{measured}
## Use

```python
from transformers import AutoTokenizer
from adapler import AdapLeRForSequenceClassification

folder = "{name}"  # this folder, or its name on the hub
model = AdapLeRForSequenceClassification.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)

result = model.predict([{text}], tokenizer=tokenizer)[0]
result.label, result.score, result.speedup, result.lengths  # lengths: tokens that enter each layer
```

It needs the package `adapler`. For many rows: `adapler predict --model FOLDER --input FILE --output FILE`.
{training}
## Limits

<!-- The texts: what they are, whose, and in which language; what the model is not for. -->
{limits}
"""


def run_card(settings: CardConfig) -> None:
    """The command `adapler card`: write README.md into the model's folder, and print what is missing or left out."""
    folder, notes = Path(settings.model), list[str]()
    if not folder.is_dir():
        raise ArgumentError(f"--model: {folder} is not a folder; the card is written into the model's own")
    path = folder / "README.md"
    if path.exists() and not settings.overwrite:
        raise ArgumentError(f"--model: {path} is there already; --overwrite replaces it, with what was written by hand")
    options = {name: getattr(settings, name) for name in ("base_model", "license", "language", "name")}
    card = model_card(folder, notes=notes, **options)
    with replacing(path) as partial:
        partial.write_text(str(card), encoding="utf-8")
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"{path}; read it, and say under Limits what the model is not for")


def model_card(
    folder: Path,
    *,
    notes: list[str],
    base_model: str | None = None,
    license: str | None = None,
    language: list[str] | None = None,
    name: str | None = None,
) -> ModelCard:
    """The card of a checkpoint's folder, from its run.json, evaluations and calibration of these very weights; `notes`
    gets a line for each thing that is missing or was left out."""
    model = AdapLeRForSequenceClassification.from_pretrained(folder)
    config, record = model.config, read_run(folder)[1]
    if not record:
        notes.append(f"{folder}: no {RUN}, so the card says nothing of its training")
    started_from, encoding = record.get("model"), record.get("encoding", {})
    if base_model is None and isinstance(started_from, str) and started_from.count("/") == 1:
        base_model = None if Path(started_from).exists() else started_from
    name = name or folder.resolve().name
    try:
        measured, results = _evaluations(folder, notes)
        training = _training(record)
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder}: a damaged record or evaluation ({type(error).__name__}: {error})") from error
    head = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-classification",
        base_model=base_model,
        license=license,
        language=language,
        tags=["adapler", "token-dropping"],
        metrics=sorted({result.metric_type for result in results}) or None,
        model_name=name,
        eval_results=results or None,
    )
    options = ", ".join(f"{option} {value}" for option, value in (config.policy_options or {}).items())
    limits = [f"* At most {encoding['max_length']} tokens are read at once."] if "max_length" in encoding else []
    text = TEMPLATE.format(
        head=head.to_yaml(),
        name=name,
        policy=config.policy,
        options=f" ({options})" if options else "",
        backbone=config.backbone_config.model_type,
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        made=f", from {base_model}" if base_model else "",
        labels=", ".join(label_names(config)),
        measured=measured + _curve(model, notes),
        text='("a text", "its second text")' if len(encoding.get("columns", ())) == 2 else '"a text"',
        training=training,
        limits="\n".join([*limits, "* One training, one seed: another seed gives other scores."]),
    )
    return ModelCard(text)


def _evaluations(folder: Path, notes: list[str]) -> tuple[str, list[EvalResult]]:
    """Section with the evaluations of these weights, and the scores at their own thresholds as the hub lists them."""
    weights, tables, results = model_checksum(folder), [], []
    for path in sorted(folder.glob("evaluation*.json")):
        found = read_json(path)
        if found.get("model_checksum") != weights:
            notes.append(f"{path}: left out, it was measured with other weights than those in the folder")
            continue
        task, split = found["task"], found["split"]
        tables.append(f"\n{task}, {split} ({found['examples']} examples):\n\n```\n{evaluation_table(found)}\n```\n")
        where = {"task_type": "text-classification", "dataset_type": task, "dataset_name": task, "dataset_split": split}
        for row in found["hard"]:
            if row["threshold_scale"] == 1:
                score = round(row["score"], 4)
                results.append(EvalResult(**where, metric_type=found["metric"], metric_value=score))
    if not tables:
        notes.append(f"{folder}: no evaluation of these weights; `adapler evaluate` makes one")
    return "\n## Scores\n" * bool(tables) + "".join(tables), results


def _curve(model: Any, notes: list[str]) -> str:
    try:
        curve = model.calibration
    except ArgumentError as error:
        notes.append(f"speed on demand: left out, {error}")
        return ""
    table = curve_table(curve.none, curve.points, metric=curve.metric)
    return (
        f"\n## Speed on demand\n\nMeasured on {curve.split} of {curve.task} ({curve.examples} examples), on "
        f"{curve.machine}:\n\n```\n{table}\n```\n\n`predict(..., speedup=)`, `max_drop=` or `milliseconds=` picks the "
        "scale from this curve.\n"
    )


def _training(record: dict[str, Any]) -> str:
    """Section on the training, with the command that can be typed again."""
    if not record:
        return ""
    facts = {
        "task": record.get("task"),
        "rows": ", ".join(f"{count} {split}" for split, count in record.get("rows", {}).items()),
        "seed": record.get("settings", {}).get("seed"),
        "classifier before, on validation": record.get("reference_score"),
        "thresholds multiplied afterwards by": record.get("threshold_scale"),
        "versions": ", ".join(f"{name} {number}" for name, number in record.get("versions", {}).items()),
    }
    listed = "\n".join(f"* {title}: {value}" for title, value in facts.items() if value not in (None, ""))
    words = [str(word) for word in record.get("arguments", ())]
    typed = len(words) > 1 and words[0] in ("adapler", "__main__.py")  # else another program's
    command = f"\n```sh\nadapler {shlex.join(words[1:])}\n```\n" if typed else ""
    return f"\n## Training\n\n{listed}\n{command}\n`run.json` has all settings and every evaluated epoch.\n"
