"""Computing shards: too little memory, failing recordings, interrupts at any moment, any number of threads."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import soundfile
import torch
from click.testing import CliRunner
from extractions import RATE, Ruler, leftovers, noise, recorded, shards
from torch import Tensor

from extract import compute, plan
from extract.cli import main
from extract.compute import Job, Outcome, compute_shards
from extract.plan import make_plan
from extract.states import Settings, extract, provenance_of
from mser.config import Workspace
from mser.errors import AudioError, ManifestError, StoreError, UpstreamError
from mser.manifest import Manifest
from mser.store import Store
from mser.upstream import Prepared, load_upstream

pytestmark = pytest.mark.usefixtures("small_shards")

ROOT = Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")
FLOATS = Settings("float32")


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Ten recordings of 20 to 47 frames of the ruler."""
    return recorded(tmp_path, [noise(3_600 + 480 * number, number) for number in range(10)])


class Narrow(Ruler):
    """A device with room for so many samples at once, padding and all; batches are larger."""

    def __init__(self, room: int, batch: int) -> None:
        super().__init__()
        self.room, self.batch, self.ran = room, batch, 0

    def batches(self, num_samples: Sequence[int]) -> list[list[int]]:
        order = sorted(range(len(num_samples)), key=lambda index: (-num_samples[index], index))
        return [order[start : start + self.batch] for start in range(0, len(order), self.batch)]

    def run(self, batch: Sequence[Prepared]) -> list[Tensor]:
        if max(one.num_samples for one in batch) * len(batch) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nmore")
        self.ran += 1
        return super().run(batch)


@pytest.mark.parametrize(("room", "batch"), [(8_000, 8), (17_000, 3), (17_000, 16), (30_000, 9)])
def test_batches_that_do_not_fit_are_halved_and_give_the_same(
    manifest: Manifest, tmp_path: Path, room: int, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "SHARD_FRAMES", 200)
    where = manifest, tmp_path / "toy"
    summary = extract(*where, Ruler(), tmp_path / "whole", FLOATS)
    assert summary.halved == 0
    narrow = Narrow(room, batch)
    summary = extract(*where, narrow, tmp_path / "s", FLOATS)
    blocks = make_plan(manifest.utterances, Ruler(), 30.0, 4.0).blocks
    first_batches = sum(-(-len(block.rows) // batch) for block in blocks)
    assert summary.halved == narrow.ran - first_batches > 0  # a halving makes one batch more
    assert shards(tmp_path / "s") == shards(tmp_path / "whole")


def test_one_that_is_too_large_alone_is_named_and_the_other_shards_are_written(
    manifest: Manifest, tmp_path: Path
) -> None:
    with pytest.raises(UpstreamError, match="needs more memory than cpu has") as error:
        extract(manifest, tmp_path / "toy", Narrow(7_900, 4), tmp_path / "s", FLOATS)
    assert error.value.file == "toy/u009"
    assert error.value.found == "CUDA out of memory. Tried to allocate 20.00 MiB."
    assert "WINDOW=10" in str(error.value)
    _, *others = make_plan(manifest.utterances, Ruler(), 30.0, 4.0).blocks
    assert set(Store(tmp_path / "s")) == {row.utterance_id for block in others for row in block.rows}
    assert leftovers(tmp_path / "s") == []


def delete(path: Path) -> None:
    path.unlink()


def change(path: Path) -> None:
    soundfile.write(path, noise(9_000, 99), RATE, subtype="FLOAT")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:2_000])


@pytest.mark.parametrize(("harm", "error"), [(delete, AudioError), (change, ManifestError), (cut, AudioError)])
@pytest.mark.parametrize("which", [[9], [4], [0, 3, 8]])
def test_a_bad_recording_costs_its_shard_alone_and_the_repaired_one_completes_the_store(
    manifest: Manifest, tmp_path: Path, harm: Callable[[Path], None], error: type[Exception], which: list[int]
) -> None:
    where, logmel = (manifest, tmp_path / "toy"), load_upstream("logmel", CPU)
    extract(*where, logmel, tmp_path / "whole")
    whole = shards(tmp_path / "whole")
    bad = [tmp_path / "toy" / manifest.utterances[number].path for number in which]
    before = [path.read_bytes() for path in bad]
    for path in bad:
        harm(path)
    with pytest.raises(error) as told:
        extract(*where, logmel, tmp_path / "s")
    lost = {row.utterance_id for block in make_plan(manifest.utterances, logmel, 30.0, 4.0).blocks for row in block.rows
            if {one.utterance_id for one in block.rows} & {f"toy/u{number:03}" for number in which}}  # fmt: skip
    assert set(Store(tmp_path / "s")) == {row.utterance_id for row in manifest.utterances} - lost
    assert f"{10 - len(lost)} utterances were stored and stay" in str(told.value)
    assert ("more shards failed" in str(told.value)) == (len(which) > 1)
    assert leftovers(tmp_path / "s") == []
    for path, content in zip(bad, before, strict=True):
        path.write_bytes(content)
    assert extract(*where, logmel, tmp_path / "s").computed == len(lost)
    assert shards(tmp_path / "s") == whole


class Broken(Ruler):
    """An upstream that gives no number, or another number of frames than it promised, for some lengths."""

    def __init__(self, fault: str, lengths: set[int]) -> None:
        super().__init__()
        self.fault, self.lengths = fault, lengths

    def run(self, batch: Sequence[Prepared]) -> list[Tensor]:
        states = super().run(batch)
        if batch[0].num_samples in self.lengths:
            if self.fault == "NaN":
                states[0][1, 5, 2] = torch.nan
            elif self.fault == "dims":
                return [states[0][:, :, 1:]]
            else:
                return [states[0][:, : {"fewer": -3, "none": 0}[self.fault]]]
        return states


@pytest.mark.parametrize("fault", ["NaN", "fewer", "none", "dims"])
def test_states_that_cannot_be_stored_cost_their_shard_alone(fault: str, manifest: Manifest, tmp_path: Path) -> None:
    where = manifest, tmp_path / "toy"
    extract(*where, Ruler(), tmp_path / "whole", FLOATS)
    with pytest.raises(StoreError) as error:
        extract(*where, Broken(fault, {3_600 + 480 * 5}), tmp_path / "s", FLOATS)
    assert fault != "NaN" or "toy/u005" in str(error.value)
    there = Store(tmp_path / "s")
    assert 6 <= len(there) < 10
    assert "toy/u005" not in there
    assert leftovers(tmp_path / "s") == []
    extract(*where, Ruler(), tmp_path / "s", FLOATS)
    assert shards(tmp_path / "s") == shards(tmp_path / "whole")


def test_when_everything_fails_it_ends_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "SHARD_FRAMES", 1)
    manifest = recorded(tmp_path, [noise(2_000 + number, number) for number in range(60)])
    broken = Broken("NaN", set(range(2_000, 2_060)))
    made = provenance_of("toy", broken, FLOATS)
    blocks = make_plan(manifest.utterances, broken, 30.0, 4.0).blocks
    outcome = compute_shards(Job(tmp_path / "toy", tmp_path, made), broken, blocks, threads=2)
    assert compute.MOST_FAILURES <= len(outcome.failures) <= compute.MOST_FAILURES + 8
    assert (outcome.utterances, outcome.seconds) == (0, 0.0)


@pytest.mark.parametrize("name", ["logmel", "random-tiny-wav2vec2"])
def test_bits_depend_on_no_number_of_threads_and_torchs_own_number_is_given_back(name: str, tmp_path: Path) -> None:
    upstream = load_upstream(name, CPU)
    made = provenance_of("toy", upstream, Settings("float32", window=1.0, overlap=0.2))
    blocks = make_plan(recorded(tmp_path, [noise(9_000 + 3_001 * n, n) for n in range(5)]).utterances, upstream, 1, 0.2)
    found = []
    torch.set_num_threads(2)
    try:
        for threads in (1, 2, 5):
            folder = tmp_path / str(threads)
            folder.mkdir()
            told = Outcome()
            job = Job(tmp_path / "toy", folder, made)
            outcome = compute_shards(
                job, upstream, blocks.blocks, lambda *now, told=told: told.add(Outcome(*now)), threads
            )
            assert torch.get_num_threads() == 2
            assert outcome.utterances == told.utterances == 5
            assert outcome.seconds == pytest.approx(told.seconds)
            found.append(shards(folder))
        with pytest.raises(ZeroDivisionError):
            compute_shards(Job(tmp_path, tmp_path, made), upstream, blocks.blocks, lambda *now: 1 / 0, 1)  # type: ignore[arg-type]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert len(found[0]) > 2
    assert found[0] == found[1] == found[2]


def test_an_error_that_no_user_can_mend_leaves_nothing_half_written(manifest: Manifest, tmp_path: Path) -> None:
    class Wrong(Ruler):
        def run(self, batch: Sequence[Prepared]) -> list[Tensor]:
            if batch[0].num_samples < 5_000:
                raise RuntimeError("a bug")
            return super().run(batch)

    with pytest.raises(RuntimeError, match="a bug"):
        extract(manifest, tmp_path / "toy", Wrong(), tmp_path / "s", FLOATS)
    assert leftovers(tmp_path / "s") == []
    assert [shard.damage() for shard in Store(tmp_path / "s").shards] == [None] * len(Store(tmp_path / "s").shards)


# Runs the command in forked processes; each sends itself SIGINT at another moment.
INTERRUPTED = """
import os, signal, sys, threading, time
from pathlib import Path
import torch
torch.set_num_threads(1)
import extract.plan
from extract.cli import main
from mser.upstream import load_upstream
# What is started in the background of a shell ignores it.
signal.signal(signal.SIGINT, signal.default_int_handler)
extract.plan.SHARD_FRAMES = 60
load_upstream("logmel", torch.device("cpu"))
root, corpora, *moments = sys.argv[1:]
for moment in moments:
    child = os.fork()
    if not child:
        name, _, number = moment.partition(":")
        if name == "after":
            def soon():
                time.sleep(float(number))
                os.kill(os.getpid(), signal.SIGINT)
            threading.Thread(target=soon, daemon=True).start()
        else:
            real, count = getattr(os, name), [0]
            def call(*arguments, **options):
                count[0] += 1
                if count[0] == int(number):
                    os.kill(os.getpid(), signal.SIGINT)
                return real(*arguments, **options)
            setattr(os, name, call)
        home = f"{root}/{moment.replace(':', '-')}"
        sys.argv = ["mser-extract", "states", "--home", home, "--corpora", corpora, "--upstreams", "logmel"]
        try:
            main()
        except SystemExit as end:
            os._exit(end.code)  # the interpreter takes seconds to end
    _, status = os.waitpid(child, 0)
    print(moment, os.waitstatus_to_exitcode(status), flush=True)
"""
MOMENTS = ["pwrite:1", "pwrite:7", "pwrite:20", "pwrite:31", "fsync:2", "fsync:4", "fsync:5", "after:0.1", "after:0.2"]


def test_an_interrupted_command_ends_with_130_and_goes_on_to_the_same_files(tmp_path: Path) -> None:
    manifest = recorded(tmp_path / "corpora", [noise(6_000 + 480 * number, number) for number in range(12)])
    where, logmel = (manifest, tmp_path / "corpora" / "toy"), load_upstream("logmel", CPU)
    extract(*where, logmel, tmp_path / "whole")
    whole = shards(tmp_path / "whole")
    for moment in MOMENTS:
        manifest.write(Workspace(tmp_path / moment.replace(":", "-")), [], [])
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path), str(tmp_path / "corpora"), *MOMENTS]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200)
    codes = dict(line.split() for line in run.stdout.splitlines() if ":" in line and len(line.split()) == 2)
    counts = set()
    for moment in MOMENTS:
        # A fast machine may be done by then.
        assert codes[moment] == "130" or (moment.startswith("after") and codes[moment] == "0"), (moment, run.stderr)
        folder = Workspace(tmp_path / moment.replace(":", "-")).store("toy", "logmel")
        if folder.exists():
            there = shards(folder)
            assert there == {name: whole[name] for name in there}, moment
            assert leftovers(folder) == [], moment
            counts.add(len(there))
        extract(*where, logmel, folder)
        assert shards(folder) == whole
    assert len(counts) > 2


def test_a_killed_command_leaves_what_the_next_one_sweeps_away(manifest: Manifest, tmp_path: Path) -> None:
    manifest.write(workspace := Workspace(tmp_path / "work"), [], [])
    folder = workspace.store("toy", "logmel")
    script = """
import os, signal, sys
import torch
import extract.plan
from extract.cli import main
extract.plan.SHARD_FRAMES = 60
real, count = os.pwrite, [0]
def call(*arguments):
    count[0] += 1
    if count[0] == 9:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments)
os.pwrite = call
main()
"""
    options = ["states", "--home", str(workspace.root), "--corpora", str(tmp_path), "--upstreams", "logmel"]
    run = subprocess.run([sys.executable, "-c", script, *options], cwd=ROOT, capture_output=True, check=False)
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert any(".partial" in name for name in leftovers(folder))
    assert "extraction.lock" in leftovers(folder)
    result = CliRunner().invoke(main, [*options, "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert leftovers(folder) == []
    extract(manifest, tmp_path / "toy", load_upstream("logmel", CPU), tmp_path / "whole")
    assert shards(folder) == shards(tmp_path / "whole")


def test_an_outcome_adds_up() -> None:
    whole = Outcome(2, 3.0, [StoreError("a")], 1)
    whole.add(Outcome(5, 0.5, [StoreError("b")], 2))
    assert (whole.utterances, whole.seconds, [str(one) for one in whole.failures], whole.halved) == (
        7, 3.5, ["a", "b"], 3)  # fmt: skip
