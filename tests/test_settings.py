"""Settings given by name, and what they refuse."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from mser.errors import ConfigError
from train.data import Features
from train.run import settings_of
from train.settings import Inputs, StudySettings, changed
from train.study import Study


def test_named_settings_change_and_nothing_else() -> None:
    base = StudySettings()
    found = changed(base, ["fit.loss.mixup=0.4", "model.dropout=0", "fit.loss.contrastive=none", "candidates=7"])
    loss = replace(base.fit.loss, mixup=0.4, contrastive="none")
    model = replace(base.model, dropout=0.0)
    assert found == replace(base, fit=replace(base.fit, loss=loss), model=model, candidates=7)
    assert isinstance(found.model.dropout, float)
    assert changed(base, []) == base


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("fit.loss.mix=0.4", "Unknown setting"),
        ("loss.mixup=0.4", "Unknown setting"),
        ("fit.loss=0.4", "group of settings"),
        ("fit.epochs=many", "another type"),
        ("fit.epochs=1.5", "another type"),
        ("fit.loss.balanced=1", "another type"),
        ("fit.epochs.more=1", "another type"),
        ("fit.loss.mixup=0.9", "mixup\n.*0 to 0.5"),
        ("fit.loss.contrastive=triplet", "contrastive"),
        ("fit.epochs=0", "epochs\n.*whole number from 1"),
        ("fit.epochs", "another type"),
        ("fit.rate=-1", "rate"),
        ("fit.rate=NaN", "rate"),
        ("fit.decay=-1", "decay"),
        ("fit.mixture_rate=-1", "mixture_rate"),
        ("fit.loss.label_smoothing=2", "label_smoothing"),
        ("fit.loss.label_smoothing=1", "label_smoothing"),
        ("fit.loss.contrastive_weight=-1", "contrastive_weight"),
        ("fit.loss.gate_balance=Infinity", "gate_balance"),
        ("model.hidden=0", "hidden"),
        ("model.dropout=1.0", "dropout"),
        ("model.dropout=-0.1", "dropout"),
        ("model.temperature=0", "temperature"),
        ("model.frame_mask=2", "frame_mask"),
        ("model.feature_mask=-1", "feature_mask"),
        ("candidates=0", "candidates"),
        ("fold_block=0", "fold_block"),
        ("layer_scale=0", "layer_scale"),
        ("expert_scale=-1", "expert_scale"),
        ("search.epochs=0", "epochs"),
        ("features.frame_rate=NaN", "FRAME_RATE"),
    ],
)
def test_what_cannot_be_set_is_refused_by_name(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        changed(StudySettings(), [assignment])


def test_frames_need_hidden_features_that_attention_can_part_among_its_heads() -> None:
    assert changed(StudySettings(), ["model.hidden=6"]).model.hidden == 6
    with pytest.raises(ConfigError, match=r"hidden\n.*a multiple of 4"):
        changed(StudySettings(features=Features("frames")), ["model.hidden=6"])


@pytest.mark.parametrize("seeds", [(-1,), (0, 2**31), (3, 3)])
def test_seeds_that_no_training_can_draw_from_are_refused(seeds: tuple[int, ...]) -> None:
    inputs = Inputs(Path("none"), (), StudySettings())
    assert Study(inputs, Path("none"), ("de",), ("fixed",), (0, 2**31 - 1)).seeds == (0, 2**31 - 1)
    with pytest.raises(ConfigError, match=r"field: +SEEDS"):
        Study(inputs, Path("none"), ("de",), ("fixed",), seeds)


@pytest.mark.parametrize("device", ["foo", "auto", "cpu:x", "meta", ""])
def test_a_device_of_another_name_is_refused(device: str) -> None:
    for known in ("cpu", "cuda", "cuda:1"):
        assert Inputs(Path("none"), (), StudySettings(), known).device == known
    with pytest.raises(ConfigError, match=r"field: +DEVICE"):
        Inputs(Path("none"), (), StudySettings(), device)


def test_the_home_of_inputs_stays_where_it_is_in_a_worker_that_runs_in_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    inputs = Inputs(Path("work"), (), StudySettings())
    sent = pickle.dumps(inputs)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    arrived = pickle.loads(sent)
    assert arrived == inputs == Inputs(tmp_path / "work", (), StudySettings())
    assert arrived.workspace.runs == tmp_path / "work" / "runs"


def test_settings_read_back_from_a_run_are_those_that_were_written() -> None:
    settings = changed(StudySettings(), ["fit.loss.mixup=0.4", "features.kind=frames", "search.epochs=3"])
    assert settings_of(settings.to_dict()) == settings
