"""What the command `measure` prints."""

from freezeout.commands.schedules import named
from freezeout.commands.table import milliseconds, percent, table
from freezeout.perf.block_times import BlockTime, block_times, hook_cost
from freezeout.perf.comparison import compare
from freezeout.perf.realised import GOAL, most_eaten, realised, realised_share, verdict
from freezeout.perf.records import PHASES, Curve, FrozenSteps, Ledger, Profile, Run, ScheduleSpec
from freezeout.perf.saving import (
    factor,
    level_cost_ms,
    level_ratio,
    stability,
    step_ms,
    stopwatch_saving,
)
from freezeout.perf.statistics import Estimate


def curve_lines(curve: Curve, specs: list[ScheduleSpec], device_name: str) -> str:
    """The cost of every level and what each schedule saves."""
    config = curve.config
    return "\n".join(
        [
            f"{config.title} at {'x'.join(map(str, config.input_shape))}, batch {config.batch_size}, "
            f"{config.dtype}, {config.memory_format}, {config.mode}, on {device_name}",
            f"{len(step_ms(curve))} rounds, intervals of 95 % over rounds; {stability(curve)}",
            "",
            _cost_table(curve),
            "",
            _saving_table(curve, specs),
        ]
    )


def _cost_table(curve: Curve) -> str:
    phases = [level_cost_ms(curve, phase) for phase in PHASES]
    ratios = level_ratio(curve)
    rows = [
        [
            curve.blocks[level],
            str(level),
            *(milliseconds(phase[i]) for phase in phases),
            percent(ratios[i]),
            f"{curve.saved_bytes[i] / 2**20:.1f}",
            *([f"{curve.peak_bytes[i] / 2**20:.1f}"] if curve.peak_bytes else []),
        ]
        for i, level in enumerate(curve.levels)
    ]
    header = ["first active block", "level", *(f"{phase} ms" for phase in PHASES), "of level 0"]
    header += ["kept MiB", *(["peak MiB"] if curve.peak_bytes else [])]
    return table(header, rows)


def _saving_table(curve: Curve, specs: list[ScheduleSpec]) -> str:
    found = [compare(curve, spec) for spec in specs]
    rows = [
        [
            named(each.spec),
            percent(each.measured),
            f"x{factor(each.measured.value):.2f}",
            percent(each.sources["FLOPs"]),
            percent(each.sources["calc_speedup"]),
        ]
        for each in found
    ]
    source = "calc_speedup" if curve.published else "its cost model"
    return table(["schedule", "saved here", "factor", "FLOPs said", f"{source} said"], rows)


def run_lines(curve: Curve, runs: list[Run]) -> str:
    """What real runs saved, and whether the cost curve had said so."""
    rows = []
    for run in runs:
        found = compare(curve, run.schedule, run)
        rows.append(
            [
                named(run.schedule),
                percent(found.measured),
                percent(found.real),
                f"{100 * stopwatch_saving(run):.1f} %",
                str(len(run.passes)),
                f"{found.verdict}{' (disturbed)' if found.disturbed else ''}",
            ]
        )
    header = ["real runs", "by the curve", "by real run", "by stopwatch", "passes", "verdict"]
    return f"\n{table(header, rows)}"


def block_lines(curve: Curve, ledger: Ledger, profile: Profile) -> str:
    """Each block's backward time by three sources, and why they differ where they do."""
    rows = block_times(curve, ledger, profile)
    header = ["backward ms", "ledger", "freezing saves", "by difference", "profiler", "remark"]
    remarks = list(dict.fromkeys(remark for row in rows for remark in row.remarks))
    return "\n".join(
        [
            "",
            table(header, [_block_row(row, remarks) for row in rows]),
            f"ledger: {len(ledger.block_ms)} rounds at level 0, in sum {percent(hook_cost(ledger))} off "
            "the backward pass without hooks; "
            "freezing saves: by the ledger, on top of all blocks before",
            *(f"({number}) {remark}" for number, remark in enumerate(remarks, start=1)),
        ]
    )


def realised_lines(found: FrozenSteps, specs: list[ScheduleSpec]) -> str:
    """How much of what freezing could save is saved, by level and by schedule, and what eats most of the rest."""
    levels = [
        [
            str(each.level),
            f"{each.ideal_ms.value + each.frontier_ms.value:.2f}",
            milliseconds(each.realised_ms),
            percent(each.share),
        ]
        for each in realised(found)
    ]
    shares = [(spec, realised_share(found, spec)) for spec in specs]
    most = most_eaten(found)
    return "\n".join(
        [
            "",
            table(["frozen blocks", "could save ms", "saves ms", "share"], levels),
            "",
            table(
                ["schedule", "share of what it could save", f"goal {100 * GOAL:g} %"],
                [
                    [named(spec), percent(share), verdict(share)]
                    if share
                    else [named(spec), "never freezes", "-"]
                    for spec, share in shares
                ],
            ),
            f"{len(found.block_ms)} rounds; could save: backward and optimizer time of the frozen blocks in the "
            "unfrozen step, and the input gradient that the first active block need not make; saves: what both got "
            "shorter by in the same round",
            *([f"most beyond it: {most}"] if most else []),
        ]
    )


def _block_row(row: BlockTime, remarks: list[str]) -> list[str]:
    times = (row.ledger, row.frozen_saves, row.difference, row.profile)
    numbers = (f"({remarks.index(remark) + 1})" for remark in row.remarks)
    return [row.block, *(_known(each) for each in times), " ".join(numbers)]


def _known(estimate: Estimate | None) -> str:
    return "-" if estimate is None else milliseconds(estimate)
