"""Which number format a model computes in, on machines with and without the instructions."""

from __future__ import annotations

import pytest
import torch

from adapler.errors import ArgumentError
from adapler.system import choose_dtype, describe_dtype, has_bfloat16

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda"), torch.device("mps")


def machine(monkeypatch: pytest.MonkeyPatch, *, avx: bool = False, amx: bool = False, gpu: int = 7) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (gpu, 0))


@pytest.mark.parametrize(
    ("parts", "device", "expected"),
    [
        ({}, CPU, "float32"),
        ({"avx": True}, CPU, "bfloat16"),
        ({"amx": True}, CPU, "bfloat16"),
        ({"avx": True}, CUDA, "float32"),
        ({"gpu": 8}, CUDA, "bfloat16"),
        ({"gpu": 9}, CUDA, "bfloat16"),
        ({"gpu": 9, "amx": True}, MPS, "float32"),
    ],
)
def test_auto_asks_the_device(
    parts: dict[str, int], device: torch.device, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, **parts)
    assert choose_dtype("auto", device) == expected
    assert has_bfloat16(device) is (expected == "bfloat16")
    assert choose_dtype("float32", device) == "float32" and choose_dtype("bfloat16", device) == "bfloat16"


def test_one_line_says_what_was_chosen_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch)
    assert describe_dtype("auto", CPU) == "dtype float32 (auto: this cpu does not compute bfloat16 in hardware)"
    assert describe_dtype("bfloat16", CPU) == "dtype bfloat16 (slow: this cpu does not compute it in hardware)"
    assert describe_dtype("float32", CPU) == "dtype float32 (as requested)"
    machine(monkeypatch, amx=True)
    assert describe_dtype("auto", CPU) == "dtype bfloat16 (auto: this cpu computes bfloat16 in hardware)"
    assert describe_dtype("bfloat16", CPU) == "dtype bfloat16 (as requested)"


def test_another_name_is_refused() -> None:
    with pytest.raises(ArgumentError, match="^dtype: 'float16' is not one of auto, float32, bfloat16$"):
        choose_dtype("float16", CPU)
