"""What is promised before an extraction, against the files it then writes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from extractions import Ruler, noise, ramp, recorded, shards
from hypothesis import given
from hypothesis import strategies as st
from toys import examples, utterance

from extract import plan
from extract.cli import main
from extract.plan import choose_sample, make_plan
from extract.states import Settings, extract, provenance_of
from extract.tables import duration
from mser.config import Workspace
from mser.errors import DiskError
from mser.manifest import Manifest
from mser.store import Provenance, ShardEntry, Store, write_shard
from mser.store.layout import shard_bytes
from mser.upstream import load_upstream

FREE = SimpleNamespace(total=1 << 50, used=0, free=1 << 49)
FULL = SimpleNamespace(total=1 << 50, used=0, free=plan.SPARE_BYTES + 1_000)


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8"])
@pytest.mark.parametrize("keep", [("frames", "pooled"), ("frames",), ("pooled",)])
@pytest.mark.parametrize(("layers", "kept", "dim"), [(3, (), 256), (1, (), 131), (5, (1, 3), 77)])
def test_bytes_of_a_shard_are_those_promised(
    dtype: str, keep: tuple[str, ...], layers: int, kept: tuple[int, ...], dim: int, tmp_path: Path
) -> None:
    made = Provenance("c", {"layers": layers, "dim": dim, "frame_rate": 50.0}, dtype, keep, kept)
    draw = np.random.default_rng(0)
    for count, frames in ((53, 8_000), (400, 2_000), (1, 1), (2, 30)):
        counts = draw.multinomial(frames - count, np.full(count, 1 / count)) + 1
        states = torch.ones(layers, int(counts.max()), dim)
        entries = [ShardEntry(f"c/{'x' * 40}{n}", f"{n:064d}", states[:, :t]) for n, t in enumerate(counts)]
        real = write_shard(tmp_path, made, entries).stat().st_size
        promised = shard_bytes(counts.tolist(), count, sum(len(one.utterance_id) for one in entries), made)
        assert promised >= 0.98 * real
        assert promised <= 1.02 * real + 80_000
        if real > 4e6:
            assert promised == pytest.approx(real, rel=0.02)


def test_bytes_of_a_plan_are_those_of_the_files_with_windows_and_all(tmp_path: Path) -> None:
    manifest = recorded(tmp_path, [ramp(number * 7_001) for number in range(5, 100, 3)])
    upstream = Ruler()
    for number, settings in enumerate(
        [Settings("float32", window=8.0), Settings("int8", layers=(1,), window=2.0, overlap=1.0)]
    ):
        folder, provenance = tmp_path / f"s{number}", provenance_of("toy", upstream, settings)
        made = make_plan(manifest.utterances, upstream, settings.window, settings.overlap)
        extract(manifest, tmp_path / "toy", upstream, folder, settings)
        real, tiny_files = Store(folder).size_bytes(), 80_000 * len(made.blocks)
        assert len(made.blocks) == len(shards(folder)) > 1
        assert 0.98 * real <= made.bytes(provenance) <= 1.02 * real + tiny_files
        assert made.frames == sum(Store(folder).num_frames(key) for key in Store(folder))
        assert made.utterances == 32
        assert made.seconds == pytest.approx(sum(row.seconds for row in manifest.utterances))


@examples
@given(seconds=st.lists(st.floats(0.0, 90.0), min_size=1, max_size=60), done=st.integers(0, 2**30 - 1))
def test_blocks_that_are_done_leave_the_others_as_they_were(seconds: list[float], done: int) -> None:
    rows = [replace(utterance(f"u{number}"), num_samples=int(16_000 * length)) for number, length in enumerate(seconds)]
    whole = make_plan(rows, Ruler(), 30.0, 4.0)
    there = {number for number in range(len(whole.blocks)) if done >> number & 1}
    stored = {row.utterance_id for number in there for row in whole.blocks[number].rows}
    rest = make_plan([row for row in reversed(rows) if row.utterance_id not in stored], Ruler(), 30.0, 4.0)
    assert rest.blocks == tuple(block for number, block in enumerate(whole.blocks) if number not in there)
    assert {row.utterance_id for row in rest.unfit} == {row.utterance_id for row in whole.unfit}
    assert sorted(row.utterance_id for block in whole.blocks for row in block.rows) == sorted(
        row.utterance_id for row in rows if row.num_samples >= 400
    )
    lengths = [row.num_samples for block in whole.blocks for row in block.rows]
    assert lengths == sorted(lengths, reverse=True)


def test_a_sample_spans_the_lengths() -> None:
    rows = [replace(utterance(f"u{number}"), num_samples=1_000 * number) for number in range(1, 51)]
    made = make_plan(rows, Ruler(), 30.0, 4.0)
    assert [row.num_samples for row, _ in choose_sample(made, 3)] == [50_000, 26_000, 1_000]
    assert len(choose_sample(made, 500)) == 50


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return recorded(tmp_path / "corpora", [noise(4_000 + 500 * number, number) for number in range(6)])


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    monkeypatch.setattr(plan, "SHARD_FRAMES", 60)
    return lambda: monkeypatch.setattr(shutil, "disk_usage", lambda path: FULL)


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(
    manifest: Manifest, full: Callable[[], None], tmp_path: Path
) -> None:
    logmel, folder = load_upstream("logmel", torch.device("cpu")), tmp_path / "cache" / "s"
    part = replace(manifest, utterances=manifest.utterances[:4])
    full()
    with pytest.raises(DiskError, match="cannot hold") as error:
        extract(manifest, tmp_path / "corpora" / "toy", logmel, folder)
    assert "FRAMES=0" in str(error.value)
    assert not folder.parent.exists()
    pytest.MonkeyPatch().setattr(shutil, "disk_usage", lambda path: FREE)
    extract(part, tmp_path / "corpora" / "toy", logmel, folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    full()
    with pytest.raises(DiskError, match="cannot hold"):
        extract(manifest, tmp_path / "corpora" / "toy", logmel, folder)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    extract(part, tmp_path / "corpora" / "toy", logmel, folder)  # nothing is missing, so nothing is needed


def test_shards_of_changed_recordings_are_kept_until_there_is_room_to_replace_them(
    manifest: Manifest, full: Callable[[], None], tmp_path: Path
) -> None:
    logmel, folder = load_upstream("logmel", torch.device("cpu")), tmp_path / "s"
    extract(manifest, tmp_path / "corpora" / "toy", logmel, folder)
    before = shards(folder)
    grown = recorded(tmp_path / "corpora", [noise(90_000 + number, 9) for number in range(6)])
    full()
    with pytest.raises(DiskError, match="cannot hold"):
        extract(grown, tmp_path / "corpora" / "toy", logmel, folder, replace_changed=True)
    assert shards(folder) == before


def test_the_command_tells_what_is_to_come_and_whether_the_disk_holds_it(
    manifest: Manifest, full: Callable[[], None], tmp_path: Path
) -> None:
    workspace = Workspace(tmp_path / "work")
    manifest.write(workspace, [], [])
    places = ["--home", str(workspace.root), "--corpora", str(tmp_path / "corpora"), "--device", "cpu"]
    arguments = ["plan", *places, "--upstreams", "logmel random-tiny-wav2vec2"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    frames = sum(1 + row.num_samples // 160 for row in manifest.utterances)
    lines = [line.split("│") for line in result.output.splitlines() if "logmel" in line]
    assert [cell.strip() for cell in lines[0]][2:8] == ["logmel", "6", "6", "3", "0.00", str(frames)]
    assert not workspace.cache.exists()
    full()
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert "cannot hold" in result.output
    assert "logmel" in result.output


def test_durations_are_told_in_hours() -> None:
    assert [duration(seconds) for seconds in (0, 59.4, 3_600, 360_000)] == [
        "0:00:00",
        "0:00:59",
        "1:00:00",
        "100:00:00",
    ]
