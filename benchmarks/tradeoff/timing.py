"""Milliseconds a text, of systems that take turns with the packed backbone in one process."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from adapler.budgets.machine import machine_of
from adapler.inference.predict import predict_rows

Call = Callable[[], object]


def take_turns(calls: Sequence[Call], *, rounds: int) -> list[list[float]]:
    """Seconds of each call in each round; one round before them warms up and does not count."""
    seconds: list[list[float]] = [[] for _ in calls]
    for number in range(rounds + 1):
        for place, call in enumerate(calls):
            start = time.perf_counter()
            call()
            if number:
                seconds[place].append(time.perf_counter() - start)
    return seconds


def summary(seconds: Sequence[float], baseline: Sequence[float], *, texts: int) -> dict[str, float]:
    """Of one system's rounds.

    Args:
        seconds: of the system, (rounds,).
        baseline: of the packed backbone in the same rounds.
        texts: of a round.

    Returns:
        milliseconds (median over rounds) and best (the fastest round), a text; backbone, the backbone's median; ratio,
        the median over rounds of the backbone's time divided by the system's: how many times faster it is.
    """
    pairs = zip(baseline, seconds, strict=True)
    return {
        "milliseconds": 1000 * statistics.median(seconds) / texts,
        "best": 1000 * min(seconds) / texts,
        "backbone": 1000 * statistics.median(baseline) / texts,
        "ratio": statistics.median(theirs / ours for theirs, ours in pairs),
    }


def measure_times(
    systems: Sequence[tuple[Any, dict[str, Any]]],
    rows: Sequence[dict[str, Any]],
    *,
    pad_token_id: int,
    texts: int,
    single: int,
    rounds: int,
) -> tuple[list[dict[str, dict[str, float]]], dict[str, Any]]:
    """Time systems on rows that are drawn with a fixed seed, in batches by length and one by one.

    Args:
        systems: (model, its arguments); the first is the packed backbone.
        rows: encoded.
        pad_token_id: the tokenizer's.
        texts: rows that are timed in batches. single: those of them that are timed one by one.
        rounds: that count.

    Returns:
        for each system after the first `batches` and `single`, see summary; and what it was measured on, with the
        machine's load before and after (processes that want to run, a mean over one minute).
    """
    drawn = np.random.default_rng(0).permutation(len(rows))[:texts]
    many = [rows[number] for number in drawn]
    few = many[:single]
    before = os.getloadavg()[0]
    found: list[dict[str, dict[str, float]]] = [{} for _ in systems[1:]]
    for name, chosen, budget in (("batches", many, None), ("single", few, 1)):

        def run(model: Any, options: dict[str, Any], chosen: Any = chosen, budget: int | None = budget) -> None:
            predict_rows(model, chosen, pad_token_id=pad_token_id, token_budget=budget, **options)

        calls = [lambda model=model, options=options, run=run: run(model, options) for model, options in systems]
        seconds = take_turns(calls, rounds=rounds)
        for place, own in enumerate(seconds[1:]):
            found[place][name] = summary(own, seconds[0], texts=len(chosen))
    return found, {
        **asdict(machine_of(systems[0][0])),
        "cores": os.cpu_count(),
        "load_before": round(before, 2),
        "load_after": round(os.getloadavg()[0], 2),
        "texts": len(many),
        "single": len(few),
        "rounds": rounds,
        "torch": torch.__version__,
    }
