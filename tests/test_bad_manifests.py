"""Manifests that no scan wrote are refused, naming the row."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from odd_corpus import CORPUS, healthy, put

from extract.manifest import scan
from mser.config import Workspace
from mser.errors import ManifestError
from mser.manifest import Manifest, read_manifests


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return healthy(tmp_path)


# Manifests that no scan wrote.


def forge(folder: Path, workspace: Workspace, **changes: Any) -> Path:
    """A manifest whose last row was changed, with a head that fits."""
    rows = scan(CORPUS, folder.parent).manifest.utterances
    rows = (*rows[:-1], replace(rows[-1], **changes))
    return Manifest("odd", "de", rows, CORPUS.fingerprint).write(workspace, [], [])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"path": "../elsewhere/x.wav"}, "leads out of the corpus folder"),
        ({"path": "s1/../../x.wav"}, "leads out of the corpus folder"),
        ({"path": "/etc/x.wav"}, "leads out of the corpus folder"),
        ({"path": "s1/x\0.wav"}, "leads out of the corpus folder"),
        ({"path": ""}, "is empty"),
        ({"utterance_id": ""}, "is empty"),
        ({"speaker": ""}, "is empty"),
        ({"emotion": ""}, "is empty"),
        ({"utterance_id": "odd/s1/ang/good"}, "occurs twice"),
        ({"speaker": "../../x"}, "leads out of their folder"),
        ({"corpus": "other"}, "'other'"),
        ({"language": "it"}, "'it'"),
        ({"sample_rate": 0}, "no samples"),
        ({"num_samples": -1}, "no samples"),
    ],
)
def test_a_manifest_with_a_row_that_no_scan_writes_is_refused(
    folder: Path, workspace: Workspace, changes: dict[str, Any], words: str
) -> None:
    put(folder / "s1" / "neu" / "x.wav")
    path = forge(folder, workspace, **changes)
    with pytest.raises(ManifestError, match=words) as error:
        Manifest.read(workspace, "odd")
    assert (error.value.file, error.value.field) == (path, "row 2")
    assert repr(changes.get("path", "s1/neu/x.wav")) in str(error.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"corpus": "../../odd"}, "of another corpus"),
        ({"language": None}, "head of a manifest is damaged"),
        ({"fingerprint": 3}, "head of a manifest is damaged"),
        (["no", "mapping"], "head of a manifest is damaged"),
    ],
)
def test_a_manifest_with_a_damaged_head_is_refused(
    folder: Path, workspace: Workspace, content: Any, words: str
) -> None:
    put(folder / "s1" / "neu" / "x.wav")
    head = forge(folder, workspace).with_suffix(".json")
    whole = json.loads(head.read_bytes())
    head.write_text(json.dumps({**whole, **content} if isinstance(content, dict) else content), encoding="utf-8")
    for read in (lambda: Manifest.read(workspace, "odd"), lambda: read_manifests(workspace, None)):
        with pytest.raises(ManifestError, match=words) as error:
            read()
        assert str(head) in str(error.value)


def test_rows_that_are_no_rows_are_an_error_of_the_manifest(folder: Path, workspace: Workspace) -> None:
    path = forge(folder, workspace)
    text = path.read_text(encoding="utf-8")
    for damage in ("x" * 200_000, "a\0b", 'unquoted\rreturn,"'):
        path.write_text(text + damage, encoding="utf-8", newline="")
        with pytest.raises(ManifestError, match=r"damaged row|changed after"):
            Manifest.read(workspace, "odd")
    with path.open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file))
