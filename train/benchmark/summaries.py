"""What all cells say together: means, ranks, what ideas are worth, and what a reader must know first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mser.significance import holm
from train.systems import SYSTEMS
from train.systems.task import FEW_SHOT

#: Of tests that are called decided.
LEVEL = 0.05


def summary(cells: Sequence[Mapping[str, Any]], systems: Sequence[str]) -> list[dict[str, Any]]:
    """For each protocol, label set, k and system the means over the cells that it finished."""
    grouped: dict[tuple[str, str, int], list[Mapping[str, Any]]] = defaultdict(list)
    for cell in cells:
        grouped[cell["protocol"], cell["labels"], cell["k"]].append(cell)
    found = []
    for (protocol, labels, k), own in grouped.items():
        for name in systems:
            results = [one for cell in own for one in cell["results"] if one["system"] == name]
            failed = sum(one["system"] == name for cell in own for one in cell["failed"])
            missing = sum(name in cell["missing"] for cell in own)
            if not (results or failed or missing):
                continue
            found.append({
                "protocol": protocol, "labels": labels, "k": k, "system": name,
                "uar": float(np.mean([one["uar"]["mean"] for one in results])) if results else None,
                "rank": float(np.mean([one["rank"] for one in results])) if results else None,
                "cells": len(results), "of": len(own), "failed": failed,
                "seconds": sum(one["seconds"] for one in results),
                "parameters": max((one["parameters"] for one in results), default=0),
            })  # fmt: skip
    return found


def ideas(cells: Sequence[Mapping[str, Any]], systems: Sequence[str]) -> list[dict[str, Any]]:
    """What each idea is worth: a system less the same one without its idea, over the cells that both finished.

    In ``better`` and ``worse`` a cell counts where p over speakers, corrected over these cells, is at most LEVEL.
    """
    grouped: dict[tuple[str, str, int, str], list[dict[str, Any]]] = defaultdict(list)
    for cell in cells:
        for result in cell["results"]:
            if result["against_control"]:
                key = (cell["protocol"], cell["labels"], cell["k"], result["system"])
                grouped[key].append(result["against_control"])
    found = []
    for (protocol, labels, k, name), tests in sorted(grouped.items(), key=lambda item: systems.index(item[0][3])):
        p = holm([test["p_speakers_alone"] for test in tests])
        signs = [np.sign(test["difference"]) * (own <= LEVEL) for test, own in zip(tests, p, strict=True)]
        found.append({
            "protocol": protocol, "labels": labels, "k": k, "system": name, "control": tests[0]["control"],
            "difference": float(np.mean([test["difference"] for test in tests])),
            "better": signs.count(1), "worse": signs.count(-1), "cells": len(tests),
        })  # fmt: skip
    return found


def _seeds_of(result: Mapping[str, Any], seeds: Sequence[int], cell: Mapping[str, Any]) -> int:
    """How many seeds a result has once it is finished."""
    return len(seeds) if SYSTEMS[result["system"]].system.seeded or cell["protocol"] == FEW_SHOT else 1


def notes(cells: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> list[str]:
    found = []
    failed = sum(len(cell["failed"]) for cell in cells)
    missing = sum(len(cell["missing"]) for cell in cells)
    if failed:
        found.append(f"{failed} numbers are missing because a system failed; the reasons are listed.")
    fewer = sorted({
        one["system"] for cell in cells for one in cell["results"] if len(one["seeds"]) < _seeds_of(one, seeds, cell)
    })  # fmt: skip
    if fewer:
        found.append(f"Fewer than {len(seeds)} seeds so far, of: {', '.join(fewer)}. `make benchmark` goes on.")
    if missing:
        found.append(f"{missing} numbers are not computed yet; `make benchmark` goes on.")
    weak = sorted({
        cell["target"] for cell in cells for one in cell["results"]
        if (test := one.get("against_bar")) and test["least_p"] * (len(cell["results"]) - 1) > LEVEL
    })  # fmt: skip
    if weak:
        found.append(
            f"{', '.join(weak)}: so few speakers for so many systems that no difference from the bar over speakers can "
            f"have p of {LEVEL} or less once it is corrected; a tie says nothing there."
        )
    return found
