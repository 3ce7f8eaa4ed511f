"""Whether an extraction that is killed again and again loses, damages or changes anything.

    python -m bench.kills                                          synthetic recordings
    python -m bench.kills --corpora FOLDER --corpus emodb --kills 50

Three kinds of run, each with kills of its own:

    one        one command
    two        two commands on one store, each with WAIT=1: a random one is killed, the other goes on, a new one begins
    cluster    one command with two workers: all of its processes are killed, or the command alone

A kill is SIGKILL at a random moment around the time from the first shard on. After each, a reader opens the store
beside whatever still writes, looks through every shard (`damage`), and compares with what was there before. When a
store is complete, an undisturbed command runs over it, and every dataset of every shard is compared byte by byte with
a store that was never disturbed; then the next store is begun, until all kills are spent.

Shards are made small, so that there are many. Commands are forked from a process that has the libraries loaded, so
that kills hit the work and not the start.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import random
import signal
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py

from bench import recordings
from bench.common import facts, scratch, table
from mser.config import Workspace
from mser.errors import MserError
from mser.manifest import Manifest
from mser.store import Store

MODES = ("one", "two", "cluster")
PRELOADED = ["bench.recordings", "extract.cli", "extract.cluster", "distributed", "soundfile", "torchaudio"]


@dataclass(frozen=True)
class Setting:
    """What all commands share."""

    corpora: Path
    manifest: Manifest
    upstream: str
    shard_frames: int
    folder: Path

    def begin(self, name: str) -> Workspace:
        """An empty workspace with the manifest in it."""
        workspace = Workspace(self.folder / name)
        self.manifest.write(workspace, (), ())
        return workspace

    def store(self, workspace: Workspace) -> Path:
        return workspace.store(self.manifest.corpus, self.upstream)

    def start(self, workspace: Workspace, mode: str) -> Any:
        """A command on its way, in a process group of its own."""
        arguments = ["states", "--language", self.manifest.language, "--upstreams", self.upstream]
        arguments += ["--corpora", str(self.corpora), "--home", str(workspace.root), "--device", "cpu"]
        arguments += {"one": [], "two": ["--wait"], "cluster": ["--workers", "2"]}[mode]
        context = multiprocessing.get_context("forkserver")
        process = context.Process(target=command, args=(arguments, self.shard_frames, str(self.folder / "log")))
        process.start()
        return process


def command(arguments: list[str], shard_frames: int, log: str) -> None:
    """Runs ``mser-extract`` in this process, with smaller shards."""
    os.setsid()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    import extract.plan
    from extract.cli import main as states

    extract.plan.SHARD_FRAMES = shard_frames
    states(arguments, prog_name="mser-extract")


@dataclass
class Tally:
    """What became of the kills of one kind of run.

    Attributes:
        present: shards in the store at each kill. files: shard files read, in all. unreadable: that could not be
            read, or were damaged. lost: utterances that were there before a kill and not after it.
        completed: stores that were completed; equal: that equal the undisturbed one; left_over: files in them
            that are hidden or a lock.
        failed: commands that ended with an error of their own.
    """

    kills: int = 0
    present: list[int] = field(default_factory=list)
    files: int = 0
    unreadable: int = 0
    lost: int = 0
    completed: int = 0
    equal: int = 0
    left_over: int = 0
    failed: int = 0

    def row(self, mode: str, shards: int) -> list[str]:
        present = f"{min(self.present)} / {statistics.median(self.present):.0f} / {max(self.present)} of {shards}"
        middle = sum(0 < count < shards for count in self.present)
        return [
            mode,
            str(self.kills),
            present,
            str(middle),
            str(self.files),
            str(self.unreadable),
            str(self.lost),
            str(self.failed),
            str(self.completed),
            str(self.left_over),
            "yes" if self.equal == self.completed > 0 else f"NO: {self.equal} of {self.completed}",
        ]


def look(store_folder: Path, before: set[str], tally: Tally) -> set[str]:
    """Reads the store as it is now; tells the tally, and returns the utterances that are there."""
    if not (store_folder / "store.json").is_file():
        tally.lost += len(before)
        return set()
    try:
        store = Store(store_folder)
    except MserError as error:
        print(f"the store cannot be opened: {error}", file=sys.stderr)
        tally.unreadable += 1
        return before
    for shard in store.shards:
        tally.files += 1
        fault = shard.damage()
        if fault is not None:
            print(f"{shard.path.name}: {fault}", file=sys.stderr)
            tally.unreadable += 1
    now = set(store)
    tally.lost += len(before - now)
    return now


def count_shards(store_folder: Path) -> int:
    return len(list(store_folder.glob("shard-*.h5")))


def kill(process: Any, whole: bool) -> None:
    """SIGKILL to a command, and to its workers where ``whole``."""
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if whole else os.kill)(process.pid, signal.SIGKILL)
    process.join()


def undisturbed(setting: Setting, name: str, mode: str) -> tuple[Path, float, float]:
    """A store that nothing disturbs, and the seconds until its first shard and until its last."""
    workspace = setting.begin(name)
    began, first, last, there = time.perf_counter(), 0.0, 0.0, 0
    process = setting.start(workspace, mode)
    while process.is_alive():
        now = count_shards(setting.store(workspace))
        if now > there:
            there, last = now, time.perf_counter() - began
            first = first or last
        time.sleep(0.002)
    process.join()
    if process.exitcode:
        raise SystemExit(f"the undisturbed command failed: {(setting.folder / 'log').read_text(encoding='utf-8')}")
    return setting.store(workspace), first, last


def disturb(
    setting: Setting, workspace: Workspace, mode: str, moments: tuple[float, float], kills: int, tally: Tally
) -> None:
    """Kills commands on one store until it is complete, or the kills are spent."""
    folder, there = setting.store(workspace), set[str]()
    running = [setting.start(workspace, mode) for _ in range(2 if mode == "two" else 1)]
    while tally.kills < kills:
        time.sleep(random.uniform(*moments))
        for process in running:
            if process.exitcode:
                tally.failed += 1
        running = [process for process in running if process.is_alive()]
        if not running:
            break
        chosen = random.choice(running)
        tally.present.append(count_shards(folder))
        kill(chosen, whole=mode != "cluster" or random.random() < 0.5)
        tally.kills += 1
        there = look(folder, there, tally)
        left = [process for process in running if process is not chosen]
        if mode == "cluster":
            time.sleep(random.uniform(0, 0.5))  # workers that were left behind may still be ending
        running = [*left, setting.start(workspace, mode)]
    for process in running:
        kill(process, whole=True)
    look(folder, there, tally)


def complete(setting: Setting, workspace: Workspace, reference: Path, tally: Tally) -> None:
    """Lets a command complete the store, and compares it with the undisturbed one."""
    process = setting.start(workspace, "one")
    process.join()
    folder = setting.store(workspace)
    tally.failed += process.exitcode != 0
    tally.completed += 1
    left = [path.name for path in folder.iterdir() if path.name.startswith(".") or path.suffix == ".lock"]
    if left:
        print(f"left over: {' '.join(sorted(left))}", file=sys.stderr)
    tally.left_over += len(left)
    tally.equal += same_stores(folder, reference)


def same_stores(one: Path, other: Path) -> bool:
    """Whether two stores hold the same shards, and these the same attributes and datasets byte by byte."""
    unlike = sorted({path.name for path in one.glob("shard-*.h5")} ^ {path.name for path in other.glob("shard-*.h5")})
    for path in sorted(one.glob("shard-*.h5")):
        if path.name not in unlike:
            unlike += [f"{path.name}: {name}" for name in unlike_parts(path, other / path.name)]
    if unlike:
        print(f"unlike the undisturbed store: {'; '.join(unlike[:6])}; {len(unlike)} in all", file=sys.stderr)
    return not unlike


def unlike_parts(one: Path, other: Path) -> list[str]:
    """Names of the attributes and datasets in which two shards differ."""
    with h5py.File(one, "r") as first, h5py.File(other, "r") as second:
        names = sorted({*first} | {*second})
        found = [name for name in names if not same_values(first.get(name), second.get(name))]
        attributes = sorted({*first.attrs} | {*second.attrs})
        return found + [name for name in attributes if first.attrs.get(name) != second.attrs.get(name)]


def same_values(one: h5py.Dataset | None, other: h5py.Dataset | None) -> bool:
    if one is None or other is None or one.dtype != other.dtype or one.shape != other.shape:
        return False
    first, second = one[()], other[()]
    return first.tolist() == second.tolist() if one.dtype == object else first.tobytes() == second.tobytes()


def run_mode(setting: Setting, mode: str, kills: int, reference: Path) -> list[str]:
    """All kills of one kind of run; a line of the table."""
    _, first, last = undisturbed(setting, f"{mode}-calibration", mode)
    moments = (0.6 * first, first + 0.5 * (last - first))
    tally, number = Tally(), 0
    while tally.kills < kills:
        workspace = setting.begin(f"{mode}-{number}")
        disturb(setting, workspace, mode, moments, kills, tally)
        complete(setting, workspace, reference, tally)
        number += 1
    return tally.row(mode, count_shards(reference))


def setting_of(options: argparse.Namespace, folder: Path) -> Setting:
    if options.corpora:
        corpora = options.corpora.resolve()
        manifest = recordings.some_of(recordings.real(corpora, options.corpus), options.recordings)
    else:
        corpora = folder / "corpora"
        manifest = recordings.synthetic(corpora, recordings.lengths_between(options.recordings, 1.0, 4.0))
    return Setting(corpora, manifest, options.upstream, options.shard_frames, folder)


def report(rows: Sequence[Sequence[str]]) -> str:
    header = ["run", "kills", "shards there, min / median / max", "in the middle", "files read", "unreadable"]
    header += ["utterances lost", "commands failed", "stores completed", "files left over", "equal to undisturbed"]
    return table("SIGKILL during extraction", header, rows)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="of each kind of run (50)")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES), help="kinds of run (all)")
    parser.add_argument("--upstream", default="logmel", help="logmel, acoustic, or a model's folder (logmel)")
    parser.add_argument("--corpora", type=Path, help="folder with a folder for each corpus; else recordings are made")
    parser.add_argument("--corpus", default="emodb", help="of the project's definitions (emodb)")
    parser.add_argument("--recordings", type=int, default=120, help="that are extracted (120)")
    parser.add_argument("--shard-frames", type=int, default=400, help="at which a shard is closed (400)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills (0)")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    options = parser.parse_args()
    random.seed(options.seed)
    multiprocessing.set_forkserver_preload(PRELOADED)
    print(facts(), flush=True)
    with scratch(options.folder) as folder:
        setting = setting_of(options, folder)
        reference, _, last = undisturbed(setting, "reference", "one")
        print(
            f"{options.upstream} on {len(setting.manifest.utterances)} recordings of {setting.manifest.corpus}, "
            f"{count_shards(reference)} shards; undisturbed {last:.1f} s\n",
            flush=True,
        )
        rows = [run_mode(setting, mode, options.kills, reference) for mode in options.modes]
    print(report(rows))


if __name__ == "__main__":
    main()
