"""Every setting of a study in one place; what is not given takes these defaults."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mser.config import Workspace, fingerprint
from mser.model import ModelSettings
from mser.nas.darts import SearchSettings
from train.data import Features, LanguageData, load_languages
from train.fit import FitSettings


@dataclass(frozen=True)
class StudySettings:
    """Settings of search and training.

    Attributes:
        candidates: structures that random search tries for each fold; at the default, on pooled statistics, the tries
            take about as long as a differentiable search.
        layer_scale, expert_scale: points of dev UAR by which a layer (an expert) must lead for e times the weight at
            the start of training; see :func:`train.prior.prior_of`.
    """

    features: Features = field(default_factory=Features)
    model: ModelSettings = field(default_factory=ModelSettings)
    search: SearchSettings = field(default_factory=SearchSettings)
    fit: FitSettings = field(default_factory=FitSettings)
    candidates: int = 4
    layer_scale: float = 2.0
    expert_scale: float = 10.0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Inputs:
    """What a worker needs to load a language's data for itself; small, and hashable."""

    root: Path
    upstreams: tuple[str, ...]
    settings: StudySettings
    device: str = "cpu"

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.root)

    def load(self, language: str) -> LanguageData:
        return load_languages(self.workspace, [language], self.upstreams, self.settings.features)[0]

    def search_folder(self, data: LanguageData) -> Path:
        """Where the searches of a language lie: another folder for other inputs or settings."""
        key = fingerprint([data.fingerprint, self.settings.to_dict()])
        return self.workspace.searches / f"{data.language}-{key[:8]}"
