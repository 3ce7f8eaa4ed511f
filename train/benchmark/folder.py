"""The folder of a benchmark: what its answers were made from, and how long they took."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mser.config import Workspace, read_json, write_json
from mser.errors import RunError
from train.benchmark.run import Benchmark, language_of
from train.settings import Inputs, StudySettings

CONFIG = "benchmark.json"


def open_benchmark(benchmark: Benchmark) -> None:
    """Writes what is asked into the folder; going on with it where it exists.

    Raises:
        RunError: the folder holds answers on other data, labels, upstreams or options, which would be lost.
    """
    path = benchmark.folder / CONFIG
    before = read_config(path) if path.is_file() else {}
    data = {name: language_of(benchmark.inputs, name).data.fingerprint for name in benchmark.languages}
    mappings = {mapping.name: mapping.fingerprint for mapping in benchmark.mappings}
    own = {"upstreams": list(benchmark.inputs.upstreams), "changes": list(benchmark.changes)}
    differing = [name for name, value in own.items() if before and before[name] != value]
    if before:
        differing += [f"data of {name}" for name, one in data.items() if before["data"].get(name, one) != one]
        labels = before.get("mappings", {})
        differing += [f"labels of {name}" for name, one in mappings.items() if labels.get(name, one) != one]
    if differing:
        raise RunError(
            "The folder holds answers on other data, labels, upstreams or options.",
            file=path,
            field=", ".join(differing),
            expected={name: before.get(name) for name in own},
            found=own,
            hint="give another RUN, or delete the folder",
        )
    write_json(
        path,
        {
            **own,
            "data": {**before.get("data", {}), **data},
            "mappings": {**before.get("mappings", {}), **mappings},
            "device": benchmark.inputs.device,
            "wall_seconds": before.get("wall_seconds", 0.0),
            **{name: list(getattr(benchmark, name)) for name in PARTS},
        },
    )


#: Attributes of a benchmark that its folder names, to write the leaderboard again.
PARTS = ("languages", "systems", "protocols", "labels", "shots", "seeds")


def read_config(path: Path) -> dict[str, Any]:
    """What a folder says of its answers.

    Raises:
        RunError: it is missing or lacks something. ConfigError: it is damaged.
    """
    found = read_json(path)
    lacking = [name for name in (*PARTS, "upstreams", "changes", "data") if name not in found]
    if lacking:
        raise RunError(
            "The folder does not say what was asked.", file=path, expected=", ".join(lacking), hint="give another RUN"
        )
    return dict(found)


def restored(workspace: Workspace, folder: Path) -> Benchmark:
    """The benchmark of a folder.

    Raises:
        RunError: there is none, or it was written by another version.
    """
    path = folder / CONFIG
    if not path.is_file():
        names = sorted(one.parent.name for one in workspace.benchmarks.glob(f"*/{CONFIG}"))
        raise RunError(
            "There is no such benchmark.",
            file=folder,
            expected=f"one of: {' '.join(names) or 'none yet'}",
            hint="run `make benchmark`",
        )
    config = read_config(path)
    inputs = Inputs(workspace.root, tuple(config["upstreams"]), StudySettings(), config.get("device", "cpu"))
    parts = {name: tuple(config[name]) for name in PARTS}
    return Benchmark(inputs, folder, **parts, changes=tuple(config["changes"]))


def wall_seconds(benchmark: Benchmark, more: float = 0.0) -> float:
    """Seconds of all runs into the folder together, with these added."""
    path = benchmark.folder / CONFIG
    config = read_config(path)
    config["wall_seconds"] = config.get("wall_seconds", 0.0) + more
    write_json(path, config)
    return float(config["wall_seconds"])
