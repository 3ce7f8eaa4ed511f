"""Whether probabilities mean what they say: calibration error, and the temperature that mends it."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.metrics import log_loss

#: Equal parts of 0 to 1 into which confidences are sorted (Guo et al. 2017, section 2).
BINS = 15
#: Temperatures that are tried: beyond them a model is either certain or says nothing.
COLDEST, WARMEST = 0.05, 20.0
#: Probabilities are kept to six decimals; what was rounded to zero counts as this.
SMALLEST = 1e-7


def expected_calibration_error(probabilities: np.ndarray, truth: np.ndarray, bins: int = BINS) -> float:
    """How far the confidence in the most probable emotion lies from how often it is right.

    sum_b n_b / N |accuracy_b - confidence_b| over equal bins of confidence (Guo et al. 2017, arXiv 1706.04599,
    equation 3).

    Args:
        probabilities: (N, E). truth: (N,) int.

    Returns:
        0 to 1; the denominator is all N utterances.
    """
    confidence, right = probabilities.max(1), probabilities.argmax(1) == truth
    # Bins are open on the left: a confidence of 1/15 belongs to the first one.
    places = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(places, minlength=bins)
    gaps = np.bincount(places, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / counts.sum())


def negative_log_likelihood(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Mean over utterances of -log p(truth), in nats: (N, E) and (N,)."""
    kept = np.clip(probabilities, SMALLEST, None)
    return float(log_loss(truth, kept / kept.sum(1, keepdims=True), labels=range(probabilities.shape[1])))


def fit_temperature(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """The temperature T at which softmax(log p / T) makes the truth likeliest (Guo et al. 2017, section 4.2).

    Args:
        probabilities: (N, E) of utterances that the model was not trained on. truth: (N,) int.
    """
    logits = np.log(np.clip(probabilities, SMALLEST, None))

    def loss(log_temperature: float) -> float:
        said = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float(said[np.arange(len(truth)), truth].mean())

    found = minimize_scalar(loss, bounds=(np.log(COLDEST), np.log(WARMEST)), method="bounded")
    return float(np.exp(found.x))


def at_bound(temperature: float) -> bool:
    """Whether a temperature is the coldest or warmest that is tried: dev speakers were all right, or said nothing."""
    return min(abs(np.log(temperature / bound)) for bound in (COLDEST, WARMEST)) < 0.01


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """softmax(log p / T): (N, E) -> (N, E). The order of the emotions stays."""
    return np.asarray(softmax(np.log(np.clip(probabilities, SMALLEST, None)) / temperature, axis=1))
