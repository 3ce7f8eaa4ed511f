"""Extraction: nothing is computed twice, nothing is lost by an interruption, and bad input changes no file."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner, Result
from conftest import WriteTone
from torch import Tensor

from extract.cli import main
from extract.manifest import scan
from extract.states import Settings, extract
from mser.config import Workspace
from mser.corpora import CorpusDefinition
from mser.errors import ManifestError, StoreError, UpstreamError
from mser.manifest import Manifest
from mser.store import Store
from mser.upstream import Prepared, Upstream, load_upstream

pytestmark = pytest.mark.usefixtures("small_shards")

ROOT = Path(__file__).resolve().parents[1]
UPSTREAMS = ["logmel", "random-tiny-wav2vec2"]


class Counting(Upstream):
    """An upstream that notes what it was asked for, and may fail after some utterances."""

    def __init__(self, inner: Upstream, fail_after: int | None = None, batch: int = 1) -> None:
        self.inner, self.info, self.size = inner, inner.info, batch
        self.asked: list[int] = []
        self.fail_after = fail_after

        self.frame_samples = inner.frame_samples
        self.asking = threading.Lock()

    def num_frames(self, num_samples: int) -> int:
        return self.inner.num_frames(num_samples)

    def prepare(self, waveform: Tensor) -> Prepared:
        return self.inner.prepare(waveform)

    def batches(self, num_samples: Sequence[int]) -> list[list[int]]:
        order = sorted(range(len(num_samples)), key=lambda index: (-num_samples[index], index))
        return [order[start : start + self.size] for start in range(0, len(order), self.size)]

    def run(self, batch: Sequence[Prepared]) -> list[Tensor]:
        with self.asking:
            self.asked += [one.num_samples for one in batch]
            if self.fail_after is not None and len(self.asked) > self.fail_after:
                raise KeyboardInterrupt
        return self.inner.run(batch)


@pytest.fixture(scope="module", params=UPSTREAMS)
def upstream(request: pytest.FixtureRequest) -> Upstream:
    return load_upstream(request.param, torch.device("cpu"))


@pytest.fixture(scope="module")
def logmel() -> Upstream:
    return load_upstream("logmel", torch.device("cpu"))


def manifest_of(corpora: Path, definitions: Path) -> Manifest:
    return scan(CorpusDefinition.from_yaml(definitions / "tiny.yaml"), corpora).manifest


@pytest.fixture
def manifest(corpora: Path, definitions: Path) -> Manifest:
    return manifest_of(corpora, definitions)


def shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("shard-*.h5")}


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_store_holds_the_states_of_the_files_themselves(
    manifest: Manifest, corpora: Path, upstream: Upstream, tmp_path: Path
) -> None:
    told: list[tuple[int, int, float]] = []
    summary = extract(
        manifest, corpora / "tiny", upstream, tmp_path / "s", Settings("float32"), advance=lambda *now: told.append(now)
    )
    store = Store(tmp_path / "s")
    assert set(store) == {row.utterance_id for row in manifest.utterances}
    lengths = []
    for row in manifest.utterances:
        samples, rate = soundfile.read(corpora / "tiny" / row.path, dtype="float32")
        assert rate == 16_000
        (alone,) = upstream.states([torch.from_numpy(samples)])
        np.testing.assert_array_equal(store.frames(row.utterance_id), alone.numpy())
        lengths.append(len(samples) / rate)
    assert (summary.computed, summary.kept) == (8, 0)
    assert summary.seconds_of_audio == pytest.approx(sum(lengths))
    assert [now[:2] for now in told] == [(number, 8) for number in range(1, 9)]
    assert len(store.shards) > 1


def test_the_second_run_computes_nothing_and_writes_nothing(
    manifest: Manifest, corpora: Path, upstream: Upstream, tmp_path: Path
) -> None:
    first, second = Counting(upstream), Counting(upstream)
    extract(manifest, corpora / "tiny", first, tmp_path / "s")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "s").iterdir()}
    summary = extract(manifest, corpora / "tiny", second, tmp_path / "s")
    assert (len(first.asked), second.asked) == (8, [])
    assert (summary.computed, summary.kept, summary.seconds_of_audio) == (0, 8, 0.0)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "s").iterdir()} == before


def test_recordings_are_not_read_again_once_their_states_are_there(
    manifest: Manifest, corpora: Path, logmel: Upstream, tmp_path: Path
) -> None:
    extract(manifest, corpora / "tiny", logmel, tmp_path / "s")
    assert extract(manifest, tmp_path / "nowhere", logmel, tmp_path / "s").computed == 0


@pytest.mark.parametrize("after", [0, 1, 3, 7])
def test_an_interrupted_run_goes_on_to_the_same_shards(
    manifest: Manifest, corpora: Path, upstream: Upstream, tmp_path: Path, after: int
) -> None:
    extract(manifest, corpora / "tiny", upstream, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        extract(manifest, corpora / "tiny", Counting(upstream, fail_after=after), tmp_path / "cut")
    there = len(Store(tmp_path / "cut"))
    assert there <= after
    rest = Counting(upstream)
    summary = extract(manifest, corpora / "tiny", rest, tmp_path / "cut")
    assert (summary.computed, summary.kept, len(rest.asked)) == (8 - there, there, 8 - there)
    assert shards(tmp_path / "cut") == shards(tmp_path / "whole")


@pytest.mark.parametrize("batch", [2, 3, 16])
def test_batches_are_of_the_size_asked_and_change_nothing(
    manifest: Manifest, corpora: Path, logmel: Upstream, tmp_path: Path, batch: int
) -> None:
    extract(manifest, corpora / "tiny", logmel, tmp_path / "one")
    extract(manifest, corpora / "tiny", Counting(logmel, batch=batch), tmp_path / "many")
    assert shards(tmp_path / "many") == shards(tmp_path / "one")


# The command line with small shards; it kills itself while the second shard's bytes go to the disk.
KILLED = """
import os, runpy, signal, sys
import torch
torch.set_num_threads(1)
import extract.plan
extract.plan.SHARD_FRAMES = 60
fsync, files = os.fsync, []
def kill(descriptor):
    name = os.readlink(f"/proc/self/fd/{descriptor}")
    files.append(name)
    if sum(".partial" in one and "shard-" in one for one in files) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(descriptor)
os.fsync = kill
runpy.run_module("extract", run_name="__main__")
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to see which file is written")
def test_a_killed_command_goes_on_to_the_same_shards(
    manifest: Manifest, corpora: Path, logmel: Upstream, tmp_path: Path, workspace: Workspace
) -> None:
    manifest.write(workspace, [], [])
    arguments = ["states", "--home", str(workspace.root), "--corpora", str(corpora), "--upstreams", "logmel"]
    run = subprocess.run([sys.executable, "-c", KILLED, *arguments], cwd=ROOT, capture_output=True, check=False)
    assert run.returncode == -signal.SIGKILL, run.stderr.decode()
    folder = workspace.store("tiny", "logmel")
    assert len(shards(folder)) == 1
    assert list(folder.glob(".shard-*.partial"))
    there = len(Store(folder))
    result = CliRunner().invoke(main, [*arguments, "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert not list(folder.glob("*.partial")) + list(folder.glob("*.lock"))
    extract(manifest, corpora / "tiny", logmel, tmp_path / "whole")
    assert 0 < there < len(Store(folder)) == 8
    assert shards(folder) == shards(tmp_path / "whole")


def test_a_grown_corpus_costs_only_what_is_new(
    manifest: Manifest, corpora: Path, definitions: Path, upstream: Upstream, tmp_path: Path, write_tone: WriteTone
) -> None:
    extract(manifest, corpora / "tiny", upstream, tmp_path / "s")
    before = shards(tmp_path / "s")
    write_tone(corpora / "tiny" / "f1" / "t0_ang.wav", 300.0, 0.7)
    write_tone(corpora / "tiny" / "m3" / "t1_neu.wav", 300.0, 0.9)
    counting = Counting(upstream)
    summary = extract(manifest_of(corpora, definitions), corpora / "tiny", counting, tmp_path / "s")
    assert sorted(counting.asked) == [11_200, 14_400]
    assert (summary.computed, summary.kept) == (2, 8)
    assert {name: shards(tmp_path / "s")[name] for name in before} == before


def test_a_changed_recording_is_refused_and_computed_anew_when_asked(
    manifest: Manifest, corpora: Path, definitions: Path, logmel: Upstream, tmp_path: Path, write_tone: WriteTone
) -> None:
    extract(manifest, corpora / "tiny", logmel, tmp_path / "s")
    before = files(tmp_path / "s")
    write_tone(corpora / "tiny" / "m2" / "t1_ang.wav", 999.0, 0.4)
    grown = manifest_of(corpora, definitions)
    counting = Counting(logmel)
    with pytest.raises(StoreError, match="1 recordings changed") as error:
        extract(grown, corpora / "tiny", counting, tmp_path / "s")
    assert "tiny/m2/t1_ang" in str(error.value)
    assert "REPLACE_CHANGED=1" in str(error.value)
    assert counting.asked == []
    assert files(tmp_path / "s") == before
    (touched,) = [shard for shard in Store(tmp_path / "s").shards if "tiny/m2/t1_ang" in shard.utterance_ids]
    summary = extract(grown, corpora / "tiny", counting, tmp_path / "s", replace_changed=True)
    assert summary.computed == len(touched.utterance_ids) == len(counting.asked)
    extract(grown, corpora / "tiny", logmel, tmp_path / "fresh")
    assert shards(tmp_path / "s") == shards(tmp_path / "fresh")


def test_a_recording_that_is_not_the_manifests_is_refused(
    manifest: Manifest, corpora: Path, logmel: Upstream, tmp_path: Path, write_tone: WriteTone
) -> None:
    write_tone(corpora / "tiny" / "m2" / "t2_neu.wav", 999.0)
    with pytest.raises(ManifestError, match="tiny/m2/t2_neu is not the one in the manifest") as error:
        extract(manifest, corpora / "tiny", logmel, tmp_path / "s")
    assert "make manifest LANG=de" in str(error.value)
    assert "tiny/m2/t2_neu" not in Store(tmp_path / "s")


class Demanding(Counting):
    """An upstream that needs 0.3 s for a frame."""

    def num_frames(self, num_samples: int) -> int:
        return self.inner.num_frames(num_samples) if num_samples >= 4_800 else 0


def test_recordings_too_short_for_an_upstream_are_named_and_the_others_stored(
    manifest: Manifest, corpora: Path, upstream: Upstream, tmp_path: Path
) -> None:
    with pytest.raises(UpstreamError, match="2 recordings do not fit") as error:
        extract(manifest, corpora / "tiny", Demanding(upstream), tmp_path / "s")
    assert "tiny/f1/t1_ang, tiny/f1/t1_neu" in str(error.value)
    assert "0.200 s, 0.250 s" in str(error.value)
    assert len(Store(tmp_path / "s")) == 6


def test_another_dtype_or_other_content_does_not_mix_with_a_store(
    manifest: Manifest, corpora: Path, logmel: Upstream, tmp_path: Path
) -> None:
    extract(manifest, corpora / "tiny", logmel, tmp_path / "s")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"dtype": "float32"}, "dtype"),
        ({"keep": ("pooled",)}, "keep"),
        ({"window": 20.0}, "window"),
    ]
    for changes, field in cases:
        with pytest.raises(StoreError, match="another making") as error:
            extract(manifest, corpora / "tiny", logmel, tmp_path / "s", Settings(**changes))
        assert error.value.field == field


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_command_line_makes_manifests_and_stores(corpora: Path, definitions: Path, workspace: Workspace) -> None:
    places = ["--home", workspace.root, "--corpora", corpora]
    listed = run("manifest", *places, "--language", "de", "--definitions", definitions)
    assert listed.exit_code == 0, listed.output
    for _ in range(2):
        result = run("states", *places, "--upstreams", "logmel, mfcc", "--no-frames", "--device", "cpu")
        assert result.exit_code == 0, result.output
    for name, dim in [("logmel", 80), ("mfcc", 39)]:
        store = Store(workspace.store("tiny", name))
        assert store.pooled(sorted(store)).shape == (8, 1, 2, dim)
        with h5py.File(store.shards[0].path, "r") as file:
            assert "states" not in file
        with pytest.raises(StoreError, match="without frames"):
            store.frames("tiny/f1/t1_ang")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["manifest", "--language", "de xx"], ["No corpus of language 'xx'", "de", "add a definition"]),
        (["manifest", "--language", "ur"], ["No corpus of language 'ur' has a folder", "urdu", "MSER_CORPORA"]),
        (["manifest", "--language", "fr"], ["No file of corpus 'bad'", "does not match", "`mser corpora check bad`"]),
        (["manifest", "--definitions", "absent"], ["does not exist", "MSER_DEFINITIONS"]),
        (["manifest", "--corpora", "absent"], ["No folder of a known corpus", "make demo"]),
        (["states", "--language", "it"], ["no manifest of language 'it'", "make manifest LANG=it"]),
        (["states", "--upstreams", "hubert-bse"], ["'hubert-bse' is not known", "hubert-base", "choose one"]),
        (["states", "--upstreams", "./absent"], ["no pretrained model", "config.json", "give the folder"]),
        (["states", "--device", "nonsense"], ["No such device", "DEVICE", "auto, cpu, cuda", "nonsense"]),
        (["states", "--device", "meta"], ["No such device", "auto, cpu, cuda"]),
        (["states", "--device", "cuda:99"], ["not there", "DEVICE=cpu"]),
        (["states", "--no-frames", "--no-pooled"], ["content of a store", "frames, pooled"]),
    ],
)
def test_bad_input_ends_with_advice_and_writes_nothing(
    arguments: list[str],
    words: list[str],
    corpora: Path,
    definitions: Path,
    manifest: Manifest,
    workspace: Workspace,
    write_tone: WriteTone,
) -> None:
    manifest.write(workspace, [], [])
    text = (definitions / "tiny.yaml").read_text(encoding="utf-8")
    bad = text.replace("name: tiny", "name: bad").replace("language: de", "language: fr")
    (definitions / "bad.yaml").write_text(bad, encoding="utf-8")
    write_tone(corpora / "bad" / "unnamed.wav")
    defaults = {"--corpora": corpora, "--home": workspace.root, "--definitions": definitions}
    if arguments[0] == "states":
        del defaults["--definitions"]
    given = [item for name, value in defaults.items() if name not in arguments for item in (name, value)]
    before = files(workspace.root), files(corpora)
    result = run(*arguments, *given)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    assert "error:" in result.output
    for word in words:
        assert word in result.output
    assert (files(workspace.root), files(corpora)) == before
    assert not list(workspace.root.glob("cache/*"))
