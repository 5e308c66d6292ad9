"""The exponential moving average of a model's weights."""

from collections import defaultdict

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class MovingAverage(AveragedModel):
    """A copy of a model, in eval mode, with the moving average of its parameters and the latest of its buffers.

    It averages as torch's `AveragedModel` does, starting from the weights after the first step. That one asks the
    device for its counter at every update; this one counts on the host, so that no step waits for the device.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Copy `model`; make the average before a scheduler hooks into the model, whose hook would be copied too.

        Args:
            model: whose parameters are averaged, those of frozen blocks included.
            decay: share of the average that an update keeps, in (0, 1).
        """
        self._average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        super().__init__(model, multi_avg_fn=self._average)
        self.n_averaged = self.n_averaged.cpu()
        self.requires_grad_(requires_grad=False)
        self.eval()

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Take the present weights of `model` into the average; call it once after every optimizer step."""
        here, there = _parameters(self.module), _parameters(model)
        if self.n_averaged == 0:
            torch._foreach_copy_(here, there)
        else:
            self._average(here, there, self.n_averaged)
        for mine, theirs in _by_dtype([*self.module.buffers()], [*model.buffers()]):
            torch._foreach_copy_(mine, theirs)
        self.n_averaged += 1


def _parameters(model: nn.Module) -> list[Tensor]:
    return [parameter.detach() for parameter in model.parameters()]


def _by_dtype(mine: list[Tensor], theirs: list[Tensor]) -> list[tuple[list[Tensor], list[Tensor]]]:
    """Pairs of lists of one dtype each: a list of several would be copied tensor by tensor."""
    found: defaultdict[torch.dtype, tuple[list[Tensor], list[Tensor]]]
    found = defaultdict(lambda: ([], []))
    for one, other in zip(mine, theirs, strict=True):
        pair = found[one.dtype]
        pair[0].append(one)
        pair[1].append(other)
    return [*found.values()]
