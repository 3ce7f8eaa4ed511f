"""The store of hidden states: immutable HDF5 shards in a folder. The only package that uses h5py."""

from mser.store.provenance import Provenance
from mser.store.shard import ShardEntry, write_shard
from mser.store.store import Store, open_or_create

__all__ = ["Provenance", "ShardEntry", "Store", "open_or_create", "write_shard"]
