"""What a model card tells beyond the results: models, corpora and upstreams, with their licences and fingerprints."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mser.checkpoint import load_model
from mser.config import DATA_FOLDER, read_json, read_yaml, split_adapter, write_text
from mser.corpora import CorpusDefinition
from mser.manifest import Utterance
from mser.store import Provenance
from train.data import LanguageData
from train.final import final_method
from train.report.card import CARD, make_card
from train.run import CONFIG
from train.study import Study

#: What stands where nobody has written a licence down.
UNKNOWN = "not known: see where you got it"
#: Of upstreams that are no pretrained models, by family.
LICENCES = {
    "acoustic": "part of mser, Apache-2.0",
    "opensmile": "openSMILE's own: for research, and no use in a product",
}


def write_card(
    study: Study,
    datas: Sequence[LanguageData],
    results: Mapping[str, Any],
    definitions: Mapping[str, CorpusDefinition],
) -> Path:
    """Writes the ``README.md`` of a run's folder.

    Args:
        results: what :func:`train.evaluate.evaluate` found. definitions: of corpora, by name.
    """
    path = study.folder / CARD
    write_text(path, make_card(results, facts(study, datas, definitions)))
    return path


def facts(study: Study, datas: Sequence[LanguageData], definitions: Mapping[str, CorpusDefinition]) -> dict[str, Any]:
    """What :func:`train.report.card.make_card` needs beside the results."""
    config, method = read_json(study.folder / CONFIG), final_method(study)
    models = sorted(study.folder.glob("model*.safetensors")) if method else []
    return {
        "method": method,
        "config": {name: config[name] for name in ("fingerprint", "mser_version", "recipe")},
        "models": [model_facts(path) for path in models],
        "corpora": [one for data in datas for one in corpora_of(data, definitions)],
        "upstreams": list(_upstreams(datas)),
    }


def model_facts(path: Path) -> dict[str, Any]:
    """What a model for use is."""
    model, known = load_model(path)
    return {
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "parameters": sum(value.numel() for value in model.parameters()),
        "languages": [
            {
                "language": one.language,
                "emotions": list(one.emotions),
                "structure": str(one.genotype),
                "temperature": known.get("temperature", {}).get(one.language),
            }
            for one in model.domains.values()
        ],
    }


def corpora_of(data: LanguageData, definitions: Mapping[str, CorpusDefinition]) -> Iterator[dict[str, Any]]:
    """What is known of each corpus of a language, from its definition and its manifest."""
    for name, fingerprint in data.manifests.items():
        rows = [row for row in data.utterances if row.corpus == name]
        definition = definitions.get(name)
        written = {
            key: getattr(definition, key) if definition else None
            for key in ("title", "licence", "citation", "get", "speech")
        }
        yield {"name": name, "language": data.language, **written, **_counts(rows), "manifest": fingerprint}


def _counts(rows: Sequence[Utterance]) -> dict[str, Any]:
    genders = Counter(dict.fromkeys({(row.speaker_id, row.gender) for row in rows}, 1))
    seconds = [row.seconds for row in rows]
    return {
        "utterances": len(rows),
        "speakers": len({row.speaker_id for row in rows}),
        "genders": dict(sorted(Counter(gender or "not given" for _, gender in genders).items())),
        "minutes": sum(seconds) / 60,
        "seconds": [min(seconds), float(np.median(seconds)), max(seconds)],
        "sample_rates": sorted({row.sample_rate for row in rows}),
        "emotions": dict(sorted(Counter(row.emotion for row in rows).items())),
    }


def _upstreams(datas: Sequence[LanguageData]) -> Iterator[dict[str, Any]]:
    """Every upstream of the run, by its first store."""
    registered = read_yaml(DATA_FOLDER / "upstreams.yaml")
    found: dict[str, Provenance] = {}
    stores: dict[str, dict[str, str]] = {}
    for data in datas:
        for name, of_corpus in data.stores.items():
            for corpus, store in of_corpus.items():
                found.setdefault(name, store.provenance)
                stores.setdefault(name, {})[corpus] = store.provenance.fingerprint
    for name, made in found.items():
        entry = registry_entry(made.upstream, registered)
        keys = ("family", "source", "revision", "weights_sha256", "layers", "dim", "frame_rate", "random_weights")
        yield {
            "name": name,
            **{key: made.upstream.get(key) for key in keys},
            "layer_numbers": list(made.layer_numbers),
            "licence": licence_of(made.upstream, entry),
            "id": entry.get("id") if entry else None,
            "languages": entry.get("languages") if entry else None,
            "versions": dict(made.versions),
            "stores": stores[name],
        }


def registry_entry(
    upstream: Mapping[str, Any], registered: Mapping[str, Mapping[str, Any]]
) -> Mapping[str, Any] | None:
    """The entry of ``upstreams.yaml`` that an upstream was loaded by; a folder is none, whatever its name."""
    if upstream.get("revision") == "folder":
        return None
    source, _ = split_adapter(str(upstream.get("source", "")))
    by_id = {entry["id"].replace("/", "--"): entry for entry in registered.values()}
    return registered.get(source) or by_id.get(source)


def licence_of(upstream: Mapping[str, Any], entry: Mapping[str, Any] | None) -> str:
    """The licence of an upstream as far as somebody has written it down."""
    if upstream.get("random_weights"):
        return "none needed: random weights"
    if entry is not None:
        return " ".join(
            str(part) for part in (entry["licence"], f"({entry['note']})" if "note" in entry else "")
        ).strip()
    return LICENCES.get(str(upstream.get("family", "")), UNKNOWN)
