"""What stores hold, from the stores alone: against numpy over everything at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from toys import random_states, utterance

from mser.cli import main
from mser.config import Workspace
from mser.errors import StoreError
from mser.inspect import layer_statistics, list_stores
from mser.manifest import Manifest
from mser.store import Provenance, ShardEntry, Store, open_or_create, write_shard

FRAMES = [5, 2, 9, 4]
ROWS = tuple(utterance(f"u{number}", speaker=f"s{number}") for number in range(len(FRAMES)))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A manifest of four utterances and a store of two shards that holds three of them."""
    found = Workspace(tmp_path)
    manifest = Manifest("toy", "de", ROWS, "0" * 16)
    manifest.write(found, [], [])
    upstream = {"name": "up", "layers": 2, "dim": 4, "frame_rate": 50.0, "revision": "r1", "random_weights": False}
    store = open_or_create(found.store("toy", "up"), Provenance("toy", upstream, "float32"))
    states = random_states(FRAMES)
    for numbers in ([0, 1], [2]):
        entries = [ShardEntry(ROWS[n].utterance_id, ROWS[n].sha256, states[n]) for n in numbers]
        write_shard(store.folder, store.provenance, entries)
    return found


def test_layer_statistics_over_shards_are_those_over_all_frames(workspace: Workspace) -> None:
    frames = torch.cat(random_states(FRAMES)[:3], dim=1).numpy().astype(np.float64)
    found = layer_statistics(Store(workspace.store("toy", "up")))
    assert found.frames == sum(FRAMES[:3])
    np.testing.assert_allclose(found.mean, frames.mean(1), atol=1e-6)
    np.testing.assert_allclose(found.deviation, frames.std(1), atol=1e-6)
    np.testing.assert_allclose(found.norm, np.linalg.norm(frames, axis=2).mean(1), rtol=1e-6)


def test_a_store_without_frames_has_no_layer_statistics(tmp_path: Path) -> None:
    upstream = {"name": "up", "layers": 2, "dim": 4, "frame_rate": 50.0}
    store = open_or_create(tmp_path / "up", Provenance("toy", upstream, "float32", ("pooled",)))
    with pytest.raises(StoreError, match="made without frames"):
        layer_statistics(store)


def test_a_listing_tells_what_is_covered_and_what_is_damaged(workspace: Workspace) -> None:
    manifest = Manifest.read(workspace, "toy")
    (summary,) = list_stores(workspace, [manifest])
    assert (summary.covered, summary.total, summary.trouble) == (3, 4, "")
    shard = next(iter(sorted(workspace.store("toy", "up").glob("*.h5"))))
    shard.write_bytes(shard.read_bytes()[:100])
    (summary,) = list_stores(workspace, [manifest])
    assert "cannot be read" in summary.trouble


def test_the_command_prints_one_line_a_store_and_one_a_layer(workspace: Workspace) -> None:
    done = CliRunner().invoke(main, ["inspect", "--home", str(workspace.root), "--language", "de"])
    assert done.exit_code == 0, done.output
    assert "3 of 4" in done.output
    assert "incomplete" in done.output
    assert "0 of 4" in done.output
