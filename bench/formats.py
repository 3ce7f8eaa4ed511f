"""The ways of keeping states on disk that :mod:`bench.store` compares, each as it is commonly used."""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import h5py
import lhotse.features.io
import numpy as np
import pyarrow
import torch
from torch import Tensor

from mser.store import Packed, Provenance, ShardRow, ShardWriter, Store, open_or_create, pack

PAGE_BYTES = 4096


@dataclass(frozen=True)
class Data:
    """What is written: utterances cut from one block of noise, so that memory holds it once.

    Attributes:
        counts: frames of each utterance.
        shards: the utterances of each shard, by their numbers.
        source: float32, flat. half: the same in float16.
        starts: of each utterance in ``source``.
        provenance: of the store.
    """

    counts: list[int]
    shards: list[list[int]]
    source: Tensor
    half: Tensor
    starts: list[int]
    provenance: Provenance

    def shape(self, number: int) -> tuple[int, int, int]:
        return self.provenance.layers, self.counts[number], self.provenance.dim

    def states(self, number: int) -> Tensor:
        """(L, T, D) float32, as a model gives them."""
        return self._cut(self.source, number)

    def frames(self, number: int) -> Tensor:
        """(L, T, D) float16, as they are stored."""
        return self._cut(self.half, number)

    def _cut(self, flat: Tensor, number: int) -> Tensor:
        shape, start = self.shape(number), self.starts[number]
        return flat[start : start + shape[0] * shape[1] * shape[2]].view(shape)

    @property
    def megabytes(self) -> float:
        """Of float16 states, without a format around them."""
        return sum(self.counts) * self.provenance.layers * self.provenance.dim * 2 / 1e6

    def first(self, shards: int) -> Data:
        """The data of the first shards alone."""
        last = self.shards[shards - 1][-1] + 1
        return Data(self.counts[:last], self.shards[:shards], self.source, self.half, self.starts, self.provenance)


def aligned(size: int) -> np.ndarray:
    """A buffer of bytes that begins on a page, with its pages in memory."""
    raw = np.zeros(size + PAGE_BYTES, dtype=np.uint8)
    start = -raw.ctypes.data % PAGE_BYTES
    return raw[start : start + size]


class Format(ABC):
    """One way of keeping the data.

    Attributes:
        buffer: float16, flat, aligned: where reads of mapped files end.
    """

    name: str

    def __init__(self, data: Data, folder: Path) -> None:
        self.data, self.folder = data, folder
        self.keys = [f"utterance-{number:06}" for number in range(len(data.counts))]
        self.buffer = aligned(2 * max(math.prod(data.shape(number)) for number in range(len(data.counts)))).view(
            np.float16
        )

    @abstractmethod
    def write(self) -> None:
        """Writes everything into the folder, which is empty."""

    def open(self) -> None:  # noqa: B027 - most need no opening
        """Opens what was written, for reading."""

    @abstractmethod
    def read(self, number: int, layers: slice) -> np.ndarray:
        """(L, T, D) of an utterance, in memory."""

    def _copied(self, view: np.ndarray) -> np.ndarray:
        target = self.buffer[: view.size].reshape(view.shape)
        np.copyto(target, view)
        return target


class Mser(Format):
    """The project's store.

    Args:
        cast: write from float32 states, else from what :func:`mser.store.pack` made of them before.
        threads: that pack ahead, beside one that completes shards, as :mod:`extract.compute` does; 0: one by one.
    """

    name = "mser"

    def __init__(self, data: Data, folder: Path, cast: bool = True, threads: int = 0) -> None:
        super().__init__(data, folder)
        self.threads = threads
        self.packed: dict[int, Packed] = {}
        if not cast:
            self.packed = {number: self._pack(number) for number in range(len(data.counts))}

    def write(self) -> None:
        open_or_create(self.folder, self.data.provenance)
        if self.threads:
            self._write_in_threads()
            return
        for numbers in self.data.shards:
            writer = self._writer(numbers)
            for row, number in enumerate(numbers):
                writer.put(row, self.packed.get(number) or self._pack(number))
            writer.commit()

    def _write_in_threads(self) -> None:
        committed: list[Future[Path]] = []
        with (
            ThreadPoolExecutor(1) as last,
            ThreadPoolExecutor(self.threads, initializer=torch.set_num_threads, initargs=(1,)) as pool,
        ):
            ahead = [pool.submit(self._pack, number) for number in range(2 * self.threads)]
            for numbers in self.data.shards:
                writer = self._writer(numbers)
                for row, number in enumerate(numbers):
                    if number + len(ahead) < len(self.data.counts):
                        ahead.append(pool.submit(self._pack, number + len(ahead)))
                    writer.put(row, ahead.pop(0).result())
                committed.append(last.submit(writer.commit))
        for one in committed:
            one.result()

    def _pack(self, number: int) -> Packed:
        return pack(self.data.states(number), self.data.provenance)

    def _writer(self, numbers: Sequence[int]) -> ShardWriter:
        rows = [ShardRow(self.keys[number], "0" * 64, self.data.counts[number]) for number in numbers]
        return ShardWriter(self.folder, self.data.provenance, rows)

    def open(self) -> None:
        self.store = Store(self.folder)

    def read(self, number: int, layers: slice) -> np.ndarray:
        return self._copied(self.store.frames(self.keys[number], layers))


class Flat(Format):
    """The bytes alone, a file a shard, mapped."""

    name = "flat files, mapped"

    def __init__(self, data: Data, folder: Path, fsync: bool = True) -> None:
        super().__init__(data, folder)
        self.fsync = fsync

    def write(self) -> None:
        for shard, numbers in enumerate(self.data.shards):
            with open(self.folder / f"{shard}.bin", "wb", buffering=0) as file:
                for number in numbers:
                    file.write(self.data.frames(number).numpy().data.cast("B"))
                if self.fsync:
                    os.fsync(file.fileno())

    def open(self) -> None:
        self.places: dict[int, np.ndarray] = {}
        for shard, numbers in enumerate(self.data.shards):
            mapped, start = np.memmap(self.folder / f"{shard}.bin", dtype=np.float16, mode="r"), 0
            for number in numbers:
                shape = self.data.shape(number)
                size = shape[0] * shape[1] * shape[2]
                self.places[number] = np.asarray(mapped)[start : start + size].reshape(shape)
                start += size

    def read(self, number: int, layers: slice) -> np.ndarray:
        return self._copied(self.places[number][layers])


class Npy(Format):
    """A file an utterance by ``np.save``, read by ``np.load``."""

    name = "npy an utterance"

    def __init__(self, data: Data, folder: Path, fsync: bool = False) -> None:
        super().__init__(data, folder)
        self.fsync = fsync

    def write(self) -> None:
        for number in range(len(self.data.counts)):
            with open(self.folder / f"{self.keys[number]}.npy", "wb") as file:
                np.save(file, self.data.frames(number).numpy())
                if self.fsync:
                    file.flush()
                    os.fsync(file.fileno())

    def read(self, number: int, layers: slice) -> np.ndarray:
        return np.load(self.folder / f"{self.keys[number]}.npy")[layers]


class LhotseHdf5(Format):
    """lhotse: one HDF5 file, one dataset an utterance."""

    name = "lhotse NumpyHdf5"

    def write(self) -> None:
        with lhotse.features.io.NumpyHdf5Writer(self.folder / "states") as writer:
            for number in range(len(self.data.counts)):
                writer.write(self.keys[number], self.data.frames(number).numpy())

    def open(self) -> None:
        self.reader = lhotse.features.io.NumpyHdf5Reader(self.folder / "states.h5")

    def read(self, number: int, layers: slice) -> np.ndarray:
        return self.reader.read(self.keys[number], layers.start or 0, layers.stop)


class LhotseFiles(Format):
    """lhotse: a numpy file an utterance."""

    name = "lhotse NumpyFiles"

    def write(self) -> None:
        with lhotse.features.io.NumpyFilesWriter(self.folder) as writer:
            self.files = [writer.write(key, self.data.frames(number).numpy()) for number, key in enumerate(self.keys)]

    def open(self) -> None:
        self.reader = lhotse.features.io.NumpyFilesReader(self.folder)

    def read(self, number: int, layers: slice) -> np.ndarray:
        return self.reader.read(self.files[number], layers.start or 0, layers.stop)


class Arrow(Format):
    """An Arrow IPC file, mapped: a row an utterance, a record batch a shard, states as large_binary."""

    name = "Arrow large_binary, mapped"
    schema = pyarrow.schema([("utterance_id", pyarrow.string()), ("states", pyarrow.large_binary())])

    def write(self) -> None:
        with (
            pyarrow.OSFile(str(self.folder / "states.arrow"), "wb") as file,
            pyarrow.ipc.new_file(file, self.schema) as writer,
        ):
            for numbers in self.data.shards:
                values = [self.data.frames(number).numpy().data.cast("B") for number in numbers]
                columns = [
                    pyarrow.array([self.keys[number] for number in numbers]),
                    pyarrow.array(values, pyarrow.large_binary()),
                ]
                writer.write_batch(pyarrow.record_batch(columns, schema=self.schema))

    def open(self) -> None:
        with pyarrow.memory_map(str(self.folder / "states.arrow")) as file:
            column = pyarrow.ipc.open_file(file).read_all()["states"]
        self.places: list[np.ndarray] = []
        # A value taken out of a column is a copy; a slice of the buffer beneath is not.
        for chunk in column.chunks:
            _, offsets, content = chunk.buffers()
            flat = np.frombuffer(content, dtype=np.float16)
            ends = np.frombuffer(offsets, dtype=np.int64)[: len(chunk) + 1] // 2
            for start, end in pairwise(ends.tolist()):
                self.places.append(flat[start:end].reshape(self.data.shape(len(self.places))))

    def read(self, number: int, layers: slice) -> np.ndarray:
        return self._copied(self.places[number][layers])


class H5pyAuto(Format):
    """h5py as it comes: all frames joined in one dataset of each shard, chunks and cache left to it."""

    name = "h5py, chunks=True"

    def write(self) -> None:
        self.places: dict[int, tuple[int, int]] = {}
        for shard, numbers in enumerate(self.data.shards):
            frames = [self.data.counts[number] for number in numbers]
            with h5py.File(self.folder / f"{shard}.h5", "w") as file:
                layers, _, dim = self.data.shape(0)
                made = file.create_dataset("states", (layers, sum(frames), dim), "f2", chunks=True)
                for number, end in zip(numbers, np.cumsum(frames).tolist(), strict=True):
                    self.places[number] = shard, end
                    made[:, end - self.data.counts[number] : end] = self.data.frames(number).numpy()

    def open(self) -> None:
        self.files = [h5py.File(self.folder / f"{shard}.h5", "r") for shard in range(len(self.data.shards))]

    def read(self, number: int, layers: slice) -> np.ndarray:
        shard, end = self.places[number]
        return self.files[shard]["states"][layers, end - self.data.counts[number] : end]


class H5pyOfShards(Format):
    """The project's own shards, read by h5py's slices with its defaults; written by :class:`Mser`."""

    name = "h5py on mser's shards"

    def write(self) -> None:
        raise NotImplementedError

    def open(self) -> None:
        store = Store(self.folder)
        self.files = [h5py.File(shard.path, "r")["states"] for shard in store.shards]
        self.places = {
            key: (number, *map(int, shard.offsets[row : row + 2]))
            for number, shard in enumerate(store.shards)
            for row, key in enumerate(shard.utterance_ids)
        }

    def read(self, number: int, layers: slice) -> np.ndarray:
        shard, start, end = self.places[self.keys[number]]
        return self.files[shard][layers, start:end]


def disk_bytes(folder: Path) -> int:
    """Bytes of all files in a folder and below."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
