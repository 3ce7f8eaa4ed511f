"""Where the states of utterances lie: in memory-mapped stores, or in memory.

N utterances, L layers, T frames, D features.
"""

from __future__ import annotations

import math
import mmap
import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from mser.manifest import Utterance
from mser.store import Store

#: Memory is handed out, and files are mapped, in pages of at least this many bytes.
PAGE_BYTES = 4096


class Source(Protocol):
    """The states of N utterances."""

    def read(self, row: int) -> Tensor:
        """(L, T, D) float16 or float32; never to be written to, and valid until the next read of this thread."""
        ...

    def ahead(self, rows: Sequence[int]) -> None:
        """Has the system begin to read these rows from the disk; returns at once."""
        ...

    def sequence(self) -> list[int]:
        """All rows, as they lie on the disk."""
        ...

    def place(self, row: int) -> tuple[str, str]:
        """Folder and utterance, for messages."""
        ...


class StoredFrames:
    """Frames in memory-mapped stores, averaged down by a whole factor when read.

    Args:
        stores: of each corpus of the utterances.
        factor: frames that one average is taken over; 1: frames as they are stored.
    """

    def __init__(self, stores: Mapping[str, Store], utterances: Sequence[Utterance], factor: int) -> None:
        self.stores, self.utterances, self.factor = stores, utterances, factor
        self._scratch = Scratch()
        self._mappings: dict[tuple[str, int], tuple[mmap.mmap, int] | None] = {}

    def read(self, row: int) -> Tensor:
        utterance = self.utterances[row]
        frames = self.stores[utterance.corpus].frames(utterance.utterance_id)
        if frames.flags.writeable:
            states = torch.from_numpy(frames)
        else:
            # A tensor must not write through to the mapped file, so it gets a copy; in order, as the disk likes it.
            states = self._scratch.view(frames.shape, getattr(torch, frames.dtype.name))
            np.copyto(states.numpy(), frames)
        return states if self.factor == 1 else reduced(states.float(), self.factor)

    def ahead(self, rows: Sequence[int]) -> None:
        if not hasattr(mmap, "MADV_WILLNEED"):
            return
        for row in rows:
            corpus, number, place = self._places[row]
            shard = self.stores[corpus].shards[number]
            if (corpus, number) not in self._mappings:
                self._mappings[corpus, number] = mapping_of(shard.states)
            mapped = self._mappings[corpus, number]
            if mapped is None:
                continue
            states = shard.states[:, int(shard.offsets[place]) : int(shard.offsets[place + 1])]
            begin, length = states.ctypes.data - mapped[1], states[0].nbytes
            for first in range(begin, begin + len(states) * states.strides[0], states.strides[0]):
                start = first // mmap.PAGESIZE * mmap.PAGESIZE
                mapped[0].madvise(mmap.MADV_WILLNEED, start, first + length - start)

    def sequence(self) -> list[int]:
        return sorted(range(len(self.utterances)), key=self._places.__getitem__)

    def place(self, row: int) -> tuple[str, str]:
        utterance = self.utterances[row]
        return str(self.stores[utterance.corpus].folder), utterance.utterance_id

    @cached_property
    def _places(self) -> list[tuple[str, int, int]]:
        """Of each row: corpus, number of the shard, place in it."""
        found = {
            (corpus, key): (corpus, number, place)
            for corpus, store in self.stores.items()
            for number, shard in enumerate(store.shards)
            for place, key in enumerate(shard.utterance_ids)
        }
        return [found[row.corpus, row.utterance_id] for row in self.utterances]


class HeldStates:
    """States that lie in memory, in the very layout of a cache.

    Attributes:
        packed: (sum T + 1, L, D), the frames of all utterances joined, and one of zeros.
        offsets: N + 1 numbers: row n has the frames offsets[n]:offsets[n + 1].
    """

    def __init__(self, packed: Tensor, offsets: Sequence[int], places: Sequence[tuple[str, str]]) -> None:
        self.packed, self.offsets, self._places = packed, offsets, places

    @classmethod
    def of(cls, states: Sequence[Tensor] | Tensor, places: Sequence[tuple[str, str]]) -> HeldStates:
        """Of states (L, T, D), float32 if one of them is; ``places``: folder and utterance of each."""
        offsets = np.cumsum([0, *(x.shape[1] for x in states)]).tolist()
        dtype = torch.float16 if {x.dtype for x in states} == {torch.float16} else torch.float32
        layers, _, dim = states[0].shape
        packed = empty((offsets[-1] + 1, layers, dim), dtype)
        for x, (start, end) in zip(states, pairwise(offsets), strict=True):
            packed[start:end] = x.transpose(0, 1)
        packed[-1] = 0
        return cls(packed, offsets, places)

    def holding(self, source: Source) -> HeldStates:
        """As many states of the same shapes and dtype, taken from ``source``."""
        packed = empty(tuple(self.packed.shape), self.packed.dtype)
        for row, (start, end) in enumerate(pairwise(self.offsets)):
            packed[start:end] = source.read(row).transpose(0, 1)
        packed[-1] = 0
        return HeldStates(packed, self.offsets, self._places)

    def read(self, row: int) -> Tensor:
        return self.packed[self.offsets[row] : self.offsets[row + 1]].transpose(0, 1)

    def ahead(self, rows: Sequence[int]) -> None:
        pass

    def sequence(self) -> list[int]:
        return list(range(len(self.offsets) - 1))

    def place(self, row: int) -> tuple[str, str]:
        return self._places[row]


class Grouped:
    """States less their group's shift, times its scale.

    Args:
        members: the group of each row. shift, scale: (groups, L, D) float32.
    """

    def __init__(self, source: Source, members: Sequence[int], shift: Tensor, scale: Tensor) -> None:
        self.source, self.members = source, members
        self.shift, self.scale = shift[:, :, None], scale[:, :, None]

    def read(self, row: int) -> Tensor:
        member = self.members[row]
        return (self.source.read(row) - self.shift[member]).mul_(self.scale[member])

    def ahead(self, rows: Sequence[int]) -> None:
        self.source.ahead(rows)

    def sequence(self) -> list[int]:
        return self.source.sequence()

    def place(self, row: int) -> tuple[str, str]:
        return self.source.place(row)


class Scratch(threading.local):
    """A buffer that each thread has for itself; every use overwrites the last."""

    def __init__(self) -> None:
        self._flat = empty((0,), torch.uint8)

    def view(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """The buffer in this shape, made larger where it does not fit; its values are anything."""
        size = math.prod(shape) * dtype.itemsize
        if len(self._flat) < size:
            self._flat = empty((size,), torch.uint8)
        return self._flat[:size].view(dtype).view(shape)


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A tensor in memory that begins on a page: some processors copy to other places several times slower."""
    size = math.prod(shape) * dtype.itemsize
    # A tensor made while predicting could not be written to while training.
    with torch.inference_mode(False):
        raw = torch.empty(size + PAGE_BYTES, dtype=torch.uint8)
        start = -raw.data_ptr() % PAGE_BYTES
        return raw[start : start + size].view(dtype).view(shape)


def all_finite(values: Tensor) -> bool:
    """Whether no value is NaN or infinite: ``isfinite().all()`` takes ten times as long or more."""
    if not values.numel():
        return True
    if values.dtype == torch.float16:
        # Sums of float16 are slow; the extremes are NaN where a value is.
        low, high = values.aminmax()
        return math.isfinite(low.item()) and math.isfinite(high.item())
    if math.isfinite(values.sum().item()):
        return True
    # Large values may have overflown in the sum alone.
    return bool(values.isfinite().all())


def mapping_of(states: np.ndarray) -> tuple[mmap.mmap, int] | None:
    """The mapped file beneath an array, and its address in memory; None where the array was read into memory."""
    owner: object = states
    while owner is not None and not isinstance(owner, mmap.mmap):
        owner = owner.obj if isinstance(owner, memoryview) else getattr(owner, "base", None)
    return None if owner is None else (owner, np.frombuffer(owner, dtype=np.uint8).ctypes.data)


def reduced(states: Tensor, factor: int) -> Tensor:
    """Averages runs of ``factor`` frames, the last run over what is left: (L, T, D) -> (L, ceil(T/factor), D)."""
    layers, frames, dim = states.shape
    whole = frames // factor
    parts = states[:, : whole * factor].reshape(layers, whole, factor, dim).mean(2)
    if whole * factor == frames:
        return parts
    return torch.cat([parts, states[:, whole * factor :].mean(1, keepdim=True)], dim=1)
