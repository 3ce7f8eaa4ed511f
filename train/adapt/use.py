"""The model of the new language that is to be used: tuned on every labelled clip; none is left to test it on."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from mser.checkpoint import save_model
from train.adapt.held_out import Kept
from train.adapt.study import Adaptation
from train.adapt.ways import Adapter


def model_for_use(adaptation: Adaptation, folder: Path, kept: Kept) -> Path:
    """Trains a way on all clips of the language, standardised by all of them, and writes its model.

    It is written like any run's model, so that ``mser predict`` takes the folder, and is as sure as the answers of the
    draws allow, about speakers that they were not trained on.
    """
    start, target = adaptation.open()
    adapter = Adapter(start, target, adaptation.settings, torch.device(adaptation.device), adaptation.placement)
    standard = target.standard(np.arange(len(target.labels)))
    labels = target.labels[target.rows]
    model = adapter.on_top(kept.way, target.rows, labels, standard, 0)
    stores = {name: asdict(next(iter(own.values())).provenance) for name, own in target.data.stores.items()}
    facts = {
        "method": f"adapted-{kept.way}",
        "from": {"model": str(start.path), "method": start.facts.get("method"), "data": start.facts.get("data")},
        "mapping": target.mapping.name,
        "seed": 0,
        "data": {target.name: target.data.fingerprint},
        "features": asdict(start.features),
        "normalise": "none",
        "stores": {target.name: stores},
        "temperature": {} if kept.temperature is None else {target.name: kept.temperature},
        "labelled": len(target.rows),
    }
    path = folder / "model.safetensors"
    save_model(path, model.cpu(), facts)
    return path
