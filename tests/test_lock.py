"""The lock of a store against other processes: living, killed, on other hosts, and many at once."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mser.errors import DiskError, StoreError
from mser.store import lock
from mser.store.lock import FILE_NAME, STALE_SECONDS, locked

ROOT = Path(__file__).resolve().parents[1]
# The module alone: its package would import torch.
LOCK = """
import importlib.util, os, sys, time
from pathlib import Path
found = importlib.util.spec_from_file_location("lock", Path("mser", "store", "lock.py"))
lock = importlib.util.module_from_spec(found)
found.loader.exec_module(lock)
"""
HOLDING = (
    LOCK
    + """
with lock.locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""
)


@contextmanager
def held_elsewhere(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until it is sent a line."""
    command = [sys.executable, "-c", HOLDING, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        try:
            yield other
        finally:
            other.kill()


def pretend(folder: Path, age: float = 0.0, **changes: Any) -> Path:
    """A lock as this process would make it, with changes, touched ``age`` seconds ago."""
    folder.mkdir(exist_ok=True)
    path = folder / FILE_NAME
    path.write_text(json.dumps({**lock._name(), **changes}), encoding="utf-8")
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_a_second_process_is_refused_or_waits_and_a_killed_ones_lock_is_taken_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "LOOK_SECONDS", 0.05)
    with held_elsewhere(tmp_path) as other:
        with pytest.raises(StoreError, match="Another extraction") as error, locked(tmp_path):
            pytest.fail("held twice")
        assert f"process {other.pid} on host {os.uname().nodename}" in str(error.value)
        assert "WAIT=1" in str(error.value)
        events: list[str] = []

        def wait() -> None:
            with locked(tmp_path, wait=True):
                events.append("held")

        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(0.4)
        events.append("released")
        other.communicate("go on\n")
        waiting.join(30)
        assert events == ["released", "held"]
    with held_elsewhere(tmp_path) as other:
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert (tmp_path / FILE_NAME).exists()
        with locked(tmp_path):
            assert json.loads((tmp_path / FILE_NAME).read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_number_that_another_process_has_by_now_is_no_owner(tmp_path: Path) -> None:
    pretend(tmp_path, pid=os.getppid(), started=lock._started(os.getppid()))
    with pytest.raises(StoreError, match="Another extraction"), locked(tmp_path):
        pytest.fail("held twice")
    pretend(tmp_path, pid=os.getppid(), started="1")
    with locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("changes", [{"host": "elsewhere"}, {"processes": "pid:[1]"}])
def test_an_owner_that_cannot_be_seen_is_honoured_while_it_touches_the_lock(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    pretend(tmp_path, STALE_SECONDS - 5, pid=999_999_999, **changes)
    with pytest.raises(StoreError, match="process 999999999"), locked(tmp_path):
        pytest.fail("held twice")
    pretend(tmp_path, STALE_SECONDS + 5, pid=999_999_999, **changes)
    with locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_may_not_be_looked_at_counts_as_gone_when_it_does_not_touch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(pid: int, number: int) -> None:
        raise PermissionError

    own = lock._started(os.getpid())
    monkeypatch.setattr(Path, "read_text", lambda self, **options: _without_proc(self))
    monkeypatch.setattr(os, "kill", forbidden)
    assert lock._started(os.getpid()) == lock.UNKNOWN
    assert not lock._gone(pretend(tmp_path, started=own), lock._name() | {"started": own})
    assert lock._gone(pretend(tmp_path, STALE_SECONDS + 5, started=own), lock._name() | {"started": own})


def _without_proc(path: Path) -> str:
    if path.is_relative_to("/proc"):
        raise FileNotFoundError
    return path.read_bytes().decode()


def test_a_damaged_lock_is_honoured_until_it_is_old(tmp_path: Path) -> None:
    path = pretend(tmp_path)
    path.write_text("{")
    with pytest.raises(StoreError, match="process unknown"), locked(tmp_path):
        pytest.fail("held twice")
    os.utime(path, (0, 0))
    with locked(tmp_path):
        pass


def test_the_owner_touches_its_lock_and_leaves_anothers_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.02)
    with locked(tmp_path):
        os.utime(tmp_path / FILE_NAME, (0, 0))
        began = time.monotonic()
        while (tmp_path / FILE_NAME).stat().st_mtime < 1_000_000 and time.monotonic() < began + 20:
            time.sleep(0.01)
        assert time.time() - (tmp_path / FILE_NAME).stat().st_mtime < 20
        pretend(tmp_path, host="elsewhere")
    assert (tmp_path / FILE_NAME).exists()


# Forks ten processes that want the same lock at the same moment; at most one may hold it.
RACING = (
    LOCK
    + """
folder, lock.LOOK_SECONDS = Path(sys.argv[1]), 0.001
begin = time.time() + 0.3
children = []
for number in range(10):
    if not (child := os.fork()):
        time.sleep(max(0, begin - time.time()))
        for _ in range(4):
            with lock.locked(folder, wait=True):
                os.close(os.open(folder / "marker", os.O_CREAT | os.O_EXCL))
                time.sleep(0.002)
                os.unlink(folder / "marker")
                with open(folder / "count", "a") as file:
                    file.write("x")
            if number % 3 == 0:
                break
        # Some leave a lock that no one owns any more.
        lock._create(folder / lock.FILE_NAME) if number % 4 == 0 else None
        os._exit(0)
    children.append(child)
sys.exit(sum(os.waitpid(child, 0)[1] != 0 for child in children))
"""
)


@pytest.mark.parametrize("age", [0.0, STALE_SECONDS + 5])
def test_of_many_that_race_for_a_stale_lock_one_at_a_time_holds_it(tmp_path: Path, age: float) -> None:
    pretend(tmp_path, age, pid=999_999_999, **({"host": "elsewhere"} if age else {}))
    command = [sys.executable, "-c", RACING, str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "count").read_text() == "x" * (4 * 1 + 6 * 4)
    assert {path.name for path in tmp_path.iterdir()} <= {"count", FILE_NAME}


@pytest.mark.parametrize("what", ["link", "write"])
def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    if what == "link":
        monkeypatch.setattr(os, "link", refuse)
    else:
        monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(DiskError, match="cannot be written to") as error, locked(tmp_path):
        pytest.fail("held")
    assert error.value.found == "Read-only file system"
    assert list(tmp_path.iterdir()) == []
