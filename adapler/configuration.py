"""Configuration of an AdapLeR model: the backbone's own configuration plus the few numbers of the method."""

from __future__ import annotations

import copy
import math
from typing import Any

from transformers import CONFIG_MAPPING, AutoConfig, PretrainedConfig

from adapler.errors import ArgumentError
from adapler.policies import options_of, policy_class
from adapler.predictors import predictor_class

ETA_MIN, ETA_MAX = 0.01, 1.0


class AdapLeRConfig(PretrainedConfig):  # type: ignore[misc]
    """Configuration of the backbone and of AdapLeR.

    Args:
        backbone_config: configuration of the wrapped classifier, as an object or a dictionary with `model_type`.
        predictor: name of the Contribution Predictors, see `adapler.predictors` ("mlp" is the paper's).
        contribution_hidden_size: width of the hidden layer of each Contribution Predictor (32 in the paper).
        beta: height of the soft removal function at the threshold (AdapLeR, eq. 5; 0.1 in the paper).
        eta_init: initial value of every layer's threshold factor eta, between 0.01 and 1; the threshold of
            layer l is `eta^l / n^l`.
        policy: name of the removal policy, see `adapler.policies`. Another one than "adapler" has no Contribution
            Predictors and no eta, and the four arguments above do not count.
        policy_options: numbers of the policy, by name; default: its own. AdapLeR's is first_layer, see
            `adapler.policies.adapler.FirstLayer`.

    Raises:
        ArgumentError: a value is out of its range.
    """

    model_type = "adapler"
    sub_configs = {"backbone_config": AutoConfig}
    keys_to_ignore_at_inference = (
        "contribution_scores retention_mask log_scores log_presence head_states bars".split()
    )  # fmt: skip

    backbone_config: PretrainedConfig | dict[str, Any] | None = None
    predictor: str = "mlp"
    contribution_hidden_size: int = 32
    beta: float = 0.1
    eta_init: float = 0.25
    policy: str = "adapler"
    policy_options: dict[str, Any] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        backbone = self.backbone_config
        if isinstance(backbone, dict):
            model_type = backbone.get("model_type")
            if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
                raise ArgumentError(f"backbone_config: model_type {model_type!r} is not known to transformers")
            self.backbone_config = backbone = CONFIG_MAPPING[model_type](**backbone)
        elif not (backbone is None or isinstance(backbone, PretrainedConfig)):
            raise ArgumentError(f"backbone_config: {backbone!r} is not a configuration")
        else:
            self.backbone_config = backbone = copy.deepcopy(backbone)  # its labels may change below
        predictor_class(self.predictor)  # refuses a name that is not known
        first = getattr(options_of(policy_class(self.policy), self.policy_options), "first_layer", 0)
        if self.contribution_hidden_size < 1:
            raise ArgumentError(f"contribution_hidden_size: {self.contribution_hidden_size} is not at least 1")
        if not 0 < self.beta < math.inf:
            raise ArgumentError(f"beta: {self.beta} is not above 0")
        if not ETA_MIN <= self.eta_init <= ETA_MAX:
            raise ArgumentError(f"eta_init: {self.eta_init} is not in [{ETA_MIN}, {ETA_MAX}]")
        if backbone is not None:
            if not first < backbone.num_hidden_layers:
                raise ArgumentError(
                    f"first_layer: {first} is not below the model's {backbone.num_hidden_layers} layers"
                )
            # One truth for the labels: the backbone's, unless the caller, or a config.json, names others.
            if self.id2label is None and "num_labels" not in kwargs:
                kwargs["id2label"] = dict(backbone.id2label)
        super().__post_init__(**kwargs)
        if backbone is not None:
            self.label2id = {name: number for number, name in self.id2label.items()}
            backbone.id2label, backbone.label2id = dict(self.id2label), dict(self.label2id)

    def __setattr__(self, name: str, value: Any) -> None:
        # Names that labels are given later are the backbone's, too: what is computed of it alone finds labels by them.
        # How many there are is the backbone's to say.
        super().__setattr__(name, value)
        backbone = self._backbone
        if name in ("id2label", "label2id") and isinstance(backbone, PretrainedConfig):
            if len(value) == backbone.num_labels:
                setattr(backbone, name, dict(value))

    @property
    def _backbone(self) -> Any:
        return self.backbone_config  # an object by now: __post_init__ made one of a dictionary

    @property
    def num_hidden_layers(self) -> int:
        return int(self._backbone.num_hidden_layers)

    @property
    def hidden_size(self) -> int:
        return int(self._backbone.hidden_size)
