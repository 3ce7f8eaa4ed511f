"""What a workspace's stores hold, from the stores alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import dask
import torch
from torch import Tensor

from mser.config import Workspace
from mser.errors import MserError
from mser.manifest import Manifest
from mser.store import Store
from mser.store.provenance import FILE_NAME
from mser.store.shard import Shard


@dataclass(frozen=True)
class StoreSummary:
    """One line of a listing.

    Attributes:
        covered: utterances of the manifest that the store holds. total: utterances of the manifest.
        trouble: why the store cannot be used, or empty.
    """

    corpus: str
    upstream: str
    revision: str = ""
    layers: int = 0
    dim: int = 0
    dtype: str = ""
    keep: tuple[str, ...] = ()
    covered: int = 0
    total: int = 0
    seconds: float = 0.0
    size_bytes: int = 0
    trouble: str = ""


def list_stores(workspace: Workspace, manifests: Sequence[Manifest]) -> Iterator[StoreSummary]:
    """Every store of the corpora; one that cannot be opened is listed with its trouble."""
    for manifest in manifests:
        for path in sorted((workspace.cache / manifest.corpus).glob(f"*/{FILE_NAME}")):
            try:
                yield summarise(Store(path.parent), manifest)
            except MserError as error:
                yield StoreSummary(manifest.corpus, path.parent.name, trouble=error.what)


def summarise(store: Store, manifest: Manifest) -> StoreSummary:
    """One store's line."""
    provenance = store.provenance
    held = [row for row in manifest.utterances if row.utterance_id in store]
    return StoreSummary(
        corpus=manifest.corpus,
        upstream=store.folder.name,
        revision=str(provenance.upstream["revision"])[:12],
        layers=provenance.layers,
        dim=provenance.dim,
        dtype=provenance.dtype,
        keep=provenance.keep,
        covered=len(held),
        total=len(manifest.utterances),
        seconds=sum(row.seconds for row in held),
        size_bytes=store.size_bytes(),
    )


@dataclass(frozen=True)
class LayerStatistics:
    """Of each layer over all frames of a store.

    Attributes:
        mean, deviation: (L, D). norm: (L,) mean length of a frame's state. frames: their number.
    """

    mean: Tensor
    deviation: Tensor
    norm: Tensor
    frames: int


def layer_statistics(store: Store) -> LayerStatistics:
    """Statistics of a store of any size: Dask hands out shards, torch computes in float64, one layer at a time.

    Raises:
        StoreError: the store was made without frames.
    """
    store.require("frames")
    blocks = dask.compute(*[dask.delayed(_shard_sums)(shard) for shard in store.shards], scheduler="threads")
    count = sum(frames for frames, *_ in blocks)
    sums, squares, norms = (torch.stack(list(parts)).sum(0) for parts in list(zip(*blocks, strict=True))[1:])
    mean = sums / count
    deviation = (squares / count - mean.square()).clamp(min=0).sqrt()
    return LayerStatistics(mean.float(), deviation.float(), (norms / count).float(), count)


def _shard_sums(shard: Shard) -> tuple[int, Tensor, Tensor, Tensor]:
    frames = int(shard.offsets[-1])
    sums, squares, norms = [], [], []
    for index in range(shard.provenance.layers):
        states = torch.from_numpy(shard.layer(index).astype("float64"))
        sums.append(states.sum(0))
        squares.append(states.square().sum(0))
        norms.append(states.norm(dim=1).sum())
    return frames, torch.stack(sums), torch.stack(squares), torch.stack(norms)
