"""Blocks of work in this process, in several, and on a Dask cluster: the same results, and what an error stops."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from toys import make_workspace

from mser.config import read_json
from mser.errors import ConfigError
from mser.model import ModelSettings
from train.fit import FitSettings
from train.settings import Inputs, StudySettings
from train.study import Study, study_block
from train.workers import Placing, default_workers, run_blocks


def write(folder: Path, number: int) -> None:
    (folder / f"{number}.txt").write_text(str(number**2), encoding="utf-8")


def fail_or_wait(folder: Path, number: int) -> None:
    """The first block is done, the second fails after it, and all others would wait for something that never comes."""
    if number == 0:
        write(folder, number)
        return
    for _ in range(6000):
        if number == 1 and (folder / "0.txt").is_file():
            raise ConfigError("A block failed.", field="number", found=number)
        time.sleep(0.01)


def fail_at_2(folder: Path, number: int) -> None:
    if number == 2:
        raise ConfigError("A block failed.", field="number", found=number)
    write(folder, number)


class Progress:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []

    def __call__(self, done: int, total: int) -> None:
        self.told.append((done, total))


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """The address of a Dask cluster of one worker in this process."""
    import distributed

    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None, silence_logs=50
    ) as cluster:
        yield cluster.scheduler_address


def placing(kind: str, request: pytest.FixtureRequest) -> Placing:
    if kind == "cluster":
        return Placing(scheduler=request.getfixturevalue("scheduler"))
    return Placing(workers=2 if kind == "processes" else 1)


KINDS = ("here", "processes", "cluster")


@pytest.mark.parametrize("kind", KINDS)
def test_every_block_is_called_once_and_progress_is_told(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    progress = Progress()
    run_blocks(write, [(tmp_path, number) for number in range(5)], placing(kind, request), progress)
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == {
        f"{number}.txt": str(number**2) for number in range(5)
    }
    assert progress.told == [(done, 5) for done in range(6)]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_to_do_is_done_at_once(kind: str, request: pytest.FixtureRequest) -> None:
    progress = Progress()
    run_blocks(write, [], placing(kind, request), progress)
    assert progress.told == [(0, 0)]


def test_an_error_here_stops_the_blocks_behind_it_and_keeps_those_before(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="A block failed"):
        run_blocks(fail_at_2, [(tmp_path, number) for number in range(5)], Placing(), Progress())
    assert {path.name for path in tmp_path.iterdir()} == {"0.txt", "1.txt"}


def test_an_error_in_a_process_stops_those_that_run_and_those_that_wait_and_keeps_what_is_done(tmp_path: Path) -> None:
    progress = Progress()
    with pytest.raises(ConfigError, match="A block failed"):
        run_blocks(fail_or_wait, [(tmp_path, number) for number in range(12)], Placing(workers=2), progress)
    assert {path.name for path in tmp_path.iterdir()} == {"0.txt"}
    assert progress.told == [(0, 12), (1, 12)]


def fail_first(folder: Path, number: int) -> None:
    """Notes that it was begun; the first block fails, the others wait until they are let go."""
    with (folder / "begun.txt").open("a", encoding="utf-8") as file:
        file.write(f"{number}\n")
    if number == 0:
        raise ConfigError("A block failed.", field="number", found=number)
    for _ in range(2000):
        if (folder / "go.txt").is_file():
            return
        time.sleep(0.01)


def test_an_error_on_a_cluster_stops_the_blocks_that_have_not_begun_and_is_not_tried_again(
    tmp_path: Path, scheduler: str
) -> None:
    blocks = [(tmp_path, number) for number in range(40)]
    try:
        with pytest.raises(ConfigError, match="A block failed"):
            run_blocks(fail_first, blocks, Placing(scheduler=scheduler), Progress())
    finally:
        (tmp_path / "go.txt").touch()
    begun = (tmp_path / "begun.txt").read_text(encoding="utf-8").split()
    assert begun.count("0") == 1
    assert len(begun) < 40


def test_a_cluster_that_was_used_is_left_running(tmp_path: Path, scheduler: str) -> None:
    for number in range(2):
        run_blocks(write, [(tmp_path, number)], Placing(scheduler=scheduler), Progress())
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nowhere", "magic://host:1"])
def test_a_scheduler_that_does_not_answer_is_an_error_that_says_how_to_start_one(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import distributed

    real = distributed.Client
    monkeypatch.setattr(distributed, "Client", lambda address, timeout, **named: real(address, timeout="0.3s", **named))
    with pytest.raises(ConfigError, match="does not answer") as error:
        run_blocks(write, [(Path("none"), 0)], Placing(scheduler=address), Progress())
    assert address in str(error.value)
    assert "dask scheduler" in (error.value.hint or "")


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study that has not begun."""
    root = make_workspace(tmp_path_factory.mktemp("made")).root
    settings = StudySettings(
        model=ModelSettings(hidden=8), fit=FitSettings(epochs=2, least_steps=1, batch_size=8), fold_block=2
    )
    return Study(Inputs(root, (), settings), root / "runs" / "none", ("de",), ("logistic", "fixed"), (0, 1))


@functools.cache
def results(studied: Study, kind: str, placed: Placing) -> dict[str, Any]:
    """Every result of a study that ran there, but how long it took."""
    own = Study(studied.inputs, studied.folder.with_name(kind), studied.languages, studied.methods, studied.seeds)
    run_blocks(study_block, own.blocks({"de": 4}), placed, Progress())
    paths = sorted(own.folder.rglob("*.json"))
    return {
        str(path.relative_to(own.folder)): {key: value for key, value in read_json(path).items() if key != "seconds"}
        for path in paths
    }


@pytest.mark.parametrize("kind", ["processes", "cluster"])
def test_a_study_gives_the_same_bits_wherever_it_runs(
    studied: Study, kind: str, request: pytest.FixtureRequest
) -> None:
    expected = results(studied, "here", Placing())
    assert len(expected) == 4 + 2 * 4
    assert results(studied, kind, placing(kind, request)) == expected


def count_threads(folder: Path, number: int) -> None:
    (folder / f"{number}.txt").write_text(str(torch.get_num_threads()), encoding="utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_a_block_has_one_thread_wherever_it_runs_since_sums_over_several_have_other_last_bits(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        run_blocks(count_threads, [(tmp_path, number) for number in range(3)], placing(kind, request), Progress())
        assert kind != "here" or torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(threads)
    assert [path.read_text(encoding="utf-8") for path in tmp_path.iterdir()] == ["1"] * 3


def test_there_is_a_worker_at_least() -> None:
    assert default_workers() >= 1


def report_and_wait(folder: Path, number: int) -> None:
    (folder / f"{os.getpid()}.pid").touch()
    time.sleep(600)


KILLED = """
import sys
from pathlib import Path
from test_workers import report_and_wait
from train.workers import Placing, run_blocks
if __name__ == "__main__":
    folder = Path(sys.argv[1])
    run_blocks(report_and_wait, [(folder, 0), (folder, 1)], Placing(workers=2), lambda done, total: None)
"""


def test_workers_end_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(KILLED, encoding="utf-8")
    folder = tmp_path / "blocks"
    folder.mkdir()
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
    parent = subprocess.Popen([sys.executable, str(program), str(folder)], env={**os.environ, "PYTHONPATH": path})
    try:
        workers = waited(lambda: sorted(int(one.stem) for one in folder.glob("*.pid")), lambda found: len(found) == 2)
    finally:
        parent.kill()
        parent.wait()
    assert waited(lambda: [one for one in workers if alive(one)], lambda found: not found) == []


def waited(look: Callable[[], list[int]], wanted: Callable[[list[int]], bool]) -> list[int]:
    """What is seen once it is as wanted, or after two minutes."""
    for _ in range(1200):
        if wanted(found := look()):
            break
        time.sleep(0.1)
    return found


def alive(process: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
