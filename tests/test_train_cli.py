"""The commands of stage two on small made-up workspaces, in this process."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from toys import make_workspace

from mser.config import read_json
from train.cli import main


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """German by two upstreams, Italian by one of them."""
    for name in ("UPSTREAMS", "SEEDS", "METHODS", "RUN", "MISSING", "SET", "PROTOCOL", "WORKERS", "FEATURES"):
        monkeypatch.delenv(name, raising=False)
    workspace = make_workspace(tmp_path / "work", ("de", "it"))
    shutil.rmtree(workspace.store("toy_it", "quiet"))
    return workspace.root


def invoke(command: str, root: Path, *more: str) -> Result:
    words = [command, "--home", str(root), "--workers", "1", "--device", "cpu", "--epochs", "1", "--search-epochs", "1"]
    return CliRunner().invoke(main, [*words, *more], env={"COLUMNS": "200"})


def results(root: Path) -> dict[str, Any]:
    (path,) = (root / "reports").glob("*/results.json")
    found: dict[str, Any] = read_json(path)
    return found


FIT = ("--seeds", "0", "--methods", "logistic fixed")


def test_without_upstreams_a_study_takes_those_that_all_of_its_languages_have(root: Path) -> None:
    done = invoke("fit", root, *FIT, "--language", "de it")
    assert done.exit_code == 0, done.output
    assert "Upstreams: loud\n" in done.output
    (config,) = (root / "runs").glob("*/config.json")
    assert read_json(config)["upstreams"] == ["loud"]
    assert {one["method"] for one in results(root)["results"]} == {"logistic", "fixed"}


def test_one_language_alone_takes_all_of_its_upstreams(root: Path) -> None:
    done = invoke("fit", root, *FIT, "--language", "de")
    assert done.exit_code == 0, done.output
    assert "Upstreams: loud quiet\n" in done.output


def test_without_upstreams_and_with_missing_ones_allowed_each_language_has_its_own(root: Path) -> None:
    done = invoke("fit", root, *FIT, "--language", "de it", "--missing")
    assert done.exit_code == 0, done.output
    assert "Upstreams: loud quiet\n" in done.output
    (config,) = (root / "runs").glob("*/config.json")
    stores = read_json(config)["stores"]
    assert {language: sorted(own) for language, own in stores.items()} == {"de": ["loud", "quiet"], "it": ["loud"]}


def test_a_search_without_upstreams_is_found_by_the_training_without_upstreams(root: Path) -> None:
    found = invoke("search", root, "--language", "de it", "--strategies", "random", "--candidates", "1")
    assert found.exit_code == 0, found.output
    more = ("--language", "de it", "--seeds", "0", "--methods", "random", "--candidates", "1")
    done = invoke("fit", root, *more)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("name", ["../../etc", "/tmp/runs", ".hidden", "a/b"])
def test_a_run_is_named_and_lies_in_the_workspace(root: Path, name: str) -> None:
    done = invoke("fit", root, *FIT, "--language", "de", "--run", name)
    assert done.exit_code == 1
    assert "it is no path" in done.output
    assert repr(name) in done.output
    assert not (root / "runs").exists()


def test_a_folder_of_the_name_of_a_run_does_not_stand_in_the_way(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert invoke("fit", root, *FIT, "--language", "de", "--run", "first").exit_code == 0
    shutil.rmtree(root / "reports")
    (tmp_path / "first").mkdir()
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["report", "first", "--home", str(root)])
    assert done.exit_code == 0, done.output
    assert results(root)["results"]
