"""Exports, read back by the libraries of their formats, against the store."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors import safe_open
from toys import make_workspace

from mser.cli import main
from mser.config import Workspace
from mser.errors import ConfigError, StoreError
from mser.inspect import export as exports
from mser.inspect.export import export
from mser.inspect.selection import COLUMNS, Selection
from mser.manifest import Manifest, Utterance
from mser.store import Store

LAYERS = (1,)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_workspace(tmp_path_factory.mktemp("home"), languages=("de", "it"))


def selection(workspace: Workspace, frames: bool, layers: tuple[int, ...] = LAYERS) -> Selection:
    """Both corpora, the utterances in another order than they lie on the disk."""
    stores = {name: Store(workspace.store(name, "loud")) for name in ("toy_de", "toy_it")}
    rows = [row for name in stores for row in Manifest.read(workspace, name).utterances]
    return Selection("loud", stores, tuple(rows[::-1]), layers, frames)


def truth(chosen: Selection) -> tuple[np.ndarray, np.ndarray]:
    """Layer 1 of all utterances, and their offsets: one by one from the stores."""
    parts = []
    for row in chosen.utterances:
        store = chosen.stores[row.corpus]
        one = store.frames(row.utterance_id)[1] if chosen.frames else store.pooled([row.utterance_id])[0, 1][None]
        parts.append(np.array(one))
    return np.concatenate(parts), np.cumsum([0, *map(len, parts)])


def columns(utterances: tuple[Utterance, ...]) -> dict[str, list[object]]:
    return {name: [asdict(row)[name] for row in utterances] for name in COLUMNS}


@pytest.mark.parametrize("frames", [False, True])
def test_npz(workspace: Workspace, tmp_path: Path, frames: bool) -> None:
    chosen = selection(workspace, frames)
    values, offsets = truth(chosen)
    with np.load(export(chosen, tmp_path / "out.npz")) as found:
        np.testing.assert_array_equal(found["layer-1"], values)
        assert "layer-0" not in found
        if frames:
            np.testing.assert_array_equal(found["offsets"], offsets)
        for name, right in columns(chosen.utterances).items():
            assert found[name].tolist() == right
    assert [path.name for path in tmp_path.iterdir()] == ["out.npz"]


@pytest.mark.parametrize("frames", [False, True])
def test_safetensors(workspace: Workspace, tmp_path: Path, frames: bool) -> None:
    chosen = selection(workspace, frames)
    values, offsets = truth(chosen)
    with safe_open(export(chosen, tmp_path / "out.safetensors"), framework="np") as found:
        np.testing.assert_array_equal(found.get_tensor("layer-1"), values)
        if frames:
            np.testing.assert_array_equal(found.get_tensor("offsets"), offsets)
        assert json.loads(found.metadata()["manifest"]) == columns(chosen.utterances)


@pytest.mark.parametrize("frames", [False, True])
def test_zarr(workspace: Workspace, tmp_path: Path, frames: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    zarr = pytest.importorskip("zarr")
    monkeypatch.setattr(exports, "CHUNK_ROWS", 7)
    chosen = selection(workspace, frames)
    values, offsets = truth(chosen)
    for _ in range(2):  # the second replaces the first
        found = zarr.open_group(str(export(chosen, tmp_path / "out.zarr")), mode="r")
        np.testing.assert_array_equal(found["layer-1"][:], values)
        if frames:
            np.testing.assert_array_equal(found["offsets"][:], offsets)
        assert dict(found.attrs)["manifest"] == columns(chosen.utterances)


@pytest.mark.parametrize("frames", [False, True])
def test_parquet(workspace: Workspace, tmp_path: Path, frames: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(exports, "TABLE_ROWS", 5)
    chosen = selection(workspace, frames)
    values, offsets = truth(chosen)
    found = parquet.read_table(export(chosen, tmp_path / "out.parquet")).to_pydict()
    assert {name: found[name] for name in COLUMNS} == columns(chosen.utterances)
    if frames:
        for number, own in enumerate(found["layer-1"]):
            np.testing.assert_array_equal(np.array(own, "float32"), values[offsets[number] : offsets[number + 1]])
    else:
        for place, name in enumerate(("layer-1-mean", "layer-1-deviation")):
            np.testing.assert_array_equal(np.array(found[name], dtype="float32"), values[:, place])


@pytest.mark.parametrize("frames", [False, True])
def test_csv(workspace: Workspace, tmp_path: Path, frames: bool) -> None:
    chosen = selection(workspace, frames)
    values, offsets = truth(chosen)
    with export(chosen, tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(values)
    names = [f"layer-1-{n}" for n in range(4)] if frames else [f"layer-1-{s}-{n}" for s in ("mean", "deviation")
                                                               for n in range(4)]  # fmt: skip
    read = np.array([[row[name] for name in names] for row in rows], dtype=np.float32)
    np.testing.assert_array_equal(read, values.reshape(len(values), -1))
    owner = np.searchsorted(offsets, np.arange(len(values)), side="right") - 1
    assert [row["utterance_id"] for row in rows] == [chosen.utterances[number].utterance_id for number in owner]
    if frames:
        assert [int(row["frame"]) for row in rows] == [n - offsets[o] for n, o in enumerate(owner)]


def test_an_export_that_fails_leaves_what_was_there(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "out.npz"
    path.write_text("before", encoding="utf-8")

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(selection(workspace, True), path, stop)
    assert path.read_text(encoding="utf-8") == "before"
    assert [one.name for one in tmp_path.iterdir()] == ["out.npz"]


def test_what_cannot_be_exported_says_why(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"\.npz \.parquet \.csv \.zarr \.safetensors"):
        export(selection(workspace, False), tmp_path / "out.mat")
    with pytest.raises(StoreError, match="does not keep these layers"):
        selection(workspace, False, (0, 5))
    for library, suffix in (("zarr", "zarr"), ("pyarrow", "parquet")):
        monkeypatch.setitem(sys.modules, library, None)
        with pytest.raises(ConfigError, match=r"pip install \"mser\[export\]\""):
            export(selection(workspace, False), tmp_path / f"out.{suffix}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["results.csv", "results.npz", "results.zarr"])
def test_an_export_deletes_no_folder_of_other_things(workspace: Workspace, tmp_path: Path, name: str) -> None:
    kept = tmp_path / name / "kept.txt"
    kept.parent.mkdir()
    kept.write_text("kept", encoding="utf-8")
    if name.endswith(".zarr"):  # a description, but of no group
        (tmp_path / name / "zarr.json").write_text('{"node_type": "array"}', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"Something else lies where(?s:.*)found: +a folder"):
        export(selection(workspace, False), tmp_path / name)
    assert kept.read_text(encoding="utf-8") == "kept"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_zarr_group_replaces_neither_a_file_nor_what_a_link_leads_to(workspace: Workspace, tmp_path: Path) -> None:
    group = tmp_path / "group.zarr"
    (tmp_path / "link.zarr").symlink_to(group)
    (tmp_path / "file.zarr").write_text("kept", encoding="utf-8")
    for name, found in (("link.zarr", "a link"), ("file.zarr", "a file")):
        with pytest.raises(ConfigError, match=rf"a zarr group(?s:.*)found: +{found}"):
            export(selection(workspace, False), tmp_path / name)
    group.mkdir()
    (group / ".zgroup").write_text("{}", encoding="utf-8")  # of version 2
    with pytest.raises(ConfigError, match="a link"):
        export(selection(workspace, False), tmp_path / "link.zarr")
    pytest.importorskip("zarr")
    export(selection(workspace, False), group)
    assert not (group / ".zgroup").exists()


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".csv", ".zarr", ".safetensors"])
def test_exporting_nothing_is_an_error(tmp_path: Path, suffix: str) -> None:
    workspace = make_workspace(tmp_path / "home", upstreams=("loud",))
    manifest = Manifest.read(workspace, "toy_de")
    rows = tuple(replace(row, sha256="f" * 64) for row in manifest.utterances)
    replace(manifest, utterances=rows).write(workspace, [], [])
    command = ["inspect", "export", "--out", str(tmp_path / f"out{suffix}"), "--home", str(workspace.root)]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 1, done.output
    for said in ("nothing to export", "24 of other recordings", "REPLACE_CHANGED=1"):
        assert said in done.output
    for shard in workspace.store("toy_de", "loud").glob("*.h5"):
        shard.unlink()
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 1
    assert 'run `make extract` UPSTREAMS="loud"' in done.output
    assert not (tmp_path / f"out{suffix}").exists()


def test_the_command_exports_what_the_stores_hold(workspace: Workspace, tmp_path: Path) -> None:
    options = ["--upstream", "loud", "--layers", "0-1", "--frames", "--home", str(workspace.root)]
    done = CliRunner().invoke(main, ["inspect", "export", "--language", "it", *options])
    assert done.exit_code == 0, done.output
    path = workspace.reports / "inspect-it" / "loud-frames.npz"
    assert "24 of 24 utterances, layers 0, 1" in done.output
    with np.load(path) as found:
        assert set(found["language"]) == {"it"}
        assert found["layer-0"].shape == (found["offsets"][-1], 4)
    shard = next(workspace.store("toy_it", "quiet").glob("*.h5"))
    content = shard.read_bytes()
    shard.write_bytes(content[:100])
    done = CliRunner().invoke(main, ["inspect", "export", "--upstream", "quiet", "--home", str(workspace.root)])
    shard.write_bytes(content)
    assert done.exit_code == 1
    assert "a part of it is not exported" in done.output
