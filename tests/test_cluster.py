"""Shards computed by a cluster's workers against those of one process: lost workers, bad input, unlike models."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from extractions import leftovers, noise, recorded, shards

from extract import cluster, plan
from extract.cli import main
from extract.cluster import Model, compute_on, connected
from extract.states import extract
from mser.config import Workspace
from mser.errors import ConfigError, ManifestError, StoreError
from mser.manifest import Manifest
from mser.store import Store
from mser.upstream import Upstream, load_upstream

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.usefixtures("small_shards")

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Two workers on this machine."""
    with connected("", 2, "cpu") as found:
        assert found is not None
        yield found


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return recorded(tmp_path, [noise(3_600 + 480 * number, number) for number in range(10)])


def on(client: Any, upstream: Upstream) -> Any:
    return compute_on(client, Model(upstream.info.name, "cpu", upstream.info.policy, "float32"))


def worker_pids(client: Any) -> list[int]:
    return list(client.run(os.getpid).values())


@pytest.mark.parametrize("name", ["logmel", "random-tiny-wav2vec2"])
def test_workers_write_the_files_that_one_process_writes(
    client: Any, name: str, manifest: Manifest, tmp_path: Path
) -> None:
    upstream, told = load_upstream(name, CPU), []
    extract(manifest, tmp_path / "toy", upstream, tmp_path / "alone")
    summary = extract(
        manifest,
        tmp_path / "toy",
        upstream,
        tmp_path / "s",
        compute=on(client, upstream),
        advance=lambda *now: told.append(now),
    )
    assert (summary.computed, summary.kept) == (10, 0)
    assert told[-1][:2] == (10, 10)
    assert summary.seconds_of_audio == pytest.approx(sum(row.seconds for row in manifest.utterances))
    assert shards(tmp_path / "s") == shards(tmp_path / "alone")
    assert leftovers(tmp_path / "s") == []
    assert len(set(worker_pids(client)) - {os.getpid()}) == 2


def test_a_worker_that_is_killed_costs_nothing(client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "SHARD_FRAMES", 1)
    manifest = recorded(tmp_path, [noise(3_200 + 160 * number, number) for number in range(60)])
    logmel, victims = load_upstream("logmel", CPU), worker_pids(client)
    extract(manifest, tmp_path / "toy", logmel, tmp_path / "alone")

    def kill() -> None:
        began = time.monotonic()
        while len(shards(tmp_path / "s")) < 8 and time.monotonic() < began + 60:
            time.sleep(0.002)
        os.kill(victims[0], signal.SIGKILL)

    (tmp_path / "s").mkdir()
    killing = threading.Thread(target=kill)
    killing.start()
    summary = extract(manifest, tmp_path / "toy", logmel, tmp_path / "s", compute=on(client, logmel))
    killing.join()
    assert summary.computed == 60
    assert shards(tmp_path / "s") == shards(tmp_path / "alone")
    client.wait_for_workers(2, timeout=60)
    assert victims[0] not in worker_pids(client)


def test_the_command_computes_on_a_scheduler_that_is_there(client: Any, manifest: Manifest, tmp_path: Path) -> None:
    manifest.write(workspace := Workspace(tmp_path / "work"), [], [])
    options = ["states", "--home", str(workspace.root), "--corpora", str(tmp_path), "--upstreams", "logmel"]
    before = worker_pids(client)
    result = CliRunner().invoke(main, [*options, "--scheduler", client.scheduler.address])
    assert result.exit_code == 0, result.output
    extract(manifest, tmp_path / "toy", load_upstream("logmel", CPU), tmp_path / "alone")
    assert shards(workspace.store("toy", "logmel")) == shards(tmp_path / "alone")
    assert worker_pids(client) == before


def test_a_users_error_comes_back_from_a_worker_as_it_was(client: Any, manifest: Manifest, tmp_path: Path) -> None:
    where, logmel = (manifest, tmp_path / "toy"), load_upstream("logmel", CPU)
    recorded(tmp_path, [noise(9_999, 77)])  # the first recording is another one now
    errors = []
    for number, options in enumerate([{}, {"compute": on(client, logmel)}]):
        with pytest.raises(ManifestError, match="is not the one in the manifest") as error:
            extract(*where, logmel, tmp_path / str(number), **options)
        errors.append(error.value)
    for field in ("what", "file", "field", "expected", "found", "hint"):
        assert str(getattr(errors[0], field)) == str(getattr(errors[1], field))
    assert shards(tmp_path / "0") == shards(tmp_path / "1")
    assert 0 < len(Store(tmp_path / "1")) < 10


def test_a_worker_with_another_model_or_other_libraries_is_refused(
    client: Any, manifest: Manifest, tmp_path: Path
) -> None:
    upstream = load_upstream("logmel", CPU)
    upstream.info = replace(upstream.info, weights_sha256="0" * 64)
    with pytest.raises(StoreError, match="not the one that was asked for") as error:
        extract(manifest, tmp_path / "toy", upstream, tmp_path / "s", compute=on(client, upstream))
    assert error.value.field == "weights_sha256"
    assert error.value.expected == "0" * 64
    assert shards(tmp_path / "s") == {}


def test_a_worker_with_another_torch_is_refused(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    from extract.states import Settings, provenance_of

    logmel = load_upstream("logmel", CPU)
    job = cluster.Job(Path(), Path(), provenance_of("toy", logmel, Settings()))
    cluster._require_same(logmel, job)
    monkeypatch.setattr(cluster, "version", lambda name: "0.1")
    with pytest.raises(StoreError, match="not the one that was asked for") as error:
        cluster._require_same(logmel, job)
    assert error.value.field == "torch, torchaudio, transformers"


def test_a_workers_tasks_share_weights_but_not_policies() -> None:
    model = Model("random-tiny-wav2vec2", "cpu", "solo", "float32")
    one, other = cluster._built(model), cluster._built(replace(model, policy="masked"))
    assert (one.info.policy, other.info.policy) == ("solo", "masked")
    assert one.encoder is other.encoder  # type: ignore[attr-defined]
    cluster._models.clear()


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense", "gopher://host:1"])
def test_a_scheduler_that_is_not_there_is_told(
    manifest: Manifest, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1)
    manifest.write(workspace := Workspace(tmp_path / "work"), [], [])
    options = ["--home", str(workspace.root), "--corpora", str(tmp_path), "--upstreams", "logmel"]
    began = time.monotonic()
    result = CliRunner().invoke(main, ["states", *options, "--scheduler", address])
    assert result.exit_code == 1, result.output
    assert "The scheduler does not answer" in result.output
    assert address in result.output
    assert time.monotonic() < began + 15
    assert not workspace.cache.exists()


def test_a_scheduler_without_workers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed import LocalCluster

    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1)
    with LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0", silence_logs=40) as empty:
        with pytest.raises(ConfigError, match="no workers") as error, connected(empty.scheduler_address, 0, "cpu"):
            pytest.fail("connected")
        assert "dask worker" in str(error.value)


def test_errors_and_blocks_survive_the_wire(manifest: Manifest) -> None:
    error = StoreError("what", file=Path("a"), field="b", expected=1, found=2.5, hint="do")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is StoreError
    assert str(again) == str(error)
    blocks = plan.make_plan(manifest.utterances, load_upstream("logmel", CPU), 30.0, 4.0).blocks
    assert pickle.loads(pickle.dumps(blocks)) == blocks


def test_no_port_of_a_local_cluster_is_open_to_other_machines(client: Any) -> None:
    import psutil  # type: ignore[import-untyped]

    def listening() -> set[str]:
        return {one.laddr.ip for one in psutil.Process().net_connections() if one.status == "LISTEN"}

    assert set().union(*client.run(listening).values()) == {"127.0.0.1"}
    assert listening() <= {"127.0.0.1"}


SCHEDULER = """
import sys
from extract.cluster import local_cluster

if __name__ == "__main__":
    with local_cluster(1, []) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.readline()
"""


def test_a_scheduler_that_is_lost_is_told_and_what_is_complete_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "SHARD_FRAMES", 1)
    manifest = recorded(tmp_path, [noise(3_200 + 160 * number, number) for number in range(200)])
    (tmp_path / "scheduler.py").write_text(SCHEDULER, encoding="utf-8")
    (folder := tmp_path / "s").mkdir()
    command = [sys.executable, str(tmp_path / "scheduler.py")]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL, **pipes
    ) as there:
        assert there.stdout is not None

        def kill() -> None:
            began = time.monotonic()
            while len(shards(folder)) < 5 and time.monotonic() < began + 60:
                time.sleep(0.01)
            there.kill()

        killing, logmel = threading.Thread(target=kill), load_upstream("logmel", CPU)
        with connected(there.stdout.readline().strip(), 0, "cpu") as far:
            killing.start()
            with pytest.raises(ConfigError, match="scheduler was lost"):
                extract(manifest, tmp_path / "toy", logmel, folder, compute=on(far, logmel))
        killing.join()
    there_by_then = shards(folder)
    extract(manifest, tmp_path / "toy", logmel, folder)
    assert 5 <= len(there_by_then) < 200 == len(shards(folder))
    assert there_by_then.items() <= shards(folder).items()
