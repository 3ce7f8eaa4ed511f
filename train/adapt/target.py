"""A trained run, and a language that is new to it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mser.averaged import on_every_expert
from mser.checkpoint import load_model
from mser.config import Workspace
from mser.errors import ProtocolError, RunError, StoreError
from mser.experts import Expert
from mser.loader import Loader
from mser.mapping import LabelMapping, load_mapping
from mser.model import MultiGateModel
from mser.runs import MODELS, run_path
from train.data import Features, LanguageData, load_languages, stamp_of

MODEL = "model.safetensors"
#: In the name of an adaptation, between run and language.
TO = "-to-"


@dataclass(frozen=True)
class Start:
    """The model that is taken to a new language.

    Attributes:
        path: of its file. model: takes batches of all its experts. facts: how it was trained. key: hash of the file.
    """

    path: Path
    model: MultiGateModel
    facts: Mapping[str, Any]
    key: str

    @property
    def features(self) -> Features:
        return Features(**self.facts["features"])

    @property
    def upstreams(self) -> tuple[str, ...]:
        return tuple(shape.name for shape in self.model.experts)

    @property
    def emotions(self) -> tuple[str, ...]:
        """Of all its languages, sorted."""
        return tuple(sorted({emotion for one in self.model.domains.values() for emotion in one.emotions}))


def load_start(workspace: Workspace, run: Path, language: str) -> Start:
    """The model for use of a run.

    Args:
        run: a folder, a model file, or the name of a run.

    Raises:
        RunError: the run has no model that holds several gates, or knows the language already.
    """
    path = model_path(workspace, run)
    model, facts = load_model(path)
    if not isinstance(model, MultiGateModel) or facts.get("normalise", "none") != "none" or "stores" not in facts:
        raise RunError(
            "This model cannot be taken to a new language.",
            file=path,
            expected="one with gates, whose states are not normalised by speaker",
            found=f"{facts.get('method')} ({model.kind}, normalise {facts.get('normalise', 'none')})",
            hint="train one with `make train METHODS=multi-domain`",
        )
    if language in model.domains:
        raise RunError(
            f"The run knows {language} already: it was trained on its labels.",
            file=path,
            field="LANG",
            expected=f"another language than {' '.join(model.domains)}",
            found=language,
            hint="to see what the language would score if it were new, train a run without it: "
            f'`make train LANG="{" ".join(name for name in model.domains if name != language) or "..."}" '
            "METHODS=multi-domain RUN=...`",
        )
    # Of the bytes: what is computed from weights may differ in its last bits from device to device.
    key = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return Start(path, on_every_expert(model.eval()), facts, key)


def model_path(workspace: Workspace, run: Path) -> Path:
    """The model file of a run.

    Raises:
        RunError: there is none.
    """
    place = run_path(str(run), workspace)
    if place.is_file():
        return place
    files = [place / MODEL] if (place / MODEL).is_file() else sorted(place.glob(MODELS))
    if len(files) == 1:
        return files[0]
    if files:
        raise RunError(
            "The run has a model for each language, and none that holds all.",
            file=place,
            field="RUN",
            expected=f"one of its model files, or a run with {MODEL}",
            found=", ".join(one.name for one in files),
            hint="train one with `make train METHODS=multi-domain`, or give RUN as the path of one file",
        )
    there = runs_to_begin_with(workspace)
    raise RunError(
        "There is no such run with a model for use.",
        file=workspace.runs / run,
        field="RUN",
        expected=f"one of: {' '.join(there) or 'none yet'}",
        found=str(run),
        hint="train one with `make train METHODS=multi-domain`",
    )


def runs_to_begin_with(workspace: Workspace) -> list[str]:
    """Names of the runs with a model for use of all languages, less those that were made by an adaptation."""
    names = (one.parent.name for one in workspace.runs.glob(f"*/{MODEL}"))
    return sorted(name for name in names if TO not in name)


class Target:
    """The new language: its cached states, and its labels as the mapping has them.

    Attributes:
        rows: of the utterances that count; the others' emotions are left out by the mapping.
        emotions: E of the language, sorted. labels: (N,) int64, indices into them; -1 where left out.
    """

    def __init__(self, data: LanguageData, mapping: LabelMapping) -> None:
        self.data, self.mapping, self.name = data, mapping, data.language
        self._loaders: dict[tuple[torch.device, str], Loader] = {}
        names = [mapping[row.emotion] for row in data.utterances]
        self.emotions = tuple(sorted({name for name in names if name is not None}))
        self.labels = np.array([-1 if name is None else self.emotions.index(name) for name in names], dtype=np.int64)
        self.rows = np.flatnonzero(self.labels >= 0)
        if len(self.emotions) < 2:
            raise ProtocolError(
                f"Fewer than two emotions of {self.name} are left, so nothing can be told apart.",
                file=mapping.path,
                field="MAPPING",
                expected="two emotions or more",
                found=", ".join(self.emotions) or "none",
                hint="give another MAPPING",
            )

    @property
    def experts(self) -> tuple[Expert, ...]:
        return self.data.experts

    @cached_property
    def speakers(self) -> np.ndarray:
        """(N,) names."""
        return np.array([row.speaker_id for row in self.data.utterances])

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Utterance -> its row."""
        return {row.utterance_id: number for number, row in enumerate(self.data.utterances)}

    @cached_property
    def tested(self) -> list[str]:
        """The speakers of the utterances that count."""
        return sorted(set(self.speakers[self.rows].tolist()))

    def standard(self, rows: np.ndarray) -> dict[str, tuple[Tensor, Tensor]]:
        """What standardises the states of each expert, over the frames of these rows; no label is looked at."""
        return {expert.name: expert.standard(rows) for expert in self.experts}

    def loader(self, device: torch.device, placement: str) -> Loader:
        """Batches of its states, in the order of the model's experts; made once, so that states are read once."""
        if (device, placement) not in self._loaders:
            labels = torch.from_numpy(self.labels.clip(min=0))
            self._loaders[device, placement] = Loader(self.experts, labels, device, placement)
        return self._loaders[device, placement]


def opened(root: Path, run: Path, language: str, mapping: str) -> tuple[Start, Target]:
    """The run and the language, opened once in a process, and again when a file of theirs was written anew.

    Raises:
        MserError: either cannot be used; the message says what to run.
    """
    workspace = Workspace(root)
    path = model_path(workspace, run)
    times = tuple(one.stat().st_mtime_ns for one in (path, Path(mapping)) if one.is_file())
    return _opened(root, path, language, mapping, (*stamp_of(workspace, language, ()), *times))


@lru_cache(maxsize=1)
def _opened(root: Path, path: Path, language: str, mapping: str, stamp: tuple[object, ...]) -> tuple[Start, Target]:
    workspace = Workspace(root)
    start = load_start(workspace, path, language)
    (data,) = load_languages(workspace, [language], start.upstreams, start.features)
    _require_same_states(start, data)
    target = Target(data, load_mapping(mapping))
    if not target.mapping.parts(start.emotions):
        raise ProtocolError(
            "The mapping leaves out every emotion of the run, so nothing can be asked of it.",
            file=target.mapping.path,
            field="MAPPING",
            expected="a label for some of the run's emotions",
            found=", ".join(start.emotions),
            hint="give another MAPPING",
        )
    return start, target


def _require_same_states(start: Start, data: LanguageData) -> None:
    """Raises StoreError where the language's states were made otherwise than those that the model was trained on."""
    trained: dict[str, Any] = {}
    for stores in start.facts["stores"].values():
        trained |= stores
    for name, stores in data.stores.items():
        for store in stores.values():
            own = store.provenance
            then = type(own)(
                **{**trained[name], **{key: tuple(trained[name][key]) for key in ("keep", "layer_numbers")}}
            )
            if own.states != then.states:
                raise StoreError(
                    f"The states of {name} were made otherwise than those that the run was trained on.",
                    file=store.folder,
                    expected=then.states,
                    found=own.states,
                    hint=f'move this store away, and run `make extract LANG={data.language} UPSTREAMS="{name}"` '
                    "with the model, LAYERS, WINDOW and OVERLAP of the run",
                )
