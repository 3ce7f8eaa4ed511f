"""What an extraction will do, before it does it: shards, frames, bytes, seconds."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mser.audio import resampled_length
from mser.errors import DiskError
from mser.manifest import Utterance
from mser.store import Provenance, pack
from mser.store.layout import shard_bytes
from mser.upstream import Prepared, Upstream
from mser.upstream.windows import Piece, pieces_of

#: A shard is closed at this many frames, or seconds of audio where frames are few: large enough to write at disk
#: speed, small enough to lose little work.
SHARD_FRAMES, SHARD_SECONDS = 8_000, 320.0
#: Free bytes an extraction leaves on the disk.
SPARE_BYTES = 256 << 20
#: How often a sample is repeated to fill batches on CUDA.
CUDA_ROUNDS = 16


@dataclass(frozen=True)
class Block:
    """The utterances of one shard, the longest first.

    Attributes:
        rows: of the manifest.
        pieces: of each row, what is run at once.
    """

    rows: tuple[Utterance, ...]
    pieces: tuple[tuple[Piece, ...], ...]

    @property
    def frame_counts(self) -> list[int]:
        return [sum(piece.frames for piece in row) for row in self.pieces]

    @property
    def seconds(self) -> float:
        return sum(row.seconds for row in self.rows)

    def bytes(self, provenance: Provenance) -> int:
        """Size of the shard's file."""
        ids = sum(len(row.utterance_id.encode()) for row in self.rows)
        return shard_bytes(self.frame_counts, sum(map(len, self.pieces)), ids, provenance)


@dataclass(frozen=True)
class Plan:
    """The shards an extraction will write, and the utterances it cannot use.

    Attributes:
        unfit: utterances too short for a frame of this upstream, or too long while windows are off.
    """

    blocks: tuple[Block, ...]
    unfit: tuple[Utterance, ...]

    @property
    def utterances(self) -> int:
        return sum(len(block.rows) for block in self.blocks)

    @property
    def seconds(self) -> float:
        """Of audio."""
        return sum(block.seconds for block in self.blocks)

    @property
    def frames(self) -> int:
        return sum(sum(block.frame_counts) for block in self.blocks)

    def bytes(self, provenance: Provenance) -> int:
        """Of all the shards' files."""
        return sum(block.bytes(provenance) for block in self.blocks)


def make_plan(utterances: Sequence[Utterance], upstream: Upstream, window: float, overlap: float) -> Plan:
    """Parts utterances into shards, the longest first, so that what is run together is about equally long.

    A shard depends on the utterances from its first on, and on nothing before it. So what is left when whole shards
    are done, in whatever order, is parted as it would have been: a run that was stopped goes on to the same shards.
    """
    fitting: list[tuple[int, str, Utterance, tuple[Piece, ...]]] = []
    unfit = []
    for row in utterances:
        length = resampled_length(row.num_samples, row.sample_rate, upstream.info.sample_rate)
        pieces = pieces_of(length, upstream, window, overlap)
        if pieces:
            fitting.append((-length, row.utterance_id, row, pieces))
        else:
            unfit.append(row)
    fitting.sort(key=lambda item: item[:2])
    blocks, start, frames, seconds = [], 0, 0, 0.0
    for end, (_, _, row, pieces) in enumerate(fitting, start=1):
        frames += sum(piece.frames for piece in pieces)
        seconds += row.seconds
        if frames >= SHARD_FRAMES or seconds >= SHARD_SECONDS or end == len(fitting):
            part = fitting[start:end]
            blocks.append(Block(tuple(item[2] for item in part), tuple(item[3] for item in part)))
            start, frames, seconds = end, 0, 0.0
    return Plan(tuple(blocks), tuple(unfit))


def require_room(needed: int, folder: Path) -> None:
    """Raises DiskError where the disk of ``folder`` cannot hold ``needed`` bytes more."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(there).free
    if needed > 0 and needed + SPARE_BYTES > free:
        raise DiskError(
            "The disk cannot hold what is to be extracted.",
            file=folder,
            expected=f"{(needed + SPARE_BYTES) / 1e9:.3f} GB free, of which {SPARE_BYTES / 1e9:.3f} GB stay free",
            found=f"{free / 1e9:.3f} GB free",
            hint="make room, choose another MSER_HOME, or keep less: LAYERS=..., FRAMES=0 (pooled alone), DTYPE=int8",
        )


def choose_sample(plan: Plan, count: int) -> list[tuple[Utterance, tuple[Piece, ...]]]:
    """``count`` utterances from the longest to the shortest, evenly."""
    every = [pair for block in plan.blocks for pair in zip(block.rows, block.pieces, strict=True)]
    places = np.unique(np.linspace(0, len(every) - 1, num=min(count, len(every))).round().astype(int))
    return [every[place] for place in places]


def measured_seconds(
    plan: Plan, upstream: Upstream, provenance: Provenance, sample: Sequence[Tensor], threads: int, workers: int = 1
) -> float:
    """How long the plan takes, from what ``sample`` takes under the same load.

    On a CPU each of ``threads`` runs utterances on one core, as the extraction will: their times give a line through
    length and time (Whisper's is flat). On CUDA a few batches give seconds of audio a second.

    Args:
        sample: waveforms (num_samples,) at the upstream's rate, of different lengths, none longer than a window.
        workers: processes or devices that share the work.
    """
    if not plan.blocks or not sample:
        return 0.0
    pieces = [piece for block in plan.blocks for row in block.pieces for piece in row]
    seconds = sum(piece.num_samples for piece in pieces) / upstream.info.sample_rate
    if upstream.device.type == "cuda":
        many = [upstream.prepare(waveform) for waveform in sample] * CUDA_ROUNDS
        batches = upstream.batches([one.num_samples for one in many])
        _timed(upstream, provenance, [many[index] for index in batches[0]])
        spent = sum(_timed(upstream, provenance, [many[index] for index in batch])[1] for batch in batches)
        heard = sum(one.num_samples for one in many) / upstream.info.sample_rate
        # Whisper pads each window to the same length, the others a batch to its longest.
        share = len(pieces) / len(many) if upstream.longest is not None else seconds / heard
        return spent * share / workers
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:

        def timed(waveform: Tensor) -> tuple[float, float]:
            # On a CPU the input is made by the same cores, and may be all there is to compute.
            began = time.perf_counter()
            length, _ = _timed(upstream, provenance, [upstream.prepare(waveform)])
            return length, time.perf_counter() - began

        list(pool.map(timed, sample[:threads]))  # warms up
        found = list(pool.map(timed, [*sample, *sample]))
    fixed, slope = _line(*np.array(found).T)
    return (fixed * len(pieces) + slope * seconds) / threads / workers


def _timed(upstream: Upstream, provenance: Provenance, batch: Sequence[Prepared]) -> tuple[float, float]:
    """Seconds of audio of a batch, and seconds until what is stored of it lies on the CPU."""
    began = time.perf_counter()
    for states in upstream.run(batch):
        pack(states, provenance).cpu()
    if upstream.device.type == "cuda":
        torch.cuda.synchronize(upstream.device)
    return sum(one.num_samples for one in batch) / upstream.info.sample_rate, time.perf_counter() - began


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Offset and slope, neither below 0, of least squares on relative errors."""
    columns = np.stack([np.ones_like(x), x], axis=1) / y[:, None]
    if len(x) > 1 and np.ptp(x) > 0:
        fixed, slope = np.linalg.lstsq(columns, np.ones_like(y), rcond=None)[0]
        if fixed >= 0 and slope >= 0:
            return float(fixed), float(slope)
        if slope < 0:
            return float(y.mean()), 0.0
    return 0.0, float(y.sum() / x.sum())
