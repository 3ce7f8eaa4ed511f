"""What a benchmark asked about, for its leaderboard: languages, label sets, systems."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from train.benchmark.run import Benchmark, language_of


def what_was_asked(benchmark: Benchmark) -> dict[str, Any]:
    """The entries ``languages``, ``labels`` and ``systems`` of a leaderboard's content."""
    return {
        "languages": [_language(benchmark, name) for name in benchmark.languages],
        "labels": _label_sets(benchmark),
        "systems": [_system(benchmark, name) for name in benchmark.systems],
    }


def _language(benchmark: Benchmark, name: str) -> dict[str, Any]:
    data = language_of(benchmark.inputs, name).data
    return {
        "language": name,
        "corpora": list(data.manifests),
        "utterances": len(data.utterances),
        "speakers": len({row.speaker_id for row in data.utterances}),
        "emotions": list(data.emotions),
        "audit": {**asdict(data.audit), "messages": list(data.audit.messages)},
    }


def _label_sets(benchmark: Benchmark) -> list[dict[str, Any]]:
    """The label sets, the first before the others: what the languages' emotions count as, and who has what is left out.

    ``left_out``: emotion -> language -> utterances.
    """
    datas = [language_of(benchmark.inputs, name).data for name in benchmark.languages]
    counts = {data.language: Counter(row.emotion for row in data.utterances) for data in datas}
    emotions = sorted(set().union(*counts.values()))
    return [
        {
            "name": mapping.name,
            "title": mapping.title,
            "parts": mapping.parts(emotions),
            "left_out": {
                emotion: {language: own[emotion] for language, own in counts.items() if emotion in own}
                for emotion in emotions
                if mapping[emotion] is None
            },
        }
        for mapping in benchmark.mappings
    ]


def _system(benchmark: Benchmark, name: str) -> dict[str, Any]:
    entry = benchmark.entry(name)
    return {
        **{field: getattr(entry, field) for field in ("name", "title", "description", "source", "control")},
        "options": entry.system.options,
        "version": entry.system.version,
        "adapts": entry.system.adapts,
        "protocols": list(entry.system.protocols),
    }
