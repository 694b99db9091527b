"""transformers' `pipeline("text-classification")`, with the arguments of an AdapLeR model."""

from __future__ import annotations

from typing import Any

from transformers.pipelines import PIPELINE_REGISTRY, TextClassificationPipeline

from adapler.errors import ArgumentError
from adapler.model.prediction import OF_PREDICT, check_predict_options
from adapler.modeling import AdapLeRForSequenceClassification

__all__ = ["AdapLeRPipeline", "register"]

_TASK = "text-classification"
_OF_FORWARD = ("removal", "threshold_scale")
_OF_TOKENIZER = ("max_length",)  # as transformers' pipeline has it
_OF_PREDICT = ("speedup", "max_drop", "milliseconds", *OF_PREDICT)


class AdapLeRPipeline(TextClassificationPipeline):  # type: ignore[misc]  # transformers' pipelines carry no types
    """Hands `removal` and `threshold_scale` on to the model; without them, and for other models, it is transformers'
    own, which gives every keyword that it does not know to the tokenizer, where it is ignored.

    Raises ArgumentError for what only `predict` takes, and for a value that the model does not.
    """

    def _sanitize_parameters(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        given = {}
        if isinstance(self.model, AdapLeRForSequenceClassification):
            if wrong := [
                name for name in _OF_PREDICT if name in options and name not in (*_OF_FORWARD, *_OF_TOKENIZER)
            ]:
                raise ArgumentError(
                    f"{wrong[0]}: not an option of the pipeline, which has {' and '.join(_OF_FORWARD)}; model.predict "
                    "takes it"
                )
            given = {name: options.pop(name) for name in _OF_FORWARD if name in options}
            check_predict_options(given)
        of_tokenizer, of_model, of_result = super()._sanitize_parameters(**options)
        return of_tokenizer, {**of_model, **given}, of_result

    def _forward(self, model_inputs: Any, **given: Any) -> Any:
        if isinstance(self.model, AdapLeRForSequenceClassification):
            check_predict_options(given)  # once more: one of them may come from the call, the other from the pipeline
        return self.model(**model_inputs, **given) if given else super()._forward(model_inputs)


def register() -> None:
    """From now on, `pipeline("text-classification")` makes an AdapLeRPipeline, unless it makes another one already."""
    entry = PIPELINE_REGISTRY.supported_tasks[_TASK]
    own = f"{TextClassificationPipeline.__module__}.{TextClassificationPipeline.__name__}"
    if entry["impl"] in (TextClassificationPipeline, own):  # newer versions of transformers have its name there
        entry["impl"] = AdapLeRPipeline


register()
