"""Rows of an audited catalog, made by hand."""

from dataclasses import replace
from pathlib import Path

from freezeout.catalog.file import encode
from freezeout.catalog.records import AuditSession, BlockSummary, Cut, LeafRule, ModelRow

ENVIRONMENT = {
    "device": "cpu",
    "device_name": "Example CPU @ 2.00GHz",
    "cores": 2,
    "python": "3.11.7",
    "torch": "2.15.0",
    "torchvision": "0.30.0",
    "timm": "1.0.31",
    "freezeout": "0.1.0",
    "git_commit": "0123abc",
}
LEVELS = (1, 2, 4, 6, 7)
"""Of eight blocks: first, quarter, half, three quarters and last."""


def make_cut(level, *, stopped=True, **changes):
    failing = {} if stopped else {"frozen_behind_frontier": 3, "backward_nodes_before_frontier": 2}
    values = {
        "level": level,
        "frozen_with_gradient": 0,
        "frozen_behind_frontier": 0,
        "backward_nodes_before_frontier": 0,
        "saved_tensors_before_frontier": 0,
        "backward_nodes": 100,
    }
    return Cut(**values | failing | changes)


def make_blocks(flops=(1,) * 8):
    return tuple(
        BlockSummary(name=f"blocks.{i}", parameters=10, forward_flops=each)
        for i, each in enumerate(flops)
    )


def make_leaf_rule(stopped=(), outside=0):
    """Forty leaf modules; `stopped` are the places, of five, where the rule stops the backward pass."""
    cuts = tuple(make_cut(5 * level, stopped=i in stopped) for i, level in enumerate(LEVELS))
    return LeafRule(layers=40, outside_parameters=outside, cuts=cuts)


def make_row(name, family="", **changes):
    """A proven model of eight equal blocks that the baseline stops nowhere."""
    values = {
        "name": name,
        "family": family,
        "verdict": "PROVEN",
        "sample": "float32[2, 3, 224, 224]",
        "traced_on": "meta",
        "parameters": 80,
        "blocks": make_blocks(),
        "complete": True,
        "in_order": True,
        "stages": ("stem", "stages.0", "stages.1", "head"),
        "cuts": tuple(map(make_cut, LEVELS)),
        "leaf_rule": make_leaf_rule(),
        "seconds": 2.0,
        "peak_bytes": 3 * 2**30,
    }
    return ModelRow(**values | changes)


def not_audited(name, family="", reason="cannot be built"):
    return ModelRow(name=name, family=family, verdict="NOT AUDITED", reason=reason)


ALL = range(5)
ROWS = (
    make_row("timm:resnet18", "resnet", leaf_rule=make_leaf_rule(ALL)),
    make_row("timm:resnet50", "resnet", leaf_rule=make_leaf_rule([0, 4], outside=8)),
    make_row("timm:vit_tiny", "vision_transformer", stages=tuple(f"blocks.{i}" for i in range(8))),
    make_row("torchvision:resnet18", "classification/resnet", leaf_rule=make_leaf_rule(ALL)),
    not_audited("torchvision:raft", "optical_flow/raft", "needs a|pair of `images`"),
)


def make_session(catalog="timm", asked=3, **changes):
    """A run as it closes: it took a minute and forty seconds."""
    values = {
        "catalog": catalog,
        "models_glob": None,
        "asked": asked,
        "cuts": "first, quarter, half, three quarters, last",
        "jobs": 2,
        "command": f"python -m freezeout audit --catalog {catalog}",
        "environment": ENVIRONMENT,
        "started": "2026-11-23T04:00:00+00:00",
        "wall_s": 100.0,
        "done": asked,
    }
    return AuditSession(**values | changes)


def opening(session):
    """The line that the run began with."""
    return replace(session, wall_s=None, done=None)


def whole_run(session=None):
    """Both lines of a run that came to its end."""
    session = session or make_session()
    return [opening(session), session]


PATH = Path("timm.jsonl")


def save(path, records):
    path.write_text("".join(encode(record) + "\n" for record in records), encoding="utf-8")
    return path
