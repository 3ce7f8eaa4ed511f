"""From the files of answers to the leaderboard: means, intervals, ranks and paired tests of every cell.

A cell is one table's entry for all systems: a protocol, a source, a target, a label set and a k. All tasks' predictions
of a seed are joined, so that each utterance that is tested counts once, then scored.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from mser import __version__
from mser.config import read_if_whole
from mser.errors import MserError, RunError
from mser.mapping import load_mapping
from mser.metrics import clustered_intervals, score
from mser.significance import PairedTest, holm, paired_permutation
from train.benchmark.asked import what_was_asked
from train.benchmark.cells import Asked, Pair, rows_of
from train.benchmark.run import ANSWER_FIELDS, Benchmark, answer_path, key_of, language_of, pair_folder
from train.benchmark.summaries import ideas, notes, summary
from train.systems import SYSTEMS
from train.systems.task import FEW_SHOT, WITHIN, ZERO_SHOT

SCHEMA_VERSION = 1
#: What every other system is compared with, where it was asked.
BAR = "logistic"


@dataclass(frozen=True)
class Judged:
    """What a system said in a cell.

    Attributes:
        predictions: (seeds, N) indices into the cell's emotions. seeds: of the rows.
        answers: the files' contents.
    """

    predictions: np.ndarray
    seeds: tuple[int, ...]
    answers: list[dict[str, Any]]


@dataclass(frozen=True)
class Cell:
    """What is asked in a cell, the same of all systems.

    Attributes:
        truth: (N,) indices into ``emotions``. clusters: (N,) speakers. ids: utterance -> its place in both.
    """

    protocol: str
    pair: Pair
    k: int
    emotions: tuple[str, ...]
    truth: np.ndarray
    clusters: np.ndarray
    ids: Mapping[str, int]

    @classmethod
    def of(cls, pair: Pair, asked: Sequence[Asked]) -> Cell:
        """The cell of these tasks: of one seed, with one protocol and k."""
        rows = [row for one in asked for row in rows_of(one.task.test)]
        first = asked[0].task
        return cls(
            first.protocol, pair, first.k, first.emotions,
            np.concatenate([one.truth for one in asked]),
            np.array([row.speaker_id for row in rows]),
            {row.utterance_id: number for number, row in enumerate(rows)},
        )  # fmt: skip


def collect(benchmark: Benchmark, wall_seconds: float | None = None) -> dict[str, Any]:
    """The content of the leaderboard; what was not answered yet is named as missing, what failed with its reason."""
    cells = [cell for pair in benchmark.pairs for cell in _cells_of(benchmark, pair)]
    order = [mapping.name for mapping in benchmark.mappings]
    cells.sort(key=lambda cell: (
        order.index(cell["labels"]), [WITHIN, ZERO_SHOT, FEW_SHOT].index(cell["protocol"]), cell["k"],
        benchmark.languages.index(cell["source"]), benchmark.languages.index(cell["target"]),
    ))  # fmt: skip
    return {
        "schema_version": SCHEMA_VERSION,
        "benchmark": benchmark.folder.name,
        "mser_version": __version__,
        "upstreams": list(benchmark.inputs.upstreams),
        "seeds": list(benchmark.seeds),
        "shots": list(benchmark.shots),
        "device": benchmark.inputs.device,
        "bar": BAR,
        **what_was_asked(benchmark),
        "cells": cells,
        "summary": summary(cells, benchmark.systems),
        "ideas": ideas(cells, benchmark.systems),
        "notes": notes(cells, benchmark.seeds),
        "wall_seconds": wall_seconds,
    }


def _cells_of(benchmark: Benchmark, pair: Pair) -> list[dict[str, Any]]:
    """The cells of a pair, with what every system said in each."""
    try:
        everything = {name: benchmark.asked(pair, name) for name in benchmark.systems}
        error = benchmark.no_shots(pair)
    except MserError as whole:
        return _impossible(benchmark, pair, whole, benchmark.protocols_of(pair))
    shapes: dict[tuple[str, int], Cell] = {}
    for asked in everything.values():
        for place, own in _by_cell(asked).items():
            first = own[0].task.seed
            shapes.setdefault(place, Cell.of(pair, [one for one in own if one.task.seed == first]))
    cells = [
        _cell(benchmark, cell, {name: _by_cell(asked).get(place, []) for name, asked in everything.items()})
        for place, cell in shapes.items()
    ]
    return cells + (_impossible(benchmark, pair, error, [FEW_SHOT]) if error else [])


def _by_cell(asked: Iterable[Asked]) -> dict[tuple[str, int], list[Asked]]:
    found: dict[tuple[str, int], list[Asked]] = defaultdict(list)
    for one in asked:
        found[one.task.protocol, one.task.k].append(one)
    return dict(found)


def _impossible(benchmark: Benchmark, pair: Pair, error: MserError, protocols: Sequence[str]) -> list[dict[str, Any]]:
    """The cells of a pair that cannot be asked under these protocols: all systems failed, for one reason."""
    places = [(ZERO_SHOT, 0)] if ZERO_SHOT in protocols else []
    places += [(FEW_SHOT, k) for k in benchmark.shots] if FEW_SHOT in protocols else []
    target = language_of(benchmark.inputs, pair.target).data
    return [
        {
            **_place(protocol, pair, k, ()),
            "tested": 0,
            "utterances": len(target.utterances),
            "speakers": 0,
            "chance": None,
            "results": [],
            "failed": [
                {"system": name, "reason": str(error), "tasks": "all", "folder": _link(benchmark, name, pair)}
                for name in benchmark.systems
                if protocol in benchmark.entry(name).system.protocols
            ],
            "missing": [],
        }
        for protocol, k in ([(WITHIN, 0)] if pair.within else places)
    ]


def _place(protocol: str, pair: Pair, k: int, emotions: Sequence[str]) -> dict[str, Any]:
    names = {"labels": load_mapping(pair.labels).name, "source": pair.source, "target": pair.target}
    return {"protocol": protocol, **names, "k": k, "emotions": list(emotions)}


def _link(benchmark: Benchmark, name: str, pair: Pair) -> str:
    """The folder of a system's answers, from the folder of the leaderboard."""
    own, page = pair_folder(benchmark, name, pair), benchmark.inputs.workspace.reports / benchmark.folder.name
    return Path(os.path.relpath(own, page)).as_posix()


def _cell(benchmark: Benchmark, cell: Cell, asked: Mapping[str, Sequence[Asked]]) -> dict[str, Any]:
    said: dict[str, Judged] = {}
    failed, missing = [], []
    for name, own in asked.items():
        if not own:
            continue
        found = _read(benchmark, name, cell, own)
        if isinstance(found, Judged):
            said[name] = found
        elif found is None:
            missing.append(name)
        else:
            failed.append({"system": name, **found, "folder": _link(benchmark, name, cell.pair)})
    results = [_result(cell, name, one, _link(benchmark, name, cell.pair)) for name, one in said.items()]
    for result, rank in zip(results, rankdata([-one["uar"]["mean"] for one in results]), strict=True):
        result["rank"] = float(rank)
    _compare(cell, said, results)
    target = language_of(benchmark.inputs, cell.pair.target).data
    return {
        **_place(cell.protocol, cell.pair, cell.k, cell.emotions),
        "tested": len(cell.truth),
        "utterances": len(target.utterances),
        "speakers": len(set(cell.clusters.tolist())),
        "chance": 100 / len(set(cell.truth.tolist())),
        "results": results,
        "failed": failed,
        "missing": missing,
    }


def _read(benchmark: Benchmark, name: str, cell: Cell, asked: Sequence[Asked]) -> Judged | dict[str, Any] | None:
    """What a system said; a reason where it failed; None where tasks were not answered yet."""
    whole = read_if_whole(pair_folder(benchmark, name, cell.pair) / "failed.json")
    if whole is not None:
        return {"reason": whole.get("failed", "no reason was kept"), "tasks": "all"}
    try:
        key = key_of(benchmark, name, cell.pair)
    except MserError:  # an upstream that the system needs is not there, and nobody asked it yet
        return None
    contents = [read_if_whole(answer_path(benchmark, name, cell.pair, one.task)) for one in asked]
    failures = [content for content in contents if content and "failed" in content]
    if failures:
        return {"reason": failures[0]["failed"], "tasks": f"{len(failures)} of {len(asked)}"}
    answers = [one for one in contents if one and all(field in one for field in ANSWER_FIELDS) and one["key"] == key]
    # A seed counts once all of its tasks are answered: a leaderboard may be looked at while it is being computed.
    tasks, there = Counter(one.task.seed for one in asked), Counter(one["seed"] for one in answers)
    seeds = tuple(sorted(seed for seed, count in tasks.items() if there[seed] == count))
    if not seeds:
        return None
    answers = [one for one in answers if one["seed"] in seeds]
    predictions = np.full((len(seeds), len(cell.truth)), -1)
    for one in answers:
        place = [cell.ids[utterance] for utterance in one["utterance_ids"]]
        predictions[seeds.index(one["seed"]), place] = np.array(one["probabilities"]).argmax(1)
    if (predictions < 0).any():
        raise RunError(
            f"{name} did not judge every utterance of {cell.pair.name}.",
            file=pair_folder(benchmark, name, cell.pair),
            expected=f"{len(cell.truth)} utterances a seed",
            found=f"{int((predictions >= 0).all(0).sum())} that all seeds have",
            hint="delete the folder and run `make benchmark` again",
        )
    return Judged(predictions, seeds, answers)


def _result(cell: Cell, name: str, judged: Judged, folder: str) -> dict[str, Any]:
    scores = [score(cell.truth, one) for one in judged.predictions]
    summaries: dict[str, Any] = {}
    for metric, (low, high) in clustered_intervals(cell.truth, judged.predictions, cell.clusters).items():
        values = [getattr(one, metric) for one in scores]
        summaries[metric] = {"mean": float(np.mean(values)), "deviation": float(np.std(values))}
        summaries[metric] |= {"low": low, "high": high}
    return {
        "system": name,
        "seeds": list(judged.seeds),
        **summaries,
        "per_seed": [
            {"seed": seed, **{metric: getattr(one, metric) for metric in summaries}}
            for seed, one in zip(judged.seeds, scores, strict=True)
        ],
        "parameters": max(one["parameters"] for one in judged.answers),
        "seconds": sum(one["seconds"] for one in judged.answers),
        "test_chosen": _test_chosen(cell, judged),
        "folder": folder,
    }


def _test_chosen(cell: Cell, judged: Judged) -> dict[str, Any] | None:
    """The best of what a system would have said with other choices, chosen by the test's own labels.

    One choice for all of a cell's tasks, the mean over seeds, as papers have it that choose a layer by test accuracy.
    """
    names = set.intersection(*(set(one["alternatives"]) for one in judged.answers))
    best: dict[str, Any] | None = None
    for name in sorted(names):
        predictions = np.full_like(judged.predictions, -1)
        for one in judged.answers:
            place = [cell.ids[utterance] for utterance in one["utterance_ids"]]
            predictions[judged.seeds.index(one["seed"]), place] = one["alternatives"][name]
        uar = float(np.mean([score(cell.truth, row).uar for row in predictions]))
        if best is None or uar > best["uar"]:
            best = {"uar": uar, "choice": name}
    return best


def _compare(cell: Cell, said: Mapping[str, Judged], results: Sequence[dict[str, Any]]) -> None:
    """Puts paired tests into the results: against the bar, corrected over the cell's systems, and against controls."""
    for field, wanted in {
        "against_bar": {name: BAR for name in said if name != BAR and BAR in said},
        "against_control": {name: SYSTEMS[name].control for name in said if SYSTEMS[name].control in said},
    }.items():
        tests = {name: _tests(cell, said[name], said[other]) for name, other in wanted.items()}
        corrected = [holm([pair[number].p for pair in tests.values()]).tolist() for number in (0, 1)]
        for result in results:
            result[field] = None
        for number, (name, (by_speaker, _)) in enumerate(tests.items()):
            result = next(one for one in results if one["system"] == name)
            result[field] = {
                "control": wanted[name],
                "difference": by_speaker.difference,
                "p_speakers": corrected[0][number],
                "p_utterances": corrected[1][number],
                "least_p": by_speaker.least_p,
                "p_speakers_alone": by_speaker.p,
            }


def _tests(cell: Cell, one: Judged, other: Judged) -> tuple[PairedTest, PairedTest]:
    """Over speakers and over utterances."""
    groups = (cell.clusters, np.arange(len(cell.truth)))
    first, second = (paired_permutation(cell.truth, one.predictions, other.predictions, by) for by in groups)
    return first, second
