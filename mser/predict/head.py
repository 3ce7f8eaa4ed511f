"""The trained models of a run, and what they need to know of the states they were trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mser.checkpoint import Model, load_model
from mser.config import fingerprint
from mser.errors import RunError
from mser.runs import MODELS
from mser.store import Provenance


@dataclass(frozen=True)
class TrainedHead:
    """The model of a run for one language.

    Attributes:
        emotions: E. features: ``pooled`` or ``frames``. frame_rate: of frames, at most.
        keys: upstream -> key of its store's description, in the order of the model's batches.
        stores: key -> description.
        temperature: that logits are divided by, 1 where the run was not calibrated.
    """

    path: Path
    model: Model
    language: str
    features: str
    frame_rate: float
    keys: Mapping[str, str]
    stores: Mapping[str, Provenance]
    temperature: float
    calibrated: bool

    @property
    def emotions(self) -> tuple[str, ...]:
        return self.model.domains[self.language].emotions


def load_heads(path: Path) -> dict[str, TrainedHead]:
    """The models for use of a run's folder, by language; or those of one model file.

    Raises:
        RunError: there is no model, or it cannot be read, is transductive, or was trained by a version that did not
            say on what.
    """
    heads = [head for file in model_files(path) for head in _heads_of(file)]
    return {head.language: head for head in heads}


def model_files(path: Path) -> list[Path]:
    """The models for use of a run's folder; or the one model file that was given.

    Raises:
        RunError: there is none.
    """
    files = [path] if path.is_file() else sorted(path.glob(MODELS))
    if not files:
        raise RunError(
            "There is no model for use.",
            file=path,
            expected="the folder of a run with model.safetensors, or a model file",
            found=", ".join(sorted(one.name for one in path.iterdir())[:6]) if path.is_dir() else "no such folder",
            hint="run `make train` with a method that trains heads, such as METHODS=fixed-multi",
        )
    return files


def _heads_of(path: Path) -> list[TrainedHead]:
    model, facts = load_model(path)
    if "stores" not in facts:
        raise RunError(
            "The model does not say on which states it was trained.",
            file=path,
            field="stores",
            found=sorted(facts),
            hint="run `make train` again with this version",
        )
    if facts.get("normalise", "none") != "none":
        raise RunError(
            "A transductive model needs the other utterances of each speaker, to normalise their states by.",
            file=path,
            field="normalise",
            expected="none",
            found=f"{facts['normalise']} ({facts.get('method')})",
            hint="give the run's model for use, which is never transductive",
        )
    return [_head(path, model, language, facts) for language in model.domains]


def _head(path: Path, model: Model, language: str, facts: Mapping[str, Any]) -> TrainedHead:
    stores = {name: _provenance(content) for name, content in facts["stores"][language].items()}
    domain = model.domains[language]
    names = domain.experts or tuple(shape.name for shape in model.experts)
    keys = {name: key_of(name, stores[name]) for name in names}
    temperature = facts.get("temperature", {}).get(language)
    return TrainedHead(
        path,
        model,
        language,
        facts["features"]["kind"],
        facts["features"]["frame_rate"],
        keys,
        {keys[name]: stores[name] for name in names},
        temperature or 1.0,
        temperature is not None,
    )


def key_of(name: str, provenance: Provenance) -> str:
    """The same text for stores whose states are computed and kept in the same way."""
    return f"{name} {fingerprint([provenance.states, provenance.dtype])[:8]}"


def _provenance(content: Mapping[str, Any]) -> Provenance:
    """A description from JSON."""
    lists = {name: tuple(content[name]) for name in ("keep", "layer_numbers")}
    return Provenance(**{**content, **lists})
