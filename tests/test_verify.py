"""Stores that are sound, and stores whose states are not those of their recordings though every checksum fits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from extractions import leftovers, noise, recorded, shards

from extract import plan, states
from extract.cli import main
from extract.states import Settings, extract
from extract.verify import Verdict, recompute, verify
from mser.cli import main as mser_main
from mser.config import Workspace
from mser.errors import StoreError
from mser.inspect import layer_statistics, list_stores
from mser.loader import frames_expert, pooled_expert
from mser.manifest import Manifest
from mser.store import ShardEntry, Store, write_shard
from mser.upstream import load_upstream

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def longer_shards(small_shards: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "SHARD_FRAMES", 150)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "work")


@pytest.fixture
def manifest(tmp_path: Path, workspace: Workspace) -> Manifest:
    """Six recordings, two of them longer than a second."""
    found = recorded(tmp_path / "corpora", [noise(6_000 + 3_001 * number, number) for number in range(6)])
    found.write(workspace, [], [])
    return found


@pytest.fixture
def run(manifest: Manifest, workspace: Workspace, tmp_path: Path) -> Callable[..., Result]:
    """Runs a command of stage one on the corpus."""

    def call(command: str, *options: str, corpora: str = "corpora", **variables: str) -> Result:
        places = ["--home", str(workspace.root), "--corpora", str(tmp_path / corpora)]
        return CliRunner().invoke(main, [command, *places, *options], env=variables)

    return call


def cells(result: Result, name: str) -> list[str]:
    (line,) = [line for line in result.output.splitlines() if f" {name} " in line and "│" in line]
    return [cell.strip() for cell in line.split("│")[1:-1]]


def test_a_sound_store_is_computed_again_bit_for_bit(
    run: Callable[..., Result], workspace: Workspace, tmp_path: Path
) -> None:
    settings = {"WINDOW": "1", "OVERLAP": "0.4", "DEVICE": "cpu"}
    for dtype, name in [("float16", "logmel"), ("int8", "mfcc"), ("float32", "random-tiny-wav2vec2")]:
        made = run("states", UPSTREAMS=name, DTYPE=dtype, **settings)
        assert made.exit_code == 0, made.output
    made = run("states", UPSTREAMS="prosody", FRAMES="0", **settings)
    before = {name: shards(workspace.store("toy", name)) for name in ("logmel", "mfcc", "prosody")}
    result = run("verify", "--recompute", "6", DEVICE="cpu")
    assert result.exit_code == 0, result.output
    for name in ("logmel", "mfcc", "prosody", "random-tiny-wav2vec2"):
        assert cells(result, name)[2::2] == ["6", "6", "equal bit for bit"]
        assert cells(result, name)[-1] == "0"
        assert leftovers(workspace.store("toy", name)) == []
    assert {name: shards(workspace.store("toy", name)) for name in before} == before
    assert sorted(path.name for path in (workspace.cache / "toy").iterdir()) == sorted(
        [*before, "random-tiny-wav2vec2"]
    )
    assert cells(run("verify", RECOMPUTE="0"), "mfcc")[5:] == ["", "", "0"]
    assert cells(run("verify", corpora="nowhere"), "mfcc")[4:] == ["0", "no recordings", "", "0"]


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8"])
@pytest.mark.parametrize("keep", [("frames", "pooled"), ("pooled",)])
def test_wrong_states_with_right_checksums_are_found(
    dtype: str, keep: tuple[str, ...], manifest: Manifest, workspace: Workspace, tmp_path: Path
) -> None:
    where, folder = (manifest, tmp_path / "corpora" / "toy"), workspace.store("toy", "logmel")
    logmel = load_upstream("logmel", CPU)
    extract(*where, logmel, folder, Settings(dtype, keep))
    store = Store(folder)
    shard = store.shards[0]
    entries = []
    for row, key in enumerate(shard.utterance_ids):
        frames = int(shard.offsets[row + 1] - shard.offsets[row])
        # As a model with slightly other weights would give them.
        states = torch.from_numpy(np.random.default_rng(row).normal(-8, 2, (1, frames, 80)).astype(np.float32))
        entries.append(ShardEntry(key, shard.audio_sha256[row], states))
    shard.path.unlink()
    assert write_shard(folder, store.provenance, entries) == shard.path
    verdict = verify(*where, folder)
    assert verdict.faults == ()
    again = recompute(verdict, *where, Store(folder), logmel, 6)
    assert {fault.split(":")[0] for fault in again.faults} == set(shard.utterance_ids)
    assert again.recomputed == "6"


def test_what_cannot_be_computed_again_says_why(manifest: Manifest, workspace: Workspace, tmp_path: Path) -> None:
    where, folder = (manifest, tmp_path / "corpora" / "toy"), workspace.store("toy", "logmel")
    extract(*where, load_upstream("logmel", CPU), folder)
    sound = Verdict("toy", "logmel", 6, 4, 6, ())
    with pytest.raises(StoreError, match="another making") as error:
        recompute(sound, *where, Store(folder), load_upstream("mfcc", CPU), 2)
    assert "upstream.weights_sha256" in str(error.value.field)
    for path in where[1].iterdir():
        path.unlink()
    verdict = recompute(sound, *where, Store(folder), load_upstream("logmel", CPU), 2)
    assert (verdict.recomputed, verdict.difference) == ("0", "")
    assert len(verdict.faults) in (1, 2)
    assert "No such file" in verdict.faults[0]
    assert leftovers(folder) == []


def test_a_store_of_other_versions_is_no_fault(
    manifest: Manifest, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, folder = (manifest, tmp_path / "corpora" / "toy"), workspace.store("toy", "logmel")
    extract(*where, load_upstream("logmel", CPU), folder)
    monkeypatch.setattr(states, "RECIPE", "of tomorrow")
    verdict = recompute(Verdict("toy", "logmel", 6, 4, 6, ()), *where, Store(folder), load_upstream("logmel", CPU), 2)
    assert (verdict.recomputed, verdict.faults) == ("made with another recipe", ())
    with pytest.raises(StoreError, match="another making") as error:
        extract(*where, load_upstream("logmel", CPU), folder)
    assert error.value.field == "versions.recipe"


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("", (0, 1, 2, 3)),
        ("1-2", (1, 2)),
        ("3,0", (0, 3)),
        ("0, 2-3", (0, 2, 3)),
        ("1-1 1", (1,)),
        ("3 0-1", (0, 1, 3)),
    ],
)
def test_layers_are_chosen_by_number_and_range(
    run: Callable[..., Result], workspace: Workspace, words: str, kept: tuple[int, ...]
) -> None:
    result = run("states", UPSTREAMS="random-tiny-wav2vec2", LAYERS=words, DEVICE="cpu")
    assert result.exit_code == 0, result.output
    assert Store(workspace.store("toy", "random-tiny-wav2vec2")).provenance.layer_numbers == kept


@pytest.mark.parametrize("words", ["4-", "-1", "9-4", "a", "1.5", "1-2-3", "2-4", "4"])
def test_layers_that_are_none_are_refused(run: Callable[..., Result], workspace: Workspace, words: str) -> None:
    result = run("states", UPSTREAMS="random-tiny-wav2vec2", LAYERS=words, DEVICE="cpu")
    assert result.exit_code == 1, result.output
    assert "LAYERS" in result.output
    assert not list(workspace.cache.glob("toy/*/*"))


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"WINDOW": "0.2"}, "Windows must be"),
        ({"WINDOW": "6"}, "Windows must be"),
        ({"WINDOW": "inf"}, "Windows must be"),
        ({"OVERLAP": "-1"}, "Windows must be"),
        ({"FRAMES": "0", "POOLED": "0"}, "content of a store"),
        ({"BATCHING": "masked"}, "cannot be batched this way"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    run: Callable[..., Result], workspace: Workspace, variables: dict[str, str], words: str
) -> None:
    result = run("states", UPSTREAMS="logmel", **variables)
    assert result.exit_code == 1, result.output
    assert words in result.output
    assert not list(workspace.cache.glob("toy/*/*"))


def test_windows_may_be_switched_off(run: Callable[..., Result], workspace: Workspace) -> None:
    result = run("states", UPSTREAMS="logmel", WINDOW="0")
    assert result.exit_code == 0, result.output
    assert "in windows" not in result.output
    assert Store(workspace.store("toy", "logmel")).provenance.window == 0
    result = run("states", UPSTREAMS="mfcc", WINDOW="1", OVERLAP="0.5")
    assert "2 recordings longer than 1 s were run in windows that share 0.5 s" in result.output


@pytest.mark.parametrize(
    ("variables", "layers", "frames"),
    [
        ({"DTYPE": "int8"}, [0, 1, 2, 3], True),
        ({"DTYPE": "int8", "WINDOW": "1", "OVERLAP": "0.4", "LAYERS": "1 3"}, [1, 3], True),
        ({"LAYERS": "0-2"}, [0, 1, 2], True),
        ({"FRAMES": "0", "LAYERS": "2"}, [2], False),
    ],
)
def test_every_kind_of_store_serves_stage_two(
    run: Callable[..., Result],
    manifest: Manifest,
    workspace: Workspace,
    tmp_path: Path,
    variables: dict[str, str],
    layers: list[int],
    frames: bool,
) -> None:
    name = "random-tiny-wav2vec2"
    result = run("states", UPSTREAMS=name, DEVICE="cpu", **variables)
    assert result.exit_code == 0, result.output
    window = float(variables.get("WINDOW", 30))
    overlap = float(variables.get("OVERLAP", 4))
    exact = Settings("float32", window=window, overlap=overlap)
    extract(manifest, tmp_path / "corpora" / "toy", load_upstream(name, CPU), tmp_path / "exact", exact)
    store, truth = Store(workspace.store("toy", name)), Store(tmp_path / "exact")
    expert = pooled_expert({"toy": store}, manifest.utterances)
    assert (expert.layers, expert.dim) == (len(layers), 128)
    for row, one in enumerate(manifest.utterances):
        means = truth.pooled([one.utterance_id])[0][layers].reshape(len(layers), 1, 128)
        np.testing.assert_array_equal(expert[row].numpy(), means)
    if frames:
        expert = frames_expert({"toy": store}, manifest.utterances, 50.0)
        statistics, worst = layer_statistics(store), 0.0
        for row, one in enumerate(manifest.utterances):
            right = truth.frames(one.utterance_id, layers)
            assert expert[row].dtype == torch.float32
            worst = max(worst, float(abs(expert[row].numpy() - right).max() / abs(right).max()))
        assert worst < (1 / 250 if variables.get("DTYPE") == "int8" else 1 / 2_000)
        joined = np.concatenate([store.frames(one.utterance_id) for one in manifest.utterances], axis=1)
        np.testing.assert_allclose(statistics.mean, joined.astype(np.float64).mean(1), atol=1e-4)
    (summary,) = list_stores(workspace, [manifest])
    assert (summary.layers, summary.covered, summary.trouble) == (len(layers), 6, "")
    listed = CliRunner().invoke(mser_main, ["inspect", "ls", "--home", str(workspace.root)])
    assert listed.exit_code == 0, listed.output
    assert "complete" in listed.output
