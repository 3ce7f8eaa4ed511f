"""Batches from real stores, against plain loops and numpy over the very frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toys import examples, expert_of, random_states, utterance

from mser.errors import ConfigError, StoreError
from mser.loader import Batch, Expert, Loader, frames_expert, moments_over, pooled_expert, reduced
from mser.manifest import Utterance
from mser.store import Provenance, ShardEntry, Store, open_or_create, write_shard

LAYERS, DIM, RATE = 3, 5, 50.0
COUNTS = [7, 1, 12, 4, 9, 2, 6, 11]


def make_store(folder: Path, rows: Sequence[Utterance], seed: int = 0, revision: str = "1") -> Store:
    """A store of noise in two shards, far from mean 0 and deviation 1, the last feature constant."""
    upstream = {"name": "toy", "layers": LAYERS, "dim": DIM, "frame_rate": RATE, "revision": revision}
    provenance = Provenance(rows[0].corpus, upstream, dtype="float32")
    open_or_create(folder, provenance)
    states = [3 + 2 * x for x in random_states(COUNTS, LAYERS, DIM, seed)]
    for x in states:
        x[:, :, -1] = 0.5
    entries = [ShardEntry(row.utterance_id, row.sha256, x) for row, x in zip(rows, states, strict=False)]
    for part in (entries[:3], entries[3:]):
        write_shard(folder, provenance, part)
    return Store(folder)


@pytest.fixture
def rows() -> list[Utterance]:
    return [utterance(f"u{number}") for number in range(len(COUNTS))]


@pytest.fixture
def store(tmp_path: Path, rows: list[Utterance]) -> Store:
    return make_store(tmp_path / "toy", rows)


LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
MAKERS: dict[str, Callable[[Store, list[Utterance]], Expert]] = {
    "every frame": lambda store, rows: frames_expert({"toy": store}, rows, RATE),
    "two averaged": lambda store, rows: frames_expert({"toy": store}, rows, 30.0),
    "ten averaged": lambda store, rows: frames_expert({"toy": store}, rows, 5.0),
    "pooled": lambda store, rows: pooled_expert({"toy": store}, rows),
}


def identical(one: Batch, other: Batch) -> bool:
    """Equal bit for bit."""
    pairs = [*zip(one.states, other.states, strict=True), *zip(one.lengths, other.lengths, strict=True)]
    return all(torch.equal(a, b) for a, b in [*pairs, (one.labels, other.labels)])


@pytest.mark.parametrize("standardised", [False, True])
@pytest.mark.parametrize("maker", MAKERS)
def test_batches_are_the_same_bit_for_bit_from_memory_and_from_disk(
    store: Store, rows: list[Utterance], maker: str, standardised: bool
) -> None:
    streamed = MAKERS[maker](store, rows)
    streamed = streamed.standardised(np.arange(5)) if standardised else streamed
    resident = streamed.resident()
    part = streamed.resident(np.array([6, 2, 4]))
    batches = [
        list(Loader([expert], LABELS).epoch(np.arange(8), batch_size=8, seed=1, epoch=2))
        for expert in (streamed, resident)
    ]
    assert identical(batches[0][0], batches[1][0])
    chosen = np.array([4, 2, 6])
    assert identical(Loader([streamed], LABELS).gather(chosen), Loader([part], LABELS).gather(chosen))


@examples
@given(st.integers(1, 3), st.integers(1, 40), st.integers(1, 12), st.integers(0, 9))
def test_reduced_averages_runs_of_frames(layers: int, frames: int, factor: int, seed: int) -> None:
    states = random_states([frames], layers, 2, seed)[0]
    found = reduced(states, factor)
    expected = [states[:, start : start + factor].numpy().mean(1) for start in range(0, frames, factor)]
    np.testing.assert_allclose(found.numpy(), np.stack(expected, axis=1), atol=1e-6)


@pytest.mark.parametrize(("maker", "factor"), [("every frame", 1), ("two averaged", 2), ("ten averaged", 10)])
def test_expert_reads_the_stored_frames_at_the_reduced_rate(
    store: Store, rows: list[Utterance], maker: str, factor: int
) -> None:
    expert = MAKERS[maker](store, rows)
    assert (expert.name, expert.layers, expert.dim) == ("toy", LAYERS, DIM)
    for number, row in enumerate(rows):
        expected = reduced(torch.from_numpy(store.frames(row.utterance_id).copy()), factor)
        assert torch.equal(expert[number], expected)
        assert expert.frames[number] == expected.shape[1]


def test_what_is_read_can_be_written_to_without_harm_to_the_store(store: Store, rows: list[Utterance]) -> None:
    expert = MAKERS["every frame"](store, rows)
    before = expert[0].clone()
    expert[0].zero_()
    assert torch.equal(expert[0], before)


def test_pooled_expert_holds_means_and_deviations_as_one_frame(store: Store, rows: list[Utterance]) -> None:
    expert = MAKERS["pooled"](store, rows)
    for number, row in enumerate(rows):
        frames = store.frames(row.utterance_id)
        expected = np.concatenate([frames.mean(1), frames.std(1)], axis=1)[:, None]
        np.testing.assert_allclose(expert[number].numpy(), expected, atol=1e-5)
    assert expert.frames.tolist() == [1] * len(rows)
    assert expert.dim == 2 * DIM


@examples
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 99))
def test_moments_over_equals_numpy_over_all_frames(counts: list[int], seed: int) -> None:
    states = [5 + 3 * x for x in random_states(counts, seed=seed)]
    expert = expert_of(states)
    mean, deviation = moments_over(expert.moments, expert.frames)
    joined = torch.cat(states, dim=1).double().numpy()
    np.testing.assert_allclose(mean.numpy(), joined.mean(1), atol=1e-5)
    np.testing.assert_allclose(deviation.numpy(), joined.std(1), atol=1e-4)


@pytest.mark.parametrize("maker", ["every frame", "pooled"])
def test_standardised_training_frames_have_mean_0_and_deviation_1(
    store: Store, rows: list[Utterance], maker: str
) -> None:
    chosen = np.array([0, 2, 3, 5, 7])
    expert = MAKERS[maker](store, rows).standardised(chosen)
    joined = torch.cat([expert[row] for row in chosen.tolist()], dim=1).double()
    constant = [DIM - 1] if maker == "every frame" else [DIM - 1, 2 * DIM - 1]
    varying = [feature for feature in range(expert.dim) if feature not in constant]
    np.testing.assert_allclose(joined.mean(1)[:, varying], 0, atol=1e-5)
    np.testing.assert_allclose(joined.std(1, correction=0)[:, varying], 1, atol=1e-4)
    assert (joined[:, :, constant] == 0).all()


def test_standardisation_looks_at_training_rows_only() -> None:
    states = random_states([3, 4, 5])
    states[2][:] = float("nan")
    expert = expert_of(states).standardised(np.array([0, 1]))
    assert expert[0].isfinite().all()
    assert expert[1].isfinite().all()


def test_gather_pads_with_zeros_and_keeps_rows_lengths_and_labels_together() -> None:
    experts = [expert_of(random_states(COUNTS, seed=0)), expert_of(random_states(COUNTS[::-1], dim=3, seed=1))]
    loader = Loader(experts, LABELS)
    loader.gather(np.arange(8))  # leaves its values in the buffers
    chosen = np.array([5, 1, 0])
    batch = loader.gather(chosen)
    assert torch.equal(batch.labels, LABELS[[5, 1, 0]])
    for expert, states, lengths in zip(experts, batch.states, batch.lengths, strict=True):
        assert lengths.tolist() == expert.frames[[5, 1, 0]].tolist()
        assert states.shape == (3, 2, int(lengths.max()), expert.dim)
        for row, own, length in zip(chosen.tolist(), states, lengths.tolist(), strict=True):
            assert torch.equal(own[:, :length], expert[row])
            assert (own[:, length:] == 0).all()


def test_a_loader_that_predicted_can_train() -> None:
    loader = Loader([expert_of(random_states(COUNTS))], LABELS)
    with torch.inference_mode():
        loader.gather(np.arange(8))
    states = loader.gather(np.array([0, 2])).states[0]
    weight = torch.ones(4, requires_grad=True)
    (states * weight).sum().backward()
    np.testing.assert_allclose(weight.grad, states.sum((0, 1, 2)))


@examples
@given(st.integers(1, 400), st.integers(1, 200), st.integers(0, 5), st.integers(0, 5))
def test_order_gives_the_batches_asked_for_and_every_row_once(size: int, batches: int, seed: int, epoch: int) -> None:
    frames = torch.from_numpy(np.random.default_rng(size).integers(1, 9, 2 * size))
    expert = Expert("toy", lambda row: torch.zeros(1), frames, torch.zeros(2 * size, 1, 2, 1))
    rows = np.random.default_rng(batches).permutation(2 * size)[:size]
    cut = Loader([expert], frames).order(rows, batches, seed, epoch)
    assert len(cut) == batches
    assert sorted(np.concatenate(cut).tolist()) == sorted(rows.tolist())
    if batches <= size:
        assert min(map(len, cut)) >= 1
        assert max(map(len, cut)) <= size // batches + 2


def test_order_depends_on_seed_and_epoch_alone() -> None:
    loader = Loader([expert_of(random_states([2] * 30))], torch.zeros(30, dtype=torch.int64))

    def order(seed: int, epoch: int) -> list[list[int]]:
        return [part.tolist() for part in loader.order(np.arange(30), 6, seed, epoch)]

    first = order(3, 1)
    np.random.seed(99)
    torch.manual_seed(99)
    assert order(3, 1) == first
    assert order(4, 1) != first
    assert order(3, 2) != first


def test_batches_hold_utterances_of_like_length() -> None:
    frames = np.random.default_rng(0).integers(1, 100, 320)
    loader = Loader([expert_of(random_states(frames.tolist(), 1, 1))], torch.zeros(320, dtype=torch.int64))

    def padded(parts: list[np.ndarray]) -> int:
        return sum(len(part) * frames[part].max() for part in parts)

    ordered = padded(loader.order(np.arange(320), 20, seed=0, epoch=0))
    unordered = padded(np.array_split(np.random.default_rng(1).permutation(320), 20))
    assert ordered < 1.1 * frames.sum() < unordered


@pytest.mark.parametrize("batch_size", [1, 3, 8, 100])
def test_an_epoch_covers_every_row_once(batch_size: int) -> None:
    loader = Loader([expert_of(random_states(COUNTS))], torch.arange(8))
    labels = torch.cat([batch.labels for batch in loader.epoch(np.array([0, 1, 2, 5, 7]), batch_size, 0, 0)])
    assert sorted(labels.tolist()) == [0, 1, 2, 5, 7]


def test_rows_of_two_corpora_come_from_their_own_stores(tmp_path: Path) -> None:
    left = [utterance(f"u{number}", corpus="left") for number in range(8)]
    right = [utterance(f"u{number}", corpus="right") for number in range(8)]
    stores = {
        "left": make_store(tmp_path / "left" / "toy", left, seed=1),
        "right": make_store(tmp_path / "right" / "toy", right, seed=2),
    }
    mixed = [row for pair in zip(right, left, strict=True) for row in pair]
    expert = frames_expert(stores, mixed, RATE)
    for number, row in enumerate(mixed):
        frames = stores[row.corpus].frames(row.utterance_id)
        np.testing.assert_array_equal(expert[number].numpy(), frames)
        np.testing.assert_allclose(expert.moments[number, :, 0], frames.mean(1), atol=1e-5)


@pytest.mark.parametrize("maker", ["every frame", "pooled"])
def test_a_store_that_lacks_an_utterance_is_refused(store: Store, rows: list[Utterance], maker: str) -> None:
    with pytest.raises(StoreError, match="lacks utterances") as error:
        MAKERS[maker](store, [*rows, utterance("new")])
    assert "1 missing, 0 of other recordings; first: toy/new" in str(error.value)
    assert 'make extract LANG=de UPSTREAMS="toy"' in (error.value.hint or "")
    assert "REPLACE_CHANGED" not in (error.value.hint or "")


def test_a_recording_changed_since_is_refused(store: Store, rows: list[Utterance]) -> None:
    changed = [*rows[:-1], utterance("u7", sha256="0" * 64)]
    with pytest.raises(StoreError, match="0 missing, 1 of other recordings; first: toy/u7") as error:
        frames_expert({"toy": store}, changed, RATE)
    assert "REPLACE_CHANGED=1" in (error.value.hint or "")


def test_stores_of_different_upstreams_are_refused(tmp_path: Path) -> None:
    left = [utterance(f"u{number}", corpus="left") for number in range(8)]
    right = [utterance(f"u{number}", corpus="right") for number in range(8)]
    stores = {
        "left": make_store(tmp_path / "left", left),
        "right": make_store(tmp_path / "right", right, revision="2"),
    }
    with pytest.raises(StoreError, match="different upstreams") as error:
        frames_expert(stores, [*left, *right], RATE)
    assert error.value.hint


def test_a_loader_without_experts_is_refused() -> None:
    with pytest.raises(ConfigError, match="UPSTREAMS"):
        Loader([], LABELS)
