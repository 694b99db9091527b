"""Public name of `adapler.model.flops`: analytic FLOPs and the speedup made of them."""

from adapler.model.flops import adapler_flops, backbone_flops, speedup

__all__ = ["adapler_flops", "backbone_flops", "speedup"]
