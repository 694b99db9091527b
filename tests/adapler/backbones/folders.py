"""How tests load model folders."""

from __future__ import annotations

from adapler import AdapLeRForSequenceClassification

load = AdapLeRForSequenceClassification.from_pretrained
wrap = AdapLeRForSequenceClassification.from_backbone
