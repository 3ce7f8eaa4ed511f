"""Independent blocks of work, side by side in processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

import torch

from mser.cores import torch_threads, usable_cores
from mser.errors import ConfigError


def default_workers() -> int:
    """A process a core: the models are too small to gain by threads."""
    return usable_cores()


@dataclass(frozen=True)
class Placing:
    """Where blocks run.

    Attributes:
        workers: processes on this machine; 1: this one. scheduler: of a Dask cluster whose workers see the same
            workspace; None: this machine.
    """

    workers: int = 1
    scheduler: str | None = None


def run_blocks(
    function: Callable[..., Any],
    blocks: Sequence[tuple[Any, ...]],
    placing: Placing,
    advance: Callable[[int, int], None],
) -> None:
    """Calls ``function(*block)`` for every block; each keeps its own results on disk.

    The first error stops the blocks that have not begun; finished ones stay. An interrupt does the same.
    """
    advance(0, len(blocks))
    if not blocks:
        return
    if placing.scheduler:
        _on_cluster(function, blocks, placing.scheduler, advance)
    elif placing.workers <= 1 or len(blocks) == 1:
        with torch_threads():
            for done, block in enumerate(blocks, start=1):
                _call(function, *block)
                advance(done, len(blocks))
    else:
        _in_processes(function, blocks, placing.workers, advance)


def _in_processes(
    function: Callable[..., Any], blocks: Sequence[tuple[Any, ...]], workers: int, advance: Callable[[int, int], None]
) -> None:
    # Spawned, not forked: a fork would share open HDF5 files and thread pools.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(blocks)), mp_context=context, initializer=_begin) as pool:
        futures = [pool.submit(_call, function, *block) for block in blocks]
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


def _on_cluster(
    function: Callable[..., Any], blocks: Sequence[tuple[Any, ...]], scheduler: str, advance: Callable[[int, int], None]
) -> None:
    import distributed

    try:
        client = distributed.Client(scheduler, timeout="10s", set_as_default=False)
    except (OSError, ValueError) as error:
        raise ConfigError(
            "The Dask scheduler does not answer.",
            field="SCHEDULER",
            expected="an address such as tcp://host:8786",
            found=scheduler,
            hint="start one with `dask scheduler`, and workers with `dask worker` in the same environment",
        ) from error
    with client:
        # A block that dies with its worker is begun again elsewhere by the scheduler: results are written whole or not.
        futures = [client.submit(_call, function, *block, pure=False) for block in blocks]
        try:
            for done, future in enumerate(distributed.as_completed(futures, loop=client.loop), start=1):
                future.result()
                advance(done, len(blocks))
        except BaseException:
            client.cancel(futures, force=True)
            raise


def _call(function: Callable[..., Any], *block: Any) -> None:
    """Runs a block on one thread: sums over several differ in their last bits, and a block may run anywhere."""
    torch.set_num_threads(1)
    function(*block)


def _begin() -> None:
    # An interrupt reaches the whole process group; the parent ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent ends nobody: without this, workers would go on with blocks that nobody waits for."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
