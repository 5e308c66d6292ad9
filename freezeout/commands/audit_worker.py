"""`python -m freezeout.commands.audit_worker`: a process of `audit --catalog`; see `freezeout.catalog.worker`."""

import sys
from typing import Any

COMMAND = (sys.executable, "-m", "freezeout.commands.audit_worker")


def main() -> None:
    """Audit what the standard input asks for, until it ends."""
    from freezeout.catalog.worker import prepare, serve

    requests, answers = prepare()
    import torch

    from freezeout.catalog.row import model_row
    from freezeout.commands.choices import models_package

    torch.set_num_threads(1)  # a process a core does more than threads do for shapes without data
    models = models_package()

    def create(name: str, device: str) -> Any:
        return models.create(name, device=device)

    serve(lambda name, baseline: model_row(create, name, baseline=baseline), requests, answers)


if __name__ == "__main__":
    main()
