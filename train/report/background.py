"""Sections on what was run: upstreams, languages, methods, settings, audit, timings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mser.markup import Markup, bullets, details, element, join, markup, paragraph, section, table
from train.report.marks import language_mark, method_mark, warnings
from train.report.study import MISSING, Study, duration, is_number, number

LANGUAGE_COLUMNS = [
    "language", "corpora", "utterances", "tested", "speakers", "minutes", "protocol", "folds", "emotions",
]  # fmt: skip
AUDIT_COLUMNS = {
    "speaker_overlap": "test utterances of a training speaker", "duplicates": "test recordings in training",
    "sentence_overlap": "test utterances with a text of training", "single_emotion_speakers": "speakers of one emotion",
    "single_emotion_texts": "texts of one emotion",
}  # fmt: skip


def notes(study: Study) -> Markup:
    """The warnings a reader must see before any number."""
    found = [*warnings(study), *study.content.get("notes", [])]
    if not found:
        return Markup()
    heading = element("h2", "Read this first")
    return element("section", heading, bullets(found), css="warning", attributes={"id": "notes"})


def what_was_run(study: Study) -> Markup:
    upstreams = [
        [entry["name"], entry["layers"], entry["dim"], "yes" if entry.get("random_weights") else "no"]
        for entry in study.content.get("upstreams", [])
    ]
    languages = [
        [language_mark(study, entry["language"]), ", ".join(entry.get("corpora", [])),
         *(entry.get(field, MISSING) for field in ("utterances", "tested", "speakers")),
         number(entry.get("minutes")), entry.get("protocol", MISSING), len(entry.get("folds", [])),
         ", ".join(entry.get("emotions", []))]
        for entry in study.languages
    ]  # fmt: skip
    methods = [[method_mark(study, method["name"]), method["name"], method.get("description", "")]
               for method in study.content.get("methods", [])]  # fmt: skip
    settings = flat(study.content.get("settings", {}))
    return section(
        "run", "What was run",
        element("h3", "Upstreams"),
        table(["upstream", "layers", "features", "random weights"], upstreams),
        element("h3", "Languages"),
        table(LANGUAGE_COLUMNS, languages, css="prose"),
        _folds(study),
        element("h3", "Methods"),
        table(["method", "short name", "what it is"], methods, css="prose"),
        details(f"Settings ({len(settings)})", table(["setting", "value"], settings.items())),
    )  # fmt: skip


def _folds(study: Study) -> Markup:
    parts = ("train", "test")
    rows = [
        [language_mark(study, language["language"]), fold["name"], *(fold.get(part, MISSING) for part in parts)]
        for language in study.languages
        for fold in language.get("folds", [])
    ]
    return details(f"Folds ({len(rows)})", table(["language", "fold", "training utterances", "test utterances"], rows))


def flat(settings: Any, prefix: str = "") -> dict[str, str]:
    """Nested settings by dotted name.

    >>> flat({"search": {"epochs": 30, "heads": [1, 2]}, "seed": 0})
    {'search.epochs': '30', 'search.heads': '1, 2', 'seed': '0'}
    """
    if isinstance(settings, Mapping) and (settings or not prefix):
        parts = [flat(entry, f"{prefix}.{name}" if prefix else str(name)) for name, entry in settings.items()]
        return {name: text for part in parts for name, text in part.items()}
    if isinstance(settings, list | tuple) and not any(isinstance(entry, Mapping | list) for entry in settings):
        return {prefix: ", ".join(map(str, settings)) or MISSING}
    return {prefix: str(settings)}


def audits(study: Study) -> Markup:
    parts: list[object] = [paragraph(
        "Checked on the folds themselves, independently of how they were made. Scores can only be read as far as "
        "these sentences let them.", css="lead",
    )]  # fmt: skip
    rows, fields = [], ("corpus", "protocol", "utterances", "tested", "speakers")
    for language in study.languages:
        audit = language.get("audit") or {}
        name = language["language"]
        messages = audit.get("messages") or ["Nothing to report."]
        parts.append(element("div", element("h3", language_mark(study, name)), *map(_message, messages), css="audit"))
        rows.append([
            language_mark(study, name), *(audit.get(field, MISSING) for field in fields),
            *(_audited(audit, field) for field in AUDIT_COLUMNS),
        ])  # fmt: skip
    columns = ["language", *fields, *AUDIT_COLUMNS.values()]
    return section("audit", "Audit: what the folds leak", *parts, table(columns, rows))


def _message(message: object) -> Markup:
    return paragraph(message, css="leak" if str(message).startswith("LEAKY") else "finding")


def _audited(audit: Mapping[str, Any], field: str) -> str:
    found = audit.get(field)
    if not is_number(found):
        return "not known"
    if field == "sentence_overlap":
        return f"{number(100 * found)} %"
    totals = {"single_emotion_speakers": "speakers", "single_emotion_texts": "texts"}
    return f"{found} of {audit.get(totals[field], MISSING)}" if field in totals else str(found)


def timings(study: Study) -> Markup:
    """Stage by language; what is given several times is added up."""
    seconds: dict[str, dict[str, float]] = {}
    languages: list[str] = []
    for entry in study.content.get("timings", []):
        language = str(entry.get("language") or "all")
        languages += [] if language in languages else [language]
        stage = seconds.setdefault(str(entry["stage"]), {})
        stage[language] = stage.get(language, 0) + (entry["seconds"] if is_number(entry["seconds"]) else 0)
    rows = [
        [stage, *(duration(found.get(language)) for language in languages), duration(sum(found.values()))]
        for stage, found in seconds.items()
    ]
    body = table(["stage", *languages, "total"], rows) if rows else paragraph("No timings were kept.")
    return section("timings", "Timings", body)


def header(study: Study) -> Markup:
    run = study.content.get("run", MISSING)
    facts = f"made {study.content.get('created', MISSING)} · mser {study.content.get('mser_version', MISSING)}"
    long, whole = (element("a", name, attributes={"href": name}) for name in ("results.csv", "results.json"))
    numbers = join(["The numbers of this page: ", long, " (long form), ", whole, " (everything)."])
    kicker = paragraph("Multilingual speech emotion recognition", css="kicker")
    title = element("h1", "Report of run ", element("em", run))
    return element("header", kicker, title, paragraph(markup(facts), css="facts"), paragraph(numbers, css="facts"))
