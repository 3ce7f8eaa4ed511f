"""Batches of padded states, as stage two takes them from the cache, against a plain copy of their bytes.

    python -m bench.loader                                           noise, 13 layers x 768
    python -m bench.loader --home WORKSPACE --language de --upstream whisper-base-encoder
    python -m bench.loader --device cuda

1.0 is one contiguous copy of as many float32 bytes as a batch has, into a reused buffer. All contestants give the same
batches (mser.loader.Loader.order: 32 or 128 utterances of like length), padded, in float32. `DataLoader` is torch's,
over a data set that holds a tensor (T, L, D) an utterance in the cache's dtype and pads with `pad_sequence`; workers
live on from epoch to epoch. The formats are read utterance by utterance as :mod:`bench.formats` does, warm, cast, and
padded alike. `streamed` reads the warm memory map in a thread; that thread has little to run beside here, as nothing is
computed from the batches.

All run in every round in a random order, and ratios are taken within a round: the median, and the middle half of the
rounds in brackets. Core seconds are those of this process, without workers. On CUDA the floor is a copy on the device,
and `bandwidth` is the share that the bytes read and written have of its rate. Formats need lhotse and pyarrow.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from bench import formats
from bench.common import facts, in_turn, ratio, scratch, table
from bench.formats import Data, Format
from bench.store import FRAME_RATE, make_data
from mser.config import Workspace
from mser.experts import Expert, frames_expert, pooled_expert
from mser.loader import Loader
from mser.manifest import Utterance, read_manifests
from mser.placement import PLACEMENTS
from mser.store import Store

TARGET = "Target: at most 1.3 times the floor from memory, at batches of 32 and of 128."


@dataclass(frozen=True)
class Cached(Data):
    """States that lie in a store."""

    store: Store
    utterances: tuple[Utterance, ...]

    def frames(self, number: int) -> Tensor:
        # Copied: a tensor must not write through to the mapped file.
        return torch.from_numpy(np.array(self.store.frames(self.utterances[number].utterance_id)))


class Utterances(Dataset[Tensor]):
    """A tensor (T, L, D) an utterance."""

    def __init__(self, expert: Expert) -> None:
        self.states = [expert[row].to(expert.dtype).transpose(0, 1).contiguous() for row in range(len(expert.frames))]

    def __getitem__(self, row: int) -> Tensor:
        return self.states[row]

    def __len__(self) -> int:
        return len(self.states)


def collate(states: list[Tensor]) -> Tensor:
    """(B, T, L, D) float32."""
    return pad_sequence([x.float() for x in states], batch_first=True)


def synthetic(folder: Path, megabytes: float) -> Cached:
    """Noise in a store."""
    data = make_data(megabytes)
    written = formats.Mser(data, folder, threads=0)
    folder.mkdir()
    written.write()
    utterances = tuple(
        Utterance(key, "bench", "de", key, "s", "f", "e", "e", "", "", 16_000, 16_000, "0" * 64) for key in written.keys
    )
    return Cached(**vars(data), store=Store(folder), utterances=utterances)


def cached(home: Path, language: str, upstream: str, count: int) -> Cached:
    """The first utterances of a language's first corpus, as they were extracted."""
    workspace = Workspace(home)
    manifest = read_manifests(workspace, [language])[0]
    store = Store(workspace.store(manifest.corpus, upstream))
    utterances = manifest.utterances[:count]
    counts = [store.num_frames(row.utterance_id) for row in utterances]
    empty = torch.empty(0)
    whole = [list(range(len(counts)))]
    return Cached(counts, whole, empty, empty, [0] * len(counts), store.provenance, store, tuple(utterances))


def batches_of_format(one: Format, cut: Sequence[np.ndarray]) -> Iterator[Tensor]:
    """The batches read from a format, each utterance on its own."""
    for rows in cut:
        yield collate([torch.tensor(one.read(row, slice(None))).transpose(0, 1) for row in rows.tolist()])


def same_batches(contestants: dict[str, Callable[[], Iterator[Tensor]]], expert: Expert, row: int) -> None:
    """Raises where the first utterance of the first batch differs."""
    right = expert[row].transpose(0, 1)
    for name, batches in contestants.items():
        first = next(iter(batches()))[0, : len(right)].cpu()
        if name != "floor" and not torch.equal(first, right):
            raise AssertionError(f"{name} gives other batches")


def drain(batches: Callable[[], Iterator[Tensor]], device: torch.device) -> None:
    for _ in batches():
        pass
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def floor_of(expert: Expert, cut: Sequence[np.ndarray], device: torch.device) -> Callable[[], Iterator[Tensor]]:
    """Copies as many bytes as each batch has, of each batch from another place, into one reused buffer."""
    frame = expert.layers * expert.dim
    shapes = [(len(rows), int(expert.frames[rows].max()), expert.layers, expert.dim) for rows in cut]
    sizes = [shape[0] * shape[1] * frame for shape in shapes]
    source, target = torch.ones(sum(sizes), device=device), torch.zeros(max(sizes), device=device)

    def batches() -> Iterator[Tensor]:
        for shape, part in zip(shapes, source.split(sizes), strict=True):
            yield target[: len(part)].copy_(part).view(shape)

    return batches


def contestants_of(
    expert: Expert, cut: Sequence[np.ndarray], device: torch.device, written: Sequence[Format]
) -> dict[str, Callable[[], Iterator[Tensor]]]:
    """Of each way of making these batches, a function that begins to."""
    labels = torch.zeros(len(expert.frames), dtype=torch.int64)
    found: dict[str, Callable[[], Iterator[Tensor]]] = {"floor": floor_of(expert, cut, device)}

    def of_loader(loader: Loader) -> Iterator[Tensor]:
        return (batch.states[0] for batch in loader.batches(cut))

    for placement in PLACEMENTS[device.type]:
        found[f"mser, {placement}"] = partial(of_loader, Loader([expert], labels, device, placement))
    if device.type == "cuda":
        return found
    dataset, sampler = Utterances(expert), [rows.tolist() for rows in cut]
    for workers in (0, 2):
        loader = DataLoader(
            dataset, batch_sampler=sampler, collate_fn=collate, num_workers=workers, persistent_workers=workers > 0
        )
        found[f"DataLoader, {workers} workers"] = loader.__iter__
    for one in written:
        found[one.name] = partial(batches_of_format, one, cut)
    return found


def compared(
    title: str, expert: Expert, size: int, device: torch.device, rounds: int, most: int, written: Sequence[Format]
) -> str:
    """Table of the ways of making batches of about ``size``, of which a round has at most ``most``."""
    count = max(1, len(expert.frames) // size)
    order = Loader([expert], torch.zeros(len(expert.frames), dtype=torch.int64), device).order(
        np.arange(len(expert.frames)), count, seed=0, epoch=0
    )
    cut = order[:most]
    contestants = contestants_of(expert, cut, device, written)
    same_batches(contestants, expert, int(cut[0][0]))
    turns = {name: partial(drain, batches, device) for name, batches in contestants.items()}
    in_turn(turns, 1)  # warms up
    wall = in_turn(turns, rounds)
    core = in_turn(turns, rounds, seed=1, clock=time.process_time)
    frames = sum(len(rows) * int(expert.frames[rows].max()) for rows in cut)
    megabytes = frames * expert.layers * expert.dim * 4 / 1e6
    moved = (expert.dtype.itemsize + 4) / 8
    rows = []
    for name, times in wall.items():
        middle, text = ratio(times, wall["floor"])
        own = ratio(core[name], core["floor"])[1] if "2 workers" not in name else "-"
        milliseconds = statistics.median(times) / len(cut) * 1e3
        rows.append([name, text, own, f"{milliseconds:.1f}", f"{moved / middle:.2f}" if "device" in name else "-"])
    used = sum(int(expert.frames[rows].sum()) for rows in cut)
    head = (
        f"{title}: batches of {len(cut[0])}, {len(cut)} a round, {megabytes / len(cut):.0f} MB each, "
        f"{100 * frames / used - 100:.0f} % padding, cache {str(expert.dtype).removeprefix('torch.')}"
    )
    header = ["batches", "times the floor", "in core seconds", "ms a batch", "bandwidth"]
    keep = 5 if device.type == "cuda" else 4
    return table(head, header[:keep], [row[:keep] for row in rows])


def written_formats(data: Data, folder: Path) -> list[Format]:
    """The peers' formats, with the data in them."""
    made: list[Format] = [
        formats.Npy(data, folder / "npy"),
        formats.LhotseHdf5(data, folder / "lhotse"),
        formats.Arrow(data, folder / "arrow"),
    ]
    for one in made:
        one.folder.mkdir()
        one.write()
        one.open()
    return made


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, help="workspace whose cached states are taken (noise)")
    parser.add_argument("--language", default="de", help="of the cached states (de)")
    parser.add_argument("--upstream", default="acoustic", help="of the cached states (acoustic)")
    parser.add_argument("--utterances", type=int, default=10_000, help="at most, of the cached states (10000)")
    parser.add_argument("--megabytes", type=float, default=800, help="of noise, float16 (800)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 128], help="of batches (32 128)")
    parser.add_argument("--features", nargs="+", default=["frames", "reduced", "pooled"], help="(all three)")
    parser.add_argument("--frame-rate", type=float, default=5.0, help="frames a second of `reduced` (5)")
    parser.add_argument("--rounds", type=int, default=9, help="by each clock (9)")
    parser.add_argument("--most", type=int, default=6, help="batches a round (6)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N (cpu)")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(options.device)
    print(facts(options.device), TARGET, sep="\n", end="\n\n", flush=True)
    with scratch(options.folder) as folder:
        if options.home:
            data = cached(options.home, options.language, options.upstream, options.utterances)
        else:
            data = synthetic(folder / "mser", options.megabytes)
        stores = {data.utterances[0].corpus: data.store}
        rate = data.provenance.frame_rate or FRAME_RATE
        makers: dict[str, Callable[[], Expert]] = {
            "frames": lambda: frames_expert(stores, data.utterances, rate),
            "reduced": lambda: frames_expert(stores, data.utterances, options.frame_rate),
            "pooled": lambda: pooled_expert(stores, data.utterances),
        }
        written = written_formats(data, folder) if device.type == "cpu" and "frames" in options.features else []
        for features in options.features:
            expert = makers[features]()
            for size in options.sizes:
                title = f"{options.upstream if options.home else 'noise'}, {features}, {expert.layers} x {expert.dim}"
                own = written if features == "frames" else []
                print(compared(title, expert, size, device, options.rounds, options.most, own), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
