"""The two ways through the layers: hard removal, packed (inference), and soft removal (training)."""

from adapler.model.passes.hard import hard_pass
from adapler.model.passes.soft import soft_pass

__all__ = ["hard_pass", "soft_pass"]
