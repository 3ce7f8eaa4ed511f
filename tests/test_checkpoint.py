"""Models on disk: what is saved is what is loaded, by tensors and JSON alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import expert_of, random_batch, random_states

from mser.checkpoint import load_model, save_model
from mser.errors import RunError
from mser.loader import Expert
from mser.model import Domain, ExpertShape, ModelSettings, MultiGateModel, Prior
from mser.nas.genotype import Genotype

SHAPES = [ExpertShape("e0", 2, 4), ExpertShape("e1", 2, 4)]
FRAMES = [3, 1, 6]


@pytest.fixture
def model() -> MultiGateModel:
    torch.manual_seed(0)
    one = Genotype({"e0": "conv3", "e1": "bigru"}, "attention", "conditioned", 1, 8)
    other = Genotype({"e0": "zero", "e1": "skip"}, "mean", "constant", 0, 0)
    domains = [
        Domain("de", ("anger", "fear"), one, Prior.uniform(SHAPES)),
        Domain("it", ("anger", "fear", "joy"), other, Prior.uniform(SHAPES)),
    ]
    return MultiGateModel(domains, SHAPES, ModelSettings(hidden=8)).eval()


@pytest.fixture
def experts() -> list[Expert]:
    rows = np.arange(len(FRAMES))
    return [expert_of(random_states(FRAMES, seed=seed)).standardised(rows) for seed in (0, 1)]


def test_a_loaded_model_answers_as_the_saved_one_did(
    tmp_path: Path, model: MultiGateModel, experts: list[Expert]
) -> None:
    path = tmp_path / "run" / "model.safetensors"
    save_model(path, model, {"de": experts, "it": experts}, {"seed": 3})
    loaded, moments, facts = load_model(path)
    batch = random_batch(FRAMES)
    for language in ("de", "it"):
        assert torch.equal(loaded(language, batch).logits, model(language, batch).logits)
        assert loaded.domains[language].genotype == model.domains[language].genotype
        assert loaded.domains[language].emotions == model.domains[language].emotions
        for (shift, scale), expert in zip(moments[language], experts, strict=True):
            assert torch.equal(shift, expert.shift)
            assert torch.equal(scale, expert.scale)
    assert facts == {"seed": 3}
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_a_damaged_missing_or_foreign_file_is_refused_with_what_to_run(
    tmp_path: Path, model: MultiGateModel, experts: list[Expert]
) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(RunError, match="make train"):
        load_model(path)
    path.write_bytes(b"no tensors")
    with pytest.raises(RunError, match="cannot be read"):
        load_model(path)
    save_model(path, model, {"de": experts, "it": experts}, {})
    content = path.read_bytes()
    changed = content.replace(rb"\"schema_version\": 1, \"settings\"", rb"\"schema_version\": 7, \"settings\"")
    assert changed != content
    path.write_bytes(changed)
    with pytest.raises(RunError, match="schema version"):
        load_model(path)


def test_experts_that_were_not_standardised_are_refused(tmp_path: Path, model: MultiGateModel) -> None:
    plain = [expert_of(random_states(FRAMES))]
    with pytest.raises(ValueError, match="not standardised"):
        save_model(tmp_path / "model.safetensors", model, {"de": plain}, {})


def test_the_head_of_the_file_is_plain_json(tmp_path: Path, model: MultiGateModel, experts: list[Expert]) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, model, {"de": experts, "it": experts}, {"seed": 3})
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    head = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["mser"])
    assert [one["language"] for one in head["domains"]] == ["de", "it"]
