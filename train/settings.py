"""Every setting of a study in one place; what is not given takes these defaults."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from mser.config import ABOVE_ZERO, Workspace, fingerprint, require_numbers, whole
from mser.errors import ConfigError
from mser.model import ModelSettings
from mser.nas.operations import SelfAttention
from mser.nas.settings import SearchSettings
from train.data import Features, LanguageData, load_languages, stamp_of
from train.fit import FitSettings

#: Version of how structures are searched and heads are trained, whatever the settings. A change that makes other
#: results raises it, so that nothing an earlier version found is gone on with.
RECIPE = 2
#: Seeds are below this: what is random in a training is drawn from 32-bit numbers.
SEEDS_END = 2**31

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class StudySettings:
    """Settings of search and training.

    Attributes:
        candidates: structures that random search tries for each fold; at the default, on pooled statistics, the tries
            take one to three times as long as a search with beta-decay, so that the control is never the cheaper one.
        layer_scale, expert_scale: points of dev UAR by which a layer (an expert) must lead for e times the weight at
            the start of training; see :func:`train.prior.prior_of`.
        protocol: of the folds. published: for ``emobox``: the folder of its fold files.
        fold_block: test folds whose trainings run as one program, with all seeds. Part of the settings, since the last
            bits of a result may depend on it.

    Raises:
        ConfigError: a value that no study can run with.
    """

    features: Features = field(default_factory=Features)
    model: ModelSettings = field(default_factory=ModelSettings)
    search: SearchSettings = field(default_factory=SearchSettings)
    fit: FitSettings = field(default_factory=FitSettings)
    candidates: int = 4
    layer_scale: float = 2.0
    expert_scale: float = 10.0
    protocol: str = "speakers"
    published: str | None = None
    fold_block: int = 5

    def __post_init__(self) -> None:
        rules = {"candidates": whole(1), "fold_block": whole(1), "layer_scale": ABOVE_ZERO, "expert_scale": ABOVE_ZERO}
        require_numbers(self, "No study can run with this.", rules)
        if "attention" in self.features.space.operations and self.model.hidden % SelfAttention.HEADS:
            raise ConfigError(
                "A structure on frames may attend to them, with the hidden features parted among heads.",
                field="hidden",
                expected=f"a multiple of {SelfAttention.HEADS}",
                found=self.model.hidden,
            )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def changed(settings: Settings, assignments: Sequence[str]) -> Settings:
    """Settings, or options of any kind, with some values replaced.

    Args:
        settings: a dataclass. assignments: such as ``fit.loss.mixup=0.4`` or ``model.dropout=0.5``; values as JSON, or
            plain words.

    Raises:
        ConfigError: an unknown name, a value of another type, or one that cannot be used.
    """
    for assignment in assignments:
        name, _, text = assignment.partition("=")
        settings = _replaced(settings, name.split("."), text, assignment)
    return settings


def _replaced(owner: Any, path: Sequence[str], text: str, assignment: str) -> Any:
    known = [field.name for field in fields(owner)]
    if path[0] not in known:
        raise ConfigError("Unknown setting.", field="SET", expected=" ".join(known), found=assignment)
    old = getattr(owner, path[0])
    if is_dataclass(old):
        if len(path) == 1:
            names = " ".join(f"{path[0]}.{field.name}" for field in fields(old))
            raise ConfigError("This is a group of settings.", field="SET", expected=names, found=assignment)
        return replace(owner, **{path[0]: _replaced(old, path[1:], text, assignment)})
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(old, tuple) and isinstance(value, list):
        value = tuple(value)
    if len(path) > 1 or type(value) is not type(old):
        raise ConfigError(
            "A setting has a value of another type.", field="SET", expected=f"{path[0]} like {old!r}", found=assignment
        )
    return replace(owner, **{path[0]: value})


def require_seeds(seeds: Sequence[int]) -> None:
    """Raises ConfigError where a seed is none that a training can draw from, or is given twice."""
    if not all(0 <= seed < SEEDS_END for seed in seeds) or len(set(seeds)) < len(seeds):
        raise ConfigError(
            "No study can run with these seeds.",
            field="SEEDS",
            expected=f"different whole numbers from 0 to {SEEDS_END - 1}",
            found=" ".join(map(str, seeds)),
        )


@dataclass(frozen=True)
class Inputs:
    """What a worker needs to load a language's data for itself; small, and hashable.

    Attributes:
        root: of the workspace; made absolute, since a worker may run in another folder.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        placement: of the states in training, see :class:`mser.loader.Loader`; results do not depend on it.
        missing: whether a language may lack some of ``upstreams``.

    Raises:
        ConfigError: a device of another name.
    """

    root: Path
    upstreams: tuple[str, ...]
    settings: StudySettings
    device: str = "cpu"
    placement: str = "auto"
    missing: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(os.path.abspath(self.root)))
        try:
            known = torch.device(self.device).type in ("cpu", "cuda")
        except RuntimeError:
            known = False
        if not known:
            raise ConfigError(
                "No such device.", field="DEVICE", expected="auto, cpu, cuda or cuda:N", found=self.device
            )

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.root)

    @property
    def torch_device(self) -> torch.device:
        return torch.device(self.device)

    def load(self, language: str) -> LanguageData:
        return self.load_all([language])[0]

    def load_all(self, languages: Sequence[str]) -> list[LanguageData]:
        settings, published = self.settings, self._published
        return load_languages(
            self.workspace, languages, self.upstreams, settings.features, settings.protocol, published, self.missing
        )

    def stamp(self, language: str) -> tuple[object, ...]:
        """Another one whenever :meth:`load` would find other files; see :func:`train.data.stamp_of`."""
        return stamp_of(self.workspace, language, self.upstreams, self._published)

    @property
    def _published(self) -> Path | None:
        return Path(self.settings.published) if self.settings.published else None

    def search_folder(self, data: LanguageData) -> Path:
        """Where the searches of a language lie: another folder for other inputs or settings."""
        key = fingerprint([RECIPE, data.fingerprint, self.settings.to_dict()])
        return self.workspace.searches / f"{data.language}-{key[:8]}"
