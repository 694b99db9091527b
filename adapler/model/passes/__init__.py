"""The two ways through the layers, hard removal, packed (inference), and soft removal (training), and one without."""

from adapler.model.passes.hard import hard_pass
from adapler.model.passes.plain import plain_pass
from adapler.model.passes.soft import soft_pass

__all__ = ["hard_pass", "plain_pass", "soft_pass"]
