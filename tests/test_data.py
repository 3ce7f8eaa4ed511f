"""A language's data: what its fingerprint depends on, and when a process opens it anew."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import make_workspace

from mser.config import Workspace, fingerprint
from mser.manifest import Manifest
from mser.store import Provenance, ShardEntry, Store, write_shard
from train import search
from train.search import loaded
from train.settings import Inputs, StudySettings

UPSTREAMS = ("loud", "quiet")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_workspace(tmp_path / "work", ("de", "it")).root


def write_folds(folder: Path, tests: Sequence[Sequence[int]]) -> Path:
    """EmoBox's files of the German corpus: for each fold the speakers that are tested."""
    for number, speakers in enumerate(tests, start=1):
        for part in ("train", "test"):
            chosen = [one for one in range(4) if (one in speakers) == (part == "test")]
            lines = [json.dumps({"wav": f"toy/s{one}u{place}.wav"}) for one in chosen for place in range(6)]
            path = folder / "toy_de" / f"fold_{number}" / f"toy_de_{part}_fold_{number}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(lines), encoding="utf-8")
    return folder


def emobox(root: Path, folder: Path) -> Inputs:
    return Inputs(root, UPSTREAMS, StudySettings(protocol="emobox", published=str(folder)))


def test_the_fingerprint_by_speakers_is_that_of_manifests_stores_and_features(root: Path) -> None:
    data = Inputs(root, UPSTREAMS, StudySettings()).load("de")
    stores = {name: {"toy_de": Provenance.read(root / "cache" / "toy_de" / name).fingerprint} for name in UPSTREAMS}
    manifest = Manifest.read(Workspace(root), "toy_de").fingerprint
    assert data.fingerprint == fingerprint(["de", {"toy_de": manifest}, stores, "pooled", 5.0])


def test_the_fingerprint_of_published_folds_follows_their_rows_wherever_they_lie(root: Path, tmp_path: Path) -> None:
    first, moved = (write_folds(tmp_path / name, [[0], [1, 2]]) for name in ("first", "moved"))
    before = emobox(root, first).load("de").fingerprint
    assert emobox(root, moved).load("de").fingerprint == before
    write_folds(first, [[0], [1, 3]])
    assert emobox(root, first).load("de").fingerprint != before
    assert Inputs(root, UPSTREAMS, StudySettings()).load("de").fingerprint != before


def test_searches_lie_in_the_same_folder_of_a_workspace_wherever_it_lies(root: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(root, tmp_path / "copied"))
    found = [Inputs(one, UPSTREAMS, StudySettings()) for one in (root, copied)]
    folders = [one.search_folder(one.load("de")).relative_to(one.root) for one in found]
    assert folders[0] == folders[1]


def relabel(root: Path, language: str) -> None:
    """A new manifest with other emotions."""
    manifest = Manifest.read(Workspace(root), f"toy_{language}")
    rows = tuple(replace(row, emotion="calm" if row.emotion == "joy" else row.emotion) for row in manifest.utterances)
    replace(manifest, utterances=rows).write(Workspace(root), [], [])


def extract_again(root: Path, language: str) -> None:
    """A store with other states of the same recordings."""
    folder = root / "cache" / f"toy_{language}" / "loud"
    store = Store(folder)
    entries = [ShardEntry(key, store.audio_sha256(key), torch.from_numpy(store.frames(key) + 1)) for key in store]
    for path in folder.glob("shard-*.h5"):
        path.unlink()
    write_shard(folder, Provenance.read(folder), entries[:-1])
    write_shard(folder, Provenance.read(folder), entries[-1:])


def test_a_language_is_opened_once_in_a_process(root: Path) -> None:
    inputs = Inputs(root, UPSTREAMS, StudySettings())
    first = loaded(inputs, "de")
    assert loaded(Inputs(root, UPSTREAMS, StudySettings()), "de") is first
    relabel(root, "it")
    extract_again(root, "it")
    assert loaded(inputs, "de") is first


def test_a_language_is_opened_anew_after_a_new_manifest(root: Path) -> None:
    inputs = Inputs(root, UPSTREAMS, StudySettings())
    assert "joy" in loaded(inputs, "de").emotions
    relabel(root, "de")
    assert loaded(inputs, "de").emotions == ("anger", "calm", "fear")


@pytest.mark.parametrize("upstreams", [UPSTREAMS, ()])
def test_a_language_is_opened_anew_after_a_new_extraction(root: Path, upstreams: tuple[str, ...]) -> None:
    inputs = Inputs(root, upstreams, StudySettings())
    before = loaded(inputs, "de").means("loud").copy()
    extract_again(root, "de")
    np.testing.assert_allclose(loaded(inputs, "de").means("loud"), before + 1, atol=1e-5)


def test_a_language_is_opened_anew_after_an_upstream_has_come(root: Path) -> None:
    inputs = Inputs(root, (), StudySettings())
    assert list(loaded(inputs, "de").stores) == ["loud", "quiet"]
    shutil.copytree(root / "cache" / "toy_de" / "loud", root / "cache" / "toy_de" / "third")
    assert list(loaded(inputs, "de").stores) == ["loud", "quiet", "third"]


def test_a_language_is_opened_anew_after_new_published_folds(root: Path, tmp_path: Path) -> None:
    inputs = emobox(root, write_folds(tmp_path / "folds", [[0], [1, 2]]))
    assert len(loaded(inputs, "de").folds) == 2
    write_folds(tmp_path / "folds", [[0], [1, 2], [3]])
    assert len(loaded(inputs, "de").folds) == 3


def test_what_is_out_of_date_is_let_go(root: Path) -> None:
    inputs = Inputs(root, UPSTREAMS, StudySettings())
    search._loaded.cache_clear()
    loaded(inputs, "de")
    relabel(root, "de")
    loaded(inputs, "de")
    assert search._loaded.cache_info().currsize == 1


def test_a_single_speaker_can_be_split_at_random_and_used(root: Path) -> None:
    manifest = Manifest.read(Workspace(root), "toy_de")
    rows = tuple(replace(row, speaker="s0") for row in manifest.utterances)
    replace(manifest, utterances=rows).write(Workspace(root), [], [])
    data = Inputs(root, UPSTREAMS, StudySettings(protocol="random-70-10-20")).load("de")
    assert [len(fold.splits) for fold in search.folds_to_search(data)] == [1] * 5 + [3]
