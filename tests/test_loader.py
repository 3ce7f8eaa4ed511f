"""Batches from real stores, against plain loops over the very frames, in every placement."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from toys import utterance

from mser import loader as loading
from mser import placement
from mser.errors import ConfigError, StoreError
from mser.experts import Expert, frames_expert, pooled_expert
from mser.loader import Batch, Loader
from mser.manifest import Utterance
from mser.placement import Packed
from mser.prefetch import Buffers, prefetched
from mser.store import Provenance, ShardEntry, Store, open_or_create, write_shard

LAYERS, DIM, RATE = 3, 5, 50.0
COUNTS = [7, 1, 12, 4, 9, 2, 6, 11]
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
CPU = torch.device("cpu")
ON_CPU = ("memory", "streamed")
examples = settings(max_examples=40, deadline=None)


def random_states(counts: Sequence[int], layers: int = 2, dim: int = 4, seed: int = 0) -> list[Tensor]:
    """States (L, T, D) of noise."""
    rng = torch.Generator().manual_seed(seed)
    return [3 + 2 * torch.randn(layers, int(count), dim, generator=rng) for count in counts]


def make_store(folder: Path, rows: Sequence[Utterance], dtype: str = "float16", layers: int = LAYERS) -> Store:
    """A store of noise in two shards."""
    upstream = {"name": "toy", "layers": layers, "dim": DIM, "frame_rate": RATE, "revision": "1"}
    provenance = Provenance(rows[0].corpus, upstream, dtype=dtype)
    open_or_create(folder, provenance)
    entries = [
        ShardEntry(row.utterance_id, row.sha256, x)
        for row, x in zip(rows, random_states(COUNTS, layers, DIM), strict=True)
    ]
    for part in (entries[:3], entries[3:]):
        write_shard(folder, provenance, part)
    return Store(folder)


ROWS = [utterance(f"u{number}") for number in range(len(COUNTS))]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path / "toy", ROWS)


MAKERS: dict[str, Callable[[Store], Expert]] = {
    "every frame": lambda store: frames_expert({"toy": store}, ROWS, RATE),
    "two averaged": lambda store: frames_expert({"toy": store}, ROWS, 30.0),
    "ten averaged": lambda store: frames_expert({"toy": store}, ROWS, 5.0),
    "pooled": lambda store: pooled_expert({"toy": store}, ROWS),
    "every frame, by group": lambda store: frames_expert({"toy": store}, ROWS, RATE).by_group(LABELS),
    "ten averaged, by group": lambda store: frames_expert({"toy": store}, ROWS, 5.0).by_group(LABELS),
    "pooled, by group": lambda store: pooled_expert({"toy": store}, ROWS).by_group(LABELS),
}


def copied(batch: Batch) -> Batch:
    """The batch on the CPU in memory of its own."""
    states, lengths = ([x.detach().cpu().clone() for x in group] for group in (batch.states, batch.lengths))
    return Batch(tuple(states), tuple(lengths), batch.labels.cpu().clone(), batch.rows.cpu().clone())


def identical(one: Batch, other: Batch) -> bool:
    """Equal bit for bit, in dtypes and values."""
    left, right = ([*batch.states, *batch.lengths, batch.labels, batch.rows] for batch in (one, other))
    return all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(left, right, strict=True))


def plain(experts: Sequence[Expert], rows: Sequence[int]) -> Batch:
    """A batch by a loop."""
    states, lengths = [], []
    for expert in experts:
        own = [expert[row].transpose(0, 1) for row in rows]
        states.append(torch.nn.utils.rnn.pad_sequence(own, batch_first=True))
        lengths.append(torch.tensor([len(x) for x in own]))
    return Batch(tuple(states), tuple(lengths), LABELS[list(rows)], torch.tensor(rows, dtype=torch.int32))


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8"])
@pytest.mark.parametrize("maker", MAKERS)
def test_batches_are_the_same_bit_for_bit_in_every_placement(tmp_path: Path, maker: str, dtype: str) -> None:
    experts = [MAKERS[maker](make_store(tmp_path / "toy", ROWS, dtype)), Expert.of_states("e", random_states(COUNTS))]
    loaders = {name: Loader(experts, LABELS, placement=name) for name in ON_CPU}
    cut = loaders["memory"].order(np.arange(8), 3, seed=1, epoch=2)
    expected = [plain(experts, rows.tolist()) for rows in cut]
    for name, loader in loaders.items():
        assert loader.placement == name
        for found in (loader.batches(cut), (loader.gather(rows) for rows in cut)):
            for batch, right in zip(found, expected, strict=True):
                assert batch.states[0].dtype == torch.float32
                assert identical(batch, right)


@pytest.mark.parametrize("maker", MAKERS)
def test_a_gather_on_the_device_gives_the_same_batch(store: Store, maker: str) -> None:
    expert = MAKERS[maker](store)
    packed, rows = Packed(expert, CPU), np.array([5, 2, 1, 2])
    right = plain([expert], rows.tolist())
    found = packed.gathered(torch.from_numpy(packed.offsets[rows]), right.lengths[0], int(right.lengths[0].max()))
    assert torch.equal(found, right.states[0])


@pytest.mark.parametrize("factor", [1, 2, 10])
def test_batches_hold_the_stored_frames(store: Store, factor: int) -> None:
    expert = frames_expert({"toy": store}, ROWS, RATE / factor)
    assert (expert.name, expert.layers, expert.dim) == ("toy", LAYERS, DIM)
    batch = Loader([expert], LABELS, placement="memory").gather(np.arange(8))
    for row, states, length in zip(ROWS, batch.states[0].numpy(), batch.lengths[0].tolist(), strict=True):
        stored = store.frames(row.utterance_id).astype(np.float32)
        means = [stored[:, start : start + factor].mean(1) for start in range(0, stored.shape[1], factor)]
        assert length == len(means)
        np.testing.assert_allclose(states[:length], np.stack(means), rtol=1e-6, atol=1e-6)
        assert (states[length:] == 0).all()
    if factor == 1:
        np.testing.assert_array_equal(batch.states[0][0, :7].numpy(), store.frames("toy/u0").transpose(1, 0, 2))


@examples
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 3), st.integers(1, 3), st.data(),
    st.sampled_from([torch.float16, torch.float32]),
)  # fmt: skip
def test_any_states_are_padded_with_zeros(
    counts: list[int], layers: int, dim: int, data: st.DataObject, dtype: torch.dtype
) -> None:
    states = [x.to(dtype) for x in random_states(counts, layers, dim)]
    labels = torch.arange(len(counts))
    loader = Loader([Expert.of_states("toy", states)], labels)
    chosen = data.draw(st.lists(st.integers(0, len(counts) - 1), min_size=1, max_size=8))
    loader.gather(np.arange(len(counts)))  # leaves its values in the buffers
    batch = loader.gather(np.array(chosen))
    longest = max(counts[row] for row in chosen)
    expected = np.zeros((len(chosen), longest, layers, dim), dtype=np.float32)
    for number, row in enumerate(chosen):
        expected[number, : counts[row]] = states[row].numpy().transpose(1, 0, 2)
    np.testing.assert_array_equal(batch.states[0].numpy(), expected)
    assert batch.lengths[0].tolist() == [counts[row] for row in chosen]
    assert batch.labels.tolist() == batch.rows.tolist() == chosen
    assert [x.dtype for x in (batch.lengths[0], batch.labels, batch.rows)] == [torch.int64, torch.int64, torch.int32]


@pytest.mark.parametrize("name", ON_CPU)
def test_buffers_are_reused(store: Store, name: str) -> None:
    loader = Loader([MAKERS["every frame"](store)], LABELS, placement=name)
    # Three buffers go round: after three batches their addresses come again.
    cut = [np.arange(8)] * 9
    for _ in range(2):
        addresses = [batch.states[0].data_ptr() for batch in loader.batches(cut)]
        assert len(set(addresses)) <= (1 if name == "memory" else 3)
    assert len({loader.gather(rows).states[0].data_ptr() for rows in cut}) == 1


@pytest.mark.parametrize("name", ON_CPU)
def test_two_iterators_side_by_side_do_not_share_buffers(store: Store, name: str) -> None:
    experts = [MAKERS["every frame"](store)]
    loader = Loader(experts, LABELS, placement=name)
    one, other = [np.array([0, 2]), np.array([4])] * 3, [np.array([7, 5]), np.array([3])] * 3
    gathered = np.array([6, 1])
    for left, right, *rows in zip(loader.batches(one), loader.batches(other), one, other, strict=True):
        between = loader.gather(gathered)
        for batch, chosen in zip((left, right, between), (*rows, gathered), strict=True):
            assert identical(batch, plain(experts, chosen.tolist()))


@pytest.mark.parametrize("name", ON_CPU)
@pytest.mark.parametrize("start", [0, 1, 4, 5])
def test_an_epoch_resumes_anywhere(store: Store, name: str, start: int) -> None:
    loader = Loader([MAKERS["two averaged"](store)], LABELS, placement=name)
    cut = loader.order(np.arange(8), 5, seed=3, epoch=1)
    whole = [copied(batch) for batch in loader.batches(cut)]
    again = Loader([MAKERS["two averaged"](store)], LABELS, placement=name)
    rest = [copied(batch) for batch in again.batches(again.order(np.arange(8), 5, seed=3, epoch=1), start)]
    assert len(rest) == 5 - start
    assert all(identical(a, b) for a, b in zip(rest, whole[start:], strict=True))


@pytest.mark.parametrize("name", ON_CPU)
def test_an_empty_batch_keeps_its_turn(store: Store, name: str) -> None:
    loader = Loader([MAKERS["every frame"](store), MAKERS["pooled"](store)], LABELS, placement=name)
    sizes = [len(batch.labels) for batch in loader.batches(loader.order(np.arange(2), 4, seed=0, epoch=0))]
    assert sorted(sizes) == [0, 0, 1, 1]


def test_a_loader_that_predicted_can_train() -> None:
    loader = Loader([Expert.of_states("toy", random_states(COUNTS))], LABELS)
    with torch.inference_mode():
        loader.gather(np.arange(8))
        next(loader.batches([np.arange(8)]))
    for batch in (loader.gather(np.array([0, 2])), next(loader.batches([np.array([0, 2])]))):
        weight = torch.ones(4, requires_grad=True)
        (batch.states[0] * weight).sum().backward()
        assert weight.grad is not None
        np.testing.assert_allclose(weight.grad, batch.states[0].sum((0, 1, 2)), rtol=1e-5)


def prefetching() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "mser-prefetch"]


def test_the_thread_ends_with_its_iterator(store: Store) -> None:
    loader = Loader([MAKERS["every frame"](store)], LABELS, placement="streamed")
    batches = loader.batches([np.array([row]) for row in range(8)])
    next(batches)
    assert len(prefetching()) == 1
    batches.close()  # type: ignore[attr-defined]
    assert not prefetching()
    assert len(list(loader.batches([np.array([row]) for row in range(8)]))) == 8
    assert not prefetching()


def test_an_error_of_the_thread_is_raised_in_its_turn() -> None:
    def make(own: Buffers, number: int) -> int:
        if number == 2:
            raise ValueError("the third")
        return number

    found = []
    with pytest.raises(ValueError, match="the third"):
        found += [number for _, number in prefetched(make, 4, [Buffers(), Buffers()])]
    assert not prefetching()
    made = prefetched(make, 4, [Buffers()])
    assert [next(made)[1], next(made)[1]] == [0, 1]
    with pytest.raises(ValueError, match="the third"):
        next(made)


def test_a_thread_does_not_overwrite_what_is_in_use() -> None:
    def make(own: Buffers, number: int) -> Tensor:
        return own.view(0, (5 + number % 3,), torch.float32).fill_(number)

    for number, (_, found) in enumerate(prefetched(make, 50, [Buffers() for _ in range(3)])):
        assert (found == number).all()


# ----- values that are not finite


def damaged(store: Store, row: int, value: float, where: str) -> Store:
    """The store, opened anew, with a value put into an utterance behind everybody's back."""
    shard = next(shard for shard in store.shards if ROWS[row].utterance_id in shard.utterance_ids)
    place = shard.utterance_ids.index(ROWS[row].utterance_id)
    with h5py.File(shard.path, "r+") as file:
        if where == "frames":
            file["states"][1, shard.offsets[place], 2] = value
        else:
            file["pooled"][place, 1, 0, 2] = value
    return Store(store.folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("maker", ["every frame", "ten averaged"])
def test_frames_that_are_not_finite_are_refused(store: Store, maker: str, value: float) -> None:
    expert = MAKERS[maker](damaged(store, 4, value, "frames"))
    with pytest.raises(StoreError, match="not finite") as error:
        Loader([expert], LABELS, placement="memory")
    assert (error.value.file, error.value.field) == (str(store.folder), "toy/u4")
    assert "make verify" in str(error.value)
    loader = Loader([expert], LABELS, placement="streamed")
    assert loader.gather(np.array([3, 5])).states[0].isfinite().all()
    batches = loader.batches([np.array([3]), np.array([4, 5])])
    next(batches)
    with pytest.raises(StoreError, match="toy/u4"):
        next(batches)


@pytest.mark.parametrize("maker", ["every frame", "pooled"])
def test_moments_that_are_not_finite_are_refused(store: Store, maker: str) -> None:
    expert = MAKERS[maker](damaged(store, 6, float("nan"), "pooled"))
    with pytest.raises(StoreError, match="toy/u6"):
        Loader([expert], LABELS, placement="memory")
    with pytest.raises(StoreError, match="toy/u6"):
        expert.standard(np.array([1, 6]))
    with pytest.raises(StoreError, match="toy/u6"):
        expert.by_group(torch.zeros(8, dtype=torch.int64))
    assert all(x.isfinite().all() for x in expert.standard(np.array([1, 5])))


def test_large_values_are_not_taken_for_infinite() -> None:
    states = [torch.full((1, 50, 4), 1e38), torch.full((1, 2, 4), -1e38)]
    expert = Expert("toy", torch.tensor([50, 2]), torch.zeros(2, 1, 2, 4), Expert.of_states("toy", states).source)
    batch = Loader([expert], torch.tensor([0, 1])).gather(np.array([0, 1]))
    assert batch.states[0].abs().max() == torch.tensor(1e38)


# ----- order


@examples
@given(st.integers(1, 400), st.integers(1, 200), st.integers(0, 5), st.integers(0, 5))
def test_order_gives_the_batches_asked_for_and_every_row_once(size: int, batches: int, seed: int, epoch: int) -> None:
    counts = np.random.default_rng(size).integers(1, 9, 2 * size)
    expert = Expert.of_states("toy", [torch.zeros(1, count, 1) for count in counts.tolist()])
    rows = np.random.default_rng(batches).permutation(2 * size)[:size]
    cut = Loader([expert], torch.zeros(2 * size, dtype=torch.int64)).order(rows, batches, seed, epoch)
    assert len(cut) == batches
    assert sorted(np.concatenate(cut).tolist()) == sorted(rows.tolist())
    if batches <= size:
        assert min(map(len, cut)) >= 1
        assert max(map(len, cut)) <= size // batches + 2


def test_order_depends_on_seed_and_epoch_alone() -> None:
    loader = Loader([Expert.of_states("toy", random_states([2] * 30))], torch.zeros(30, dtype=torch.int64))

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
    expert = Expert.of_states("toy", random_states(frames.tolist(), 1, 1))
    loader = Loader([expert], torch.zeros(320, dtype=torch.int64))

    def padded(parts: list[np.ndarray]) -> int:
        return sum(len(part) * int(frames[part].max()) for part in parts)

    ordered = padded(loader.order(np.arange(320), 20, seed=0, epoch=0))
    unordered = padded(np.array_split(np.random.default_rng(1).permutation(320), 20))
    assert ordered < 1.1 * frames.sum() < unordered


# ----- placements


def test_the_cache_goes_where_there_is_room(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    expert = MAKERS["every frame"](store)
    size = placement.cache_bytes([expert])
    assert size == (sum(COUNTS) + 1) * LAYERS * DIM * 2
    cuda = torch.device("cuda")
    for device, on_device, on_host, right in [
        (CPU, 0, 2 * size, "memory"),
        (CPU, 0, 2 * size - 2, "streamed"),
        (cuda, 2 * size, 0, "device"),
        (cuda, size, 2 * size, "pinned"),
        (cuda, size, size, "streamed"),
    ]:
        monkeypatch.setattr(placement, "available_memory", lambda have=on_host: have)
        monkeypatch.setattr(placement, "free_on", lambda device, have=on_device: have)
        assert placement.choose([expert], device, "auto") == right
    # What lies in memory already takes none.
    monkeypatch.setattr(placement, "available_memory", lambda: 0)
    assert Loader([MAKERS["pooled"](store)], LABELS).placement == "memory"


def test_averages_take_no_more_than_the_stored_frames(store: Store) -> None:
    sizes = [placement.cache_bytes([MAKERS[name](store)]) for name in ("every frame", "two averaged", "ten averaged")]
    slack = len(COUNTS) * LAYERS * DIM * 4  # of runs that are not whole
    assert sizes[1] <= sizes[0] + slack
    assert sizes[2] <= sizes[0] / 5 + slack


@pytest.mark.parametrize(("device", "name"), [("cpu", "device"), ("cpu", "pinned"), ("cpu", "x"), ("meta", "auto")])
def test_a_placement_that_the_device_does_not_have_is_refused(store: Store, device: str, name: str) -> None:
    with pytest.raises(ConfigError):
        Loader([MAKERS["pooled"](store)], LABELS, device, name)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_where_memory_runs_out_states_are_streamed(
    store: Store, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def full(*arguments: object) -> None:
        raise error

    expert = MAKERS["every frame"](store)
    monkeypatch.setattr(placement, "empty", full)
    with pytest.warns(RuntimeWarning, match="not enough memory.*'memory'.*'streamed'"):
        loader = Loader([expert], LABELS)
    assert loader.placement == "streamed"
    assert identical(loader.gather(np.array([2, 0])), plain([expert], [2, 0]))


def test_other_errors_are_not_taken_for_a_lack_of_memory(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(placement, "empty", broken)
    with pytest.raises(RuntimeError, match="something else"):
        Loader([MAKERS["every frame"](store)], LABELS)


def test_a_device_that_fills_up_in_mid_epoch_does_not_change_the_batches(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The CPU plays the device here.
    monkeypatch.setattr(placement, "PLACEMENTS", {"cpu": ("device", "memory", "streamed")})
    expert = MAKERS["every frame"](store)
    loader = Loader([expert], LABELS, placement="device")
    cut = loader.order(np.arange(8), 5, seed=0, epoch=0)
    whole = [copied(batch) for batch in loader.batches(cut)]
    gathered, calls = Packed.gathered, iter(range(99))

    def fills_up(self: Packed, *arguments: object) -> Tensor:
        if next(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return gathered(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Packed, "gathered", fills_up)
    with pytest.warns(RuntimeWarning, match="'device'.*'memory'"):
        again = [copied(batch) for batch in loader.batches(cut)]
    assert loader.placement == "memory"
    assert all(identical(a, b) for a, b in zip(again, whole, strict=True))
    assert all(identical(a, plain([expert], rows.tolist())) for a, rows in zip(again, cut, strict=True))


def test_available_memory_is_the_least_of_the_machine_and_its_control_groups(tmp_path: Path) -> None:
    own = tmp_path / "sys/fs/cgroup/jobs/one"
    for folder in (own, tmp_path / "proc/self"):
        folder.mkdir(parents=True)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert placement.available_memory(tmp_path) == total // 2
    (tmp_path / "proc/meminfo").write_text("MemTotal: 900 kB\nMemAvailable: 500 kB\n")
    assert placement.available_memory(tmp_path) == 500 * 1024
    (tmp_path / "proc/self/cgroup").write_text("0::/jobs/one\n")
    (own / "memory.max").write_text("max\n")
    (own / "memory.current").write_text("70000\n")
    assert placement.available_memory(tmp_path) == 500 * 1024
    (own.parent / "memory.max").write_text("100000\n")
    (own.parent / "memory.current").write_text("70000\n")
    (own.parent / "memory.stat").write_text("anon 1\ninactive_file 5000\n")
    assert placement.available_memory(tmp_path) == 35_000


def test_a_loader_without_experts_is_refused() -> None:
    with pytest.raises(ConfigError, match="UPSTREAMS"):
        Loader([], LABELS)


def test_what_others_import_is_there() -> None:
    for name in ("Expert", "frames_expert", "pooled_expert", "pooled_moments", "SMALLEST_DEVIATION", "reduced"):
        assert hasattr(loading, name)


# ----- on a CUDA device


@pytest.fixture
def cuda() -> Iterator[torch.device]:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    yield torch.device("cuda")
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.cuda
@pytest.mark.parametrize("name", ["device", "pinned", "streamed"])
@pytest.mark.parametrize("maker", MAKERS)
def test_on_cuda_batches_are_the_same(store: Store, cuda: torch.device, maker: str, name: str) -> None:
    experts = [MAKERS[maker](store), Expert.of_states("e", random_states(COUNTS))]
    loader = Loader(experts, LABELS, cuda, name)
    assert loader.placement == name
    cut = loader.order(np.arange(8), 3, seed=1, epoch=2) * 20
    expected = [plain(experts, rows.tolist()) for rows in cut]
    busy = torch.randn(2000, 2000, device=cuda)
    for found in (loader.batches(cut), (loader.gather(rows) for rows in cut)):
        kept = []
        for batch in found:
            busy = (busy @ busy).tanh()  # the device lags behind the host, as in training
            # Read late, on the device: what was overwritten meanwhile would differ.
            kept.append(Batch(tuple(x * 1 for x in batch.states), *batch[1:]))
        assert all(identical(copied(a), b) for a, b in zip(kept, expected, strict=True))


@pytest.mark.cuda
def test_a_gather_on_cuda_waits_for_nothing(store: Store, cuda: torch.device) -> None:
    loader = Loader([MAKERS["every frame"](store), MAKERS["pooled"](store)], LABELS, cuda, "device")
    loader.gather(np.arange(8))
    torch.cuda.set_sync_debug_mode("error")
    loader.gather(np.array([3, 1, 2]))


@pytest.mark.cuda
def test_a_full_device_falls_back_to_pinned_memory(
    store: Store, cuda: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    expert, made = MAKERS["every frame"](store), placement.Packed.__init__

    def full(self: Packed, expert: Expert, device: torch.device) -> None:
        if device.type == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory")
        made(self, expert, device)

    monkeypatch.setattr(placement.Packed, "__init__", full)
    with pytest.warns(RuntimeWarning, match="'device'.*'pinned'"):
        loader = Loader([expert], LABELS, cuda)
    assert loader.placement == "pinned"
    assert identical(copied(loader.gather(np.array([2, 0]))), plain([expert], [2, 0]))
