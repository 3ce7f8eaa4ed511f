"""Computes shards: decoding ahead in threads, the model beside it, the disk behind it.

    decode threads    recording -> waveform -> the model's input of each of its pieces
    compute threads   a batch of inputs -> states -> what is stored of them
    this thread       pieces -> their places in the shard's file, in a fixed order
    commit thread     fsync and rename of a finished shard, while the next one is computed

On a CPU each compute thread uses one core: utterances side by side cost no padding and little waiting, and the bits
of a state depend on neither the number of cores nor what runs beside it. On CUDA two threads with a stream each keep
the device computing while the other's states are on their way to the host.
"""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from extract.batches import naming, prepare, run_batch
from extract.plan import Block
from mser.cores import torch_threads, usable_cores
from mser.errors import DiskError, MserError
from mser.store import Packed, Provenance, ShardRow, ShardWriter
from mser.upstream import Prepared, Upstream

CUDA_THREADS, DECODE_THREADS = 2, 4
#: Shards that may fail before it is taken that all would.
MOST_FAILURES = 10
#: Told utterances and seconds of audio that were computed since it was last told.
Advance = Callable[[int, float], None]


@dataclass(frozen=True)
class Job:
    """What every worker must know; plain values, so that it can be sent."""

    corpus_folder: Path
    store_folder: Path
    provenance: Provenance


@dataclass
class Outcome:
    """What came of a job's shards.

    Attributes:
        utterances, seconds: on the disk now, of audio.
        failures: of shards that could not be computed; the others are complete.
        halved: batches that did not fit into the device's memory and were run in parts.
    """

    utterances: int = 0
    seconds: float = 0.0
    failures: list[MserError] = field(default_factory=list)
    halved: int = 0

    def add(self, other: Outcome) -> None:
        self.utterances += other.utterances
        self.seconds += other.seconds
        self.failures += other.failures
        self.halved += other.halved


def compute_shards(
    job: Job,
    upstream: Upstream,
    blocks: Sequence[Block],
    advance: Advance = lambda utterances, seconds: None,
    threads: int = 0,
) -> Outcome:
    """Computes and writes the shards of ``blocks``, in their order.

    A shard that fails is left out and told of in the outcome; the others go on.

    Args:
        threads: that compute; 0 takes one a core on a CPU, two on CUDA.

    Raises:
        DiskError: no further shard can be written. Shards that are complete stay.
    """
    threads = threads or (CUDA_THREADS if upstream.device.type == "cuda" else usable_cores())
    run = _Run(job, upstream, advance)
    # The compute threads are as many as there are cores.
    with torch_threads(1), _Pools(threads) as pools:
        try:
            for block in blocks:
                run.compute(block, pools, most=2 * threads + 2)
                if len(run.outcome.failures) >= MOST_FAILURES:
                    break
            run.finish(pools)
        except BaseException:
            with uninterrupted():
                run.discard()
            raise
    return run.outcome


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits until the block has ended.

    Python raises it between any two instructions of the main thread: between a file's making and its being known to
    whoever removes it, or in a function that HDF5 called, which swallows it.
    """
    # Only the main thread may set handlers, and only it is interrupted; whoever has one of his own knows better.
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    came: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if came:
            raise KeyboardInterrupt


class _Pools:
    """The threads; left at an error or interrupt, they finish what they are at and nothing more."""

    def __init__(self, threads: int) -> None:
        self.compute = ThreadPoolExecutor(threads, "compute", initializer=torch.set_num_threads, initargs=(1,))
        decoding = min(DECODE_THREADS, usable_cores())
        self.decode = ThreadPoolExecutor(decoding, "decode", initializer=torch.set_num_threads, initargs=(1,))
        self.commit = ThreadPoolExecutor(1, "commit")

    def __enter__(self) -> _Pools:
        return self

    def __exit__(self, *error: object) -> None:
        for pool in (self.decode, self.compute):
            pool.shutdown(wait=True, cancel_futures=True)
        self.commit.shutdown(wait=True)


@dataclass
class _Shard:
    """A shard on its way: what is left to come of it."""

    block: Block
    writer: ShardWriter | None
    batches: int
    failed: bool = False


@dataclass(frozen=True)
class _Batch:
    """Pieces (row, number of the piece) of a shard that are run together, and what becomes of them."""

    shard: _Shard
    members: tuple[tuple[int, int], ...]
    packed: Future[tuple[list[Packed], int]]


class _Run:
    """The shards and batches on their way, and what has come of them."""

    def __init__(self, job: Job, upstream: Upstream, advance: Advance) -> None:
        self.job, self.upstream, self.advance = job, upstream, advance
        self.flying: deque[_Batch] = deque()
        self.committing: deque[tuple[Block, Future[Path]]] = deque()
        self.outcome = Outcome()

    def compute(self, block: Block, pools: _Pools, most: int) -> None:
        """Sends a shard's batches on their way, ``most`` at a time, in the order in which they are to be written."""
        pieces = block.pieces
        members = [(row, number) for row, parts in enumerate(pieces) for number in range(len(parts))]
        batches = self.upstream.batches([pieces[row][number].num_samples for row, number in members])
        shard = _Shard(block, None, len(batches))
        inputs: dict[int, Future[list[Prepared]]] = {}
        for batch in batches:
            while len(self.flying) >= most:
                self._take(pools)
            if shard.failed:
                break
            chosen = tuple(members[index] for index in batch)
            for row in {row for row, _ in chosen} - set(inputs):
                folder = self.job.corpus_folder
                inputs[row] = pools.decode.submit(prepare, folder, self.upstream, block.rows[row], pieces[row])
            kept = [pieces[row][number] for row, number in chosen]
            ready = [(block.rows[row], inputs[row], number) for row, number in chosen]
            packed = pools.compute.submit(run_batch, self.upstream, ready, kept, self.job.provenance)
            self.flying.append(_Batch(shard, chosen, packed))
            for row, number in chosen:
                if number == len(pieces[row]) - 1:
                    del inputs[row]  # so that memory holds what is on its way, not the shard

    def finish(self, pools: _Pools) -> None:
        """Waits for everything that is on its way."""
        while self.flying:
            self._take(pools)
        self._settle()

    def discard(self) -> None:
        """Leaves nothing half written."""
        for batch in self.flying:
            if batch.shard.writer is not None:
                batch.shard.writer.discard()

    def _take(self, pools: _Pools) -> None:
        """Waits for the oldest batch and writes it; a shard's last one sends the shard to the disk."""
        wait([self.flying[0].packed])
        with uninterrupted():
            self._write(self.flying[0], pools)
        self._settle(most=1)

    def _write(self, batch: _Batch, pools: _Pools) -> None:
        shard, rows = batch.shard, [batch.shard.block.rows[row] for row, _ in batch.members]
        try:
            packed, halved = batch.packed.result()
            self.outcome.halved += halved
            if not shard.failed:
                self._put(shard, batch.members, packed)
        except DiskError:
            raise
        except MserError as error:
            if not shard.failed:
                self.outcome.failures.append(naming(rows, error))
            shard.failed = True
            if shard.writer is not None:
                shard.writer.discard()
        self.flying.popleft()
        shard.batches -= 1
        pieces = shard.block.pieces
        ended = [shard.block.rows[row] for row, number in batch.members if number == len(pieces[row]) - 1]
        self.advance(len(ended), sum(row.seconds for row in ended))
        if not shard.batches and not shard.failed:
            assert shard.writer is not None
            self.committing.append((shard.block, pools.commit.submit(shard.writer.commit)))

    def _put(self, shard: _Shard, members: Sequence[tuple[int, int]], packed: Sequence[Packed]) -> None:
        if shard.writer is None:
            rows = [
                ShardRow(row.utterance_id, row.sha256, count)
                for row, count in zip(shard.block.rows, shard.block.frame_counts, strict=True)
            ]
            shard.writer = ShardWriter(self.job.store_folder, self.job.provenance, rows)
        for (row, _), piece in zip(members, packed, strict=True):
            shard.writer.put(row, piece)

    def _settle(self, most: int = 0) -> None:
        """Waits until no more than ``most`` shards are on their way to the disk."""
        while len(self.committing) > most:
            block, path = self.committing.popleft()
            try:
                path.result()
            except DiskError:
                raise
            except MserError as error:
                self.outcome.failures.append(error)
            else:
                self.outcome.utterances += len(block.rows)
                self.outcome.seconds += block.seconds
