"""transformers' `pipeline("text-classification")`, with the arguments of an AdapLeR model."""

from __future__ import annotations

from typing import Any

from transformers.pipelines import PIPELINE_REGISTRY, TextClassificationPipeline

from adapler.errors import ArgumentError
from adapler.inference import check_removal
from adapler.modeling import AdapLeRForSequenceClassification


class AdapLeRPipeline(TextClassificationPipeline):  # type: ignore[misc]  # transformers' pipelines carry no types
    """Hands `removal` and `threshold_scale` on to the model; without them, and for other models, it is transformers'
    own, which gives every keyword that it does not know to the tokenizer, where it is ignored.

    Raises ArgumentError for what only `predict` takes, and for a value that the model does not.
    """

    def _sanitize_parameters(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        given: dict[str, Any] = {}
        if isinstance(self.model, AdapLeRForSequenceClassification):
            for name in ("speedup", "max_drop", "milliseconds", "long_documents", "stride", "token_budget", "dtype"):
                if name in options:
                    raise ArgumentError(f"{name}: not an option of the pipeline; model.predict takes it")
            given = {name: options.pop(name) for name in ("removal", "threshold_scale") if name in options}
        of_tokenizer, of_model, of_result = super()._sanitize_parameters(**options)
        return of_tokenizer, {**of_model, **given}, of_result

    def _forward(self, model_inputs: Any, **given: Any) -> Any:
        if not given:
            return super()._forward(model_inputs)
        check_removal(given.get("removal", "hard"), given.get("threshold_scale"))
        return self.model(**model_inputs, **given)


# From now on `pipeline("text-classification")` makes an AdapLeRPipeline, unless it makes another one already.
_entry = PIPELINE_REGISTRY.supported_tasks["text-classification"]
_own = f"{TextClassificationPipeline.__module__}.{TextClassificationPipeline.__name__}"
if _entry["impl"] in (TextClassificationPipeline, _own):  # newer versions of transformers have its name there
    _entry["impl"] = AdapLeRPipeline
