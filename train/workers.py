"""Independent blocks of work, side by side in processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

import torch


def default_workers() -> int:
    """A process a core: the models are too small to gain by threads."""
    return os.cpu_count() or 1


def run_blocks(
    function: Callable[..., Any], blocks: Sequence[tuple[Any, ...]], workers: int, advance: Callable[[int, int], None]
) -> None:
    """Calls ``function(*block)`` for every block; each keeps its own results on disk.

    The first error stops the blocks that have not begun; finished ones stay. An interrupt does the same.
    """
    advance(0, len(blocks))
    if workers <= 1 or len(blocks) <= 1:
        for done, block in enumerate(blocks, start=1):
            function(*block)
            advance(done, len(blocks))
        return
    # Spawned, not forked: a fork would share open HDF5 files and thread pools.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(blocks)), mp_context=context, initializer=_begin) as pool:
        futures = [pool.submit(function, *block) for block in blocks]
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                future.result()
                advance(done, len(blocks))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            # Blocks that have begun write their results whole or not at all, so they need not be waited for.
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise


def _begin() -> None:
    torch.set_num_threads(1)
    # An interrupt reaches the whole process group; the parent ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
