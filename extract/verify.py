"""Checks stores against their manifests and, where they are present, the recordings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mser.audio import pcm_sha256, read_pcm
from mser.errors import AudioError, MserError
from mser.manifest import Manifest
from mser.store import Store


@dataclass(frozen=True)
class Verdict:
    """What was found of one store.

    Attributes:
        recordings: recordings whose hash was compared; 0 where the corpus folder is absent.
        faults: one sentence each; none for a sound store.
    """

    corpus: str
    upstream: str
    utterances: int
    shards: int
    recordings: int
    faults: tuple[str, ...]


def verify(
    manifest: Manifest, folder: Path, store_folder: Path, advance: Callable[[int, int], None] = lambda done, total: None
) -> Verdict:
    """Opens every shard, compares checksums, counts, values, coverage, and the hashes of the recordings.

    Args:
        folder: of the corpus's recordings; need not exist.
        advance: told the steps done and in all.
    """
    faults: list[str] = []
    try:
        store = Store(store_folder)
    except MserError as error:
        return Verdict(manifest.corpus, store_folder.name, 0, 0, 0, (str(error),))
    rows = manifest.utterances if folder.is_dir() else ()
    total = len(store.shards) + len(rows)
    for done, shard in enumerate(store.shards, start=1):
        try:
            damage = shard.damage()
        except (MserError, OSError) as error:
            damage = str(error)
        if damage:
            faults.append(f"{shard.path}: {damage}; delete this file and run `make extract` again")
        advance(done, total)
    absent, changed = store.missing({row.utterance_id: row.sha256 for row in manifest.utterances})
    faults += [f"{key}: not in the store" for key in absent] + [
        f"{key}: states of another recording" for key in changed
    ]
    for done, fault in enumerate(changed_recordings(manifest, folder) if rows else (), start=len(store.shards) + 1):
        faults += [fault] if fault else []
        advance(done, total)
    return Verdict(manifest.corpus, store_folder.name, len(store), len(store.shards), len(rows), tuple(faults))


def changed_recordings(manifest: Manifest, folder: Path) -> Iterator[str | None]:
    """For each utterance None, or a sentence where its recording is not the manifest's."""
    for row in manifest.utterances:
        try:
            found = pcm_sha256(*read_pcm(folder / row.path))
        except AudioError as error:
            yield f"{row.path}: {error.what}"
        else:
            yield None if found == row.sha256 else f"{row.path}: not the recording that the manifest was made from"
