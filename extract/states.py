"""From a manifest and an upstream to a complete store: computes what is missing, nothing else."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Container, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from extract.compute import Job, Outcome, compute_shards
from extract.plan import Block, Plan, make_plan, require_room
from mser.errors import StoreError, UpstreamError
from mser.manifest import Manifest
from mser.store import Provenance, Store, locked, open_or_create, sweep
from mser.store.lock import FILE_NAME as LOCK_NAME
from mser.store.provenance import FILE_NAME
from mser.store.shard import Shard
from mser.upstream import Upstream
from mser.upstream.windows import OVERLAP_SECONDS, WINDOW_SECONDS, require_windows

#: Libraries that compute the states; their versions are part of a store's fingerprint.
COMPUTING = ("torch", "torchaudio", "transformers")
#: Of the code that makes what is stored of states; raise it when the same states would give other values.
RECIPE = "2"
#: Computes the shards of a job: :func:`extract.compute.compute_shards` here, or a cluster's workers.
Compute = Callable[[Job, Upstream, Sequence[Block], Callable[[int, float], None]], Outcome]


@dataclass(frozen=True)
class Settings:
    """What of the states is kept, and how long recordings are cut.

    Attributes:
        dtype, keep, layers, window, overlap: as in :class:`mser.store.Provenance`; no layers means all.
    """

    dtype: str = "float16"
    keep: tuple[str, ...] = ("frames", "pooled")
    layers: tuple[int, ...] = ()
    window: float = WINDOW_SECONDS
    overlap: float = OVERLAP_SECONDS

    def __post_init__(self) -> None:
        require_windows(self.window, self.overlap)


@dataclass(frozen=True)
class Summary:
    """What an extraction did.

    Attributes:
        computed: utterances computed now; kept: utterances that were there already.
        seconds_of_audio: of the utterances computed now.
        windowed: utterances of those computed now that were run in windows.
        halved: batches that did not fit into the device's memory and were run in parts.
    """

    store: Store
    computed: int
    kept: int
    seconds_of_audio: float
    windowed: int = 0
    halved: int = 0


def provenance_of(corpus: str, upstream: Upstream, settings: Settings) -> Provenance:
    """The description of a store that this upstream fills, with the libraries installed now."""
    versions = {name: importlib.metadata.version(name) for name in COMPUTING} | {"recipe": RECIPE}
    one_frame = upstream.frame_samples == 0
    whole = one_frame or settings.window == 0
    return Provenance(
        corpus,
        asdict(upstream.info),
        settings.dtype,
        # A single frame is its own mean; in float32, since functionals may exceed float16.
        ("pooled",) if one_frame else tuple(sorted(settings.keep)),
        settings.layers,
        0.0 if whole else settings.window,
        0.0 if whole else settings.overlap,
        versions,
    )


def extract(
    manifest: Manifest,
    folder: Path,
    upstream: Upstream,
    store_folder: Path,
    settings: Settings | None = None,
    *,
    replace_changed: bool = False,
    wait: bool = False,
    compute: Compute = compute_shards,
    advance: Callable[[int, int, float], None] = lambda done, total, seconds: None,
) -> Summary:
    """Computes the states of every utterance that the store lacks.

    Args:
        folder: of the corpus's recordings.
        replace_changed: drop the shards of recordings that changed since, and compute these anew.
        wait: until another extraction of this store has ended, instead of refusing.
        compute: who computes the shards.
        advance: told utterances done, utterances in all, and seconds of audio done.

    Raises:
        StoreError: the store is of another making, holds states of recordings that changed since, or is being written
            by another extraction; or states cannot be stored. DiskError: the disk is full or would be.
        ManifestError: a recording is not the one the manifest was made from.
        AudioError, UpstreamError: a recording cannot be read or does not fit the model.
        Shards written before an error stay, and an error in one shard does not keep the others from being written.
    """
    provenance = provenance_of(manifest.corpus, upstream, settings or Settings())
    hashes = {row.utterance_id: row.sha256 for row in manifest.utterances}

    def planned(wanted: Container[str]) -> Plan:
        rows = [row for row in manifest.utterances if row.utterance_id in wanted]
        return make_plan(rows, upstream, provenance.window, provenance.overlap)

    if (store_folder / FILE_NAME).is_file():
        Provenance.read(store_folder).require_same(provenance, store_folder)
        store = Store(store_folder)
        # A lock that lies there is either held, or stale and to be cleared away.
        if store.missing(hashes) == ([], []) and not (store_folder / LOCK_NAME).exists():
            return Summary(store, 0, len(hashes), 0.0)
    else:
        require_room(planned(hashes).bytes(provenance), store_folder)  # before a folder is made
    with locked(store_folder, wait):
        store = open_or_create(store_folder, provenance)
        sweep(store_folder)
        absent, changed = store.missing(hashes)
        dropped = _shards_of(store, changed, replace_changed)
        missing = {*absent, *(key for shard in dropped for key in shard.utterance_ids)} & set(hashes)
        plan = planned(missing)
        freed = sum(shard.path.stat().st_size for shard in dropped)
        require_room(plan.bytes(provenance) - freed, store_folder)
        for shard in dropped:
            shard.path.unlink()
        done = _Done(len(missing), advance)
        outcome = compute(Job(folder.resolve(), store_folder.resolve(), provenance), upstream, plan.blocks, done)
    _raise_failures(outcome, plan, upstream, provenance)
    windowed = sum(len(pieces) > 1 for block in plan.blocks for pieces in block.pieces)
    kept = len(hashes) - outcome.utterances
    return Summary(Store(store_folder), outcome.utterances, kept, outcome.seconds, windowed, outcome.halved)


class _Done:
    """Adds up what is done for a progress bar."""

    def __init__(self, total: int, advance: Callable[[int, int, float], None]) -> None:
        self.total, self.advance = total, advance
        self.utterances, self.seconds = 0, 0.0

    def __call__(self, utterances: int, seconds: float) -> None:
        self.utterances, self.seconds = self.utterances + utterances, self.seconds + seconds
        self.advance(self.utterances, self.total, self.seconds)


def _raise_failures(outcome: Outcome, plan: Plan, upstream: Upstream, provenance: Provenance) -> None:
    """Raises the first of the failures, with how many there are; what could be computed is on the disk by now."""
    if outcome.failures:
        first, more = outcome.failures[0], len(outcome.failures) - 1
        hint = f"{first.hint}; then run the same command again" if first.hint else "then run the same command again"
        raise type(first)(
            first.what + (f" And {more} more shards failed." if more else ""),
            file=first.file,
            field=first.field,
            expected=first.expected,
            found=first.found,
            hint=f"{hint}: {outcome.utterances} utterances were stored and stay",
        ) from first
    if plan.unfit:
        rate, named = upstream.info.sample_rate, ", ".join(row.utterance_id for row in plan.unfit[:3])
        longest = "" if upstream.longest is None or provenance.window else f", at most {upstream.longest / rate:g} s"
        raise UpstreamError(
            f"{len(plan.unfit)} recordings do not fit {upstream.info.name}; all others are stored.",
            file=named + (" ..." if len(plan.unfit) > 3 else ""),
            expected=f"at least one frame{longest}",
            found=", ".join(f"{row.seconds:.3f} s" for row in plan.unfit[:3]),
            hint="leave them out of the corpus" + (", or allow windows (WINDOW=30)" if longest else ""),
        )


def _shards_of(store: Store, changed: Sequence[str], replace: bool) -> list[Shard]:
    """The shards that hold states of recordings that changed; StoreError where they are not to be replaced."""
    if changed and not replace:
        raise StoreError(
            f"{len(changed)} recordings changed since their states were computed.",
            file=store.folder,
            field="audio_sha256",
            found=", ".join(changed[:3]) + (" ..." if len(changed) > 3 else ""),
            hint="run `make extract` with REPLACE_CHANGED=1 to compute these anew",
        )
    return [shard for shard in store.shards if set(shard.utterance_ids) & set(changed)]
