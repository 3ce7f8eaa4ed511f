"""The model for use: which way it is made by, and how sure it may be, against a plain computation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from toy_adapt import EMOTIONS, adaptation, done, new_language, numbers

from mser.calibration import expected_calibration_error
from mser.config import Workspace
from mser.predict.head import load_heads
from train.adapt.held_out import Kept, calibrations, kept_way
from train.adapt.target import Target
from train.adapt.use import model_for_use


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Languages de, it, en of four speakers each, and a run that knows de and it."""
    return new_language(tmp_path / "work")


def made_up(target: Target, draws: int, seed: int = 0) -> list[dict[str, Any]]:
    """Answers of ``shots`` at all clips, right more often than they say, but for the first half of the last draw."""
    rng, found = np.random.default_rng(seed), []
    for draw in range(draws):
        for half in (0, 1):
            rows = rng.permutation(24)[half::2]
            said = rng.dirichlet(np.ones(3), len(rows)) + 0.3 * np.eye(3)[target.labels[rows]]
            answer = {"way": "shots", "k": "all", "probabilities": (said / said.sum(1, keepdims=True)).tolist()}
            ids = [target.data.utterances[row].utterance_id for row in rows]
            answers = [] if (draw, half) == (draws - 1, 0) else [answer]
            found.append({"draw": draw, "utterance_ids": ids, "answers": answers})
    return found


def likelihood(said: np.ndarray, truth: np.ndarray, temperature: float) -> float:
    sharp = said ** (1 / temperature)
    return float(-np.log((sharp / sharp.sum(1, keepdims=True))[np.arange(len(truth)), truth]).mean())


def warmth(said: np.ndarray, truth: np.ndarray) -> float:
    """The likeliest temperature, by another search."""
    return float(minimize(lambda x: likelihood(said, truth, float(np.exp(x[0]))), [0.0], method="Nelder-Mead").x[0])


def test_calibration_by_hand(workspace: Workspace) -> None:
    _, target = adaptation(workspace).open()
    found = made_up(target, 3)
    (one,) = calibrations(found, target)
    assert (one["way"], one["draws"], one["utterances"]) == ("shots", 2, 24)
    place = {row.utterance_id: number for number, row in enumerate(target.data.utterances)}
    halves = [
        (np.array(half["answers"][0]["probabilities"]), target.labels[[place[name] for name in half["utterance_ids"]]])
        for half in found[:4]
    ]
    every, truth = (np.concatenate([half[part] for half in halves]) for part in (0, 1))
    assert one["temperature"] == pytest.approx(np.exp(warmth(every, truth)), rel=1e-3)
    before, after, errors = [], [], []
    for first, second in (halves[:2], halves[2:]):
        warmer = []
        for own, other in ((first, second), (second, first)):
            temperature = float(np.exp(warmth(*other)))
            before.append(likelihood(*own, 1.0))
            after.append(likelihood(*own, temperature))
            warmer.append(own[0] ** (1 / temperature))
        joined = np.concatenate(warmer)
        joined /= joined.sum(1, keepdims=True)
        errors.append(100 * expected_calibration_error(joined, np.concatenate([first[1], second[1]])))
    assert one["nll_before"] == pytest.approx(np.mean(before))
    assert one["nll_after"] == pytest.approx(np.mean(after), rel=1e-3)
    assert one["ece_after"] == pytest.approx(np.mean(errors), rel=1e-2)


@pytest.mark.parametrize(
    ("scores", "wanted"),
    [
        ({}, Kept("shots", 2.0)),
        ({"shots": 60.0, "shots-gentle": 60.0, "scratch": 90.0}, Kept("shots", 2.0)),
        ({"shots": 60.0, "shots-gentle": 61.0}, Kept("shots-gentle", 1.0)),
    ],
)
def test_the_way_that_is_better_with_all_clips_is_kept(scores: dict[str, float], wanted: Kept) -> None:
    measured = [
        {"way": "shots", "temperature": 2.0, "nll_before": 1.0, "nll_after": 0.9},
        {"way": "shots-gentle", "temperature": 3.0, "nll_before": 1.0, "nll_after": 1.1},  # it would make things worse
    ]
    assert kept_way(scores, measured) == wanted
    assert kept_way(scores, []) == Kept(wanted.way, None)


def test_the_model_for_use_is_as_sure_as_the_draws_allow(workspace: Workspace) -> None:
    asked = adaptation(workspace)
    found = numbers(asked)
    assert [one["way"] for one in found["calibration"]] == ["shots", "shots-gentle"]
    folder = workspace.runs / "base-to-en"
    said = {}
    for way in ("shots", "shots-gentle"):
        (temperature,) = (one["temperature"] for one in found["calibration"] if one["way"] == way)
        model_for_use(asked, folder, Kept(way, temperature))
        head = load_heads(folder)["en"]
        assert (head.emotions, head.calibrated) == (EMOTIONS, True)
        assert head.temperature == pytest.approx(temperature)
        said[way] = head.model.state_dict()
    # The trunk is tuned in the one and frozen in the other.
    projection = "members.projections.0.weight"
    assert not np.array_equal(said["shots"][projection], said["shots-gentle"][projection])
    (one,) = (one for one in found["calibration"] if one["way"] == found["kept"]["way"])
    assert found["kept"]["temperature"] == (one["temperature"] if one["nll_after"] < one["nll_before"] else 1.0)
    # The temperature is that of all clips whatever k was asked for.
    fewer = numbers(adaptation(workspace, shots=(1,), folder=asked.folder / "fewer"))
    assert fewer["kept"] == found["kept"]


def test_without_draws_that_answer_there_is_no_temperature(workspace: Workspace) -> None:
    asked = adaptation(workspace, shots=())
    found = numbers(asked)
    assert (found["calibration"], found["kept"]) == ([], {"way": "shots", "temperature": None})
    assert calibrations(done(asked), asked.open()[1]) == []
