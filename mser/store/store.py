"""A store: the states of one corpus by one upstream, a folder of shards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from mser.errors import DiskError, StoreError
from mser.store.layout import PREFIX, SUFFIX
from mser.store.provenance import FILE_NAME, Provenance
from mser.store.shard import Shard


class Store:
    """Reads the states of utterances by their ids. Holds no labels.

    The shards themselves are the index: a shard is whole or absent, so what can be listed is
    what is there, at any moment, beside any writer.

    Attributes:
        damage: why shards were left out, where the store was opened without its damaged ones.
    """

    def __init__(self, folder: Path, skip_damaged: bool = False) -> None:
        """Opens a store.

        Args:
            skip_damaged: open what is left where shards are damaged, their heads' checksums included.

        Raises:
            StoreError: there is none, it is of another schema version, or a shard is damaged.
        """
        self.folder = folder
        self.provenance = Provenance.read(folder)
        self.damage: list[StoreError] = []
        self.shards: list[Shard] = []
        for path in sorted(folder.glob(f"{PREFIX}*{SUFFIX}")):
            try:
                shard = Shard(path, self.provenance)
                if skip_damaged:
                    shard.require_sound_head()
                self.shards.append(shard)
            except StoreError as error:
                if not skip_damaged:
                    raise
                self.damage.append(error)
        self._places: dict[str, tuple[int, int]] = {
            key: (number, row)
            for number, shard in enumerate(self.shards)
            for row, key in enumerate(shard.utterance_ids)
        }

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, utterance_id: str) -> bool:
        return utterance_id in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def audio_sha256(self, utterance_id: str) -> str:
        """Hash of the decoded recording the states were computed from."""
        shard, row = self._place(utterance_id)
        return shard.audio_sha256[row]

    def num_frames(self, utterance_id: str) -> int:
        shard, row = self._place(utterance_id)
        return int(shard.offsets[row + 1] - shard.offsets[row])

    def frames(self, utterance_id: str, layers: slice | list[int] = slice(None)) -> np.ndarray:
        """(L, T, D), of some of the kept layers by their index: a read-only view of the memory-mapped shard.

        In the store's dtype; of an int8 store float32.
        """
        self.require("frames")
        shard, row = self._place(utterance_id)
        return shard.frames(row, layers)

    def pooled(self, utterance_ids: Sequence[str]) -> np.ndarray:
        """Mean and standard deviation over frames of each utterance: (N, L, S, D) float32."""
        self.require("pooled")
        out = np.empty((len(utterance_ids), self.provenance.layers, 2, self.provenance.dim), dtype=np.float32)
        wanted: dict[int, list[tuple[int, int]]] = {}
        for target, key in enumerate(utterance_ids):
            self._place(key)
            number, row = self._places[key]
            wanted.setdefault(number, []).append((target, row))
        for number, pairs in wanted.items():
            targets, rows = np.array(pairs).T
            out[targets] = self.shards[number].pooled()[rows]
        return out

    def missing(self, audio_sha256: Mapping[str, str]) -> tuple[list[str], list[str]]:
        """Which utterances (id -> hash of the recording) the store lacks, and which it holds of another recording."""
        absent = [key for key in audio_sha256 if key not in self._places]
        changed = [key for key, sha in audio_sha256.items() if key in self._places and self.audio_sha256(key) != sha]
        return absent, changed

    def size_bytes(self) -> int:
        """Bytes of all shards on disk."""
        return sum(shard.path.stat().st_size for shard in self.shards)

    def _place(self, utterance_id: str) -> tuple[Shard, int]:
        try:
            number, row = self._places[utterance_id]
        except KeyError as error:
            raise StoreError(
                f"The store does not hold {utterance_id}.", file=self.folder, hint="run `make extract` for its language"
            ) from error
        return self.shards[number], row

    def require(self, content: str) -> None:
        """Raises StoreError where the store was made without ``frames`` or ``pooled``."""
        if content not in self.provenance.keep:
            raise StoreError(
                f"The store was made without {content}.",
                file=self.folder,
                field="keep",
                expected=content,
                found=", ".join(self.provenance.keep),
                hint=f"extract with --{content} into another MSER_HOME",
            )


def open_or_create(folder: Path, provenance: Provenance) -> Store:
    """Opens a store for adding shards, or makes an empty one.

    Raises:
        StoreError: the folder holds states of another making. DiskError: it cannot be written to.
    """
    if (folder / FILE_NAME).is_file():
        Provenance.read(folder).require_same(provenance, folder)
        return Store(folder)
    try:
        provenance.write(folder)
    except DiskError as error:
        raise DiskError(
            "The store's description cannot be written.",
            file=folder,
            found=error.found,
            hint="make room, or give a MSER_HOME that can be written to",
        ) from error
    return Store(folder)
