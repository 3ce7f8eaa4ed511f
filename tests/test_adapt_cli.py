"""The command ``adapt`` as a user runs it: pages, models, and what cannot be asked."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner, Result
from toy_adapt import (
    QUICK,
    adaptation,
    new_language,
    relabel,
)

import mser.cli
import train.adapt.cli
from mser.checkpoint import load_model, save_model
from mser.config import Workspace, read_json
from mser.errors import MserError, RunError
from mser.labels import load_labels
from mser.predict.head import load_heads
from mser.runs import study_folder
from train.adapt.held_out import Kept
from train.adapt.study import Adaptation
from train.adapt.target import model_path
from train.adapt.use import model_for_use
from train.cli import main


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Languages de, it, en of four speakers each, and a run that knows de and it."""
    return new_language(tmp_path / "work")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command with short trainings, and none of the variables it reads."""
    monkeypatch.setattr(train.adapt.cli, "Adaptation", functools.partial(Adaptation, settings=QUICK))
    for name in ("RUN", "SHOTS", "DRAWS", "MAPPING", "DEVICE", "PLACEMENT", "WORKERS", "SCHEDULER", "MSER_HOME"):
        monkeypatch.delenv(name, raising=False)


def invoke(workspace: Workspace, *more: str, language: str = "en") -> Result:
    words = ["adapt", "--home", str(workspace.root), "--language", language, "--workers", "1", "--device", "cpu"]
    return CliRunner().invoke(main, [*words, "--draws", "1", *more], env={"COLUMNS": "200"})


@pytest.mark.usefixtures("quick")
def test_the_command_from_a_run_to_a_page_and_a_model(workspace: Workspace) -> None:
    result = invoke(workspace, "--shots", "all 1")
    assert result.exit_code == 0, result.output
    folder = workspace.reports / "base-to-en"
    assert {path.name for path in folder.iterdir()} == {"adapt.html", "adapt.json", "adapt.csv", "adapt.svg"}
    page = (folder / "adapt.html").read_text(encoding="utf-8")
    assert "E = 3, N = 24 of 24" in page
    found = read_json(folder / "adapt.json")
    assert found["steps"] == ["0", "1", "all"]
    for text in ("closed", "Nearest: ", "adapt.html", "model.safetensors", "24 utterances"):
        assert text in result.output
    answers = {path: path.stat().st_mtime_ns for path in (workspace.runs / "base-to-en" / "draws").iterdir()}
    assert len(answers) == 2
    # With no run named there is one to begin with: what an adaptation made is none.
    again = invoke(workspace, "--shots", "1")
    assert again.exit_code == 0, again.output
    assert {path: path.stat().st_mtime_ns for path in answers} == answers
    assert read_json(folder / "adapt.json")["steps"] == ["0", "1"]
    assert list(load_heads(workspace.runs / "base-to-en")) == ["en"]


@pytest.mark.usefixtures("quick")
def test_runs_and_files_of_one_name_are_kept_apart(workspace: Workspace) -> None:
    source = workspace.runs / "base" / "model.safetensors"
    other = workspace.runs / "other" / "model-both.safetensors"
    other.parent.mkdir()
    shutil.copy(source, other)
    for run in (source, other):
        result = invoke(workspace, "--shots", "1", "--run", str(run))
        assert result.exit_code == 0, result.output
    assert sorted(path.name for path in workspace.reports.iterdir()) == ["base-to-en", "other-model-both-to-en"]


def test_only_a_run_in_the_current_folder_stands_in_the_way_of_a_run(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    named = workspace.runs / "base" / "model.safetensors"
    here = tmp_path / "base"
    here.write_text("hello", encoding="utf-8")
    assert model_path(workspace, Path("base")) == named
    here.unlink()
    here.mkdir()
    assert model_path(workspace, Path("base")) == named
    shutil.copy(named, here)
    assert model_path(workspace, Path("base")) == Path("base/model.safetensors")


def test_what_an_adaptation_lacks_is_said_with_what_takes_its_model(workspace: Workspace) -> None:
    folder = workspace.runs / "base-to-en"
    model_for_use(adaptation(workspace), folder, Kept())
    home = ["--home", str(workspace.root)]
    for command, words in (
        (main, ["report", "base-to-en", *home]),
        (main, ["report", str(folder), *home]),
        (mser.cli.main, ["push-run", "base-to-en", "--to-hub", "org/toy", "--dry-run", *home]),
        (mser.cli.main, ["inspect", "map", "--run", "base-to-en", *home]),
    ):
        result = CliRunner().invoke(command, words, env={"COLUMNS": "200"})
        assert result.exit_code == 1, result.output
        for text in ("an adaptation's model", "began as", "reports/base-to-en/adapt.html", "`mser predict`"):
            assert text in result.output, words
    assert not workspace.reports.exists()


def test_a_folder_without_a_config_is_told_from_one_that_is_not_there(workspace: Workspace) -> None:
    for run, said in (("base", "it has no config.json"), ("lost", "There is no such run"), ("", "no such run")):
        with pytest.raises(RunError, match=said) as caught:
            study_folder(run, workspace)
        assert "make train" in str(caught.value)
    (workspace.runs / "base" / "config.json").touch()
    assert study_folder("base", workspace) == workspace.runs / "base"
    with pytest.raises(RunError, match="one of: base"):
        study_folder("lost", workspace)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("words", "code", "texts"),
    [
        (("--language", "de"), 1, ("The run knows de already", "another language than de it", 'LANG="it"')),
        (("--language", "en fr"), 1, ("One language is adapted to at a time", "en fr")),
        (("--language", ""), 1, ("One language is adapted to at a time", "found:    none")),
        (("--run", "lost"), 1, ("no such run", "one of: base", "METHODS=multi-domain")),
        (("--mapping", "fine"), 1, ("no such mapping", "emotions arousal coarse")),
        (("--mapping", "../mappings/coarse"), 1, ("no such mapping", "emotions arousal coarse")),
        (("--mapping", "own/coarse.yaml"), 1, ("Another mapping of labels is called coarse", "rename the file")),
        (("--mapping", "coarse"), 1, ("does not say what an emotion counts as", "labels.joy")),
        (("--shots", "0"), 2, ("whole numbers above 0", "'0'")),
        (("--shots", "1 few"), 2, ("whole numbers above 0", "few")),
        (("--shots", "²"), 2, ("whole numbers above 0",)),
        (("--draws", "0"), 2, ("0",)),
        (("--device", "cuda:99"), 1, ("CUDA",)),
        (("--language", "xx"), 1, ("xx",)),
    ],
)
def test_what_cannot_be_asked_is_told(
    workspace: Workspace,
    words: tuple[str, ...],
    code: int,
    texts: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "own" / "coarse.yaml"
    own.parent.mkdir()
    own.write_text(yaml.safe_dump({"title": "mine", "labels": {name: name for name in load_labels()}}))
    if words[0] == "--device" and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    result = invoke(workspace, *words)
    assert result.exit_code == code, result.output
    for text in texts:
        assert text in result.output
    assert not workspace.reports.is_dir()


@pytest.mark.usefixtures("quick")
def test_which_run_is_told_where_there_is_none_or_there_are_several(workspace: Workspace) -> None:
    shutil.copytree(workspace.runs / "base", workspace.runs / "second")
    several = invoke(workspace)
    assert several.exit_code == 1
    assert "one of: base second" in several.output
    shutil.rmtree(workspace.runs)
    none = invoke(workspace)
    assert none.exit_code == 1
    assert "none yet" in none.output
    assert "METHODS=multi-domain" in none.output


@pytest.mark.usefixtures("quick")
def test_models_that_cannot_be_taken_further_are_refused(workspace: Workspace) -> None:
    path = workspace.runs / "base" / "model.safetensors"
    model, facts = load_model(path)
    save_model(path, model, {**facts, "normalise": "speaker"})
    result = invoke(workspace)
    assert result.exit_code == 1
    assert "cannot be taken to a new language" in result.output
    save_model(path, model, {name: value for name, value in facts.items() if name != "stores"})
    assert invoke(workspace).exit_code == 1
    save_model(path, model, facts)
    model_for_use(adaptation(workspace), workspace.runs / "base-to-en", Kept())
    result = invoke(workspace, "--run", "base-to-en", language="it")
    assert result.exit_code == 1
    assert "averaged" in result.output
    for name in ("model-de", "model-it"):
        shutil.copy(path, path.with_name(f"{name}.safetensors"))
    path.unlink()
    result = invoke(workspace, "--run", "base")
    assert result.exit_code == 1
    assert "a model for each language" in result.output
    path.with_name("model-it.safetensors").unlink()
    with pytest.raises(MserError, match="knows it already"):
        adaptation(workspace, language="it").open()


@pytest.mark.usefixtures("quick")
def test_a_single_speaker_ends_with_a_page_that_says_so(workspace: Workspace) -> None:
    relabel(workspace, "toy_en", lambda row: row.emotion if row.speaker == "s2" else None)
    result = invoke(workspace)
    assert result.exit_code == 0, result.output
    assert "A single speaker" in result.output
    assert "overtakes" not in result.output
    assert "A single speaker" in (workspace.reports / "base-to-en" / "adapt.html").read_text(encoding="utf-8")
