"""What the benchmarks share: the machine's facts, contestants in turn, and a table."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from mser.cores import usable_cores

#: Libraries whose versions are printed where they are installed.
LIBRARIES = ("torch", "numpy", "h5py", "transformers", "lhotse", "pyarrow", "soundfile", "distributed")


def facts(device: str = "cpu") -> str:
    """Cores, memory, device and versions, on two lines."""
    found = {name: version_of(name) for name in LIBRARIES}
    versions = ", ".join(f"{name} {version}" for name, version in found.items() if version)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = usable_cores()
    named = torch.cuda.get_device_name(device) if device.startswith("cuda") else processor()
    load = os.getloadavg()[0]
    return (
        f"{cores} cores, {memory:.0f} GiB memory, load {load:.1f} when it began, device {device} ({named})\n"
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, {versions}"
    )


def version_of(name: str) -> str:
    """Of an installed library; empty where it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def processor() -> str:
    """The processor's name as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


@contextmanager
def scratch(folder: Path | None) -> Iterator[Path]:
    """A temporary folder, in ``folder`` where one is given; removed at the end."""
    with tempfile.TemporaryDirectory(prefix="mser-bench-", dir=folder, ignore_cleanup_errors=True) as made:
        yield Path(made)


def in_turn(
    contestants: Mapping[str, Callable[[], object]],
    rounds: int,
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each contestant in each round.

    Each round runs all of them, in an order of its own: what else the machine does then hits all alike, and only
    ratios within a round are compared.

    Args:
        clock: ``time.process_time`` where nothing waits for the disk: it stops while other programs have the core.
    """
    shuffle = random.Random(seed)
    spent: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        order = list(contestants)
        shuffle.shuffle(order)
        for name in order:
            began = clock()
            contestants[name]()
            spent[name].append(clock() - began)
    return spent


def ratio(base: Sequence[float], other: Sequence[float]) -> tuple[float, str]:
    """Median of ``base / other`` round by round, and it as text with the middle half of the rounds.

    >>> ratio([1.0, 1.0, 1.0], [2.0, 2.0, 2.0])
    (0.5, '0.50 (0.50-0.50)')
    """
    low, middle, high = np.percentile(np.divide(base, other), [25, 50, 75])
    return float(middle), f"{middle:.2f} ({low:.2f}-{high:.2f})"


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows in columns: the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = [
        "  ".join(cell.rjust(width) if column else cell.ljust(width) for column, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(row, widths, strict=True)) for row in [header, *rows])
    ]
    return "\n".join([title, lines[0], "-" * len(lines[0]), *lines[1:]])
