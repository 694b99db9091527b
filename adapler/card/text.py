"""The model card: `README.md` beside a model, as the Hugging Face hub shows it. Every number in it was measured."""

from __future__ import annotations

import inspect
import math
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from adapler.backbones import label_names
from adapler.calibration import Baseline, Calibration, Point
from adapler.card import Facts, read_facts
from adapler.errors import ArgumentError
from adapler.files import replacing
from adapler.policies import ContributionPolicy, TopK, options_of, policy_class
from adapler.training.config import CardConfig
from adapler.training.records import CARD

PAPER = "https://aclanthology.org/2022.acl-long.1"
PIPELINE = "text-classification"
# Of a recorded command that can be typed again.
PROGRAMS, COMMANDS = ("adapler", "__main__.py"), ("run", "train", "finetune")

_READ = {
    "truncate": "the beginning of a longer text is read",
    "last": "the end of a longer text is read",
    "windows": "a longer text is read in overlapping windows, whose logits are averaged",
}


def write_card(settings: CardConfig) -> tuple[Path, tuple[str, ...]]:
    """The command `adapler card`: writes README.md into the model's folder.

    Returns:
        Its path, and the notes of `read_facts`.

    Raises:
        ArgumentError: the model is no folder, or there is a card that nobody said is to be replaced.
        CheckpointError: see `read_facts`.
    """
    if not settings.model.is_dir():
        raise ArgumentError(f"--model: {settings.model} is not a folder; the card is written into the model's own")
    path = settings.model / CARD
    if path.exists() and not settings.overwrite:
        raise ArgumentError(f"--model: {path} is there already; --overwrite replaces it, with what was written by hand")
    facts = read_facts(settings.model)
    card = model_card(
        facts, base_model=settings.base_model, license=settings.license, language=settings.language, name=settings.name
    )
    with replacing(path) as partial:
        partial.write_text(str(card) + "\n", encoding="utf-8")
    return path, facts.notes


def model_card(
    facts: Facts,
    *,
    base_model: str | None = None,
    license: str | None = None,
    language: Sequence[str] | None = None,
    name: str | None = None,
) -> ModelCard:
    """The card of a model; what is not known is not said.

    Args:
        facts: see `read_facts`.
        base_model: the pre-trained encoder's name on the hub; default: what the facts say, if it is such a name.
        license, language: for the head of the card, as the hub spells them ("apache-2.0", "en").
        name: the model's, for the title; default: its folder's.
    """
    name = name or facts.name
    encoder = base_model or next((one for one in facts.encoders if one.count("/") == 1), None)
    metrics = sorted({result["metric"] for result in facts.evaluations if "metric" in result})
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag=PIPELINE,
        base_model=encoder,
        license=license,
        language=list(language) if language else None,
        tags=["adapler", "token-dropping"],
        metrics=metrics or None,
        model_name=name,
        eval_results=list(_results(facts)) or None,
    )
    parts = [
        f"# {name}",
        _what(facts, encoder or next(iter(facts.encoders), None)),
        _scores(facts),
        "" if facts.calibration is None else _curve(facts.calibration, how=facts.otherwise(facts.calibration.encoding)),
        _use(facts),
        _training(facts.record) if facts.record else "",
        _limits(facts.record),
    ]
    return ModelCard(f"---\n{data.to_yaml()}\n---\n" + "\n\n".join(part for part in parts if part))


def _results(facts: Facts) -> Iterable[EvalResult]:
    """The scores at the model's own thresholds, as the hub lists them, of texts that were read as in training."""
    for result in facts.evaluations:
        if facts.otherwise(result.get("encoding", {})):
            continue
        for row in result["hard"]:
            if row["threshold_scale"] == 1 and "task" in result and "metric" in result:
                yield EvalResult(
                    task_type=PIPELINE,
                    dataset_type=result["task"],
                    dataset_name=result["task"],
                    dataset_split=result["split"],
                    metric_type=result["metric"],
                    metric_value=round(row["score"], 4),
                )


def _what(facts: Facts, encoder: str | None) -> str:
    config: Any = facts.config
    size = f"{config.num_hidden_layers} layers, {config.hidden_size} wide"
    made = f", from {encoder}" if encoder else ""
    if config.policy == ContributionPolicy.name:
        how = f"by [AdapLeR]({PAPER})'s Contribution Predictors (`{config.predictor}`)"
        if first := options_of(ContributionPolicy, config.policy_options).first_layer:
            how += f" from layer {first} on, counted from 0"
    else:
        kind = policy_class(config.policy)
        rule = " ".join(inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0].split())
        # Only those of fixed lengths say what the model does; others' say where training started.
        options = asdict(options_of(kind, config.policy_options)) if issubclass(kind, TopK) else {}
        chosen = ", ".join(f"{name} {value}" for name, value in options.items())
        how = f"by the removal policy `{config.policy}`{f' ({chosen})' if chosen else ''}. {rule}"
    backbone = f"`{config.backbone_config.model_type}`, {size}{made}"
    return (
        f"A text classifier that drops tokens layer by layer, {how.rstrip('.')}. The backbone is {backbone}. "
        f'Labels: {", ".join(label_names(config))}. `removal="none"` is the classifier without removal, '
        '`removal="hard"` drops the tokens.'
    )


def _scores(facts: Facts) -> str:
    """One line a split and threshold scale."""
    if not facts.evaluations:
        return ""
    by_number = issubclass(policy_class(facts.config.policy), TopK)
    scale = "which divides the number of tokens that stay" if by_number else "a factor on every threshold"
    rows = []
    for result in facts.evaluations:
        split = f"{result['split']} ({result.get('examples', '?')})"
        where = _joined(result.get("task", ""), split, facts.otherwise(result.get("encoding", {})))
        metric, precision = result.get("metric", "score"), result.get("precision", "")
        rows.append([where, metric, precision, "none", "", f"{result['none']['score']:.3f}", "1.00x", ""])
        for row in result["hard"]:
            lengths = " ".join(f"{number:.0f}" for number in row.get("lengths", ()))
            tokens = f"{row['lengths_in']:.0f}: {lengths}" if "lengths_in" in row else lengths
            score, speedup = f"{row['score']:.3f}", f"{row['speedup']:.2f}x"
            rows.append([where, metric, precision, "hard", f"{row['threshold_scale']:g}", score, speedup, tokens])
    head = [
        "split (examples)",
        "metric",
        "in",
        "removal",
        "scale",
        "score",
        "FLOPs speedup",
        "tokens: entering each layer",
    ]
    return (
        "## Scores\n\n"
        + _table(head, rows)
        + "\n\nSpeedup: matrix products of the backbone over those of this model, on true "
        f"lengths, every layer whole. The scale is `threshold_scale`, {scale}."
    )


def _curve(curve: Calibration, *, how: str) -> str:
    def row(scale: str, one: Baseline | Point, speedup: float) -> list[str]:
        low, high = one.score_interval
        times = [f"{one.milliseconds:.1f}", f"{one.milliseconds_single:.1f}"]
        return [scale, f"{one.score:.3f} [{low:.3f}, {high:.3f}]", f"{speedup:.2f}x", *times]

    points = [row(f"{point.threshold_scale:g}", point, point.speedup) for point in curve.points]
    rows = [row("none", curve.none, 1.0), *points]
    score = f"{curve.metric} [{curve.level:.0%} interval]"
    measured = _joined(f"{curve.split} of {curve.task} ({curve.examples} examples)", how, f"on {curve.machine}")
    return (
        f"## Speed on demand\n\nMeasured on {measured}:\n\n"
        + _table(["scale", score, "FLOPs speedup", "ms a text in batches", "ms a text alone"], rows)
        + "\n\n`predict(..., speedup=)`, `max_drop=` or `milliseconds=` picks the scale from this curve."
    )


def _use(facts: Facts) -> str:
    text = (
        '("a text", "its second text")' if len(facts.record.get("encoding", {}).get("columns", ())) == 2 else '"a text"'
    )
    return f"""## Use

```python
from transformers import AutoTokenizer
from adapler import AdapLeRForSequenceClassification

folder = "{facts.name}"  # this folder, or its name on the hub
model = AdapLeRForSequenceClassification.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)

result = model.predict([{text}], tokenizer=tokenizer)[0]
result.label, result.score, result.speedup, result.lengths  # lengths: tokens that enter each layer
```

It needs the package `adapler`. For many rows: `adapler predict --model FOLDER --input FILE --output FILE`."""


def _training(record: dict[str, Any]) -> str:
    settings, rows, metric = record.get("settings", {}), record.get("rows", {}), record.get("metric")
    reference = record.get("reference_score")
    facts = [
        ("task", record.get("task")),
        ("rows", ", ".join(f"{number} {split}" for split, number in rows.items())),
        ("checksum of the data", str(record.get("data_checksum", ""))[:16]),
        ("seed", settings.get("seed")),
        ("classifier before, on validation", f"{reference:.3f}" if isinstance(reference, int | float) else None),
        ("precision", record.get("precision")),
        ("minutes", round(record["seconds"] / 60, 1) if isinstance(record.get("seconds"), int | float) else None),
        ("versions", ", ".join(f"{name} {number}" for name, number in record.get("versions", {}).items())),
    ]
    chosen = record.get("selected", {})
    if metric in chosen and "epoch" in chosen:
        facts.append(("epoch kept", f"{chosen['epoch']:g}, {metric} {chosen[metric]:.3f} on validation"))
    reached = record.get("reached")  # the end of a training to a target speedup; the scale is an export's
    factors = [record.get("threshold_scale"), reached.get("factor") if isinstance(reached, dict) else None]
    factor = math.prod(one for one in factors if isinstance(one, int | float))
    if factor != 1:
        facts.append(("thresholds multiplied afterwards by", f"{factor:.4g}"))
    words = [str(word) for word in record.get("arguments", ())]
    typed = len(words) > 1 and words[0] in PROGRAMS and words[1] in COMMANDS  # else another program's
    command = f"\n\n```sh\nadapler {shlex.join(words[1:])}\n```" if typed else ""
    listed = "\n".join(f"* {title}: {value}" for title, value in facts if value not in (None, ""))
    return f"## Training\n\n{listed}{command}\n\n`run.json` has all settings and every evaluated epoch."


def _limits(record: dict[str, Any]) -> str:
    encoding = record.get("encoding", {})
    lines = []
    if isinstance(encoding.get("max_length"), int):
        read = _READ.get(str(encoding.get("long_documents")))
        lines.append(f"* At most {encoding['max_length']} tokens are read at once{f'; {read}' if read else ''}.")
    if record:
        lines.append("* One training, one seed: another seed gives another model and other scores.")
    ask = "<!-- What the texts are, whose, and in which language; what the model is not for. -->"
    return "\n\n".join(["## Limits", ask, *(["\n".join(lines)] if lines else [])])


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
