"""What a run's models for use make of the cached states: each utterance's embedding before the classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mser.checkpoint import load_model
from mser.config import Workspace, read_json
from mser.errors import RunError
from mser.experts import Expert, frames_expert, pooled_expert
from mser.loader import Loader
from mser.manifest import Manifest, Utterance
from mser.runs import CONFIG, study_folder
from mser.store import Store

#: Utterances that a model sees at a time.
BATCH = 64


@dataclass(frozen=True)
class Embedded:
    """A language's utterances as a model for use sees them; it was trained on all of them.

    Attributes:
        values: (N, H) float32. method: by which the model was trained. model: its file.
    """

    language: str
    utterances: tuple[Utterance, ...]
    values: np.ndarray
    method: str
    model: Path


def embed(workspace: Workspace, run: str, manifests: Sequence[Manifest]) -> list[Embedded]:
    """The embeddings of the manifests' languages by the run's models for use, one a language.

    Raises:
        RunError: the run has no model of a language, or was made of other manifests or stores.
        StoreError: a store is missing, or damaged.
    """
    folder = study_folder(run, workspace)
    config = read_json(folder / CONFIG)
    found = []
    for language in dict.fromkeys(manifest.language for manifest in manifests):
        own = [manifest for manifest in manifests if manifest.language == language]
        found.append(_embed(workspace, folder, config, language, own))
    return found


def _embed(
    workspace: Workspace, folder: Path, config: dict[str, Any], language: str, manifests: Sequence[Manifest]
) -> Embedded:
    path = next(
        (one for one in (folder / f"model-{language}.safetensors", folder / "model.safetensors") if one.is_file()), None
    )
    if path is None or language not in config.get("languages", []):
        raise RunError(
            f"The run has no model for use of {language}.",
            file=folder,
            expected=f"one of: {' '.join(config.get('languages', [])) or 'none'}",
            found=", ".join(sorted(one.name for one in folder.glob("model*.safetensors"))) or "no model",
            hint=f"run `make train LANG={language}` with a head among the METHODS",
        )
    model, facts = load_model(path)
    utterances = tuple(row for manifest in manifests for row in manifest.utterances)
    experts = {
        name: _expert(config["settings"]["features"], _stores(workspace, config, language, name, manifests), utterances)
        for name in model.domains[language].experts or [shape.name for shape in model.experts]
    }
    model.eval()
    loader = Loader(list(experts.values()), torch.zeros(len(utterances), dtype=torch.int64))
    with torch.inference_mode():
        parts = np.array_split(np.arange(len(utterances)), -(-len(utterances) // BATCH))
        values = torch.cat([model(language, loader.gather(rows)).embedding for rows in parts])
    return Embedded(language, utterances, values.numpy(), str(facts.get("method", "")), path)


def _stores(
    workspace: Workspace, config: dict[str, Any], language: str, upstream: str, manifests: Sequence[Manifest]
) -> dict[str, Store]:
    """The stores of an upstream by corpus, once they and the manifests are seen to be those of the run."""
    try:
        made_of = config["stores"][language][upstream], config["manifests"][language]
    except KeyError as error:
        raise RunError(
            "The run does not say what it was made of.", file=workspace.runs, field=error, hint="run `make train` again"
        ) from error
    stores = {manifest.corpus: Store(workspace.store(manifest.corpus, upstream)) for manifest in manifests}
    here = (
        {corpus: store.provenance.fingerprint for corpus, store in stores.items()},
        {manifest.corpus: manifest.fingerprint for manifest in manifests},
    )
    for what, expected, found in zip(("stores", "manifests"), made_of, here, strict=True):
        if expected != found:
            raise RunError(
                f"The run was made of other {what}.",
                field=f"{what} of {language}",
                expected=expected,
                found=found,
                hint="run `make train` again, or name another run",
            )
    return stores


def _expert(features: dict[str, Any], stores: dict[str, Store], utterances: Sequence[Utterance]) -> Expert:
    if features["kind"] == "frames":
        return frames_expert(stores, utterances, features["frame_rate"])
    return pooled_expert(stores, utterances)
