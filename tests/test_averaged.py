"""Models whose answer is the mean of several networks' ones, in memory, on disk and in use."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from toys import random_batch, shapes

from mser.averaged import AveragedModel, member_name
from mser.checkpoint import load_model, save_model
from mser.model import Domain, ExpertShape, ModelSettings, Prior
from mser.nas.genotype import Genotype
from mser.predict.head import load_heads
from mser.store import Provenance

FRAMES = [3, 1, 6]
EMOTIONS = ("anger", "joy")
#: Of the networks of `it`, experts in the order of their batches: the last lacks one.
MEMBERS = {"it/de": ("e0", "e1"), "it/en": ("e1", "e0"), "it/ur": ("e1",)}


def prior(own: tuple[str, ...], seed: int) -> Prior:
    rng = torch.Generator().manual_seed(seed)
    standard = {name: (torch.randn(2, 4, generator=rng), torch.rand(2, 4, generator=rng)) for name in own}
    return Prior({name: torch.randn(2, generator=rng) for name in own}, torch.randn(len(own), generator=rng), standard)


def averaged(more: tuple[str, ...] = ()) -> AveragedModel:
    """A language ``it`` of three networks, and one network for each name of ``more``."""
    torch.manual_seed(0)
    domains = []
    for place, (name, own) in enumerate({**MEMBERS, **dict.fromkeys(more, ("e0", "e1"))}.items()):
        gate = "conditioned" if name == "it/en" else "constant"
        structure = Genotype(dict.fromkeys(own, "skip"), "mean", gate, place % 2, 8 * (place % 2))
        domains.append(Domain(name, EMOTIONS, structure, prior(own, place), own))
    return AveragedModel(domains, shapes(2), ModelSettings(hidden=8, dropout=0.2)).eval()


def test_an_answer_is_the_mean_of_the_networks_probabilities() -> None:
    model, batch = averaged(("fr/de",)), random_batch(FRAMES)
    each = [model.members(name, batch) for name in MEMBERS]
    said = model("it", batch)
    probabilities = np.mean([one.logits.softmax(1).detach().numpy() for one in each], axis=0)
    np.testing.assert_allclose(said.logits.exp().detach().numpy(), probabilities, atol=1e-6)
    np.testing.assert_allclose(said.logits.softmax(1).detach().numpy(), probabilities, atol=1e-6)
    gates = np.mean([one.gate.detach().numpy() for one in each], axis=0)
    np.testing.assert_allclose(said.gate.detach().numpy(), gates, atol=1e-6)
    assert torch.equal(said.embedding, torch.cat([one.embedding for one in each], dim=1))
    alone = model("fr", batch).logits
    torch.testing.assert_close(alone, model.members("fr/de", batch).logits.log_softmax(1))
    assert list(model.domains) == ["it", "fr"]
    assert {name: domain.language for name, domain in model.domains.items()} == {"it": "it", "fr": "fr"}


def test_the_layer_weights_are_means_over_the_networks_that_use_an_expert() -> None:
    model = averaged()
    each = [model.members.layer_weights(name) for name in MEMBERS]
    found = model.layer_weights("it")
    for expert in ("e0", "e1"):
        np.testing.assert_allclose(found[expert], np.mean([one[expert] for one in each if expert in one], axis=0))


def test_a_loaded_model_answers_bit_for_bit_as_the_saved_one(tmp_path: Path) -> None:
    path, model, batch = tmp_path / "model.safetensors", averaged(("fr/de",)), random_batch(FRAMES)
    save_model(path, model, {"seed": 3})
    loaded, facts = load_model(path)
    assert isinstance(loaded, AveragedModel)
    assert facts == {"seed": 3}
    assert loaded.names == model.names
    assert (loaded.domains["it"].genotype, loaded.settings) == (model.domains["it"].genotype, model.settings)
    for language in ("it", "fr"):
        for one, other in zip(loaded(language, batch), model(language, batch), strict=True):
            assert torch.equal(one, other)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())
    content = path.read_bytes()
    save_model(path, loaded, facts)
    assert path.read_bytes() == content


def save_for_use(folder: Path) -> Path:
    """A run's model for use, as an adaptation writes it."""
    upstream = {"layers": 2, "dim": 2, "frame_rate": 5.0, "revision": "1", "random_weights": False}
    stores = {name: asdict(Provenance("toy", {"name": name, **upstream})) for name in ("e0", "e1")}
    facts = {
        "method": "adapted-shots", "normalise": "none", "stores": {"it": stores}, "temperature": {},
        "features": {"kind": "pooled", "frame_rate": 5.0},
    }  # fmt: skip
    save_model(folder / "model.safetensors", averaged(), facts)
    return folder


def test_it_is_put_to_use_as_any_run_is(tmp_path: Path) -> None:
    heads = load_heads(save_for_use(tmp_path))
    assert list(heads) == ["it"]
    head, batch = heads["it"], random_batch(FRAMES)
    assert head.emotions == EMOTIONS
    # The batches of all its networks, though the first may lack an expert.
    assert list(head.keys) == ["e0", "e1"]
    assert (head.calibrated, head.temperature, head.features) == (False, 1.0, "pooled")
    assert torch.equal(head.model("it", batch).logits, averaged()("it", batch).logits)


def test_a_first_network_that_lacks_an_expert_does_not_decide_what_batches_hold(tmp_path: Path) -> None:
    torch.manual_seed(0)
    order = ("it/ur", "it/de")
    domains = [
        Domain(name, EMOTIONS, Genotype(dict.fromkeys(own, "skip"), "mean", "constant", 0, 0), prior(own, 1), own)
        for name, own in ((name, MEMBERS[name]) for name in order)
    ]
    model = AveragedModel(domains, [ExpertShape("e0", 2, 4), ExpertShape("e1", 2, 4)], ModelSettings(hidden=8))
    assert model.domains["it"].experts == ()
    batch = random_batch(FRAMES)
    other = batch._replace(states=(torch.zeros_like(batch.states[0]), batch.states[1]))
    # The network that lacks e0 hears nothing of it.
    assert torch.equal(model.members("it/ur", batch).logits, model.members("it/ur", other).logits)
    assert not torch.equal(model.members("it/de", batch).logits, model.members("it/de", other).logits)


def test_members_are_named_after_both_languages() -> None:
    assert member_name("it", "de") == "it/de"
