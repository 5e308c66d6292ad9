"""What a measurement was made on: device, versions, threads. Unknown things say so instead of being left out."""

import os
import platform
import shlex
import subprocess
import sys
import uuid
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from freezeout import __version__
from freezeout.perf.records import Session

UNKNOWN = "unknown"


def new_session(device: torch.device, command: str | None = None) -> Session:
    """A session that starts now, on this machine."""
    return Session(
        session=uuid.uuid4().hex[:12],
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command or shlex.join(["python", "-m", "freezeout", *sys.argv[1:]]),
        environment=environment(device),
    )


def environment(device: torch.device) -> dict[str, Any]:
    """Device, versions and settings that measurements depend on, as plain values."""
    return {
        "device": device.type,
        "device_name": device_name(device),
        "freezeout": __version__,
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": _version("torchvision"),
        "timm": _version("timm"),
        "numpy": _version("numpy"),
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "cudnn": torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        if device.type == "cuda"
        else None,
        "os": platform.platform(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_bytes": _memory_bytes(),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else UNKNOWN,
    }


def device_name(device: torch.device) -> str:
    """Name of the GPU or of the processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return UNKNOWN


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or UNKNOWN
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory_bytes() -> int | str:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return UNKNOWN


def _git_commit() -> str:
    """Commit of the checkout this package runs from, `+changes` if it differs.

    Outside a checkout it is what FREEZEOUT_COMMIT says, for copies that left git behind, or unknown.
    """
    here = Path(__file__).parent
    try:
        commit = _git(here, "rev-parse", "--short=12", "HEAD")
        return f"{commit}+changes" if _git(here, "status", "--porcelain", "-uno") else commit
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("FREEZEOUT_COMMIT") or UNKNOWN


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
