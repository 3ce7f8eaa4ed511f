"""Batches made by a thread ahead of whoever uses them, in a few buffers that go round."""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from mser.sources import empty

#: One in use, one that is ready, one that is being filled.
BUFFERS = 3

Made = TypeVar("Made")


class Buffers:
    """Host memory for one batch, reused from batch to batch: fresh large buffers cost more in page faults than a copy.

    Args:
        pinned: for copies to a CUDA device that run beside the program.

    Attributes:
        copied: recorded behind the last copy out of these buffers; None where there was none.
    """

    def __init__(self, pinned: bool = False) -> None:
        self.pinned = pinned
        self.copied: torch.cuda.Event | None = None
        self._flat: dict[tuple[int, torch.dtype], Tensor] = {}

    def view(self, number: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """The buffer of expert ``number`` in this shape, made larger where it does not fit; its values are anything."""
        size = math.prod(shape)
        flat = self._flat.get((number, dtype))
        if flat is None or len(flat) < size:
            self._flat.pop((number, dtype), None)
            # A tensor made while predicting could not be written to while training.
            with torch.inference_mode(False):
                flat = torch.empty(size, dtype=dtype, pin_memory=True) if self.pinned else empty((size,), dtype)
            self._flat[number, dtype] = flat
        return flat[:size].view(shape)

    def wait(self) -> None:
        """Waits until the buffers may be overwritten."""
        if self.copied is not None:
            self.copied.synchronize()


def prefetched(
    make: Callable[[Buffers, int], Made], count: int, buffers: Sequence[Buffers]
) -> Iterator[tuple[Buffers, Made]]:
    """Yields ``make(one of the buffers, number)`` for each number below ``count``, in order, made ahead by a thread.

    What was yielded is valid until the next is asked for. An error of ``make`` is raised in its turn. Ends the thread
    when it is done, closed or left.
    """
    free: queue.SimpleQueue[Buffers | None] = queue.SimpleQueue()
    ready: queue.SimpleQueue[tuple[Buffers, Made] | BaseException] = queue.SimpleQueue()
    for one in buffers:
        free.put(one)

    def run() -> None:
        try:
            for number in range(count):
                own = free.get()
                if own is None or ended.is_set():
                    return
                ready.put((own, make(own, number)))
        except BaseException as error:
            ready.put(error)

    ended = threading.Event()
    thread = threading.Thread(target=run, name="mser-prefetch", daemon=True)
    thread.start()
    try:
        for _ in range(count):
            found = ready.get()
            if isinstance(found, BaseException):
                raise found
            yield found
            free.put(found[0])
    finally:
        ended.set()
        free.put(None)
        thread.join()
