"""Evidence without its measurements: journals, parts of trivial steps, and how they are conducted."""

from bench.evidence.conduct import Conductor
from bench.evidence.journal import Journal, Ran
from bench.evidence.parts import PARTS, Job, Part, Step

JUNIT = """<testsuites><testsuite>
<testcase classname="a" name="good"/>
<testcase classname="a" name="bad"><failure message="assert 1 == 2&#10;more">x</failure></testcase>
<testcase classname="a" name="open"><skipped type="pytest.xfail" message="UNDECIDED: by 1"/></testcase>
<testcase classname="a" name="off"><skipped type="pytest.skip" message="no device"/></testcase>
</testsuite></testsuites>"""
ENVIRONMENT = {
    "device": "cuda",
    "device_name": "NVIDIA H200",
    "cores": 16,
    "os": "Linux",
    "torch": "2.11.0",
    "cuda": "13.0",
    "git_commit": "0123abc",
}


def ran(step="s", part="p", **changes):
    values = {
        "command": "python -c pass",
        "started": "2026-11-30T10:00:00+00:00",
        "seconds": 10.0,
        "exit_code": 0,
        "cut": False,
        "done": True,
    }
    return Ran(step=step, part=part, **values | changes)


def job_in(folder, device="cpu", dataset="cifar100", times=1.0):
    folder.mkdir(exist_ok=True)
    journal = Journal(folder / "evidence.json")
    return Job(out=folder, device=device, dataset=dataset, times=times, journal=journal)


def note(journal, ran):
    journal.begin(ran)
    journal.end(ran)


def part(*codes, name="part", minutes=10.0, **settings):
    """A part whose steps write their name into a file and end with `codes`."""

    def steps(job):
        for index, code in enumerate(codes):
            told = f"open({str(job.out / 'order')!r}, 'a').write('{name}-{index} ')"
            arguments = ("-c", f"{told}; raise SystemExit({code})")
            yield Step(name=f"{name}-{index}", arguments=arguments, **settings)

    return Part(name=name, title="a part", minutes=minutes, steps=steps)


def conducted(job, *parts, minutes=10.0, **settings):
    said = []
    ended = Conductor(job=job, minutes=minutes, say=said.append, **settings).run(parts)
    return ended, said


def steps(name, job):
    (found,) = [each for each in PARTS if each.name == name]
    return found.steps(job)


def first_step(name, job):
    return next(steps(name, job))
