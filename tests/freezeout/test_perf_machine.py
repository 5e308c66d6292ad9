import json
import subprocess
import sys

import pytest

from freezeout.perf.machine import UNKNOWN, around, summary, throttled, unknown

COOL = {
    "sm_mhz": 1980,
    "memory_mhz": 3201,
    "temperature_c": 40,
    "power_w": 300.5,
    "throttle": ["gpu_idle"],
    "slowed_ms": {"sw_thermal_slowdown": 5.0, "hw_power_brake_slowdown": 0.0},
    "other_processes": [],
    "load": 0.5,
    "affinity": 16,
    "governor": "performance",
    "cpu_mhz": UNKNOWN,
    "reading_ms": 0.4,
}


def reading(**changes):
    return COOL | changes


def sentence(start, conditions):
    """The one sentence of the summary that begins with `start`; None if there is none."""
    found = [each for each in summary(conditions) if each.startswith(start)]
    assert len(found) <= 1
    return found[0] if found else None


def test_what_changes_is_kept_from_both_ends_and_what_does_not_only_once():
    joined = around(COOL, reading(sm_mhz=1755, power_w=690.0, load=1.5))
    assert joined["sm_mhz"] == [1980, 1755]
    assert joined["power_w"] == [300.5, 690.0]
    assert joined["load"] == [0.5, 1.5]
    assert (joined["affinity"], joined["governor"]) == (16, "performance")
    assert joined.keys() == COOL.keys()
    assert json.loads(json.dumps(joined, allow_nan=False)) == joined


def test_a_governor_that_was_changed_under_way_is_told_twice():
    assert around(COOL, reading(governor="powersave"))["governor"] == ["performance", "powersave"]


def test_reasons_of_both_ends_are_joined():
    joined = around(COOL, reading(throttle=["sw_power_cap"]))
    assert joined["throttle"] == ["gpu_idle", "sw_power_cap"]


def test_a_slowdown_between_the_readings_is_found_by_its_counter():
    after = reading(slowed_ms={"sw_thermal_slowdown": 17.0, "hw_power_brake_slowdown": 0.0})
    joined = around(COOL, after)
    assert joined["slowed_ms"] == {"sw_thermal_slowdown": 12.0}
    assert joined["throttle"] == ["gpu_idle", "sw_thermal_slowdown"]
    assert throttled(COOL, after)


@pytest.mark.parametrize(
    ("reason", "spoils"),
    [
        ("sw_thermal_slowdown", True),
        ("hw_thermal_slowdown", True),
        ("hw_power_brake_slowdown", True),
        ("sw_power_cap", False),
        ("hw_slowdown", False),
        ("gpu_idle", False),
        ("application_clocks", False),
    ],
)
@pytest.mark.parametrize("end", ["before", "after"])
def test_heat_and_the_power_brake_spoil_a_round_and_nothing_else(reason, spoils, end):
    slowed = reading(throttle=[reason])
    assert throttled(*((slowed, COOL) if end == "before" else (COOL, slowed))) is spoils


@pytest.mark.parametrize(
    "gone",
    [
        {"throttle": unknown("Not Supported"), "slowed_ms": unknown("Not Supported")},
        {"throttle": unknown("Not Supported"), "slowed_ms": {}},
    ],
)
def test_what_is_unknown_spoils_no_round_and_stays_unknown(gone):
    blind = reading(**gone)
    assert not throttled(blind, blind)
    assert around(blind, blind)["throttle"] == "unknown: Not Supported"


def test_a_reason_known_at_one_end_is_not_lost_to_an_unknown_at_the_other():
    hot, blind = reading(throttle=["hw_thermal_slowdown"]), reading(throttle=unknown("Timeout"))
    assert throttled(hot, blind)
    assert throttled(blind, hot)


def test_readings_without_nvml_are_joined_too():
    blind = {"nvml": unknown("nvidia-ml-py is not installed"), "load": 0.5}
    assert around(blind, blind) == {**blind, "load": [0.5, 0.5]}
    assert not throttled(blind, blind)


def test_every_other_process_is_kept_with_the_most_that_it_held():
    def process(pid, used):
        return {"pid": pid, "used_bytes": used}

    joined = around(
        reading(other_processes=[process(7, 2**20), process(3, unknown("not told"))]),
        reading(other_processes=[process(7, 2**21), process(9, 5)]),
    )
    assert joined["other_processes"] == [
        process(3, "unknown: not told"),
        process(7, 2**21),
        process(9, 5),
    ]


def test_an_error_without_a_message_is_named_by_its_kind():
    assert unknown(TimeoutError()) == "unknown: TimeoutError"


def test_a_summary_gives_ranges_over_all_rounds():
    conditions = [around(COOL, COOL), around(COOL, reading(sm_mhz=1410, temperature_c=63))]
    assert sentence("SM clock", conditions) == "SM clock 1410 to 1980 MHz."
    assert sentence("Memory clock", conditions) == "Memory clock 3201 MHz."
    assert sentence("Temperature", conditions) == "Temperature 40 to 63 °C."
    assert sentence("Power", conditions) == "Power 300 W."
    assert sentence("CPU clock", conditions) is None


def test_a_quiet_machine_is_called_so():
    conditions = [around(COOL, COOL)]
    assert sentence("The clocks", conditions) == "The clocks were held back by nothing."
    assert sentence("No other", conditions) == "No other process was on the GPU."
    told = "Load average 0.5 on 16 cores that this process may use."
    assert sentence("Load", conditions) == told
    assert sentence("CPU governor", conditions) is None
    assert sentence("A reading", conditions) is None


def test_a_summary_counts_the_rounds_of_each_throttle_reason():
    capped, hot = reading(throttle=["sw_power_cap"]), reading(throttle=["sw_thermal_slowdown"])
    conditions = [around(COOL, capped), around(capped, hot), around(COOL, COOL)]
    assert sentence("The clocks", conditions) == (
        "The clocks were held back by sw_power_cap (2 of 3 rounds), "
        "sw_thermal_slowdown (1 of 3 rounds)."
    )


def test_a_summary_names_the_other_processes():
    busy = reading(
        other_processes=[
            {"pid": 12, "used_bytes": 3 * 2**20},
            {"pid": 5, "used_bytes": unknown("not told")},
        ]
    )
    assert sentence("Other processes", [around(COOL, busy), around(COOL, COOL)]) == (
        "Other processes were on the GPU in 1 of 2 rounds: "
        "pid 5 with unknown memory, pid 12 with 3 MiB."
    )


def test_a_summary_tells_a_load_above_the_cores_and_a_governor_that_saves_power():
    conditions = [around(COOL, reading(load=5.0, affinity=2, governor="powersave"))]
    assert sentence("Load", conditions) == (
        "Load average 0.5 to 5.0 on 2 cores that this process may use: something else was running."
    )
    assert sentence("CPU governor", conditions) == (
        "CPU governor powersave, not performance: the CPU's clock may follow the load."
    )


def test_a_summary_says_what_is_unknown():
    blind = {"nvml": unknown("Driver Not Loaded"), "governor": UNKNOWN, "load": UNKNOWN}
    assert summary([around(blind, blind)]) == [
        "NVML unknown: Driver Not Loaded; clocks, temperature and throttling were not watched.",
        "Load average unknown.",
        "CPU governor unknown.",
    ]
    refused = unknown("Not Supported")
    conditions = [
        around(*2 * [reading(power_w=refused, throttle=refused, other_processes=refused)])
    ]
    assert sentence("Power", conditions) == "Power unknown: Not Supported."
    assert sentence("Throttle", conditions) == "Throttle reasons unknown: Not Supported."
    told = "Other processes on the GPU unknown: Not Supported."
    assert sentence("Other", conditions) == told


def test_a_summary_tells_dear_readings_and_none_at_all():
    conditions = [around(COOL, reading(reading_ms=3.25))]
    assert sentence("A reading", conditions) == "A reading took up to 3.2 ms, between rounds."
    assert summary([]) == ["What the machine was like while it measured was not recorded."]


def test_reports_can_use_it_without_torch():
    code = (
        "import sys, freezeout.perf.machine, freezeout.perf.share, freezeout.perf.roofline; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
