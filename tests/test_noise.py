"""Noise without a state: who decides what is dropped, and how often it is, by statistics with fixed seeds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import vmap
from toys import examples, noise_for

from mser.noise import Dropout, Noise, mixed, number_places, offsets, random_numbers, uniform

#: Deviations within which a statistic must lie; beyond 5 falls one in two million.
SIGMAS = 5


def dropout(p: float = 0.3, place: int = 3) -> Dropout:
    made = Dropout(p)
    made.place = place
    return made


def kept(rows: list[int], values: int, p: float = 0.5, seed: int = 0, step: int = 0, place: int = 3) -> np.ndarray:
    """(B, values) bool: what a dropout keeps."""
    return (dropout(p, place)(torch.ones(len(rows), values), noise_for(rows, seed, step)) != 0).numpy()


@examples
@given(st.permutations(range(9)), st.integers(1, 9), st.integers(0, 2**31 - 1), st.integers(0, 10_000))
def test_an_utterance_meets_the_same_decisions_in_whatever_batch_it_is(
    order: list[int], size: int, seed: int, step: int
) -> None:
    whole = kept(list(range(9)), 40, seed=seed, step=step)
    np.testing.assert_array_equal(kept(order[:size], 40, seed=seed, step=step), whole[order[:size]])


@pytest.mark.parametrize("longer", [6, 9, 40])
def test_padding_behind_an_utterance_changes_no_decision_on_its_frames(longer: int) -> None:
    x, noise = torch.ones(3, longer, 7), noise_for([5, 1, 8])
    assert torch.equal(dropout()(x, noise)[:, :5], dropout()(x[:, :5], noise))


def test_under_vmap_over_seeds_the_decisions_are_those_of_each_seed_alone() -> None:
    seeds, step = torch.tensor([0, 1, 77, 2**31 - 1], dtype=torch.int32), torch.tensor(5, dtype=torch.int32)
    rows = torch.tensor([[0, 1, 2], [7, 3, 5], [2, 2, 9], [0, 1, 2]], dtype=torch.int32)
    x = torch.randn(4, 3, 6, 5, generator=torch.Generator().manual_seed(0))

    def one(x: Tensor, seed: Tensor, rows: Tensor) -> Tensor:
        return dropout()(x, Noise.of(seed, step, rows))

    together = vmap(one)(x, seeds, rows)
    for number in range(4):
        assert torch.equal(together[number], one(x[number], seeds[number], rows[number]))
    # Replicas of one seed that share a batch share its noise.
    shared = vmap(one, in_dims=(0, None, None))(x, seeds[1], rows[1])
    assert torch.equal(shared[2], one(x[2], seeds[1], rows[1]))


def test_the_numbers_of_a_place_do_not_depend_on_which_length_was_asked_for_first() -> None:
    device = torch.device("cpu")
    short, long, middle = (offsets(4_711, count, device) for count in (5, 40, 17))
    assert (len(short), len(long), len(middle)) == (5, 40, 17)
    assert torch.equal(short, long[:5])
    assert torch.equal(middle, long[:17])
    # Shorter ones are views: nothing is hashed, or copied to a device, again.
    assert offsets(4_711, 17, device).data_ptr() == middle.data_ptr() == long.data_ptr()


def test_random_generators_play_no_part() -> None:
    torch.manual_seed(0)
    first, state = kept([1, 2, 3], 50), torch.get_rng_state()
    torch.manual_seed(1)
    np.testing.assert_array_equal(kept([1, 2, 3], 50), first)
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("p", [0.0, 1e-3, 0.1, 0.3, 0.5, 0.9])
def test_values_are_dropped_with_probability_p_and_the_others_scaled_by_what_is_left(p: float) -> None:
    found = dropout(p)(torch.ones(200, 1000), noise_for(range(200)))
    assert set(found.unique().tolist()) <= {0.0, float(torch.tensor(1 / (1 - p)))}
    share = (found == 0).float().mean().item()
    assert abs(share - p) <= SIGMAS * np.sqrt(p * (1 - p) / found.numel())


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.75])
def test_the_threshold_is_p_of_all_numbers(p: float) -> None:
    # Of 2^32 equally likely numbers, those below the threshold are dropped.
    assert (dropout(p).threshold + 2**31) / 2**32 == pytest.approx(p, abs=2**-32)


def test_every_place_of_a_row_and_every_row_is_dropped_as_often() -> None:
    found = kept(list(range(4000)), 64).astype(float)
    for axis, count in ((0, 4000), (1, 64)):
        shares = found.mean(axis)
        assert np.abs(shares - 0.5).max() < SIGMAS * 0.5 / np.sqrt(count)
        # Not more even than chance, either.
        assert 0.8 < shares.var() / (0.25 / count) < 1.5 if axis else shares.var() > 0.4 * 0.25 / count


def agreement(one: np.ndarray, other: np.ndarray) -> float:
    """Deviations by which the share of equal decisions differs from that of independent ones with p = 0.5."""
    return abs((one == other).mean() - 0.5) / (0.5 / np.sqrt(one.size))


ROWS = list(range(300))


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"seed": 2},
        {"seed": 2**31 - 1},
        {"step": 1},
        {"step": 2},
        {"step": 1024},
        {"place": 4},
        {"place": 2},
    ],
    ids=str,
)
def test_seeds_steps_and_places_decide_independently(change: dict[str, int]) -> None:
    assert agreement(kept(ROWS, 256), kept(ROWS, 256, **change)) < SIGMAS


def test_seed_and_step_do_not_stand_in_for_each_other() -> None:
    assert agreement(kept(ROWS, 256, seed=1, step=2), kept(ROWS, 256, seed=2, step=1)) < SIGMAS
    assert agreement(kept(ROWS, 256, seed=1, step=0), kept(ROWS, 256, seed=0, step=1)) < SIGMAS


@pytest.mark.parametrize("lag", [1, 2, 3, 4, 8, 16, 64, 128])
def test_neighbouring_values_and_neighbouring_rows_decide_independently(lag: int) -> None:
    found = kept(ROWS, 256)
    assert agreement(found[:, lag:], found[:, :-lag]) < SIGMAS
    assert agreement(found[lag:], found[:-lag]) < SIGMAS


def test_steps_that_follow_each_other_decide_independently_for_one_value() -> None:
    over_time = np.array([kept(ROWS[:40], 16, step=step) for step in range(200)])
    for lag in (1, 2, 5):
        assert agreement(over_time[lag:], over_time[:-lag]) < SIGMAS


def test_uniform_numbers_are_uniform() -> None:
    drawn = uniform(noise_for(range(500)), place=1, count=100)
    assert (drawn >= 0).all()
    assert (drawn <= 1).all()
    counts = torch.histc(drawn, bins=50, min=0, max=1).numpy()
    expected = drawn.numel() / 50
    chi_square = ((counts - expected) ** 2 / expected).sum()
    # 49 degrees of freedom: mean 49, deviation sqrt(98).
    assert abs(chi_square - 49) < SIGMAS * np.sqrt(98)


def test_mixing_loses_no_number_and_flips_half_of_the_bits() -> None:
    numbers = torch.arange(-50_000, 50_000, dtype=torch.int32)
    assert len(mixed(numbers).unique()) == len(numbers)
    for bit in range(32):
        turned = numbers ^ torch.tensor(-(2**31) if bit == 31 else 2**bit, dtype=torch.int32)
        changed = (mixed(numbers) ^ mixed(turned)).numpy().view(np.uint32)
        flipped = np.unpackbits(changed.view(np.uint8)).mean()
        assert 0.45 < flipped < 0.55


def test_without_noise_or_with_p_0_values_are_handed_on() -> None:
    x = torch.randn(2, 3)
    assert dropout()(x, None) is x
    assert dropout(0.0)(x, noise_for([0, 1])) is x


def test_gradients_flow_through_what_is_kept_alone() -> None:
    x = torch.randn(4, 50, requires_grad=True)
    found = dropout(0.4)(x, noise_for([0, 1, 2, 3]))
    found.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.where(found != 0, 1 / 0.6, 0.0))


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5])
def test_a_probability_beyond_its_bounds_is_refused(p: float) -> None:
    with pytest.raises(ValueError, match="from 0 to below 1"):
        Dropout(p)


def test_every_dropout_of_a_model_gets_a_place_of_its_own() -> None:
    model = nn.ModuleDict({"a": Dropout(0.1), "b": nn.ModuleList([Dropout(0.1), nn.Linear(2, 2), Dropout(0.1)])})
    number_places(model)
    places = [module.place for module in model.modules() if isinstance(module, Dropout)]
    assert len(set(places)) == 3


@pytest.mark.cuda
def test_a_cuda_device_decides_as_a_cpu_does() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    noise = noise_for(range(100), seed=3, step=9)
    moved = Noise(*(value.cuda() for value in noise))
    assert torch.equal(random_numbers(moved, 5, 1000).cpu(), random_numbers(noise, 5, 1000))
    x = torch.randn(100, 1000)
    assert torch.equal(dropout()(x.cuda(), moved).cpu(), dropout()(x, noise))
