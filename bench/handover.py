"""Hands finished samples to pytest-benchmark, so that its table, JSON, compare and histogram work on them."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import pytest


def hand_over(
    request: pytest.FixtureRequest,
    samples_ms: Sequence[float],
    *,
    group: str,
    extra_info: Mapping[str, Any],
) -> None:
    """Report `samples_ms` as the rounds of this test's benchmark.

    pytest-benchmark is given a timer that reads out the samples, so its statistics are of exactly these. The fixture
    is asked for only now, because it takes its timer when it is made.
    """
    readings: Iterator[float] = chain.from_iterable((0.0, ms / 1000) for ms in samples_ms)
    request.node.add_marker(pytest.mark.benchmark(timer=lambda: next(readings), group=group))
    benchmark = request.getfixturevalue("benchmark")
    benchmark.extra_info.update(extra_info)
    benchmark.pedantic(lambda: None, rounds=len(samples_ms), iterations=1)
