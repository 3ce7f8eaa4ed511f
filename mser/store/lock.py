"""One extraction a store at a time: a lock file that says whose it is, and is recognised when its owner is gone.

The file is made by exclusive creation, which works on network file systems where POSIX locks do not. Its owner
touches it every few seconds. It is stale where its process is gone (on this host), or where it was not touched for a
while (on another, in another container of this one, or where it cannot be told whether the process is gone).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mser.errors import DiskError, StoreError

FILE_NAME = "extraction.lock"
#: Seconds from one touch to the next, and without one until the owner counts as gone.
BEAT_SECONDS, STALE_SECONDS = 5.0, 60.0
#: Seconds between two looks while waiting for another extraction.
LOOK_SECONDS = 0.5
#: When a process began of which that cannot be told.
UNKNOWN = "unknown"


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[None]:
    """Holds the store's lock; waits for another extraction, or refuses.

    Raises:
        StoreError: another extraction holds it; the message names its process and host.
        DiskError: the folder cannot be written to.
    """
    path = folder / FILE_NAME
    while not _create(path):
        owner = _owner(path)
        if owner is not None and _gone(path, owner):
            _remove_stale(path)
        elif owner is not None and not wait:
            raise StoreError(
                "Another extraction is writing this store.",
                file=folder,
                found=f"process {owner.get('pid')} on host {owner.get('host')}, since {owner.get('since')}",
                hint="wait for it to end (WAIT=1 does), or stop it; this lock is recognised as stale once it is gone",
            )
        else:
            time.sleep(LOOK_SECONDS if owner is not None else 0.01)
    stop = threading.Event()
    beat = threading.Thread(target=_touch_until, args=(path, stop), daemon=True)
    beat.start()
    try:
        yield
    finally:
        stop.set()
        beat.join()
        owner, own = _owner(path), _name()
        # A process that was stopped for long may have lost its lock to another.
        if owner is not None and all(owner.get(part) == own[part] for part in ("pid", "started", "host", "processes")):
            path.unlink(missing_ok=True)


def _name() -> dict[str, Any]:
    """What tells this process from all others that may share the folder."""
    return {
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        "host": socket.gethostname(),
        "processes": _processes(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _processes() -> str:
    """Which processes are numbered together with this one: containers may share a host's name, not its numbers."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _create(path: Path) -> bool:
    """Makes the lock file with this process's name in it, whole at once; False where there is one."""
    own = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        own.write_text(json.dumps(_name()), encoding="utf-8")
        # A link appears with its content, and fails where the name is taken, on network file systems too.
        os.link(own, path)
    except FileExistsError:
        return False
    except OSError as error:
        raise DiskError(
            "The store's folder cannot be written to.",
            file=path.parent,
            found=error.strerror,
            hint="give a MSER_HOME that can be written to, on a file system with hard links",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            own.unlink()
    return True


def _owner(path: Path) -> dict[str, Any] | None:
    """Who holds the lock; None where it is gone by now."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        return {"pid": "unknown", "host": "unknown", "since": "unknown"}


def _gone(path: Path, owner: dict[str, Any]) -> bool:
    if (owner.get("host"), owner.get("processes")) == (socket.gethostname(), _processes()):
        started = _started(int(owner["pid"]))
        if started != UNKNOWN:
            return started != owner.get("started")
    return _untouched(path)


def _untouched(path: Path) -> bool:
    """Whether a file was not touched for ``STALE_SECONDS``; the file system's clock is asked: hosts may differ."""
    probe = path.with_name(f".{path.name}.probe.{socket.gethostname()}.{os.getpid()}")
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime > STALE_SECONDS
    except FileNotFoundError:
        return False
    finally:
        probe.unlink(missing_ok=True)


def _started(pid: int) -> str | None:
    """When a process of this host began, so that a number used again is not mistaken.

    None where it is gone; ``UNKNOWN`` where it runs, and no more can be told.
    """
    try:
        # The 22nd field of proc(5) stat; the name in parentheses may hold spaces. Zombies have ended.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return None if fields[0] == "Z" else fields[19]
    except OSError:
        pass  # it is gone, there is no /proc, or /proc hides what others run
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return UNKNOWN


def _remove_stale(path: Path) -> None:
    """Removes a stale lock; of several processes that see it, one does, so that no fresh lock is removed."""
    breaker = path.with_name(f".{path.name}.break")
    try:
        os.close(os.open(breaker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        if _untouched(breaker):
            breaker.unlink(missing_ok=True)
        time.sleep(0.01)
        return
    try:
        owner = _owner(path)
        if owner is not None and _gone(path, owner):
            path.unlink(missing_ok=True)
    finally:
        breaker.unlink(missing_ok=True)


def _touch_until(path: Path, stop: threading.Event) -> None:
    while not stop.wait(BEAT_SECONDS):
        with contextlib.suppress(OSError):
            os.utime(path)
