"""The authors' network against loops that follow their description."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from toys import expert_of, random_batch, separable_states, shapes

from mser import faithful
from mser.errors import ConfigError
from mser.faithful import FaithfulModel, PublishedRouting, SequenceEncoder, convolve
from mser.loader import Loader
from mser.model import Domain, Prior
from mser.nas.genotype import Genotype
from mser.noise import Noise
from train.fit import FitSettings, Replica, fit, predict
from train.keeper import Keeper

EMOTIONS = ("anger", "joy", "sadness")
FRAMES = [3, 1, 5]
ANY = Genotype({"e0": "skip", "e1": "skip"}, "mean", "constant", 0, 0)


def model_of(*languages: str) -> FaithfulModel:
    torch.manual_seed(0)
    domains = [Domain(language, EMOTIONS, ANY, Prior.uniform(shapes(2))) for language in languages or ("de",)]
    return FaithfulModel(domains, shapes(2))


def noise(step: int = 0, count: int = 3) -> Noise:
    numbers = [torch.tensor(value, dtype=torch.int32) for value in (0, step)]
    return Noise.of(*numbers, torch.arange(count, dtype=torch.int32))


def test_the_encoder_equals_its_parts_run_on_each_utterance_alone() -> None:
    torch.manual_seed(0)
    encoder = SequenceEncoder(4)
    batch = random_batch(FRAMES, experts=1, layers=1)
    together = encoder(batch.states[0][:, :, 0], batch.lengths[0])
    for row, count in enumerate(FRAMES):
        x = batch.states[0][row : row + 1, :count, 0].transpose(1, 2)
        convolved = sum(convolution(x) for convolution in encoder.convolutions).transpose(1, 2)
        encoded = encoder.lstm(convolved)[0][0].detach().numpy()
        weights = softmax(encoded @ encoded[-1])
        np.testing.assert_allclose(together[row].detach(), weights @ encoded, atol=1e-5)


def test_a_single_frame_is_convolved_as_any_other() -> None:
    torch.manual_seed(0)
    for kernel in (3, 5):
        convolution = torch.nn.Conv1d(4, 6, kernel, padding=kernel // 2)
        x = torch.randn(2, 4, 1)
        torch.testing.assert_close(convolve(convolution, x), convolution(x))


def test_sequences_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faithful, "FRAMES", 2)
    encoder = SequenceEncoder(4)
    x = torch.randn(2, 5, 4)
    full, cut = encoder(x, torch.tensor([5, 2])), encoder(x[:, :2], torch.tensor([2, 2]))
    torch.testing.assert_close(full, cut)


def test_routing_equals_the_equation_and_is_no_number_once_u_leaves_its_range() -> None:
    torch.manual_seed(0)
    routing = PublishedRouting(2)
    with torch.no_grad():
        routing.u.copy_(torch.tensor([[0.2, 0.9], [0.5, 0.99]]))
        routing.log_alpha.copy_(torch.randn(2, 2))
    u, alpha = routing.u.detach().double().numpy(), routing.log_alpha.detach().double().numpy()
    z = np.clip(2.1 * expit((np.log(u) - np.log(1 - u) + alpha) / 0.9) - 0.1, 0, 1)
    vectors = torch.randn(3, 2, 256)
    w, h = routing.weights.detach().numpy(), vectors.numpy()
    expected = [
        np.concatenate([sum(z[k, m] * (w[k, m] @ h[row, k]) for k in range(2)) for m in range(2)]) for row in range(3)
    ]
    np.testing.assert_allclose(routing(vectors).detach(), expected, atol=1e-4)
    with torch.no_grad():
        routing.u[0, 0] = 1.01
    assert routing(vectors).isnan().any()


def test_languages_share_encoders_and_routing_and_have_gates_and_heads_of_their_own() -> None:
    model = model_of("de", "it")
    batch = random_batch(FRAMES)
    model("de", batch, noise()).logits.sum().backward()
    assert all(value.grad is None for value in model.networks["lang_it"].parameters())
    assert all(value.grad is not None for value in model.encoders.parameters())
    assert model.routing.u.grad is not None


def test_batch_norm_learns_its_statistics_with_noise_and_uses_them_without() -> None:
    model = model_of()
    batch = random_batch(FRAMES)
    norm = model.networks["lang_de"].head.norms[0]
    before = norm.running_mean.clone()
    model("de", batch)
    assert torch.equal(norm.running_mean, before)
    model("de", batch, noise())
    assert not torch.equal(norm.running_mean, before)
    torch.testing.assert_close(model("de", batch).logits, model("de", batch).logits)


def test_gates_sum_to_1_and_a_missing_upstream_is_refused() -> None:
    output = model_of()("de", random_batch(FRAMES))
    np.testing.assert_allclose(output.gate.sum(1).detach(), 1, rtol=1e-5)
    assert output.logits.shape == (3, 3)
    assert output.embedding.shape == (3, 64)
    lacking = Domain("de", EMOTIONS, ANY, Prior.uniform(shapes(1)))
    with pytest.raises(ConfigError, match="every upstream"):
        FaithfulModel([lacking], shapes(2))


@pytest.mark.parametrize(("rate", "patience"), [(1e20, 0), (5e-4, 2)])
def test_a_training_leaves_the_statistics_of_batch_norm_of_the_epoch_that_counts(rate: float, patience: int) -> None:
    """A model that diverged, or stopped early, must say the same numbers in use as it did in that epoch."""
    labels = np.arange(24) % 3
    loader = Loader(
        [expert_of(separable_states(labels.tolist(), seed=n), f"e{n}") for n in (0, 1)], torch.from_numpy(labels)
    )
    rows, seen = np.arange(24), []
    train, dev = rows[:16], rows[16:]
    replica = Replica(model_of(), {"de": train}, 0, {"de": dev})
    settings = FitSettings(epochs=6, least_steps=1, batch_size=8, rate=rate, patience=patience)
    began = {name: value.clone() for name, value in replica.model.state_dict().items()}
    original = Keeper.judge

    def judged(keeper: Keeper, *given: Any) -> bool:
        seen.append({name: value.clone() for name, value in replica.model.state_dict().items()})
        return original(keeper, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Keeper, "judge", judged)
        (found,) = fit([replica], {"de": loader}, {"de": rows}, settings)
    assert (found.diverged is not None) == (rate > 1)
    right = seen[found.best] if found.best >= 0 else began
    left = replica.model.state_dict()
    assert any("running_mean" in name for name in left)
    assert all(torch.equal(value, right[name]) for name, value in left.items())
    assert np.isfinite(predict(replica.model, "de", loader, rows)[0]).all()
