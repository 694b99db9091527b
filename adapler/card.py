"""The model card: `README.md` beside a model, as the Hugging Face hub shows it. Every number in it was measured."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from adapler.backbones import label_names
from adapler.errors import AdapLeRError, ArgumentError, CheckpointError
from adapler.files import replacing, visible
from adapler.modeling import AdapLeRForSequenceClassification
from adapler.training.records import CARD, RECORD, model_checksum, read_json

PAPER = "https://aclanthology.org/2022.acl-long.1"
PIPELINE = "text-classification"
CALIBRATION = "calibration.json"

TEMPLATE = """---
{head}
---

# {name}

A text classifier that drops tokens layer by layer, by {how}. The backbone is `{backbone}`, {layers} layers, {width}
wide{made}. Labels: {labels}. `removal="none"` is the classifier without removal, `removal="hard"` drops the tokens.
{scores}{curve}
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


def write_card(settings: Any) -> tuple[Path, tuple[str, ...]]:
    """The command `adapler card`: write README.md into the model's folder.

    Args:
        settings: of the command: model, base_model, license, language, name, overwrite.

    Returns:
        Its path, and what is missing or was left out, a line each.

    Raises:
        ArgumentError: the model is no folder, or has a card already.
        CheckpointError: no AdapLeR model there, or a damaged record.
    """
    folder = Path(settings.model)
    if not folder.is_dir():
        raise ArgumentError(f"--model: {folder} is not a folder; the card is written into the model's own")
    path = folder / CARD
    if path.exists() and not settings.overwrite:
        raise ArgumentError(f"--model: {path} is there already; --overwrite replaces it, with what was written by hand")
    notes: list[str] = []
    card = model_card(
        folder,
        base_model=settings.base_model,
        license=settings.license,
        language=settings.language,
        name=settings.name,
        notes=notes,
    )
    with replacing(path) as partial:
        partial.write_text(str(card), encoding="utf-8")
    return path, tuple(notes)


def model_card(
    folder: Path,
    *,
    base_model: str | None = None,
    license: str | None = None,
    language: Any = None,
    name: str | None = None,
    notes: list[str] | None = None,
) -> ModelCard:
    """The card of a checkpoint's folder, from its run.json, evaluations and calibration of these very weights.

    Args:
        folder: of an AdapLeR model.
        base_model: the pre-trained encoder's name on the hub; default: the model in run.json, if it is such a name.
        license, language: for the head of the card, as the hub spells them ("apache-2.0", "en").
        name: the title; default: the folder's name.
        notes: gets a line for each thing that is missing or was left out.
    """
    notes, model = [] if notes is None else notes, AdapLeRForSequenceClassification.from_pretrained(folder)
    config, record = model.config, read_json(folder / RECORD) if (folder / RECORD).is_file() else {}
    if not record:
        notes.append(f"{folder}: no {RECORD}, so the card says nothing of its training")
    started_from = record.get("model")
    if base_model is None and isinstance(started_from, str) and started_from.count("/") == 1:
        base_model = started_from if not Path(started_from).exists() else None
    name = name or folder.resolve().name
    try:
        table, results = _scores(folder, notes)
        training = _training(record)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, AdapLeRError):
            raise
        raise CheckpointError(f"{folder}: a damaged record or evaluation ({type(error).__name__}: {error})") from error
    head = ModelCardData(
        library_name="transformers",
        pipeline_tag=PIPELINE,
        base_model=base_model,
        license=license,
        language=list(language) if language else None,
        tags=["adapler", "token-dropping"],
        metrics=sorted({result.metric_type for result in results}) or None,
        model_name=name,
        eval_results=results or None,
    )
    encoding = record.get("encoding", {})
    reads = f"* At most {encoding['max_length']} tokens are read at once.\n" if "max_length" in encoding else ""
    if config.policy == "adapler":
        how = f"[AdapLeR]({PAPER})'s Contribution Predictors (`{config.predictor}`)"
    else:
        options = ", ".join(f"{option} {value}" for option, value in (config.policy_options or {}).items())
        how = f"the removal policy `{config.policy}`" + (f" ({options})" if options else "")
    text = TEMPLATE.format(
        head=head.to_yaml(),
        name=name,
        how=how,
        backbone=config.backbone_config.model_type,
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        made=f", from {base_model}" if base_model else "",
        labels=", ".join(label_names(config)),
        scores=table,
        curve=_curve(folder, model, notes),
        text='("a text", "its second text")' if len(encoding.get("columns", ())) == 2 else '"a text"',
        training=training,
        limits=reads + ("* One training, one seed: another seed gives other scores." if record else ""),
    )
    return ModelCard(text)


def _scores(folder: Path, notes: list[str]) -> tuple[str, list[EvalResult]]:
    """Section with the evaluations of these weights, and the scores at their own thresholds as the hub lists them."""
    weights, rows, results = model_checksum(folder), [], []
    for path in visible(folder.glob("evaluation*.json")):
        found = read_json(path)
        if found.get("model_checksum") != weights:
            notes.append(f"{path}: left out, it was measured with other weights than lie beside it")
            continue
        where = {"data": f"{found['task']}, {found['split']} ({found['examples']})", "metric": found["metric"]}
        read = found.get("encoding", {})
        where["read"] = f"{read.get('max_length', '')} {read.get('long_documents', '')}".strip()
        rows.append({**where, "removal": "none", "scale": "", "score": found["none"]["score"], "speedup": "1.00x"})
        for row in found["hard"]:
            measured = {"scale": f"{row['threshold_scale']:g}", "score": row["score"]}
            rows.append({**where, "removal": "hard", **measured, "speedup": f"{row['speedup']:.2f}x"})
            if row["threshold_scale"] == 1:
                results.append(
                    EvalResult(
                        task_type=PIPELINE,
                        dataset_type=found["task"],
                        dataset_name=found["task"],
                        dataset_split=found["split"],
                        metric_type=found["metric"],
                        metric_value=round(row["score"], 4),
                    )
                )
    if not rows:
        notes.append(f"{folder}: no evaluation of these weights; `adapler evaluate` makes one")
        return "", []
    section = (
        f"\n## Scores\n\n{_table(rows)}\n\nSpeedup: matrix products of the backbone over those of this model, on true "
        "lengths, every layer whole. The scale is `threshold_scale`.\n"
    )
    return section, results


def _curve(folder: Path, model: Any, notes: list[str]) -> str:
    """Section with the calibration of these weights."""
    if not (folder / CALIBRATION).is_file():
        return ""
    try:
        curve = model.calibration
    except ArgumentError as error:
        notes.append(f"{folder / CALIBRATION}: left out, {error}")
        return ""
    rows = [
        {
            "scale": "none" if point is curve.none else f"{point.threshold_scale:g}",
            f"{curve.metric} [{curve.level:.0%} interval]": "{:.3f} [{:.3f}, {:.3f}]".format(
                point.score, *point.score_interval
            ),
            "speedup": "1.00x" if point is curve.none else f"{point.speedup:.2f}x",
            "ms a text in batches": f"{point.milliseconds:.1f}",
            "ms a text alone": f"{point.milliseconds_single:.1f}",
        }
        for point in (curve.none, *curve.points)
    ]
    return (
        f"\n## Speed on demand\n\nMeasured on {curve.split} of {curve.task} ({curve.examples} examples), on "
        f"{curve.machine}:\n\n{_table(rows)}\n\n`predict(..., speedup=)`, `max_drop=` or `milliseconds=` picks the "
        "scale from this curve.\n"
    )


def _training(record: dict[str, Any]) -> str:
    """Section on the training, with the command that can be typed again."""
    if not record:
        return ""
    settings, rows = record.get("settings", {}), record.get("rows", {})
    facts = {
        "task": record.get("task"),
        "rows": ", ".join(f"{count} {split}" for split, count in rows.items()),
        "checksum of the data": str(record.get("data_checksum", ""))[:16],
        "seed": settings.get("seed"),
        "classifier before, on validation": record.get("reference_score"),
        "precision": record.get("precision"),
        "thresholds multiplied afterwards by": record.get("threshold_scale"),
        "versions": ", ".join(f"{name} {number}" for name, number in record.get("versions", {}).items()),
    }
    words = [str(word) for word in record.get("arguments", ())]
    typed = len(words) > 1 and words[0] in ("adapler", "__main__.py")  # else another program's
    command = f"\n```sh\nadapler {shlex.join(words[1:])}\n```\n" if typed else ""
    listed = "\n".join(f"* {title}: {value}" for title, value in facts.items() if value not in (None, ""))
    return f"\n## Training\n\n{listed}\n{command}\n`run.json` has all settings and every evaluated epoch.\n"


def _table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table."""
    head = list(rows[0])
    lines = [head, ["---"] * len(head)]
    lines += [[f"{row[name]:.3f}" if isinstance(row[name], float) else str(row[name]) for name in head] for row in rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
