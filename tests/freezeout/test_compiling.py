import copy
import functools
import shutil
import warnings
from itertools import pairwise

import pytest
import timm
import torch
from torch import nn

from freezeout import FreezeOutLR, Freezer, partition
from freezeout.compiling import Compilations, RecompileLimitError, compile_blocks, compile_model
from tests.compiled import NUM_BLOCKS, Net, batch, fresh_torch_compile, kept_bytes, run
from tests.documented import example

HOW = {"whole": compile_model, "blocks": compile_blocks}
"""Every way to compile."""

# torch.compile looks at `.grad` of every input and hides the warning in a way that does not reach warnings as errors.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")


@pytest.fixture(autouse=True)
def fresh():
    with fresh_torch_compile():
        yield


@pytest.fixture(scope="module")
def eager():
    return run(lambda _: None)


@pytest.fixture(scope="module", params=HOW)
def compiled(request):
    """A compiled run, and what was compiled in it."""
    with fresh_torch_compile(), warnings.catch_warnings(), Compilations() as seen:
        warnings.filterwarnings("ignore", "The .grad attribute of a Tensor", UserWarning)
        return run(lambda blocks: HOW[request.param](blocks, backend="aot_eager")), seen


def test_a_compiled_run_is_the_eager_run(compiled, eager):
    steps, seen = compiled
    assert [step.level for step in steps] == [step.level for step in eager]
    assert {step.level for step in steps} == set(range(NUM_BLOCKS + 1))
    for step, expected in zip(steps, eager, strict=True):
        torch.testing.assert_close(step.gradients, expected.gradients)
        torch.testing.assert_close(step.evaluated, expected.evaluated)
    assert seen.graph_breaks == 0
    assert seen.count > NUM_BLOCKS


def test_frozen_blocks_of_a_compiled_model_stay_bit_equal_and_get_no_gradient(compiled):
    steps, _ = compiled
    for before, after in pairwise(steps):
        for block in range(after.level):
            assert all(gradient is None for gradient in after.gradients[block])
            if block < before.level:
                assert all(map(torch.equal, after.state[block], before.state[block]))
        assert all(gradient is not None for gradient in after.gradients[after.level])


@pytest.mark.parametrize("how", HOW)
def test_a_compiled_model_keeps_less_for_the_backward_pass_at_every_level(how):
    model = Net()
    blocks = partition(model, batch())
    HOW[how](blocks, backend="aot_eager")
    freezer = Freezer(blocks)
    kept = []
    for level in (0, 1, 3):
        freezer.set_level(level)
        kept.append(kept_bytes(model(batch()).sum()))
    assert kept == sorted(kept, reverse=True)
    assert len(set(kept)) == len(kept)


@pytest.mark.parametrize("how", HOW)
def test_it_compiles_again_after_a_freeze_only(how):
    model, seen = Net(), Compilations()
    blocks = partition(model, batch())
    HOW[how](blocks, backend="eager")
    freezer = Freezer(blocks)
    counts = []
    with seen:
        for level in (0, 0, 1, 1, 3, 3):
            freezer.set_level(level)
            for _ in range(2):
                model.train()
                model(batch()).sum().backward()
                model.eval()
                with torch.no_grad():
                    model(batch())
            counts.append(seen.count)
    assert counts[0] == counts[1] < counts[2] == counts[3] < counts[4] == counts[5]


def test_alike_blocks_share_what_is_compiled():
    def compilations(num_blocks):
        torch.compiler.reset()
        with Compilations() as seen:
            run(lambda blocks: compile_blocks(blocks, backend="eager"), num_blocks=num_blocks)
        return seen.count

    assert compilations(4) == compilations(6)


def test_without_help_torch_gives_up_in_silence():
    torch._dynamo.config.recompile_limit = NUM_BLOCKS
    with Compilations() as seen:
        run(lambda blocks: blocks.model.compile(backend="eager"))
    assert seen.count == NUM_BLOCKS


@pytest.mark.parametrize("how", HOW)
def test_a_reached_limit_is_an_error_that_says_what_to_set(how):
    def lowered(blocks):
        HOW[how](blocks, backend="eager")
        torch._dynamo.config.recompile_limit = 5

    remedy = r"limit of 5 compilations in .*Set torch._dynamo.config.recompile_limit to 10 or more"
    with pytest.raises(RecompileLimitError, match=remedy):
        run(lowered)


def test_the_other_limit_of_torch_is_named_too():
    def lowered(blocks):
        compile_model(blocks, backend="eager")
        torch._dynamo.config.accumulated_recompile_limit = 3

    with pytest.raises(RecompileLimitError, match=r"Set .*\.accumulated_recompile_limit to 6 or"):
        run(lowered)


@pytest.mark.parametrize("how", HOW)
def test_limits_are_never_lowered(how):
    torch._dynamo.config.recompile_limit = 1000
    assert HOW[how](partition(Net(), batch()), backend="eager").recompile_limit == 1000
    assert torch._dynamo.config.accumulated_recompile_limit == 1000


def test_other_shapes_are_allowed_for():
    with Compilations() as seen:
        run(
            lambda blocks: compile_blocks(blocks, backend="eager"),
            batch_at=lambda step: batch(3 + step % 2),
        )
    assert NUM_BLOCKS < seen.count <= 2 * 3 * 2 * NUM_BLOCKS


def test_what_stays_eager_is_told():
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=4, num_classes=4)
    blocks = partition(model, torch.zeros(2, 3, 32, 32))
    compiled = compile_blocks(blocks, backend="eager")
    assert {"blocks.0", "blocks.1"} <= set(compiled.modules)
    eager = {name for names in compiled.eager.values() for name in names}
    assert {"cls_token", "pos_embed", "head.weight", "norm.weight"} <= eager
    inside = {
        name
        for name, _ in model.named_parameters()
        if any(name.startswith(f"{module}.") for module in compiled.modules)
    }
    assert eager | inside == {name for name, _ in model.named_parameters()}
    assert not eager & inside


def test_a_model_of_single_layers_is_to_be_compiled_whole():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"Sequential has no block with a module.*compile_model"):
        compile_blocks(partition(model, torch.zeros(2, 2)))


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Linear(2, 2)
        self.two = nn.Linear(2, 2)

    def forward(self, x):
        return self.two(self.one(x).relu())


class Through(nn.Module):
    """Calls parts of its blocks, and never the blocks."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"pair": Pair(), "rest": nn.Linear(2, 2)}) for _ in range(4)
        )
        self.method = Pair()

    def forward(self, x):
        for block in self.blocks:
            x = block["rest"](block["pair"](x))
        return Pair.forward(self.method, x)


class Namespace(Pair):
    """Has a forward, but the model asks its parts."""

    def __init__(self):
        super().__init__()
        self.pair = Pair()


class ThroughNamespaces(Through):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Namespace() for _ in range(4))

    def forward(self, x):
        for block in self.blocks:
            x = block.one(block.pair(x))
        return Pair.forward(self.method, x)


@pytest.mark.parametrize("build", [Through, ThroughNamespaces])
def test_modules_that_the_model_never_calls_are_not_compiled(build):
    model, x = build(), torch.zeros(2, 2)
    blocks = partition(model, x)
    compiled = compile_blocks(blocks, backend="eager")
    assert compiled.modules == tuple(f"blocks.{i}.pair" for i in range(4))
    eager = {name for names in compiled.eager.values() for name in names}
    assert {"method.one.weight", "method.two.bias"} <= eager
    with Compilations() as seen:
        model(x)
    assert seen.count > 0


def test_a_forward_that_was_replaced_is_compiled_too():
    model = nn.Sequential(*(Pair() for _ in range(4)))
    model[1].forward = functools.partial(Pair.forward, model[1])
    x = torch.randn(2, 2)
    expected = model(x)
    compiled = compile_blocks(partition(model, x), backend="eager")
    assert compiled.modules == ("0", "1", "2", "3")
    torch.testing.assert_close(model(x), expected)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:FutureWarning")
def test_scripted_modules_stay_eager():
    model = nn.Sequential(torch.jit.script(Pair()), Pair(), Pair(), Pair())
    compiled = compile_blocks(partition(model, torch.zeros(2, 2)), backend="eager")
    assert compiled.modules == ("1", "2", "3")
    assert "0.one.weight" in {name for names in compiled.eager.values() for name in names}


def test_frozen_norms_hold_still_where_a_module_around_the_model_is_compiled():
    class Outer(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return self.inner(x)

    model = Net()
    freezer = Freezer(partition(model, batch()))
    call = torch.compile(Outer(model), backend="eager", fullgraph=True)
    for level in (0, 2):
        freezer.set_level(level)
        for _ in range(2):
            model.train()
            before = [norm.running_mean.clone() for norm in norms(model)]
            call(batch()).sum().backward()
            held = [
                torch.equal(b, norm.running_mean)
                for b, norm in zip(before, norms(model), strict=True)
            ]
            assert held == [index < level for index in range(NUM_BLOCKS)]


def norms(model):
    return [layer.norm for layer in model.layers]


def test_names_and_copies_of_the_model_know_nothing_of_it():
    model = Net()
    names = list(model.state_dict())
    compile_model(partition(model, batch()), backend="eager")
    assert list(model.state_dict()) == names
    with Compilations() as seen:
        copy.deepcopy(model)(batch())
    assert seen.count == 0


def test_compilations_are_booked_by_level():
    model = Net()
    blocks = partition(model, batch())
    compile_model(blocks, backend="aot_eager")
    freezer = Freezer(blocks)
    with Compilations(freezer) as seen:
        for level in (0, 2):
            freezer.set_level(level)
            model(batch()).sum().backward()
    of_0, of_1, of_2 = (seen.at_level(level) for level in range(3))
    assert of_0[0] + of_2[0] == seen.count
    assert of_2[0] == seen.recompiled == 1
    assert of_1 == (0, 0)
    assert 0 < of_0[1] < seen.seconds
    assert str(seen).startswith(f"{seen.count} compilations (1 of them again) in ")
    assert str(seen).endswith(" 0 graph breaks")


def test_compilations_count_graph_breaks():
    @torch.compile(backend="eager")
    def broken(x):
        x = x + 1
        torch._dynamo.graph_break()
        return x + 1

    with Compilations() as seen:
        broken(torch.ones(1))
    assert seen.graph_breaks == 1


def test_a_reset_ends_the_count():
    with Compilations() as seen:
        torch.compiler.reset()
        torch.compile(torch.relu, backend="eager")(torch.ones(1))
    assert seen.count == 0


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning"
)  # inductor of torch 2.11 uses what that deprecates
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
def test_inductor_trains_the_active_blocks_as_eager_does():
    gradients = []
    for compile_ in (lambda _: None, compile_blocks):
        model = Net(2)
        blocks = partition(model, batch())
        compile_(blocks)
        Freezer(blocks).set_level(1)
        model(batch()).square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    assert gradients[0][0] is None
    torch.testing.assert_close(gradients[1], gradients[0])


def test_a_scheduler_that_is_made_later_freezes_the_compiled_model():
    model = Net()
    blocks = partition(model, batch())
    compile_model(blocks, backend="aot_eager")
    model(batch()).sum().backward()
    optimizer = torch.optim.SGD(blocks.param_groups(), lr=0.1)
    scheduler = FreezeOutLR(optimizer, blocks, total_steps=4, t_0=0.1)
    optimizer.step()
    for _ in range(3):
        scheduler.step()
    model.train()
    before = [b.clone() for b in blocks[0].modules[0].buffers()]
    model(batch()).sum().backward()
    assert scheduler.level > 0
    assert all(map(torch.equal, before, blocks[0].modules[0].buffers()))


def test_the_documented_example_runs(capsys):
    names = {}
    exec(compile(example("compile"), "docs/training.md", "exec"), names)
    assert names["scheduler"].level > 0
    assert names["seen"].recompiled > 0
    assert "compilations" in capsys.readouterr().out
