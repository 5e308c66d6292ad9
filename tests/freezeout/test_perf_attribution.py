import random
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from freezeout.perf.attribution import (
    ACCUMULATES,
    ENGINE,
    Kernel,
    Operator,
    Range,
    Step,
    amounts,
    book,
    profile_of,
    reasons_to_distrust,
    unattributed_share,
)
from freezeout.perf.graph import BlockSpans
from freezeout.perf.records import PHASES, Config

MAIN, ENGINE_THREAD = 1, 2
FORWARD_US = (30, 10, 20, 5)
BACKWARD_US = (50, 20, 40, 10)
OPTIMIZER_US = (3, 1, 2, 4)
KERNELS = 31
"""Of one step below, if none is split."""
BLOCKS = ("stem", "body.0", "body.1", "head")
CONFIG = Config(
    model="invented",
    input_shape=(3, 8, 8),
    num_classes=4,
    batch_size=2,
    dtype="fp32",
    memory_format="contiguous",
    device="cuda",
)


@dataclass
class Recorder:
    """What a profiler would see on a host that launches kernels for a device."""

    now_ns: int = 0
    operators: list[Operator] = field(default_factory=list)

    def call(self, name, *inside, sequence_nr=-1, own_ns=0, kernels=(), **settings):
        """Call an operator; `inside` are functions that call what it calls."""
        start_ns = self.now_ns
        self.now_ns += own_ns + 1
        for each in inside:
            each()
        self.operators.append(
            Operator(
                name=name,
                start_ns=start_ns,
                end_ns=self.now_ns,
                thread=settings.pop("thread", MAIN),
                sequence_nr=sequence_nr,
                kernels=tuple(kernels),
                **settings,
            )
        )

    def range(self, phase, run, block=None):
        start_ns = self.now_ns
        self.call(phase, run, is_range=True)
        return Range(phase=phase, start_ns=start_ns, end_ns=self.now_ns, block=block)


def kernel(us, name="vectorized_elementwise_kernel", stream=7):
    return Kernel(name=name, duration_ns=1000 * us, stream=stream)


@dataclass
class FakeDevice:
    """Runs steps of a network of four convolutions with batch norms, and a loss; times are those of its kernels."""

    first_number: int = 100
    backward_stream: int = 7
    rng: random.Random | None = None
    """Splits every kernel in several, if given."""

    def kernels(self, us, name="sm90_xmma_fprop_implicit_gemm", stream=7):
        if self.rng is None or us < 2:
            return [kernel(us, name, stream)]
        part = self.rng.randint(1, us - 1)
        return [kernel(part, name, stream), kernel(us - part, name, stream)]

    def step(self):
        host = Recorder()
        numbers = [self.first_number + 3 * block for block in range(4)]
        ranges = [
            host.range("forward", lambda: self._forward(host, numbers)),
            host.range("backward", lambda: self._backward(host, numbers)),
        ]
        for block, us in enumerate(OPTIMIZER_US):
            work = self.kernels(us, "multi_tensor_apply_kernel")
            run = lambda work=work: host.call("aten::_foreach_add_", kernels=work)  # noqa: E731
            ranges.append(host.range("optimizer", run, block))
        host.call("Optimizer.zero_grad#SGD.zero_grad", is_range=True)
        return Step(
            operators=tuple(host.operators),
            ranges=tuple(ranges),
            block_of=BlockSpans(starts=tuple(numbers)).block_of,
            gradients=(3, 3, 3, 3),
        )

    def _forward(self, host, numbers):
        for number, us in zip(numbers, FORWARD_US, strict=True):
            work = self.kernels(us - 2)
            host.call(
                "aten::conv2d",
                lambda work=work: host.call("aten::cudnn_convolution", kernels=work),
                sequence_nr=number,
            )
            host.call("aten::add_", sequence_nr=number + 1, kernels=[kernel(1)])  # the counter
            host.call("aten::cudnn_batch_norm", sequence_nr=number + 1)
            host.call("aten::relu", sequence_nr=number + 2, kernels=[kernel(1)])
        host.call("aten::nll_loss_forward", sequence_nr=numbers[-1] + 3, kernels=[kernel(6)])

    def _backward(self, host, numbers):
        stream = self.backward_stream

        def node(name, number, *kernels, inside="aten::convolution_backward"):
            host.call(
                ENGINE + name,
                lambda: host.call(inside, thread=ENGINE_THREAD, kernels=kernels),
                sequence_nr=number,
                thread=ENGINE_THREAD,
            )

        host.call("aten::ones_like", kernels=[kernel(2)])
        node("NllLossBackward0", numbers[-1] + 3, kernel(7, stream=stream))
        for number, us in zip(reversed(numbers), reversed(BACKWARD_US), strict=True):
            node("ReluBackward0", number + 2, kernel(1, stream=stream))
            node("CudnnBatchNormBackward0", number + 1)
            for _ in range(2):
                node("torch::autograd::AccumulateGrad", -1)
            node("ConvolutionBackward0", number, *self.kernels(us - 3, "wgrad", stream))
            node("torch::autograd::AccumulateGrad", -1, kernel(2, stream=stream))


def profiled(*steps, unit="kernels"):
    return profile_of(steps, session="s", config=CONFIG, blocks=BLOCKS, unit=unit)


def change(step, name, **changes):
    """The step with other values for its operators of a name."""
    changed = tuple(replace(o, **changes) if o.name == name else o for o in step.operators)
    return replace(step, operators=changed)


@pytest.mark.parametrize("seed", [None, 0, 1, 2])
@pytest.mark.parametrize("first_number", [0, 100, 10**9])
def test_the_costs_that_were_put_in_come_out(seed, first_number):
    rng = None if seed is None else random.Random(seed)
    device = FakeDevice(first_number=first_number, rng=rng)
    profile = profiled(device.step(), device.step())
    in_head = {"forward": 6, "backward": 7, "optimizer": 0}  # the loss
    for phase, us in zip(PHASES, (FORWARD_US, BACKWARD_US, OPTIMIZER_US), strict=True):
        expected = [each / 1000 for each in us]
        expected[-1] += in_head[phase] / 1000
        assert profile.phase_ms[phase] == [pytest.approx(expected, abs=1e-12)] * 2
    assert profile.unattributed_ms == [0.002, 0.002]


def test_the_record_says_what_was_profiled():
    profile = profiled(FakeDevice().step(), FakeDevice().step())
    assert (profile.session, profile.config, profile.blocks) == ("s", CONFIG, BLOCKS)
    assert profile.unit == "kernels"
    assert profile.launches == [KERNELS, KERNELS]


def test_nothing_is_lost_and_nothing_counted_twice():
    step = FakeDevice(rng=random.Random(0)).step()
    step = replace(step, loose=(kernel(11), kernel(13, "Memset (Device)")))
    every = [*step.loose, *(k for o in step.operators for k in o.kernels)]
    profile = profiled(step)
    booked = sum(sum(profile.phase_ms[phase][0]) for phase in PHASES)
    total = sum(each.duration_ns for each in every) / 1e6
    assert booked + profile.unattributed_ms[0] == pytest.approx(total, rel=1e-12)
    assert profile.launches == [len(every)]
    kinds = sum(ms for phase in PHASES for block in profile.kind_ms[phase] for ms in block.values())
    assert kinds == pytest.approx(booked, rel=1e-12)


def test_what_belongs_to_no_block_is_kept():
    step = FakeDevice().step()
    step = change(step, "Optimizer.zero_grad#SGD.zero_grad", kernels=(kernel(40),))
    profile = profiled(replace(step, loose=(kernel(500),)))
    assert profile.unattributed_ms == [0.542]  # with the gradient of the loss
    assert unattributed_share(profile) == pytest.approx(0.542 / (0.542 + 0.208))


def test_kinds_are_by_phase_and_block_and_a_mean_over_the_steps():
    profile = profiled(FakeDevice().step(), FakeDevice().step())
    assert profile.kind_ms["forward"][0] == pytest.approx(
        {"convolution": 0.028, "elementwise": 0.002}
    )
    assert list(profile.kind_ms["backward"][2]) == ["convolution", "elementwise"]  # largest first
    assert profile.kind_ms["optimizer"][3] == {"optimizer": 0.004}


# Where an operator belongs


def where(step, name):
    return [each.block for each in book(step) if each.operator.name == name]


def test_a_gradient_is_accumulated_in_the_block_of_the_node_before():
    step = FakeDevice().step()
    assert where(step, ACCUMULATES) == [3, 3, 3, 2, 2, 2, 1, 1, 1, 0, 0, 0]


def test_the_loss_is_the_heads():
    step = FakeDevice().step()
    assert where(step, "aten::nll_loss_forward") == [3]
    assert where(step, ENGINE + "NllLossBackward0") == [3]


@pytest.mark.parametrize("gradients", [(3, 3, 3, 2), (4, 2, 3, 3), (0, 0, 0, 0)], ids=str)
def test_gradients_are_left_unattributed_where_place_does_not_tell(gradients):
    step = replace(FakeDevice().step(), gradients=gradients)
    assert where(step, ACCUMULATES) == [None] * 12
    assert profiled(step).unattributed_ms == [0.010]
    assert where(step, ENGINE + "ReluBackward0") == [3, 2, 1, 0]


def test_an_operator_without_a_number_belongs_where_it_was_called():
    host = Recorder()

    def run():
        host.call("aten::before_all_numbers")
        host.call("aten::linear", lambda: host.call("aten::inside"), sequence_nr=10)
        host.call("aten::no_grad_after")
        host.call("aten::linear", sequence_nr=20)
        host.call("aten::other_thread", thread=9)

    step = Step(
        operators=(),
        ranges=(host.range("forward", run),),
        block_of=BlockSpans(starts=(10, 20)).block_of,
        gradients=(0, 0),
    )
    step = replace(step, operators=tuple(host.operators))
    assert where(step, "aten::inside") == [0]
    assert where(step, "aten::no_grad_after") == [0]
    assert where(step, "aten::before_all_numbers") == [None]
    assert where(step, "aten::other_thread") == [None]


def test_what_a_checkpoint_runs_again_belongs_to_its_block():
    """Its node runs the forward pass again, and nodes with numbers past all others."""
    host = Recorder()

    def again():
        host.call("aten::linear", sequence_nr=90)
        host.call(ENGINE + "AddmmBackward0", sequence_nr=90)
        host.call(ACCUMULATES)

    def run():
        host.call(ENGINE + "HeadBackward", sequence_nr=25)
        host.call(ENGINE + "CheckpointFunctionBackward", again, sequence_nr=12)

    step = Step(
        operators=(),
        ranges=(host.range("backward", run),),
        block_of=BlockSpans(starts=(10, 20)).block_of,
        gradients=(1, 0),
    )
    step = replace(step, operators=tuple(host.operators))
    for name in ("aten::linear", ENGINE + "AddmmBackward0", ACCUMULATES):
        assert where(step, name) == [0]


def test_blocks_that_nothing_flows_into_get_nothing():
    step = FakeDevice().step()
    spans = BlockSpans(starts=(None, 103, None, 109))
    profile = profiled(replace(step, block_of=spans.block_of, gradients=(0, 6, 0, 3)))
    forward = profile.phase_ms["forward"][0]
    assert forward == pytest.approx([0, 0.03, 0, 0.011])
    assert profile.unattributed_ms[0] > 0.03  # what comes before the first block that has a number


# Own time, where operators are what is summed


def test_the_own_time_of_an_operator_is_without_those_inside_it():
    host = Recorder()
    host.call(
        "outer",
        lambda: host.call("first", own_ns=99),
        lambda: host.call("range", lambda: host.call("second", own_ns=299), is_range=True),
        own_ns=9,
    )
    host.call("elsewhere", own_ns=49, thread=5)
    step = Step(operators=tuple(host.operators), ranges=(), block_of=lambda _: None, gradients=())
    own = {each.operator.name: each.self_ns for each in book(step)}
    assert own == {"outer": 11, "first": 100, "range": 0, "second": 300, "elsewhere": 50}
    assert [each.time_ns for each in amounts(step, "operators")] == [11, 100, 300, 50]


def test_operators_add_up_to_the_outermost_ones():
    step = FakeDevice().step()
    profile = profiled(step, unit="operators")
    outermost = [
        each.operator
        for each in book(step)
        if not each.operator.is_range and (each.parent is None or each.parent.operator.is_range)
    ]
    booked = sum(sum(profile.phase_ms[phase][0]) for phase in PHASES)
    total = sum(each.end_ns - each.start_ns for each in outermost) / 1e6
    assert booked + profile.unattributed_ms[0] == pytest.approx(total, rel=1e-12)
    assert profile.launches == [sum(not o.is_range for o in step.operators)]
    assert profile.streams == 2  # the loss' own gradient is made on the main thread


def test_operators_that_only_touch_are_not_inside_each_other():
    times = [(0, 10), (10, 20), (15, 25), (20, 20)]
    operators = tuple(
        Operator(name=f"{start} to {end}", start_ns=start, end_ns=end, thread=0)
        for start, end in times
    )
    step = Step(operators=operators, ranges=(), block_of=lambda _: None, gradients=())
    assert [each.self_ns for each in book(step)] == [10, 10, 10, 0]


# Whether to trust it


def test_a_whole_profile_is_not_distrusted():
    assert reasons_to_distrust(profiled(*[FakeDevice().step()] * 3)) == []


@pytest.mark.parametrize("dropped", [1, 5, 30])
def test_dropped_kernels_are_noticed(dropped):
    whole = FakeDevice().step()
    left = dropped
    operators = []
    for operator in whole.operators:
        kept = operator.kernels[min(left, len(operator.kernels)) :]
        left -= len(operator.kernels) - len(kept)
        operators.append(replace(operator, kernels=kept))
    profile = profiled(whole, replace(whole, operators=tuple(operators)), whole)
    said = f"torch.profiler dropped kernels: {KERNELS - dropped} to {KERNELS} in equal steps."
    assert said in reasons_to_distrust(profile)


def test_too_much_without_a_block_is_noticed():
    step = replace(FakeDevice().step(), loose=(kernel(500),))
    assert reasons_to_distrust(profiled(step, step)) == [
        "71 % of the profiled time belongs to no block."
    ]


def test_streams_of_the_backward_pass_are_counted():
    assert profiled(FakeDevice().step()).streams == 1
    assert profiled(FakeDevice(backward_stream=20).step()).streams == 2  # and that of ones_like


@pytest.mark.parametrize(
    ("unit", "message"),
    [("kernels", "no kernel on the device .CUPTI is missing"), ("operators", "saw no operator")],
)
def test_a_profile_of_nothing_is_refused(unit, message):
    whole, empty = FakeDevice().step(), FakeDevice().step()
    empty = replace(empty, operators=tuple(replace(o, kernels=()) for o in empty.operators))
    if unit == "operators":
        empty = replace(empty, operators=())
    with pytest.raises(ValueError, match=message) as raised:
        profiled(whole, empty, unit=unit)
    assert "\n" not in str(raised.value)


def test_profiles_are_judged_without_torch():
    code = "import sys, freezeout.perf.attribution; sys.exit(bool({'torch', 'numpy'} & {*sys.modules}))"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=True)
