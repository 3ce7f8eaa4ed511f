"""A trained model on disk: safetensors with all that is needed to use it, never pickle."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mser.averaged import AveragedModel
from mser.config import warn_of_damage, written_whole
from mser.errors import MserError, RunError
from mser.faithful import FaithfulModel
from mser.model import Domain, ExpertShape, ModelSettings, MultiGateModel, Prior
from mser.nas.genotype import Genotype

SCHEMA_VERSION = 2
#: Every kind of model, by the name that files use.
Model = MultiGateModel | FaithfulModel | AveragedModel
KINDS: dict[str, type[MultiGateModel] | type[FaithfulModel] | type[AveragedModel]] = {
    one.kind: one for one in (MultiGateModel, FaithfulModel, AveragedModel)
}


def save_model(path: Path, model: Model, facts: dict[str, Any]) -> None:
    """Writes a model whole or not at all: weights, how states are standardised, and structure.

    Args:
        facts: fingerprints, seed and the like; JSON-able.
    """
    networks = model.members.domains if isinstance(model, AveragedModel) else model.domains
    tensors = {name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()}
    head = {
        "schema_version": SCHEMA_VERSION,
        "kind": model.kind,
        "settings": asdict(model.settings),
        "experts": [asdict(shape) for shape in model.experts],
        "domains": [
            {
                "language": one.language,
                "emotions": one.emotions,
                "genotype": one.genotype.to_dict(),
                "experts": one.experts,
            }
            for one in networks.values()
        ],
        "facts": facts,
    }
    with written_whole(path) as partial:
        save_file(tensors, partial, metadata={"mser": json.dumps(head, sort_keys=True)})


def load_model(path: Path) -> tuple[Model, dict[str, Any]]:
    """Reads a model back, and the facts.

    Raises:
        RunError: there is none, it is damaged, or of another schema version.
    """
    head, tensors = _read(path, weights=True)
    try:
        model = _built(head)
        model.load_state_dict(tensors)
    # Also an error of ours: it does not know the file.
    except (MserError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        raise RunError(
            "A model's structure cannot be read.", file=path, found=error, hint="delete it, and run `make train` again"
        ) from error
    return model, head["facts"]


def _built(head: dict[str, Any]) -> Model:
    """A model of the structure that a file's head tells, with weights yet to come."""
    experts = [ExpertShape(**shape) for shape in head["experts"]]
    domains = [
        Domain(
            one["language"],
            tuple(one["emotions"]),
            Genotype.from_dict(one["genotype"]),
            Prior.uniform([expert for expert in experts if expert.name in one["experts"] or not one["experts"]]),
            tuple(one["experts"]),
        )
        for one in head["domains"]
    ]
    return KINDS[head["kind"]](domains, experts, ModelSettings(**head["settings"]))


def read_facts(path: Path) -> dict[str, Any]:
    """The facts of a model, without its weights.

    Raises:
        RunError: as :func:`load_model`.
    """
    return dict(_read(path, weights=False)[0]["facts"])


def facts_if_whole(path: Path) -> dict[str, Any] | None:
    """The facts of a model that is trained again where it is lost; None where it is missing or damaged.

    One that is damaged, or of another schema version, counts as missing, with a warning that names it.

    Raises:
        RunError: the file is there and the system does not let it be read.
    """
    try:
        return read_facts(path)
    except RunError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        if isinstance(error.__cause__, OSError):
            raise
        warn_of_damage(path, f"schema version {error.found}" if error.field else error.found)
        return None


def _read(path: Path, weights: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            head = json.loads(file.metadata()["mser"])
            if not isinstance(head, dict) or not isinstance(head.get("facts"), dict):
                raise TypeError("its head holds no facts")
            names = list(file.keys()) if weights else []
            tensors = {name: file.get_tensor(name) for name in names}
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise RunError("A model cannot be read.", file=path, found=error, hint="run `make train` again") from error
    if head.get("schema_version") != SCHEMA_VERSION:
        raise RunError(
            "The model has another schema version.",
            file=path,
            field="schema_version",
            expected=SCHEMA_VERSION,
            found=head.get("schema_version"),
            hint="run `make train` again",
        )
    return head, tensors
