"""What is stored of states, against numpy; and a writer whose pieces come in any order, on disks that fail."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from extractions import leftovers, noise, recorded, shards
from hypothesis import given
from hypothesis import strategies as st
from toys import examples

from extract import plan
from extract.states import Settings, extract
from mser.errors import DiskError, StoreError
from mser.manifest import Manifest
from mser.store import Provenance, ShardEntry, ShardRow, ShardWriter, Store, open_or_create, pack, write_shard
from mser.store.image import Image
from mser.store.pack import merge, unpack
from mser.upstream import load_upstream

CPU = torch.device("cpu")


def provenance(dtype: str = "float16", layers: int = 3, dim: int = 8, **changes: Any) -> Provenance:
    return Provenance("c", {"name": "u", "layers": layers, "dim": dim, "frame_rate": 50.0}, dtype, **changes)


def gaussian(frames: int, layers: int = 3, dim: int = 8, seed: int = 0) -> torch.Tensor:
    values = np.random.default_rng(seed).normal(0.5, 2.0, (layers, frames, dim)).astype(np.float32)
    return torch.from_numpy(values)


@examples
@given(
    frames=st.integers(1, 60),
    seed=st.integers(0, 999),
    exponents=st.lists(st.integers(-30, 30), min_size=5, max_size=5),
)
def test_int8_is_off_by_half_a_step_at_most(frames: int, seed: int, exponents: list[int]) -> None:
    states = gaussian(frames, 2, 5, seed) * torch.tensor([10.0**exponent for exponent in exponents])
    states[1, :, 2] = 0.0
    states[0, -1, 1] = -states[0].abs().max()
    packed = pack(states, provenance("int8", 2, 5))
    assert packed.frames is not None
    assert packed.scale is not None
    assert packed.frames.dtype == torch.int8
    assert (packed.frames != -128).all()
    scale = packed.scale.double().numpy()[:, None]
    np.testing.assert_allclose(scale[:, 0], states.double().abs().amax(1).numpy() / 127, rtol=1e-6)
    again = unpack(packed.frames, packed.scale).double().numpy()
    assert (abs(again - states.double().numpy()) <= scale * (0.5 + 1e-4)).all()
    assert (again[1, :, 2] == 0).all()
    assert again[0, -1, 1] == pytest.approx(states[0, -1, 1].item(), rel=1e-6)


def test_int8_keeps_gaussian_features_35_db_above_its_noise() -> None:
    states = gaussian(2_000)
    packed = pack(states, provenance("int8"))
    assert packed.frames is not None
    assert packed.scale is not None
    lost = (unpack(packed.frames, packed.scale) - states).double().square().mean(1)
    assert (10 * (states.double().square().mean(1) / lost).log10() > 35).all()


@pytest.mark.parametrize("largest", [1e-45, 1.9e-43, 2.6e-43, 1e-38, 3e38])
def test_int8_of_the_smallest_and_largest_numbers_never_wraps_around(largest: float) -> None:
    states = torch.linspace(-1, 1, 9)[None, :, None] * torch.tensor(largest)
    packed = pack(states, provenance("int8", 1, 1))
    assert packed.frames is not None
    assert (packed.frames[0, :, 0].diff() >= 0).all()


@examples
@given(counts=st.lists(st.integers(1, 50), min_size=1, max_size=6), seed=st.integers(0, 99), shift=st.floats(-1e3, 1e3))
def test_merged_moments_are_numpys_over_all_frames(counts: list[int], seed: int, shift: float) -> None:
    parts = [gaussian(count, seed=seed + number) + shift for number, count in enumerate(counts)]
    packed = [pack(part, provenance("float32")) for part in parts]
    merged = merge(counts, [one.pooled for one in packed if one.pooled is not None]).numpy()
    exact = torch.cat(parts, dim=1).double().numpy()
    np.testing.assert_allclose(merged[:, 0], exact.mean(1), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(merged[:, 1], exact.std(1), rtol=1e-5, atol=1e-6 * (1 + abs(shift)))


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8"])
def test_chosen_layers_are_stored_as_in_the_full_store(dtype: str, tmp_path: Path) -> None:
    entries = [ShardEntry(f"c/u{number}", f"{number:064d}", gaussian(9 * number + 4, 6)) for number in range(4)]
    stores = {}
    for name, kept in (("full", ()), ("part", (1, 2, 5))):
        made = provenance(dtype, 6, layer_numbers=kept)
        stores[name] = open_or_create(tmp_path / name, made)
        write_shard(tmp_path / name, made, entries)
        stores[name] = Store(tmp_path / name)
    full, part = stores["full"], stores["part"]
    assert (part.provenance.layers, part.provenance.layer_numbers) == (3, (1, 2, 5))
    keys = sorted(full)
    for key in keys:
        np.testing.assert_array_equal(part.frames(key), full.frames(key, [1, 2, 5]))
        np.testing.assert_array_equal(part.frames(key, [2, 0]), full.frames(key, [5, 1]))
        np.testing.assert_array_equal(part.frames(key, slice(1, 3)), full.frames(key)[[2, 5]])
    np.testing.assert_array_equal(part.pooled(keys), full.pooled(keys)[:, [1, 2, 5]])
    with pytest.raises(StoreError, match="no such layers") as error:
        provenance(layers=3, layer_numbers=(1, 3))
    assert error.value.expected == "layers from 0 to 2"


COUNTS = {"c/a": (7, 3), "c/b": (5,), "c/c": (1, 1, 4), "c/d": (30,)}
ROWS = [ShardRow(key, f"{number:064d}", sum(counts)) for number, (key, counts) in enumerate(COUNTS.items())]


def written(folder: Path, made: Provenance, seed: int) -> Path:
    """A shard whose pieces were put with utterances in any order, the pieces of each in theirs."""
    folder.mkdir()
    writer, left = (
        ShardWriter(folder, made, ROWS),
        {row: list(COUNTS[one.utterance_id]) for row, one in enumerate(ROWS)},
    )
    draw = random.Random(seed)
    while left:
        row = draw.choice(sorted(left)) if seed else min(left)
        number = len(COUNTS[ROWS[row].utterance_id]) - len(left[row])
        writer.put(row, pack(gaussian(left[row].pop(0), seed=10 * row + number), made))
        left = {row: counts for row, counts in left.items() if counts}
    return writer.commit()


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8"])
@pytest.mark.parametrize("keep", [("frames", "pooled"), ("pooled",)])
def test_pieces_in_any_order_of_utterances_give_the_same_bytes(
    dtype: str, keep: tuple[str, ...], tmp_path: Path
) -> None:
    made = provenance(dtype, keep=keep)
    paths = [written(tmp_path / str(seed), made, seed) for seed in range(6)]
    assert len({path.read_bytes() for path in paths}) == 1
    made.write(paths[0].parent)
    store = Store(paths[0].parent)
    assert [shard.damage() for shard in store.shards] == [None]
    for row, (key, counts) in enumerate(COUNTS.items()):
        parts = [gaussian(count, seed=10 * row + number) for number, count in enumerate(counts)]
        states = torch.cat(parts, dim=1)
        exact = states.double().numpy()
        np.testing.assert_allclose(store.pooled([key])[0, :, 0], exact.mean(1), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(store.pooled([key])[0, :, 1], exact.std(1), rtol=1e-5, atol=1e-6)
        if "frames" in keep and dtype != "int8":
            np.testing.assert_array_equal(store.frames(key), states.numpy().astype(dtype))
        elif "frames" in keep:  # each piece has its own scale
            packed = [pack(part, made) for part in parts]
            joined = np.concatenate([one.frames.numpy() * one.scale.numpy()[:, None] for one in packed], axis=1)  # type: ignore[union-attr]
            np.testing.assert_array_equal(store.frames(key), joined)
            with h5py.File(store.shards[0].path, "r") as file:
                assert file["piece_offsets"][()].tolist() == [0, 7, 10, 15, 16, 17, 21, 51]


def test_a_shard_with_too_few_or_too_many_frames_is_refused(tmp_path: Path) -> None:
    made = provenance()
    writer = ShardWriter(tmp_path, made, ROWS[:2])
    writer.put(0, pack(gaussian(10), made))
    with pytest.raises(StoreError, match="lacks frames") as error:
        writer.commit()
    assert error.value.found == "c/b"
    writer = ShardWriter(tmp_path, made, ROWS[:2])
    writer.put(0, pack(gaussian(6), made))
    with pytest.raises(StoreError, match="c/a has more frames") as error:
        writer.put(0, pack(gaussian(5), made))
    assert list(tmp_path.iterdir()) == []


def test_writers_of_one_shard_do_not_meet_and_one_whose_file_was_swept_away_commits_nothing(tmp_path: Path) -> None:
    made = provenance()
    old = ShardWriter(tmp_path, made, ROWS[1:2])
    old.put(0, pack(gaussian(5), made))
    for path in tmp_path.iterdir():
        path.unlink()
    new = ShardWriter(tmp_path, made, ROWS[1:2])
    with pytest.raises(DiskError):
        old.commit()
    assert len(list(tmp_path.iterdir())) == 1
    new.put(0, pack(gaussian(5, seed=1), made))
    new.commit()
    made.write(tmp_path)
    np.testing.assert_array_equal(Store(tmp_path).frames("c/b"), gaussian(5, seed=1).half())
    assert leftovers(tmp_path) == []


@examples
@given(st.data())
def test_an_image_reads_back_as_a_file_would(data: st.DataObject) -> None:
    image, truth = Image(), np.zeros(40_000, dtype=np.uint8)
    size = 0
    for number in range(data.draw(st.integers(1, 8))):
        place, count = data.draw(st.integers(0, 20_000)), data.draw(st.integers(0, 9_000))
        image.seek(place)
        image.write(np.full(count, number + 1, dtype=np.uint8))
        truth[place : place + count] = number + 1
        size = max(size, place + count if count else size)
    image.seek(0)
    found = bytearray(30_000)
    image.readinto(found)
    assert bytes(found) == truth[:30_000].tobytes()
    assert image.seek(0, os.SEEK_END) == image.size == size
    out = np.zeros(40_000, dtype=np.uint8)
    for place, content in image.written():
        out[place : place + len(content)] = content
    np.testing.assert_array_equal(out, truth)


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """Six recordings that fill three shards; two of them in windows."""
    monkeypatch.setattr(plan, "SHARD_FRAMES", 150)
    return recorded(tmp_path, [noise(8_000 + 4_000 * number, number) for number in range(6)])


SMALL = Settings(window=1.0, overlap=0.4)


@pytest.mark.parametrize("failing", ["pwrite", "fsync", "replace", "open"])
def test_at_whatever_call_the_disk_fails_earlier_shards_stay_and_the_next_run_completes(
    failing: str, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logmel, where = load_upstream("logmel", CPU), (manifest, tmp_path / "toy")
    owner: Any = Path if failing == "replace" else os
    real: Callable[..., Any] = getattr(owner, failing)
    calls, fails_at = 0, 0

    def fail(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        if failing in ("open", "replace") and "shard-" not in str(arguments[0]):
            return real(*arguments, **options)
        calls += 1
        if calls == fails_at:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments, **options)

    monkeypatch.setattr(owner, failing, fail)
    extract(*where, logmel, tmp_path / "whole", SMALL)
    whole, count = shards(tmp_path / "whole"), calls
    assert len(whole) >= 3 <= count
    for number in range(1, count + 1):
        folder = tmp_path / f"{failing}{number}"
        calls, fails_at = 0, number
        with pytest.raises(DiskError, match="make room"):
            extract(*where, logmel, folder, SMALL)
        there = shards(folder)
        assert there == {name: whole[name] for name in there}
        assert leftovers(folder) == []
        extract(*where, logmel, folder, SMALL)
        assert shards(folder) == whole


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts disks of so many bytes."""
    mounted: list[Path] = []

    def mount(size: int) -> Path:
        path = tmp_path / f"disk{len(mounted)}"
        path.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("no small disk can be mounted here (needs root)")
        mounted.append(path)
        return path

    yield mount
    for path in mounted:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def test_on_a_disk_that_fills_up_what_fits_stays_and_a_larger_disk_completes_it(
    manifest: Manifest, tmp_path: Path, small_disk: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "SPARE_BYTES", -(1 << 40))
    logmel, where = load_upstream("logmel", CPU), (manifest, tmp_path / "toy")
    extract(*where, logmel, tmp_path / "whole", SMALL)
    whole = shards(tmp_path / "whole")
    disk, kept = small_disk(4096 * 100), set()
    for pages in range(4, 100, 3):
        subprocess.run(["mount", "-o", f"remount,size={4096 * pages}", str(disk)], check=True)
        with suppress(DiskError):
            extract(*where, logmel, disk / "s", SMALL)
        there = shards(disk / "s")
        assert there == {name: whole[name] for name in there}
        assert leftovers(disk / "s") == []
        kept.add(len(there))
        if len(there) == len(whole):
            break
    assert kept == set(range(len(whole) + 1))
