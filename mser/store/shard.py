"""Reads a shard (its layout: :mod:`mser.store.layout`)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import torch

from mser.errors import StoreError
from mser.store.layout import HEAD, digest, head_sha256, shard_path
from mser.store.pack import unpack
from mser.store.provenance import Provenance

#: What h5py raises for a damaged file.
UNREADABLE = (OSError, KeyError, RuntimeError, ValueError)


class Shard:
    """A shard opened for reading; the frames are memory-mapped at first use."""

    def __init__(self, path: Path, provenance: Provenance) -> None:
        """Reads the shard's head.

        Raises:
            StoreError: it cannot be read, or belongs to a store of another making.
        """
        self.path = path
        self.provenance = provenance
        try:
            with h5py.File(path, "r") as file:
                found = file.attrs["provenance"]
                self.offsets: np.ndarray = file["offsets"][()]
                self.utterance_ids = [key.decode() for key in file["utterance_id"][()]]
                self.audio_sha256 = [value.decode() for value in file["audio_sha256"][()]]
        except UNREADABLE as error:
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
        # Plain numbers index an array sooner than its own do, which tells where one layer is read.
        self._bounds: list[int] = self.offsets.tolist()
        self._quantised = provenance.dtype == "int8"
        self._states: np.ndarray | None = None
        self._scale: tuple[np.ndarray, np.ndarray] | None = None

    def __getstate__(self) -> dict[str, object]:
        # A mapping is opened anew in each process.
        return {**self.__dict__, "_states": None}

    @property
    def states(self) -> np.ndarray:
        """(L, n_pad, D) as stored, read-only; a view of the memory-mapped file."""
        if self._states is None:
            with self._open() as file:
                self._states = _map_states(self.path, file["states"])
        return self._states

    def frames(self, row: int, layers: slice | list[int] = slice(None)) -> np.ndarray:
        """The frames of an utterance, of some of the kept layers: (L, T, D).

        A read-only view in the store's dtype; with int8 states in float32.
        """
        return self._between(self._bounds[row], self._bounds[row + 1], layers)

    def layer(self, index: int) -> np.ndarray:
        """One kept layer of all utterances, their frames joined: (offsets[-1], D), as ``frames``."""
        return self._between(0, int(self.offsets[-1]), slice(index, index + 1))[0]

    def pooled(self, layers: slice = slice(None)) -> np.ndarray:
        """Of some of the kept layers by their index: (N, L, S, D) float32."""
        with self._open() as file:
            return file["pooled"][:, layers]

    def damage(self) -> str | None:
        """What is wrong with the shard's content, or None: checksums, counts and finite values."""
        try:
            with h5py.File(self.path, "r") as file:
                return self._damage_in(file)
        except UNREADABLE as error:
            return f"HDF5 cannot read it: {error}"

    def require_sound_head(self) -> None:
        """Raises StoreError where all but the states does not fit its checksum; the states are not read."""
        try:
            with h5py.File(self.path, "r") as file:
                damage = self._head_damage({name: file[name][()] for name in HEAD if name in file}, file)
        except UNREADABLE as error:
            damage = f"HDF5 cannot read it: {error}"
        if damage:
            hint = "delete this file and run `make extract` again"
            raise StoreError("A shard is damaged.", file=self.path, found=damage, hint=hint)

    def _open(self) -> h5py.File:
        try:
            return h5py.File(self.path, "r")
        except OSError as error:
            raise StoreError(
                "A shard cannot be read.", file=self.path, found=error, hint="run `make verify`"
            ) from error

    def _between(self, start: int, end: int, layers: slice | list[int]) -> np.ndarray:
        states = self.states if self._states is None else self._states
        stored = states[layers, start:end]
        return self._dequantised(stored, layers, start) if self._quantised else stored

    def _dequantised(self, stored: np.ndarray, layers: slice | list[int], start: int) -> np.ndarray:
        if self._scale is None:
            with self._open() as file:
                self._scale = file["scale"][()], file["piece_offsets"][()]
        scale, offsets = self._scale
        out = torch.empty(stored.shape, dtype=torch.float32)
        first, last = np.searchsorted(offsets, [start, start + stored.shape[1]], side="right") - [1, 0]
        for piece in range(first, min(last, len(scale))):
            begin, end = max(offsets[piece] - start, 0), min(offsets[piece + 1] - start, stored.shape[1])
            # Copied: a tensor must not be able to write to the mapped file.
            integers = torch.from_numpy(np.array(stored[:, begin:end]))
            out[:, begin:end] = unpack(integers, torch.from_numpy(scale[piece][layers]))
        return out.numpy()

    def _head_damage(self, head: Mapping[str, np.ndarray], file: h5py.File) -> str | None:
        if (
            len({len(self.utterance_ids), len(self.audio_sha256), len(self.offsets) - 1}) != 1
            or (np.diff(self.offsets, prepend=0)[1:] < 1).any()
        ):
            return "offsets, ids and hashes do not add up"
        if shard_path(self.path.parent, list(zip(self.utterance_ids, self.audio_sha256, strict=True))) != self.path:
            return "ids and hashes are not those its name was made of"
        if head_sha256(head.items()) != file.attrs["head_sha256"]:
            return "the checksum of its head (offsets, ids, hashes, pooled statistics) does not match"
        return None

    def _damage_in(self, file: h5py.File) -> str | None:
        head = {name: file[name][()] for name in HEAD if name in file}
        damage = self._head_damage(head, file)
        if damage:
            return damage
        if not all(np.isfinite(head[name]).all() for name in ("pooled", "scale") if name in head):
            return "pooled statistics or scales hold values that are not finite"
        if "frames" not in self.provenance.keep:
            return None
        states = file["states"]
        if self.offsets[0] != 0 or self.offsets[-1] > states.shape[1]:
            return "offsets point behind the states"
        for row, (start, end) in enumerate(pairwise(self.offsets)):
            frames = states[:, start:end]
            if not np.isfinite(frames).all():
                return f"states of {self.utterance_ids[row]} hold values that are not finite"
            if digest(frames) != head["states_xxh3"][row].decode():
                return f"the checksum of the states of {self.utterance_ids[row]} does not match"
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
