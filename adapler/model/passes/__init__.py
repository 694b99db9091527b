"""Ways through the layers: hard removal, packed (inference), AdapLeR's soft removal, gates, and none at all."""

from adapler.model.passes.gated import gated_pass
from adapler.model.passes.hard import hard_pass
from adapler.model.passes.plain import plain_pass, plain_pass_of
from adapler.model.passes.soft import soft_pass

__all__ = ["gated_pass", "hard_pass", "plain_pass", "plain_pass_of", "soft_pass"]
