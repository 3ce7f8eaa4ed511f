"""A trained model on disk: safetensors with all that is needed to use it, never pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mser.errors import RunError
from mser.loader import Expert
from mser.model import Domain, ExpertShape, ModelSettings, MultiGateModel, Prior
from mser.nas.genotype import Genotype

SCHEMA_VERSION = 1


def save_model(
    path: Path, model: MultiGateModel, standardised: dict[str, Sequence[Expert]], facts: dict[str, Any]
) -> None:
    """Writes a model whole or not at all.

    Args:
        standardised: for each language its experts, with the shift and scale that training used.
        facts: fingerprints, seed and the like; JSON-able.
    """
    tensors = {f"model.{name}": value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    for language, experts in standardised.items():
        for number, expert in enumerate(experts):
            if expert.shift is None or expert.scale is None:
                raise ValueError(f"the experts of {language} are not standardised")
            tensors[f"shift.{language}.{number}"] = expert.shift.clone()
            tensors[f"scale.{language}.{number}"] = expert.scale.clone()
    head = {
        "schema_version": SCHEMA_VERSION,
        "settings": asdict(model.settings),
        "experts": [asdict(shape) for shape in model.experts],
        "domains": [
            {"language": one.language, "emotions": one.emotions, "genotype": one.genotype.to_dict()}
            for one in model.domains.values()
        ],
        "facts": facts,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    save_file(tensors, partial, metadata={"mser": json.dumps(head, sort_keys=True)})
    partial.replace(path)


def load_model(path: Path) -> tuple[MultiGateModel, dict[str, list[tuple[Tensor, Tensor]]], dict[str, Any]]:
    """Reads a model back, in evaluation mode.

    Returns:
        The model; for each language the (shift, scale) of each expert, each (L, 1, D); and the facts.

    Raises:
        RunError: there is none, it is damaged, or of another schema version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            head = json.loads(file.metadata()["mser"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
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
    experts = [ExpertShape(**shape) for shape in head["experts"]]
    domains = [
        Domain(one["language"], tuple(one["emotions"]), Genotype.from_dict(one["genotype"]), Prior.uniform(experts))
        for one in head["domains"]
    ]
    model = MultiGateModel(domains, experts, ModelSettings(**head["settings"]))
    model.load_state_dict({name[6:]: value for name, value in tensors.items() if name.startswith("model.")})
    moments = {
        one.language: [
            (tensors[f"shift.{one.language}.{number}"], tensors[f"scale.{one.language}.{number}"])
            for number in range(len(experts))
        ]
        for one in domains
    }
    return model.eval(), moments, head["facts"]
