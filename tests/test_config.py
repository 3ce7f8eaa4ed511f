"""Configuration: names of stores, files written whole, fingerprints, errors that say what to do."""

from __future__ import annotations

import json
import os
import random
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mser import config
from mser.config import (
    ABOVE_ZERO,
    FROM_ZERO,
    Workspace,
    fingerprint,
    read_if_whole,
    read_json,
    read_yaml,
    require_numbers,
    share,
    store_name,
    whole,
    write_json,
    write_text,
    written_whole,
)
from mser.errors import ConfigError, DiskError, MserError


@pytest.mark.parametrize(
    ("upstream", "name"),
    [
        ("logmel", "logmel"),
        ("wav2vec2-base", "wav2vec2-base"),
        ("facebook/wav2vec2-base", "facebook--wav2vec2-base"),
        ("./weights/whisper-base-encoder/", "whisper-base-encoder"),
        ("/models/my model", "my-model"),
        ("../up/x.v2", "x.v2"),
        ("~/models/own", "own"),
    ],
)
def test_the_store_is_named_after_the_upstream(upstream: str, name: str) -> None:
    assert store_name(upstream) == name


def test_a_store_name_is_one_folder_and_stays_as_it_is() -> None:
    for upstream in ("facebook/wav2vec2-base", "./a/b", "logmel"):
        name = store_name(upstream)
        assert "/" not in name
        assert store_name(name) == name


def test_an_existing_relative_folder_wins_over_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert store_name("models/own") == "models--own"
    (tmp_path / "models" / "own").mkdir(parents=True)
    assert store_name("models/own") == "own"


def test_everything_is_written_below_the_workspace(tmp_path: Path) -> None:
    space = Workspace(tmp_path)
    folders = [space.manifests, space.searches, space.runs, space.reports, space.cache, space.store("c", "a/b")]
    assert all(folder.is_relative_to(tmp_path) for folder in folders)
    assert len(set(folders)) == len(folders)
    assert space.store("c", "a/b") == tmp_path / "cache" / "c" / "a--b"


def test_a_text_is_written_as_it_is_and_leaves_no_partial_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "text.txt"
    for text in ("first\r\nsecond\n", "ärger\n"):
        write_text(path, text)
        assert path.read_bytes() == text.encode("utf-8")
    assert [item.name for item in path.parent.iterdir()] == ["text.txt"]


@pytest.mark.parametrize("broken", ["write", "fsync", "rename"])
def test_a_failing_write_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    path = tmp_path / "text.txt"
    path.write_text("old", encoding="utf-8")

    def fail(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    if broken == "fsync":
        monkeypatch.setattr(config.os, "fsync", fail)
    if broken == "rename":
        monkeypatch.setattr(Path, "replace", fail)
    # A lone surrogate cannot be encoded: the write itself fails.
    with pytest.raises(UnicodeEncodeError if broken == "write" else DiskError):
        write_text(path, "new \udc80" if broken == "write" else "new")
    assert path.read_text(encoding="utf-8") == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["text.txt"]


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int]] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(
        config.os, "fsync", lambda file: (told.append(("fsync", os.fstat(file).st_size)), fsync(file))[1]
    )
    monkeypatch.setattr(
        Path, "replace", lambda self, to: (told.append(("rename", self.stat().st_size)), replace(self, to))[1]
    )
    write_text(tmp_path / "text.txt", "0123456789")
    with written_whole(tmp_path / "bytes") as partial:
        partial.write_bytes(b"01234")
    assert told == [("fsync", 10), ("rename", 10), ("fsync", 5), ("rename", 5)]


def test_what_fails_while_it_is_written_leaves_nothing_and_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(partial: Path) -> None:
        partial.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), written_whole(path) as partial:
        fail(partial)
    assert [(item.name, item.read_bytes()) for item in tmp_path.iterdir()] == [("file", b"old")]


@pytest.mark.parametrize("content", [b"", b'{"a": 1, "b"', b"\xff\x00", b"\0" * 40, b"[1]", b"null", b'{"a": 1}'])
def test_what_is_damaged_counts_as_missing_and_is_named_in_a_warning(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "result.json"
    assert read_if_whole(path, ("a", "b")) is None
    write_json(path, {"a": 1, "b": [2], "more": None})
    assert read_if_whole(path, ("a", "b")) == {"a": 1, "b": [2], "more": None}
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=f"{re.escape(str(path))} cannot be used, and counts as missing"):
        assert read_if_whole(path, ("a", "b")) is None


def test_a_file_that_the_system_does_not_let_be_read_is_no_missing_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="could not be read"):
        read_if_whole(tmp_path)


@dataclass
class Numbers:
    count: Any = 2
    rate: Any = 0.5
    decay: Any = 0.0
    part: Any = 1.0
    less: Any = 0.4


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("count", 1), ("count", 2.0), ("count", True), ("count", "2"), ("rate", 0), ("rate", float("inf")),
        ("decay", -1e-9), ("decay", float("nan")), ("decay", None), ("part", 1.01), ("part", -0.1), ("less", 0.5),
    ],
)  # fmt: skip
def test_numbers_of_settings_are_refused_by_name(field: str, value: Any) -> None:
    rules = {"count": whole(2), "rate": ABOVE_ZERO, "decay": FROM_ZERO, "part": share(), "less": share(0.5, below=True)}
    require_numbers(Numbers(), "No.", rules)
    with pytest.raises(ConfigError, match=rf"No\.\n  field: +{field}\n"):
        require_numbers(Numbers(**{field: value}), "No.", rules)


def test_json_is_read_back_and_written_the_same_for_any_order_of_keys(tmp_path: Path) -> None:
    value = {"b": [1, 2.5, None], "a": {"ü": True}}
    write_json(tmp_path / "one.json", value)
    write_json(tmp_path / "two.json", {"a": {"ü": True}, "b": [1, 2.5, None]})
    assert json.loads((tmp_path / "one.json").read_bytes()) == value == read_json(tmp_path / "one.json")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_a_fingerprint_ignores_the_order_of_keys_and_nothing_else() -> None:
    items = [(f"key{number}", {"x": number, "y": [number, str(number)]}) for number in range(20)]
    original = fingerprint(dict(items))
    assert re.fullmatch(r"[0-9a-f]{16}", original)
    for seed in range(5):
        shuffled = random.Random(seed).sample(items, len(items))
        assert fingerprint({key: dict(reversed(value.items())) for key, value in shuffled}) == original
    others = [
        {"x": 0, "y": ["0", 0]},
        {"x": "0", "y": [0, "0"]},
        {"x": 0, "y": [0]},
        {"x": 0, "y": [0, "0"], "z": None},
    ]
    assert len({original, *(fingerprint({**dict(items), "key0": other}) for other in others)}) == 5


@pytest.mark.parametrize(("read", "text"), [(read_yaml, "a: [1"), (read_json, "{")])
def test_a_missing_or_damaged_file_is_named(tmp_path: Path, read: Any, text: str) -> None:
    path = tmp_path / "file"
    with pytest.raises(ConfigError, match="could not be read") as missing:
        read(path)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="not valid") as damaged:
        read(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not valid") as binary:
        read(path)
    assert all(str(path) in str(error.value) for error in (missing, damaged, binary))


def test_an_error_lists_the_facts_it_was_given_and_is_a_builtin_too() -> None:
    error = ConfigError("No.", file="f.yaml", field="x", expected=0, found="", hint="mend it")
    lines = str(error).splitlines()
    assert lines[0] == "No."
    assert [line.split() for line in lines[1:]] == [
        ["file:", "f.yaml"], ["field:", "x"], ["expected:", "0"], ["found:"], ["next:", "mend", "it"],
    ]  # fmt: skip
    assert str(ConfigError("Alone.")) == "Alone."
    assert isinstance(error, MserError)
    assert isinstance(error, ValueError)
