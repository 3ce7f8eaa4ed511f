"""Where states are kept while heads are trained: on the accelerator, in memory, or in the store alone.

B batch, T frames, L layers, D features. Padded batches are (B, T, L, D): frame by frame, so that a frame of all layers
is one run of memory, in the cache and in the batch.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mser.errors import ConfigError, MserError
from mser.experts import Expert
from mser.sources import HeldStates, empty

#: By kind of device, the fastest first; when memory runs out, the next one is taken.
PLACEMENTS = {"cpu": ("memory", "streamed"), "cuda": ("device", "pinned", "streamed")}
#: Of the free memory of a device and of the host that a cache may take: the rest is for models, and for others.
DEVICE_SHARE, HOST_SHARE = 0.6, 0.5
#: Utterances that the disk is asked for at a time, while a cache is filled.
AHEAD_ROWS = 32


class Packed:
    """The states of all utterances, their frames joined.

    Attributes:
        frames: (sum T + 1, L, D) in the expert's dtype, the last frame zero: padding is a gather of it.
        offsets: (N,) int64, where each utterance begins; on the host.
    """

    def __init__(self, expert: Expert, device: torch.device) -> None:
        """Reads every utterance.

        Raises:
            StoreError: a state, or a moment, is not finite; names folder and utterance.
        """
        expert.require_finite()
        lengths = expert.frames.numpy()
        self.offsets = np.cumsum(lengths) - lengths
        if isinstance(expert.source, HeldStates):
            self.frames = expert.source.packed.to(device)
            return
        shape = (int(lengths.sum()) + 1, expert.layers, expert.dim)
        with torch.inference_mode(False):
            self.frames = (
                empty(shape, expert.dtype)
                if device.type == "cpu"
                else torch.empty(shape, dtype=expert.dtype, device=device)
            )
            self.frames[-1] = 0
            self._read(expert, lengths)

    def _read(self, expert: Expert, lengths: np.ndarray) -> None:
        cuda = self.frames.is_cuda
        stage = torch.empty(
            (int(lengths.max()), *self.frames.shape[1:]) if cuda else 0, dtype=expert.dtype, pin_memory=cuda
        )
        sequence = expert.source.sequence()
        for number, row in enumerate(sequence):
            if number % AHEAD_ROWS == 0:
                expert.source.ahead(sequence[number : number + 2 * AHEAD_ROWS])
            target = self.frames[self.offsets[row] : self.offsets[row] + lengths[row]]
            if not cuda:
                expert.read_into(row, target)
                continue
            expert.read_into(row, stage[: lengths[row]])
            target.copy_(stage[: lengths[row]])

    def gathered(self, offsets: Tensor, lengths: Tensor, longest: int) -> Tensor:
        """A new padded batch (B, longest, L, D) float32, where the cache lies; waits for nothing.

        Args:
            offsets, lengths: (B,) int64 on the same device.
        """
        place = torch.arange(longest, device=offsets.device)
        index = torch.where(place < lengths[:, None], offsets[:, None] + place, len(self.frames) - 1)
        frames = self.frames.flatten(1).index_select(0, index.flatten()).float()
        return frames.view(len(lengths), longest, *self.frames.shape[1:])

    def fill(self, rows: np.ndarray, lengths: np.ndarray, target: Tensor) -> None:
        """Writes a padded batch into ``target`` (B, T, L, D) on the host, of the cache's dtype or float32."""
        offsets, longest = self.offsets[rows], target.shape[1]
        if target.dtype == self.frames.dtype:
            place = np.arange(longest)
            index = np.where(place < lengths[:, None], offsets[:, None] + place, len(self.frames) - 1).ravel()
            flat = target.view(len(index), target.shape[2] * target.shape[3])
            torch.index_select(self.frames.flatten(1), 0, torch.from_numpy(index), out=flat)
            return
        # A gather cannot cast; a cast after it would go through memory twice, this goes once.
        for own, offset, length in zip(target, offsets.tolist(), lengths.tolist(), strict=True):
            own[:length] = self.frames[offset : offset + length]
            own[length:] = 0

    def ahead(self, rows: np.ndarray) -> None:
        """Nothing: the states are there."""


class Streamed:
    """The states of an expert, read from its source whenever they are asked for; with the interface of a cache."""

    def __init__(self, expert: Expert) -> None:
        self.expert = expert

    def fill(self, rows: np.ndarray, lengths: np.ndarray, target: Tensor) -> None:
        """As :meth:`Packed.fill`; raises StoreError where a state is not finite."""
        for own, row, length in zip(target, rows.tolist(), lengths.tolist(), strict=True):
            self.expert.read_into(row, own[:length])
            own[length:] = 0

    def ahead(self, rows: np.ndarray) -> None:
        """Has the disk begin to read these rows."""
        self.expert.source.ahead(rows.tolist())


def caches(experts: Sequence[Expert], placement: str, device: torch.device) -> list[Packed | Streamed]:
    """Of each expert; what lies in memory already is not streamed."""
    if placement == "device":
        return [Packed(expert, device) for expert in experts]
    host = torch.device("cpu")
    return [
        Packed(expert, host) if placement != "streamed" or isinstance(expert.source, HeldStates) else Streamed(expert)
        for expert in experts
    ]


def cache_bytes(experts: Sequence[Expert], held: bool = True) -> int:
    """Bytes of the experts' caches; without those that lie in memory already where ``held`` is false."""
    return sum(
        (int(expert.frames.sum()) + 1) * expert.layers * expert.dim * expert.dtype.itemsize
        for expert in experts
        if held or not isinstance(expert.source, HeldStates)
    )


def choose(experts: Sequence[Expert], device: torch.device, wanted: str) -> str:
    """The placement: ``wanted``, or by the free memory where that is ``auto``.

    Raises:
        ConfigError: there is no such placement for the device.
    """
    possible = PLACEMENTS.get(device.type, ())
    if wanted != "auto":
        if wanted not in possible:
            raise ConfigError(
                f"States cannot be placed so for the device {device}.",
                field="placement",
                expected=", ".join(("auto", *possible)),
                found=wanted,
            )
        return wanted
    if not possible:
        raise ConfigError("No such device to train on.", field="DEVICE", expected="cpu, cuda", found=device)
    if device.type == "cuda" and cache_bytes(experts) <= DEVICE_SHARE * free_on(device):
        return "device"
    fits = cache_bytes(experts, held=False) <= HOST_SHARE * available_memory()
    return possible[-2] if fits else "streamed"


def smaller(placement: str, device: torch.device) -> str | None:
    """The placement that takes less memory than this one, or None."""
    possible = PLACEMENTS[device.type]
    return dict(pairwise(possible)).get(placement)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that there was no more memory, of a device, pinned, or of the host."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # Of the host's allocators torch raises plain errors.
    text = str(error)
    plain = isinstance(error, RuntimeError) and not isinstance(error, MserError)
    return plain and ("can't allocate memory" in text or "out of memory" in text)


def free_on(device: torch.device) -> int:
    """Bytes free on a CUDA device, with those that torch has reserved and does not use."""
    reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + reserved


def available_memory(system: Path = Path("/")) -> int:
    """Bytes of memory that can be had without swapping: of the machine, and of the control group the process is in.

    Where the system does not tell, half of what it has.

    Args:
        system: the folder that ``proc`` and ``sys`` are in.
    """
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2]
    meminfo = _numbers(system / "proc/meminfo")
    if "MemAvailable:" in meminfo:
        found = [1024 * meminfo["MemAvailable:"]]
    try:
        lines = (system / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return found[0]
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    root = system / "sys/fs/cgroup"
    for group in (root / own.strip("/"), *(root / own.strip("/")).parents):
        if not group.is_relative_to(root):
            break
        try:
            limit = int((group / "memory.max").read_text())
            used = int((group / "memory.current").read_text())
        except (OSError, ValueError):  # no limit, or none in this group
            continue
        # Pages of files count as used, and are given up when memory is wanted.
        found.append(limit - used + _numbers(group / "memory.stat").get("inactive_file", 0))
    return max(0, min(found))


def _numbers(path: Path) -> dict[str, int]:
    """First word -> second, of each line of a file of the system; empty where there is none."""
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return {}
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}
