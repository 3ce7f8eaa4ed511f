"""The states of an upstream and their moments, against numpy over the very frames."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from toys import utterance

from mser.errors import StoreError
from mser.experts import Expert, frames_expert, moments_over, pooled_expert, pooled_moments
from mser.loader import Loader
from mser.manifest import Utterance
from mser.sources import HeldStates, Scratch, StoredFrames, all_finite, mapping_of, reduced
from mser.store import Provenance, ShardEntry, Store, open_or_create, write_shard

LAYERS, DIM, RATE = 3, 5, 50.0
COUNTS = [7, 1, 12, 4, 9, 2, 6, 11]
GROUPS = [30, 10, 30, 20, 10, 10, 30, 10]
examples = settings(max_examples=40, deadline=None)


def random_states(counts: Sequence[int], layers: int = 2, dim: int = 4, seed: int = 0) -> list[Tensor]:
    """States (L, T, D) of noise, far from mean 0 and deviation 1."""
    rng = torch.Generator().manual_seed(seed)
    return [5 + 3 * torch.randn(layers, count, dim, generator=rng) for count in counts]


def make_store(
    folder: Path,
    rows: Sequence[Utterance],
    dtype: str = "float32",
    seed: int = 0,
    revision: str = "1",
    factor: float = 1,
) -> Store:
    """A store of noise in two shards, the last feature constant."""
    upstream = {"name": "toy", "layers": LAYERS, "dim": DIM, "frame_rate": RATE, "revision": revision}
    provenance = Provenance(rows[0].corpus, upstream, dtype=dtype)
    open_or_create(folder, provenance)
    states = random_states(COUNTS, LAYERS, DIM, seed)
    for x in states:
        x[:, :, -1] = 0.5
        x *= factor
    entries = [ShardEntry(row.utterance_id, row.sha256, x) for row, x in zip(rows, states, strict=True)]
    # The second shard holds the first rows: a cache is read in another order than that of the rows.
    for part in (entries[5:], entries[:5]):
        write_shard(folder, provenance, part)
    return Store(folder)


ROWS = [utterance(f"u{number}") for number in range(len(COUNTS))]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path / "toy", ROWS)


Maker = Callable[[Mapping[str, Store], Sequence[Utterance]], Expert]
MAKERS: dict[str, Maker] = {
    "every frame": lambda stores, rows: frames_expert(stores, rows, RATE),
    "two averaged": lambda stores, rows: frames_expert(stores, rows, 30.0),
    "ten averaged": lambda stores, rows: frames_expert(stores, rows, 5.0),
    "pooled": pooled_expert,
}


def joined(states: Sequence[Tensor | np.ndarray]) -> np.ndarray:
    """(L, sum T, D) float64."""
    return np.concatenate([np.asarray(x, dtype=np.float64) for x in states], axis=1)


@examples
@given(st.integers(1, 3), st.integers(1, 40), st.integers(1, 12), st.integers(0, 9))
def test_reduced_averages_runs_of_frames(layers: int, frames: int, factor: int, seed: int) -> None:
    states = random_states([frames], layers, 2, seed)[0]
    found = reduced(states, factor)
    expected = [states[:, start : start + factor].numpy().mean(1) for start in range(0, frames, factor)]
    np.testing.assert_allclose(found.numpy(), np.stack(expected, axis=1), atol=1e-5)


@pytest.mark.parametrize(("maker", "factor"), [("every frame", 1), ("two averaged", 2), ("ten averaged", 10)])
def test_an_expert_reads_the_stored_frames_at_the_reduced_rate(store: Store, maker: str, factor: int) -> None:
    expert = MAKERS[maker]({"toy": store}, ROWS)
    assert (expert.name, expert.layers, expert.dim) == ("toy", LAYERS, DIM)
    for number, row in enumerate(ROWS):
        expected = reduced(torch.from_numpy(store.frames(row.utterance_id).copy()), factor)
        assert torch.equal(expert[number], expected)
        assert expert.frames[number] == expected.shape[1]


def test_what_is_read_can_be_written_to_without_harm_to_the_store(store: Store) -> None:
    expert = frames_expert({"toy": store}, ROWS, RATE)
    before = expert[0].clone()
    expert[0].zero_()
    assert torch.equal(expert[0], before)
    first, second = expert[0], expert[2]
    assert torch.equal(first, before)
    assert not torch.equal(second[:, : first.shape[1]], first)


def test_a_pooled_expert_holds_means_and_deviations_as_one_frame(store: Store) -> None:
    expert = pooled_expert({"toy": store}, ROWS)
    for number, row in enumerate(ROWS):
        frames = store.frames(row.utterance_id)
        expected = np.concatenate([frames.mean(1), frames.std(1)], axis=1)[:, None]
        np.testing.assert_allclose(expert[number].numpy(), expected, atol=1e-5)
    assert expert.frames.tolist() == [1] * len(ROWS)
    assert (expert.dim, expert.dtype) == (2 * DIM, torch.float32)


@pytest.mark.parametrize("rate", [RATE, 5.0])
@pytest.mark.parametrize("dtype", ["float16", "float32", "int8"])
def test_a_cache_loses_nothing(tmp_path: Path, dtype: str, rate: float) -> None:
    store = make_store(tmp_path / "toy", ROWS, dtype, factor=1e4 if dtype == "int8" else 1)  # beyond float16
    expert = frames_expert({"toy": store}, ROWS, rate)
    assert expert.dtype == (torch.float16 if (dtype, rate) == ("float16", RATE) else torch.float32)
    batch = Loader([expert], torch.zeros(8, dtype=torch.int64), placement="memory").gather(np.arange(8))
    for number, row in enumerate(ROWS):
        stored = torch.from_numpy(store.frames(row.utterance_id).astype(np.float32))
        exact = reduced(stored, round(RATE / rate))
        assert torch.equal(expert[number], exact)
        assert torch.equal(batch.states[0][number, : exact.shape[1]], exact.transpose(0, 1))


@examples
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 99))
def test_moments_over_equals_numpy_over_all_frames(counts: list[int], seed: int) -> None:
    states = random_states(counts, seed=seed)
    expert = Expert.of_states("toy", states)
    mean, deviation = moments_over(expert.moments, expert.frames)
    np.testing.assert_allclose(mean.numpy(), joined(states).mean(1), atol=1e-5)
    np.testing.assert_allclose(deviation.numpy(), joined(states).std(1), atol=1e-4)


def test_moments_over_many_utterances() -> None:
    states = random_states([1 + number % 3 for number in range(700)], 1, 2)
    expert = Expert.of_states("toy", states)
    mean, deviation = moments_over(expert.moments, expert.frames)
    np.testing.assert_allclose(mean.numpy(), joined(states).mean(1), atol=1e-5)
    np.testing.assert_allclose(deviation.numpy(), joined(states).std(1), atol=1e-5)


@pytest.mark.parametrize("maker", ["every frame", "pooled"])
def test_standard_gives_training_frames_mean_0_and_deviation_1(store: Store, maker: str) -> None:
    chosen = np.array([0, 2, 3, 5, 7])
    expert = MAKERS[maker]({"toy": store}, ROWS)
    shift, scale = expert.standard(chosen)
    assert shift.shape == scale.shape == (LAYERS, expert.dim)
    found = (joined([expert[row] for row in chosen.tolist()]) - shift.numpy()[:, None]) * scale.numpy()[:, None]
    constant = [DIM - 1] if maker == "every frame" else [DIM - 1, 2 * DIM - 1]
    varying = [feature for feature in range(expert.dim) if feature not in constant]
    np.testing.assert_allclose(found.mean(1)[:, varying], 0, atol=1e-5)
    np.testing.assert_allclose(found.std(1)[:, varying], 1, atol=1e-4)
    assert (found[:, :, constant] == 0).all()
    assert torch.equal(expert.standard(torch.from_numpy(chosen))[0], shift)


def test_standard_looks_at_training_rows_only() -> None:
    states = random_states([3, 4, 5])
    states[2][:] = float("nan")
    assert all(x.isfinite().all() for x in Expert.of_states("toy", states).standard(np.array([0, 1])))


@pytest.mark.parametrize("maker", ["every frame", "pooled"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_by_group_standardises_each_group_on_its_own_frames(tmp_path: Path, maker: str, dtype: str) -> None:
    expert = MAKERS[maker]({"toy": make_store(tmp_path / "toy", ROWS, dtype)}, ROWS)
    found = expert.by_group(torch.tensor(GROUPS))
    assert (found.name, found.dtype, found.frames.tolist()) == (expert.name, expert.dtype, expert.frames.tolist())
    for group in set(GROUPS):
        rows = [row for row, other in enumerate(GROUPS) if other == group]
        whole = joined([expert[row] for row in rows])
        deviation = whole.std(1)
        for row in rows:
            own = (expert[row].double().numpy() - whole.mean(1)[:, None]) * np.where(
                deviation > 1e-3, 1 / np.maximum(deviation, 1e-5), 0
            )[:, None]
            np.testing.assert_allclose(found[row].numpy(), own, atol=3e-3 if dtype == "float16" else 1e-4)
            np.testing.assert_allclose(found.moments[row, :, 0].numpy(), own.mean(1), atol=2e-3)
            np.testing.assert_allclose(found.moments[row, :, 1].numpy(), own.std(1), atol=2e-3)
    # A pooled utterance that is a group by itself is all zeros.
    shift, scale = found.standard(np.array([row for row in range(8) if GROUPS[row] != 20 or maker != "pooled"]))
    np.testing.assert_allclose(shift.numpy(), 0, atol=1e-4)
    np.testing.assert_allclose(scale.numpy()[scale.numpy() > 0], 1, atol=1e-3)


def test_by_group_leaves_the_expert_as_it_was(store: Store) -> None:
    for maker in ("every frame", "pooled"):
        expert = MAKERS[maker]({"toy": store}, ROWS)
        moments, states = expert.moments.clone(), expert[3].clone()
        expert.by_group(torch.tensor(GROUPS))
        assert torch.equal(expert.moments, moments)
        assert torch.equal(expert[3], states)


def test_a_group_of_one_pooled_utterance_becomes_zeros(store: Store) -> None:
    found = pooled_expert({"toy": store}, ROWS).by_group(torch.tensor([0, 1, 1, 1, 1, 1, 1, 1]))
    assert (found[0] == 0).all()
    assert (found[1] != 0).any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize(("layers", "counts"), [(1, [1]), (1, [4, 1]), (3, [2, 5])])
def test_states_in_memory_are_held_as_they_are(dtype: torch.dtype, layers: int, counts: list[int]) -> None:
    states = [x.to(dtype) for x in random_states(counts, layers)]
    expert = Expert.of_states("toy", states)
    assert (expert.dtype, expert.layers, expert.dim, expert.frames.tolist()) == (dtype, layers, 4, counts)
    for row, x in enumerate(states):
        assert torch.equal(expert[row], x.float())
        np.testing.assert_allclose(expert.moments[row, :, 0], x.float().numpy().mean(1), atol=1e-5)
        np.testing.assert_allclose(expert.moments[row, :, 1], x.float().numpy().std(1), atol=1e-5)


def test_rows_of_two_corpora_come_from_their_own_stores(tmp_path: Path) -> None:
    left, right = ([utterance(f"u{number}", corpus=corpus) for number in range(8)] for corpus in ("left", "right"))
    stores = {
        "left": make_store(tmp_path / "left" / "toy", left, seed=1),
        "right": make_store(tmp_path / "right" / "toy", right, seed=2),
    }
    mixed = [row for pair in zip(right, left, strict=True) for row in pair]
    expert = frames_expert(stores, mixed, RATE)
    batch = Loader([expert], torch.zeros(16, dtype=torch.int64), placement="memory").gather(np.arange(16))
    for number, row in enumerate(mixed):
        frames = stores[row.corpus].frames(row.utterance_id)
        np.testing.assert_array_equal(expert[number].numpy(), frames)
        np.testing.assert_array_equal(batch.states[0][number, : frames.shape[1]].numpy(), frames.transpose(1, 0, 2))
        np.testing.assert_allclose(expert.moments[number, :, 0], frames.mean(1), atol=1e-5)


# ----- the disk


def test_a_store_is_read_in_the_order_of_the_disk(store: Store) -> None:
    source = StoredFrames({"toy": store}, ROWS, 1)
    sequence = source.sequence()
    assert sorted(sequence) == list(range(8))
    on_disk = [key for shard in store.shards for key in shard.utterance_ids]
    assert [ROWS[row].utterance_id for row in sequence] == on_disk


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_reading_ahead_asks_for_the_pages_of_every_layer(
    tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path / "toy", ROWS, dtype)
    source = StoredFrames({"toy": store}, ROWS, 1)
    source.ahead(range(8))  # by the system itself
    asked: list[tuple[int, int]] = []

    class Recording:
        def madvise(self, option: int, start: int, length: int) -> None:
            assert option == mmap.MADV_WILLNEED
            assert start % mmap.PAGESIZE == 0
            asked.append((start, start + length))

    shard = next(shard for shard in store.shards if "toy/u2" in shard.utterance_ids)
    place, number = shard.utterance_ids.index("toy/u2"), store.shards.index(shard)
    mapped = mapping_of(shard.states)
    assert mapped is not None
    monkeypatch.setitem(source._mappings, ("toy", number), (Recording(), mapped[1]))
    source.ahead([2])
    content = shard.path.read_bytes()
    stored = shard.states[:, shard.offsets[place] : shard.offsets[place + 1]]
    assert len(asked) == LAYERS
    for (start, end), layer in zip(asked, stored, strict=True):
        assert content[start:end].endswith(layer.tobytes())


def test_states_that_were_read_into_memory_have_no_mapping() -> None:
    assert mapping_of(np.zeros((2, 3, 4))[:, 1:]) is None


def test_a_scratch_buffer_begins_on_a_page_and_grows() -> None:
    scratch = Scratch()
    first = scratch.view((3, 5), torch.float16).fill_(1)
    assert first.data_ptr() % mmap.PAGESIZE == 0
    again = scratch.view((2, 2), torch.float32)
    assert again.data_ptr() == first.data_ptr()
    assert scratch.view((300, 500), torch.float32).shape == (300, 500)


@examples
@given(
    st.integers(0, 200), st.sampled_from([float("nan"), float("inf"), -float("inf")]),
    st.sampled_from([torch.float16, torch.float32]),
)  # fmt: skip
def test_one_value_that_is_not_finite_is_found(place: int, value: float, dtype: torch.dtype) -> None:
    values = torch.full((201,), torch.finfo(dtype).max, dtype=dtype)
    assert all_finite(values)
    values[place] = value
    assert not all_finite(values)
    assert all_finite(torch.empty(0))


# ----- stores that do not fit


@pytest.mark.parametrize("maker", ["every frame", "pooled"])
def test_a_store_that_lacks_an_utterance_is_refused(store: Store, maker: str) -> None:
    with pytest.raises(StoreError, match="lacks utterances") as error:
        MAKERS[maker]({"toy": store}, [*ROWS, utterance("new")])
    assert "1 missing, 0 of other recordings; first: toy/new" in str(error.value)
    assert 'make extract LANG=de UPSTREAMS="toy"' in (error.value.hint or "")
    assert "REPLACE_CHANGED" not in (error.value.hint or "")


def test_a_recording_changed_since_is_refused(store: Store) -> None:
    changed = [*ROWS[:-1], replace(ROWS[-1], sha256="0" * 64)]
    with pytest.raises(StoreError, match="0 missing, 1 of other recordings; first: toy/u7") as error:
        frames_expert({"toy": store}, changed, RATE)
    assert "REPLACE_CHANGED=1" in (error.value.hint or "")


def test_stores_of_different_upstreams_are_refused(tmp_path: Path) -> None:
    left, right = ([utterance(f"u{number}", corpus=corpus) for number in range(8)] for corpus in ("left", "right"))
    stores = {
        "left": make_store(tmp_path / "left", left),
        "right": make_store(tmp_path / "right", right, revision="2"),
    }
    with pytest.raises(StoreError, match="different upstreams") as error:
        frames_expert(stores, [*left, *right], RATE)
    assert error.value.hint


def test_pooled_moments_follow_the_rows(store: Store) -> None:
    found = pooled_moments({"toy": store}, ROWS[::-1])
    assert isinstance(pooled_expert({"toy": store}, ROWS).source, HeldStates)
    for own, row in zip(found, ROWS[::-1], strict=True):
        np.testing.assert_allclose(own[:, 0], store.frames(row.utterance_id).mean(1), atol=1e-5)
