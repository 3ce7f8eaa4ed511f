"""How a shard lies on disk: one immutable HDF5 file with the states of a few dozen utterances.

    states           (L, n_pad, D)  float16, float32 or int8; one chunk a layer, frames of all utterances joined
    scale            (P, L, D)      float32, with int8 alone: a state is its integer times the scale of its piece
    piece_offsets    (P + 1,)       int64, with int8 alone: piece p has the frames piece_offsets[p]:piece_offsets[p + 1]
    offsets          (N + 1,)       int64: utterance n has the frames offsets[n]:offsets[n + 1]
    pooled           (N, L, S, D)   float32: S = mean and standard deviation over an utterance's frames
    utterance_id     (N,)           text
    audio_sha256     (N,)           of the decoded recording
    states_xxh3      (N,)           of the utterance's part of ``states``, see :class:`Digest`

N utterances, L layers kept, D features, P pieces (windows of long recordings; else one an utterance), n_pad frames
rounded up so that a layer is a whole number of pages. The attribute ``head_sha256`` covers everything but ``states``.
XXH3 (128 bits) finds damage at the speed of memory; against forgery only ``audio_sha256`` and weights are hashed.

The chunks are uncompressed and begin on page boundaries, so a memory map reads them without HDF5.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import xxhash

from mser.store.provenance import Provenance

PAGE_BYTES = 4096
PREFIX, SUFFIX = "shard-", ".h5"
PARTIAL = ".partial"
#: What HDF5 needs beside the data: superblock, headers, the chunk index, string heap; rounded up to pages.
OVERHEAD_BYTES = 14 * PAGE_BYTES
#: Small datasets, covered by ``head_sha256`` in this order.
HEAD = ("offsets", "utterance_id", "audio_sha256", "states_xxh3", "pooled", "scale", "piece_offsets")
ITEM_BYTES = {"float16": 2, "float32": 4, "int8": 1}


def shard_path(folder: Path, entries: Sequence[tuple[str, str]]) -> Path:
    """Where a shard of these (utterance_id, audio_sha256) lies: its name tells its content."""
    text = "\n".join(f"{key} {sha}" for key, sha in entries)
    return folder / f"{PREFIX}{hashlib.sha256(text.encode()).hexdigest()[:12]}{SUFFIX}"


def padded_frames(frames: int, provenance: Provenance) -> int:
    """``frames`` rounded up until a layer is a whole number of pages."""
    row_bytes = provenance.dim * ITEM_BYTES[provenance.dtype]
    step = PAGE_BYTES // math.gcd(PAGE_BYTES, row_bytes)
    return -(-frames // step) * step


def shard_bytes(frame_counts: Sequence[int], pieces: int, id_bytes: int, provenance: Provenance) -> int:
    """Size of a shard file, close to the byte: what :mod:`extract.plan` promises.

    Args:
        frame_counts: frames of each utterance. pieces: P. id_bytes: of all utterance ids.
    """
    layer, utterances = provenance.layers * provenance.dim, len(frame_counts)
    size = (
        OVERHEAD_BYTES
        + _pages(8 * (utterances + 1))
        + _pages(64 * utterances)
        + _pages(32 * utterances)
        + _pages(48 * utterances + id_bytes)
    )
    if "frames" in provenance.keep:
        size += padded_frames(sum(frame_counts), provenance) * layer * ITEM_BYTES[provenance.dtype]
        if provenance.dtype == "int8":
            size += _pages(4 * pieces * layer) + _pages(8 * (pieces + 1))
    if "pooled" in provenance.keep:
        size += _pages(4 * utterances * 2 * layer)
    return size


def _pages(size: int) -> int:
    return -(-size // PAGE_BYTES) * PAGE_BYTES


class Digest:
    """Hash of one utterance's frames (L, T, D), which may come in pieces along T.

    The layers are hashed one by one, so that a piece can be added without the others at hand.
    """

    def __init__(self, layers: int) -> None:
        self._layers = [xxhash.xxh3_128() for _ in range(layers)]

    def add(self, frames: np.ndarray) -> None:
        """Adds the next frames (L, t, D)."""
        for digest, layer in zip(self._layers, frames, strict=True):
            digest.update(np.ascontiguousarray(layer).view(np.uint8).data)

    def hex(self) -> str:
        return xxhash.xxh3_128_hexdigest(b"".join(digest.digest() for digest in self._layers))


def digest(frames: np.ndarray) -> str:
    """Hash of an utterance's frames (L, T, D)."""
    whole = Digest(len(frames))
    whole.add(frames)
    return whole.hex()


def head_sha256(parts: Iterable[tuple[str, np.ndarray]]) -> str:
    """Hash over the small datasets of a shard, by name, shape and content; texts as bytes (N,)."""
    whole = hashlib.sha256()
    for name, values in parts:
        whole.update(f"{name} {values.shape} ".encode())
        if values.dtype.kind in "OS":
            whole.update(b"\0".join(bytes(value) for value in values))
        else:
            whole.update(np.ascontiguousarray(values).view(np.uint8).data)
    return whole.hexdigest()
