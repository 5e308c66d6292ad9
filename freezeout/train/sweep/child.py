"""`python -m freezeout.train.sweep.child ARGUMENTS`: `python -m freezeout ARGUMENTS` that ends when its parent does.

On Linux the kernel kills it when the sweep that started it is gone, by whatever end: nothing is lost, since a training
is resumed from its last checkpoint. Elsewhere it goes on, and the lock on its folder keeps a second one out of it.
"""

import os
import runpy

from freezeout.children import end_with_parent

if __name__ == "__main__":
    end_with_parent(int(os.environ["FREEZEOUT_SWEEP"]))
    runpy.run_module("freezeout", run_name="__main__", alter_sys=True)
