"""A progress bar over a time budget, where somebody can see it."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec


@contextmanager
def progress_bar(*, shown: bool) -> Iterator[Callable[[str, float], None]]:
    """Yield a function that takes what is being done and the share of the budget that is spent.

    Without a terminal, without tqdm or with `shown` off it shows nothing.
    """
    if not (shown and sys.stderr.isatty() and find_spec("tqdm")):
        yield lambda _what, _share: None
        return
    from tqdm import tqdm

    form = "{desc} |{bar}| {percentage:3.0f} % [{elapsed} spent, {remaining} left at most]"
    with tqdm(total=1.0, bar_format=form, leave=False) as bar:

        def update(what: str, share: float) -> None:
            bar.set_description_str(what, refresh=False)
            bar.update(max(0.0, min(share, 1.0) - bar.n))

        yield update
