"""What a system of the benchmark may learn from and what it is asked, and what it answers.

N utterances, L layers, T frames, D features, E emotions, S = mean and deviation, n utterances of a part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from mser.config import Workspace
from mser.errors import ProtocolError, RunError
from mser.experts import Expert, frames_expert, moments_over, pooled_moments, scale_of
from mser.manifest import Utterance
from mser.store import Store
from train.data import LanguageData, open_stores

#: Protocols of the benchmark.
WITHIN, ZERO_SHOT, FEW_SHOT = "within", "zero-shot", "few-shot"

#: What in a manifest's row tells the emotion, or how the corpus files it: names of files and of texts often do.
TELLING = dict.fromkeys(("emotion", "source_label", "utterance_id", "path", "text_id"), "")

Made = TypeVar("Made")


class Language:
    """The cached states of one language's N utterances, read once in a process.

    Args:
        data: the language. workspace: where further stores are looked for, by name.

    Attributes:
        data: with every label, for the benchmark alone. Nothing keeps a system from reading it, but one that does
            knows what it is tested on: what it may know is in the parts of its task.
        upstreams: the experts of the study, by name.
    """

    def __init__(self, data: LanguageData, workspace: Workspace) -> None:
        self.data, self.workspace = data, workspace
        self.name = data.language
        self.upstreams = tuple(data.stores)
        self._stores: dict[str, dict[str, Store]] = dict(data.stores)
        self._pooled: dict[str, Tensor] = {}
        self._frames: dict[tuple[str, float, tuple[int, ...] | None], Expert] = {}

    def __len__(self) -> int:
        return len(self.data.utterances)

    def stores(self, upstream: str) -> dict[str, Store]:
        """The stores of an upstream by corpus, also of one that is not among the study's experts.

        Raises:
            StoreError: it was not extracted; says what to run.
        """
        if upstream not in self._stores:
            corpora = tuple(self.data.manifests)
            self._stores[upstream] = open_stores(self.workspace, corpora, upstream, self.name)
        return self._stores[upstream]

    def pooled(self, upstream: str) -> Tensor:
        """Mean and deviation over frames: (N, L, S, D) float32.

        Raises:
            StoreError: the upstream was not extracted, its store has no pooled states, or one is not finite.
        """
        if upstream not in self._pooled:
            found = pooled_moments(self.stores(upstream), self.data.utterances)
            if not found.isfinite().all():
                raise RunError("Pooled states are not finite.", field=upstream, hint="run `make verify`")
            self._pooled[upstream] = found
        return self._pooled[upstream]

    def frames(self, upstream: str, rate: float, layers: tuple[int, ...] | None = None) -> Expert:
        """The frames of an upstream, averaged down to at most ``rate`` a second, kept in memory.

        Args:
            layers: to keep; all if not given.

        Raises:
            StoreError: the upstream was not extracted, or its store has no frames.
        """
        key = (upstream, rate, layers)
        if key not in self._frames:
            expert = frames_expert(self.stores(upstream), self.data.utterances, rate)
            chosen = list(layers) if layers is not None else list(range(expert.layers))
            held = [expert[row][chosen] for row in range(len(self))]
            self._frames[key] = Expert.of_states(upstream, held)
        return self._frames[key]


@dataclass(frozen=True)
class Part:
    """Some utterances of one language, labelled or not.

    Attributes:
        language: their states. rows: (n,) row numbers in it.
        labels: (n,) int64, indices into the task's emotions; empty where the task does not tell them.
    """

    language: Language
    rows: np.ndarray
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def utterances(self) -> list[Utterance]:
        """What the manifest says of them, with what tells the emotion left blank (:data:`TELLING`).

        Of a part without labels the intensity is blank as well. Labels are in ``labels``, and nowhere else: a label
        set may be coarser than emotions are, and no system is to learn from finer ones.
        """
        blank: dict[str, Any] = TELLING if len(self.labels) else {**TELLING, "intensity": ""}
        return [replace(row, **blank) for row in self._known]

    @property
    def _known(self) -> list[Utterance]:
        return [self.language.data.utterances[row] for row in self.rows]

    @property
    def speakers(self) -> np.ndarray:
        """(n,) names."""
        return np.array([row.speaker_id for row in self._known])

    def at(self, positions: np.ndarray) -> Part:
        """The part of these positions, (m,) int64 below n, in their order."""
        labels = self.labels[positions] if len(self.labels) else self.labels
        return Part(self.language, self.rows[positions], labels)

    def pooled(self, upstream: str) -> Tensor:
        """(n, L, S, D) float32, on the CPU, not standardised."""
        return self.language.pooled(upstream)[torch.from_numpy(self.rows)]

    def standard(self, upstream: str, rate: float | None = None) -> tuple[Tensor, Tensor]:
        """What standardises frames of an upstream: shift and scale, each (L, D), over this part's frames.

        Args:
            rate: as of :meth:`Language.frames`; of the stored frames if not given.
        """
        rows = torch.from_numpy(self.rows)
        if rate is not None:
            return self.language.frames(upstream, rate).standard(rows)
        stores = self.language.stores(upstream)
        frames = torch.tensor([stores[row.corpus].num_frames(row.utterance_id) for row in self._known])
        shift, deviation = moments_over(self.language.pooled(upstream)[rows], frames)
        return shift, scale_of(deviation)


@dataclass(frozen=True)
class Task:
    """One question to a system.

    Attributes:
        name: of the task in its cell, such as ``f1`` or ``half-0``.
        protocol: ``within``, ``zero-shot`` or ``few-shot``.
        emotions: E names, what is told apart: of the language, or those both languages have; or
            ``negative`` and ``positive``.
        source: labelled: the training speakers of a fold, or all speakers of another language.
        splits: ways to part the source into training and dev, as positions in it; speaker-disjoint where it has more
            than one speaker. Every choice is made on them.
        shots: labelled utterances of the target, k an emotion (fewer where it has fewer); none but in ``few-shot``.
        adapt: utterances of the target without labels, the shots among them; of other speakers than the test; none in
            ``within``.
        test: what is asked. Its labels are not told.
        seed: of all that is random.
        device: of trainings.
        k: shots of an emotion.
        shared: what the tasks have in common that differ only in the target's part; see :meth:`once`.
        probes_path: where the dev scores of single layers are kept.
        meanings: of a name in ``emotions`` the unified emotions that count as it, whoever has them; of one that is not
            there, itself.
    """

    name: str
    protocol: str
    emotions: tuple[str, ...]
    source: Part
    splits: tuple[tuple[np.ndarray, np.ndarray], ...]
    shots: Part
    adapt: Part
    test: Part
    seed: int
    device: torch.device
    k: int = 0
    shared: dict[object, Any] = field(default_factory=dict)
    probes_path: Path | None = None
    meanings: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def once(self, key: object, make: Callable[[], Made]) -> Made:
        """What ``make`` returns, made by the first of the tasks that share a source, its labels and a seed.

        For a model of the source alone, on which each task builds: do not change what is returned, copy it.
        """
        if key not in self.shared:
            self.shared[key] = make()
        return cast(Made, self.shared[key])

    @property
    def learnt(self) -> tuple[Part, ...]:
        """The labelled parts: the source, and the shots if there are any."""
        return (self.source, self.shots) if len(self.shots) else (self.source,)

    @cached_property
    def dev(self) -> tuple[Part, Part]:
        """The first split of the source: training, and other speakers for choices."""
        train, dev = self.splits[0]
        return self.source.at(train), self.source.at(dev)

    @property
    def upstreams(self) -> tuple[str, ...]:
        """Experts of the study that source and target both have.

        Raises:
            ProtocolError: none.
        """
        there = set(self.test.language.upstreams)
        found = tuple(name for name in self.source.language.upstreams if name in there)
        if not found:
            raise ProtocolError(
                "Source and target have no upstream in common.",
                field="UPSTREAMS",
                expected="one or more",
                found=f"{self.source.language.upstreams} and {self.test.language.upstreams}",
            )
        return found


@dataclass(frozen=True)
class Answer:
    """What a system says.

    Attributes:
        probabilities: (n, E) of the test's utterances.
        parameters: trained ones, of the model that answered.
        facts: what was chosen, losses and the like; JSON-able.
        alternatives: (n, E) by name: what it would have said with other choices. The report takes from them the number
            that choosing on the test would have given, and marks it.
    """

    probabilities: np.ndarray
    parameters: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)
    alternatives: Mapping[str, np.ndarray] = field(default_factory=dict)
