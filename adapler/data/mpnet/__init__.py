"""The base-size encoder that comes as packages: all-mpnet-base-v2, 12 layers, 768 wide."""

from adapler.data.mpnet.packaged import SHA256, packaged_mpnet

__all__ = ["SHA256", "packaged_mpnet"]
