"""The store of hidden states: immutable HDF5 shards in a folder. The only package that uses h5py."""

from mser.store.lock import locked
from mser.store.pack import Packed, pack
from mser.store.provenance import Provenance
from mser.store.store import Store, open_or_create
from mser.store.writer import ShardEntry, ShardRow, ShardWriter, sweep, write_shard

__all__ = [
    "Packed",
    "Provenance",
    "ShardEntry",
    "ShardRow",
    "ShardWriter",
    "Store",
    "locked",
    "open_or_create",
    "pack",
    "sweep",
    "write_shard",
]
