"""How well a run does on the images it does not train on."""

import torch
from torch.nn import functional

from freezeout.numerics import autocast
from freezeout.train.batches import eval_batches
from freezeout.train.run import Run
from freezeout.train.sources import Split
from freezeout.train.step import count_wrong, logits_of, memory_format


def is_due(run: Run, epoch: int) -> bool:
    """Whether to evaluate after `epoch`: after every `eval_every`-th one and after the last."""
    return run.data.eval is not None and (epoch % run.config.eval_every == 0 or epoch == run.epochs)


@torch.no_grad()
def evaluate(run: Run, held: Split) -> tuple[float, float]:
    """Mean cross entropy and error in % on `held`: of the moving average where there is one, without smoothing."""
    module = run.average if run.average is not None else run.module
    module.eval()
    total = torch.zeros((), dtype=torch.float64, device=run.data.device)
    wrong = torch.zeros((), dtype=torch.int64, device=run.data.device)
    for images, labels in eval_batches(run.data, held, run.config.eval_batch_size):
        images = images.contiguous(memory_format=memory_format(run.config))
        with autocast(run.config.dtype, run.data.device):
            logits = logits_of(module, images, run.data.num_classes)
            total += functional.cross_entropy(logits, labels, reduction="sum")
        wrong += count_wrong(logits, labels)
    return float(total) / len(held), 100 * int(wrong) / len(held)
