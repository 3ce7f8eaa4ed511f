"""Masks and mixtures by their properties: how long, where, of whom, and that nothing else is touched."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toys import examples, noise_for

from mser import augment
from mser.augment import FrameMask, draw_partners, mixed_up

SHARES = st.floats(0, 1)


def hidden(counts: list[int], dim: int, frames: float, features: float, seed: int = 0) -> list[np.ndarray]:
    """For each utterance (T, D) bool: what a mask hides."""
    ones = torch.ones(len(counts), max(counts), dim)
    found = FrameMask(frames, features)(ones, torch.tensor(counts), noise_for(range(len(counts)), seed))
    return [(one[:count] == 0).numpy() for one, count in zip(found, counts, strict=True)]


def runs(flags: np.ndarray) -> list[int]:
    """The lengths of the runs of true values."""
    return [len(list(run)) for value, run in itertools.groupby(flags) if value]


@examples
@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(1, 20), SHARES, SHARES, st.integers(0, 999))
def test_one_run_of_frames_and_one_of_features_is_hidden_and_none_is_too_long(
    counts: list[int], dim: int, frames: float, features: float, seed: int
) -> None:
    for count, mask in zip(counts, hidden(counts, dim, frames, features, seed), strict=True):
        rows, columns = mask.all(1), mask.all(0)
        # Nothing but whole frames and whole features.
        np.testing.assert_array_equal(mask, rows[:, None] | columns)
        if not rows.all():
            assert sum(runs(rows)) <= np.ceil(frames * count)
            assert sum(runs(columns)) <= np.ceil(features * dim)
            assert len(runs(rows)) <= 1
            assert len(runs(columns)) <= 1


def test_lengths_are_spread_evenly_up_to_the_share_and_places_over_the_whole_utterance() -> None:
    counts = [40] * 3000
    masks = hidden(counts, 1, frames=0.5, features=0.0)
    lengths = np.array([mask.sum() for mask in masks])
    assert lengths.max() == 20
    assert abs(lengths.mean() - 10) < 5 * np.sqrt(400 / 12 / len(counts))
    assert set(range(1, 20)) <= set(lengths.tolist())
    middles = np.array([np.flatnonzero(mask).mean() for mask in masks if mask.any()])
    assert abs(middles.mean() - 19.5) < 1
    share = np.mean([mask[:, 0] for mask in masks], axis=0)
    assert share.min() > 0.005  # the ends are the least likely
    np.testing.assert_allclose(share, share[::-1], atol=0.06)


def test_frames_and_features_are_hidden_independently() -> None:
    masks = hidden([20] * 2000, 20, frames=0.5, features=0.5)
    lengths = np.array([[mask.all(1).sum(), mask.all(0).sum()] for mask in masks])
    assert abs(np.corrcoef(lengths.T)[0, 1]) < 5 / np.sqrt(2000)


def test_what_is_not_hidden_is_as_it_was() -> None:
    x = torch.randn(3, 9, 8)
    found = FrameMask(0.6, 0.4)(x, torch.tensor([9, 5, 2]), noise_for([0, 1, 2]))
    assert torch.equal(found[found != 0], x[found != 0])
    assert (found == 0).any()


@examples
@given(st.permutations(range(6)), st.integers(0, 99))
def test_an_utterance_is_masked_alike_in_every_batch_and_at_every_padding(order: list[int], seed: int) -> None:
    counts, x = torch.tensor([3, 9, 1, 7, 5, 9]), torch.randn(6, 9, 4)
    mask = FrameMask(0.7, 0.7)
    whole = mask(x, counts, noise_for(range(6), seed))
    chosen = order[:3]
    wide = torch.nn.functional.pad(x[chosen], (0, 0, 0, 5))
    found = mask(wide, counts[chosen], noise_for(chosen, seed))
    for own, row in zip(found, chosen, strict=True):
        assert torch.equal(own[: counts[row]], whole[row, : counts[row]])


@pytest.mark.parametrize(("frames", "features", "noisy"), [(0.9, 0.9, False), (0.0, 0.0, True)])
def test_nothing_is_hidden_without_noise_or_without_a_share(frames: float, features: float, noisy: bool) -> None:
    x = torch.randn(2, 5, 4)
    assert FrameMask(frames, features)(x, torch.tensor([5, 3]), noise_for([0, 1]) if noisy else None) is x


@pytest.mark.parametrize("shares", [(-0.1, 0.0), (0.0, 1.1)])
def test_a_share_beyond_its_bounds_is_refused(shares: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        FrameMask(*shares)


@examples
@given(st.lists(st.integers(0, 1), min_size=1, max_size=12), st.floats(0, 0.5), st.integers(0, 999))
def test_partners_are_counted_utterances_and_rows_sum_to_1(counted: list[int], strength: float, seed: int) -> None:
    rows = noise_for(range(len(counted)), seed)
    found = draw_partners(rows, torch.tensor(counted).float(), strength).numpy()
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
    assert (found >= 0).all()
    # An utterance stays the larger part of its row.
    assert (found.diagonal() >= 1 - strength - 1e-6).all()
    strangers = found * (1 - np.eye(len(counted)))
    assert not strangers[:, np.array(counted) == 0].any()
    assert not strangers[np.array(counted) == 0].any()
    assert ((strangers > 0).sum(1) <= 1).all()


def test_every_counted_utterance_is_drawn_about_as_often_and_weights_are_spread_evenly() -> None:
    counted = torch.tensor([1.0, 0, 1, 1, 0, 1])
    found = np.array([draw_partners(noise_for(range(6), step=step), counted, 0.5).numpy() for step in range(3000)])
    strangers = found[:, 0, 1:]
    share = (strangers > 0).mean(0)
    np.testing.assert_allclose(share, [0, 0.25, 0.25, 0, 0.25], atol=0.04)
    weights = strangers.sum(1)[strangers.any(1)]
    assert abs(weights.mean() - 0.25) < 0.02
    assert weights.max() > 0.49


def test_uncounted_utterances_of_a_batch_change_no_partner() -> None:
    alone = draw_partners(noise_for([4, 7, 9]), torch.ones(3), 0.4)
    beside = draw_partners(noise_for([1, 4, 2, 7, 9]), torch.tensor([0.0, 1, 0, 1, 1]), 0.4)
    assert torch.equal(beside[[1, 3, 4]][:, [1, 3, 4]], alone)


def test_the_last_number_that_can_be_drawn_has_a_partner_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment, "uniform", lambda noise, place, count: torch.ones(3, count))
    found = draw_partners(noise_for([0, 1, 2]), torch.tensor([1.0, 1, 0]), 0.5)
    assert found.tolist() == [[0.5, 0.5, 0], [0, 1, 0], [0, 0, 1]]


def test_mixed_up_embeddings_are_the_weighted_sums_of_a_loop() -> None:
    embeddings, weights = torch.randn(4, 3), torch.rand(4, 4).softmax(1)
    expected = [sum(weights[i, j] * embeddings[j] for j in range(4)) for i in range(4)]
    torch.testing.assert_close(mixed_up(embeddings, weights), torch.stack(expected))
    assert mixed_up(embeddings, None) is embeddings
