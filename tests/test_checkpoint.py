"""Models on disk: what is saved is what is loaded, by tensors and JSON alone."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from toys import random_batch

from mser import config
from mser.checkpoint import facts_if_whole, load_model, read_facts, save_model
from mser.errors import RunError
from mser.faithful import FaithfulModel
from mser.model import Domain, ExpertShape, ModelSettings, MultiGateModel, Prior
from mser.nas.genotype import Genotype

SHAPES = [ExpertShape("e0", 2, 4), ExpertShape("e1", 2, 4)]
SETTINGS = ModelSettings(hidden=8, temperature=2.0, frame_mask=0.2)
FRAMES = [3, 1, 6]


def prior(seed: int) -> Prior:
    """Mixtures and a standard that are no defaults."""
    rng = torch.Generator().manual_seed(seed)
    standard = {one.name: (torch.randn(2, 4, generator=rng), torch.rand(2, 4, generator=rng)) for one in SHAPES}
    return Prior({one.name: torch.randn(2, generator=rng) for one in SHAPES}, torch.randn(2, generator=rng), standard)


@pytest.fixture
def model() -> MultiGateModel:
    torch.manual_seed(0)
    one = Genotype({"e0": "conv3", "e1": "bigru"}, "attention", "conditioned", 1, 8)
    other = Genotype({"e0": "zero", "e1": "skip"}, "mean", "none", 0, 0)
    domains = [
        Domain("de", ("anger", "fear"), one, prior(1)),
        Domain("it", ("anger", "fear", "joy"), other, prior(2)),
    ]
    return MultiGateModel(domains, SHAPES, SETTINGS)


def test_a_loaded_model_answers_as_the_saved_one_did(tmp_path: Path, model: MultiGateModel) -> None:
    path = tmp_path / "run" / "model.safetensors"
    save_model(path, model, {"seed": 3})
    loaded, facts = load_model(path)
    batch = random_batch(FRAMES)
    for language in ("de", "it"):
        assert torch.equal(loaded(language, batch).logits, model(language, batch).logits)
        assert loaded.domains[language].genotype == model.domains[language].genotype
        assert loaded.domains[language].emotions == model.domains[language].emotions
    assert (loaded.settings, loaded.experts, loaded.structure) == (model.settings, model.experts, model.structure)
    assert facts == {"seed": 3}
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_how_states_are_standardised_is_in_the_file(tmp_path: Path, model: MultiGateModel) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, model, {})
    tensors = load_file(path)
    for language, number in (("de", 1), ("it", 2)):
        used = model.network(language).used
        for place, expert in enumerate(used):
            shift, scale = prior(number).standard[SHAPES[expert].name]
            assert torch.equal(tensors[f"networks.lang_{language}.mixes.{place}.shift"], shift)
            assert torch.equal(tensors[f"networks.lang_{language}.mixes.{place}.scale"], scale)


def test_a_damaged_missing_or_foreign_file_is_refused_with_what_to_run(tmp_path: Path, model: MultiGateModel) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(RunError, match="make train"):
        load_model(path)
    path.write_bytes(b"no tensors")
    with pytest.raises(RunError, match="cannot be read"):
        load_model(path)
    save_model(path, model, {})
    content = path.read_bytes()
    changed = content.replace(rb"\"schema_version\": 2, \"settings\"", rb"\"schema_version\": 7, \"settings\"")
    assert changed != content
    path.write_bytes(changed)
    with pytest.raises(RunError, match="schema version"):
        load_model(path)


def test_the_head_of_the_file_is_plain_json(tmp_path: Path, model: MultiGateModel) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, model, {"seed": 3})
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    head = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["mser"])
    assert [one["language"] for one in head["domains"]] == ["de", "it"]


def test_facts_are_read_without_the_weights(tmp_path: Path, model: MultiGateModel) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, model, {"method": "fixed"})
    assert read_facts(path) == {"method": "fixed"}
    with pytest.raises(RunError, match="make train"):
        read_facts(tmp_path / "none.safetensors")


def test_every_kind_of_model_is_read_back_as_what_it_was(tmp_path: Path) -> None:
    torch.manual_seed(0)
    genotype = Genotype({"e0": "skip", "e1": "skip"}, "mean", "constant", 1, 8)
    domains = [Domain(one, ("anger", "joy"), genotype, Prior.uniform(SHAPES)) for one in ("de", "it")]
    shared = MultiGateModel(domains, SHAPES, ModelSettings(hidden=8, shared_head=True))
    lacking = Domain(
        "it", ("anger",), Genotype({"e1": "skip"}, "mean", "constant", 0, 0), Prior.uniform(SHAPES[1:]), ("e1",)
    )
    for number, one in enumerate([shared, FaithfulModel(domains, SHAPES), MultiGateModel([lacking], SHAPES)]):
        path = tmp_path / f"{number}.safetensors"
        save_model(path, one, {})
        loaded, _ = load_model(path)
        assert type(loaded) is type(one)
        assert loaded.structure == one.structure
        for name, value in one.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], value)


def test_a_model_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, model: MultiGateModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(config.os, "fsync", lambda file: (synced.append(os.fstat(file).st_ino), fsync(file))[1])

    def renamed(self: Path, target: Path) -> Path:
        assert self.stat().st_ino in synced
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", renamed)
    save_model(tmp_path / "model.safetensors", model, {})
    assert len(synced) == 1


@pytest.mark.parametrize("left", [0, 5, 0.3, 0.999])
def test_a_model_cut_short_counts_as_missing_and_is_named(tmp_path: Path, model: MultiGateModel, left: float) -> None:
    path = tmp_path / "model.safetensors"
    assert facts_if_whole(path) is None
    save_model(path, model, {"method": "fixed"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert facts_if_whole(path) == {"method": "fixed"}
    content = path.read_bytes()
    path.write_bytes(content[: left if isinstance(left, int) else int(left * len(content))])
    with pytest.warns(UserWarning, match=r"model\.safetensors cannot be used"):
        assert facts_if_whole(path) is None


def save_changed(folder: Path, model: MultiGateModel, old: bytes, new: bytes) -> Path:
    """A model's file in which some bytes are others."""
    path = folder / "model.safetensors"
    save_model(path, model, {})
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    return path


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (rb"\"schema_version\": 2, \"settings\"", rb"\"schema_version\": 1, \"settings\""),
        (rb"\"facts\"", rb"\"farce\""),
    ],
)
def test_a_model_of_another_version_counts_as_missing(
    tmp_path: Path, model: MultiGateModel, old: bytes, new: bytes
) -> None:
    path = save_changed(tmp_path, model, old, new)
    with pytest.warns(UserWarning, match="cannot be used"):
        assert facts_if_whole(path) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"conv3", b"conv9"), (b"multi-gate", b"multi-door"), (b"temperature", b"temparature")],
)
def test_a_model_of_no_structure_that_is_known_is_named(
    tmp_path: Path, model: MultiGateModel, old: bytes, new: bytes
) -> None:
    path = save_changed(tmp_path, model, old, new)
    with pytest.raises(RunError, match=r"structure cannot be read\.\n  file: .*model\.safetensors"):
        load_model(path)
