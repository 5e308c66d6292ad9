"""How often the gate is wrong, on simulated measurements; every decision is the whole gate's."""

from collections import Counter
from itertools import combinations, product

import pytest

from reports.gate.decision import hold
from reports.gate.places import places
from reports.gate.verdicts import Exit

SIDES = 32
"""Simulated baselines and candidates; each is held against each of the others, in about 1000 comparisons."""


@pytest.fixture(scope="module")
def sides(machine):
    """Makes `count` baselines or candidates: a bench, one with A/A repeats, or two turns of a pair."""

    def made(first, count, kind, **changes):
        found = []
        for seed in range(first, first + count):
            here, name = machine(seed, as_lists=False, **changes), f"s{seed}"
            found.append(here.turns(name) if kind == "pair" else here.bench(name, **kind))
        return [places(records) for records in found]

    return made


KINDS = {"A/A": ({"repeats": 1}, {}), "pair": ("pair", "pair")}


@pytest.mark.parametrize(("before", "after"), KINDS.values(), ids=KINDS)
def test_equal_programs_fail_in_at_most_one_gate_of_a_hundred(sides, before, after):
    every = product(sides(0, SIDES, before), sides(1000, SIDES, after))
    exits = Counter(hold(candidate, baseline).exit for baseline, candidate in every)
    assert exits.total() > 1000
    assert exits[Exit.REGRESSION] <= exits.total() / 100
    # A gate that never decides would raise no false alarm either.
    assert exits[Exit.PASS] >= 0.9 * exits.total()


def found_and_others(sides, kinds, slow, by):
    """Shares of gates that find the slow block, and that find another as well."""
    baselines = sides(0, 8, kinds[0])
    candidates = sides(1000, 8, kinds[1], slower={slow: 1 + by})
    found = others = 0
    for baseline, candidate in product(baselines, candidates):
        decision = hold(candidate, baseline)
        worse = {(r.model, r.part) for r in decision.rows if r.verdict == "SLOWER" and r.gates}
        found += decision.exit is Exit.REGRESSION and slow in worse
        others += bool(worse - {slow})
    return found / 64, others / 64


@pytest.mark.parametrize("block", [0, 3, 9])
def test_a_pair_finds_a_block_slower_by_3_percent_in_95_of_100_gates(sides, block):
    slow = ("timm:resnet18", f"blocks.{block}")
    found, others = found_and_others(sides, KINDS["pair"], slow, 0.03)
    assert found >= 0.95
    assert others <= 0.05


def test_repeats_of_one_session_find_5_percent_since_they_do_not_narrow_the_default(sides):
    found, others = found_and_others(sides, KINDS["A/A"], ("timm:resnet18", "blocks.3"), 0.05)
    assert found >= 0.95
    assert others <= 0.05


def test_a_restless_machine_decides_nothing_instead_of_passing(sides):
    """A block that is 20 % slower on a machine on which equal runs differ by 6 % a block."""
    slow = ("timm:resnet18", "blocks.3")
    baselines = sides(0, 6, "pair", session_offset=0.06)
    candidates = sides(1000, 6, "pair", session_offset=0.06, slower={slow: 1.2})
    exits = Counter(hold(two, one).exit for one, two in product(baselines, candidates))
    # A regression would be true as well, where the runs of a side happen to be alike.
    assert exits[Exit.PASS] == 0, exits
    assert exits[Exit.UNDECIDED] >= 0.4 * exits.total(), exits


def test_equal_programs_do_not_fail_on_their_predictions(machine):
    # Real runs take the longest to evaluate, so a few measurements are each compared with all others.
    measured = [
        places(machine(seed).bench(f"s{seed}", models=("wrn_16_4",), runs=True))
        for seed in range(20)
    ]
    exits = Counter(hold(one, other).exit for one, other in combinations(measured, 2))
    assert exits[Exit.REGRESSION] <= exits.total() / 100
