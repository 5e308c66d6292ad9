"""The command `sweep`: a whole study of training runs from one file."""

import argparse
import shlex
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from freezeout.commands.choices import device_of, models_package
from freezeout.cores import cores
from freezeout.exits import INTERRUPTED, SOME_FAILED
from freezeout.interrupts import sigterm_interrupts
from freezeout.options import option

if TYPE_CHECKING:
    from freezeout.train.sweep.conduct import Setup
    from freezeout.train.sweep.engine import Engine
    from freezeout.train.sweep.study import Study
    from freezeout.train.sweep.trial import Described

MOST_AT_ONCE = 1000
"""Trials that wait in a Ray cluster for a place."""
CHANGED = "# Changed on the command line: "
"""Begin of the lines that tell in a kept file what was changed on the command line."""
EPILOG = """\
CONFIG.toml:
  [sweep]         name, at_once, control = true (for each schedule the unfrozen baseline trained
                  for the epochs that fit into the schedule's measured time)
  [train]         settings of every run as in `train`: dataset, batch_size, lr, dtype, ...,
                  also data_dir, image_size, device
  [models."NAME"] the same for one model
  [timing]        curve_s, run_s (seconds a model, seconds a schedule), exclusive_seeds = [0]:
                  trained one at a time, so that their times count; with cuda_graph, accumulate,
                  ema_decay or deterministic these decide how long controls and const_time runs
                  are, for the cost curve is of steps without; exclusive_controls = false lets
                  equal-time controls share the machine even so
  [[grid]]        lists of model, how_scale, t_0, scale_lr, const_time, epochs, seed,
                  published_steps: every combination; more than one [[grid]] adds up.
                  The unfrozen baseline of each is added.
Started again with the same --out it goes on: nothing that is finished is run again, and lengths
that were settled stay as they are (DIR/lengths.json). DIR/study.toml is the file, with what --set
and --device changed in comments at its top. Other images under the same name want another --out.
With --engine ray `at_once` of the file does not count, a trial takes a GPU or else a CPU for each of
its threads, and a cost curve of whichever machine measured it decides for all of them.
Examples are in bench/studies/. Exit codes: 0 all done, 1 some failed, 2 bad input, 130 interrupted.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `sweep`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("study", type=Path, metavar="CONFIG.toml", help="what to run")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for results.jsonl, timing/ and trials/"
    )
    option(
        parser,
        "--at_once",
        type=int,
        metavar="N",
        help="trials at a time (as in the file; with --engine ray as many as there is room for)",
    )
    option(
        parser,
        "--threads",
        type=int,
        metavar="N",
        help="threads of each of these (the cores over --at-once; with --engine ray 1); those that run "
        "one at a time choose themselves",
    )
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="this machine, or a Ray cluster (%(default)s)",
    )
    parser.add_argument(
        "--address", help="of the Ray cluster, HOST:PORT (RAY_ADDRESS, or the one on this machine)"
    )
    option(parser, "--device", choices=("cpu", "cuda"), help="(as in the file)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="TABLE.KEY=VALUE",
        dest="changes",
        help="instead of what the file says in [sweep], [train] or [timing]; may be repeated",
    )
    parser.add_argument(
        "--plan", action="store_true", help="print the trials and stop (reads the data, too)"
    )


def run(args: argparse.Namespace) -> int:
    """Plan, run what is not done yet, and print what came out; returns the exit code.

    Raises:
        ValueError: whatever the user can put right.
    """
    study = _study(args)
    with _keeping_decoded(args.out):
        return _run(args, study)


def _keeping_decoded(folder: Path | None) -> AbstractContextManager[None]:
    """Decode the images once for all trainings; only to plan, nothing is kept."""
    from freezeout.train.decoded import keeping_decoded

    return nullcontext() if folder is None else keeping_decoded(folder / "images")


def _run(args: argparse.Namespace, study: "Study") -> int:
    described = _described(args, study)
    at_once = _at_once(args, study, described)
    from freezeout.commands.sweep_lines import plan_lines, trial_lines

    together = None if args.engine == "ray" and not args.at_once else at_once
    print(plan_lines(study, described, together), flush=True)
    if args.plan:
        print(trial_lines(study, described))
        return 0
    with _locked(args.out):
        _keep_study(args)
        return _conduct(args, study, described, at_once)


def _study(args: argparse.Namespace) -> "Study":
    from freezeout.train.sweep.study import read_study

    if args.out is None and not args.plan:
        raise ValueError(
            "`--out` is needed: the folder that keeps the results. `--plan` needs none."
        )
    for name in ("at_once", "threads"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f"`--{name.replace('_', '-')}` must be at least 1, got {value}.")
    if args.address and args.engine != "ray":
        raise ValueError("`--address` goes with `--engine ray`.")
    device = [f"train.device={args.device}"] if args.device else []
    return read_study(args.study, [*args.changes, *device])


def _keep_study(args: argparse.Namespace) -> None:
    """Keep the file beside its results, with what was changed on the command line said at its top."""
    from freezeout.train.files import replace_file

    device = [f"--device {args.device}"] if args.device else []
    asked = (" ".join(each.split()) for each in args.changes)
    changes = [*(f"--set {shlex.quote(each)}" for each in asked), *device]
    lines = args.study.read_text(encoding="utf-8").splitlines(keepends=True)
    # The file may be the one that an earlier start kept.
    own = [line for line in lines if not line.startswith(CHANGED)]
    text = "".join([*(f"{CHANGED}{each}\n" for each in changes), *own])
    replace_file(args.out / "study.toml", lambda file: file.write(text.encode()))


def _described(args: argparse.Namespace, study: "Study") -> "list[Described]":
    from freezeout.train.sweep.describe import Describer

    def choose(name: str | None) -> Literal["cpu", "cuda"]:
        if name == "cuda" and args.engine == "ray":
            return "cuda"  # of the cluster, whatever this machine has
        return "cuda" if device_of(name).type == "cuda" else "cpu"

    describe = Describer(models_package().create, choose)
    return [describe(point) for point in study.points]


def _at_once(args: argparse.Namespace, study: "Study", described: "list[Described]") -> int:
    """Trials at a time: as asked for, else what the engine has room for."""
    if args.engine == "ray":
        # The cluster itself starts as many as it has GPUs or cores for; the file speaks of one machine.
        return args.at_once or MOST_AT_ONCE
    devices = {each.config.device for each in described}
    return args.at_once or study.at_once or (cores() if devices == {"cpu"} else 1)


def _threads(args: argparse.Namespace, at_once: int) -> int:
    """Threads of a trial that is not alone."""
    return args.threads or (1 if args.engine == "ray" else max(1, cores() // at_once))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep a second sweep out of `folder`; the system lets go of the lock when the process ends."""
    try:
        from filelock import FileLock, Timeout
    except ModuleNotFoundError:
        raise ValueError('`sweep` needs filelock: pip install "freezeout[train]".') from None
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(folder / "sweep.lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise ValueError(
            f"another sweep is running in {folder}; wait for it, or give another --out."
        ) from None
    try:
        yield
    finally:
        lock.release()


def _conduct(
    args: argparse.Namespace, study: "Study", described: "list[Described]", at_once: int
) -> int:
    from freezeout.commands.sweep_lines import end_lines
    from freezeout.train.sweep.conduct import Sweep

    setup = _setup(args, described, at_once)
    try:
        sweep = Sweep(study, described, setup)
        with sigterm_interrupts():
            sweep.run()
    except KeyboardInterrupt:
        print(
            "interrupted; what is finished is kept, and the same command goes on from there",
            file=sys.stderr,
        )
        return INTERRUPTED
    finally:
        setup.engine.close()
    print(end_lines(sweep))
    print(f"\nfor the report: python -m reports {args.out / 'results.jsonl'}")
    return SOME_FAILED if sweep.failures else 0


def _setup(args: argparse.Namespace, described: "list[Described]", at_once: int) -> "Setup":
    import torch

    from freezeout.perf.environment import environment, new_session
    from freezeout.train.sweep.conduct import Setup

    devices = sorted({each.config.device for each in described})
    device = torch.device(devices[-1] if torch.cuda.is_available() else "cpu")
    return Setup(
        folder=args.out,
        engine=_engine(args),
        session=new_session(device),
        at_once=at_once,
        threads=_threads(args, at_once),
        here=environment(device) if args.engine == "local" else None,
        say=lambda line: print(line, flush=True),
    )


def _engine(args: argparse.Namespace) -> "Engine":
    if args.engine == "local":
        from freezeout.train.sweep.local import LocalEngine

        return LocalEngine()
    from freezeout.cli import main
    from freezeout.train.sweep.ray_engine import RayEngine

    return RayEngine(main, address=args.address)
