"""AdapLeR over any supported transformers classifier.

Dimensions: B batch, N padded length, T packed tokens, L layers, D hidden size, C labels. Layers are numbered
from 0; layer l's Contribution Predictor runs on its input h^l, before the layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel
from transformers import initialization as init

from adapler.backbones import families
from adapler.backbones.attention import ATTENTION
from adapler.backbones.checkpoints import LOADING_ERRORS, check_whole, load_classifier, read_config, reason_of
from adapler.errors import AdapLeRError, ArgumentError, CheckpointError
from adapler.model.configuration import ETA_MAX, ETA_MIN, AdapLeRConfig
from adapler.model.contribution import ContributionPredictor
from adapler.model.outputs import AdapLeROutput
from adapler.model.passes import hard_pass, soft_pass
from adapler.model.prediction import Prediction, predict_texts

Removal = Literal["none", "soft", "hard"]
DEFAULT_SLOPE = 10.0


class AdapLeRForSequenceClassification(PreTrainedModel):  # type: ignore[misc]
    """A classifier that drops tokens layer by layer (AdapLeR, ACL 2022).

    Attributes:
        backbone: the plain transformers classifier; `removal="none"` gives its logits.
        contribution_predictors: one `ContributionPredictor` a layer.
        eta: (L,) threshold factors in [0.01, 1]; layer l drops tokens whose score is below eta^l / n^l.
        theta: (L - 1,) for layers 1..L-1, rescales [CLS]'s share of the training target; no effect at inference.
    """

    config_class = AdapLeRConfig
    base_model_prefix = "backbone"
    main_input_name = "input_ids"
    _supports_sdpa = True
    _supports_attention_backend = True

    def __init__(self, config: AdapLeRConfig, *, backbone: PreTrainedModel | None = None) -> None:
        super().__init__(config)
        if config.backbone_config is None:
            raise ArgumentError("backbone_config: missing; build a model with from_backbone or from_pretrained")
        families.family_of(config.backbone_config)
        if backbone is None:
            backbone = AutoModelForSequenceClassification.from_config(config.backbone_config)
        self.backbone = backbone
        self.backbone.config._attn_implementation = ATTENTION
        self.num_layers = len(families.layers_of(self.backbone))
        activation = getattr(self.backbone.config, "hidden_act", None) or self.backbone.config.activation
        self.contribution_predictors = nn.ModuleList(
            ContributionPredictor(
                config.hidden_size,
                contribution_hidden_size=config.contribution_hidden_size,
                activation=activation,
            )
            for _ in range(self.num_layers)
        )
        self.eta = nn.Parameter(torch.full((self.num_layers,), config.eta_init))
        self.theta = nn.Parameter(torch.ones(self.num_layers - 1))
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, ContributionPredictor):
            module.reset_parameters()
        elif module is self:
            init.constant_(self.eta, self.config.eta_init)
            init.ones_(self.theta)

    @classmethod
    def from_backbone(
        cls,
        name_or_path: str | Path,
        *,
        num_labels: int | None = None,
        labels: list[str] | None = None,
        **config: Any,
    ) -> AdapLeRForSequenceClassification:
        """AdapLeR on top of a BERT, RoBERTa, ELECTRA or DistilBERT from the hub or a local folder.

        A fine-tuned classifier keeps its head; an encoder gets a new one. Attention dropout is switched off
        (its slow path costs a factor of five in soft mode; the reference does the same).

        Args:
            name_or_path: hub name, or folder written by `save_pretrained`.
            num_labels: number of labels; default: the checkpoint's own.
            labels: label names, instead of num_labels.
            config: fields of `AdapLeRConfig` (contribution_hidden_size, beta, eta_init).

        Raises:
            CheckpointError: nothing loadable there.
            ArgumentError: unsupported kind of backbone, or a fine-tuned head with another number of labels.
        """
        backbone = load_classifier(name_or_path, num_labels=num_labels, labels=labels)
        backbone_config = backbone.config.to_dict()
        backbone_config.pop("_name_or_path", None)  # a local path says nothing to whoever loads the model later
        model = cls(AdapLeRConfig(backbone_config=backbone_config, **config), backbone=backbone)
        model.eval()
        return model

    @classmethod
    def from_pretrained(cls, name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Load a model saved with `save_pretrained`, from a folder or the hub; see transformers.

        Weights are computed with in float32 unless `dtype` says otherwise, however they are stored.

        Raises:
            CheckpointError: the folder is missing, holds something else than an AdapLeR model, or its weights are
                not exactly those of the model in its config.json.
        """
        if "config" not in kwargs:
            config = read_config(name_or_path)
            if config.model_type != AdapLeRConfig.model_type:
                raise CheckpointError(
                    f"{name_or_path}: holds a {config.model_type!r} model, not 'adapler'; "
                    "AdapLeRForSequenceClassification.from_backbone builds AdapLeR on top of it"
                )
        kwargs.setdefault("dtype", torch.float32)
        kwargs.setdefault("use_safetensors", True)
        informed = kwargs.pop("output_loading_info", False)
        resized = kwargs.pop("ignore_mismatched_sizes", False)
        try:
            model, info = super().from_pretrained(
                name_or_path, *args, **kwargs, output_loading_info=True, ignore_mismatched_sizes=True
            )
        except LOADING_ERRORS as error:
            if isinstance(error, AdapLeRError):
                raise
            raise CheckpointError(f"{name_or_path}: {reason_of(error)}") from error
        check_whole(model, info, name_or_path=name_or_path, resized=resized)
        return (model, info) if informed else model

    def predict(
        self, texts: Sequence[str] | Sequence[tuple[str, str]], *, tokenizer: Any, **options: Any
    ) -> list[Prediction]:
        """Classify texts or sentence pairs in evaluation mode, in batches by length, results in their order.

        Args:
            texts: strings, or pairs of strings.
            tokenizer: the model's; `transformers.AutoTokenizer.from_pretrained` on the same folder.
            options: removal ("hard" or "none"), threshold_scale, max_length (wordpieces; longer texts are
                truncated; default the model's limit), token_budget, progress (title of a progress bar).

        Raises:
            ArgumentError: an empty text or a wrong option; nothing is predicted then.
        """
        if options.get("removal", "hard") not in ("hard", "none"):
            raise ArgumentError(f"removal: {options['removal']!r} is not 'hard' or 'none'")
        training = self.training
        self.eval()
        try:
            return predict_texts(self, texts, tokenizer=tokenizer, **options)
        finally:
            self.train(training)

    def clamp_eta(self) -> None:
        """Keep eta in [0.01, 1] and theta positive, in place; called after each optimiser step."""
        with torch.no_grad():
            self.eta.clamp_(ETA_MIN, ETA_MAX)
            self.theta.clamp_(min=ETA_MIN)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        removal: Removal | None = None,
        threshold_scale: float = 1.0,
        slope: float | None = None,
        gradient_slope: float = math.inf,
        probe: Tensor | None = None,
    ) -> AdapLeROutput:
        """Classify a padded batch.

        Args:
            input_ids: (B, N).
            attention_mask: (B, N), 1 for real tokens; each row's first real token is [CLS]. Default: all real.
            token_type_ids: (B, N), for backbones that have them.
            labels: (B,) class indices; gives `loss`.
            removal: "none" (the backbone alone), "soft" (training) or "hard" (tokens are really removed).
                Default: soft in training mode, hard in evaluation mode.
            threshold_scale: multiplies every eta; below 1 keeps more tokens, 0 keeps all.
            slope: soft removal's lambda (soft mode only; default 10).
            gradient_slope: bound on the slope whose gradient soft removal has (soft mode only); see soft_removal.
            probe: (L,) factors of 1 on [CLS]'s score, whose gradient trains theta (soft mode only).

        Returns:
            AdapLeROutput.

        Raises:
            ArgumentError: an argument has a wrong value or shape.
        """
        removal = ("soft" if self.training else "hard") if removal is None else removal
        if removal not in ("none", "soft", "hard"):
            raise ArgumentError(f"removal: {removal!r} is not one of 'none', 'soft', 'hard'")
        if not threshold_scale >= 0:
            raise ArgumentError(f"threshold_scale: {threshold_scale} is not at least 0")
        if input_ids.dim() != 2:
            raise ArgumentError(f"input_ids: shape {tuple(input_ids.shape)} is not (batch, length)")
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        if mask.shape != input_ids.shape:
            raise ArgumentError(
                f"attention_mask: shape {tuple(mask.shape)} is not that of input_ids, {tuple(input_ids.shape)}"
            )
        if self.backbone.config._attn_implementation != ATTENTION:
            raise ArgumentError(
                f"attention implementation: {self.backbone.config._attn_implementation!r} cannot drop tokens; "
                f"call model.backbone.set_attn_implementation({ATTENTION!r}) first"
            )
        predictors = cast(Sequence[nn.Module], self.contribution_predictors)
        if removal == "soft":
            output = soft_pass(
                self.backbone,
                predictors,
                self.eta,
                input_ids=input_ids,
                mask=mask,
                token_type_ids=token_type_ids,
                scale=threshold_scale,
                beta=self.config.beta,
                slope=DEFAULT_SLOPE if slope is None else slope,
                gradient_slope=gradient_slope,
                probe=probe,
            )
        else:
            output = hard_pass(
                self.backbone,
                predictors,
                self.eta,
                input_ids=input_ids,
                mask=mask,
                token_type_ids=token_type_ids,
                scale=threshold_scale,
                remove=removal == "hard",
            )
        if labels is not None:
            logits = cast(Tensor, output.logits)
            output.loss = nn.functional.cross_entropy(logits.float(), labels.view(-1))
        return output


AutoConfig.register(AdapLeRConfig.model_type, AdapLeRConfig)
AutoModelForSequenceClassification.register(AdapLeRConfig, AdapLeRForSequenceClassification)
