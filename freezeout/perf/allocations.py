"""How often this process has asked for memory: a training loop at rest should not."""

import resource

import torch


def allocations(device: torch.device) -> int:
    """Requests so far: of the driver on a GPU (calls of cudaMalloc and its kin), of the system on a CPU (page faults).

    What torch's caching allocator or the heap gives again out of its own store is none.
    """
    if device.type == "cuda":
        return int(torch.cuda.memory_stats(device)["num_device_alloc"])
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
