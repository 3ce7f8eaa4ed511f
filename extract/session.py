"""A run over several upstreams and corpora: each upstream is built once, and a failure does not stop the rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from extract.choose import Choice, as_if_on, choose_policy, pick_device, recorded, sample_waveforms
from extract.cluster import Model, choose_on, compute_on, connected
from extract.compute import compute_shards
from extract.plan import Plan, make_plan, measured_seconds, require_room
from extract.states import Compute, Settings, Summary, extract, provenance_of
from extract.verify import Verdict, recompute
from mser.config import Workspace, store_name
from mser.cores import usable_cores
from mser.errors import DiskError, MserError
from mser.manifest import Manifest
from mser.store import Store
from mser.store.provenance import FILE_NAME, Provenance
from mser.upstream import Measurement, Upstream, UpstreamInfo, choose, load_upstream, measure

if TYPE_CHECKING:
    from extract.cluster import Client

#: Families whose upstreams are computed by code of this machine, without weights that would have to be fetched.
OFFLINE_FAMILIES = ("acoustic", "opensmile")


@dataclass(frozen=True)
class Told:
    """One store that is complete now."""

    corpus: str
    upstream: str
    policy: str
    summary: Summary
    seconds: float
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class Planned:
    """What is still to be done for one store."""

    corpus: str
    upstream: str
    utterances: int
    missing: int
    shards: int
    hours: float
    frames: int
    bytes: int
    seconds: float


@dataclass(frozen=True)
class Session:
    """What is run on what, and how.

    Attributes:
        corpora: folder that holds a folder for each corpus.
        upstreams: names, hub ids or folders.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; compute, batching: ``auto`` or what is to be used.
    """

    workspace: Workspace
    corpora: Path
    upstreams: tuple[str, ...]
    settings: Settings
    device: str = "auto"
    compute: str = "auto"
    batching: str = "auto"

    def store(self, manifest: Manifest, name: str) -> Path:
        return self.workspace.store(manifest.corpus, name)

    def compute_of(self, name: str, manifests: Sequence[Manifest]) -> str:
        """What the upstream calculates in: as told, else as the stores were begun, else float32."""
        if self.compute != "auto":
            return self.compute
        begun = [recorded(self.store(manifest, name)).get("compute") for manifest in manifests]
        return next((one for one in begun if one), "float32")

    def load(self, name: str, manifests: Sequence[Manifest], client: Client | None = None) -> Upstream:
        """The upstream; where a cluster computes, one that only plans."""
        compute = self.compute_of(name, manifests)
        if client is None:
            return load_upstream(name, pick_device(self.device), compute=compute)
        return as_if_on(load_upstream(name, torch.device("cpu")), compute)

    def choose(self, upstream: Upstream, name: str, manifest: Manifest, client: Client | None = None) -> Choice:
        """Sets the upstream's policy for a store."""
        store, folder = self.store(manifest, name), self.corpora / manifest.place
        if client is not None:
            model = Model(name, self.device, "", upstream.info.compute)
            choice = choose_on(client, model, store, self.batching, manifest, folder)
        else:
            choice = choose_policy(
                upstream, name, store, self.batching, lambda: sample_waveforms(manifest, folder, upstream)
            )
        upstream.use(choice.policy)
        return choice

    def plan(self, manifests: Sequence[Manifest], workers: int) -> Iterator[Planned]:
        """What is still to be done for each store, with the time a short sample takes now."""
        for name in self.upstreams:
            upstream = self.load(name, manifests)
            for manifest in manifests:
                self.choose(upstream, name, manifest)
                provenance = provenance_of(manifest.corpus, upstream, self.settings)
                missing = self._missing(manifest, name, provenance)
                plan = make_plan(
                    [row for row in manifest.utterances if row.utterance_id in missing],
                    upstream,
                    provenance.window,
                    provenance.overlap,
                )
                seconds = self._seconds(plan, upstream, provenance, manifest, workers) if plan.blocks else 0.0
                yield Planned(
                    manifest.corpus,
                    upstream.info.name,
                    len(manifest.utterances),
                    plan.utterances,
                    len(plan.blocks),
                    plan.seconds / 3600,
                    plan.frames,
                    plan.bytes(provenance),
                    seconds,
                )

    def _seconds(
        self, plan: Plan, upstream: Upstream, provenance: Provenance, manifest: Manifest, workers: int
    ) -> float:
        """How long a plan takes here: reading, and on a CPU beside it, computing; both measured on a sample."""
        folder, threads = self.corpora / manifest.place, max(1, usable_cores() // workers)
        sample_waveforms(manifest, folder, upstream, 1)  # warms up
        began = time.perf_counter()
        sample = sample_waveforms(manifest, folder, upstream)
        reading = (time.perf_counter() - began) * upstream.info.sample_rate / sum(map(len, sample)) * plan.seconds
        computing = measured_seconds(plan, upstream, provenance, sample, threads, workers)
        return computing if upstream.device.type == "cuda" else computing + reading / threads / workers

    def _missing(self, manifest: Manifest, name: str, provenance: Provenance) -> set[str]:
        folder = self.store(manifest, name)
        hashes = {row.utterance_id: row.sha256 for row in manifest.utterances}
        if not (folder / FILE_NAME).is_file():
            return set(hashes)
        Provenance.read(folder).require_same(provenance, folder)
        absent, changed = Store(folder).missing(hashes)
        return {*absent, *changed}

    def require_room(self, needed: int) -> None:
        """Raises DiskError where the workspace's disk cannot hold ``needed`` bytes more."""
        require_room(needed, self.workspace.cache)

    def recompute(self, verdict: Verdict, manifest: Manifest, folder: Path, count: int) -> Verdict:
        """Adds to a verdict what ``count`` random utterances give when they are computed again.

        An upstream that lies in a folder is loaded only where the session names the folder; one of the hub only
        where it is named: nothing is fetched unasked.
        """
        store, recordings = Store(folder), self.corpora / manifest.place
        if not recordings.is_dir():
            return replace(verdict, recomputed="no recordings")
        named = [name for name in self.upstreams if store_name(name) == folder.name]
        if store.provenance.upstream["family"] in OFFLINE_FAMILIES or store.provenance.upstream["random_weights"]:
            named.append(str(store.provenance.upstream["source"]))
        if not named:
            return replace(verdict, recomputed="not named in UPSTREAMS")
        try:
            device = pick_device(self.device)
            compute = str(store.provenance.upstream["compute"])
            upstream = load_upstream(named[0], device, policy=str(store.provenance.upstream["policy"]), compute=compute)
            return recompute(verdict, manifest, recordings, store, upstream, count)
        except MserError as error:
            return replace(verdict, faults=(*verdict.faults, str(error)))

    def measure(self, manifest: Manifest) -> Iterator[tuple[str, UpstreamInfo, list[Measurement], str]]:
        """For each upstream how far batched states lie from states alone, under each policy, and the one to choose."""
        for name in self.upstreams:
            upstream = self.load(name, [manifest])
            found = measure(upstream, sample_waveforms(manifest, self.corpora / manifest.place, upstream))
            yield name, upstream.info, found, choose(found, upstream.device)


def run_session(
    session: Session,
    manifests: Sequence[Manifest],
    *,
    scheduler: str,
    workers: int,
    replace_changed: bool,
    wait: bool,
    tell: Callable[[Told], None],
    progress: Callable[[str], AbstractContextManager[Callable[[int, int, float], None]]],
) -> list[MserError]:
    """Fills the stores of all upstreams and manifests; gives the errors of those that could not be completed.

    Args:
        tell: told of each store that is complete.
        progress: makes a progress bar with a title.

    Raises:
        DiskError: no store can be written to any more.
    """
    failed: list[MserError] = []
    with connected(scheduler, workers, session.device) as client:
        for name in session.upstreams:
            try:
                upstream = session.load(name, manifests, client)
            except MserError as error:
                failed.append(error)
                continue
            remarks = upstream.remarks
            for manifest in manifests:
                try:
                    told = _fill(session, name, upstream, manifest, client, replace_changed, wait, progress)
                except DiskError:
                    raise
                except MserError as error:
                    failed.append(error)
                else:
                    tell(replace(told, remarks=(*remarks, *told.remarks)))
                    remarks = ()
    return failed


def _fill(
    session: Session,
    name: str,
    upstream: Upstream,
    manifest: Manifest,
    client: Client | None,
    replace_changed: bool,
    wait: bool,
    progress: Callable[[str], AbstractContextManager[Callable[[int, int, float], None]]],
) -> Told:
    """Fills one store."""
    began = time.monotonic()
    folder = session.store(manifest, name)
    choice = session.choose(upstream, name, manifest, client)
    compute: Compute = compute_shards
    if client is not None:
        compute = compute_on(client, Model(name, session.device, choice.policy, upstream.info.compute))
    with progress(f"{manifest.corpus} x {upstream.info.name}") as advance:
        summary = extract(
            manifest,
            session.corpora / manifest.place,
            upstream,
            folder,
            session.settings,
            replace_changed=replace_changed,
            wait=wait,
            compute=compute,
            advance=advance,
        )
    if choice.measurements or choice.compute_differences:
        choice.write(folder, str(upstream.device))
    title = f"{manifest.corpus} x {upstream.info.name}"
    remarks = []
    if summary.windowed:
        remarks.append(
            f"{title}: {summary.windowed} recordings longer than {session.settings.window:g} s were run in windows "
            f"that share {session.settings.overlap:g} s"
        )
    if summary.halved:
        remarks.append(f"{title}: {summary.halved} batches did not fit into the device's memory and were halved")
    if upstream.info.random_weights:
        remarks.append(f"{name} has random weights: it shows the flow, never an accuracy.")
    return Told(manifest.corpus, upstream.info.name, choice.policy, summary, time.monotonic() - began, tuple(remarks))
