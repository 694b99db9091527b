"""The stages of a run, one after the other, each skipped when its record shows it is done."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import save_file
from transformers import AutoModelForSequenceClassification

from adapler.data.encoding import load_tokenizer
from adapler.errors import ArgumentError, CheckpointError
from adapler.evaluation import evaluate_rows, evaluation_table
from adapler.files import replacing
from adapler.finetuning import best_epochs, finetune
from adapler.modeling import AdapLeRForSequenceClassification
from adapler.options import Prepared, objectives_of, prepare, settings_of
from adapler.runs import record_of, use_bfloat16, write_record
from adapler.targets import load_targets, saliency_targets, save_targets
from adapler.training import train

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def read_record(folder: Path) -> dict[str, Any]:
    """run.json of a folder that a training command wrote.

    Raises:
        CheckpointError: none there, or not readable.
    """
    path = folder / "run.json"
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder}: no run.json, so no training command finished here") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: not JSON") from error
    return record


def reference_score(finetuned: Path | None) -> float:
    """Best validation score of what `adapler finetune` wrote.

    Raises:
        ArgumentError: no folder given.
        CheckpointError: no such record in it.
    """
    if finetuned is None:
        raise ArgumentError("--reference-score: needed when --finetuned is not given")
    record = read_record(finetuned)
    if record.get("command") != "finetune":
        raise CheckpointError(f"{finetuned}/run.json: a record of {record.get('command')!r}, not of 'finetune'")
    return float(record["best"])


def make_targets(prepared: Prepared, *, finetuned: Path, output: Path, most: int, precision: str) -> None:
    """Saliency of the training set from the best epochs in a folder that `finetune` wrote."""
    if most < 1:
        raise ArgumentError(f"--epochs: {most} is not at least 1")
    folders = best_epochs(finetuned, record=read_record(finetuned), most=most)
    classifiers = [AutoModelForSequenceClassification.from_pretrained(folder) for folder in folders]
    targets = saliency_targets(
        classifiers,
        prepared.encoded["train"],
        pad_token_id=prepared.tokenizer.pad_token_id,
        autocast=use_bfloat16(precision),
    )
    save_targets(targets, output)


def export(model: Path, output: Path) -> int:
    """Copy a model, its backbone's weights in float16, the rest and the computation in float32.

    Lossless for a backbone that `--half` rounded. The weights lie in two shards, backbone and predictors, so that
    predictors trained anew on the same backbone replace a small file only. Returns their size in bytes.
    """
    adapler = AdapLeRForSequenceClassification.from_pretrained(model)
    tokenizer = load_tokenizer(model, words=False)
    shards: dict[str, dict[str, torch.Tensor]] = {name: {} for name in SHARDS}
    for name, tensor in adapler.state_dict().items():
        of_backbone = name.startswith("backbone.")
        half = of_backbone and tensor.is_floating_point()
        shards[SHARDS[0 if of_backbone else 1]][name] = (tensor.half() if half else tensor).contiguous()
    size = sum(tensor.nbytes for weights in shards.values() for tensor in weights.values())
    index = {
        "metadata": {"total_size": size},
        "weight_map": {name: shard for shard, weights in shards.items() for name in weights},
    }
    with replacing(output) as partial:
        partial.mkdir()
        adapler.config.architectures = [type(adapler).__name__]
        adapler.config.save_pretrained(partial)
        for shard, weights in shards.items():
            save_file(weights, partial / shard, metadata={"format": "pt"})
        write_record(partial / "model.safetensors.index.json", index)
        tokenizer.save_pretrained(partial)
        run = model / "run.json"
        if run.is_file():
            (partial / "run.json").write_bytes(run.read_bytes())
    return size


def _done(folder: Path, wanted: dict[str, Any]) -> bool:
    """Whether a stage finished here with these settings.

    Raises:
        ArgumentError: it finished with others.
    """
    if not (folder / "run.json").is_file():
        return False
    record = read_record(folder)
    for name, value in wanted.items():
        if record.get(name) != value:
            raise ArgumentError(
                f"--output: {folder} holds a finished run with {name} {record.get(name)}, not {value}; "
                "give another folder or remove that one"
            )
    return True


def run_pipeline(args: argparse.Namespace) -> int:
    """`adapler run`: fine-tune, saliency, AdapLeR for each phi, evaluation; see the command's help."""
    started = time.time()
    settings, output = settings_of(args), args.output
    prepared = prepare(args, args.model, splits=("train", "validation", "test"))
    finetune_settings = replace(
        settings,
        epochs=args.finetune_epochs or settings.epochs,
        learning_rate=args.finetune_learning_rate or settings.learning_rate,
    )
    finetuned = output / "finetuned"
    common = {"data_checksum": prepared.task.checksum}
    if not _done(finetuned, {"settings": asdict(finetune_settings), **common}):
        print(f"fine-tuning into {finetuned}")
        finetune(
            prepared.task,
            prepared.encoded,
            model=args.model,
            tokenizer=prepared.tokenizer,
            output=finetuned,
            settings=finetune_settings,
            reinit_head=args.reinit_head,
            resume=True,
            half=args.half,
        )
    reference = reference_score(finetuned)
    print(f"fine-tuned: best validation {prepared.task.metric} {reference:.4f}")
    saliency = output / "saliency"
    if not saliency.is_dir():
        make_targets(prepared, finetuned=finetuned, output=saliency, most=3, precision=settings.precision)
    start = finetuned if args.freeze_backbone or args.start == "finetuned" else args.model
    rows = []
    for phi in args.phi:
        objectives = objectives_of(args, phi=phi)
        folder = output / (f"phi-{phi:g}" + ("-post-hoc" if args.freeze_backbone else ""))
        if not _done(folder, {"settings": asdict(settings), "objectives": asdict(objectives), **common}):
            print(f"training AdapLeR with phi {phi:g} into {folder}")
            train(
                prepared.task,
                prepared.encoded,
                model=start,
                tokenizer=prepared.tokenizer,
                saliency=load_targets(saliency),
                output=folder,
                settings=settings,
                objectives=objectives,
                reference_score=reference,
                initial_head=args.reinit_head,
                resume=True,
            )
        model = AdapLeRForSequenceClassification.from_pretrained(folder)
        record = read_record(folder)
        row = {"phi": phi, "qualified": record["qualified"], "seconds": record["seconds"]}
        for split in ("validation", "test"):
            result = evaluate_rows(
                model,
                prepared.encoded[split],
                pad_token_id=prepared.tokenizer.pad_token_id,
                metric=prepared.task.metric,
            )
            write_record(folder / f"evaluation-{split}.json", result)
            print(f"phi {phi:g}, {split}:\n{evaluation_table(result)}")
            hard = result["hard"][0]
            row |= {f"{split}_{prepared.task.metric}": hard["score"], f"{split}_speedup": hard["speedup"]}
        rows.append(row)
    kind = "-post-hoc" if args.freeze_backbone else ""
    table = pd.DataFrame(rows)
    with replacing(output / f"tradeoff{kind}.csv") as partial:
        table.to_csv(partial, index=False)
    write_record(
        output / f"run{kind}.json",
        record_of("run", settings, started=started, task=prepared.task.name, model=str(args.model), phi=rows, **common),
    )
    print(table.to_string(index=False))
    return 0
