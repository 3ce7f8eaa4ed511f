"""A trained model on disk: safetensors with all that is needed to use it, never pickle."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mser.errors import RunError
from mser.faithful import FaithfulModel
from mser.model import Domain, ExpertShape, ModelSettings, MultiGateModel, Prior
from mser.nas.genotype import Genotype

SCHEMA_VERSION = 2
#: Every kind of model, by the name that files use.
Model = MultiGateModel | FaithfulModel
KINDS: dict[str, type[MultiGateModel] | type[FaithfulModel]] = {
    one.kind: one for one in (MultiGateModel, FaithfulModel)
}


def save_model(path: Path, model: Model, facts: dict[str, Any]) -> None:
    """Writes a model whole or not at all: weights, how states are standardised, and structure.

    Args:
        facts: fingerprints, seed and the like; JSON-able.
    """
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
            for one in model.domains.values()
        ],
        "facts": facts,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    save_file(tensors, partial, metadata={"mser": json.dumps(head, sort_keys=True)})
    partial.replace(path)


def load_model(path: Path) -> tuple[Model, dict[str, Any]]:
    """Reads a model back, and the facts.

    Raises:
        RunError: there is none, it is damaged, or of another schema version.
    """
    head, tensors = _read(path, weights=True)
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
    model = KINDS[head["kind"]](domains, experts, ModelSettings(**head["settings"]))
    model.load_state_dict(tensors)
    return model, head["facts"]


def read_facts(path: Path) -> dict[str, Any]:
    """The facts of a model, without its weights.

    Raises:
        RunError: as :func:`load_model`.
    """
    return dict(_read(path, weights=False)[0]["facts"])


def _read(path: Path, weights: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            head = json.loads(file.metadata()["mser"])
            names = list(file.keys()) if weights else []
            tensors = {name: file.get_tensor(name) for name in names}
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise RunError("A model cannot be read.", file=path, found=error, hint="run `make train` again") from error
    if head["schema_version"] != SCHEMA_VERSION:
        raise RunError(
            "The model has another schema version.",
            file=path,
            field="schema_version",
            expected=SCHEMA_VERSION,
            found=head["schema_version"],
            hint="run `make train` again",
        )
    return head, tensors
