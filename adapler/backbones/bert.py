"""BERT and the encoders with its layers: RoBERTa, ELECTRA, ERNIE, XLM-RoBERTa, CamemBERT."""

from __future__ import annotations

from torch import Tensor

from adapler.backbones.family import Family


class Bert(Family):
    """BERT: a pooler inside the encoder."""

    base = "bert"
    pooler_path = "bert.pooler.dense"

    def labels(self, cls: Tensor) -> Tensor:
        """See Family.labels."""
        logits: Tensor = self.classifier.classifier(self.classifier.dropout(self.encoder.pooler(cls[:, None])))
        return logits


class Ernie(Bert):
    """BERT's layers and head under another name."""

    base = "ernie"
    pooler_path = "ernie.pooler.dense"


class Roberta(Family):
    """RoBERTa, XLM-RoBERTa and CamemBERT: positions after the padding id, a head with a dense layer."""

    base = "roberta"
    pooler_path = "classifier.dense"
    positions_after_padding = True


class Electra(Family):
    """ELECTRA: a head with a dense layer."""

    base = "electra"
    pooler_path = "classifier.dense"
