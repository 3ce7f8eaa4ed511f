"""Halves of speakers and labelled clips drawn from one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold
from toy_tasks import toy_languages
from toys import examples, utterance

from mser.errors import ProtocolError
from mser.manifest import Utterance
from train.benchmark.cells import halves
from train.halves import draw_shots, random_halves, speaker_halves

EMOTIONS = ("anger", "fear", "joy")
Halves = tuple[np.ndarray, np.ndarray]


def rows(counts: list[list[int]]) -> list[Utterance]:
    """Speaker by speaker as many utterances of each emotion as asked for."""
    return [
        utterance(f"s{speaker}e{emotion}n{number}", f"s{speaker}", EMOTIONS[emotion])
        for speaker, own in enumerate(counts)
        for emotion, count in enumerate(own)
        for number in range(count)
    ]


def require_halves(utterances: list[Utterance], found: Halves) -> None:
    speakers = np.array([row.speaker_id for row in utterances])
    first, second = found
    assert sorted([*first, *second]) == list(range(len(utterances)))
    assert not set(speakers[first]) & set(speakers[second])
    assert len(first)
    assert len(second)


@examples
@given(
    counts=st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3).filter(any), min_size=2, max_size=9),
    seed=st.integers(0, 5),
)
def test_random_halves_part_the_speakers_and_cover_all_rows(counts: list[list[int]], seed: int) -> None:
    utterances = rows(counts)
    found = random_halves(utterances, "de", seed)
    require_halves(utterances, found)
    again = random_halves(utterances, "de", seed)
    assert all(np.array_equal(one, other) for one, other in zip(found, again, strict=True))
    speakers = np.array([row.speaker_id for row in utterances])
    sizes = [len(set(speakers[half])) for half in found]
    assert sizes == [len(counts) // 2, len(counts) - len(counts) // 2]


def test_other_seeds_give_other_random_halves() -> None:
    utterances = rows([[2, 2, 2]] * 8)
    found = {tuple(random_halves(utterances, "de", seed)[0]) for seed in range(10)}
    assert len(found) >= 8


def test_of_several_draws_the_most_even_is_taken() -> None:
    # Two speakers are angry and two afraid: even halves have one of each.
    utterances = rows([[4, 0, 0], [4, 0, 0], [0, 4, 0], [0, 4, 0]])
    for seed in range(10):
        for half in random_halves(utterances, "de", seed):
            assert {utterances[row].emotion for row in half} == {"anger", "fear"}


def test_the_halves_of_the_benchmark_are_scikit_learns(tmp_path: Path) -> None:
    language = toy_languages(tmp_path)["it"]
    utterances = language.data.utterances
    speakers, emotions = [row.speaker_id for row in utterances], [row.emotion for row in utterances]
    splitter = StratifiedGroupKFold(2, shuffle=True, random_state=0)
    wanted = [test for _, test in splitter.split(np.zeros(len(speakers)), emotions, speakers)]
    for found in (halves(language), speaker_halves(utterances, "it")):
        assert all(np.array_equal(one, other) for one, other in zip(found, wanted, strict=True))
        require_halves(list(utterances), found)


@pytest.mark.parametrize("function", [speaker_halves, random_halves])
def test_a_single_speaker_cannot_be_parted(function: object) -> None:
    assert callable(function)
    with pytest.raises(ProtocolError, match="The target de has a single speaker") as caught:
        function(rows([[2, 2, 2]]), "de", 0)
    assert "toy/s0" in str(caught.value)


@examples
@given(labels=st.lists(st.integers(0, 3), max_size=30), k=st.integers(1, 6), seed=st.integers(0, 9))
def test_shots_are_k_of_each_label_or_all_there_are(labels: list[int], k: int, seed: int) -> None:
    given_labels = np.array(labels, dtype=np.int64)
    found = draw_shots(given_labels, 4, k, seed)
    assert np.array_equal(found, np.unique(found))
    for label in range(4):
        assert (given_labels[found] == label).sum() == min(k, labels.count(label))
    # Those of a smaller k are among those of a larger one, up to all.
    larger = draw_shots(given_labels, 4, k + 1, seed)
    assert set(found) <= set(larger) <= set(draw_shots(given_labels, 4, None, seed)) == set(range(len(labels)))
    assert np.array_equal(found, draw_shots(given_labels, 4, k, [seed]))


def test_other_seeds_draw_other_shots() -> None:
    labels = np.arange(60) % 3
    assert len({tuple(draw_shots(labels, 3, 2, [draw, half])) for draw in range(5) for half in range(2)}) == 10


def test_a_draw_of_one_label_does_not_depend_on_the_others() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    mixed = np.array([0, 0, 0, 0, 2, 1, 2, 1])
    own = [[row for row in draw_shots(one, 3, 2, 7) if one[row] == 0] for one in (labels, mixed)]
    assert own[0] == own[1]
