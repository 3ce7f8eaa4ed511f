"""Reading stores of any size: a bounded piece at a time, and no more mapped than the shard it lies in."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import numpy as np

from mser.store import Store
from mser.store.shard import Shard

#: Of a block's values in float32.
BLOCK_BYTES = 16 << 20


def block_frames(dim: int) -> int:
    """Frames of a block of D features."""
    return max(1, BLOCK_BYTES // (4 * dim))


def unmapped(shard: Shard) -> Shard:
    """The same shard without its mapping: what this one maps is let go of together with it.

    A store keeps the mappings of the shards it has read, which would be all of it in the end.
    """
    return copy.copy(shard)


def layer_blocks(shard: Shard, index: int) -> Iterator[np.ndarray]:
    """One kept layer of all utterances of a shard, their frames joined: copies (t, D) of bounded size."""
    frames = unmapped(shard).layer(index)
    size = block_frames(frames.shape[1])
    for start in range(0, len(frames), size):
        yield np.array(frames[start : start + size])


def utterances_of(store: Store, utterance_ids: Sequence[str]) -> Iterator[tuple[int, Shard, int]]:
    """Each utterance as its place in ``utterance_ids``, its shard and its row there; shard by shard.

    Utterances that the store lacks are passed over.
    """
    places = {key: place for place, key in enumerate(utterance_ids)}
    for shard in store.shards:
        fresh = unmapped(shard)
        for row, key in enumerate(shard.utterance_ids):
            if key in places:
                yield places[key], fresh, row
