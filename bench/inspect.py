"""What statistics of layers cost beside plain torch over the same blocks, and in how little memory they run.

    python -m bench.inspect                                                       noise, 13 layers x 768
    python -m bench.inspect --home WORKSPACE --corpus emodb --upstream whisper-base-encoder

1.0 is plain torch in a loop: each layer of each shard in blocks of the same size, cast to float32; their sums, lengths
and products of features, the sums over blocks in float64; eigenvalues at the end. It takes no means off, so that it
loses digits where means are large. `float64` is the same with every number in float64.

All run in every round in a random order, and ratios are taken within a round: the median, and the middle half of the
rounds in brackets. Once with one thread, in the time of the process alone; once with a thread a core, on the wall.
Errors are the largest ones relative to `float64`, of deviations and of effective ranks.

The last line is from a process of its own, whose address space may grow by no more than the limit: a store that is
larger cannot be held, nor mapped as a whole.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench import formats
from bench.common import facts, in_turn, ratio, scratch, table
from bench.store import make_data
from mser.cores import usable_cores
from mser.inspect.blocks import layer_blocks
from mser.inspect.statistics import effective_rank, layer_statistics
from mser.store import Store

TARGET = "Target: at most 1.3 times plain torch, under a memory limit smaller than the store."
LIMITED = "--limited"
Contestant = Callable[[Store, int], tuple[Tensor, Tensor, Tensor]]


def plain(store: Store, threads: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Deviation (L, D), mean length (L,) and effective rank (L,) in a loop over the blocks."""
    torch.set_num_threads(threads)
    found = []
    for layer in range(store.provenance.layers):
        count, lengths = 0, 0.0
        sums = torch.zeros(store.provenance.dim, dtype=torch.float64)
        products = torch.zeros(store.provenance.dim, store.provenance.dim, dtype=torch.float64)
        for shard in store.shards:
            for block in layer_blocks(shard, layer):
                states = torch.from_numpy(block).to(dtype)
                count += len(states)
                sums += states.sum(0)
                lengths += float(states.norm(dim=1).sum())
                products += states.T @ states
        covariance = products / count - torch.outer(sums, sums) / count**2
        found.append((covariance.diagonal().sqrt(), torch.tensor(lengths / count), effective_rank(covariance)))
    deviation, norm, rank = zip(*found, strict=True)
    return torch.stack(deviation), torch.stack(norm), torch.tensor(rank)


def mser(store: Store, threads: int) -> tuple[Tensor, Tensor, Tensor]:
    """The same by :func:`mser.inspect.layer_statistics`."""
    found = layer_statistics(store, "frames", threads)
    return found.deviation, found.norm, found.rank


def compared(store: Store, rounds: int) -> str:
    """The table of one store."""
    cores = usable_cores()
    contestants: dict[str, Contestant] = {
        "plain torch": plain, "mser": mser, "float64": partial(plain, dtype=torch.float64),
    }  # fmt: skip
    truth = contestants["float64"](store, 1)
    errors = {}
    for name, one in contestants.items():
        deviation, _, rank = one(store, 1)
        errors[name] = [f"{float(((a - b) / b).abs().max()):.0e}" for a, b in ((deviation, truth[0]), (rank, truth[2]))]
    spent = {
        (threads, clock): in_turn({name: partial(one, store, threads) for name, one in contestants.items()}, rounds,
                                  clock=clock)
        for threads, clock in ((1, time.process_time), (cores, time.perf_counter))
    }  # fmt: skip
    rows = []
    for name in contestants:
        cells = [name]
        for times in spent.values():
            cells += [f"{np.median(times[name]):.2f}", ratio(times[name], times["plain torch"])[1]]
        rows.append([*cells, *errors[name]])
    header = ["", "s, one thread", "times plain", f"s, {cores} threads", "times plain", "deviation", "rank"]
    size, provenance = store.size_bytes() / 1e6, store.provenance
    title = f"Statistics of {provenance.layers} layers x {provenance.dim}, {size:.0f} MB, {rounds} rounds; errors"
    return table(title, header, rows)


def peak(reset: bool = True) -> float:
    """MiB of memory that the process held at most since the last reset, mapped files that it read counted in."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    if reset:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def limited(folder: Path, megabytes: int) -> None:
    """Computes statistics in an address space that may grow by so much, and prints what memory it took."""
    # What the libraries map when they first multiply, and start threads, is theirs.
    torch.linalg.eigvalsh(torch.randn(64, 64, dtype=torch.float64))
    store = Store(folder)
    mapped = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * os.sysconf("SC_PAGE_SIZE")
    before = peak()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + megabytes * 2**20, resource.RLIM_INFINITY))
    layer_statistics(store, "frames", 1)
    after = peak(reset=False)
    print(f"A store of {store.size_bytes() / 2**20:.0f} MiB under a limit of {megabytes} MiB: done, with a peak of "
          f"{after - before:.0f} MiB above the {before:.0f} MiB of the libraries and the store's index")  # fmt: skip


def main() -> None:
    """Prints the table, and what the limited process says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, help="workspace whose cached states are taken (noise)")
    parser.add_argument("--corpus", default="emodb", help="of the cached states (emodb)")
    parser.add_argument("--upstream", default="whisper-base-encoder", help="(whisper-base-encoder)")
    parser.add_argument("--megabytes", type=float, default=600, help="of noise, float16 (600)")
    parser.add_argument("--rounds", type=int, default=5, help="by each clock (5)")
    parser.add_argument("--limit", type=int, default=256, help="MiB that the address space may grow by (256)")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    parser.add_argument(LIMITED, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.limited:
        limited(options.limited, options.limit)
        return
    print(facts(), TARGET, sep="\n", end="\n\n", flush=True)
    with scratch(options.folder) as folder:
        place = folder / "mser"
        if options.home:
            place = options.home / "cache" / options.corpus / options.upstream
        else:
            written = formats.Mser(make_data(options.megabytes), place)
            place.mkdir()
            written.write()
        print(compared(Store(place), options.rounds), end="\n\n", flush=True)
        arguments = [LIMITED, str(place), "--limit", str(options.limit)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, "-m", "bench.inspect", *arguments], check=True, env=environment)


if __name__ == "__main__":
    main()
