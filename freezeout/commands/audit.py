"""The command `audit`: proves that a frozen block costs nothing in the backward pass of a model."""

import argparse

from freezeout.commands.choices import add_measured_model, traced_model
from freezeout.options import option


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `audit`."""
    add_measured_model(parser)
    option(
        parser,
        "--levels",
        default="5",
        help="`all`, or a number of levels spread over the model (%(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Audit the levels asked for; returns 0 if every one holds, else 1."""
    from freezeout.blocks import listed
    from freezeout.commands.table import table
    from freezeout.proof import audit

    model, sample, blocks = traced_model(args)
    reports = [
        audit(model.module, sample, level, blocks=blocks)
        for level in _spread(args.levels, len(blocks))
    ]
    print(
        f"{model.name}: {len(blocks)} blocks, "
        f"{sum(block.num_parameters for block in blocks):,} parameters"
    )
    header = [
        "first active block",
        "level",
        "frozen with grad",
        "out of order",
        "nodes",
        "kept",
        "verdict",
    ]
    rows = [
        [
            report.frontier,
            str(report.level),
            str(len(report.frozen_with_gradient)),
            str(len(report.frozen_behind_frontier)),
            str(report.backward_nodes_before_frontier),
            str(report.saved_tensors_before_frontier),
            "free" if report.ok else "NOT FREE",
        ]
        for report in reports
    ]
    print(table(header, rows))
    print(
        "Frozen with grad: frozen parameters that got a gradient. Out of order: frozen parameters first used "
        "after an active one.\nNodes, kept: backward nodes and tensors kept for the backward pass by what comes "
        "before the first active block. All must be 0."
    )
    if blocks.unused:
        print(f"Never used by a forward pass, kept with the head: {listed(blocks.unused)}.")
    if blocks.reused:
        print(
            f"Used again by later blocks, as constants once they are frozen: {listed([*blocks.reused])}."
        )
    return 0 if all(report.ok for report in reports) else 1


def _spread(levels: str, num_blocks: int) -> list[int]:
    """Levels to audit, first and last among them.

    Raises:
        ValueError: `levels` is neither `all` nor a number of at least 2.
    """
    if levels == "all":
        return list(range(num_blocks))
    if not levels.isdecimal() or int(levels) < 2:
        raise ValueError(f"`--levels` must be `all` or a number of at least 2, got {levels!r}.")
    wanted, last = int(levels), num_blocks - 1
    return sorted({round(i * last / (wanted - 1)) for i in range(wanted)})
