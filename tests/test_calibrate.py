"""Temperatures of a study: fitted on dev speakers alone, one for each test fold, and told with what they are worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax
from toys import make_workspace

from mser.calibration import fit_temperature
from mser.config import read_json
from mser.model import ModelSettings
from train import calibrate
from train.calibrate import calibration, calibration_block, calibration_blocks, temperature_path
from train.data import LanguageData
from train.fit import FitSettings, Replica
from train.search import loaded
from train.settings import Inputs, StudySettings
from train.study import Study, study_block

#: More folds than a block of five in one language, fewer in the other.
FOLDS = {"de": 7, "it": 3}


def study_in(root: Path) -> Study:
    for language, speakers in FOLDS.items():
        make_workspace(root, (language,), speakers=speakers)
    settings = StudySettings(model=ModelSettings(hidden=8), fit=FitSettings(epochs=1, least_steps=1, batch_size=8))
    inputs = Inputs(root, ("loud", "quiet"), settings)
    return Study(inputs, root / "runs" / "toy", tuple(FOLDS), ("fixed-multi",), (0, 1))


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return study_in(tmp_path)


def speakers(data: LanguageData, rows: Sequence[int]) -> set[str]:
    return {data.utterances[row].speaker for row in rows}


def watch(monkeypatch: pytest.MonkeyPatch) -> tuple[list[Replica], list[tuple[str, tuple[int, ...], np.ndarray]]]:
    """What is trained, and of which language and rows a trained model is asked, and what it said."""
    trained: list[Replica] = []
    asked: list[tuple[str, tuple[int, ...], np.ndarray]] = []
    fit_all, predict = calibrate.fit_all, calibrate.predict

    def fits(*given: Any) -> Any:
        trained.extend(given[-1])
        return fit_all(*given)

    def predicts(model: Any, language: str, loader: Any, rows: np.ndarray) -> Any:
        said = predict(model, language, loader, rows)
        asked.append((language, tuple(rows.tolist()), said[0]))
        return said

    monkeypatch.setattr(calibrate, "fit_all", fits)
    monkeypatch.setattr(calibrate, "predict", predicts)
    return trained, asked


def test_a_temperature_is_fitted_on_the_dev_speakers_of_its_fold_whom_nobody_was_trained_on(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, asked = watch(monkeypatch)
    for block in calibration_blocks(study, "fixed-multi", FOLDS):
        calibration_block(*block)
    assert len(trained) == 7
    assert [language for language, _, _ in asked] == ["de", "it"] * 7
    for number, replica in enumerate(trained):
        for language, (_, rows, said) in zip(FOLDS, asked[2 * number : 2 * number + 2], strict=True):
            data = loaded(study.inputs, language)
            fold = data.folds[number % FOLDS[language]]
            own = speakers(data, rows)
            assert own == speakers(data, fold.splits[0].dev)
            assert not own & speakers(data, fold.test)
            assert not own & speakers(data, replica.rows[language])
            assert not speakers(data, replica.rows[language]) & speakers(data, fold.test)
            if number < FOLDS[language]:
                kept = read_json(temperature_path(study, "fixed-multi", language, fold.name))
                right = fit_temperature(said, data.labels[list(rows)].numpy())
                assert kept == {"temperature": right, "utterances": len(rows)}


def temperatures(study: Study, order: Callable[[list[Any]], list[Any]]) -> dict[str, Any]:
    for block in order(calibration_blocks(study, "fixed-multi", FOLDS)):
        calibration_block(*block)
    folder = study.folder / "calibration"
    return {str(path.relative_to(folder)): read_json(path) for path in folder.rglob("*.json")}


def test_the_order_in_which_blocks_end_does_not_matter(tmp_path: Path) -> None:
    found = [temperatures(study_in(tmp_path / str(n)), order) for n, order in enumerate((list, lambda x: x[::-1]))]
    assert len(found[0]) == sum(FOLDS.values())
    assert found[0] == found[1]


def test_a_block_that_is_done_trains_nothing(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    temperatures(study, list)
    trained, _ = watch(monkeypatch)
    temperatures(study, list)
    assert not trained


def test_the_errors_told_are_those_of_the_test_predictions_by_the_temperature_of_their_fold(study: Study) -> None:
    for block in study.blocks(FOLDS):
        study_block(*block)
    temperatures(study, list)
    data = loaded(study.inputs, "it")
    results = [read_json(path) for path in sorted((study.folder / "fixed-multi" / "it").glob("*.json"))]
    assert len(results) == 6
    found = calibration(study, "fixed-multi", data, results)
    assert found is not None
    assert found["utterances"] == 18
    losses = []
    for seed in study.seeds:
        each = []
        for one in results:
            if one["seed"] == seed:
                path = temperature_path(study, "fixed-multi", "it", one["fold"])
                said = softmax(np.log(one["probabilities"]) / read_json(path)["temperature"], axis=1)
                each += [-np.log(row[label]) for row, label in zip(said, one["truth"], strict=True)]
        losses.append(np.mean(each))
    assert found["nll_after"] == pytest.approx(np.mean(losses), rel=1e-4)
    temperature_path(study, "fixed-multi", "it", data.folds[0].name).unlink()
    assert calibration(study, "fixed-multi", data, results) is None
