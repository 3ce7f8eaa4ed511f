"""The table of methods: each can be built and trained, and only the known ones can be asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from toys import expert_of, separable_states, shapes

from mser.errors import ConfigError
from mser.loader import Loader
from mser.model import Domain, ModelSettings, MultiGateModel, Prior
from mser.nas.genotype import POOLED_SPACE, fixed_genotype
from mser.nas.search import STRATEGIES
from train.fit import FitSettings, Replica, fit
from train.methods import DEFAULT_METHODS, METHODS, PROBE, Method, named, strategies
from train.methods import HEADS as KIND

HEADS = [name for name, method in METHODS.items() if method.kind == KIND]


@pytest.mark.parametrize("name", HEADS)
def test_every_method_that_trains_heads_can_be_built_and_trained(name: str) -> None:
    method = METHODS[name]
    assert method.structure in STRATEGIES
    genotype = method.genotype(fixed_genotype(("e0", "e1"), POOLED_SPACE))
    labels = np.arange(12) % 3
    loader = Loader([expert_of(separable_states(labels.tolist(), seed=k)) for k in range(2)], torch.from_numpy(labels))
    domain = Domain("de", ("anger", "fear", "joy"), genotype, Prior.uniform(shapes(2)))
    model = MultiGateModel([domain], shapes(2), method.model_settings(ModelSettings(hidden=8)))
    settings = replace(method.fit_settings(FitSettings(epochs=1, least_steps=1)), epochs=1)
    rows = {"de": np.arange(12)}
    (found,) = fit([Replica(model, rows, 0, {"de": np.arange(3)})], {"de": loader}, rows, settings)
    assert np.isfinite(found.losses).all()


@pytest.mark.parametrize("name", METHODS)
def test_every_method_says_what_it_is_to_readers(name: str) -> None:
    assert METHODS[name].title
    assert METHODS[name].description.endswith((".", "bar."))
    assert [one.title for one in METHODS.values()].count(METHODS[name].title) == 1


def test_a_method_changes_what_it_names_and_nothing_else() -> None:
    model, training = ModelSettings(hidden=24, dropout=0.1), FitSettings(epochs=7, batch_size=5)
    method = Method("t", "d.", model={"frame_mask": 0.2}, fit={"patience": 4}, loss={"mixup": 0.3}, gate="none")
    assert method.model_settings(model) == replace(model, frame_mask=0.2)
    expected = replace(training, patience=4, loss=replace(training.loss, mixup=0.3))
    assert method.fit_settings(training) == expected
    genotype = fixed_genotype(("e0",), POOLED_SPACE)
    assert method.genotype(genotype) == replace(genotype, gate="none")
    assert Method("t", "d.").genotype(genotype) is genotype


def test_only_speaker_normalisation_is_transductive_and_only_a_probe_has_no_seeds() -> None:
    assert Method("t", "d.", normalise="speaker").transductive
    assert not Method("t", "d.").transductive
    assert Method("t", "d.").seeded
    assert not Method("t", "d.", kind=PROBE).seeded


def test_names_come_in_the_order_of_the_table_and_all_means_every_one() -> None:
    assert named(("searched", "logistic", "searched")) == ("logistic", "searched")
    assert named(("all",)) == named(("fixed", "all")) == tuple(METHODS)
    assert named(DEFAULT_METHODS) == DEFAULT_METHODS


@pytest.mark.parametrize("names", [(), ("fixed", "magic"), ("all", "magic"), ("",)])
def test_unknown_names_and_none_are_refused_with_the_known_ones(names: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="logistic fixed") as error:
        named(names)
    assert "METHODS" in str(error.value)


def test_the_strategies_of_methods_are_those_whose_structures_they_train_each_once() -> None:
    assert strategies(("logistic",)) == ()
    assert strategies(("logistic", "fixed", "mixup", "searched", "multi-domain")) == ("fixed", "beta")
    assert set(strategies(tuple(METHODS))) == {METHODS[name].structure for name in HEADS}
