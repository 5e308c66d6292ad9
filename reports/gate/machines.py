"""Which machine something was measured on, and when two are one and the same."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from freezeout.perf.records import Ceiling, Record, Session


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What absolute times depend on besides the configuration; None for what is not known.

    The version of freezeout is left out on purpose: it is what the gate compares.
    """

    device: str
    """Kind of device, `cpu` or `cuda`."""
    device_name: str | None = None
    torch: str | None = None
    cuda: str | None = None
    threads: int | None = None

    @classmethod
    def of(cls, session: Session | None, device: str) -> "Machine":
        """The machine of a session; only the kind of device is known without one."""
        if session is None:
            return cls(device=device)
        environment: Mapping[str, Any] = session.environment
        keys = ("device_name", "torch", "cuda", "threads")
        return cls(
            device=environment.get("device") or device, **{k: environment.get(k) for k in keys}
        )

    @property
    def is_known(self) -> bool:
        """Whether the machine is told well enough to be recognised."""
        return self.device_name is not None and self.torch is not None

    def is_same(self, other: "Machine") -> bool:
        """Whether times measured on both may be compared; never for an unknown machine."""
        return self.is_known and self == other

    def likeness(self, other: "Machine") -> tuple[bool, ...]:
        """What both have in common, the most telling first; sorts by how alike they are."""
        return (
            self.device_name == other.device_name,
            self.torch == other.torch,
            self.cuda == other.cuda,
            self.threads == other.threads,
        )

    @property
    def title(self) -> str:
        """Name for a reader."""
        if not self.is_known:
            return f"unknown {self.device}"
        versions = [f"torch {self.torch}", *([f"cuda {self.cuda}"] if self.cuda else [])]
        threads = [f"{self.threads} threads"] if self.threads is not None else []
        return ", ".join([str(self.device_name), *versions, *threads])


def by_machine(records: Iterable[Record]) -> dict[Machine, list[Record]]:
    """Records by the machine they were measured on, sessions with their measurements."""
    records = list(records)
    sessions = {each.session: each for each in records if isinstance(each, Session)}
    found: dict[Machine, list[Record]] = {}
    for record in records:
        if isinstance(record, Session):
            machine = Machine.of(record, "unknown")
        else:
            device = record.device if isinstance(record, Ceiling) else record.config.device
            machine = Machine.of(sessions.get(record.session), device)
        found.setdefault(machine, []).append(record)
    return found
