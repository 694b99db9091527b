"""A model for inference in another number format, which shares what it can with the model it is made of.

Dimensions: B batch, N padded length, C labels.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from adapler.backbones import ready, view
from adapler.backbones.pieces import HALF
from adapler.passes import plain_pass
from adapler.precision import choose_dtype


def end_autocast(model: nn.Module) -> None:
    """Take the autocast away that accelerate puts around the forward pass of a model that it trains, in place.

    It stays there after training, so that a model would go on computing in bfloat16 whatever it is asked for.
    """
    for name in ("forward", "_original_forward"):
        vars(model).pop(name, None)


@torch.inference_mode(False)  # its weights would have no version, by which a calibration knows them again
def inference_copy(model: Any, *, dtype: str) -> Any:
    """See AdapLeRForSequenceClassification.for_inference; of a plain classifier of a supported family, the same.

    In half precision on a CPU only the layers' products are in it: their norms, and with them the states that go from
    layer to layer, stay in float32: half of the error is gone, and with AVX512-BF16 a layer takes as long. A GPU's
    kernel for norms wants its input in the format of its weights, so there whole layers are in half precision.
    """
    chosen = getattr(torch, choose_dtype(dtype, model.device))
    layers = view(getattr(model, "backbone", model)).layers
    mixed = chosen in HALF and model.device.type == "cpu"
    parts = [part for part in layers.modules() if isinstance(part, nn.Linear)] if mixed else layers
    found = [parameter for part in parts for parameter in part.parameters()]
    if all(parameter.dtype == chosen for parameter in found):
        return _copied(model, {})
    return _copied(model, {id(p): nn.Parameter(p.detach().to(chosen), requires_grad=False) for p in found})


class InferenceClassifier(nn.Module):
    """A plain classifier's inference copy: real tokens packed, layers in a number format (see `inference_copy`).

    AdapLeR's `for_inference` with `removal="none"` computes the same.

    Attributes:
        config: the classifier's.
    """

    def __init__(self, classifier: PreTrainedModel, *, dtype: str) -> None:
        """Share what can be shared; the classifier stays as it is.

        Args:
            classifier: of a supported family, see `adapler.backbones`.
            dtype: "float32", "bfloat16", or "auto": bfloat16 where the classifier's device computes it in hardware.

        Raises:
            ArgumentError: another dtype.
        """
        super().__init__()
        self.classifier = ready(inference_copy(classifier, dtype=dtype))
        self.config = self.classifier.config
        self.eval()

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        device: torch.device = self.classifier.device
        return device

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """Logits (B, C) in float32 of a padded batch (B, N), and with labels (B,) the cross-entropy."""
        logits, _ = plain_pass(
            self.classifier, input_ids=input_ids, mask=attention_mask, token_type_ids=token_type_ids
        )  # (B, C)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels.view(-1))
        return SequenceClassifierOutput(loss=loss, logits=logits)


def _copied(model: Any, converted: dict[int, nn.Parameter]) -> Any:
    """A copy whose parameters and buffers are the model's own, but for the converted ones (by their id)."""
    shared = {id(tensor): tensor.detach() for tensor in model.buffers()}
    for parameter in model.parameters():
        shared[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
    with torch.no_grad():
        made = copy.deepcopy(model, {**shared, **converted}).eval()
    end_autocast(made)
    return made
