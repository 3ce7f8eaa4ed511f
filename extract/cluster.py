"""Shards computed by Dask workers: one process a GPU of this machine, processes on its cores, or a cluster elsewhere.

A task is one shard of one upstream. It can be run twice without harm: a shard is written aside and renamed, and its
name tells its content. So a lost worker costs what it was at, and its task is run by another.

The client holds the store's lock, plans, and shows progress; workers compute and write. They must see the folders of
recordings, store and weights under the same paths.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from extract.choose import Choice, choose_policy, pick_device, recorded, sample_waveforms
from extract.compute import MOST_FAILURES, Advance, Job, Outcome, compute_shards
from extract.plan import Block
from extract.states import COMPUTING, RECIPE
from mser.cores import usable_cores
from mser.errors import ConfigError, DiskError, MserError, StoreError
from mser.manifest import Manifest
from mser.store import Provenance
from mser.upstream import Upstream, load_upstream

if TYPE_CHECKING:
    from distributed import Client

#: Tasks a worker thread has before it, so that none waits for the client.
AHEAD = 2
#: Seconds to wait for a scheduler.
CONNECT_SECONDS = 20
#: Workers that may be lost at one shard before it is given up.
LOST_WORKERS = 4


@dataclass(frozen=True)
class Model:
    """How a worker builds the upstream: once a process, never sent through the cluster.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` as the worker sees it.
    """

    name: str
    device: str
    policy: str
    compute: str


@contextmanager
def connected(scheduler: str, workers: int, device: str) -> Iterator[Client | None]:
    """A client of the cluster to compute on; None where this process is to compute by itself.

    Args:
        scheduler: address such as ``tcp://host:8786``; empty for this machine.
        workers: processes of a local cluster; 0: one a GPU where there are several, else none.

    Raises:
        ConfigError: the scheduler does not answer, or has no workers.
    """
    gpus = visible_gpus() if device in ("auto", "cuda") and not scheduler else []
    count = workers or (len(gpus) if len(gpus) > 1 else 0)
    if not scheduler and not count:
        yield None
        return
    import dask
    from distributed import Client

    with dask.config.set({"distributed.scheduler.allowed-failures": LOST_WORKERS}):
        if not scheduler:
            with local_cluster(count, gpus) as cluster, Client(cluster, set_as_default=False) as client:
                client.wait_for_workers(count, timeout=120)
                client.run(ignore_interrupts)
                yield client
            return
        try:
            client = Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ConfigError(
                "The scheduler does not answer.",
                field="SCHEDULER",
                expected="address of a running Dask scheduler, such as tcp://host:8786",
                found=scheduler,
                hint="start one with `dask scheduler`, and workers with `dask worker tcp://host:8786`",
            ) from error
        with client:
            _require_workers(client, scheduler)
            yield client


def _require_workers(client: Client, scheduler: str) -> None:
    """Raises ConfigError where no worker joins the scheduler for a while: tasks would wait for ever."""
    try:
        client.wait_for_workers(1, timeout=CONNECT_SECONDS)
    except TimeoutError as error:
        raise ConfigError(
            "The scheduler has no workers.",
            field="SCHEDULER",
            expected="one worker or more",
            found=f"none at {scheduler}",
            hint=f"start some with `dask worker {scheduler}`",
        ) from error


@contextmanager
def local_cluster(count: int, gpus: Sequence[str]) -> Iterator[Any]:
    """Worker processes of this machine; where there are GPUs, each sees one of them, and no other."""
    from distributed import Nanny, Scheduler, SpecCluster

    # A task takes one thread: two on a GPU keep it computing while states are copied, one a core else.
    threads = 2 if gpus else max(1, usable_cores() // count)
    # Whoever reaches a port of Dask may run code here: none is open to other machines.
    closed: dict[str, Any] = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "dashboard": False}
    common: dict[str, Any] = {**closed, "nthreads": threads, "memory_limit": 0, "silence_logs": 40}
    specs = {
        number: {
            "cls": Nanny,
            "options": {
                **common,
                "env": {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {},
            },
        }
        for number in range(count)
    }
    scheduler = {"cls": Scheduler, "options": {**closed, "port": 0}}
    with SpecCluster(workers=specs, scheduler=scheduler, silence_logs=40) as cluster:
        yield cluster


def ignore_interrupts() -> None:
    """Ctrl-C at a terminal goes to all processes, but is for the client's, which ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def visible_gpus() -> list[str]:
    """Names of the GPUs this process may use, without taking one into use."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    return [str(number) for number in range(torch.cuda.device_count())]


def compute_on(client: Client, model: Model) -> Callable[[Job, Upstream, Sequence[Block], Advance], Outcome]:
    """Computes shards on a cluster's workers, as :func:`extract.compute.compute_shards` does here."""

    def compute(job: Job, upstream: Upstream, blocks: Sequence[Block], advance: Advance) -> Outcome:
        from distributed import KilledWorker, as_completed
        from distributed.client import FutureCancelledError
        from distributed.comm import CommClosedError

        outcome, waiting = Outcome(), iter(blocks)
        room = AHEAD * max(1, sum(client.nthreads().values()))

        def submit(block: Block) -> Any:
            future = client.submit(compute_on_worker, model, job, block, pure=False)
            sent[future] = block
            return future

        sent: dict[Any, Block] = {}
        first = [submit(block) for _, block in zip(range(room), waiting, strict=False)]
        for future in (done := as_completed(first, loop=client.loop)):
            block = sent.pop(future)
            try:
                part = future.result()
            except KilledWorker as error:
                part = Outcome(failures=[_lost(block, error)])
            except (CommClosedError, FutureCancelledError) as error:
                raise ConfigError(
                    "The scheduler was lost.",
                    field="SCHEDULER",
                    found=error,
                    hint="start it again, then run the same command again: complete shards stay",
                ) from error
            for failure in part.failures:
                if isinstance(failure, DiskError):
                    client.cancel(list(sent), force=True)
                    raise failure
            outcome.add(part)
            advance(len(block.rows), block.seconds)
            following = next(waiting, None)
            if following is not None and len(outcome.failures) < MOST_FAILURES:
                done.add(submit(following))
        return outcome

    return compute


def choose_on(client: Client, model: Model, store: Path, batching: str, manifest: Manifest, folder: Path) -> Choice:
    """The policy for a store, chosen as :func:`extract.choose.choose_policy` does, by a worker's device."""
    before = recorded(store)
    if before:
        return Choice(str(before["policy"]) if batching == "auto" else batching)
    found = client.submit(choose_on_worker, model, store, batching, manifest, folder, pure=False).result()
    if isinstance(found, MserError):
        raise found
    return found


def choose_on_worker(model: Model, store: Path, batching: str, manifest: Manifest, folder: Path) -> Choice | MserError:
    """One task: a policy measured by this worker; an error a user can mend comes back as a value."""
    try:
        with _building:
            upstream = _built(model)
            sample = partial(sample_waveforms, manifest, folder, upstream)
            return choose_policy(upstream, model.name, store, batching, sample)
    except MserError as error:
        return error


def _lost(block: Block, error: Exception) -> MserError:
    return StoreError(
        "Workers were lost again and again at one shard.",
        field=f"{block.rows[0].utterance_id} and {len(block.rows) - 1} more",
        found=error,
        hint="look at the workers' logs (out of memory?)",
    )


_models: dict[Model, Upstream] = {}
_building = threading.Lock()


def compute_on_worker(model: Model, job: Job, block: Block) -> Outcome:
    """One task: a shard computed and written by this worker; errors a user can mend come back in the outcome."""
    try:
        Provenance.read(job.store_folder).require_same(job.provenance, job.store_folder)
        with _building:
            upstream = _built(model)
        _require_same(upstream, job)
        return compute_shards(job, upstream, [block], threads=1)
    except MserError as error:
        return Outcome(failures=[error])


def _built(model: Model) -> Upstream:
    """This worker's upstream, under the model's policy; its weights are loaded at the first task that asks for it."""
    torch.set_num_threads(1)  # for all tasks of this worker, which may run side by side
    weights = replace(model, policy="")
    if weights not in _models:
        _models.clear()  # of the upstream before: its memory is needed
        _models[weights] = load_upstream(model.name, pick_device(model.device), compute=model.compute)
    # Shares the weights, but not the policy: another thread of this worker may be at work under another one.
    upstream = copy(_models[weights])
    if model.policy:
        upstream.use(model.policy)
    return upstream


def _require_same(upstream: Upstream, job: Job) -> None:
    """Raises StoreError where this worker's upstream or libraries are not the client's."""
    versions = {name: version(name) for name in COMPUTING} | {"recipe": RECIPE}
    here, there = {**asdict(upstream.info), **versions}, {**job.provenance.upstream, **job.provenance.versions}
    unlike = sorted(name for name in {*here, *there} if here.get(name) != there.get(name))
    if unlike:
        raise StoreError(
            "A worker's upstream is not the one that was asked for.",
            field=", ".join(unlike),
            expected="; ".join(str(there.get(name)) for name in unlike),
            found="; ".join(str(here.get(name)) for name in unlike),
            hint="give all workers the same weights and library versions",
        )
