"""The command `audit`: proves that a frozen block costs nothing in the backward pass of a model."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from freezeout.commands.audit_catalog import add_catalog_options, run_catalog
from freezeout.commands.choices import add_measured_model, traced_model
from freezeout.options import option

if TYPE_CHECKING:
    from freezeout.proof import AuditReport

_OF_ONE = ("num_classes", "input_size", "granularity", "depth", "growth_rate", "dropout", "levels")
_OF_MANY = ("models", "jobs", "out", "resume", "no_baseline")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `audit`."""
    add_measured_model(parser, required=False)
    option(
        parser,
        "--levels",
        default="5",
        help="`all`, or a number of levels spread over the model (%(default)s)",
    )
    add_catalog_options(parser)
    parser.set_defaults(defaults=vars(parser.parse_args([])))  # to tell what was asked for


def run(args: argparse.Namespace) -> int:
    """Audit one model or a catalog; returns 0 if everything holds, else 1.

    Raises:
        ValueError: whatever the user can put right.
    """
    _check(args)
    return run_catalog(args) if args.catalog else _run_one(args)


def _check(args: argparse.Namespace) -> None:
    if args.catalog and args.model:
        raise ValueError(f"`--catalog` takes the place of a model: leave out {args.model!r}.")
    if not args.catalog and not args.model:
        raise ValueError("what to audit is needed: a model, or --catalog timm|torchvision|FILE.")
    misplaced = _OF_ONE if args.catalog else _OF_MANY
    for name in misplaced:
        if getattr(args, name) != args.defaults[name]:
            told = f"--{name.replace('_', '-')}"
            one = "one MODEL, not `--catalog`" if args.catalog else "`--catalog`, not one MODEL"
            raise ValueError(f"`{told}` goes with {one}.")


def _run_one(args: argparse.Namespace) -> int:
    """Audit the levels asked for; returns 0 if every one holds, else 1."""
    from freezeout.blocks import listed
    from freezeout.commands.table import table
    from freezeout.proof import audit

    model, sample, blocks = traced_model(args)
    reports = [
        audit(model.module, sample, level, blocks=blocks)
        for level in _spread(args.levels, len(blocks))
    ]
    word = "block" if len(blocks) == 1 else "blocks"
    print(
        f"{model.name}: {len(blocks)} {word}, "
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
        print(_through_reused(reports))
    return 0 if all(report.ok for report in reports) else 1


def _through_reused(reports: "Sequence[AuditReport]") -> str:
    """What of the backward pass runs through the later uses of frozen parameters, at the level with most of it."""
    most = max(reports, key=lambda each: each.nodes_through_reused)
    count, nodes = most.nodes_through_reused, most.backward_nodes
    share = f" ({count / nodes:.0%})" if nodes else ""
    return f"Operations that use them so, at most: {count} of {nodes} backward nodes{share}, at level {most.level}."


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
