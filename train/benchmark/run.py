"""Asks systems: blocks of tasks, and a file for each answer.

A file holds the predictions of every test utterance, so every number of the leaderboard can be computed again. It names
by a key what it was made from; an answer with another key is computed anew.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mser.config import fingerprint, read_if_whole, write_json
from mser.errors import ConfigError, MserError, RunError
from mser.mapping import LabelMapping, load_mapping
from train.benchmark.cells import Asked, Pair, no_shots, pairs, protocols_of, rows_of, tasks_of
from train.search import loaded
from train.settings import Inputs, changed, require_seeds
from train.systems import SYSTEMS, Entry, System
from train.systems.layers import layer_scores
from train.systems.task import FEW_SHOT, WITHIN, ZERO_SHOT, Answer, Language, Task

#: Version of how the benchmark asks, whatever the systems: a change that makes other answers raises it.
RECIPE = 1
#: What the file of an answer holds; one that lacks any of it is damaged.
ANSWER_FIELDS = ("key", "system", "utterance_ids", "truth", "probabilities", "seconds", "parameters")
#: Probabilities of an utterance may be off one by this much.
ROUNDING = 1e-3

#: The states of each language in this process, beside the data that they were opened for.
_languages: dict[tuple[Inputs, str], Language] = {}


@dataclass(frozen=True)
class Benchmark:
    """What is asked: systems x pairs of languages x protocols x seeds, into one folder.

    Attributes:
        labels: what emotions count as, each the name or path of a mapping (:mod:`mser.mapping`); the first is asked
            under every protocol, the others across languages without shots.
        shots: values of k in ``few-shot``. changes: options of systems that differ, such as ``mlp.hidden=64``.
        unseeded: the seed under which a system is asked that draws nothing; the first of ``seeds`` if not given.

    Raises:
        ConfigError: a seed that no training can draw from, a change of what is no option, no such mapping, or two of
            one name.
    """

    inputs: Inputs
    folder: Path
    languages: tuple[str, ...]
    systems: tuple[str, ...]
    protocols: tuple[str, ...]
    labels: tuple[str, ...]
    shots: tuple[int, ...]
    seeds: tuple[int, ...]
    changes: tuple[str, ...] = ()
    unseeded: int | None = None

    def __post_init__(self) -> None:
        require_seeds(self.seeds)
        for name in self.systems:
            self.entry(name)
        names = [mapping.name for mapping in self.mappings]
        if not names or len(set(names)) < len(names):
            raise ConfigError(
                "Label sets are told apart by name.", field="LABELS", expected="one or more, each once", found=names
            )

    @property
    def mappings(self) -> tuple[LabelMapping, ...]:
        """What emotions count as in each label set."""
        return tuple(load_mapping(name, "LABELS") for name in self.labels)

    def entry(self, name: str) -> Entry:
        """A system with the options it is asked with."""
        entry = SYSTEMS[name]
        system = entry.system
        for change in self.changes:
            owner, _, assignment = change.partition(".")
            if owner not in SYSTEMS or not assignment:
                raise ConfigError(
                    "No option of a system is set so.", field="SET", expected="such as mlp.hidden=64", found=change
                )
            if owner == name:
                system = changed(system, [assignment])
        return replace(entry, system=system)

    @property
    def pairs(self) -> list[Pair]:
        return pairs(self.languages, self.protocols, self.labels)

    def protocols_of(self, pair: Pair) -> tuple[str, ...]:
        """What a pair is asked under."""
        return protocols_of(pair.labels, self.protocols, self.labels)

    def blocks(self) -> list[tuple[Any, ...]]:
        """Arguments of :func:`benchmark_block`: system by system, so that whole columns are there early."""
        return [(self, name, pair) for name in self.systems for pair in self.pairs]

    @property
    def where(self) -> tuple[torch.device, Path]:
        """The device of trainings, and the folder of what single layers score on dev speakers."""
        return self.inputs.torch_device, self.folder / "layers"

    def languages_of(self, pair: Pair) -> dict[str, Language]:
        """The states of a pair's languages."""
        return {one: language_of(self.inputs, one) for one in (pair.source, pair.target)}

    def no_shots(self, pair: Pair) -> MserError | None:
        """Why a pair that should be asked with shots has none to give; None where it has, or none are asked for.

        Raises:
            MserError: the languages cannot be asked at all.
        """
        asked = FEW_SHOT in self.protocols_of(pair) and not pair.within
        return no_shots(pair, self.languages_of(pair)) if asked else None

    def asked(self, pair: Pair, name: str) -> list[Asked]:
        """The tasks of a pair that a system takes part in; none with shots where there are none.

        Raises:
            MserError: the languages cannot be asked so.
        """
        system = self.entry(name).system
        once = self.seeds[0] if self.unseeded is None else self.unseeded
        seeds = tuple(dict.fromkeys([once, *self.seeds]))
        protocols = set(self.protocols_of(pair)) - ({FEW_SHOT} if self.no_shots(pair) else set())
        found = tasks_of(pair, self.languages_of(pair), tuple(protocols), self.shots, seeds, *self.where)
        return [one for one in found if _takes_part(system, one.task, self.seeds, once)]


def _takes_part(system: System, task: Task, seeds: Sequence[int], once: int) -> bool:
    draws = system.seeded or task.protocol == FEW_SHOT
    return task.protocol in system.protocols and (task.seed in seeds if draws else task.seed == once)


def language_of(inputs: Inputs, name: str) -> Language:
    """A language's states, read once in each process, and anew once its manifests or stores have changed."""
    data = loaded(inputs, name)
    held = _languages.get((inputs, name))
    if held is None or held.data is not data:
        held = _languages[inputs, name] = Language(data, inputs.workspace)
    return held


def answer_path(benchmark: Benchmark, name: str, pair: Pair, task: Task) -> Path:
    stem = f"{task.protocol}-k{task.k}-{task.name}-seed{task.seed}"
    return pair_folder(benchmark, name, pair) / f"{stem}.json"


def pair_folder(benchmark: Benchmark, name: str, pair: Pair) -> Path:
    """The run of a system on a pair of languages: what a number of the leaderboard links to."""
    return benchmark.folder / name / load_mapping(pair.labels).name / pair.name


def key_of(benchmark: Benchmark, name: str, pair: Pair) -> str:
    """Hash of everything the answers of a system on a pair come from.

    Raises:
        StoreError: an upstream that the system needs was not extracted.
    """
    entry, stores = benchmark.entry(name), []
    for language in dict.fromkeys((pair.source, pair.target)):
        one = language_of(benchmark.inputs, language)
        extra = {upstream: one.stores(upstream) for upstream in entry.system.extra}
        provenance = {
            upstream: {corpus: store.provenance.fingerprint for corpus, store in own.items()}
            for upstream, own in extra.items()
        }
        stores.append([one.data.fingerprint, provenance])
    mapping = load_mapping(pair.labels)
    # Of emotions as they are the key has had this form since there were no mappings; likewise of a first version.
    labels: Any = [mapping.name, mapping.fingerprint] if mapping.labels else mapping.name
    if mapping.labels and entry.system.version_mapped > 1:
        labels.append(entry.system.version_mapped)
    asked = [labels, pair.source, pair.target]
    return fingerprint([RECIPE, name, entry.system.version, entry.system.options, asked, stores])


def layers_block(benchmark: Benchmark, pair: Pair) -> None:
    """Judges single layers on the dev speakers of every source of a pair, once for all systems.

    Before they are asked, so that the time is not counted as that of the system that comes first.
    """
    try:
        # They depend on the source alone, whatever is asked of the target.
        languages = benchmark.languages_of(pair)
        for one in tasks_of(pair, languages, (WITHIN, ZERO_SHOT), [], benchmark.seeds[:1], *benchmark.where):
            layer_scores(one.task)
    except MserError:
        return  # each system meets it, and its cell gives the reason


def benchmark_block(benchmark: Benchmark, name: str, pair: Pair) -> None:
    """One system on one pair: what was not answered yet, task by task.

    A task that a system cannot answer is marked as failed with the reason, and the others go on.
    """
    entry = benchmark.entry(name)
    try:
        asked = benchmark.asked(pair, name)
        key = key_of(benchmark, name, pair)
    except MserError as error:
        _write_failure(pair_folder(benchmark, name, pair) / "failed.json", error)
        return
    (pair_folder(benchmark, name, pair) / "failed.json").unlink(missing_ok=True)
    todo = [one for one in asked if not answered(answer_path(benchmark, name, pair, one.task), key)]
    while todo:
        done = 0
        try:
            for one, answer, seconds in _timed(entry, todo):
                path = answer_path(benchmark, name, pair, one.task)
                write_json(path, _content(entry, pair, one, _checked(answer, one.task), seconds, key))
                done += 1
        except Exception as error:  # whatever a system does wrong is its own failure, not that of the others
            # A system that says more than it was asked fails behind the last task.
            place = todo[min(done, len(todo) - 1)]
            _write_failure(answer_path(benchmark, name, pair, place.task), error)
            done += 1
        todo = todo[done:]


def answered(path: Path, key: str) -> bool:
    """Whether a task's answer is there, whole and made from what the key says."""
    found = read_if_whole(path) if path.is_file() else None
    return found is not None and "failed" not in found and all(name in found for name in ANSWER_FIELDS) and (
        found["key"] == key
    )  # fmt: skip


def _timed(entry: Entry, asked: Sequence[Asked]) -> Iterator[tuple[Asked, Answer, float]]:
    """Answers with the seconds that each took: of a core, which other work on the machine does not stretch; of the
    clock where a device computes."""
    clock = time.process_time if asked[0].task.device.type == "cpu" else time.monotonic
    began = clock()
    for one, answer in zip(asked, entry.system.answers([one.task for one in asked]), strict=True):
        yield one, answer, clock() - began
        began = clock()


def _checked(answer: Answer, task: Task) -> Answer:
    """The answer; raises RunError where it is none."""
    shape = (len(task.test), len(task.emotions))
    said = np.asarray(answer.probabilities, dtype=float)
    for name, found in {"probabilities": said, **answer.alternatives}.items():
        if found.shape != shape or not np.isfinite(found).all() or np.abs(found.sum(1) - 1).max(initial=0) > ROUNDING:
            raise RunError(
                "A system's answer is no probabilities.",
                field=name,
                expected=f"{shape} finite numbers, each row with the sum 1",
                found=f"{found.shape}, sums {found.sum(-1).min():.3g} to {found.sum(-1).max():.3g}",
            )
    return replace(answer, probabilities=said)


def _content(entry: Entry, pair: Pair, one: Asked, answer: Answer, seconds: float, key: str) -> dict[str, Any]:
    task = one.task
    return {
        "key": key,
        "system": entry.name,
        "options": entry.system.options,
        "protocol": task.protocol,
        "labels": load_mapping(pair.labels).name,
        "source": pair.source,
        "target": pair.target,
        "k": task.k,
        "task": task.name,
        "seed": task.seed,
        "emotions": task.emotions,
        "learnt": {"source": len(task.source), "shots": len(task.shots), "unlabelled": len(task.adapt)},
        "shots": [row.utterance_id for row in rows_of(task.shots)],
        "utterance_ids": [row.utterance_id for row in rows_of(task.test)],
        "truth": one.truth.tolist(),
        "probabilities": answer.probabilities.round(5).tolist(),
        "alternatives": {name: said.argmax(1).tolist() for name, said in answer.alternatives.items()},
        "parameters": answer.parameters,
        "facts": dict(answer.facts),
        "seconds": seconds,
    }


def _write_failure(path: Path, error: Exception) -> None:
    """What went wrong, in the place of the answer; the next run tries again."""
    known = isinstance(error, MserError)
    reason = str(error) if known else f"{type(error).__name__}: {error}"
    found = {"failed": reason, "what": error.what if isinstance(error, MserError) else reason}
    write_json(path, found if known else {**found, "traceback": traceback.format_exception(error)})


def selected(names: Sequence[str]) -> tuple[str, ...]:
    """The systems' names in the order of a table; ``all`` stands for every one. A system's control comes with it.

    Raises:
        ConfigError: none, or an unknown one.
    """
    unknown = set(names) - {*SYSTEMS, "all"}
    if unknown or not names:
        raise ConfigError(
            "Unknown systems, or none.", field="METHODS", expected=" ".join([*SYSTEMS, "all"]), found=sorted(unknown)
        )
    chosen = set(SYSTEMS) if "all" in names else set(names)
    chosen |= {SYSTEMS[name].control for name in chosen} - {""}
    return tuple(name for name in SYSTEMS if name in chosen)
