"""The folders of runs: which one is meant, and what an adaptation's lacks."""

from __future__ import annotations

from pathlib import Path

from mser.config import Workspace
from mser.errors import RunError

#: What a run was made from; an adaptation leaves none.
CONFIG = "config.json"
#: Models for use in a run's folder.
MODELS = "model*.safetensors"


def run_path(run: str, workspace: Workspace) -> Path:
    """A run by its path, or by its name in the workspace.

    A file or folder of the same name that is no run's does not stand in the way of a run of the workspace.
    """
    path, named = Path(run), workspace.runs / run
    of_run = path.suffix == ".safetensors" if path.is_file() else _is_run(path)
    return path if of_run or (path.exists() and not named.exists()) else named


def _is_run(folder: Path) -> bool:
    return (folder / CONFIG).is_file() or next(folder.glob(MODELS), None) is not None


def study_folder(run: str, workspace: Workspace) -> Path:
    """The folder of a run of `make train`, by its path or by its name in the workspace.

    Raises:
        RunError: there is none, or an adaptation made it.
    """
    folder = run_path(run, workspace)
    if run and (folder / CONFIG).is_file():
        return folder
    refuse_adaptation(folder)
    names = sorted(path.parent.name for path in workspace.runs.glob(f"*/{CONFIG}"))
    raise RunError(
        f"The folder is no run's: it has no {CONFIG}." if run and folder.is_dir() else "There is no such run.",
        file=folder,
        field="run",
        expected=f"one of: {' '.join(names) or 'none yet'}",
        found=run or "none",
        hint="name one of them, or run `make train`" if names else "run `make train`",
    )


def refuse_adaptation(folder: Path) -> None:
    """Raises RunError where a folder's model was made by an adaptation, with what takes it."""
    from mser.checkpoint import facts_if_whole  # torch takes seconds

    found = [facts_if_whole(model) for model in folder.glob(MODELS)]
    begun = next((facts["from"] for facts in found if facts and "from" in facts), None)
    if begun is None:
        return
    raise RunError(
        "The folder holds an adaptation's model: it has no config, no card and no report of a study.",
        file=folder,
        field="run",
        expected="a run of `make train`",
        found=f"a model that began as {begun.get('model')}",
        hint=f"its report is reports/{folder.name}/adapt.html, which `make adapt` with the same RUN and LANG writes "
        "again; `mser predict`, `explain`, `serve` and `export-head` take the model",
    )
