"""From a manifest and an upstream to a complete store: computes what is missing, nothing else."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from mser.audio import pcm_sha256, read_pcm, resampled_length, to_waveform
from mser.errors import ManifestError, StoreError, UpstreamError
from mser.manifest import Manifest, Utterance
from mser.store import Provenance, ShardEntry, Store, open_or_create, write_shard
from mser.upstream import Upstream

#: Shards of about this many frames: large enough to write at disk speed, small enough to lose little work.
SHARD_FRAMES = 8_000
DECODE_THREADS = 2
#: Libraries that compute the states; their versions are part of a store's fingerprint.
COMPUTING = ("torch", "torchaudio", "transformers")


@dataclass(frozen=True)
class Summary:
    """What an extraction did.

    Attributes:
        computed: utterances computed now; kept: utterances that were there already.
        seconds_of_audio: of the utterances computed now.
    """

    store: Store
    computed: int
    kept: int
    seconds_of_audio: float


def provenance_of(corpus: str, upstream: Upstream, dtype: str, keep: Sequence[str]) -> Provenance:
    """The description of a store that this upstream fills, with the libraries installed now."""
    versions = {name: importlib.metadata.version(name) for name in COMPUTING}
    return Provenance(corpus, asdict(upstream.info), dtype, tuple(sorted(keep)), versions)


def plan(utterances: Sequence[Utterance], upstream: Upstream) -> Iterator[list[Utterance]]:
    """Blocks of utterances of about ``SHARD_FRAMES`` frames, in the order of the manifest.

    The blocks depend on the manifest alone, so an interrupted run and its continuation write the same
    shards as one that was left in peace.
    """
    block: list[Utterance] = []
    frames = 0
    for utterance in utterances:
        length = resampled_length(utterance.num_samples, utterance.sample_rate, upstream.info.sample_rate)
        try:
            frames += upstream.num_frames(length)
        except UpstreamError as error:
            raise _naming([utterance], error) from error
        block.append(utterance)
        if frames >= SHARD_FRAMES:
            yield block
            block, frames = [], 0
    if block:
        yield block


def extract(
    manifest: Manifest,
    folder: Path,
    upstream: Upstream,
    store_folder: Path,
    *,
    dtype: str = "float16",
    keep: Sequence[str] = ("frames", "pooled"),
    replace_changed: bool = False,
    advance: Callable[[int, int, float], None] = lambda done, total, seconds: None,
) -> Summary:
    """Computes the states of every utterance that the store lacks.

    Args:
        folder: of the corpus's recordings.
        replace_changed: drop the shards of recordings that changed since, and compute these anew.
        advance: told utterances done, utterances in all, and seconds of audio done.

    Raises:
        StoreError: the store is of another making, or holds states of recordings that changed since.
        ManifestError: a recording is not the one the manifest was made from.
        AudioError, UpstreamError: a recording cannot be read or does not fit the model.
        Shards written before an error stay.
    """
    store = open_or_create(store_folder, provenance_of(manifest.corpus, upstream, dtype, keep))
    hashes = {row.utterance_id: row.sha256 for row in manifest.utterances}
    absent, changed = store.missing(hashes)
    if changed:
        store = _drop_changed(store, changed, replace_changed)
        absent, _ = store.missing(hashes)
    missing, done, seconds = set(absent), 0, 0.0
    with ThreadPoolExecutor(DECODE_THREADS) as threads:
        for block in plan(manifest.utterances, upstream):
            entries: list[ShardEntry] = []
            todo = [row for row in block if row.utterance_id in missing]
            for rows, waveforms in _decode_ahead(threads, todo, folder, upstream):
                states = _states(upstream, rows, waveforms)
                entries += [
                    ShardEntry(row.utterance_id, row.sha256, one) for row, one in zip(rows, states, strict=True)
                ]
                done, seconds = done + len(rows), seconds + sum(row.seconds for row in rows)
                advance(done, len(missing), seconds)
            if entries:
                write_shard(store.folder, store.provenance, entries)
    return Summary(Store(store_folder), done, len(hashes) - done, seconds)


def _states(upstream: Upstream, rows: Sequence[Utterance], waveforms: Sequence[Tensor]) -> list[Tensor]:
    try:
        return upstream.states(waveforms)
    except UpstreamError as error:
        raise _naming(rows, error) from error


def _naming(rows: Sequence[Utterance], error: UpstreamError) -> UpstreamError:
    named = ", ".join(row.utterance_id for row in rows)
    return UpstreamError(
        error.what, file=named, field=error.field, expected=error.expected, found=error.found, hint=error.hint
    )


def _drop_changed(store: Store, changed: Sequence[str], replace: bool) -> Store:
    if not replace:
        raise StoreError(
            f"{len(changed)} recordings changed since their states were computed.",
            file=store.folder,
            field="audio_sha256",
            found=", ".join(changed[:3]) + (" ..." if len(changed) > 3 else ""),
            hint="run `make extract` with REPLACE_CHANGED=1 to compute these anew",
        )
    for shard in store.shards:
        if set(shard.utterance_ids) & set(changed):
            shard.path.unlink()
    return Store(store.folder)


def _decode_ahead(
    threads: ThreadPoolExecutor, rows: Sequence[Utterance], folder: Path, upstream: Upstream
) -> Iterator[tuple[Sequence[Utterance], list[Tensor]]]:
    """Batches of rows with their waveforms (num_samples,) float32, decoded in threads ahead of the model."""
    waveforms = [threads.submit(_waveform, row, folder, upstream.info.sample_rate) for row in rows]
    try:
        for start in range(0, len(rows), upstream.batch):
            end = start + upstream.batch
            yield rows[start:end], [waveform.result() for waveform in waveforms[start:end]]
    finally:
        for waveform in waveforms:
            waveform.cancel()


def _waveform(row: Utterance, folder: Path, sample_rate: int) -> Tensor:
    samples, rate = read_pcm(folder / row.path)
    found = pcm_sha256(samples, rate)
    if found != row.sha256:
        raise ManifestError(
            f"The recording of {row.utterance_id} is not the one in the manifest.",
            file=folder / row.path,
            field="sha256",
            expected=row.sha256,
            found=found,
            hint=f"run `make manifest LANG={row.language}` again",
        )
    return to_waveform(samples, rate, sample_rate)
