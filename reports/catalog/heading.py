"""What a claim consists of: what was audited, how many, on which machine, by which versions, in which time, how."""

from collections.abc import Sequence
from statistics import median
from typing import Any

from freezeout.catalog.records import AuditSession
from reports.catalog.collection import CatalogAudit
from reports.catalog.group import Group, libraries
from reports.catalog.model import OTHER, AuditedModel
from reports.summary import escaped
from reports.text import counted, joined

NAMED_VERSIONS = ("torch", "timm", "torchvision", "python", "freezeout", "git_commit")
"""What is told of the environment, besides the versions that stand with their library's models."""


def first_line(audit: CatalogAudit) -> str:
    """The claim in one line of Markdown."""
    groups = libraries(audit.models)
    found = [_library(group, audit) for group in groups]
    facts = [
        f"Audited: {joined(found or ['nothing'])}",
        _unknown(audit.models),
        *(f"UNFINISHED: {source.progress} in {source.path.name}" for source in audit.unfinished),
        _distinct(audit.sessions, _machine),
        ", ".join(_versions(audit.sessions, [group.name for group in groups])),
        f"{wall_time(audit.sessions)}, {_jobs(audit.sessions)}",
        _dates(audit.sessions),
    ]
    commands = dict.fromkeys(" ".join(each.command.split()) for each in audit.sessions)
    told = ", ".join(f"`{command.replace('`', chr(39))}`" for command in commands)
    return f"{escaped('; '.join(filter(None, facts)))}; by {told}."


def wall_time(sessions: Sequence[AuditSession]) -> str:
    """Time that all runs took; of a run that was ended early it is not known, and that is said."""
    known = [session.wall_s for session in sessions if session.wall_s is not None]
    unknown = len(sessions) - len(known)
    if not known:
        return "wall time not known, since no run has come to its end"
    total = f"{clock(sum(known))} of wall time"
    if unknown:
        return f"more than {total} ({counted(unknown, 'run')} of {len(sessions)} without an end, of unknown time)"
    return total if len(known) == 1 else f"{total} (sum of {len(known)} runs)"


def clock(seconds: float) -> str:
    """A time as `45 s`, `27 min 10 s` or `1 h 2 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {whole % 60} s"


def cost(models: Sequence[AuditedModel]) -> list[str]:
    """Sentences on time and memory, as far as they were taken down."""
    lines = []
    if times := {model.name: model.row.seconds for model in models if model.row.seconds}:
        slowest = max(times, key=lambda name: times[name])
        lines.append(
            f"Time of a model, building included: median {median(times.values()):.1f} s, at most "
            f"{times[slowest]:.1f} s ({slowest}); {clock(sum(times.values()))} over all models."
        )
    if peaks := [model.row.peak_bytes for model in models if model.row.peak_bytes]:
        lines.append(f"Peak memory of the largest auditing process: {max(peaks) / 2**30:.1f} GiB.")
    return lines


def _library(group: Group, audit: CatalogAudit) -> str:
    if group.name == OTHER:
        return (
            f"{group.proven} of {counted(len(group.models), 'other model')} proven{_absent(group)}"
        )
    version = audit.sessions[-1].environment.get(group.name)
    name = group.name if version in (None, "unknown") else f"{group.name} {version}"
    return (
        f"{group.proven} of {counted(len(group.models), 'model')} of {name} proven{_absent(group)}"
    )


def _absent(group: Group) -> str:
    absent = sum(not model.audited for model in group.models)
    return f" ({absent} could not be audited)" if absent else ""


def _unknown(models: Sequence[AuditedModel]) -> str:
    count = sum(not model.exists for model in models)
    return f"{counted(count, 'name')} asked for that no model has" if count else ""


def _machine(environment: Any) -> str:
    name = environment.get("device_name") or "unknown machine"
    cores = environment.get("cores")
    return f"{name}, {counted(cores, 'core')}" if isinstance(cores, int) else str(name)


def _versions(sessions: Sequence[AuditSession], told: Sequence[str]) -> list[str]:
    return [
        f"{key.replace('_', ' ')} {versions}"
        for key in NAMED_VERSIONS
        if key not in told
        and (versions := _distinct(sessions, lambda found, key=key: found.get(key) or "unknown"))
    ]


def _jobs(sessions: Sequence[AuditSession]) -> str:
    jobs = dict.fromkeys(session.jobs for session in sessions)
    return joined([counted(count, "job") for count in jobs])


def _dates(sessions: Sequence[AuditSession]) -> str:
    days = sorted(session.started[:10] for session in sessions)
    return days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"


def _distinct(sessions: Sequence[AuditSession], tell: Any) -> str:
    """What all runs have in common, or everything that they have."""
    return joined([*dict.fromkeys(str(tell(session.environment)) for session in sessions)])
