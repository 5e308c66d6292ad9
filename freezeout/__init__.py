"""FreezeOut: anneal every block's learning rate to zero on a schedule; a frozen block has no backward pass.

Names are loaded on first use, so that `freezeout.schedule` and `freezeout.perf.results` stay importable without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from freezeout.blocks import Block, Blocks, PartitionError, partition
    from freezeout.freezer import Freezer
    from freezeout.proof import AuditReport, audit
    from freezeout.schedule import Schedule, calc_speedup
    from freezeout.scheduler import FreezeOutLR

__version__ = "0.1.0"

__all__ = [
    "AuditReport",
    "Block",
    "Blocks",
    "FreezeOutLR",
    "Freezer",
    "PartitionError",
    "Schedule",
    "audit",
    "calc_speedup",
    "partition",
]

_HOME = {
    "AuditReport": "proof",
    "Block": "blocks",
    "Blocks": "blocks",
    "FreezeOutLR": "scheduler",
    "Freezer": "freezer",
    "PartitionError": "blocks",
    "audit": "proof",
    "Schedule": "schedule",
    "calc_speedup": "schedule",
    "partition": "blocks",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"freezeout.{_HOME[name]}"), name)
    raise AttributeError(f"module 'freezeout' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
