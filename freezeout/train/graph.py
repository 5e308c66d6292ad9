"""A piece of device work that is captured once and replayed: a CUDA graph."""

from collections.abc import Callable
from typing import Protocol

import torch

WARM_UPS = 3
"""Times that work is done before it is captured: kernels are loaded and chosen then, which cannot be captured."""


class Graph(Protocol):
    """Captures one piece of work at a time."""

    def warm_up(self, work: Callable[[], None]) -> None:
        """Do the work a few times, for what happens only the first times."""
        ...

    def capture(self, work: Callable[[], None]) -> None:
        """Remember the work in the place of what was captured before, without doing it."""
        ...

    def replay(self) -> None:
        """Do the work that was captured, on the tensors of then and with what they hold now."""
        ...


class CudaGraph:
    """A CUDA graph.

    Its memory is given back before other work is captured, so that two graphs never need theirs at once.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._graph: torch.cuda.CUDAGraph | None = None
        # The same for warm-up and capture, so that cuBLAS has its workspace for it before, outside the graph's pool.
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def warm_up(self, work: Callable[[], None]) -> None:
        """Do the work on the stream of the capture, as a capture needs it (autograd stays on its forward's stream)."""
        self._release()
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            for _ in range(WARM_UPS):
                work()
        torch.cuda.current_stream(self._device).wait_stream(self._stream)

    def capture(self, work: Callable[[], None]) -> None:
        """Capture the work; see `Graph`."""
        self._release()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            work()
        self._graph = graph

    def replay(self) -> None:
        """Queue the captured work on the current stream."""
        assert self._graph is not None, "replayed before anything was captured"
        self._graph.replay()

    def _release(self) -> None:
        if self._graph is not None:
            torch.cuda.synchronize(self._device)  # its last replay must be over
            self._graph.reset()
            self._graph = None
