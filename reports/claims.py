"""What was published on accuracy, held against what was trained here.

A claim on a network is that some schedule which saves so much raises the error by so much at most. Of every task of
such a network, by the schedules that were trained (stretched runs, which save nothing on purpose, left out):

- a schedule is a candidate where its saving's interval reaches the claimed saving, and keeps the claim where the whole
  of both intervals does: saving at least what is claimed, increase at most the line. The increase is judged as by an
  error budget, diverged seeds included, and "no loss" has the margin of the budgets that allow none;
- UPHELD: a candidate keeps the claim;
- REFUTED: none does, and a schedule that is not shown to save more than is claimed loses more than the line already, as
  do all that save more than it does. One that saves far more than is claimed refutes nothing by itself;
- NOT TRIED: there is no candidate; UNDECIDED: otherwise.

The claim on VGG is that there is no improvement, so it is the other way round: REFUTED where some schedule that saves
anything loses nothing, UPHELD where none does: all that were trained save nothing or lose.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from freezeout.perf.error_budgets import ErrorBudget, ErrorVerdictWord, judge
from freezeout.perf.statistics import Estimate, exactly
from reports.accuracy import tasks
from reports.collection import Report
from reports.display import Table
from reports.text import has_interval, percent
from reports.trained import Trained

ClaimVerdict = Literal["UPHELD", "REFUTED", "UNDECIDED", "NOT TRIED"]
PAPER_EPOCHS = 100
"""Epochs of the published trainings."""
PAPER_PIXELS = 32
"""Height of the images that they saw."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What was published on one kind of network."""

    says: str
    models: str
    """Pattern of the models' names."""
    saved: float = 0.0
    """Share of the step time that is to be saved; 0 for any saving."""
    relative_error: float = 0.0
    """Increase of the error that is allowed, as a share."""
    denies: bool = False
    """Whether the claim is that no schedule does so."""
    size: tuple[tuple[str, float], ...] = ()
    """Options of the published network, at least."""


CLAIMS = (
    Claim(
        says="DenseNet: 20 % saved for 3 % more error",
        models=r"densenet_bc",
        saved=0.2,
        relative_error=0.03,
        size=(("depth", 76), ("growth_rate", 12)),
    ),
    Claim(
        says="ResNet: 20 % saved at no loss",
        models=r"wrn_|.*resnet",
        saved=0.2,
        size=(("depth", 40), ("width", 4)),
    ),
    Claim(says="VGG: no improvement", models=r".*vgg", denies=True),
)
NOTE = (
    "By the schedules trained here, diverged seeds included. UPHELD: one that saves what is claimed, by its whole "
    "interval, keeps the error; REFUTED: one that is not shown to save more than that loses more already, and so does "
    "each that saves more than it; for no improvement the other way round. No loss: within the margin of the error "
    "budgets that allow none."
)


def claims_table(report: Report) -> Table:
    """A row for each claim and task that it is about; none where no such network was trained."""
    return Table(
        header=("published", "task", "verdict", "because", "at the published size"),
        rows=tuple(_rows(report)),
        note=NOTE,
    )


def _rows(report: Report) -> Iterator[tuple[str, ...]]:
    margin = max((b.margin for b in report.budgets if not b.relative_error), default=0.0)
    for claim in CLAIMS:
        for task, rows in tasks(report).items():
            if re.match(claim.models, rows[0].config.model):
                plain = [row for row in rows if row.freezes and row.kind != "stretched"]
                verdict, why = verdict_on(claim, plain, margin)
                yield claim.says, task, verdict, why, at_size(claim, rows[0])


def verdict_on(claim: Claim, rows: Sequence[Trained], margin: float) -> tuple[ClaimVerdict, str]:
    """Whether `rows`, the schedules of one task, uphold the claim, and by what.

    Args:
        claim: on their network.
        rows: without stretched runs.
        margin: how far above 0 an increase still counts as no loss.
    """
    known = [row for row in rows if row.saved is not None and row.baseline is not None]
    found = [(row, row.saved, _held(claim, row, margin)) for row in known if row.saved]
    keeping = [r for r, saved, word in found if word == "WITHIN" and _reaches(claim, saved.low)]
    if keeping:
        return "REFUTED" if claim.denies else "UPHELD", "; ".join(map(_told, keeping))
    failing = _failing(claim, found)
    reaching = [row for row, saved, _ in found if _reaches(claim, saved.high)]
    if failing or (found and claim.denies and not reaching):
        why = "; ".join(map(_told, failing)) or "no schedule saves anything"
        return "UPHELD" if claim.denies else "REFUTED", why
    if reaching:
        return "UNDECIDED", "; ".join(map(_told, reaching))
    most = max((saved for _, saved, _ in found), key=lambda saved: saved.value, default=None)
    return "NOT TRIED", f"the most saved is {percent(most)}" if most else "no saving is known"


Held = tuple[Trained, Estimate, ErrorVerdictWord]
"""A schedule, what it saves, and its verdict on the line of a claim."""


def _failing(claim: Claim, found: Sequence[Held]) -> list[Trained]:
    """The schedules by which the claimed trade does not exist; none where that is not shown."""
    if claim.denies:
        saving = [each for each in found if each[1].high > 0]
        lost = [row for row, _, word in saving if word == "EXCEEDED"]
        return lost if len(lost) == len(saving) else []
    modest = [each for each in found if has_interval(each[1]) and each[1].low <= claim.saved]
    lost_most = [saved.value for _, saved, word in modest if word == "EXCEEDED"]
    if not lost_most:
        return []
    above = [(row, word) for row, saved, word in found if saved.value >= max(lost_most)]
    return [row for row, _ in above] if all(word == "EXCEEDED" for _, word in above) else []


def _reaches(claim: Claim, saved: float) -> bool:
    return saved > 0 and saved >= claim.saved


def _held(claim: Claim, row: Trained, margin: float) -> ErrorVerdictWord:
    allowed = claim.relative_error
    line = ErrorBudget(saved=1.0, relative_error=allowed, margin=0.0 if allowed else margin)
    others = row.baseline.errors if row.baseline else ()
    # A saving that the line surely covers: whether the real one reaches the claim is asked elsewhere.
    return judge(row.spec, exactly(0.5), row.errors, others, (line,)).verdict


def _told(row: Trained) -> str:
    increase = percent(row.relative_increase, sign="+") if row.relative_increase else "not known"
    return f"{row.title} saves {percent(row.saved)}, error {increase}"


def at_size(claim: Claim, row: Trained) -> str:
    """Whether the training was of the published size; a hint only where it was not."""
    options, trained = row.config.options, row.first
    height, images = row.config.input_shape[1], trained.settings.get("train_images")
    is_small = any(options.get(name, 0.0) < least for name, least in claim.size)
    published = ", ".join(f"{name} {least:g}" for name, least in claim.size)
    lacking = {
        f"{trained.dataset}, not CIFAR-100": "cifar100" not in trained.dataset,
        f"{height} pixels of {PAPER_PIXELS}": height != PAPER_PIXELS,
        f"{images} training images": images is not None,
        f"{row.asked_epochs} epochs of {PAPER_EPOCHS}": row.asked_epochs < PAPER_EPOCHS,
        f"not of {published}": is_small,
    }
    told = [text for text, holds in lacking.items() if holds]
    return f"no, only a HINT: {', '.join(told)}" if told else "yes"
