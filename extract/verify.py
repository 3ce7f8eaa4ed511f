"""Checks stores against their manifests and, where they are present, the recordings."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from extract.compute import Job, compute_shards
from extract.plan import make_plan
from extract.states import Settings, provenance_of
from mser.audio import scan_pcm
from mser.errors import AudioError, MserError
from mser.manifest import Manifest
from mser.store import Store
from mser.upstream import Upstream

#: Largest difference of a state computed again, of the layer's largest value, that rounding explains.
AGAIN = {"float16": 2e-3, "float32": 1e-4, "int8": 2e-2}


@dataclass(frozen=True)
class Verdict:
    """What was found of one store.

    Attributes:
        recordings: recordings whose hash was compared; 0 where the corpus folder is absent.
        faults: one sentence each; none for a sound store.
        recomputed: how many utterances were computed again, or why none was.
        difference: how far these lie from the stored states.
    """

    corpus: str
    upstream: str
    utterances: int
    shards: int
    recordings: int
    faults: tuple[str, ...]
    recomputed: str = ""
    difference: str = ""


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


def recompute(
    verdict: Verdict, manifest: Manifest, folder: Path, store: Store, upstream: Upstream, count: int
) -> Verdict:
    """Adds what random utterances give when they are computed again, each alone.

    Raises:
        StoreError: the upstream is not the one that made the store.
    """
    made = store.provenance
    settings = Settings(made.dtype, made.keep, made.layer_numbers, made.window, made.overlap)
    now = provenance_of(made.corpus, upstream, settings)
    if dict(made.versions) != dict(now.versions):
        unlike = [name for name in now.versions if made.versions.get(name) != now.versions[name]]
        return replace(verdict, recomputed=f"made with another {', '.join(unlike)}")
    made.require_same(now, store.folder)
    rows = [row for row in manifest.utterances if row.utterance_id in store]
    plan = make_plan(random.Random().sample(rows, min(count, len(rows))), upstream, made.window, made.overlap)
    faults, worst = list(verdict.faults), 0.0
    # Inside the store's folder, where no one who lists stores takes it for one.
    with tempfile.TemporaryDirectory(prefix=".again-", dir=store.folder) as aside:
        made.write(Path(aside))
        outcome = compute_shards(Job(folder, Path(aside), made), upstream, plan.blocks)
        faults += [str(failure) for failure in outcome.failures]
        again = Store(Path(aside))
        for key in again:
            difference = max(differences(store, again, key))
            worst = max(worst, difference)
            if difference > AGAIN[made.dtype]:
                faults.append(f"{key}: computed again, states differ by {difference:.1e} of a layer's largest value")
        said = "" if not len(again) else "equal bit for bit" if worst == 0 else f"{worst:.1e}"
        return replace(verdict, faults=tuple(faults), recomputed=str(len(again)), difference=said)


def differences(store: Store, again: Store, key: str) -> list[float]:
    """For each layer the largest difference of an utterance's states in two stores, of the largest value."""
    parts = []
    if "frames" in store.provenance.keep:
        parts.append((store.frames(key).astype("float64"), again.frames(key).astype("float64")))
    if "pooled" in store.provenance.keep:
        parts.append((store.pooled([key])[0].astype("float64"), again.pooled([key])[0].astype("float64")))
    return [
        max(float(abs(one[layer] - other[layer]).max() / max(abs(one[layer]).max(), 1e-30)) for one, other in parts)
        for layer in range(store.provenance.layers)
    ]


def changed_recordings(manifest: Manifest, folder: Path) -> Iterator[str | None]:
    """For each utterance None, or a sentence where its recording is not the manifest's."""
    for row in manifest.utterances:
        try:
            found = scan_pcm(folder / row.path).sha256
        except AudioError as error:
            yield f"{row.path}: {error.what}"
        else:
            yield None if found == row.sha256 else f"{row.path}: not the recording that the manifest was made from"
