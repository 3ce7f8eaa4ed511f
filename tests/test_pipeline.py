"""Both stages end to end through their commands, on the demo's speech."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import QUICK, must, results_of, run
from sklearn.metrics import balanced_accuracy_score

from extract.demo import make_demo_corpora
from mser.checkpoint import load_model
from mser.nas.genotype import Genotype


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A workspace in which the demo's German and Italian, four of six speakers each, went through both stages."""
    folder = tmp_path_factory.mktemp("demo")
    make_demo_corpora(folder / "corpora", languages=("de", "it"))
    for name in ("f3", "m3"):
        for speaker in (folder / "corpora").glob(f"*/{name}"):
            shutil.rmtree(speaker)
    environment = {"MSER_HOME": str(folder / "work"), "MSER_CORPORA": str(folder / "corpora"), **QUICK}
    must("extract", "manifest", environment=environment)
    must("extract", "states", "--upstreams", "prosody random-tiny-wav2vec2", environment=environment)
    must("train", "search", environment=environment)
    must("train", "fit", environment=environment)
    return folder / "work", environment


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
    (card,) = (workspace / "runs").glob("*/README.md")
    first = card.read_text(encoding="utf-8").split("## What it is")[0]
    assert "synthetic" in first
    assert "random weights" in first
    assert "model-index" not in first


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
            assert len(truth) == one["utterances"] == 80
            assert seed["uar"] == pytest.approx(100 * balanced_accuracy_score(truth, predicted))


def test_no_speaker_of_a_test_fold_was_trained_or_searched_on(demo):
    workspace, _ = demo
    with (workspace / "manifests" / "demo_de.csv").open(encoding="utf-8", newline="") as file:
        speaker = {row["utterance_id"]: row["speaker"] for row in csv.DictReader(file)}
    (folder,) = (workspace / "runs").iterdir()
    for path in (folder / "searched" / "de").glob("*.json"):
        result = json.loads(path.read_text(encoding="utf-8"))
        assert {speaker[key] for key in result["utterance_ids"]} == {result["fold"]}
        (search,) = (workspace / "searches").glob(f"de-*/{result['fold']}/beta.json")
        # What it found, but for a gate over a single expert, which has nothing to weigh.
        found = Genotype.from_dict(json.loads(search.read_text(encoding="utf-8"))["genotype"])
        assert Genotype.from_dict(result["genotype"]) == found.simplest()


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


def test_a_search_by_other_strategies_lies_beside_the_first_and_gives_each_a_structure_for_use(demo):
    workspace, environment = demo
    must("train", "search", "--language", "de", "--strategies", "gdas", environment=environment)
    (folder,) = (workspace / "searches").glob("de-*")
    folds = [path.name for path in folder.iterdir() if path.is_dir()]
    assert "everyone" in folds
    for fold in folds:
        found = {path.stem for path in (folder / fold).glob("*.json")}
        assert found == {"probes", "beta", "random", "fixed", "gdas"}
    for strategy in ("beta", "random", "fixed", "gdas"):
        use = json.loads((folder / f"{strategy}.json").read_text(encoding="utf-8"))
        everyone = json.loads((folder / "everyone" / f"{strategy}.json").read_text(encoding="utf-8"))
        assert use["genotype"] == everyone["genotype"]
        assert (folder / f"{strategy}.svg").is_file()


def test_random_folds_are_marked_as_leaky_wherever_their_numbers_stand(demo, tmp_path):
    workspace, environment = demo
    copy = tmp_path / "work"
    shutil.copytree(workspace, copy)
    options = ["--language", "it", "--protocol", "random-70-10-20", "--upstreams", "prosody", "--run", "leaky"]
    environment = {**environment, "MSER_HOME": str(copy), "METHODS": "logistic fixed", "SEEDS": "0"}
    assert "LEAKY" in must("train", "fit", *options, environment=environment)
    report = copy / "reports" / "leaky"
    (language,) = json.loads((report / "results.json").read_text(encoding="utf-8"))["languages"]
    assert language["protocol"] == "random-70-10-20"
    assert language["audit"]["leaky"]
    assert "LEAKY" in (report / "report.html").read_text(encoding="utf-8")
    with (report / "results.csv").open(encoding="utf-8", newline="") as file:
        assert {row["leaky"] for row in csv.DictReader(file) if row["language"] == "it"} == {"yes"}
    assert not any(one["audit"]["leaky"] for one in results_of(workspace)["languages"])


def test_a_language_trains_without_an_upstream_that_it_lacks(demo, tmp_path):
    workspace, environment = demo
    shutil.copytree(workspace, tmp_path / "work")
    shutil.rmtree(tmp_path / "work" / "cache" / "demo_it" / "random-tiny-wav2vec2")
    environment = {**environment, "MSER_HOME": str(tmp_path / "work"), "METHODS": "fixed-multi", "SEEDS": "0"}
    options = ["--language", "de it", "--upstreams", "prosody random-tiny-wav2vec2", "--run", "lacking"]
    done = run("train", "fit", *options, environment=environment)
    assert done.returncode == 1
    assert "MISSING=1" in done.stderr
    environment |= {"MISSING": "1", "EPOCHS": "1", "SET": "model.hidden=16 fit.loss.mixup=0.4", "PLACEMENT": "streamed"}
    must("train", "fit", *options, environment=environment)
    report = tmp_path / "work" / "reports" / "lacking" / "results.json"
    settings = json.loads(report.read_text(encoding="utf-8"))["settings"]
    assert (settings["model"]["hidden"], settings["fit"]["loss"]["mixup"]) == (16, 0.4)
    for language, uses_both in (("de", True), ("it", False)):
        paths = sorted((tmp_path / "work" / "runs" / "lacking" / "fixed-multi" / language).glob("*.json"))
        assert len(paths) == 4
        for path in paths:
            gates = np.array(json.loads(path.read_text(encoding="utf-8"))["gates"])
            np.testing.assert_allclose(gates.sum(1), 1, atol=1e-5)
            assert (gates.min() > 0) == uses_both
    report.unlink()
    must("train", "report", "lacking", environment={"MSER_HOME": environment["MSER_HOME"]})
    assert report.is_file()


def test_models_for_use_answer_by_themselves(demo):
    workspace, _ = demo
    (path,) = (workspace / "runs").glob("*/model.safetensors")
    model, facts = load_model(path)
    assert facts["method"] == "multi-domain"
    assert set(model.domains) == {"de", "it"}


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


def predicted(environment, *arguments, code=0):
    """What ``mser predict`` tells as JSON lines, and its messages."""
    done = run("mser", "predict", *arguments, "--format", "jsonl", environment=environment)
    assert done.returncode == code, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def test_predict_says_of_a_test_speaker_what_the_run_has_stored(demo):
    workspace, environment = demo
    (path,) = (workspace / "runs").glob("*/multi-domain/it/f1-seed0.json")
    stored = json.loads(path.read_text(encoding="utf-8"))
    corpus = Path(environment["MSER_CORPORA"]) / "demo_it"
    with (workspace / "manifests" / "demo_it.csv").open(encoding="utf-8", newline="") as file:
        places = {row["utterance_id"]: corpus / row["path"] for row in csv.DictReader(file)}
    clips = [str(places[key]) for key in stored["utterance_ids"]]
    options = ("--run", str(path.with_suffix(".safetensors")), "--language", "it")
    told, _ = predicted(environment, *clips, *options)
    assert [one["recording"] for one in told] == clips
    for one, probabilities in zip(told, stored["probabilities"], strict=True):
        assert list(one["probabilities"].values()) == pytest.approx(probabilities, abs=2e-4)


def test_predict_judges_what_it_can_and_names_what_it_cannot(demo, tmp_path):
    workspace, environment = demo
    (name,) = (path.parent.name for path in (workspace / "runs").glob("*/multi-domain"))
    good = next((Path(environment["MSER_CORPORA"]) / "demo_de").rglob("*.wav"))
    (tmp_path / "noise.wav").write_bytes(b"no recording")
    shutil.copy(good, tmp_path / "good.wav")
    told, messages = predicted(environment, str(tmp_path), "--run", name, code=1)
    assert {(one["language"], one["calibrated"]) for one in told} == {("de", True), ("it", True)}
    assert {one["recording"] for one in told} == {str(tmp_path / "good.wav")}
    assert "noise.wav" in messages
    assert "1 of 2 recordings could not be judged" in messages
    _, messages = predicted(environment, str(good), "--run", name, "--language", "fr", code=1)
    assert "not trained on this language" in messages
    calibration = results_of(workspace)["calibration"]
    assert {(one["language"], one["utterances"]) for one in calibration} == {("de", 80), ("it", 80)}
