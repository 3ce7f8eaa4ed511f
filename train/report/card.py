"""The model card: what a run's folder tells whoever is given it, as Markdown that model hubs read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from train.report.card_sections import audits, calibration, data, first, scores, use, versions, what
from train.report.limits import limits
from train.report.markdown import bullets
from train.report.study import MISSING, Study

CARD = "README.md"
#: Identifiers of licences as hubs know them; anything else is ``other``.
HUB_LICENCES = ("apache-2.0", "mit", "cc0-1.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0")


def make_card(results: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """The card; the same text for the same results and facts.

    Args:
        results: the content of ``results.json``. facts: of :func:`train.card.facts`.
    """
    study = Study(results)
    languages = " ".join(entry["language"] for entry in study.languages)
    parts = [
        f"# Speech emotion recognition ({languages}): run {results.get('run', MISSING)}",
        *first(study),
        "## What it is",
        *what(study, facts),
        "## Data",
        *data(facts),
        "## Protocol and audit",
        *audits(study),
        "## Results",
        *scores(study, facts),
        "## Calibration",
        *calibration(study, facts),
        "## Limits",
        bullets(limits(study, facts)),
        "## How to use it",
        *use(study, facts),
        "## Versions and fingerprints",
        *versions(results, facts),
    ]
    return f"---\n{front_matter(study, facts)}---\n\n" + "\n\n".join(part for part in parts if part) + "\n"


def front_matter(study: Study, facts: Mapping[str, Any]) -> str:
    """What hubs read: YAML.

    Numbers that cannot be compared with others (leaky folds, synthetic speech, random weights) are not among the
    results that hubs rank; they stand in the text, with their marks.
    """
    run = str(study.content.get("run", MISSING))
    tags = ["speech-emotion-recognition", "audio", "mser"]
    tags += ["synthetic-data"] if _synthetic(facts) else []
    tags += ["random-weights"] if _random(facts) else []
    licence = _licence(facts)
    content: dict[str, Any] = {
        "language": [entry["language"] for entry in study.languages],
        "license": licence,
        **({"license_name": "see-data-and-upstreams-below"} if licence == "other" else {}),
        "library_name": "mser",
        "pipeline_tag": "audio-classification",
        "tags": tags,
        "metrics": ["recall", "accuracy", "f1"],
    }
    if ranked := _ranked(study, facts):
        content["model-index"] = [{"name": run, "results": ranked}]
    return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _licence(facts: Mapping[str, Any]) -> str:
    """The one licence of all that the heads were made from, where there is one."""
    found = {str(one["licence"]).lower() for part in ("corpora", "upstreams") for one in facts[part]}
    found -= {str(one["licence"]).lower() for one in facts["upstreams"] if one.get("family") == "acoustic"}
    return found.pop() if len(found) == 1 and found <= set(HUB_LICENCES) else "other"


def _synthetic(facts: Mapping[str, Any]) -> list[str]:
    return [one["name"] for one in facts["corpora"] if one["speech"] == "synthetic"]


def _random(facts: Mapping[str, Any]) -> list[str]:
    return [one["name"] for one in facts["upstreams"] if one["random_weights"]]


def _ranked(study: Study, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The results of the method for use, as hubs list them."""
    if facts["method"] is None or _random(facts):
        return []
    found = []
    for entry in study.languages:
        own = [one for one in facts["corpora"] if one["language"] == entry["language"]]
        result = study.result(entry["language"], facts["method"])
        if result is None or study.leaky(entry["language"]) or set(_synthetic(facts)) & {one["name"] for one in own}:
            continue
        named = {"recall": ("UAR, percent", "uar"), "accuracy": ("WA, percent", "wa"), "f1": ("macro-F1", "macro_f1")}
        metrics = [
            {"type": kind, "name": title, "value": round(float(result[key]["mean"]), 2)}
            for kind, (title, key) in named.items()
        ]
        dataset = {
            "name": "; ".join(one["title"] or one["name"] for one in own),
            "type": "-".join(one["name"] for one in own),
            "split": entry.get("protocol", MISSING),
        }
        task = {"type": "audio-classification", "name": "Speech emotion recognition"}
        found.append({"task": task, "dataset": dataset, "metrics": metrics})
    return found
