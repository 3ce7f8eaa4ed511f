"""Calibration error against a plain loop, and temperatures that are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from toys import examples

from mser.calibration import (
    at_bound,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    tempered,
)


def said(seed: int, count: int = 400, emotions: int = 4, scale: float = 2.0) -> np.ndarray:
    """Logits of made-up utterances: (N, E)."""
    return scale * np.random.default_rng(seed).normal(size=(count, emotions))


def drawn(probabilities: np.ndarray, seed: int) -> np.ndarray:
    """A truth for each utterance, drawn by its probabilities: (N,)."""
    rng = np.random.default_rng(seed)
    return np.array([rng.choice(probabilities.shape[1], p=own) for own in probabilities])


@examples
@given(st.integers(0, 10_000), st.integers(1, 20), st.integers(1, 60))
def test_the_calibration_error_is_that_of_a_plain_loop(seed: int, bins: int, count: int) -> None:
    probabilities = softmax(said(seed, count), axis=1)
    truth = np.random.default_rng(seed + 1).integers(0, 4, count)
    total = 0.0
    for number in range(bins):
        own = [
            (max(row), int(np.argmax(row) == label))
            for row, label in zip(probabilities, truth, strict=True)
            if number / bins < max(row) <= (number + 1) / bins
        ]
        if own:
            total += len(own) / count * abs(np.mean([right for _, right in own]) - np.mean([high for high, _ in own]))
    assert expected_calibration_error(probabilities, truth, bins) == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_a_model_that_is_too_sure_or_too_careful_gets_the_temperature_that_it_needs(temperature: float) -> None:
    logits = said(3, count=4000)
    truth = drawn(softmax(logits, axis=1), 4)
    wrong = softmax(logits * temperature, axis=1)
    found = fit_temperature(wrong, truth)
    assert found == pytest.approx(temperature, rel=0.1)
    mended = tempered(wrong, found)
    assert negative_log_likelihood(mended, truth) <= negative_log_likelihood(wrong, truth) + 1e-6
    assert expected_calibration_error(mended, truth) < 0.03


def test_a_temperature_keeps_the_order_of_emotions_and_the_sum() -> None:
    probabilities = softmax(said(5), axis=1)
    for temperature in (0.2, 1.0, 7.0):
        found = tempered(probabilities, temperature)
        np.testing.assert_array_equal(np.argsort(found, axis=1), np.argsort(probabilities, axis=1))
        np.testing.assert_allclose(found.sum(1), 1)
    np.testing.assert_allclose(tempered(probabilities, 1.0), probabilities)


def test_likelihood_is_the_mean_log_of_what_was_said_of_the_truth() -> None:
    probabilities, truth = np.array([[0.5, 0.5], [0.9, 0.1], [0.0, 1.0]]), np.array([0, 1, 1])
    assert negative_log_likelihood(probabilities, truth) == pytest.approx(-np.log([0.5, 0.1, 1.0]).mean(), abs=1e-6)


@pytest.mark.parametrize(("right", "bound"), [(True, 0.05), (False, 20.0)])
def test_dev_speakers_who_are_all_right_or_all_wrong_end_at_a_bound_that_is_told(right: bool, bound: float) -> None:
    probabilities = softmax(said(6), axis=1)
    truth = (probabilities if right else -probabilities).argmax(1)
    found = fit_temperature(probabilities, truth)
    assert found == pytest.approx(bound, rel=0.01)
    assert at_bound(found)
    assert not at_bound(fit_temperature(probabilities, drawn(probabilities, 7)))
