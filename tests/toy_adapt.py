"""A run of random weights and a language that is new to it, for tests of adaptations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from toys import make_workspace

from mser.checkpoint import save_model
from mser.config import Workspace, read_json
from mser.loader import Loader
from mser.manifest import Manifest, Utterance
from mser.model import Domain, ExpertShape, ModelSettings, MultiGateModel, Prior
from mser.nas.genotype import fixed_genotype
from train.adapt.scores import summary
from train.adapt.study import Adaptation, adapt_block
from train.adapt.ways import ON_SHOTS, AdaptSettings
from train.data import Features, LanguageData, load_languages
from train.fit import FitSettings
from train.objective import LossSettings

UPSTREAMS = ("loud", "quiet")
EMOTIONS = ("anger", "fear", "joy")
FEW = FitSettings(epochs=1, least_steps=2, loss=LossSettings(contrastive="none"))
QUICK = AdaptSettings(tuning=FEW, scratch=FEW)
ZERO = ("averaged", "nearest", "averaged-unlabelled", "nearest-unlabelled")
SHOT_WAYS = ON_SHOTS
Say = Callable[[Utterance], str | None]


def relabel(workspace: Workspace, corpus: str, say: Say, language: str | None = None) -> None:
    """Gives a corpus other emotions, leaving out where there is none, and perhaps another language."""
    manifest = Manifest.read(workspace, corpus)
    language = language or manifest.language
    rows = tuple(replace(row, emotion=say(row), language=language) for row in manifest.utterances if say(row))
    replace(manifest, utterances=rows, language=language).write(workspace, [], [])


def renamed(**names: str) -> Say:
    return lambda row: names.get(row.emotion, row.emotion)


def save_run(
    workspace: Workspace,
    languages: Mapping[str, Sequence[str]] | None = None,
    kind: str = "pooled",
    change: Callable[[MultiGateModel], object] = lambda model: None,
    **more: Any,
) -> Path:
    """A run of random weights, as training leaves it: each language with the upstreams it knows."""
    languages = languages or {"de": UPSTREAMS, "it": UPSTREAMS}
    datas: list[LanguageData] = []
    for name, upstreams in languages.items():
        datas += load_languages(workspace, [name], upstreams, Features(kind))
    shapes = list({one.name: ExpertShape(one.name, one.layers, one.dim) for d in datas for one in d.experts}.values())
    torch.manual_seed(0)
    domains = []
    for data in datas:
        rows = np.arange(len(data.utterances))
        standard = {expert.name: expert.standard(rows) for expert in data.experts}
        prior = Prior({e.name: torch.randn(e.layers) for e in data.experts}, torch.randn(len(standard)), standard)
        names = tuple(standard)
        domains.append(Domain(data.language, data.emotions, fixed_genotype(names, data.features.space), prior, names))
    model = MultiGateModel(domains, shapes, ModelSettings(hidden=8))
    change(model)
    stores = {
        data.language: {name: asdict(next(iter(own.values())).provenance) for name, own in data.stores.items()}
        for data in datas
    }
    facts = {
        "method": "fixed-multi", "seed": 0, "data": {data.language: data.fingerprint for data in datas},
        "features": asdict(datas[0].features), "normalise": "none", "stores": stores, "temperature": {}, **more,
    }  # fmt: skip
    path = workspace.runs / "base" / "model.safetensors"
    save_model(path, model, facts)
    return path


def new_language(root: Path) -> Workspace:
    """Languages de, it and en of four speakers each, and a run that knows de and it."""
    found = make_workspace(root, ("de", "it", "en"))
    save_run(found)
    return found


def adaptation(workspace: Workspace, **changes: Any) -> Adaptation:
    asked = Adaptation(
        workspace.root, Path("base"), "en", workspace.runs / "base-to-en" / "draws", (1, None), 1, settings=QUICK
    )
    return replace(asked, **changes)


def done(asked: Adaptation) -> list[dict[str, Any]]:
    """Asks all that is not answered yet; what every half's file says."""
    _, target = asked.open()
    for block in asked.blocks(target):
        adapt_block(*block)
    return [read_json(asked.path(draw, number)) for _, draw, number in asked.blocks(target)]


def numbers(asked: Adaptation) -> dict[str, Any]:
    done(asked)
    return summary(asked, *asked.open(), 0.0)


def of_way(half: Mapping[str, Any], way: str, k: Any = 0) -> dict[str, Any]:
    (found,) = (one for one in half["answers"] if (one["way"], one["k"]) == (way, k))
    return dict(found)


def speakers_of(names: Sequence[str]) -> set[str]:
    """Of utterances by id, such as ``toy_en/s1u3``."""
    return {name.split("u")[0] for name in names}


def plain(model: MultiGateModel, language: str, data: LanguageData, ids: Sequence[str]) -> np.ndarray:
    """What a network says of utterances of another language."""
    place = [row.utterance_id for row in data.utterances]
    batch = Loader(data.experts, data.labels).gather(np.array([place.index(name) for name in ids]))
    return np.asarray(model(language, batch).logits.softmax(1).detach())
