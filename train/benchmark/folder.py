"""The folder of a benchmark: what its answers were made from, and how long they took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mser.config import Workspace, read_json, write_json
from mser.errors import RunError
from train.benchmark.run import Benchmark, language_of
from train.settings import Inputs, StudySettings
from train.systems import SYSTEMS
from train.systems.task import FEW_SHOT, ZERO_SHOT

CONFIG = "benchmark.json"
#: Attributes of a benchmark that its folder names, to write the leaderboard again.
PARTS = ("languages", "systems", "protocols", "labels", "shots", "seeds")


def open_benchmark(benchmark: Benchmark) -> Benchmark:
    """Adds what is asked to the folder, which is made where there is none.

    Returns:
        All that the folder was asked, this time and before: what its leaderboard shows.

    Raises:
        RunError: the folder holds answers on other data, labels, upstreams or options, which would be lost; or its
            first label set is another.
    """
    path = benchmark.folder / CONFIG
    before = read_config(path) if path.is_file() else {}
    if before:
        _require_same_first(benchmark, before, path)
    whole = _joined(benchmark, before)
    data = {name: language_of(whole.inputs, name).data.fingerprint for name in whole.languages}
    mappings = {mapping.name: mapping.fingerprint for mapping in whole.mappings}
    own = {"upstreams": list(benchmark.inputs.upstreams), "changes": list(benchmark.changes)}
    if before:
        _require_same(before, {**own, "data": data, "mappings": mappings}, path)
    write_json(
        path,
        {
            **own,
            "data": {**before.get("data", {}), **data},
            "mappings": {**before.get("mappings", {}), **mappings},
            "device": benchmark.inputs.device,
            "wall_seconds": before.get("wall_seconds", 0.0),
            **{name: list(getattr(whole, name)) for name in PARTS},
        },
    )
    return whole


def _joined(benchmark: Benchmark, before: Mapping[str, Any]) -> Benchmark:
    """What a folder was asked before, in its order, and then what is asked now; systems in the table's order."""
    asked = {name: getattr(benchmark, name) for name in PARTS}
    if FEW_SHOT not in benchmark.protocols:
        asked["shots"] = ()
    if ZERO_SHOT not in benchmark.protocols:
        asked["labels"] = asked["labels"][:1]
    parts: dict[str, Any] = {name: [*before.get(name, []), *asked[name]] for name in PARTS}
    parts["systems"].sort(key=list(SYSTEMS).index)
    # A label set is known by its name, wherever its file lies now.
    parts["labels"] = list({Path(label).stem: label for label in parts["labels"]}.values())
    parts = {name: tuple(dict.fromkeys(values)) for name, values in parts.items()}
    return replace(benchmark, **parts)


def _require_same(before: Mapping[str, Any], now: Mapping[str, Any], path: Path) -> None:
    """Raises RunError where answers come from something else: upstreams, changes, or a fingerprint by name."""
    named = {"data": "data of", "mappings": "labels of"}
    differing = {name: (before[name], now[name]) for name in ("upstreams", "changes") if before[name] != now[name]}
    for part, said in named.items():
        kept = before.get(part, {})
        found = {name: (kept[name], one) for name, one in now[part].items() if name in kept and kept[name] != one}
        differing |= {f"{said} {name}": both for name, both in found.items()}
    if differing:
        raise RunError(
            "The folder holds answers on other data, labels, upstreams or options.",
            file=path,
            field=", ".join(differing),
            expected="; ".join(_words(one) for one, _ in differing.values()),
            found="; ".join(_words(one) for _, one in differing.values()),
            hint="give another RUN, or delete the folder",
        )


def _words(value: list[str] | str) -> str:
    """
    >>> _words(["mfcc", "prosody"]), _words([]), _words("0123abcd")
    ('mfcc prosody', 'none', '0123abcd')
    """
    return value if isinstance(value, str) else " ".join(value) or "none"


def _require_same_first(benchmark: Benchmark, before: Mapping[str, Any], path: Path) -> None:
    """Raises RunError where another label set comes first: what was asked of the one would be lost in the table."""
    first, now = (Path(labels[0]).stem for labels in (before["labels"], benchmark.labels))
    if first != now:
        raise RunError(
            "The first label set is asked under every protocol, and in this folder it is another.",
            file=path,
            field="LABELS",
            expected=f"{first}, and any others behind it",
            found=" ".join(benchmark.labels),
            hint="give another RUN, or begin LABELS with the folder's own",
        )


def read_config(path: Path) -> dict[str, Any]:
    """What a folder says of its answers.

    Raises:
        RunError: it lacks something, or names a system that is not there. ConfigError: it is missing or damaged.
    """
    found = read_json(path)
    lacking = [name for name in (*PARTS, "upstreams", "changes", "data") if name not in found]
    if lacking:
        raise RunError(
            "The folder does not say what was asked.", file=path, expected=", ".join(lacking), hint="give another RUN"
        )
    if gone := [name for name in found["systems"] if name not in SYSTEMS]:
        raise RunError(
            "The folder has answers of a system that is not there.",
            file=path,
            field="systems",
            expected=" ".join(SYSTEMS),
            found=", ".join(gone),
            hint="bring it back into train/systems/__init__.py, or take its name out of the file",
        )
    return dict(found)


def upstreams_of(folder: Path) -> tuple[str, ...]:
    """The experts that a folder's answers come from; none where there is no such folder."""
    path = folder / CONFIG
    return tuple(read_config(path)["upstreams"]) if path.is_file() else ()


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
    parts: dict[str, Any] = {name: tuple(config[name]) for name in PARTS}
    return Benchmark(inputs, folder, **parts, changes=tuple(config["changes"]))


def wall_seconds(benchmark: Benchmark, more: float = 0.0) -> float:
    """Seconds of all runs into the folder together, with these added."""
    path = benchmark.folder / CONFIG
    config = read_config(path)
    config["wall_seconds"] = config.get("wall_seconds", 0.0) + more
    write_json(path, config)
    return float(config["wall_seconds"])
