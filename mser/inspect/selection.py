"""What is exported: layers of an upstream for the manifests' recordings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from mser.errors import ConfigError, StoreError
from mser.inspect.blocks import utterances_of
from mser.inspect.listing import StoreSummary
from mser.manifest import Manifest, Utterance
from mser.store import Store

#: Columns of the manifest, in its order.
COLUMNS = tuple(item.name for item in fields(Utterance))


@dataclass(frozen=True)
class Selection:
    """What is exported.

    Attributes:
        stores: of one upstream, by corpus. utterances: N, all held by the stores.
        layers: by their number in the upstream. frames: all frames, or else pooled statistics.
    """

    upstream: str
    stores: dict[str, Store]
    utterances: tuple[Utterance, ...]
    layers: tuple[int, ...]
    frames: bool

    def __post_init__(self) -> None:
        for store in self.stores.values():
            store.require("frames" if self.frames else "pooled")
            unknown = set(self.layers) - set(store.provenance.layer_numbers)
            if unknown or not self.layers:
                raise StoreError(
                    "The store does not keep these layers.",
                    file=store.folder,
                    field="layers",
                    expected=", ".join(map(str, store.provenance.layer_numbers)),
                    found=", ".join(map(str, sorted(unknown))) or "none",
                )

    @property
    def dim(self) -> int:
        return next(iter(self.stores.values())).provenance.dim

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values: float32, or what frames are stored in."""
        kinds = {store.provenance.dtype for store in self.stores.values()}
        return np.dtype("float16" if self.frames and kinds == {"float16"} else "float32")

    @property
    def offsets(self) -> np.ndarray:
        """(N + 1,) int64: utterance n has the rows offsets[n]:offsets[n + 1] of a layer; with pooled one row each."""
        if not self.frames:
            return np.arange(len(self.utterances) + 1)
        counts = [self.stores[row.corpus].num_frames(row.utterance_id) for row in self.utterances]
        return np.cumsum([0, *counts])

    def names(self) -> list[str]:
        """Of the layers' arrays."""
        return [f"layer-{number}" for number in self.layers]

    def columns(self) -> dict[str, list[Any]]:
        """The manifest's columns, each of N values."""
        return {name: [getattr(row, name) for row in self.utterances] for name in COLUMNS}

    def read(self) -> Iterator[tuple[int, np.ndarray]]:
        """The place of each utterance and its values, (L, T, D) or pooled (L, 2, D); as they lie on the disk."""
        for corpus, store in self.stores.items():
            keys = [row.utterance_id if row.corpus == corpus else "" for row in self.utterances]
            chosen = [store.provenance.layer_numbers.index(number) for number in self.layers]
            for place, shard, row in utterances_of(store, keys):
                if self.frames:
                    yield place, np.array(shard.frames(row, chosen)).astype(self.dtype, copy=False)
                else:
                    yield place, store.pooled([keys[place]])[0, chosen]


def select(
    opened: Sequence[tuple[StoreSummary, Store | None]],
    manifests: Sequence[Manifest],
    upstream: str,
    layers: tuple[int, ...],
    frames: bool,
) -> Selection:
    """All that the stores of an upstream hold of the manifests' recordings.

    Args:
        upstream: name of its stores; may be empty where there is but one. layers: all that are kept if empty.

    Raises:
        ConfigError: no such upstream, or none is named of several. StoreError: a store is damaged, lacks a layer, or
            was made otherwise than the others; or there is nothing to export.
    """
    name = _only_upstream(sorted({summary.upstream for summary, _ in opened}), upstream)
    own = [(summary, store) for summary, store in opened if summary.upstream == name]
    stores = _whole_stores(own)
    held = tuple(
        row
        for manifest in manifests
        for row in manifest.utterances
        if row.corpus in stores
        and row.utterance_id in stores[row.corpus]
        and stores[row.corpus].audio_sha256(row.utterance_id) == row.sha256
    )
    if not held:
        changed = sum(summary.changed for summary, _ in own)
        raise StoreError(
            "There is nothing to export: the stores hold none of the manifests' recordings.",
            field="upstream",
            expected=f"states of {sum(summary.total for summary, _ in own)} recordings by {name}",
            found=f"{changed} of other recordings" if changed else "none of them",
            hint="run `make extract`" + (" with REPLACE_CHANGED=1" if changed else f' UPSTREAMS="{name}"'),
        )
    return Selection(name, stores, held, layers or next(iter(stores.values())).provenance.layer_numbers, frames)


def _only_upstream(there: Sequence[str], asked: str) -> str:
    """The upstream that is exported, of those that have stores; ConfigError where it is not there, or not told."""
    name = asked or (there[0] if len(there) == 1 else "")
    if name not in there:
        raise ConfigError(
            "One upstream is exported at a time.",
            field="upstream",
            expected=f"one of: {' '.join(there) or 'none is cached yet'}",
            found=asked or "none",
        )
    return name


def _whole_stores(own: Sequence[tuple[StoreSummary, Store | None]]) -> dict[str, Store]:
    """The stores of an upstream by corpus; StoreError where one is damaged, or made otherwise than the others."""
    stores: dict[str, Store] = {}
    for summary, store in own:
        if store is None or summary.trouble:
            raise StoreError(
                "A store is damaged, and a part of it is not exported.",
                file=f"{summary.corpus} x {summary.upstream}",
                found=summary.trouble,
                hint="delete the damaged files and run `make extract` again, or export other languages",
            )
        stores[summary.corpus] = store
    making = {str(store.provenance.states): corpus for corpus, store in stores.items()}
    if len(making) > 1:
        raise StoreError(
            "The stores were made by different upstreams of one name, or keep different layers.",
            field="corpus",
            found=", ".join(making.values()),
            hint="export one language at a time",
        )
    return stores
