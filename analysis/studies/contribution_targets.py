"""What makes Contribution Predictors rank rationales: their training target, one at a time.

    python -m analysis.studies.contribution_targets --data data/eraser/movies --output results/contribution-targets

Predictors alone, on the frozen states of a fine-tuned classifier and without any removal, so that nothing but the
target differs: each layer's predictor is trained by KL(target || scores) on the training split, and its average
precision is measured on another split (validation, unless asked otherwise), beside saliency itself and beside
predictors that were trained on the human rationales, which shows what predictors of this size can rank at best.

T tokens of all documents one after the other, n tokens of one document, L layers, D hidden size
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from adapler.backbones.packing import Segments, segment_softmax
from adapler.backbones.saliency import layer_saliency
from adapler.errors import ArgumentError, run_command
from adapler.files import replacing
from adapler.model.predictors import ContributionPredictor
from adapler.training.stages.targets import load_targets
from analysis import loading
from analysis.documents.alignment import Window, align
from analysis.documents.batching import collate
from analysis.metrics.plausibility import average_precision, expected_average_precision
from analysis.metrics.statistics import bootstrap_intervals, holm, paired_permutation_test
from analysis.scores import get_method

SMOOTH = 1e-12
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
REFERENCE = "saliency itself (no predictor)"


@dataclass(frozen=True, eq=False)
class Document:
    """One document as its predictors see it.

    states: (L, n, D) bfloat16, the input of every layer; targets: name -> (L, n) float32, each sums to 1 (absent for
    validation documents); saliency: (L, n), of the predicted class.
    """

    window: Window
    states: Tensor
    targets: dict[str, Tensor]
    saliency: Tensor


def normalised(values: Tensor) -> Tensor:
    """(..., n) >= 0 -> sum 1 over n. Raises ArgumentError for a negative value: a target of KL is a distribution."""
    if bool((values < 0).any()):
        raise ArgumentError(f"target: must not be negative, the lowest value is {float(values.min()):.3g}")
    return values / values.sum(-1, keepdim=True).clamp_min(SMOOTH)


def targets_of(by_layer: Tensor, rationale: Tensor, gradients: Tensor | None) -> dict[str, Tensor]:
    """Every target (L, n) from the saliency at each layer's input (L, n), the rationale (n,) and the integrated
    gradients of the word embeddings (n,), where there are any; none of them negative."""
    first = by_layer[:1].expand_as(by_layer)
    mean = normalised(by_layer.mean(0, keepdim=True)).expand_as(by_layer)
    human = normalised(rationale.float() + 0.01)[None].expand_as(by_layer)
    found = {
        "saliency, embedding output (paper)": first,
        "its square root": normalised(first.sqrt()),
        "its square": normalised(first**2),
        "saliency, the layer's own input": by_layer,
        "saliency, mean over layers": mean,
        "human rationale (ceiling)": human,
    }
    if gradients is not None:
        found["integrated gradients"] = normalised(gradients)[None].expand_as(by_layer)
    return found


def read_documents(
    classifier: Any,
    windows: Sequence[Window],
    labels: Sequence[int] | None,
    *,
    ig_steps: int,
    title: str,
    mask_token_id: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> list[Document]:
    """States, saliency and targets of every window; targets only where there are labels (of the true class).

    Integrated gradients are their absolute values: a target is a distribution over tokens.
    """
    found = []
    device = classifier.get_input_embeddings().weight.device
    for index, window in enumerate(tqdm(windows, desc=title, unit="doc")):
        batch = collate(
            [window], labels=None if labels is None else [labels[index]], mask_token_id=mask_token_id, device=device
        )
        inputs = batch.model_inputs()
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            with torch.no_grad():
                hidden = classifier(**inputs, output_hidden_states=True).hidden_states[:-1]
            predicted = layer_saliency(classifier, inputs, target="predicted")[0].cpu()  # (L, n)
            targets = {}
            if batch.labels is not None:
                gold = layer_saliency(classifier, inputs, target=batch.labels)[0].cpu()
                gradients = None
                if ig_steps:
                    method = get_method("integrated_gradients", n_steps=ig_steps, target="gold", reduction="absolute")
                    gradients = method(classifier, batch).scores[0, 0].cpu()  # (n,)
                targets = targets_of(gold, torch.from_numpy(window.rationale), gradients)
        states = torch.stack([layer[0].bfloat16().cpu() for layer in hidden])  # (L, n, D)
        found.append(Document(window, states, targets, predicted.float()))
    return found


def train_predictors(
    documents: Sequence[Document], target: str, *, epochs: int, rate: float, hidden: int, batch_size: int, seed: int
) -> list[ContributionPredictor]:
    """One predictor a layer, each by its own KL(target || scores); linear decay of the rate to 0."""
    torch.manual_seed(seed)
    n_layers, _, width = documents[0].states.shape
    predictors = [ContributionPredictor(width, contribution_hidden_size=hidden) for _ in range(n_layers)]
    parameters = [p for predictor in predictors for p in predictor.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
    steps = epochs * -(-len(documents) // batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / steps)
    generator = np.random.default_rng(seed)
    for _ in range(epochs):
        order = generator.permutation(len(documents))
        for start in range(0, len(order), batch_size):
            batch = [documents[i] for i in order[start : start + batch_size]]
            states = torch.cat([document.states for document in batch], dim=1)  # (L, T, D)
            goal = torch.cat([document.targets[target] for document in batch], dim=1)  # (L, T)
            segments = Segments(torch.tensor([len(document.window) for document in batch]))
            scores = torch.stack(
                [segment_softmax(one(states[index]), segments) for index, one in enumerate(predictors)]
            )  # (L, T)
            loss = -(goal * scores.clamp_min(SMOOTH).log()).sum() / len(batch)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
    return predictors


@torch.no_grad()
def predictor_scores(predictors: Sequence[ContributionPredictor], document: Document) -> Tensor:
    """(L, n) scores, with nothing removed."""
    return torch.stack([one(document.states[index]).softmax(-1) for index, one in enumerate(predictors)])


def precision_by_layer(documents: Sequence[Document], scores: Callable[[Document], Tensor]) -> NDArray[np.float64]:
    """(L + 1, D) average precision over content tokens; the last row is that of the scores' mean over layers."""
    rows = []
    for document in documents:
        content = ~document.window.special
        labels = document.window.rationale[content]
        values = scores(document).double().numpy()[:, content]  # (L, n)
        rows.append([average_precision(labels, row) for row in (*values, values.mean(0))])
    return np.array(rows).T


def study(
    train: Sequence[Document], validation: Sequence[Document], *, epochs: int, rate: float, hidden: int, seed: int
) -> pd.DataFrame:
    """A row a target and layer: target, layer (or "mean"), average_precision, low, high, minus_saliency, p, p_holm, n.

    p_holm: p corrected by Holm's method for all comparisons with saliency in this table (each target at each layer,
    and at the mean over layers).
    """
    reference = precision_by_layer(validation, lambda document: document.saliency)
    found = {REFERENCE: reference}
    for target in tqdm(train[0].targets, desc="targets", unit="target"):
        predictors = train_predictors(train, target, epochs=epochs, rate=rate, hidden=hidden, batch_size=8, seed=seed)
        found[target] = precision_by_layer(validation, lambda d, chosen=predictors: predictor_scores(chosen, d))  # type: ignore[misc]
    frames = []
    for target, values in found.items():
        intervals = bootstrap_intervals(values)
        frames.append(
            pd.DataFrame(
                {
                    "target": target,
                    "layer": [*(str(layer) for layer in range(len(values) - 1)), "mean"],
                    "average_precision": intervals.mean,
                    "low": intervals.low,
                    "high": intervals.high,
                    "minus_saliency": (values - reference).mean(1),
                    "p": paired_permutation_test(values, reference),
                    "p_holm": np.nan,
                    "n": intervals.n,
                }
            )
        )
    frame = pd.concat(frames, ignore_index=True)
    tested = frame["target"] != REFERENCE
    frame.loc[tested, "p_holm"] = holm(frame.loc[tested, "p"].to_numpy(dtype=np.float64))
    frame.loc[~tested, "p_holm"] = 1.0
    return frame


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m analysis.studies.contribution_targets",
        description="Which training target makes Contribution Predictors rank human rationales best.",
        epilog="example:\n  python -m analysis.studies.contribution_targets --data data/eraser/movies --limit 400",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", metavar="DIR_OR_HUB", help="a fine-tuned classifier (default: that of the embedded checkpoint)")
    add("--data", metavar="DIR_OR_TAR", help="a corpus in ERASER layout (default: data/eraser/movies, else sample)")
    add("--split", default="val", help="where average precision is measured (default: val)")
    add("--saliency", metavar="DIR", help="what `adapler saliency` wrote: its targets, averaged over epochs, as well")
    add("--limit", type=int, default=400, metavar="N", help="training documents (default: 400)")
    add("--max-length", type=int, default=512, metavar="N", help="wordpieces of an input (default: 512)")
    add("--ig-steps", type=int, default=16, metavar="N", help="of integrated gradients; 0: without (default: 16)")
    add("--epochs", type=int, default=10, help="over the training documents (default: 10)")
    add("--learning-rate", type=float, default=5e-3, help="of the predictors (default: 0.005)")
    add("--hidden", type=int, default=32, help="width of a predictor's hidden layer (default: 32)")
    add("--dtype", choices=list(DTYPES), default="float32", help="of the classifier's passes (default: float32)")
    add("--seed", type=int, default=42, help="default: 42")
    add("--output", metavar="DIR", default="reports/contribution-targets", help="default: %(default)s")
    return parser


def add_averaged(documents: Sequence[Document], folder: str) -> list[Document]:
    """The same documents with the stored targets of `adapler saliency`; those without one are left out.

    Raises ArgumentError when none has one.
    """
    stored = load_targets(folder)
    place = {name: row for row, name in enumerate(stored["id"])}
    found = []
    for document in documents:
        row = place.get(document.window.document)
        if row is None:
            continue
        values = torch.tensor(stored[row]["saliency"])  # (n,)
        if len(values) == len(document.window):
            target = normalised(values)[None].expand(len(document.states), -1)
            extra = {"saliency, embedding output, mean of epochs": target}
            found.append(Document(document.window, document.states, document.targets | extra, document.saliency))
    if not found:
        raise ArgumentError(f"--saliency: {folder} has no target for these documents at this length")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; errors are AdapLeRError."""
    arguments = build_parser().parse_args(argv)
    for name in ("limit", "epochs", "hidden"):
        if getattr(arguments, name) < 1:
            raise ArgumentError(f"--{name}: {getattr(arguments, name)} is not at least 1")
    classifier, _, tokenizer = loading.load_models(arguments.model, None)
    classifier = copy.deepcopy(classifier).eval()
    corpus = loading.load_corpus(arguments.data)
    missing = [split for split in ("train", arguments.split) if split not in corpus.splits]
    if missing:
        raise ArgumentError(f"--data: {corpus.name} has no split {missing[0]!r}; it has {', '.join(corpus.splits)}")
    order = np.random.default_rng(arguments.seed).permutation(len(corpus.splits["train"]))[: arguments.limit]
    examples = [corpus.splits["train"][int(i)] for i in order]
    labels = [classifier.config.label2id[example.label] for example in examples]
    windows = [align(one, tokenizer, max_length=arguments.max_length).windows[0] for one in examples]
    asked: dict[str, Any] = {"mask_token_id": tokenizer.mask_token_id, "dtype": DTYPES[arguments.dtype]}
    train = read_documents(classifier, windows, labels, ig_steps=arguments.ig_steps, title="train", **asked)
    if arguments.saliency:
        train = add_averaged(train, arguments.saliency)
    scored = []
    for example in corpus.splits[arguments.split]:
        window = align(example, tokenizer, max_length=arguments.max_length).windows[0]
        inside = window.rationale[~window.special]
        if inside.any() and not inside.all():
            scored.append(window)
    validation = read_documents(classifier, scored, None, ig_steps=0, title=arguments.split, **asked)
    frame = study(
        train,
        validation,
        epochs=arguments.epochs,
        rate=arguments.learning_rate,
        hidden=arguments.hidden,
        seed=arguments.seed,
    )
    content = [window.rationale[~window.special] for window in scored]
    chance = float(np.mean([expected_average_precision(int(one.sum()), len(one)) for one in content]))
    print(f"{corpus.name}, {arguments.split}, {len(scored)} documents, {len(train)} to train on; chance {chance:.3f}")
    print("average precision by layer, and of the mean over layers")
    table = frame.pivot(index="target", columns="layer", values="average_precision")
    print(table.loc[list(dict.fromkeys(frame["target"]))].to_string(float_format=lambda value: f"{value:.3f}"))
    output = Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    file = output / f"targets-{arguments.split}.csv"
    with replacing(file) as partial:
        frame.assign(chance=chance).to_csv(partial, index=False, float_format="%.5g", lineterminator="\n")
    print(f"written to {loading.short_path(file)}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
