"""How fast the store is read and written, against the same bytes without a store and against what others use.

    python -m bench.store                        600 MB of 13 layers x 768, float16, utterances of 1-8 s
    python -m bench.store --megabytes 1000 --folder FOLDER

Reads of random utterances, warm: 1.0 is a plain memory map of flat files with the same bytes in (layer, frame, dim)
order. What is mapped (mser, flat, Arrow) is copied into one reused page-aligned buffer; the others give a fresh array
and are not asked to copy it again. lhotse is given (layer, frame, dim) arrays, so that its offsets read one layer.

Writes: 1.0 is the same bytes written to a file a shard, with fsync. `float32 states` also casts, pools and looks for
values that are not finite, on one core; `packed` starts behind that; `threads` packs beside the writing and completes
a shard while the next one is written, as an extraction does. All three hash every state.

Reads are told in the time of the process alone, as they wait for nothing; writes in time on the wall. All contestants
run in every round in a random order, and ratios are taken within a round: the median, and the middle half of the
rounds in brackets. Needs lhotse and pyarrow: `pip install .[bench]`.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from bench import formats
from bench.common import facts, in_turn, ratio, scratch, table
from bench.formats import Data, Format, disk_bytes
from extract.plan import SHARD_FRAMES
from mser.cores import usable_cores
from mser.store import Packed, Provenance, ShardRow, ShardWriter, Store, open_or_create

LAYERS, DIM, FRAME_RATE = 13, 768, 50
SHORTEST, LONGEST = 1.0, 8.0
TARGETS = "Targets: reads of all layers 0.9, of one layer 0.85, 1.5 times lhotse's HDF5; writes 1 / 1.7 = 0.59."


def make_data(megabytes: float, dtype: str = "float16") -> Data:
    """Utterances of 1-8 s, in shards as an extraction parts them, of normal noise."""
    rng = np.random.default_rng(0)
    info = {"name": "noise", "layers": LAYERS, "dim": DIM, "frame_rate": FRAME_RATE}
    provenance = Provenance("bench", info, dtype)
    counts: list[int] = []
    while sum(counts) * LAYERS * DIM * 2 < megabytes * 1e6:
        counts.append(int(rng.uniform(SHORTEST, LONGEST) * FRAME_RATE))
    shards: list[list[int]] = [[]]
    for number in range(len(counts)):
        if sum(counts[other] for other in shards[-1]) >= SHARD_FRAMES:
            shards.append([])
        shards[-1].append(number)
    longest = int(LONGEST * FRAME_RATE) * LAYERS * DIM
    source = torch.randn(2 * longest, generator=torch.Generator().manual_seed(0))
    starts = (rng.integers(0, longest, len(counts)) // 2048 * 2048).tolist()
    return Data(counts, shards, source, source.half(), starts, provenance)


def reading(data: Data, folder: Path, rounds: int, count: int) -> list[str]:
    """Tables of reads: all layers, one layer, and int8."""
    mser = formats.Mser(data, folder / "mser")
    written: list[Format] = [
        formats.Flat(data, folder / "flat"),
        mser,
        formats.Arrow(data, folder / "arrow"),
        formats.LhotseHdf5(data, folder / "lhotse-hdf5"),
        formats.LhotseFiles(data, folder / "lhotse-files"),
        formats.Npy(data, folder / "npy"),
        formats.H5pyAuto(data, folder / "h5py"),
    ]
    eight = formats.Mser(replace(data, provenance=replace(data.provenance, dtype="int8")), folder / "int8")
    for one in (*written, eight):
        one.folder.mkdir()
        one.write()
    contestants = [*written, formats.H5pyOfShards(data, mser.folder)]
    pure = data.megabytes * 1e6
    sizes = {one.name: f"{disk_bytes(one.folder) / pure:.4f}" for one in contestants}
    for one in (*contestants, eight):
        one.open()
        for number in range(len(data.counts)):
            one.read(number, slice(None))
    same_states(contestants, data)
    return [
        read_table(
            f"Reads of {count} random utterances, all {LAYERS} layers", contestants, rounds, count, False, sizes
        ),
        read_table(f"Reads of {count} random utterances, one random layer", contestants, rounds, count, True, sizes),
        int8_table(mser, eight, rounds, count),
    ]


def same_states(contestants: Sequence[Format], data: Data) -> None:
    """Raises where a contestant reads something else than was written."""
    for one in contestants:
        for layers in (slice(None), slice(3, 4)):
            if not np.array_equal(one.read(1, layers), data.frames(1)[layers].numpy()):
                raise AssertionError(f"{one.name} reads other states than were written")


def read_all(one: Format, chosen: Sequence[tuple[int, slice]]) -> None:
    for number, layers in chosen:
        one.read(number, layers)


def picks(data: Data, count: int, one_layer: bool, seed: int) -> list[tuple[int, slice]]:
    rng = np.random.default_rng(seed)
    layers = rng.integers(0, LAYERS, count).tolist()
    numbers = rng.integers(0, len(data.counts), count).tolist()
    return [(n, slice(k, k + 1) if one_layer else slice(None)) for n, k in zip(numbers, layers, strict=True)]


def read_rounds(
    contestants: Sequence[Format], rounds: int, count: int, one_layer: bool
) -> tuple[dict[str, list[float]], int]:
    """Seconds of the process in each round, and blocks that came from the disk meanwhile.

    Each round has utterances of its own, the same for all. All read them once before anybody is timed: the system may
    have dropped pages; and what lies between flushes the processor's caches again.
    """
    found: dict[str, list[float]] = {one.name: [] for one in contestants}
    blocks = 0
    for number in range(rounds):
        chosen = picks(contestants[0].data, count, one_layer, number)
        for one in contestants:
            read_all(one, [(place, slice(None)) for place, _ in chosen])
        turns: dict[str, Callable[[], None]] = {one.name: partial(read_all, one, chosen) for one in contestants}
        before = resource.getrusage(resource.RUSAGE_SELF).ru_inblock
        for name, spent in in_turn(turns, 1, number, time.process_time).items():
            found[name] += spent
        blocks += resource.getrusage(resource.RUSAGE_SELF).ru_inblock - before
    return found, blocks


def read_table(
    title: str, contestants: Sequence[Format], rounds: int, count: int, one_layer: bool, sizes: dict[str, str]
) -> str:
    spent, blocks = read_rounds(contestants, rounds, count, one_layer)
    base, lhotse = spent[formats.Flat.name], spent[formats.LhotseHdf5.name]
    rows = [
        [
            name,
            ratio(base, times)[1],
            ratio(lhotse, times)[1],
            f"{statistics.median(times) / count * 1e3:.3f}",
            sizes[name],
        ]
        for name, times in spent.items()
    ]
    header = ["format", "of flat map (middle half)", "of lhotse HDF5", "ms an utterance", "size / pure bytes"]
    return table(f"{title}; {blocks} blocks came from the disk meanwhile", header, rows)


def int8_table(half: formats.Mser, eight: formats.Mser, rounds: int, count: int) -> str:
    """float32 states out of float16 and of int8 stores."""

    class Float32(formats.Mser):
        name = "float16 store, converted to float32 (torch)"

        def read(self, number: int, layers: slice) -> np.ndarray:
            frames = half.store.frames(self.keys[number], layers)
            return torch.from_numpy(np.array(frames)).float().numpy()

    class Int8(formats.Mser):
        name = "int8 store (gives float32)"

        def read(self, number: int, layers: slice) -> np.ndarray:
            return eight.store.frames(self.keys[number], layers)

    size = disk_bytes(eight.folder) / disk_bytes(half.folder)
    contestants: list[Format] = [Float32(half.data, half.folder), Int8(half.data, half.folder)]
    rows = []
    for one_layer in (False, True):
        spent, _ = read_rounds(contestants, rounds, count, one_layer)
        base = spent[Float32.name]
        for name, times in spent.items():
            what = "one layer" if one_layer else "all layers"
            rows.append([f"{name}, {what}", ratio(base, times)[1], f"{statistics.median(times) / count * 1e3:.3f}"])
    title = f"Reads into fresh float32 arrays; the int8 store is {size:.3f} of the float16 store's size"
    return table(title, ["store", "of float16 (middle half)", "ms an utterance"], rows)


def writing(data: Data, folder: Path, rounds: int) -> str:
    """Table of writes."""

    def fresh(one: Format) -> None:
        shutil.rmtree(one.folder, ignore_errors=True)
        one.folder.mkdir()
        one.write()
        shutil.rmtree(one.folder)  # what was not synced is never written, so it does not disturb the next

    there = folder / "written"
    contestants = {
        "raw, fsync a shard": formats.Flat(data, there),
        "raw, no fsync": formats.Flat(data, there, fsync=False),
        "mser, packed": formats.Mser(data, there, cast=False),
        "mser, float32 states": formats.Mser(data, there),
        "mser, float32 states, threads as extract has": formats.Mser(data, there, threads=usable_cores()),
        "npy an utterance, fsync each": formats.Npy(data, there, fsync=True),
        "npy an utterance, no fsync": formats.Npy(data, there),
        "lhotse NumpyHdf5, no fsync": formats.LhotseHdf5(data, there),
        "lhotse NumpyFiles, no fsync": formats.LhotseFiles(data, there),
        "Arrow large_binary, no fsync": formats.Arrow(data, there),
        "h5py, chunks=True, no fsync": formats.H5pyAuto(data, there),
    }
    turns: dict[str, Callable[[], None]] = {name: partial(fresh, one) for name, one in contestants.items()}
    torch.set_num_threads(1)
    in_turn({name: turns[name] for name in ("raw, fsync a shard", "mser, float32 states")}, 1)  # warms up
    spent = in_turn(turns, rounds)
    base = spent["raw, fsync a shard"]
    rows = [
        [name, ratio(times, base)[1], ratio(base, times)[1], f"{data.megabytes / statistics.median(times):.0f}"]
        for name, times in spent.items()
    ]
    title = f"Writes of {data.megabytes:.0f} MB in {len(data.shards)} shards, {len(data.counts)} utterances"
    return table(title, ["format", "times raw with fsync", "speed of it", "MB/s"], rows)


def opening(folder: Path, shards: int, rounds: int) -> str:
    """Table of the time to open a store: shards of as many utterances as real ones, with few frames."""
    provenance = replace(make_data(1).provenance, keep=("frames",))
    utterances = int(SHARD_FRAMES / FRAME_RATE / ((SHORTEST + LONGEST) / 2))
    piece = Packed(1, torch.zeros(LAYERS, 1, DIM).half(), None, None, torch.zeros(LAYERS))
    open_or_create(folder, provenance)
    for number in range(shards):
        ids = [f"utterance-{number * utterances + row:06}" for row in range(utterances)]
        writer = ShardWriter(folder, provenance, [ShardRow(key, "0" * 64, 1) for key in ids])
        for row in range(utterances):
            writer.put(row, piece)
        writer.commit()
    opened, mapped = [], []
    for _ in range(rounds):
        began = time.perf_counter()
        store = Store(folder)
        opened.append(time.perf_counter() - began)
        for shard in store.shards:
            _ = shard.states
        mapped.append(time.perf_counter() - began - opened[-1])
        del store
    rows = []
    for name, times in (("opening it: heads and index", opened), ("mapping all its shards at first use", mapped)):
        low, middle, high = np.percentile(times, [25, 50, 75]) / shards * 1e3
        rows.append([name, f"{middle:.2f} ({low:.2f}-{high:.2f})", f"{middle * 6:.1f}"])
    title = f"A store of {shards} shards of {utterances} utterances, warm"
    return table(title, ["", "ms a shard (middle half)", "seconds for 6,000 shards"], rows)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=600, help="of float16 states that are read (600)")
    parser.add_argument("--write-shards", type=int, default=2, help="shards of about 160 MB a write (2)")
    parser.add_argument("--rounds", type=int, default=21, help="of reading; a third as many of writing (21)")
    parser.add_argument("--utterances", type=int, default=40, help="read in a round (40)")
    parser.add_argument("--shards", type=int, default=300, help="of the store that is only opened (300)")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    parser.add_argument("--only", choices=["read", "write", "open"], help="a part of it")
    options = parser.parse_args()
    data = make_data(options.megabytes)
    print(facts())
    print(
        f"{data.megabytes:.0f} MB: {len(data.counts)} utterances of {SHORTEST:g}-{LONGEST:g} s, {LAYERS} layers x "
        f"{DIM}, float16, {len(data.shards)} shards; noise\n{TARGETS}\n",
        flush=True,
    )
    with scratch(options.folder) as folder:
        if options.only in (None, "open"):
            print(opening(folder / "many", options.shards, max(3, options.rounds // 3)), end="\n\n", flush=True)
        if options.only in (None, "write"):
            print(
                writing(data.first(options.write_shards), folder, max(3, options.rounds // 3)), end="\n\n", flush=True
            )
        if options.only in (None, "read"):
            torch.set_num_threads(1)
            print("\n\n".join(reading(data, folder, options.rounds, options.utterances)), flush=True)


if __name__ == "__main__":
    main()
