"""The Makefile: LANG is a language on the command line only, and children speak UTF-8."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A stand-in for ``.venv`` whose python prints its arguments and its environment."""
    stub = tmp_path / "bin" / "python"
    stub.parent.mkdir()
    stub.write_text('#!/bin/sh\necho "arguments: $*"\nenv\n', encoding="utf-8")
    stub.chmod(0o755)
    (tmp_path / ".mser-ready").touch()
    return tmp_path


def make(environment: Path, *arguments: str, **variables: str) -> str:
    clean = {name: value for name, value in os.environ.items() if name not in ("LANG", "LC_ALL", "UPSTREAMS")}
    done = subprocess.run(
        ["make", "-s", f"VENV={environment}", *arguments],
        cwd=ROOT,
        env={**clean, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_a_language_of_the_command_line_is_handed_on_and_is_no_locale(environment: Path) -> None:
    said = make(environment, "manifest", "LANG=de it")
    assert "arguments: -m extract manifest --language de it\n" in said
    assert "UTF-8" in said.split("\nLANG=")[1].split("\n")[0].upper().replace("UTF8", "UTF-8")
    assert "UTF-8" in said.split("\nLC_ALL=")[1].split("\n")[0].upper().replace("UTF8", "UTF-8")


@pytest.mark.parametrize("locale", ["de", "en_US.UTF-8", "C"])
def test_the_locale_is_never_taken_for_a_language(environment: Path, locale: str) -> None:
    said = make(environment, "extract", LANG=locale)
    assert "arguments: -m extract states\n" in said


def test_variables_reach_the_commands_and_unset_ones_do_not(environment: Path) -> None:
    said = make(environment, "train", "UPSTREAMS=acoustic ./my model", "SEEDS=4 5", MSER_HOME="elsewhere")
    assert "\nTENSORBOARD=" not in said
    assert "\nTENSORBOARD=1\n" in make(environment, "train", "TENSORBOARD=1")
    assert "\nUPSTREAMS=acoustic ./my model\n" in said
    assert "\nSEEDS=4 5\n" in said
    assert "\nMSER_HOME=elsewhere\n" in said
    assert "\nUPSTREAMS=" not in make(environment, "train")


def test_corpora_are_downloaded_by_language_or_by_name(environment: Path) -> None:
    assert "arguments: -m extract download --language de it\n" in make(environment, "download", "LANG=de it")
    said = make(environment, "download", "CORPUS=emodb urdu")
    assert "arguments: -m extract download\n" in said
    assert "\nCORPUS=emodb urdu\n" in said


def test_make_alone_prints_every_target_and_every_variable(environment: Path) -> None:
    said = make(environment)
    targets = "setup demo download manifest extract search train serve inspect verify test lint clean"
    for target in targets.split():
        assert f"\n  {target} " in said
    variables = (
        "LANG CORPUS UPSTREAMS MSER_CORPORA MSER_HOME MSER_DEFINITIONS DEVICE SEEDS METHODS WORKERS RUN TENSORBOARD"
    )
    for variable in variables.split():
        assert f"\n  {variable} " in said


def test_targets_that_are_folders_too_run_all_the_same(environment: Path) -> None:
    assert (ROOT / "extract").is_dir()
    assert (ROOT / "train").is_dir()
    assert "arguments" in make(environment, "extract")
    assert "arguments" in make(environment, "train")
