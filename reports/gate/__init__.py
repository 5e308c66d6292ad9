"""The regression gate: is the candidate worse than the baseline, by more than equal measurements differ anyway?

Rows. One per configuration, quantity and part. Dimensionless quantities gate wherever both sides were measured:

- `saving` at every level: share of step time, paired within rounds; less of it is worse. It also falls when level 0
  alone gets faster; the row of the step says so, and `accept` takes the new state as the baseline.
- `prediction error` of every source: how far it is off the real run, either way.
- `block`: milliseconds of a block's backward pass by the stage ledger, at the pace of the other blocks. Each round is
  divided by its own pace (the median over the blocks of what they take relative to what they typically take), and each
  measurement by the median over the blocks of its ratio to the baseline: a machine that is slower as a whole moves
  nothing, and one block that changed does not drag the others. Fewer than `quantities.LEAST_BLOCKS` blocks say nothing.

Absolute quantities (`step`: milliseconds at level 0; `backward`: milliseconds of each block) gate only if device, its
name, torch, CUDA and threads of both sides are the same, beside the whole `Config`; else they are advisory: shown, with
a verdict, but without a say. A configuration is a `Config` cut into the same blocks.

Repetitions. Several curves (ledgers, runs) of one configuration on one side are repetitions of one measurement: A/A
repeats of a session, or further files. Each is reduced over its rounds by a trimmed mean with its standard error
(`samples`), the repetitions of a side are averaged.

Decision. A row regresses only if both say so:

- its rounds: the p value of Yuen's test of trimmed means, adjusted by Benjamini and Hochberg over all gating rows, is
  at most `verdicts.ALPHA`;
- its noise margin: the change is larger than what measurements of the same thing may differ by (`margins`), learnt from
  repetitions, pooled over the blocks or levels of the configuration; or, where there are none, a default that the
  output calls "not learnt".

SAME needs the whole 95 % interval of the change within what SAME may hide: the margin, but at most the default one, and
at most the margin without the candidate's own repetitions. What is neither is UNDECIDED. So is a row with fewer than
`freezeout.perf.statistics.MIN_ROUNDS` rounds, one measured while heat or the power brake slowed the device (unless a
repetition is free of that), and a prediction held against a disturbed real run. A measurement compared with itself is
SAME. An undecided row of which even the worse end of the interval is within what SAME may hide does not count.

MISSING rows, in the baseline but not in the candidate, count as regressions, because a case that fails or is no longer
measured must not pass; `--allow-missing` lets them. NEW rows have nothing to be compared with and never gate. Where
there is a baseline but no gating row has both sides, the gate is UNDECIDED; without any baseline file it passes.

Errors. What the candidate trained has rows of its own, one for each schedule of a task over its seeds, held to the
budget for what the schedule saves (`freezeout.perf.error_budgets`) and to nothing else: the unfrozen network that it is
compared with is the candidate's too. EXCEEDED is a regression, whatever the baseline says, even where there is none.
WITHIN, UNDECIDED and NO BUDGET are shown and have no say. A schedule that is no longer trained has no row.
"""
