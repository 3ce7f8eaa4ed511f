"""Both stages end to end through their commands, on the demo's speech and, where it is present, on real speech."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from extract.demo import make_demo_corpora

ROOT = Path(__file__).resolve().parent.parent
QUICK = {"EPOCHS": "4", "SEARCH_EPOCHS": "2", "CANDIDATES": "2", "SEEDS": "0 1", "WORKERS": "2", "FEATURES": "frames"}


def run(module: str, *arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs one command as a user would, in an environment without a hub."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MSER_")}
    # One thread a process: the models are tiny, and tests share the machine.
    clean |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], env=clean, capture_output=True, text=True, timeout=400, check=False
    )


def must(module: str, *arguments: str, environment: dict[str, str]) -> str:
    done = run(module, *arguments, environment=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A workspace in which the demo's German and Italian went through both stages."""
    folder = tmp_path_factory.mktemp("demo")
    make_demo_corpora(folder / "corpora", languages=("de", "it"))
    environment = {"MSER_HOME": str(folder / "work"), "MSER_CORPORA": str(folder / "corpora"), **QUICK}
    must("extract", "manifest", environment=environment)
    must("extract", "states", "--upstreams", "prosody random-tiny-wav2vec2", environment=environment)
    must("train", "search", environment=environment)
    must("train", "fit", environment=environment)
    return folder / "work", environment


def results_of(workspace: Path) -> dict:
    (path,) = (workspace / "reports").glob("*/results.json")
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_demo_reaches_a_report_with_every_method_and_says_it_is_synthetic(demo):
    workspace, _ = demo
    results = results_of(workspace)
    methods = {"logistic", "fixed", "random", "searched", "multi-domain"}
    assert {(one["language"], one["method"]) for one in results["results"]} == {
        (language, method) for language in ("de", "it") for method in methods
    }
    assert any("synthetic" in note for note in results["notes"])
    assert any("random weights" in note for note in results["notes"])
    (page,) = (workspace / "reports").glob("*/report.html")
    assert "synthetic" in page.read_text(encoding="utf-8")


def test_every_score_can_be_computed_again_from_the_stored_predictions(demo):
    workspace, _ = demo
    (folder,) = (workspace / "runs").iterdir()
    for one in results_of(workspace)["results"]:
        for seed in one["per_seed"]:
            truth, predicted = [], []
            for path in (folder / one["method"] / one["language"]).glob(f"*-seed{seed['seed']}.json"):
                result = json.loads(path.read_text(encoding="utf-8"))
                truth += result["truth"]
                predicted += np.argmax(result["probabilities"], axis=1).tolist()
            assert len(truth) == one["utterances"] == 120
            assert seed["uar"] == pytest.approx(100 * balanced_accuracy_score(truth, predicted))


def test_no_speaker_of_a_test_fold_was_trained_or_searched_on(demo):
    workspace, _ = demo
    with (workspace / "manifests" / "demo_de.csv").open(encoding="utf-8", newline="") as file:
        speaker = {row["utterance_id"]: row["speaker"] for row in csv.DictReader(file)}
    (folder,) = (workspace / "runs").iterdir()
    for path in (folder / "searched" / "de").glob("*.json"):
        result = json.loads(path.read_text(encoding="utf-8"))
        assert {speaker[key] for key in result["utterance_ids"]} == {result["fold"]}
        (search,) = (workspace / "searches").glob(f"de-*/{result['fold']}.json")
        assert json.loads(search.read_text(encoding="utf-8"))["searched"]["genotype"] == result["genotype"]


def test_running_everything_again_computes_nothing_and_changes_no_result(demo):
    workspace, environment = demo
    kept = {path: path.stat().st_mtime_ns for path in workspace.rglob("*") if path.suffix in (".h5", ".safetensors")}
    before = results_of(workspace)
    said = must("extract", "states", "--upstreams", "prosody random-tiny-wav2vec2", environment=environment)
    assert "│        0 │" in said
    must("train", "search", environment=environment)
    must("train", "fit", environment=environment)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    after = results_of(workspace)
    assert [one["uar"] for one in after["results"]] == [one["uar"] for one in before["results"]]


def test_a_lost_result_is_computed_again_to_the_same_predictions(demo):
    workspace, environment = demo
    (path,) = (workspace / "runs").glob("*/searched/de/f1-seed1.json")
    before = json.loads(path.read_text(encoding="utf-8"))
    path.unlink()
    must("train", "fit", environment=environment)
    after = json.loads(path.read_text(encoding="utf-8"))
    assert after["probabilities"] == before["probabilities"]


def test_stage_two_refuses_what_was_not_extracted_and_says_what_to_run(demo):
    _, environment = demo
    done = run("train", "search", "--language", "de", "--upstreams", "mfcc", environment=environment)
    assert done.returncode == 1
    assert "was not extracted" in done.stderr
    assert 'make extract LANG=de UPSTREAMS="mfcc"' in done.stderr
    done = run("train", "fit", "--language", "fr", environment=environment)
    assert done.returncode == 1
    assert "make manifest LANG=fr" in done.stderr
    done = run("train", "fit", "--language", "de", "--upstreams", "prosody", environment=environment)
    assert done.returncode == 1
    assert "make search LANG=de" in done.stderr


def test_verify_finds_every_store_sound_and_then_a_flipped_byte(demo, tmp_path):
    workspace, environment = demo
    copy = tmp_path / "work"
    shutil.copytree(workspace, copy)
    environment = {**environment, "MSER_HOME": str(copy)}
    must("extract", "verify", "--language", "de", environment=environment)
    shard = sorted((copy / "cache" / "demo_de" / "prosody").glob("*.h5"))[0]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 0x40
    shard.write_bytes(content)
    done = run("extract", "verify", "--language", "de", environment=environment)
    assert done.returncode == 1
    assert str(shard) in done.stderr.replace("\n", "")


@pytest.mark.real
def test_real_speech_goes_through_both_stages_with_a_real_model(tmp_path):
    corpora = Path(os.environ.get("MSER_CORPORA", "corpora"))
    model = os.environ.get("MSER_TEST_UPSTREAM")
    if not (corpora / "emodb").is_dir() or not model:
        pytest.skip("needs EmoDB below MSER_CORPORA, and MSER_TEST_UPSTREAM: the folder of a pretrained model")
    for path in (corpora / "emodb").rglob("*.wav"):
        # Three speakers, three of the ten sentences, anger and sadness.
        if path.stem[:2] in ("03", "08", "09") and path.stem[2:5] in ("a01", "a02", "b02") and path.stem[5] in "WT":
            target = tmp_path / "corpora" / "emodb" / path.relative_to(corpora / "emodb")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    environment = {
        "MSER_HOME": str(tmp_path / "work"),
        "MSER_CORPORA": str(tmp_path / "corpora"),
        **QUICK,
        "SEEDS": "0",
    }
    said = must("extract", "manifest", "--language", "de", environment=environment)
    assert "published 535" in said
    must("extract", "states", "--language", "de", "--upstreams", f"acoustic {model}", environment=environment)
    must("train", "search", environment={**environment, "EPOCHS": "150"})
    said = must("train", "fit", environment={**environment, "EPOCHS": "150"})
    assert "no speaker and no recording crosses a fold" in " ".join(said.split())
    uar = {one["method"]: one["uar"]["mean"] for one in results_of(tmp_path / "work")["results"]}
    # Anger against sadness is easy for a real model, on speakers it never heard.
    assert uar["logistic"] > 80
    assert uar["fixed"] > 80
