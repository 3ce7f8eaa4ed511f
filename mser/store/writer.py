"""Writes a shard piece by piece: memory holds a piece, never a shard; the shard is whole or absent."""

from __future__ import annotations

import errno
import os
import socket
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from mser.errors import DiskError, StoreError
from mser.store.image import Image
from mser.store.layout import (
    HEAD,
    ITEM_BYTES,
    PAGE_BYTES,
    PARTIAL,
    PREFIX,
    SUFFIX,
    Digest,
    head_sha256,
    padded_frames,
    shard_path,
)
from mser.store.pack import Packed, merge, pack
from mser.store.provenance import SCHEMA_VERSION, Provenance


@dataclass(frozen=True)
class ShardRow:
    """An utterance of a shard that is to be written: T frames, in one or several pieces."""

    utterance_id: str
    audio_sha256: str
    num_frames: int


class ShardWriter:
    """A shard on its way: ``put`` each piece, then ``commit``; ``discard`` leaves nothing.

    The file is laid out at the start; pieces go straight to their places. Pieces of an utterance come in order,
    those of different utterances in any. What HDF5 writes waits in memory until the commit.
    """

    def __init__(self, folder: Path, provenance: Provenance, rows: Sequence[ShardRow]) -> None:
        """Lays out the file under a partial name.

        Raises:
            DiskError: the disk is full, or the folder cannot be written to.
        """
        self.provenance, self.rows = provenance, list(rows)
        self.path = shard_path(folder, [(row.utterance_id, row.audio_sha256) for row in rows])
        # No two writers share a name: a forgotten task and its successor may be threads of one Dask worker.
        own = f"{socket.gethostname()}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
        self._partial = folder / f".{self.path.name}.{own}{PARTIAL}"
        self._offsets = np.concatenate([[0], np.cumsum([row.num_frames for row in rows])]).astype(np.int64)
        self._done = [0] * len(rows)
        self._pooled: list[list[tuple[int, Tensor]]] = [[] for _ in rows]
        self._scales: list[list[tuple[int, Tensor]]] = [[] for _ in rows]
        self._digests = [Digest(provenance.layers if "frames" in provenance.keep else 0) for _ in rows]
        self._places: list[int] = []
        self._file = -1
        self._image = Image()
        options = {"alignment_threshold": 1, "alignment_interval": PAGE_BYTES} if "frames" in provenance.keep else {}
        with h5py.File(self._image, "w", libver="v110", **options) as file:
            if "frames" in provenance.keep:
                self._places = _lay_out(file, provenance, int(self._offsets[-1]))
        with self._telling():
            self._file = os.open(self._partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)

    def put(self, row: int, piece: Packed) -> None:
        """Writes the next frames of an utterance.

        Raises:
            StoreError: a layer is not finite in the store's dtype.
            DiskError: the disk is full. Nothing of the shard is kept in either case.
        """
        key, start = self.rows[row].utterance_id, int(self._offsets[row]) + self._done[row]
        try:
            refuse_non_finite(piece, self.provenance, key)
            if start + piece.count > self._offsets[row + 1]:
                raise StoreError(
                    f"{key} has more frames than were promised.", expected=self.rows[row].num_frames, found=piece.count
                )
        except StoreError:
            self.discard()
            raise
        if piece.frames is not None:
            frames = piece.frames.numpy()
            with self._telling():
                for place, layer in zip(self._places, frames, strict=True):
                    _write_at(self._file, layer, place + start * layer[0].nbytes)
            self._digests[row].add(frames)
        if piece.pooled is not None:
            self._pooled[row].append((piece.count, piece.pooled))
        if piece.scale is not None:
            self._scales[row].append((piece.count, piece.scale))
        self._done[row] += piece.count

    def commit(self) -> Path:
        """Completes the file, has it on the disk, and gives it its name.

        Raises:
            StoreError: an utterance lacks frames.
            DiskError: the disk is full. Nothing of the shard is kept in either case.
        """
        lacking = [row.utterance_id for row, done in zip(self.rows, self._done, strict=True) if done != row.num_frames]
        if lacking:
            self.discard()
            raise StoreError("A shard lacks frames.", file=self.path, found=", ".join(lacking[:3]))
        with self._telling():
            with h5py.File(self._image, "r+", libver="v110") as file:
                self._write_head(file)
            for place, content in self._image.written():
                _write_at(self._file, content, place)
            os.ftruncate(self._file, self._image.size)
            os.fsync(self._file)
            self._close()
            self._partial.replace(self.path)
            sync_folder(self.path.parent)
        return self.path

    def discard(self) -> None:
        """Removes what was written; may be called at any time, and more than once."""
        # What cannot be removed, on a disk that is read-only by now, the next extraction sweeps away.
        with suppress(OSError):
            self._close()
        with suppress(OSError):
            self._partial.unlink()

    def _close(self) -> None:
        # Forgotten first: closed twice, the number could be another thread's file by then.
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def _write_head(self, file: h5py.File) -> None:
        file.attrs["schema_version"] = SCHEMA_VERSION
        file.attrs["provenance"] = self.provenance.fingerprint
        head: dict[str, np.ndarray] = {
            "offsets": self._offsets,
            "utterance_id": np.array([row.utterance_id.encode() for row in self.rows], dtype=object),
            "audio_sha256": np.array([row.audio_sha256 for row in self.rows], dtype="S64"),
            "states_xxh3": np.array([one.hex() for one in self._digests], dtype="S32"),
        }
        if "pooled" in self.provenance.keep:
            merged = [merge(*map(list, zip(*pieces, strict=True))) for pieces in self._pooled]
            head["pooled"] = torch.stack(merged).numpy()
        if self._scales[0]:
            pieces = [piece for row in self._scales for piece in row]
            head["scale"] = torch.stack([scale for _, scale in pieces]).numpy()
            head["piece_offsets"] = np.concatenate([[0], np.cumsum([count for count, _ in pieces])]).astype(np.int64)
        for name in HEAD:
            if name == "utterance_id":
                file.create_dataset(name, data=head[name], dtype=h5py.string_dtype())
            elif name in head:
                file[name] = head[name]
        file.attrs["head_sha256"] = head_sha256((name, head[name]) for name in HEAD if name in head)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Turns failures of the disk into a message, and leaves nothing half written behind."""
        try:
            yield
        except OSError as error:
            self.discard()
            full = error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
            raise DiskError(
                "The disk is full; shards written so far are kept." if full else "A shard could not be written.",
                file=self.path.parent,
                found=error.strerror or error,
                hint="make room (`mser-extract plan` tells how much is needed), then run the same command again"
                if full
                else "check the folder, then run the same command again",
            ) from error
        except BaseException:
            self.discard()
            raise


def refuse_non_finite(piece: Packed, provenance: Provenance, utterance_id: str) -> None:
    """Raises StoreError naming the utterance and the layer where a state cannot be stored."""
    # A cast keeps the order, so a layer overflows where its largest value does.
    half = provenance.dtype == "float16" and piece.frames is not None
    broken = (~(piece.largest.half() if half else piece.largest).isfinite()).nonzero()
    if len(broken):
        index = int(broken[0])
        raise StoreError(
            f"States of {utterance_id} are not finite in the store's dtype; the shard was not written.",
            field=f"layer {provenance.layer_numbers[index]}",
            expected=f"finite {provenance.dtype}",
            found=f"largest absolute value {float(piece.largest[index]):g}",
            hint="extract with DTYPE=float32 (overflow of float16), and with COMPUTE=float32 if it was another",
        )


@dataclass(frozen=True)
class ShardEntry:
    """The states of one utterance, all of the upstream's layers: (L, T, D) float32."""

    utterance_id: str
    audio_sha256: str
    states: Tensor


def write_shard(folder: Path, provenance: Provenance, entries: Sequence[ShardEntry]) -> Path:
    """Writes utterances whose states are all at hand, at least one.

    Raises:
        StoreError: as :class:`ShardWriter`; or states of another shape than the store's. Nothing is written.
    """
    packed = []
    for entry in entries:
        try:
            packed.append(pack(entry.states, provenance))
        except StoreError as error:
            raise StoreError(
                f"The states of {entry.utterance_id} have another shape than the store's.",
                expected=error.expected,
                found=error.found,
            ) from error
    rows = [
        ShardRow(entry.utterance_id, entry.audio_sha256, piece.count)
        for entry, piece in zip(entries, packed, strict=True)
    ]
    writer = ShardWriter(folder, provenance, rows)
    for row, piece in enumerate(packed):
        writer.put(row, piece)
    return writer.commit()


def sweep(folder: Path) -> int:
    """Removes what interrupted extractions left half written; the caller holds the store's lock. Returns how many."""
    left = list(folder.glob(f".{PREFIX}*{SUFFIX}.*{PARTIAL}"))
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)


def sync_folder(folder: Path) -> None:
    """Has the names in a folder on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lay_out(file: h5py.File, provenance: Provenance, frames: int) -> list[int]:
    """Makes room for ``states`` in a file and returns where each layer begins, in bytes."""
    dtype = np.dtype(provenance.dtype)
    assert dtype.itemsize == ITEM_BYTES[provenance.dtype]
    shape = (provenance.layers, padded_frames(frames, provenance), provenance.dim)
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_chunk((1, *shape[1:]))
    settings.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    settings.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    settings.set_obj_track_times(False)
    made = h5py.h5d.create(file.id, b"states", h5py.h5t.py_create(dtype), h5py.h5s.create_simple(shape), settings)
    return [made.get_chunk_info_by_coord((layer, 0, 0)).byte_offset for layer in range(shape[0])]


def _write_at(descriptor: int, values: np.ndarray, place: int) -> None:
    """Writes all of an array at a place of a file."""
    content = np.ascontiguousarray(values).data.cast("B")
    while content:
        written = os.pwrite(descriptor, content, place)
        content, place = content[written:], place + written
