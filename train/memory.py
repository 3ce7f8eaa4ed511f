"""What to do where a device's memory is too small."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch

from mser.errors import RunError
from mser.loader import Loader

Result = TypeVar("Result")


def with_less_memory(work: Callable[[], Result], loaders: Iterable[Loader]) -> Result:
    """What ``work`` returns; where the device's memory is too small for it, states are moved off the device.

    They go language by language, until there is room.

    Args:
        work: begins anew whenever it is called, with the same result in every placement of the states.

    Raises:
        RunError: it does not fit with the smallest placement either.
    """
    held = list(loaders)
    while True:
        try:
            return work()
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            if not any(loader.fall() for loader in held):
                raise RunError(
                    "The device's memory is too small for one training.",
                    field="DEVICE",
                    found=str(error).partition(". ")[0],
                    hint="give a smaller batch_size with SET, or DEVICE=cpu",
                ) from error
