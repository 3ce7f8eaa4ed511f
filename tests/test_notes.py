"""What a report says before its numbers: upstreams that are missing or never trained, and trainings that diverged."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toys import make_workspace

from mser.checkpoint import read_facts
from mser.config import Workspace, read_json
from mser.model import ModelSettings
from mser.store import Provenance, ShardEntry, Store, open_or_create, write_shard
from train import card
from train.evaluate import evaluate
from train.final import final_models, models_for_use
from train.fit import FitSettings
from train.notes import search_notes
from train.report.card import make_card
from train.run import open_run
from train.search import folds_to_search, search_block, strategy_path
from train.settings import Inputs, StudySettings
from train.study import Study, study_block

QUICK = StudySettings(
    model=ModelSettings(hidden=8), fit=FitSettings(epochs=3, least_steps=1, batch_size=8), candidates=2
)
#: Steps so large that no weight stays finite.
LOST = replace(QUICK, fit=replace(QUICK.fit, rate=1e38))


def trained(
    root: Path,
    settings: StudySettings,
    methods: tuple[str, ...],
    languages: tuple[str, ...] = ("de",),
    upstreams: tuple[str, ...] = ("loud", "quiet"),
    missing: bool = False,
) -> tuple[Study, dict[str, Any]]:
    """A run, and its results."""
    inputs = Inputs(root, upstreams, settings, missing=missing)
    datas = inputs.load_all(languages)
    study = open_run(inputs, datas, methods, (0,), "toy")
    if "random" in methods:
        for number in range(len(folds_to_search(datas[0]))):
            search_block(inputs, "de", number, ("random",))
    for block in study.blocks(dict.fromkeys(languages, 4)):
        study_block(*block)
    final_models(study)
    return study, evaluate(study, datas, [])


def remake(root: Path, corpus: str, upstream: str, kept: tuple[int, ...] = (), **changes: Any) -> None:
    """The same states, said to come from another upstream; its layers are those it had, over and over."""
    folder = Workspace(root).store(corpus, upstream)
    store, made = Store(folder), Provenance.read(folder)
    made = replace(made, upstream={**made.upstream, **changes}, layer_numbers=kept)
    times = made.upstream["layers"] // store.provenance.layers
    entries = [
        ShardEntry(key, store.audio_sha256(key), torch.from_numpy(np.tile(store.frames(key), (times, 1, 1))))
        for key in store
    ]
    shutil.rmtree(folder)
    open_or_create(folder, made)
    write_shard(folder, made, entries)


def test_a_run_with_nothing_to_say_has_no_notes(tmp_path: Path) -> None:
    root = make_workspace(tmp_path / "work", ("de", "it")).root
    _, results = trained(root, QUICK, ("logistic",), ("de", "it"))
    assert results["notes"] == []
    assert [one["name"] for one in results["upstreams"]] == ["loud", "quiet"]


@pytest.mark.parametrize("languages", [("de", "it"), ("it", "de")])
def test_upstreams_that_a_language_lacks_are_named_and_those_of_the_others_are_not_lost(
    tmp_path: Path, languages: tuple[str, ...]
) -> None:
    root = make_workspace(tmp_path / "work", ("de", "it")).root
    shutil.rmtree(root / "cache" / "toy_de" / "quiet")
    remake(root, "toy_it", "quiet", random_weights=True)
    _, results = trained(root, QUICK, ("logistic",), languages, ("loud", "quiet", "nobody-has"), missing=True)
    assert {one["name"]: one["random_weights"] for one in results["upstreams"]} == {"loud": False, "quiet": True}
    assert [text for text in results["notes"] if "quiet has random weights" in text]
    lacking = [text.split(",")[0] for text in results["notes"] if "without" in text]
    assert set(lacking) == {
        "de was trained and tested without quiet",
        "de was trained and tested without nobody-has",
        "it was trained and tested without nobody-has",
    }


def test_layers_that_were_left_out_are_told_once_or_for_each_choice(tmp_path: Path) -> None:
    root = make_workspace(tmp_path / "work", ("de", "it")).root
    for corpus in ("toy_de", "toy_it"):
        remake(root, corpus, "loud", (3, 7), layers=8)
    _, results = trained(root, QUICK, ("logistic",), ("de", "it"))
    assert results["notes"] == ["Of the 8 layers of loud these are kept, and numbered from 0 here: 3 7."]
    remake(root, "toy_it", "loud", (0, 1), layers=2)
    remake(root, "toy_it", "loud", (0, 5), layers=8)
    shutil.rmtree(root / "runs")
    _, results = trained(root, QUICK, ("logistic",), ("de", "it"))
    assert [text.rpartition(": ")[2] for text in results["notes"]] == ["3 7.", "0 5."]


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, dict[str, Any]]:
    """A run of which every training diverges."""
    root = make_workspace(tmp_path_factory.mktemp("lost")).root
    return trained(root, LOST, ("fixed", "random"))


def test_a_model_for_use_knows_that_its_training_diverged(lost: tuple[Study, dict[str, Any]], tmp_path: Path) -> None:
    study, results = lost
    ((path, languages),) = models_for_use(study).items()
    facts = read_facts(path)
    assert languages == ("de",)
    assert facts["diverged"] is not None
    assert facts["best_epoch"] == facts["diverged"] - 1
    (note,) = [text for text in results["notes"] if "model for use" in text]
    assert note.startswith("The training of the model for use of de (model-de.safetensors) diverged in epoch")
    text = make_card(results, card.facts(study, study.inputs.load_all(["de"]), {}))
    assert note in text.split("## What it is")[0]
    root = make_workspace(tmp_path / "work").root
    other, sound = trained(root, QUICK, ("fixed",))
    ((path, _),) = models_for_use(other).items()
    facts = read_facts(path)
    assert (facts["best_epoch"], facts["diverged"]) == (2, None)
    assert sound["notes"] == []


def test_a_search_tells_which_candidates_diverged(lost: tuple[Study, dict[str, Any]]) -> None:
    study, results = lost
    data = study.inputs.load("de")
    for fold in folds_to_search(data):
        found = read_json(strategy_path(study.inputs, data, fold.name, "random"))
        assert found["diverged"] is not None
        assert all(one["diverged"] is not None for one in found["candidates"])
    (note,) = [text for text in results["notes"] if "judged structures of random" in text]
    # Four test folds and everyone, two candidates each.
    assert note.startswith("10 of 10 trainings that judged structures of random on de diverged")
    assert "(s0 in epoch 0, s0 in epoch 0, s1 in epoch 0, " in note
    assert list(search_notes(study.inputs, data, ("fixed", "beta"))) == []


def test_trainings_of_test_folds_that_diverged_are_counted(lost: tuple[Study, dict[str, Any]]) -> None:
    _, results = lost
    for method in ("fixed", "random"):
        assert [text for text in results["notes"] if text.startswith(f"4 of 4 trainings of {method} on de diverged")]
