"""How often the gate is wrong, on simulated measurements; every decision is the whole gate's."""

from collections import Counter
from itertools import combinations

import pytest

from reports.gate.decision import decide, hold
from reports.gate.places import places
from reports.gate.verdicts import Exit

COMPARISONS = 1000


def test_equal_programs_fail_in_at_most_one_gate_of_a_hundred(machine):
    exits = Counter()
    for i in range(COMPARISONS):
        baseline = machine(2 * i, as_lists=False).bench("a", repeats=1)
        candidate = machine(2 * i + 1, as_lists=False).bench("b")
        exits[decide(baseline, candidate).exit] += 1
    assert exits[Exit.REGRESSION] <= COMPARISONS / 100
    # A gate that never decides would raise no false alarm either.
    assert exits[Exit.PASS] >= 0.9 * COMPARISONS


@pytest.mark.parametrize("block", [0, 3, 9])
def test_a_block_slower_by_3_percent_is_found_in_95_of_100_gates(machine, block):
    gates, slow = 60, ("timm:resnet18", f"blocks.{block}")
    found = others = 0
    for i in range(gates):
        baseline = machine(2 * i, as_lists=False).bench("a", repeats=1)
        candidate = machine(2 * i + 1, as_lists=False, slower={slow: 1.03}).bench("b")
        decision = decide(baseline, candidate)
        worse = {(r.model, r.part) for r in decision.rows if r.verdict == "SLOWER" and r.gates}
        found += decision.exit is Exit.REGRESSION and slow in worse
        others += bool(worse - {slow})
    assert found >= 0.95 * gates
    assert others <= 0.05 * gates


def test_equal_programs_do_not_fail_on_their_predictions(machine):
    # Real runs take the longest to evaluate, so a few measurements are each compared with all others.
    measured = [
        places(machine(seed).bench(f"s{seed}", models=("wrn_16_4",), runs=True))
        for seed in range(20)
    ]
    exits = Counter(hold(one, other).exit for one, other in combinations(measured, 2))
    assert exits[Exit.REGRESSION] <= sum(exits.values()) / 100
