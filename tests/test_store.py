"""The store against what h5py and numpy read themselves, killed writers, and damage of every kind."""

from __future__ import annotations

import json
import pickle
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from mser.errors import StoreError
from mser.store import Provenance, ShardEntry, Store, open_or_create, write_shard
from mser.store.shard import Shard

ROOT = Path(__file__).resolve().parents[1]
LAYERS, DIM = 3, 8


def provenance(dtype: str = "float16", layers: int = LAYERS, dim: int = DIM, **changes: Any) -> Provenance:
    upstream = {"name": "u", "layers": layers, "dim": dim, "frame_rate": 50.0, "weights_sha256": "aa"}
    return Provenance("c", upstream, dtype, **{"versions": {"torch": "2"}, **changes})


def entry(number: int, frames: int, layers: int = LAYERS, dim: int = DIM) -> ShardEntry:
    values = np.random.default_rng(number).normal(1.0, 3.0, (layers, frames, dim)).astype(np.float32)
    return ShardEntry(f"c/u{number}", f"{number:064d}", torch.from_numpy(values))


ENTRIES = [entry(number, frames) for number, frames in enumerate([5, 1, 40, 700])]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty store's folder."""
    return open_or_create(tmp_path / "store", provenance()).folder


def content(path: Path) -> dict[str, bytes]:
    """The bytes of every dataset of a shard, as h5py reads them, without the padding behind the last frame."""
    with h5py.File(path, "r") as file:
        return {
            name: np.asarray(file[name][()]).tobytes() for name in file if name not in ("utterance_id", "states")
        } | {
            "utterance_id": b"\n".join(file["utterance_id"][()]),
            "states": file["states"][:, : file["offsets"][-1]].tobytes(),
        }


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize(("layers", "dim"), [(3, 8), (1, 13), (2, 1), (4, 768)])
def test_what_is_written_is_what_is_read(tmp_path: Path, dtype: str, layers: int, dim: int) -> None:
    made = provenance(dtype, layers, dim)
    store = open_or_create(tmp_path, made)
    entries = [entry(number, frames, layers, dim) for number, frames in enumerate([7, 1, 60, 3])]
    paths = [write_shard(tmp_path, made, entries[:3]), write_shard(tmp_path, made, entries[3:])]
    store = Store(tmp_path)
    assert (len(store), sorted(store)) == (4, sorted(one.utterance_id for one in entries))
    for one in entries:
        truth = one.states.numpy().astype(dtype)
        frames = store.frames(one.utterance_id)
        assert frames.dtype == truth.dtype
        np.testing.assert_array_equal(frames, truth)
        assert store.num_frames(one.utterance_id) == truth.shape[1]
        assert store.audio_sha256(one.utterance_id) == one.audio_sha256
        assert one.utterance_id in store
    assert "c/none" not in store
    with h5py.File(paths[0], "r") as file:
        assert file["offsets"][()].tolist() == [0, 7, 8, 68]
        assert [key.decode() for key in file["utterance_id"]] == ["c/u0", "c/u1", "c/u2"]
        assert file["states"].shape[1] >= 68
        for one, start, end in zip(entries, [0, 7, 8], [7, 8, 68], strict=False):
            np.testing.assert_array_equal(file["states"][:, start:end], one.states.numpy().astype(dtype))
    assert store.size_bytes() == sum(path.stat().st_size for path in paths)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_memory_mapped_view_is_what_h5py_reads(tmp_path: Path, dtype: str) -> None:
    path = write_shard(tmp_path, provenance(dtype), ENTRIES)
    shard = Shard(path, provenance(dtype))
    with h5py.File(path, "r") as file:
        np.testing.assert_array_equal(shard.states, file["states"][:])
    assert not shard.states.flags.writeable
    assert not shard.states.flags.owndata
    assert shard.damage() is None


@pytest.mark.parametrize("chunks", [True, (1, 100, DIM), None])
def test_a_shard_laid_out_otherwise_is_read_through_hdf5(folder: Path, chunks: Any) -> None:
    path = write_shard(folder, provenance(), ENTRIES)
    with h5py.File(path, "r+") as file:
        states = file["states"][()]
        del file["states"]
        packed = {"compression": "gzip"} if chunks else {}
        file.create_dataset("states", data=states, chunks=chunks or (1, *states.shape[1:]), **packed)
    np.testing.assert_array_equal(Store(folder).frames("c/u3"), ENTRIES[3].states.numpy().astype(np.float16))


def test_pooled_is_numpys_mean_and_deviation_in_the_order_asked(folder: Path) -> None:
    write_shard(folder, provenance(), ENTRIES[:2])
    write_shard(folder, provenance(), ENTRIES[2:])
    order = [2, 0, 3, 1, 0]
    pooled = Store(folder).pooled([f"c/u{number}" for number in order])
    assert (pooled.shape, pooled.dtype) == ((5, LAYERS, 2, DIM), np.float32)
    for row, number in zip(pooled, order, strict=True):
        exact = ENTRIES[number].states.numpy().astype(np.float64)
        np.testing.assert_allclose(row[:, 0], exact.mean(axis=1), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(row[:, 1], exact.std(axis=1), rtol=1e-5, atol=1e-5)


def test_a_shard_is_named_after_its_content_and_written_the_same_each_time(tmp_path: Path) -> None:
    paths = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        paths.append(write_shard(tmp_path / name, provenance(), ENTRIES))
    assert paths[0].name == paths[1].name
    assert paths[0].read_bytes() == paths[1].read_bytes()
    others = [ENTRIES[:3], [replace(ENTRIES[0], audio_sha256="f" * 64), *ENTRIES[1:]]]
    assert len({paths[0].name, *(write_shard(tmp_path, provenance(), other).name for other in others)}) == 3


# Forks writers that do nothing but write shards, reads the store beside them, and kills each at a random moment.
KILLING = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from mser.store import Provenance, ShardEntry, Store, open_or_create, write_shard
torch.set_num_threads(1)
folder = Path(sys.argv[1])
made = Provenance("c", {"layers": 3, "dim": 256, "frame_rate": 50.0})
open_or_create(folder, made)
states = torch.randn(3, 600, 256)
for writer in range(8):
    pid = os.fork()
    if not pid:
        for number in range(1_000):
            write_shard(folder, made, [ShardEntry(f"c/{writer}-{number}-{i}", f"{i:064d}", states) for i in range(3)])
        os._exit(0)
    try:
        before, began = len(Store(folder)), time.monotonic()
        while len(store := Store(folder)) == before and time.monotonic() < began + 60:
            time.sleep(0.001)
        for key in list(store)[-3:]:
            assert store.frames(key).shape == (3, 600, 256), key
        time.sleep(random.random() * 0.03)
    finally:
        os.kill(pid, signal.SIGKILL)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL
"""


def test_at_any_kill_a_shard_is_whole_or_absent(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", KILLING, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    store = Store(tmp_path)
    assert len(store) >= 8 * 3
    assert len(store) == 3 * len(store.shards)
    assert [shard.damage() for shard in store.shards] == [None] * len(store.shards)
    assert {key.split("-")[0] for key in store} == {f"c/{writer}" for writer in range(8)}


@pytest.mark.parametrize(
    ("dtype", "value", "refused"),
    [("float16", 1e6, True), ("float32", 1e6, False), ("float16", np.nan, True), ("float32", np.inf, True)],
)
@pytest.mark.parametrize("keep", [("frames", "pooled"), ("frames",)])
def test_values_the_dtype_cannot_hold_are_refused_by_utterance_and_layer(
    tmp_path: Path, dtype: str, value: float, refused: bool, keep: tuple[str, ...]
) -> None:
    made = provenance(dtype, keep=keep)
    bad = entry(9, 20)
    bad.states[2, 7, 3] = value
    if not refused:
        write_shard(tmp_path, made, [ENTRIES[0], bad])
        return
    with pytest.raises(StoreError, match="c/u9") as error:
        write_shard(tmp_path, made, [ENTRIES[0], bad, ENTRIES[1]])
    assert error.value.field == "layer 2"
    assert "DTYPE=float32" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_store_of_pooled_states_alone_takes_large_values_but_no_nan(tmp_path: Path) -> None:
    made = provenance(keep=("pooled",))
    bad = entry(9, 20)
    bad.states[1, 0, 0] = np.nan
    with pytest.raises(StoreError, match="c/u9"):
        write_shard(tmp_path, made, [bad])
    assert list(tmp_path.iterdir()) == []
    bad.states[1, 0, 0] = 1e6
    with h5py.File(write_shard(tmp_path, made, [bad]), "r") as file:
        assert "states" not in file
        assert file["pooled"][0, 1, 0, 0] == pytest.approx(bad.states[1, :, 0].mean().item())


@pytest.mark.parametrize("keep", [("frames", "pooled"), ("pooled",)])
@pytest.mark.parametrize("shape", [(LAYERS, 5, DIM + 1), (LAYERS - 1, 5, DIM), (LAYERS, 0, DIM), (LAYERS, DIM)])
def test_states_of_another_shape_are_refused(tmp_path: Path, keep: tuple[str, ...], shape: tuple[int, ...]) -> None:
    odd = ShardEntry("c/odd", "0" * 64, torch.zeros(shape))
    with pytest.raises(StoreError, match="c/odd"):
        write_shard(tmp_path, provenance(keep=keep), [ENTRIES[0], odd])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("kept", "lacking"), [("pooled", "frames"), ("frames", "pooled")])
def test_what_a_store_was_made_without_is_refused_with_a_message(tmp_path: Path, kept: str, lacking: str) -> None:
    made = provenance(keep=(kept,))
    open_or_create(tmp_path, made)
    write_shard(tmp_path, made, ENTRIES)
    store = Store(tmp_path)
    assert [shard.damage() for shard in store.shards] == [None]
    ask = {"frames": lambda: store.frames("c/u0"), "pooled": lambda: store.pooled(["c/u0"])}
    ask[kept]()
    with pytest.raises(StoreError, match=f"without {lacking}") as error:
        ask[lacking]()
    assert f"--{lacking}" in str(error.value)


def test_a_store_of_another_making_is_refused_naming_the_fields(folder: Path) -> None:
    other_weights = {**provenance().upstream, "weights_sha256": "bb"}
    for made, field in [
        (replace(provenance(), dtype="float32"), "dtype"),
        (replace(provenance(), upstream=other_weights), "upstream.weights_sha256"),
        (replace(provenance(), keep=("pooled",)), "keep"),
        (replace(provenance(), corpus="d", versions={"torch": "3"}), "corpus, versions.torch"),
    ]:
        with pytest.raises(StoreError, match="another making") as error:
            open_or_create(folder, made)
        assert error.value.field == field
        assert str(folder) in str(error.value)
    assert open_or_create(folder, provenance()).provenance == provenance()


def test_a_shard_of_another_store_is_refused(folder: Path, tmp_path: Path) -> None:
    write_shard(folder, replace(provenance(), corpus="d"), ENTRIES)
    with pytest.raises(StoreError, match="another making") as error:
        Store(folder)
    assert error.value.field == "provenance"


def test_descriptions_that_are_missing_changed_or_of_another_schema_are_refused(folder: Path) -> None:
    path = folder / "store.json"
    head = json.loads(path.read_bytes())
    changes: list[tuple[dict[str, Any], str]] = [
        ({"schema_version": 99}, "another schema version"),
        ({"dtype": "float32"}, "changed after it was written"),
        ({"corpus": None}, "changed after it was written"),
    ]
    for change, words in changes:
        path.write_text(json.dumps({**head, **change}), encoding="utf-8")
        with pytest.raises(StoreError, match=words):
            Store(folder)
    path.write_text(json.dumps({"schema_version": head["schema_version"]}), encoding="utf-8")
    with pytest.raises(StoreError, match="damaged"):
        Store(folder)
    with pytest.raises(StoreError, match="no store"):
        Store(folder / "none")
    with pytest.raises(StoreError, match="dtype"):
        provenance("float64")
    with pytest.raises(StoreError, match="content"):
        provenance(keep=())


def test_an_unknown_utterance_is_refused_and_missing_ones_are_told_from_changed(folder: Path) -> None:
    write_shard(folder, provenance(), ENTRIES[:2])
    store = Store(folder)
    for ask in (store.frames, store.num_frames, store.audio_sha256, lambda key: store.pooled([key])):
        with pytest.raises(StoreError, match="does not hold c/none"):
            ask("c/none")
    wanted = {"c/u0": f"{0:064d}", "c/u1": "f" * 64, "c/u2": f"{2:064d}"}
    assert store.missing(wanted) == (["c/u2"], ["c/u1"])


def places(path: Path) -> dict[str, int]:
    """File offset of a byte of each dataset's values."""
    with h5py.File(path, "r") as file:
        last = file["states"].id.get_chunk_info_by_coord((LAYERS - 1, 0, 0)).byte_offset
        start = {name: file[name].id.get_offset() for name in ("pooled", "offsets", "audio_sha256")}
    return {**{name: offset + 9 for name, offset in start.items()}, "states": last + 17}


@pytest.mark.parametrize("name", ["states", "pooled", "offsets", "audio_sha256"])
def test_a_flipped_bit_is_found(folder: Path, name: str) -> None:
    path = write_shard(folder, provenance(), ENTRIES)
    assert Shard(path, provenance()).damage() is None
    damaged = bytearray(path.read_bytes())
    damaged[places(path)[name]] ^= 1
    path.write_bytes(damaged)
    assert Shard(path, provenance()).damage() is not None


def test_whatever_bit_flips_nothing_else_than_the_truth_is_read(folder: Path) -> None:
    path = write_shard(folder, provenance(), ENTRIES[:2])
    whole, truth = path.read_bytes(), content(path)
    draw, noticed = random.Random(0), 0
    for place in [*range(0, 3_000, 29), *(draw.randrange(len(whole)) for _ in range(120))]:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        try:
            damage = Shard(path, provenance()).damage()
        except StoreError:
            damage = "cannot be opened"
        noticed += damage is not None
        assert damage or content(path) == truth, place
    assert noticed > 8


def test_a_truncated_or_foreign_file_is_a_store_error_that_names_it(folder: Path) -> None:
    path = write_shard(folder, provenance(), ENTRIES)
    whole = path.read_bytes()
    for part in (b"", b"no HDF5 at all" * 100, whole[:1000], whole[: len(whole) // 2], whole[:-1]):
        path.write_bytes(part)
        with pytest.raises(StoreError, match="cannot be read") as error:
            Store(folder)
        assert str(path) in str(error.value)
        assert "make extract" in str(error.value)


def test_a_partial_file_is_not_seen(folder: Path) -> None:
    path = write_shard(folder, provenance(), ENTRIES)
    path.with_name(f".{path.name}.1.partial").write_bytes(path.read_bytes()[:500])
    assert len(Store(folder)) == len(ENTRIES)


def test_stores_travel_between_processes(folder: Path) -> None:
    write_shard(folder, provenance(), ENTRIES)
    store = Store(folder)
    before = np.array(store.frames("c/u2"))
    packed = pickle.dumps(store)
    assert len(packed) < 10_000  # the mapping itself stays behind
    for copy in (pickle.loads(packed), pickle.loads(pickle.dumps(store.shards[0]))):
        read = copy.frames("c/u2") if isinstance(copy, Store) else copy.states[:, 6:46]
        np.testing.assert_array_equal(read, before)
