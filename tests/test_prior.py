"""Where mixtures start: from what single layers achieve, by name and not by order."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from scipy.special import softmax
from toys import expert_of, random_states

from train.prior import best_layer, prior_of
from train.settings import StudySettings

PROBES = {"speech": [40.0, 90.0, 80.0], "acoustic": [50.0]}


def test_mixtures_follow_the_names_whatever_the_order_of_probes_or_experts() -> None:
    rows = np.arange(3)
    experts = [
        expert_of(random_states([2, 3, 4], layers=3), "speech"),
        expert_of(random_states([2, 3, 4], layers=1, seed=1), "acoustic"),
    ]
    settings = StudySettings(layer_scale=2.0, expert_scale=10.0)
    for probes, order in itertools.product([PROBES, dict(sorted(PROBES.items()))], [(0, 1), (1, 0)]):
        given = [experts[number] for number in order]
        prior = prior_of(probes, given, rows, settings)
        best = {"speech": 90.0, "acoustic": 50.0}
        expected = softmax([best[expert.name] / 10 for expert in given])
        np.testing.assert_allclose(prior.experts.softmax(0), expected, rtol=1e-5)
        np.testing.assert_allclose(prior.layers["speech"].softmax(0), softmax([20, 45, 40]), rtol=1e-4)
        for expert in given:
            shift, scale = prior.standard[expert.name]
            assert torch.equal(shift, expert.standard(rows)[0])
            assert torch.equal(scale, expert.standard(rows)[1])


def test_the_best_layer_is_that_of_all_upstreams() -> None:
    assert best_layer(PROBES) == ("speech", 1, 90.0)
