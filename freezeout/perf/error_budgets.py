"""How much error a saving may cost: whether trainings keep their budget, and whether they beat an equal-time control.

A budget says: for savings up to `saved`, the mean error may be above the baseline's by the share `relative_error` of
it. A schedule is held to one budget: of those for its family, the one with the smallest `saved` that is not below the
schedule's saving. What saves more than every budget covers has NO BUDGET, and so has what is shown to save nothing:
there is nothing to pay for.

The line is `relative_error + margin`: that there is no loss can never be shown, only that a loss is smaller than
something, and the margin is that something. Of the 95 % interval of the increase over seeds (`freezeout.perf.seeds`):

- WITHIN: its upper end is at most the line;
- EXCEEDED: its lower end is above the line;
- UNDECIDED: the line is inside, so that more seeds are needed; or one of the reasons below.

With as many seeds of the baseline, either verdict is false in 2.5 % of cases at most, which is where the truth lies on
the line (simulated; with 2 or 3 seeds that spread twice as much as a baseline of 10, in 4 to 5 %).

The saving has an interval, too. Where that reaches over the bound of a budget, every budget that it reaches is asked:
if they give different verdicts, the schedule is UNDECIDED.

A diverged seed has no error, so it is in no mean, and leaving it out would flatter. With any diverged seed, of the
schedule or the baseline, the verdict is UNDECIDED; it is EXCEEDED if all seeds of the schedule diverged, at least two
of them, and none of the baseline did.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from freezeout.perf.error_budget_file import ERROR_BUDGETS as ERROR_BUDGETS
from freezeout.perf.error_budget_file import ErrorBudget as ErrorBudget
from freezeout.perf.error_budget_file import covering, family
from freezeout.perf.error_budget_file import read_error_budgets as read_error_budgets
from freezeout.perf.records import ScheduleSpec
from freezeout.perf.seeds import MOST_SEEDS, seeds_to_decide
from freezeout.perf.seeds import mean_error as mean_error
from freezeout.perf.seeds import relative_increase as relative_increase
from freezeout.perf.statistics import Estimate

ErrorVerdictWord = Literal["WITHIN", "EXCEEDED", "UNDECIDED", "NO BUDGET"]
ControlVerdictWord = Literal["BEATS", "LOSES", "CANNOT TELL"]
LEAST_SEEDS = 2
"""A single seed decides nothing."""
SAVES_NOTHING = "saves nothing"
"""Short reason of NO BUDGET where a saving is shown not to be above 0."""


@dataclass(frozen=True, kw_only=True)
class ErrorJudgement:
    """Whether the trainings of a schedule keep its budget."""

    verdict: ErrorVerdictWord
    budget: ErrorBudget | None
    """What it was held to; None where no budget covers it or its saving is unknown."""
    seeds_needed: int | None
    """More seeds of each arm until it is decided, if means and spreads stay; None if that is not known or no help."""
    reason: str
    """Why, in one clause with the numbers."""
    short: str = ""
    """What keeps it from being judged or decided, in a few words; empty where it is decided or more seeds decide it."""

    @property
    def outlook(self) -> str:
        """What keeps it from being decided, or how many seeds more would decide it; empty where it is decided."""
        if self.verdict == "UNDECIDED" and self.seeds_needed:
            return f"about {self.seeds_needed} more seed{'s' * (self.seeds_needed > 1)} of each"
        return self.short


def judge(
    spec: ScheduleSpec,
    saved: Estimate | None,
    errors: Sequence[float | None],
    baseline_errors: Sequence[float | None],
    budgets: Sequence[ErrorBudget] = ERROR_BUDGETS,
) -> ErrorJudgement:
    """Whether trainings under `spec` keep the budget for what it saves.

    Args:
        spec: the schedule.
        saved: share of step time it saves; None if not known.
        errors: one a seed, None for a seed that diverged. A seed that was trained twice is one seed.
        baseline_errors: of the unfrozen baseline, likewise; empty where there is none.
        budgets: to hold it to.
    """
    if spec.t_0 == 1.0:
        reason = "nothing freezes, so there is no saving to pay for"
        return _judged("NO BUDGET", None, reason, "nothing freezes")
    if saved is None:
        unknown = "what it saves is not known"
        return _judged("UNDECIDED", None, f"{unknown}, so neither is its budget", unknown)
    if saved.high <= 0:
        reason = f"it saves nothing ({_told(saved)}), so there is nothing to pay for"
        return _judged("NO BUDGET", None, reason, SAVES_NOTHING)
    reached = _reached(spec, saved, budgets)
    found = [_held(each, spec, saved, errors, baseline_errors) for each in reached]
    increase = relative_increase(_known(errors), _known(baseline_errors))
    agree = len({_leaning(each.budget, increase) for each in found}) == 1
    needed = _most_needed(found) if agree else None
    if agree and len({each.verdict for each in found}) == 1:
        short = next((each.short for each in found if each.short), "")
        return replace(found[0], seeds_needed=needed, short=short)
    return _between(found, saved, increase, needed)


def _judged(
    verdict: ErrorVerdictWord,
    budget: ErrorBudget | None,
    reason: str,
    short: str = "",
    seeds: int | None = None,
) -> ErrorJudgement:
    return ErrorJudgement(
        verdict=verdict, budget=budget, seeds_needed=seeds, reason=reason, short=short
    )


def _known(errors: Sequence[float | None]) -> list[float]:
    return [error for error in errors if error is not None]


def _reached(
    spec: ScheduleSpec, saved: Estimate, budgets: Sequence[ErrorBudget]
) -> list[ErrorBudget | None]:
    """All that the interval of the saving reaches, that of its value first."""
    bounds = [each.saved for each in budgets if saved.low <= each.saved <= saved.high]
    savings = [saved.value, *bounds, saved.high]
    return list(dict.fromkeys(covering(spec, each, budgets) for each in savings))


def _held(
    budget: ErrorBudget | None,
    spec: ScheduleSpec,
    saved: Estimate,
    errors: Sequence[float | None],
    baseline_errors: Sequence[float | None],
) -> ErrorJudgement:
    """The verdict by one budget."""
    if budget is None:
        reason = f"no budget for {family(spec)} covers a saving of {_told(saved)}"
        return _judged("NO BUDGET", None, reason, "saves more than any budget covers")
    if doubt := _doubt(errors, baseline_errors):
        verdict, why, short = doubt
        return _judged(verdict, budget, why, short)
    own, other = _known(errors), _known(baseline_errors)
    increase = relative_increase(own, other)
    assert increase is not None, "what makes it None is a doubt"
    reason = f"error {_told(increase, '+')} relative to the baseline's; {budget.title}"
    if increase.high <= budget.line:
        return _judged("WITHIN", budget, reason, seeds=0)
    if increase.low > budget.line:
        return _judged("EXCEEDED", budget, reason, seeds=0)
    needed = seeds_to_decide(own, other, budget.line)
    if needed is None:
        short = _why_unknown(increase)
        return _judged("UNDECIDED", budget, f"{reason}; {short}", short)
    return _judged("UNDECIDED", budget, reason, seeds=needed)


def _doubt(
    errors: Sequence[float | None], baseline_errors: Sequence[float | None]
) -> tuple[ErrorVerdictWord, str, str] | None:
    """The verdict that does not need any interval, why, and that in a few words; None if there is none."""
    lost, others_lost = (len(each) - len(_known(each)) for each in (errors, baseline_errors))
    told = f"{lost} of {len(errors)} seeds diverged, {others_lost} of {len(baseline_errors)} of the baseline's"
    if not errors or not baseline_errors:
        lacking = "no baseline was trained alike" if errors else "nothing was trained"
        return "UNDECIDED", lacking, lacking
    if lost == len(errors) >= LEAST_SEEDS and not others_lost:
        return "EXCEEDED", told, ""
    if lost or others_lost:
        compared = "and what diverged has no error to compare"
        return "UNDECIDED", f"{told}, {compared}", "seeds diverged"
    if not any(baseline_errors):
        nothing = "the baseline's error is 0"
        return "UNDECIDED", f"{nothing}, and nothing is relative to that", nothing
    return None


def _why_unknown(increase: Estimate) -> str:
    if increase.n < LEAST_SEEDS:
        return f"one seed shows no spread, train at least {LEAST_SEEDS} of each"
    if not math.isfinite(increase.low):
        return "all seeds came out equal and show no spread, train more"
    return f"more than {MOST_SEEDS} seeds of each would be needed"


def _between(
    found: Sequence[ErrorJudgement], saved: Estimate, increase: Estimate | None, needed: int | None
) -> ErrorJudgement:
    """Undecided, because the saving reaches budgets that do not say the same."""
    told = ", ".join(
        f"{each.verdict} by {each.budget.title}" if each.budget else "NO BUDGET above that"
        for each in found
    )
    increased = f"error {_told(increase, '+')} relative to the baseline's; " if increase else ""
    reason = f"{increased}its saving of {_told(saved)} reaches several budgets: {told}"
    short = "its saving reaches several budgets"
    return _judged("UNDECIDED", found[0].budget, reason, short, seeds=needed)


def _most_needed(found: Sequence[ErrorJudgement]) -> int | None:
    """Seeds until the last of them is decided; None if that is not known of one."""
    needed = [each.seeds_needed for each in found]
    known = [each for each in needed if each is not None]
    return max(known) if len(known) == len(needed) else None


def _leaning(budget: ErrorBudget | None, increase: Estimate | None) -> ErrorVerdictWord:
    """The verdict that more and more seeds would come to, if the means stay."""
    if budget is None:
        return "NO BUDGET"
    if increase is None:
        return "UNDECIDED"
    return "WITHIN" if increase.value <= budget.line else "EXCEEDED"


def _told(share: Estimate, sign: str = "") -> str:
    value, low, high = (f"{100 * each:{sign}.1f}" for each in (share.value, share.low, share.high))
    if not math.isfinite(share.half_width):
        return f"{value} %, no interval (n={share.n})"
    return f"{value} % [{low}, {high}]" if share.n else f"{value} %"


def versus_control(
    errors: Sequence[float | None], control_errors: Sequence[float | None]
) -> tuple[Estimate | None, ControlVerdictWord]:
    """How a schedule's error stands to that of its equal-time control.

    As for a budget, seeds that diverged decide nothing unless all of one side did, at least two, and none of the other.

    Args:
        errors: of the schedule, one a seed; None for a seed that diverged.
        control_errors: of the control, likewise.

    Returns:
        The error above the control's mean as a share of it, over the seeds that did not diverge (None as in
        `relative_increase`), and the verdict: BEATS where the whole interval is below 0, LOSES where it is above.
    """
    found = relative_increase(_known(errors), _known(control_errors))
    if not errors or not control_errors:
        return found, "CANNOT TELL"
    lost, others_lost = (len(each) - len(_known(each)) for each in (errors, control_errors))
    if lost or others_lost:
        if lost == len(errors) >= LEAST_SEEDS and not others_lost:
            return found, "LOSES"
        beats = others_lost == len(control_errors) >= LEAST_SEEDS and not lost
        return found, "BEATS" if beats else "CANNOT TELL"
    if found is None or found.low <= 0 <= found.high:
        return found, "CANNOT TELL"
    return found, "BEATS" if found.high < 0 else "LOSES"
