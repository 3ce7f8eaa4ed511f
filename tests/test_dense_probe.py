"""Dense probes against convolutions on padded frames, combinations of layers against loops, and what is chosen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from toy_tasks import cross_tasks, toy_languages, within_tasks

from mser.errors import ConfigError
from mser.metrics import score
from train.benchmark.cells import Asked
from train.systems.dense_probe import DenseHead, DenseProbe, LayerConv, LayerMix, averaging
from train.systems.descent import Steps
from train.systems.task import Language

QUICK = DenseProbe(hidden=16, rate=5.0, steps=Steps(epochs=15, batch_size=8, rate=1e-2))


@pytest.fixture(scope="module")
def languages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Language]:
    return toy_languages(tmp_path_factory.mktemp("toys"))


def asked_of(languages: dict[str, Language], *, within: bool = False, shots: int = 1, seed: int = 0) -> list[Asked]:
    """Tasks that keep the dev scores of single layers in a file, as those of the benchmark do."""
    found = within_tasks(languages, seeds=(seed,))[:1] if within else cross_tasks(languages, (shots,), seeds=(seed,))
    path = languages["de"].workspace.root / f"scores-{within}.json"
    return [replace(one, task=replace(one.task, probes_path=path)) for one in found]


@pytest.fixture(scope="module")
def asked(languages: dict[str, Language]) -> list[Asked]:
    return asked_of(languages, within=True) + asked_of(languages, shots=2)


def test_averaging_is_the_mean_of_each_utterance() -> None:
    values, lengths = torch.randn(9, 3), [2, 1, 6]
    expected = torch.stack([part.mean(0) for part in values.split(lengths)])
    torch.testing.assert_close(averaging(torch.tensor(lengths)) @ values, expected)


def test_a_convolution_over_layers_is_a_weighted_sum_and_has_no_bias() -> None:
    torch.manual_seed(0)
    combine, reference = LayerConv(3), nn.Conv1d(3, 1, 1, bias=False)
    assert combine.weights.abs().max() <= 3**-0.5
    with torch.no_grad():
        reference.weight.copy_(combine.weights[None, :, None])
    frames = torch.randn(5, 3, 4)
    torch.testing.assert_close(combine(frames), reference(frames)[:, 0])
    torch.testing.assert_close(combine(2 * frames), 2 * combine(frames))


def test_a_mix_is_gamma_times_shares_that_sum_to_one() -> None:
    frames, mix = torch.randn(5, 3, 4), LayerMix(3)
    torch.testing.assert_close(mix(frames), frames.mean(1))
    with torch.no_grad():
        mix.weights.copy_(torch.tensor([0.5, -1.0, 2.0]))
        mix.gamma.fill_(3.0)
    shares = softmax(np.array([0.5, -1.0, 2.0]))
    expected = 3 * sum(share * frames[:, layer].numpy() for layer, share in enumerate(shares))
    np.testing.assert_allclose(mix(frames).detach(), expected, rtol=1e-5, atol=1e-6)
    assert mix.shares().sum().item() == pytest.approx(3)


def test_a_dense_head_is_two_convolutions_on_padded_frames() -> None:
    torch.manual_seed(0)
    head, utterances = DenseHead(nn.Flatten(1), 4, 6, 3), [torch.randn(count, 1, 4) for count in (3, 1, 5)]
    first, second = nn.Conv1d(4, 6, 1), nn.Conv1d(6, 6, 1)
    with torch.no_grad():
        for convolution, linear in ((first, head.frames[0]), (second, head.frames[2])):
            convolution.weight.copy_(linear.weight[..., None])
            convolution.bias.copy_(linear.bias)
    padded = pad_sequence([one[:, 0] for one in utterances], batch_first=True).transpose(1, 2)
    hidden = second(first(padded).relu()).relu()
    means = torch.stack([hidden[row, :, : len(one)].mean(1) for row, one in enumerate(utterances)])
    found = head(torch.cat(utterances), torch.tensor([3, 1, 5]))
    torch.testing.assert_close(found, head.output(means))


@pytest.mark.parametrize("combine", ["one", "all", "mix"])
def test_it_learns_in_every_protocol(asked: list[Asked], combine: str) -> None:
    system = replace(QUICK, combine=combine)
    for one in asked:
        answer = system.answer(one.task)
        assert score(one.truth, answer.probabilities.argmax(1)).uar > 75, (one.task.name, one.task.protocol)
        assert answer.facts["upstream"] == "loud"
        assert len(answer.facts["layers"]) == (1 if combine == "one" else 2)
        assert len(answer.facts["losses"]) == answer.facts["epochs"] <= QUICK.steps.epochs
        assert ("weights" in answer.facts) == (combine != "one")
        extra = {"one": 0, "all": 2, "mix": 3}[combine]
        assert answer.parameters == 4 * 16 + 16 + 16 * 16 + 16 + 16 * 3 + 3 + extra


def test_the_probe_itself_may_choose_the_layer(asked: list[Asked], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[tuple[str, int], list[float]] = {("loud", 0): [50, 70], ("loud", 1): [60, 80], ("quiet", 0): [90, 10]}
    monkeypatch.setattr(
        DenseProbe, "_dev_curve", lambda self, task, upstream, layers: seen.get((upstream, *layers), [0, 0])
    )
    facts = replace(QUICK, choice="probe").answer(asked[0].task).facts
    assert (facts["upstream"], facts["layers"], facts["epochs"]) == ("quiet", [0], 1)


def test_a_mix_of_the_first_layers_sees_no_others(asked: list[Asked]) -> None:
    facts = replace(QUICK, combine="mix", first=1).answer(asked[0].task).facts
    assert facts["layers"] == [0]
    assert len(facts["weights"]) == 1
    with pytest.raises(ConfigError, match="first"):
        replace(QUICK, combine="mix", first=3).answer(asked[0].task)


def test_seeds_decide(languages: dict[str, Language]) -> None:
    def said(seed: int) -> np.ndarray:
        return QUICK.answer(asked_of(languages, within=True, seed=seed)[0].task).probabilities

    np.testing.assert_array_equal(said(0), said(0))
    assert not np.array_equal(said(0), said(1))


def test_shots_leave_the_shared_probe_as_it_was(languages: dict[str, Language]) -> None:
    zero, few = (one.task for one in asked_of(languages, shots=2)[:2])
    before = QUICK.answer(zero)
    assert not np.array_equal(before.probabilities, QUICK.answer(few).probabilities)
    np.testing.assert_array_equal(QUICK.answer(zero).probabilities, before.probabilities)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"combine": "some"}, "combine"),
        ({"choice": "test"}, "choice"),
        ({"choice": "probe", "combine": "all"}, "choice"),
        ({"first": 1}, "first"),
        ({"first": -1, "combine": "mix"}, "first"),
        ({"hidden": 0}, "hidden"),
        ({"rate": 0.0}, "rate"),
        ({"rate": float("nan")}, "rate"),
    ],
)
def test_an_option_that_cannot_be_is_named(options: dict[str, object], name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        DenseProbe(**options)  # type: ignore[arg-type]
    assert caught.value.field == name
