"""The runs that a page offers, read off their models' files without loading a model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mser.checkpoint import read_facts
from mser.config import Workspace
from mser.errors import MserError, RunError
from mser.predict.head import model_files
from mser.runs import MODELS


@dataclass(frozen=True)
class Run:
    """A run with models for use.

    Attributes:
        path: its folder, or one model file of it. methods: of its models, mostly one.
        upstreams: that its models need, together.
    """

    name: str
    path: Path
    methods: tuple[str, ...]
    languages: tuple[str, ...]
    upstreams: tuple[str, ...]

    @property
    def made_of(self) -> str:
        """Methods and upstreams, for a reader."""
        return f"{', '.join(self.methods)} on {', '.join(self.upstreams)}"

    def version(self) -> tuple[tuple[str, int, int], ...]:
        """Changes where the run is trained again.

        Raises:
            RunError: its models are gone.
        """
        stats = [(path.name, path.stat()) for path in model_files(self.path)]
        return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in stats)


def read_run(path: Path) -> Run:
    """What a run's models say of themselves.

    Raises:
        RunError: there is no model for use, one cannot be read, or one does not say on what it was trained.
    """
    methods, languages, upstreams = [], [], []
    for file in model_files(path):
        facts = read_facts(file)
        if "stores" not in facts:
            raise RunError(
                "The model does not say on which states it was trained.",
                file=file,
                field="stores",
                hint="run `make train` again with this version",
            )
        methods.append(str(facts.get("method", "unknown method")))
        languages += list(facts["stores"])
        upstreams += [name for stores in facts["stores"].values() for name in stores]
    name = path.name if path.is_dir() else f"{path.parent.name}/{path.name}"
    return Run(name, path, *(tuple(dict.fromkeys(found)) for found in (methods, languages, upstreams)))


def runs_of(workspace: Workspace, chosen: Path | None = None) -> tuple[dict[str, Run], list[MserError]]:
    """The runs of a workspace that have models for use, by name, and why others cannot be offered.

    Args:
        chosen: comes first, wherever it lies; the others follow by their age, the youngest first.

    Raises:
        RunError: the chosen one cannot be used, or there is none at all.
    """
    found: dict[str, Run] = {}
    troubles: list[MserError] = []
    if chosen is not None:
        first = read_run(chosen)
        found[first.name] = first
    for path in _folders(workspace):
        try:
            run = read_run(path)
        except MserError as error:
            troubles.append(error)
            continue
        same = found.get(run.name)
        if same is None:
            found[run.name] = run
        elif same.path.resolve() != path.resolve():
            found[str(path)] = run
    if not found:
        raise RunError(
            "There is no run with a model for use.",
            file=workspace.runs,
            found=f"{len(troubles)} that cannot be read" if troubles else None,
            hint=troubles[0].hint if troubles else "run `make train` with a method that trains heads, or give --run",
        )
    return found, troubles


def _folders(workspace: Workspace) -> Iterator[Path]:
    """Folders of runs that hold a model for use, the youngest first."""
    if workspace.runs.is_dir():
        folders = [path for path in workspace.runs.iterdir() if next(path.glob(MODELS), None)]
        yield from sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True)
