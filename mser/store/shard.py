"""One shard: the states of a few dozen utterances in one immutable HDF5 file.

    states       (L, n_pad, D)   float16 or float32, one chunk a layer, frames joined
    offsets      (N + 1,)        int64: utterance i has the frames offsets[i]:offsets[i + 1]
    pooled       (N, L, S, D)    float32: mean and standard deviation over frames
    utterance_id (N,)  audio_sha256 (N,)

The chunks are uncompressed, page-aligned and a whole number of pages long, so they
lie at even distances in the file and a memory map reads them without HDF5.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from mser.errors import StoreError
from mser.store.provenance import SCHEMA_VERSION, Provenance

PAGE_BYTES = 4096
PREFIX, SUFFIX = "shard-", ".h5"


@dataclass(frozen=True)
class ShardEntry:
    """The states of one utterance on their way into a shard: (L, T, D) float32."""

    utterance_id: str
    audio_sha256: str
    states: Tensor


def shard_path(folder: Path, entries: Sequence[tuple[str, str]]) -> Path:
    """Where a shard of these (utterance_id, audio_sha256) lies: its name tells its content."""
    text = "\n".join(f"{key} {sha}" for key, sha in entries)
    return folder / f"{PREFIX}{hashlib.sha256(text.encode()).hexdigest()[:12]}{SUFFIX}"


def write_shard(folder: Path, provenance: Provenance, entries: Sequence[ShardEntry]) -> Path:
    """Writes a shard whole or not at all: a partial name, fsync, rename, fsync of the folder.

    Args:
        entries: at least one; states (L, T, D) float32, all of the provenance's L and D.

    Raises:
        StoreError: a state is not finite, overflows the store's dtype, or has another shape: the
            message names the utterance (and the layer), and nothing is written.
    """
    _require_shapes(provenance, entries)
    path = shard_path(folder, [(entry.utterance_id, entry.audio_sha256) for entry in entries])
    lengths = [entry.states.shape[1] for entry in entries]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    partial = folder / f".{path.name}.{os.getpid()}.partial"
    try:
        with h5py.File(partial, "w", libver="v110", alignment_threshold=1, alignment_interval=PAGE_BYTES) as file:
            file.attrs["schema_version"] = SCHEMA_VERSION
            file.attrs["provenance"] = provenance.fingerprint
            file["offsets"] = offsets
            file["offsets"].attrs["sha256"] = _sha256(offsets)
            ids = [entry.utterance_id for entry in entries]
            file.create_dataset("utterance_id", data=ids, dtype=h5py.string_dtype())
            file["audio_sha256"] = np.array([entry.audio_sha256 for entry in entries], dtype="S64")
            if "pooled" in provenance.keep:
                file["pooled"] = torch.stack([pool(entry.states) for entry in entries]).numpy()
                file["pooled"].attrs["sha256"] = _sha256(file["pooled"][()])
            if "frames" in provenance.keep:
                _write_states(file, _join(provenance, entries, offsets))
            elif not all(torch.isfinite(entry.states).all() for entry in entries):
                _refuse_non_finite(entries, torch.float32)
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    _sync_folder(folder)
    return path


def pool(states: Tensor) -> Tensor:
    """Mean and (population) standard deviation over frames: (L, T, D) -> (L, 2, D)."""
    deviation, mean = torch.std_mean(states, dim=1, correction=0)
    return torch.stack([mean, deviation], dim=1)


def _join(provenance: Provenance, entries: Sequence[ShardEntry], offsets: np.ndarray) -> np.ndarray:
    """The layer-major buffer (L, n_pad, D) of a shard, cast by torch (8 times numpy's speed)."""
    dtype = getattr(torch, provenance.dtype)
    row_bytes = provenance.dim * dtype.itemsize
    step = PAGE_BYTES // math.gcd(PAGE_BYTES, row_bytes)
    padded = -(-int(offsets[-1]) // step) * step
    buffer = torch.zeros(provenance.layers, padded, provenance.dim, dtype=dtype)
    for entry, start, end in zip(entries, offsets[:-1], offsets[1:], strict=True):
        buffer[:, start:end].copy_(entry.states)
    if not torch.isfinite(buffer).all():
        _refuse_non_finite(entries, dtype)
    return buffer.numpy()


def _require_shapes(provenance: Provenance, entries: Sequence[ShardEntry]) -> None:
    for entry in entries:
        shape = tuple(entry.states.shape)
        if len(shape) != 3 or shape[::2] != (provenance.layers, provenance.dim) or not shape[1]:
            raise StoreError(
                f"The states of {entry.utterance_id} have another shape than the store's.",
                expected=f"({provenance.layers}, frames, {provenance.dim}), at least one frame",
                found=shape,
            )


def _refuse_non_finite(entries: Sequence[ShardEntry], dtype: torch.dtype) -> None:
    for entry in entries:
        finite = torch.isfinite(entry.states.to(dtype)).flatten(1).all(dim=1)
        if not finite.all():
            layer = int((~finite).nonzero()[0])
            largest = float(entry.states[layer].abs().max())
            raise StoreError(
                f"States of {entry.utterance_id} are not finite in the store's dtype; the shard was not written.",
                field=f"layer {layer}",
                expected=f"finite {dtype}".replace("torch.", ""),
                found=f"largest absolute value {largest:.6g}",
                hint="extract with --dtype float32",
            )


def _write_states(file: h5py.File, buffer: np.ndarray) -> None:
    """Creates ``states`` with early allocation and no fill, and writes a chunk a layer."""
    layers, frames, dim = buffer.shape
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_chunk((1, frames, dim))
    settings.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    settings.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    settings.set_obj_track_times(False)
    kind = h5py.h5t.py_create(buffer.dtype)
    space = h5py.h5s.create_simple(buffer.shape)
    dataset = h5py.Dataset(h5py.h5d.create(file.id, b"states", kind, space, settings))
    digest = hashlib.sha256()
    for layer in range(layers):
        dataset.id.write_direct_chunk((layer, 0, 0), buffer[layer].tobytes())
        digest.update(buffer[layer])
    dataset.attrs["sha256"] = digest.hexdigest()


class Shard:
    """A shard opened for reading; the frames are memory-mapped at first use."""

    def __init__(self, path: Path, provenance: Provenance) -> None:
        """Reads the shard's head.

        Raises:
            StoreError: it cannot be read, or belongs to a store of another making.
        """
        self.path = path
        self.datasets = [name for name, kept in (("states", "frames"), ("pooled", "pooled")) if kept in provenance.keep]
        try:
            with h5py.File(path, "r") as file:
                found = file.attrs["provenance"]
                self.offsets: np.ndarray = file["offsets"][()]
                self.utterance_ids = [key.decode() for key in file["utterance_id"][()]]
                self.audio_sha256 = [value.decode() for value in file["audio_sha256"][()]]
        except (OSError, KeyError, RuntimeError, ValueError) as error:
            raise StoreError(
                "A shard cannot be read.", file=path, found=error, hint="delete this file and run `make extract` again"
            ) from error
        if found != provenance.fingerprint:
            raise StoreError(
                "A shard belongs to a store of another making.",
                file=path,
                field="provenance",
                expected=provenance.fingerprint,
                found=found,
                hint="move this file out of the folder",
            )
        self._states: np.ndarray | None = None

    def __getstate__(self) -> dict[str, object]:
        # A mapping is opened anew in each process.
        return {**self.__dict__, "_states": None}

    @property
    def states(self) -> np.ndarray:
        """(L, n_pad, D), read-only; a view of the memory-mapped file."""
        if self._states is None:
            with h5py.File(self.path, "r") as file:
                self._states = _map_states(self.path, file["states"])
        return self._states

    def pooled(self) -> np.ndarray:
        """(N, L, S, D) float32."""
        with h5py.File(self.path, "r") as file:
            return file["pooled"][()]

    def damage(self) -> str | None:
        """What is wrong with the shard's content, or None: checksums, counts and finite values."""
        try:
            with h5py.File(self.path, "r") as file:
                return self._damage_in(file)
        except (OSError, KeyError, RuntimeError, ValueError) as error:
            return f"HDF5 cannot read it: {error}"

    def _damage_in(self, file: h5py.File) -> str | None:
        counts = {len(self.utterance_ids), len(self.audio_sha256), len(self.offsets) - 1}
        if len(counts) != 1 or (np.diff(self.offsets) < 1).any():
            return "offsets, ids and hashes do not add up"
        if shard_path(self.path.parent, list(zip(self.utterance_ids, self.audio_sha256, strict=True))) != self.path:
            return "ids and hashes are not those its name was made of"
        for name in ("offsets", *self.datasets):
            content = file[name][()]
            if not all(np.isfinite(part).all() for part in content):
                return f"{name} holds values that are not finite"
            # Shards written before there was a checksum of the offsets have none.
            if _sha256(content) != file[name].attrs.get("sha256", _sha256(content) if name == "offsets" else None):
                return f"the checksum of {name} does not match"
        if "states" in self.datasets and self.offsets[-1] > file["states"].shape[1]:
            return "offsets point behind the states"
        return None


def _map_states(path: Path, dataset: h5py.Dataset) -> np.ndarray:
    """Maps ``states`` through the file offsets of its chunks; reads it by HDF5 where they are uneven."""
    layers = dataset.shape[0]
    whole = dataset.chunks == (1, *dataset.shape[1:]) and dataset.id.get_create_plist().get_nfilters() == 0
    places = [dataset.id.get_chunk_info_by_coord((layer, 0, 0)).byte_offset for layer in range(layers)] if whole else []
    steps = {after - before for before, after in pairwise(places)}
    if not whole or len(steps) > 1 or min(steps, default=1) <= 0:
        return dataset[()]
    _, frames, dim = dataset.shape
    row = dim * dataset.dtype.itemsize
    step = steps.pop() if steps else frames * row
    raw = np.memmap(path, dtype=np.uint8, mode="r")
    first = np.frombuffer(raw, dtype=dataset.dtype, count=1, offset=places[0])
    return np.lib.stride_tricks.as_strided(
        first, shape=dataset.shape, strides=(step, row, dataset.dtype.itemsize), writeable=False
    )


def _sha256(content: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(content).data).hexdigest()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
