"""Text without labels: what a fine-tuned classifier says about it takes their place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
from transformers import PreTrainedModel

from adapler.backbones import label_names
from adapler.backbones.loading import is_fine_tuned, load_classifier, read_config
from adapler.configuration import AdapLeRConfig
from adapler.data import Task
from adapler.devices import choose_device
from adapler.distributed import from_main, is_main
from adapler.errors import ArgumentError
from adapler.inference.evaluation import classifier_score, classify
from adapler.inference.predict import predict_dataset
from adapler.model.inference_copy import InferenceClassifier
from adapler.modeling import AdapLeRForSequenceClassification
from adapler.training.arguments import precision_name
from adapler.training.settings import Execution
from adapler.training.stages.prepare import Prepared


def load_fine_tuned(name: str | Path, task: Task, *, execution: Execution) -> PreTrainedModel:
    """A fine-tuned classifier with a task's labels, on its device; of an AdapLeR model, its backbone.

    Raises:
        ArgumentError: an encoder, another number of labels, or the same labels in another order.
    """
    config = read_config(name)
    if not is_fine_tuned(config):
        raise ArgumentError(f"{name}: is an encoder, without a trained head; a fine-tuned classifier is needed here")
    own = label_names(config)
    lower, wanted = [label.lower() for label in own], [label.lower() for label in task.labels]
    if lower != wanted and sorted(lower) == sorted(wanted):
        raise ArgumentError(
            f"{name}: numbers its labels {', '.join(own)}, the model that is trained {', '.join(task.labels)}; start "
            "from it, or from a model with its order"
        )
    if config.model_type == AdapLeRConfig.model_type:
        if config.num_labels != len(task.labels):
            raise ArgumentError(f"{name}: has {config.num_labels} labels, {task.name} has {len(task.labels)}")
        backbone: PreTrainedModel = AdapLeRForSequenceClassification.from_pretrained(name).backbone
        return backbone.to(choose_device(execution.device))
    return load_classifier(name, labels=list(task.labels)).to(choose_device(execution.device))


def with_predicted_labels(prepared: Prepared, classifier: str | Path, *, execution: Execution) -> Prepared:
    """The same task, with a classifier's own predictions as the labels of the splits that have none.

    The label of an example is the class with the highest logit, of the mean over its windows when it has several.
    Cross-entropy and saliency use it like a true label. A score on such a split is the share of examples on which a
    model agrees with the classifier, so it is called `agreement`.

    Args:
        prepared: task and encoded rows.
        classifier: hub name or folder.
        execution: device and precision.

    Returns:
        `prepared` itself when every split has labels.
    """
    wanted = tuple(split for split in prepared.task.unlabelled if split in prepared.encoded)
    if not wanted:
        return prepared
    if is_main():
        print(f"note: {', '.join(wanted)} without labels: the predictions of {classifier} take their place")
    found = from_main(lambda: _predictions(prepared, classifier, splits=wanted, execution=execution))
    encoded = dict(prepared.encoded)
    for split in wanted:
        kept = encoded[split].remove_columns("labels")
        encoded[split] = kept.add_column("labels", found[split], feature=datasets.Value("int64"))
    encoding = {**prepared.encoding, "predicted_labels": list(wanted)}
    return replace(prepared, encoded=datasets.DatasetDict(encoded), encoding=encoding, predicted=wanted)


def _for_inference(classifier: str | Path, prepared: Prepared, *, execution: Execution) -> InferenceClassifier:
    """The classifier in the format that training evaluates in."""
    loaded = load_fine_tuned(classifier, prepared.task, execution=execution)
    return InferenceClassifier(loaded, dtype=precision_name(execution.precision))


def _predictions(
    prepared: Prepared, classifier: str | Path, *, splits: tuple[str, ...], execution: Execution
) -> dict[str, list[int]]:
    """The predicted class of each row, by split."""
    model = _for_inference(classifier, prepared, execution=execution)
    labels = {}
    for split in splits:
        rows = prepared.encoded[split]
        found = predict_rows(model, rows, pad_token_id=prepared.tokenizer.pad_token_id, progress=f"labels of {split}")
        owners = list(rows["example_id"])
        label = dict(zip(dict.fromkeys(owners), classify(found, owners), strict=True))
        labels[split] = [label[example] for example in owners]
    return labels


def is_score_here(record: Mapping[str, Any], prepared: Prepared) -> bool:
    """Whether the score in a fine-tuning's record is of the same validation rows, read and judged as here.

    What an older record does not say counts as the same.
    """
    here = {"data_checksum": prepared.task.checksum, "metric": prepared.metric("validation"), **prepared.encoding}
    found = {**record, **(record.get("encoding") or {})}
    names = ["data_checksum", "metric", "max_length", "long_documents", "columns"]
    if here["long_documents"] == "windows":
        names.append("stride")
    return all(found.get(name, here[name]) == here[name] for name in names)


def measured_score(classifier: str | Path, prepared: Prepared, *, execution: Execution) -> float:
    """Validation score of a classifier, computed as the score of an epoch is. Prints it.

    An accuracy below the share of the most frequent label gets a note: the labels may be in another order.

    Raises:
        ArgumentError: an encoder without a trained head.
    """
    rows, metric = prepared.encoded["validation"], prepared.metric("validation")
    model = _for_inference(classifier, prepared, execution=execution)
    score = classifier_score(model, rows, pad_token_id=prepared.tokenizer.pad_token_id, metric=metric)
    print(f"{classifier}: validation {metric} {score:.4f}")
    labels = list(dict(zip(rows["example_id"], rows["labels"], strict=True)).values())
    most = Counter(labels).most_common(1)[0][1] / len(labels)
    if metric == "accuracy" and score < most:
        print(
            f"note: that is below the most frequent label's share, {most:.4f}; it may number its labels in another "
            f"order than {', '.join(prepared.task.labels)} (id2label in its config.json says which)"
        )
    return score
