"""AdapLeR over any supported transformers classifier: its configuration, checkpoints, the model.

Checkpoints of a folder or the hub are loaded whole, or refused with one line that says what is wrong with them.

Dimensions: B batch, N padded length, T packed tokens, L layers, D hidden size, C labels. Layers are numbered
from 0; layer l's Contribution Predictor runs on its input h^l, before the layer.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.pipelines import PIPELINE_REGISTRY, TextClassificationPipeline
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from adapler.backbones.families import (
    Family,
    check_task,
    family_of,
    max_positions,
    position_ids,
    ready,
    view,
)
from adapler.contribution import Predictor, predictor_class
from adapler.errors import ArgumentError, CheckpointError
from adapler.inference import Predicts, check_removal
from adapler.options import is_number
from adapler.passes import AdapLeROutput, hard_pass
from adapler.policies import Policy, options_of, policy_class

logger = logging.getLogger(__name__)

ETA_MIN, ETA_MAX = 0.01, 1.0


class AdapLeRConfig(PretrainedConfig):  # type: ignore[misc]
    """Configuration of the backbone and of AdapLeR.

    Args:
        backbone_config: configuration of the wrapped classifier, as an object or a dictionary with `model_type`.
        predictor: name of the Contribution Predictors, see `adapler.contribution` ("mlp" is the paper's).
        contribution_hidden_size: width of their hidden layer (32 in the paper).
        beta: height of the soft removal function at the threshold (AdapLeR, eq. 5; 0.1 in the paper).
        eta_init: initial value of every layer's eta, between 0.01 and 1; the threshold of layer l is `eta^l / n^l`.
        policy: name of the removal policy, see `adapler.policies`. For another one than "adapler" the four arguments
            above do not count.
        policy_options: numbers of the policy, by name; AdapLeR's is first_layer, see `adapler.policies.adapler`.
    """

    model_type = "adapler"
    sub_configs = {"backbone_config": AutoConfig}
    keys_to_ignore_at_inference = "contribution_scores retention_mask log_scores log_presence bars".split()

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
        backbone = self.backbone_config
        if name in ("id2label", "label2id") and isinstance(backbone, PretrainedConfig):
            if len(value) == backbone.num_labels:
                setattr(backbone, name, dict(value))

    @property
    def num_hidden_layers(self) -> int:
        return int(cast(Any, self.backbone_config).num_hidden_layers)

    @property
    def hidden_size(self) -> int:
        return int(cast(Any, self.backbone_config).hidden_size)


# ---- checkpoints


class HubArguments(TypedDict, total=False):
    """Arguments of transformers' `from_pretrained` that locate a model on the hub."""

    subfolder: str
    revision: str
    token: str | bool | None
    cache_dir: str | Path | None
    local_files_only: bool


def is_local(name_or_path: str | Path) -> bool:
    """Whether a model name means a local folder; CheckpointError if it can only mean one, and there is none.

    A name like `checkpoints/x` has the form of a hub name too. It means the folder when that, or its first part, is
    there; so a mistyped folder never turns into a request to the network.
    """
    path = Path(name_or_path)
    if path.is_dir():
        return True
    if path.exists():
        raise CheckpointError(f"{name_or_path}: is a file, not a model folder")
    parts = str(name_or_path).split("/")
    only_local = isinstance(name_or_path, Path) or len(parts) > 2 or parts[0] in ("", ".", "..", "~")
    if only_local or Path(parts[0]).is_dir():
        raise CheckpointError(f"{name_or_path}: no such model folder")
    return False


def located(name_or_path: str | Path, hub: HubArguments) -> HubArguments:
    """Arguments of transformers' `from_pretrained` for a model: no request to the hub for a folder's. CheckpointError
    for no such folder, or no config.json in it."""
    if not is_local(name_or_path):
        return hub
    folder = Path(name_or_path) / (hub.get("subfolder") or "")
    if not (folder / "config.json").is_file():
        inside = sorted(path.parent.name for path in folder.glob("*/config.json"))
        models = f"; there are models in it: {', '.join(inside)}" if inside else ""
        raise CheckpointError(f"{folder}: no config.json in this folder, so it is not a model{models}")
    return {**hub, "local_files_only": True}


def read_config(name_or_path: str | Path, **hub: Unpack[HubArguments]) -> Any:
    """The transformers configuration of a folder or hub model; CheckpointError if it is missing, unreadable, or of a
    type unknown to transformers."""
    hub = located(name_or_path, hub)
    try:
        fields, _ = PretrainedConfig.get_config_dict(name_or_path, **hub)
        model_type = fields.get("model_type")
        if model_type not in CONFIG_MAPPING:
            raise ArgumentError(f"model_type: {model_type!r} is not known to transformers")
        return CONFIG_MAPPING[model_type].from_dict(fields, name_or_path=str(name_or_path))
    except Exception as error:  # damaged files make transformers raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(f"{name_or_path}: cannot read its config.json: {reason}") from error


def is_fine_tuned(config: Any) -> bool:
    """Whether a configuration is that of a classifier whose head was trained, and not of an encoder."""
    return any(name.endswith("ForSequenceClassification") for name in config.architectures or [])


def load_classifier(
    name_or_path: str | Path,
    *,
    num_labels: int | None = None,
    labels: list[str] | None = None,
    **hub: Unpack[HubArguments],
) -> PreTrainedModel:
    """A plain transformers classifier in float32, attention dropout off, ready to be AdapLeR's backbone.

    An encoder gets a new head, a fine-tuned classifier keeps its own. `num_labels` or `labels` are the task's; default:
    the checkpoint's own.

    Raises:
        CheckpointError: nothing loadable there, weights that are missing or not finite, or a head that does not
            choose one of several labels.
        ArgumentError: unsupported backbone, or a fine-tuned head with another number or order of labels.
    """
    wanted = num_labels if labels is None else len(labels)
    if num_labels not in (None, wanted):
        raise ArgumentError(f"num_labels: {num_labels}, and `labels` has {wanted}")
    config = read_config(name_or_path, **hub)
    if config.model_type == "adapler":
        raise CheckpointError(f"{name_or_path}: already is an AdapLeR model; a plain encoder or classifier is needed")
    family, fine_tuned = family_of(config), is_fine_tuned(config)
    if fine_tuned and wanted is not None:
        own = [str(name) for _, name in sorted(config.id2label.items())]
        if len(own) != wanted:
            raise ArgumentError(f"num_labels: {wanted}, but the classifier in {name_or_path} has {len(own)} labels")
        given, had = ([name.lower() for name in names] for names in (labels or own, own))
        if given != had and sorted(given) == sorted(had):
            raise ArgumentError(f"labels: the classifier in {name_or_path} has them in another order, {', '.join(own)}")
    if labels is not None:
        config.id2label, config.label2id = dict(enumerate(labels)), {label: i for i, label in enumerate(labels)}
    elif wanted is not None and config.num_labels != wanted:
        config.num_labels = wanted
    setattr(config, family.attention_dropout, 0.0)
    load, checks = AutoModelForSequenceClassification.from_pretrained, (family.check, check_task)
    encoder = None if fine_tuned else family
    return _load(load, name_or_path, hub=hub, checks=checks, encoder=encoder, config=config)[0]


def load_any_classifier(name_or_path: str | Path, **hub: Unpack[HubArguments]) -> PreTrainedModel:
    """A fine-tuned classifier of any architecture that transformers has, in float32 and evaluation mode.

    AdapLeR cannot be built on every one of them; scores can be computed for every one. Raises CheckpointError as
    `load_classifier`, and for an encoder without a trained head.
    """
    config = read_config(name_or_path, **hub)
    if not is_fine_tuned(config):
        found = ", ".join(config.architectures or []) or config.model_type
        raise CheckpointError(
            f"{name_or_path}: holds no fine-tuned classifier (found {found}, need a ...ForSequenceClassification)"
        )
    load = AutoModelForSequenceClassification.from_pretrained
    return _load(load, name_or_path, hub=hub, checks=(check_task,), config=config)[0].eval()


def _load(
    from_pretrained: Callable[..., Any],
    name_or_path: Any,
    *args: Any,
    hub: HubArguments,
    checks: Sequence[Callable[[Any], None]] = (),
    encoder: type[Family] | None = None,
    resized: bool = False,
    whole: bool = False,
    **options: Any,
) -> tuple[Any, dict[str, Any]]:
    """A model, in float32 by default, and transformers' loading info. CheckpointError for what cannot be loaded, and
    for weights that lack something (transformers draws new ones), have another shape, or are not numbers.

    Args:
        checks: of the configuration.
        encoder: the checkpoint is an encoder of this family, so that the head is new, and the pooler may be.
        resized: whether weights may have another shape and be new, transformers' `ignore_mismatched_sizes`.
        whole: refuse weights that the model has no place for, as remains of other heads.
    """
    # transformers 5.25 replaces activations by kernels from the hub, unasked; scores follow the activation they know.
    options = {"use_kernels": False, **located(name_or_path, hub), **options}
    options = {"dtype": torch.float32, "use_safetensors": True, **options}
    options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}  # which is refused below
    try:
        for check in checks:
            check(options["config"])
        model, info = from_pretrained(name_or_path, *args, **options)
    except Exception as error:  # damaged files make transformers raise nearly anything
        line = (str(error).strip().splitlines() or [""])[0]
        unreadable = f"the weights cannot be read ({type(error).__name__}: {line})"
        reason = f"its config.json: {line}" if isinstance(error, ArgumentError) else unreadable
        raise CheckpointError(f"{name_or_path}: {reason}") from error
    lost = sorted(info["missing_keys"])
    if encoder is not None:
        lost = [
            name for name in lost if name.startswith(f"{encoder.base}.") and not name.startswith(encoder.pooler_path)
        ]
    shapes = [] if resized else [f"{name!r} {tuple(had)}" for name, had, _ in sorted(info["mismatched_keys"])]
    strange = sorted(info["unexpected_keys"]) if whole else []
    infinite = [name for name, tensor in model.named_parameters() if not bool(tensor.isfinite().all())]
    for names, problem in (
        (lost, "has no weights for"),
        (shapes, "has, in another shape than the model of its config.json,"),
        (strange, "has weights that have no place in the model of its config.json:"),
        (infinite, "has NaN or infinity in the weights"),
    ):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise CheckpointError(f"{name_or_path}: the checkpoint {problem} {names[0]}{more}")
    return model, info


@torch.no_grad()
def reinitialise_head(
    classifier: PreTrainedModel, *, mode: Literal["auto", "yes", "no"] = "auto", fine_tuned: bool | None = None
) -> bool:
    """Give a classifier a new pooler and classifier, in place, when its pooler was never trained; returns whether.

    Encoders trained with mean pooling (sentence-transformers) carry a pooler with tiny weights that no loss ever
    reached, so that fine-tuning on long inputs does not start. "auto" recognises it by a standard deviation below half
    of 1/sqrt(D), which a dense layer needs to keep the size of its input; it never touches a fine-tuned classifier's
    (`fine_tuned`; default: by the configuration).
    """
    pooler = view(classifier).pooler
    healthy = pooler.in_features**-0.5
    spread = float(pooler.weight.std())
    trained = is_fine_tuned(classifier.config) if fine_tuned is None else fine_tuned
    if mode == "no" or (mode != "yes" and (trained or spread >= healthy / 2)):
        return False
    last = [module for module in classifier.modules() if isinstance(module, torch.nn.Linear)][-1]
    for layer in dict.fromkeys((pooler, last)):  # in a fixed order: each draws from the seeded generator
        layer.weight.normal_(std=healthy)
        if layer.bias is not None:  # ModernBERT's pooler has none
            layer.bias.zero_()
    said = "pooler and classifier re-initialised (std %.3f): the pooler's weights have std %.4f, as if never trained"
    logger.warning(said, healthy, spread)
    return True


# ---- the model

Removal = Literal["none", "soft", "hard"]
DEFAULT_SLOPE = 10.0
OWN_FIELDS = {"predictor", "contribution_hidden_size", "beta", "eta_init", "policy", "policy_options"}


class AdapLeRForSequenceClassification(Predicts, PreTrainedModel):  # type: ignore[misc]
    """A classifier that drops tokens layer by layer (AdapLeR, ACL 2022).

    Attributes:
        backbone: the plain transformers classifier; `removal="none"` gives its logits.
        contribution_predictors: one predictor per layer, of the kind that `config.predictor` names.
        eta: (L,) threshold factors in [0.01, 1]; layer l drops tokens whose score is below eta^l / n^l.
        theta: (L - 1,) for layers 1..L-1, rescales [CLS]'s share of the training target; no effect at inference.
        policy: instead of these three, what drops tokens, where `config.policy` is not "adapler".
    """

    config_class = AdapLeRConfig
    base_model_prefix = "backbone"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_attention_backend = True
    # Thresholds are compared in float32, so what makes them stays in float32 whatever `dtype` is (regular expressions).
    _keep_in_fp32_modules_strict = ["^contribution_predictors", "^eta$", "^theta$", "^policy"]

    def __init__(self, config: AdapLeRConfig, *, backbone: PreTrainedModel | None = None) -> None:
        super().__init__(config)
        if config.backbone_config is None:
            raise ArgumentError("backbone_config: missing; build a model with from_backbone or from_pretrained")
        if backbone is not None:
            for module in backbone.modules():  # transformers draws weights of modules that it has not made itself
                cast(Any, module)._is_hf_initialized = True
            config.backbone_config = backbone.config  # one object: what is changed of the backbone is saved with it
        family_of(config.backbone_config).check(config.backbone_config)
        check_task(config)
        config.id2label, config.label2id = config.id2label, config.label2id  # which the backbone's follow
        check_task(config.backbone_config)
        if backbone is None:
            backbone = AutoModelForSequenceClassification.from_config(config.backbone_config)
        self.backbone = ready(backbone)
        self.num_layers = len(view(self.backbone).layers)
        policy_class(config.policy).install(self)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, Predictor | Policy):
            module.reset_parameters()

    def _set_gradient_checkpointing(
        self, enable: bool = True, gradient_checkpointing_func: Any = checkpoint, **options: Any
    ) -> None:
        # Reentrant checkpoints cannot serve two objectives that share a forward pass, and with a frozen backbone
        # their gradients are wrong. The other kind gives the same numbers, so it is always the one that is used.
        function = partial(gradient_checkpointing_func, use_reentrant=False)
        for layer in view(self.backbone).layers:
            if not hasattr(layer, "gradient_checkpointing"):
                cast(Any, layer).gradient_checkpointing = False  # MPNet's: see `layer` of its family
        super()._set_gradient_checkpointing(enable, gradient_checkpointing_func=function, **options)

    @classmethod
    def from_backbone(
        cls,
        name_or_path: str | Path,
        *,
        num_labels: int | None = None,
        labels: list[str] | None = None,
        **options: Any,
    ) -> AdapLeRForSequenceClassification:
        """AdapLeR on top of a classifier or encoder of a supported family, from the hub or a local folder.

        A fine-tuned classifier keeps its head; an encoder gets a new one. Attention dropout is switched off
        (its slow path costs a factor of five in soft mode; the reference does the same).

        Args:
            name_or_path: hub name, or folder written by `save_pretrained`.
            num_labels, labels: the number of labels, or their names; default: the checkpoint's own.
            options: subfolder, revision, token, cache_dir, local_files_only, as of transformers' `from_pretrained`; and
                fields of `AdapLeRConfig` (predictor, contribution_hidden_size, beta, eta_init, policy, policy_options).

        Raises:
            CheckpointError: nothing loadable there, weights that are missing or not finite, or a head that does not
                choose one of several labels (regression, multi-label).
            ArgumentError: unsupported kind of backbone, or a fine-tuned head with another number or order of labels.
        """
        hub: Any = {name: options.pop(name) for name in HubArguments.__annotations__ if name in options}
        if unknown := sorted(options.keys() - OWN_FIELDS):
            raise ArgumentError(f"{unknown[0]}: not an argument of from_backbone, and not a field of AdapLeRConfig")
        backbone = load_classifier(name_or_path, num_labels=num_labels, labels=labels, **hub)
        backbone.config._name_or_path = ""  # a local path says nothing to whoever loads the model later
        model = cls(AdapLeRConfig(backbone_config=backbone.config, **options), backbone=backbone)
        model.eval()
        return model

    @classmethod
    def from_pretrained(cls, name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Load a model saved with `save_pretrained`, from a folder or the hub; arguments as of transformers.

        Weights are computed with in float32 unless `dtype` says otherwise, however they are stored; eta, theta and the
        Contribution Predictors always are (`model.to(torch.bfloat16)` would round them as well). CheckpointError where
        there is no AdapLeR model, or its weights are not exactly those of its config.json, or are not finite.
        """
        hub: Any = {name: kwargs.pop(name) for name in HubArguments.__annotations__ if name in kwargs}
        if "config" not in kwargs and (config := read_config(name_or_path, **hub)).model_type != "adapler":
            raise CheckpointError(
                f"{name_or_path}: holds a {config.model_type!r} model, not 'adapler'; `adapler run --classifier` "
                "trains one on it (AdapLeRForSequenceClassification.from_backbone builds it, untrained)"
            )
        if "torch_dtype" in kwargs:  # its name before transformers 5, which still takes it
            kwargs.setdefault("dtype", kwargs.pop("torch_dtype"))
        informed, resized = kwargs.pop("output_loading_info", False), kwargs.pop("ignore_mismatched_sizes", False)
        how: Any = {"hub": hub, "resized": resized, "whole": True}
        model, info = _load(super().from_pretrained, name_or_path, *args, **how, **kwargs)
        model.remember_source(name_or_path, **hub)
        return (model, info) if informed else model

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """Save the model, see transformers, its calibration, unless the weights have changed since, and run.json."""
        if kwargs.get("push_to_hub"):
            raise ArgumentError("push_to_hub: would leave out run.json and the calibration; call push_to_hub(NAME)")
        super().save_pretrained(save_directory, *args, **kwargs)
        weights = [Path(save_directory) / name for name in (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME)]
        if all(file.is_file() for file in weights):  # an earlier save's, which transformers would load
            min(weights, key=lambda file: file.stat().st_mtime_ns).unlink()
        if args[0] if args else kwargs.get("is_main_process", True):
            self.save_beside(Path(save_directory))

    @property
    def removal_policy(self) -> Policy:
        """The removal policy: AdapLeR's predictors and thresholds, or another one (see `adapler.policies`)."""
        return policy_class(self.config.policy).of(self)

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> nn.Module:
        return self.backbone.resize_token_embeddings(*args, **kwargs)

    def clamp_eta(self) -> None:
        """Keep eta in [0.01, 1] and theta positive, in place; AdapLeR's, called after each optimiser step."""
        with torch.no_grad():
            self.eta.clamp_(ETA_MIN, ETA_MAX)
            self.theta.clamp_(min=ETA_MIN)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        position_ids: Tensor | None = None,
        removal: Removal | None = None,
        threshold_scale: float = 1.0,
        fate: Tensor | None = None,
        slope: float | None = None,
        gradient_slope: float = math.inf,
        probe: Tensor | None = None,
        local_losses: bool = False,
        inputs_embeds: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> AdapLeROutput | tuple[Any, ...]:
        """Classify a padded batch.

        Padding may stand on either side, and gives the same numbers on both. On a GPU some sums have no fixed order, so
        a token whose score lies on its threshold to the last bit may be kept in one run and dropped in the next.

        Args:
            input_ids: (B, N).
            attention_mask: (B, N), 1 for real tokens; each row's first real token is [CLS]. Default: all real.
            token_type_ids: (B, N), for backbones that have them.
            labels: (B,) class indices, -100 for rows that do not count; gives `loss`.
            position_ids: (B, N) or (1, N), the position of each token. Default: counted from [CLS].
            removal: "none" (the backbone alone), "soft" (training) or "hard" (tokens are really removed).
                Default: soft in training mode, hard in evaluation mode.
            threshold_scale: multiplies every threshold, 0 keeps all; in soft mode AdapLeR's only.
            fate: (B, N), 1 for tokens that stay whatever they score, -1 for those that go at the policy's first
                decision (AdapLeR's: before layer 0), else 0; [CLS] always stays (hard mode only).
            slope, gradient_slope: soft removal's lambda (default 10), and a bound on it in the gradient.
            probe: (L,) factors of 1 on [CLS]'s score in soft removal, whose gradient trains theta.
            local_losses: scores and lengths of soft removal have no gradient in hidden states; see soft_pass.
            inputs_embeds, output_attentions, output_hidden_states: refused; tokens that were dropped have neither.
                `model.backbone` takes all three, the second after its `set_attn_implementation("eager")`.
            return_dict: False returns a tuple of the output's fields that are not None, in their order.

        Raises:
            ArgumentError: a wrong value or shape, or not supported. (Ids and labels out of range: PyTorch's.)
        """
        config = self.config
        attentions = config.output_attentions if output_attentions is None else output_attentions
        hidden_states = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        if inputs_embeds is not None or attentions or hidden_states:
            raise ArgumentError(
                "inputs_embeds, output_attentions, output_hidden_states: not supported by AdapLeR; model.backbone has "
                "them, the second after its set_attn_implementation('eager')"
            )
        removal, policy = removal or ("soft" if self.training else "hard"), self.removal_policy
        if removal not in ("none", "soft", "hard"):
            raise ArgumentError(f"removal: {removal!r} is not one of 'none', 'soft', 'hard'")
        if not (is_number(threshold_scale) and threshold_scale >= 0):
            raise ArgumentError(f"threshold_scale: {threshold_scale!r} is not a number of at least 0")
        if fate is not None and (removal != "hard" or input_ids is None or fate.shape != input_ids.shape):
            raise ArgumentError("fate: must have the shape of input_ids, and removal='hard'")
        if probe is not None and probe.shape != (self.num_layers,):
            raise ArgumentError(f"probe: shape {tuple(probe.shape)} is not ({self.num_layers},), one per layer")
        soft = {"slope": slope, "gradient_slope": gradient_slope, "probe": probe, "local_losses": local_losses}
        asked = soft | {"threshold_scale": None if threshold_scale == 1 or removal != "soft" else threshold_scale}
        taken = [name.replace("scale", "threshold_scale") for name in policy.soft_options] if removal == "soft" else []
        for name, value in asked.items():
            if name not in taken and (isinstance(value, Tensor) or value not in (None, False, math.inf)):
                raise ArgumentError(f"{name}: has no effect on removal={removal!r} of policy {config.policy!r}")
        inputs = self._checked_inputs(input_ids, attention_mask, token_type_ids, position_ids)
        if removal == "soft":
            soft |= {"slope": DEFAULT_SLOPE if slope is None else slope, "scale": threshold_scale, "beta": config.beta}
            output = policy.soft(self.backbone, **inputs, **{name: soft[name] for name in policy.soft_options})
        else:
            output = hard_pass(
                self.backbone, policy, **inputs, scale=threshold_scale, remove=removal == "hard", fate=fate
            )
        if labels is not None:
            if labels.is_floating_point():
                raise ArgumentError(f"labels: {labels.dtype} is not the type of class indices")
            logits = output.logits.to(torch.promote_types(output.logits.dtype, torch.float32))
            loss = nn.functional.cross_entropy(logits, labels.reshape(-1).long())
            output = AdapLeROutput(loss=loss, **output)  # made anew: the loss comes first, as in transformers
        as_object = config.return_dict if return_dict is None else return_dict
        return output if as_object else output.to_tuple()

    def _checked_inputs(
        self, ids: Tensor | None, mask: Tensor | None, types: Tensor | None, positions: Tensor | None
    ) -> dict[str, Any]:
        """input_ids, mask, positions and token_type_ids of a pass with defaults; errors as of `forward`."""
        if ids is None or ids.dim() != 2 or not ids.numel() or ids.is_floating_point():
            found = None if ids is None else f"{tuple(ids.shape)} of {ids.dtype}"
            raise ArgumentError(f"input_ids: {found} is not (batch, length) of integers, each at least 1")
        mask = torch.ones_like(ids) if mask is None else mask
        # Tokens are picked by their place in the batch: of another shape they would get the types of others.
        for name, values in (("attention_mask", mask), ("token_type_ids", types)):
            if values is not None and values.shape != ids.shape:
                raise ArgumentError(f"{name}: shape {tuple(values.shape)} is not that of input_ids, {tuple(ids.shape)}")
        config = self.backbone.config
        implementation = family_of(config).implementation
        if config._attn_implementation != implementation:
            raise ArgumentError(
                f"attention implementation: {config._attn_implementation!r} cannot drop tokens; "
                f"call model.backbone.set_attn_implementation({implementation!r}) first"
            )
        if positions is None:
            positions, longest = position_ids(config, mask), max_positions(config)
            # Padding alone may be longer.
            if ids.shape[1] > longest and int(positions.max()) >= config.max_position_embeddings:
                raise ArgumentError(f"input_ids: a row of more than {longest} tokens, the model's limit; truncate it")
        elif positions.shape not in (mask.shape, (1, mask.shape[1])):
            raise ArgumentError(f"position_ids: shape {tuple(positions.shape)} is not that of input_ids")
        else:
            positions = torch.where(mask.bool(), positions, 0)
        return {"input_ids": ids, "mask": mask, "positions": positions, "token_type_ids": types}


AutoConfig.register(AdapLeRConfig.model_type, AdapLeRConfig)
AutoModelForSequenceClassification.register(AdapLeRConfig, AdapLeRForSequenceClassification)


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
