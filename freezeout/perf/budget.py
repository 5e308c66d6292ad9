"""How long to go on sampling: to a wanted precision, but no longer than a time budget."""

import time
from collections.abc import Callable


class Budget:
    """Seconds that a case may still spend, by a clock that tests replace."""

    def __init__(self, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        """Start counting.

        Raises:
            ValueError: `seconds` is not positive.
        """
        if not seconds > 0:
            raise ValueError(f"a time budget must be above 0 seconds, got {seconds}.")
        self.seconds = seconds
        self._now = now
        self._start = now()

    @property
    def spent_s(self) -> float:
        """Seconds since the start."""
        return self._now() - self._start

    def allows(self, rounds_done: int) -> bool:
        """Whether one more round, as long as those done took on average, still fits."""
        each = self.spent_s / rounds_done if rounds_done else 0.0
        return self.spent_s + each <= self.seconds
