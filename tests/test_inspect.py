"""What stores hold, from the stores alone: against numpy over everything at once."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from toys import examples, random_states, utterance

import mser
from mser.cli import main
from mser.config import Workspace
from mser.errors import ConfigError, ManifestError, StoreError
from mser.inspect import effective_rank, layer_statistics, list_stores, statistics
from mser.inspect.listing import every_store
from mser.inspect.statistics import Sums
from mser.manifest import Manifest
from mser.store import Provenance, ShardEntry, Store, open_or_create, write_shard

ROOT = Path(__file__).resolve().parent.parent
FRAMES = [5, 2, 9, 4]
ROWS = tuple(utterance(f"u{number}", speaker=f"s{number}") for number in range(len(FRAMES)))
UPSTREAM = {"name": "up", "layers": 2, "dim": 4, "frame_rate": 50.0, "revision": "r1", "random_weights": False}


def make_store(workspace: Workspace, states: list[Tensor], upstream: str = "up", **options: object) -> Store:
    """A store of two shards that holds the first three of four utterances."""
    info = {**UPSTREAM, "name": upstream, "dim": states[0].shape[2]}
    store = open_or_create(workspace.store("toy", upstream), Provenance("toy", info, **{"dtype": "float32", **options}))
    for numbers in ([0, 1], [2]):
        entries = [ShardEntry(ROWS[n].utterance_id, ROWS[n].sha256, states[n]) for n in numbers]
        write_shard(store.folder, store.provenance, entries)
    return Store(store.folder)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A manifest of four utterances and a store of three of them."""
    found = Workspace(tmp_path)
    Manifest("toy", "de", ROWS, "0" * 16).write(found, [], [])
    make_store(found, random_states(FRAMES))
    return found


def rank_of(states: np.ndarray) -> float:
    """The definition, by singular values: states (n, D) float64."""
    values = np.linalg.svd(states - states.mean(0), compute_uv=False) ** 2
    shares = values[values > 0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def joined(states: list[Tensor]) -> np.ndarray:
    """All frames of the first three utterances (L, n, D) float64."""
    return torch.cat(states[:3], dim=1).double().numpy()


@pytest.mark.parametrize(
    ("dtype", "offset", "scale"),
    [
        ("float32", 0.0, 1.0),
        ("float16", 0.0, 1.0),
        # Of means far larger than deviations nothing is lost.
        ("float32", 3e4, 1.0),
        # The sum of their squares fits neither float16 nor float32.
        ("float16", 0.0, 1.5e4),
        ("float32", 0.0, 1e25),
    ],
)
def test_statistics_over_shards_are_those_over_all_frames(
    tmp_path: Path, dtype: str, offset: float, scale: float
) -> None:
    states = [(x * scale + offset).to(getattr(torch, dtype)) for x in random_states(FRAMES, dim=6)]
    found = layer_statistics(make_store(Workspace(tmp_path), states, dtype=dtype, keep=("frames",)), workers=2)
    frames = joined(states)
    assert (found.count, found.over) == (sum(FRAMES[:3]), "frames")
    np.testing.assert_allclose(found.mean, frames.mean(1), rtol=1e-5, atol=1e-5 * scale)
    np.testing.assert_allclose(found.deviation, frames.std(1), rtol=1e-5)
    np.testing.assert_allclose(found.norm, np.linalg.norm(frames, axis=2).mean(1), rtol=1e-5)
    np.testing.assert_allclose(found.rank, [rank_of(layer) for layer in frames], rtol=1e-5)
    assert found.dead.tolist() == [0, 0]


def test_blocks_of_any_size_give_the_same_statistics(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(workspace.store("toy", "up"))
    whole = layer_statistics(store)
    monkeypatch.setattr("mser.inspect.blocks.BLOCK_BYTES", 3 * 4 * 4)
    monkeypatch.setattr(statistics, "TASK_FRAMES", 1)
    told: list[tuple[int, int]] = []
    parts = layer_statistics(store, advance=lambda done, total: told.append((done, total)))
    np.testing.assert_allclose(parts.deviation, whole.deviation, rtol=1e-6)
    np.testing.assert_allclose(parts.rank, whole.rank, rtol=1e-6)
    assert told == [(number, 4) for number in range(1, 5)]


def test_a_feature_that_never_varies_is_dead(tmp_path: Path) -> None:
    states = random_states(FRAMES)
    for x in states:
        x[1, :, 2] = 7.0
    found = layer_statistics(make_store(Workspace(tmp_path), states))
    assert found.dead.tolist() == [0, 0.25]
    assert found.mean[1, 2] == 7
    assert found.rank[1] <= 3


@examples
@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    dim=st.integers(1, 5),
    offset=st.floats(-1e3, 1e3),
    seed=st.integers(0, 9),
)
def test_sums_of_parts_are_the_sums_of_the_whole(counts: list[int], dim: int, offset: float, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    parts = [torch.randn(count, dim, generator=rng, dtype=torch.float64) + offset for count in counts]
    whole = Sums(parts[0].clone(), parts[0].norm(dim=1))
    for part in parts[1:]:
        whole.add(Sums(part.clone(), part.norm(dim=1)))
    states = torch.cat(parts).numpy()
    centred = states - states.mean(0)
    np.testing.assert_allclose(whole.mean, states.mean(0), atol=1e-9)
    np.testing.assert_allclose(whole.products, centred.T @ centred, atol=1e-7)
    assert whole.count == len(states)


@examples
@given(dim=st.integers(1, 6), kept=st.integers(1, 6), seed=st.integers(0, 9), scale=st.sampled_from([1e-12, 1, 1e12]))
def test_the_effective_rank_of_equal_directions_is_their_number(dim: int, kept: int, seed: int, scale: float) -> None:
    kept = min(kept, dim)
    basis, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))
    covariance = scale * basis[:, :kept] @ basis[:, :kept].T
    assert effective_rank(torch.from_numpy(covariance)) == pytest.approx(kept)


def overwrite(store: Store, frame: Tensor, value: float) -> Path:
    """Overwrites the first value of a stored frame (D,) float32; returns the shard's path."""
    wanted = frame.numpy().tobytes()
    path = next(shard.path for shard in store.shards if wanted in shard.path.read_bytes())
    content = bytearray(path.read_bytes())
    place = content.find(wanted)
    content[place : place + 4] = np.float32(value).tobytes()
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_frames_that_are_not_finite_are_left_out_and_named(
    workspace: Workspace, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In blocks of three frames: which utterance one belongs to does not follow from its place in the block.
    monkeypatch.setattr("mser.inspect.blocks.BLOCK_BYTES", 3 * 4 * 4)
    # Beside it a value whose square float32 cannot hold, which is no reason to leave it out.
    states = random_states(FRAMES)
    states[2][0, 3, 1] = 1e25
    store = make_store(workspace, states, "bad")
    path = overwrite(store, states[2][0, 4], value)
    found = layer_statistics(Store(store.folder))
    frames = joined(states)
    finite = np.delete(frames[0], FRAMES[0] + FRAMES[1] + 4, axis=0)
    np.testing.assert_allclose(found.mean[0], finite.mean(0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.norm, [np.linalg.norm(x, axis=1).mean() for x in (finite, frames[1])], rtol=1e-5)
    np.testing.assert_allclose(found.deviation[1], frames[1].std(0), rtol=1e-5)
    assert found.count == sum(FRAMES[:3])
    said = f"1 frames that are not finite are left out, of layers 0; the first are of toy/u2, in {path.name};"
    assert found.left_out.startswith(said)
    assert layer_statistics(Store(workspace.store("toy", "up"))).left_out == ""
    done = CliRunner().invoke(main, ["inspect", "stats", "--home", str(workspace.root)])
    assert done.exit_code == 0, done.output
    assert "toy x bad: 16 frames" in done.output
    assert f"toy x bad: {said}" in done.output
    page = (workspace.reports / "inspect-de" / "stats.html").read_text(encoding="utf-8")
    assert said in page


def test_a_layer_of_which_nothing_is_finite_is_an_error(tmp_path: Path) -> None:
    states = random_states([1, 1, 1, 1])
    store = make_store(Workspace(tmp_path), states)
    for x in states[:3]:
        overwrite(store, x[1, 0], np.nan)
    with pytest.raises(StoreError, match=r"No state of a layer is finite(?s:.*)layer 1(?s:.*)make verify"):
        layer_statistics(Store(store.folder))


def test_a_store_without_frames_has_statistics_of_its_means(tmp_path: Path) -> None:
    states = random_states(FRAMES)
    store = make_store(Workspace(tmp_path), states, keep=("pooled",))
    found = layer_statistics(store)
    means = np.stack([x.double().numpy().mean(1) for x in states[:3]], axis=1)
    assert (found.count, found.over) == (3, "utterance means")
    np.testing.assert_allclose(found.deviation, means.std(1), rtol=1e-5)
    with pytest.raises(StoreError, match="made without frames"):
        layer_statistics(store, "frames")
    empty = open_or_create(tmp_path / "empty", Provenance("toy", UPSTREAM))
    with pytest.raises(StoreError, match="holds no utterance"):
        layer_statistics(empty)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space are Linux's")
def test_statistics_run_in_less_memory_than_the_store_takes(tmp_path: Path) -> None:
    states = [torch.randn(2, 8_000, 512, generator=torch.Generator().manual_seed(n)).half() for n in range(3)]
    store = open_or_create(tmp_path / "up", Provenance("toy", {**UPSTREAM, "dim": 512}, keep=("frames",)))
    for number in range(20):
        entry = ShardEntry(f"toy/{number}", "0" * 64, states[number % 3])
        write_shard(store.folder, store.provenance, [entry])
    program = f"""
import os, resource
from pathlib import Path
import torch
from mser.inspect import layer_statistics
from mser.store import Store
torch.linalg.eigvalsh(torch.randn(9, 9).double())
store = Store(Path({str(store.folder)!r}))
mapped = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
limit = 280 * 2**20
assert limit < 0.9 * store.size_bytes(), store.size_bytes()
resource.setrlimit(resource.RLIMIT_AS, (mapped + limit, resource.RLIM_INFINITY))
print(layer_statistics(store, workers=1).deviation.mean().item())
"""
    # One arena: an arena a thread takes 64 MiB of addresses, which the limit counts.
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1", "PATH": "/usr/bin"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(1, abs=0.01)


def test_a_listing_tells_what_is_covered_and_what_is_damaged(workspace: Workspace) -> None:
    manifest = Manifest.read(workspace, "toy")
    (summary,) = list_stores(workspace, [manifest])
    assert (summary.covered, summary.total, summary.trouble, summary.health) == (3, 4, "", "incomplete")
    first, second = sorted(workspace.store("toy", "up").glob("*.h5"))
    kept = Store(workspace.store("toy", "up")).shards[1].utterance_ids
    whole = first.read_bytes()
    first.write_bytes(whole[:100])
    (summary,) = list_stores(workspace, [manifest])
    assert (summary.covered, summary.health, summary.usable) == (len(kept), "damaged", True)
    assert f"1 of 2 shards cannot be read, and are left out ({first.name}" in summary.trouble
    # A byte of the pooled statistics: only the checksum of the head tells.
    pooled = Store(workspace.store("toy", "up"), skip_damaged=True).pooled([kept[0]])[0, 0, 0]
    content = bytearray(second.read_bytes())
    content[content.find(pooled.tobytes())] ^= 1
    second.write_bytes(content)
    first.write_bytes(whole)
    (summary,) = list_stores(workspace, [manifest])
    assert "the checksum of its head" in summary.trouble
    (workspace.store("toy", "up") / "store.json").write_text("{", encoding="utf-8")
    (summary,) = list_stores(workspace, [manifest])
    assert (summary.health, summary.covered) == ("unusable", 0)
    assert "not valid JSON" in summary.trouble


def change_recording(workspace: Workspace) -> None:
    """The manifest lists another recording of the first utterance than the store holds."""
    changed = (replace(ROWS[0], sha256="f" * 64), *ROWS[1:])
    Manifest("toy", "de", changed, "0" * 16).write(workspace, [], [])


def inspected(workspace: Workspace, *arguments: str) -> str:
    """What a command says, on whole lines."""
    done = CliRunner().invoke(main, ["inspect", *arguments, "--home", str(workspace.root)])
    assert done.exit_code == 0, done.output
    return done.output


def test_recordings_that_changed_are_not_counted(workspace: Workspace) -> None:
    change_recording(workspace)
    (summary,) = list_stores(workspace, [Manifest.read(workspace, "toy")])
    assert (summary.covered, summary.changed, summary.health) == (2, 1, "other recordings")
    assert "other recordings" in inspected(workspace, "ls")


@pytest.mark.parametrize("command", ["", "ls", "stats", "similarity", "probe", "map", "export"])
def test_every_command_names_the_recordings_that_changed(
    workspace: Workspace, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)  # it would be compiled
    change_recording(workspace)
    said = inspected(workspace, *command.split())
    assert said.count("toy x up: 1 utterances are left out, since it holds other recordings of them") == 1
    assert "REPLACE_CHANGED=1" in said


@pytest.mark.parametrize("command", ["ls", "stats", "similarity", "probe", "map"])
def test_every_command_names_the_damaged_shard(
    workspace: Workspace, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    shard = Store(workspace.store("toy", "up")).shards[0].path
    shard.write_bytes(shard.read_bytes()[:100])
    said = inspected(workspace, command)
    assert said.count(f"toy x up: 1 of 2 shards cannot be read, and are left out ({shard.name}") == 1
    assert "next: delete this file and run `make extract` again" in said


def test_an_utterance_is_never_shown_by_another_recording(workspace: Workspace) -> None:
    make_store(workspace, random_states(FRAMES, seed=1), "other")
    said = inspected(workspace, "show", "toy/u3")
    for upstream in ("up", "other"):
        assert f"{upstream}: does not hold it; run `make extract` for its language" in said
    shard = next(one.path for one in Store(workspace.store("toy", "up")).shards if "toy/u2" in one.utterance_ids)
    shard.write_bytes(shard.read_bytes()[:100])
    said = inspected(workspace, "show", "toy/u2")
    assert "other: 2 x" in said
    assert "up: does not hold it in what can be read of it: 1 of 2 shards cannot be read" in said
    assert shard.name in said
    (workspace.store("toy", "other") / "store.json").write_text("{", encoding="utf-8")
    said = inspected(workspace, "show", "toy/u2")
    assert "not valid JSON" in said
    assert "No store holds it" not in said
    change_recording(workspace)
    said = inspected(workspace, "show", "toy/u0")
    assert "up: holds states of another recording of this name; run `make extract` with REPLACE_CHANGED=1" in said
    assert "up: 2 x" not in said


def test_every_store_is_listed_with_or_without_a_manifest(workspace: Workspace) -> None:
    shutil.copytree(workspace.cache / "toy", workspace.cache / "orphan")
    provenance = make_store(workspace, random_states(FRAMES), "bare").provenance
    (workspace.store("toy", "bare") / "store.json").unlink()
    (workspace.cache / "toy" / "empty").mkdir()
    said = inspected(workspace, "ls")
    assert "orphan x up: its corpus has no manifest" in said
    assert "toy x bare: no store.json, though shards lie there; run again the `make extract` that made them" in said
    listed = {(one.corpus, one.upstream): one for one in every_store(workspace)}
    assert {key: one.health for key, one in listed.items()} == {
        ("toy", "bare"): "unusable", ("toy", "up"): "incomplete", ("orphan", "up"): "no manifest",
    }  # fmt: skip
    assert listed["orphan", "up"].held == 3
    assert listed["toy", "bare"].size_bytes > 0
    # Which language it is of is not known.
    assert "orphan" not in inspected(workspace, "ls", "--language", "de")
    shutil.rmtree(workspace.manifests)
    assert [one.health for one in every_store(workspace)] == ["no manifest", "unusable", "no manifest"]
    assert "orphan" in inspected(workspace, "ls")
    # What the hint leads to.
    assert len(open_or_create(workspace.store("toy", "bare"), provenance)) == 3
    shutil.rmtree(workspace.cache)
    with pytest.raises(ManifestError, match="There is no manifest yet"):
        list(every_store(workspace))


def test_an_opened_corpus_gives_means_frames_and_labels(workspace: Workspace) -> None:
    states = random_states(FRAMES)
    make_store(workspace, states, "halved", dtype="float16", keep=("frames",))
    for path in (workspace.cache / "toy", str(workspace.store("toy", "up"))):
        store = mser.open_store(path)
        assert store.utterance_ids == tuple(sorted(row.utterance_id for row in ROWS[:3]))
        assert store.labels("speaker").tolist() == ["s0", "s1", "s2"]
        means = store.layer("up", 1)
        for row, x in zip(means, states, strict=False):
            np.testing.assert_allclose(row, x[1].numpy().mean(0), atol=1e-6)
        frames = store.layer("up", 1, frames=True)
        for number, key in enumerate(frames.utterance_ids):
            own = frames.states[frames.offsets[number] : frames.offsets[number + 1]].compute()
            np.testing.assert_array_equal(own, states[int(key[-1])][1].numpy())
        assert frames.states.shape == (sum(FRAMES[:3]), 4)
    both = mser.open_store(workspace.cache / "toy")
    assert both.upstreams == ("halved", "up")
    assert both.layers("halved") == (0, 1)
    assert "3 utterances" in repr(both)
    # A store without pooled statistics: means of its frames.
    np.testing.assert_allclose(both.layer("halved", 0), both.layer("up", 0), atol=2e-3)


def test_a_corpus_can_be_opened_without_its_damaged_shards(workspace: Workspace) -> None:
    store = Store(workspace.store("toy", "up"))
    damaged, whole = store.shards
    damaged.path.write_bytes(damaged.path.read_bytes()[:100])
    with pytest.raises(StoreError, match="cannot be read"):
        mser.open_store(workspace.cache / "toy")
    opened = mser.open_store(workspace.cache / "toy", skip_damaged=True)
    assert opened.utterance_ids == tuple(sorted(whole.utterance_ids))
    assert opened.layer("up", 0).shape == (len(whole.utterance_ids), 4)
    assert [error.file for error in opened.damage["up"]] == [damaged.path]
    assert damaged.path.name in repr(opened)


def test_an_opened_corpus_says_what_it_lacks(workspace: Workspace, tmp_path: Path) -> None:
    store = mser.open_store(workspace.cache / "toy")
    with pytest.raises(StoreError, match="does not keep layer 7"):
        store.layer("up", 7)
    with pytest.raises(StoreError, match=r"no store of 'down'(?s:.*)up"):
        store.layer("down", 0)
    with pytest.raises(ConfigError, match="no such column"):
        store.labels("mood")
    with pytest.raises(StoreError, match="There is no store here"):
        mser.open_store(tmp_path / "manifests")
    Manifest("toy", "de", ROWS[1:], "0" * 16).write(workspace, [], [])
    with pytest.raises(StoreError, match=r"1 of 3; first: toy/u0"):
        mser.open_store(workspace.cache / "toy").labels()


def test_commands_list_and_measure(workspace: Workspace) -> None:
    def run(*arguments: str) -> str:
        done = CliRunner().invoke(main, ["inspect", *arguments])
        assert done.exit_code == 0, done.output
        return done.output

    home = ["--home", str(workspace.root)]
    for listed in (run("ls", *home, "--language", "de"), run(*home, "--language", "de", "ls")):
        assert "3 of 4" in listed
        assert "incomplete" in listed
    measured = run("stats", *home)
    assert "toy x up: 16 frames" in measured
    assert "of 4" in measured
    assert (workspace.reports / "inspect-de" / "stats.html").is_file()
    assert "3 utterance means" in run("stats", *home, "--over", "means")


def test_what_cannot_be_looked_at_ends_with_a_message(workspace: Workspace) -> None:
    home = ["--home", str(workspace.root)]
    for arguments, said in (
        (["ls", "--language", "fr"], "make manifest LANG=fr"),
        (["stats", "--upstreams", "down"], "some of: up"),
        (["map", "--run", "lost"], "There is no such run."),
        (["map", "--layer", "9"], "of up: 0, 1"),
        (["export", "--upstream", "down"], "one of: up"),
        (["export", "--layers", "0,9"], "does not keep these layers"),
    ):
        done = CliRunner().invoke(main, ["inspect", *arguments, *home])
        assert done.exit_code == 1, done.output
        assert said in done.output.replace("\n", " ")
    for arguments, said in (
        (["--upstreams", "up", "ls"], "give --upstreams after"),
        (["probe", "--targets", "mood"], "found mood"),
        (["export", "--layers", "1-"], "expected layers such as"),
        (["export", "--layers", "5-3"], "the lower layer of a range first, found '5-3'"),
    ):
        done = CliRunner().invoke(main, ["inspect", *arguments])
        assert done.exit_code == 2
        assert said in done.output
