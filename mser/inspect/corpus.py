"""The stores of one corpus, for notebooks: pooled means as numpy arrays, frames as Dask arrays, labels beside them.

store = mser.open_store("work/cache/emodb")
store.layer("whisper-base-encoder", 3)               # (N, D), a row for each of store.utterance_ids
store.labels("emotion")                              # (N,)
store.layer("whisper-base-encoder", 3, frames=True)  # frames of any size, read when they are computed with
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import torch

from mser.config import Workspace
from mser.errors import ConfigError, StoreError
from mser.inspect.blocks import block_frames, unmapped, utterances_of
from mser.manifest import Manifest, Utterance
from mser.store import Store
from mser.store.provenance import FILE_NAME
from mser.store.shard import Shard


@dataclass(frozen=True)
class Frames:
    """The frames of one layer, as they lie on the disk: utterance n has ``states[offsets[n]:offsets[n + 1]]``.

    Attributes:
        states: (sum T, D) Dask array in the store's dtype (of int8 stores float32); nothing is read yet.
        offsets: (N + 1,) int64.
        utterance_ids: N, in the order of the disk, which is not that of pooled means.
    """

    states: da.Array
    offsets: np.ndarray
    utterance_ids: tuple[str, ...]


class CorpusStore:
    """The states of one corpus by one upstream or several.

    Attributes:
        stores: by the name of their upstream.
        utterance_ids: of the utterances that all of these stores hold, sorted: the rows of pooled means and labels.
    """

    def __init__(self, stores: dict[str, Store]) -> None:
        self.stores = stores
        common = set.intersection(*(set(store) for store in stores.values()))
        self.utterance_ids = tuple(sorted(common))

    def __repr__(self) -> str:
        held = ", ".join(
            f"{name} (layers {', '.join(map(str, one.provenance.layer_numbers))}; D = {one.provenance.dim})"
            for name, one in self.stores.items()
        )
        left_out = "".join(f"; left out: {one.file}" for errors in self.damage.values() for one in errors)
        return f"{len(self.utterance_ids)} utterances by {held}{left_out}"

    @property
    def upstreams(self) -> tuple[str, ...]:
        return tuple(self.stores)

    @property
    def damage(self) -> dict[str, list[StoreError]]:
        """Why shards were left out, of each upstream's store; nothing unless it was opened without its damaged ones."""
        return {name: store.damage for name, store in self.stores.items()}

    def layers(self, upstream: str) -> tuple[int, ...]:
        """The upstream's layers that its store keeps."""
        return self._store(upstream).provenance.layer_numbers

    def layer(self, upstream: str, number: int, frames: bool = False) -> np.ndarray | Frames:
        """One layer by its number in the upstream.

        Returns:
            Means over frames (N, D) float32, a row for each of ``utterance_ids``; with ``frames`` all frames.

        Raises:
            StoreError: no such upstream or layer, or the store was made without frames.
        """
        store = self._store(upstream)
        if number not in store.provenance.layer_numbers:
            raise StoreError(
                f"The store does not keep layer {number}.",
                file=store.folder,
                field="layer",
                expected=", ".join(map(str, store.provenance.layer_numbers)),
                found=number,
                hint="name a kept layer, or extract with other LAYERS into another MSER_HOME",
            )
        index = store.provenance.layer_numbers.index(number)
        return layer_frames(store, index) if frames else pooled_means(store, self.utterance_ids, [index])[:, 0]

    @cached_property
    def manifest(self) -> Manifest:
        """The corpus' manifest, in the workspace that the stores lie in.

        Raises:
            ManifestError: it is missing, or damaged.
        """
        corpus = next(iter(self.stores.values())).folder.parent
        return Manifest.read(Workspace(corpus.parent.parent), corpus.name)

    def labels(self, column: str = "emotion") -> np.ndarray:
        """A column of the manifest (N,), such as ``emotion``, ``speaker``, ``gender`` or ``text_id``.

        Raises:
            ConfigError: no such column. ManifestError: no manifest. StoreError: it lacks an utterance.
        """
        names = [item.name for item in fields(Utterance)]
        if column not in names:
            raise ConfigError("The manifest has no such column.", field="column", expected=names, found=column)
        rows = {row.utterance_id: row for row in self.manifest.utterances}
        first = next(iter(self.stores.values()))
        unlike = [key for key in self.utterance_ids if key not in rows or rows[key].sha256 != first.audio_sha256(key)]
        if unlike:
            raise StoreError(
                "The manifest lacks recordings that the store was made of.",
                file=first.folder,
                found=f"{len(unlike)} of {len(self.utterance_ids)}; first: {unlike[0]}",
                hint="run `make manifest`, then `make extract`",
            )
        return np.array([getattr(rows[key], column) for key in self.utterance_ids])

    def _store(self, upstream: str) -> Store:
        if upstream not in self.stores:
            raise StoreError(
                f"There is no store of {upstream!r}.",
                field="upstream",
                expected=" ".join(self.stores),
                found=upstream,
                hint='run `make extract UPSTREAMS="..."` for it, or name one that is there',
            )
        return self.stores[upstream]


def open_store(path: str | Path, skip_damaged: bool = False) -> CorpusStore:
    """Opens what is cached of a corpus.

    Args:
        path: ``cache/<corpus>`` of a workspace, for all of its upstreams, or ``cache/<corpus>/<upstream>`` for one.
        skip_damaged: leave damaged shards out, and their utterances with them; :attr:`CorpusStore.damage` names them.

    Raises:
        StoreError: there is no store there, or a shard is damaged (if ``skip_damaged``: a store's description alone).
    """
    folder = Path(os.path.abspath(path))
    own = [folder / FILE_NAME] if (folder / FILE_NAME).is_file() else sorted(folder.glob(f"*/{FILE_NAME}"))
    if not own:
        raise StoreError(
            "There is no store here.",
            file=folder,
            expected="cache/<corpus> of a workspace, or cache/<corpus>/<upstream>",
            found=", ".join(sorted(one.name for one in folder.glob("*"))[:5]) or "nothing",
            hint="`mser inspect ls` lists the stores; `make extract` makes them",
        )
    return CorpusStore({one.parent.name: Store(one.parent, skip_damaged) for one in own})


def pooled_means(store: Store, utterance_ids: Sequence[str], layers: Sequence[int]) -> np.ndarray:
    """Means over frames of some kept layers by their index, (N, L, D) float32: as stored, or else from the frames."""
    out = np.full((len(utterance_ids), len(layers), store.provenance.dim), np.nan, dtype=np.float32)
    if "pooled" in store.provenance.keep:
        places = {key: place for place, key in enumerate(utterance_ids)}
        for shard in store.shards:
            pairs = [(places[key], row) for row, key in enumerate(shard.utterance_ids) if key in places]
            if pairs:
                targets, rows = np.array(pairs).T
                for place, layer in enumerate(layers):
                    out[targets, place] = shard.pooled(slice(layer, layer + 1))[rows, 0, 0]
    else:
        for place, shard, row in utterances_of(store, utterance_ids):
            frames = torch.from_numpy(np.array(shard.frames(row, list(layers))))
            out[place] = frames.mean(1, dtype=torch.float64).float().numpy()
    return out


def layer_frames(store: Store, index: int) -> Frames:
    """All frames of a kept layer by its index, in blocks of bounded size.

    Raises:
        StoreError: the store was made without frames.
    """
    store.require("frames")
    dim = store.provenance.dim
    dtype = np.dtype("float32" if store.provenance.dtype == "int8" else store.provenance.dtype)
    read = dask.delayed(_read_block, pure=False)
    blocks, counts, ids = [da.zeros((0, dim), dtype=dtype)], [0], []
    for shard in store.shards:
        total, size = int(shard.offsets[-1]), block_frames(dim)
        reader = _Reader(shard, index)
        for start in range(0, total, size):
            end = min(start + size, total)
            blocks.append(da.from_delayed(read(reader, start, end), (end - start, dim), dtype=dtype))
        counts += np.diff(shard.offsets).tolist()
        ids += shard.utterance_ids
    return Frames(da.concatenate(blocks), np.cumsum(counts), tuple(ids))


class _Reader:
    def __init__(self, shard: Shard, index: int) -> None:
        self.shard, self.index = shard, index


def _read_block(reader: _Reader, start: int, end: int) -> np.ndarray:
    return np.array(unmapped(reader.shard).layer(reader.index)[start:end])
