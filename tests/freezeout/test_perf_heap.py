import platform
import resource

import pytest
import torch

from freezeout.perf.heap import keep_heap


def page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def test_only_glibc_is_told_to_keep_its_heap(monkeypatch):
    assert keep_heap() == (platform.libc_ver()[0] == "glibc")
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not keep_heap()


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="another allocator keeps its own rules"
)
def test_memory_that_was_freed_is_used_again_without_page_faults():
    keep_heap()
    for _ in range(8):  # the heap takes a few rounds to settle
        torch.ones(
            2**20
        )  # 4 MiB: handed back at once by default, and 1024 page faults the next time
    before = page_faults()
    for _ in range(8):
        torch.ones(2**20)
    assert page_faults() - before < 8 * 1024 / 2
