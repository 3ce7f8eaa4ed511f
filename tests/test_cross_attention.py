"""Cross-attention against loops, padding that must not matter, and the system on toy languages."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from toy_tasks import cross_tasks, toy_languages, within_tasks

from mser.errors import ConfigError
from train.benchmark.cells import Asked
from train.systems.cross_attention import (
    BESIDE,
    CrossAttentionFusion,
    CrossAttentionNetwork,
    Fusion,
    attend,
    positions,
)
from train.systems.descent import Steps
from train.systems.streams import Batch, FeatureDropout
from train.systems.task import FEW_SHOT, WITHIN, ZERO_SHOT, Language, Part, Task

SMALL = CrossAttentionFusion(width=8, heads=2, dropout=0.1, steps=Steps(epochs=15, batch_size=12, rate=5e-3))


@pytest.fixture(scope="module")
def languages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Language]:
    return toy_languages(tmp_path_factory.mktemp("toys"), extra=BESIDE)


@pytest.fixture(scope="module")
def asked(languages: dict[str, Language]) -> dict[str, list[Asked]]:
    across = cross_tasks(languages, shots=(2,))
    found = {kind: [one for one in across if one.task.protocol == kind] for kind in (ZERO_SHOT, FEW_SHOT)}
    return {WITHIN: within_tasks(languages)[:1], **found}


def naive(queries: Tensor, keys: Tensor, values: Tensor, lengths: list[int]) -> Tensor:
    """Attention query by query, with the exponentials written out."""
    out = torch.zeros(queries.shape)
    for sample, length in enumerate(lengths):
        for head in range(queries.shape[1]):
            for place in range(queries.shape[2]):
                query = queries[sample, head, place].tolist()
                rows = keys[sample, head, :length].tolist()
                scores = [sum(a * b for a, b in zip(query, row, strict=True)) / math.sqrt(len(query)) for row in rows]
                weights = [math.exp(score) for score in scores]
                for weight, value in zip(weights, values[sample, head], strict=False):
                    out[sample, head, place] += weight / sum(weights) * value
    return out


def streams_of(lengths: list[list[int]], dims: tuple[int, ...], padding: int = 0) -> Batch:
    """Noise of these lengths, zero behind, and as much padding more as asked."""
    rng = torch.Generator().manual_seed(0)
    found = []
    for own, dim in zip(lengths, dims, strict=True):
        frames = torch.zeros(len(own), max(own) + padding, dim)
        for row, length in enumerate(own):
            frames[row, :length] = torch.randn(length, dim, generator=rng)
        found.append((frames, torch.tensor(own)))
    return found


def test_attention_is_what_the_equation_says() -> None:
    rng = torch.Generator().manual_seed(1)
    queries = torch.randn(3, 2, 4, 3, generator=rng)
    keys, values = (torch.randn(3, 2, 5, 3, generator=rng) for _ in range(2))
    lengths = [5, 1, 3]
    found = attend(queries, keys, values, torch.tensor(lengths))
    torch.testing.assert_close(found, naive(queries, keys, values, lengths))


def test_positions_are_sines_and_cosines() -> None:
    found = positions(5, 6)
    for place in range(5):
        for column in range(6):
            angle = place / 10_000 ** ((column - column % 2) / 6)
            expected = math.cos(angle) if column % 2 else math.sin(angle)
            assert found[place, column].item() == pytest.approx(expected, abs=1e-6)


def test_a_stream_asks_all_others_and_never_itself() -> None:
    torch.manual_seed(0)
    fusion = Fusion(3, 4, 2, 0.0)
    lengths = [[4, 2], [3, 3], [1, 5]]
    batch = streams_of(lengths, (4, 4, 4))

    def heads(rows: Tensor) -> Tensor:
        return torch.stack([rows[..., :2], rows[..., 2:]], dim=1)

    with torch.no_grad():
        projected = [linear(frames).split(4, 2) for linear, (frames, _) in zip(fusion.triples, batch, strict=True)]
        for number, (frames, own) in enumerate(fusion(batch)):
            answers = []
            for other in (other for other in range(3) if other != number):
                asked = [heads(part) for part in (projected[number][0], *projected[other][1:])]
                found = naive(*asked, lengths[other])
                answers.append(torch.cat([found[:, 0], found[:, 1]], dim=2))
            middle = fusion.norms[number](batch[number][0] + fusion.joins[number](torch.cat(answers, dim=2)))
            expected = fusion.last_norms[number](middle + fusion.forwards[number](middle))
            torch.testing.assert_close(frames, expected)
            assert torch.equal(own, batch[number][1])


def test_padding_and_company_do_not_matter() -> None:
    torch.manual_seed(0)
    network = CrossAttentionNetwork((5, 3, 2), 4, width=8, heads=2, depth=2, dropout=0.5).eval()
    lengths = [[6, 2, 4], [5, 3, 4], [7, 1, 4]]
    joined = network(streams_of(lengths, (5, 3, 2)))
    torch.testing.assert_close(network(streams_of(lengths, (5, 3, 2), padding=9)), joined)
    batch = streams_of(lengths, (5, 3, 2))
    for row in range(3):
        alone = [(frames[row : row + 1, : own[row]], own[row : row + 1]) for frames, own in batch]
        torch.testing.assert_close(network(alone), joined[row : row + 1])


def test_features_are_dropped_in_all_frames_alike() -> None:
    torch.manual_seed(0)
    dropout = FeatureDropout(0.5)
    found = dropout(torch.ones(20, 7, 30))
    assert set(found.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(found, found[:, :1].expand_as(found))
    assert 0.4 < found.count_nonzero().item() / found.numel() < 0.6
    assert torch.equal(dropout.eval()(torch.ones(2, 3, 4)), torch.ones(2, 3, 4))


@pytest.mark.parametrize("protocol", [WITHIN, ZERO_SHOT, FEW_SHOT])
def test_it_learns_in_every_protocol(asked: dict[str, list[Asked]], protocol: str) -> None:
    right = []
    for one in asked[protocol]:
        answer = SMALL.answer(one.task)
        assert answer.facts["streams"][0].startswith("loud")
        assert ("losses on shots" in answer.facts) == (protocol == FEW_SHOT)
        np.testing.assert_allclose(answer.probabilities.sum(1), 1)
        right.append(answer.probabilities.argmax(1) == one.truth)
    assert np.mean(np.concatenate(right)) > 0.75


def test_the_seed_decides(asked: dict[str, list[Asked]]) -> None:
    task = asked[WITHIN][0].task
    short = dataclasses.replace(SMALL, steps=Steps(epochs=2))
    first, again, other = (
        short.answer(dataclasses.replace(task, seed=seed, shared={})).probabilities for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_tuning_on_shots_leaves_the_source_model_alone(asked: dict[str, list[Asked]]) -> None:
    shots = asked[FEW_SHOT][0].task
    before = dataclasses.replace(asked[ZERO_SHOT][0].task, shared=shots.shared)
    first = SMALL.answer(before).probabilities
    tuned = SMALL.answer(shots).probabilities
    assert np.array_equal(SMALL.answer(before).probabilities, first)
    assert not np.array_equal(tuned, first)


def without_emotions(task: Task) -> Task:
    """The same task with every emotion of the target's manifest replaced by one that there is not."""
    target = task.test.language
    rows = tuple(dataclasses.replace(row, emotion="unknown") for row in target.data.utterances)
    blind = Language(dataclasses.replace(target.data, utterances=rows), target.workspace)
    parts = {name: Part(blind, getattr(task, name).rows, getattr(task, name).labels) for name in ("adapt", "test")}
    return dataclasses.replace(task, shared={}, **parts)


@pytest.mark.parametrize("normalise", ["source", "each"])
def test_emotions_of_the_target_are_not_looked_at(asked: dict[str, list[Asked]], normalise: str) -> None:
    system = dataclasses.replace(SMALL, normalise=normalise, steps=Steps(epochs=1))
    assert system.adapts == (normalise == "each")
    task = asked[ZERO_SHOT][0].task
    answer = system.answer(dataclasses.replace(task, shared={})).probabilities
    assert np.array_equal(answer, system.answer(without_emotions(task)).probabilities)


def test_each_language_by_its_own_statistics_is_not_the_same(asked: dict[str, list[Asked]]) -> None:
    task = asked[ZERO_SHOT][0].task
    own, each = (
        dataclasses.replace(SMALL, normalise=normalise, steps=Steps(epochs=1)).answer(task).probabilities
        for normalise in ("source", "each")
    )
    assert not np.array_equal(own, each)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"normalise": "none"}, "normalise"),
        ({"rate": 0.0}, "rate"),
        ({"width": 10, "heads": 4}, "width"),
        ({"width": 9, "heads": 3}, "width"),
        ({"heads": 0}, "heads"),
        ({"depth": 0}, "depth"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_what_cannot_be_built_is_named(options: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        CrossAttentionFusion(**options)  # type: ignore[arg-type]
    assert caught.value.field == field


def test_a_study_without_a_speech_model_is_refused(asked: dict[str, list[Asked]]) -> None:
    task = asked[WITHIN][0].task
    scores = {"mfcc": [50.0], "prosody": [40.0]}
    lacking = dataclasses.replace(task, shared={"layer scores": scores})
    with pytest.raises(ConfigError, match="UPSTREAMS"):
        SMALL.answer(lacking)
