"""The cores of this machine, how many of them one operation of torch takes, and how exactly a device computes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def usable_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def exact_on(device: torch.device) -> None:
    """On CUDA, cuDNN computes float32 in float32, and the same each time.

    By default it rounds the factors of convolutions and recurrent units to 10 bits (TF32), a thousandth of the value,
    and takes whichever algorithm is fastest, whose sums may differ from run to run.
    """
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.deterministic = True


@contextmanager
def torch_threads(count: int | None = None) -> Iterator[None]:
    """Torch's operations take ``count`` threads in the block, and as many as before behind it, whatever ran in it.

    Sums over several threads have other last bits than over one, and numba (below UMAP) gives OpenMP as many threads
    as there are cores without a word; so whatever may change the number is wrapped, with ``None`` to leave it as it is.
    """
    before = torch.get_num_threads()
    try:
        if count is not None:
            torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)
