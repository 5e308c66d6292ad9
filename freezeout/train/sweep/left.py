"""How long a phase of a sweep will still take, by what its finished trials took."""

from collections.abc import Callable, Iterable

from freezeout.train.sweep.trial import Trial


class Left:
    """Guesses the time left: the work that is left at the pace of the work that is done."""

    def __init__(self, trials: Iterable[Trial], cost_s: Callable[[Trial], float | None]) -> None:
        """Weigh the trials.

        Args:
            trials: that are to be run.
            cost_s: seconds that a trial's steps should take by themselves; None where nothing was timed.
        """
        costs = {trial.identity: cost_s(trial) for trial in trials}
        self.is_timed = all(cost is not None for cost in costs.values())
        self._work = {key: cost if self.is_timed else 1.0 for key, cost in costs.items()}
        self._done = 0.0

    @property
    def work_s(self) -> float:
        """Seconds of training steps to be taken, if one trial ran at a time; only where `is_timed`."""
        return sum(cost or 0.0 for cost in self._work.values())

    def finish(self, trial: Trial) -> None:
        """Count a trial as done."""
        self._done += self._work.pop(trial.identity) or 0.0

    def seconds(self, spent_s: float) -> float:
        """Seconds left when the trials done so far took `spent_s` from start to end."""
        return self.work_s * spent_s / self._done if self._done else float("nan")
