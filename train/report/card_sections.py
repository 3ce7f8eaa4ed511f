"""The sections of a model card; each gives paragraphs, tables and lists of Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from train.report.markdown import bullets, table
from train.report.marks import language_text, method_text, warnings
from train.report.study import MISSING, Study, bounds, degrees, number, probability, spread
from train.report.verdict import against_bar, chance_sentence


def first(study: Study) -> Iterator[str]:
    """What a reader must know before any number."""
    found = [*warnings(study), *study.content.get("notes", [])]
    if found:
        yield "**Read this first:**"
        yield bullets(found)


def what(study: Study, facts: Mapping[str, Any]) -> Iterator[str]:
    yield (
        "Light heads on cached hidden states of frozen speech models, trained by mser. A recording goes through the "
        "speech models below; the heads mix their layers, weigh the models by a gate, and give a probability for each "
        "emotion of the language."
    )
    if facts["method"] is None or not facts["models"]:
        yield "This run has no model for use: none of its methods trains one. It holds results alone."
    else:
        chosen: Mapping[str, Any] = next(
            (one for one in study.content["methods"] if one["name"] == facts["method"]), {}
        )
        yield (
            f"The method for use is `{facts['method']}`: {chosen.get('description', study.title(facts['method']))} "
            "The models here were trained on **every** speaker of the data, so nobody is left to test them on: the "
            "results below are those of models of the same method, each trained without the speakers it was tested on."
        )
        yield table(
            ["model", "language", "emotions", "structure", "temperature", "parameters of the file"],
            [
                [f"`{model['file']}`", one["language"], ", ".join(one["emotions"]), one["structure"],
                 degrees(one["temperature"]), f"{model['parameters']:,}"]
                for model in facts["models"] for one in model["languages"]
            ],
        )  # fmt: skip
    settings = study.content["settings"]["features"]
    kind = "mean and deviation over the frames of the recording" if settings["kind"] == "pooled" else "frames, at most "
    kind += "" if settings["kind"] == "pooled" else f"{settings['frame_rate']:g} a second"
    yield f"Features: {kind}. Speech models:"
    yield table(
        ["upstream", "family", "layers kept", "features a layer", "frames a second", "pretrained on", "licence"],
        [
            [one["id"] or one["name"], one["family"] or MISSING, f"{len(one['layer_numbers'])} of {one['layers']}",
             one["dim"], number(one["frame_rate"]), _list(one["languages"]),
             one["licence"] + (" **(random weights)**" if one["random_weights"] else "")]
            for one in facts["upstreams"]
        ],
    )  # fmt: skip


def _list(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value or MISSING)


def data(facts: Mapping[str, Any]) -> Iterator[str]:
    yield table(
        ["corpus", "language", "utterances", "speakers", "minutes", "speech", "emotions", "licence"],
        [
            [f"{one['title'] or 'no definition is at hand'} (`{one['name']}`)", one["language"], one["utterances"],
             f"{one['speakers']} ({_counted(one['genders'])})", number(one["minutes"]), one["speech"] or "not known",
             _counted(one["emotions"]), one["licence"] or "not known: its definition is not at hand"]
            for one in facts["corpora"]
        ],
    )  # fmt: skip
    yield bullets(
        f"`{one['name']}`: {one['citation'] or 'citation not known'} From: {one['get'] or 'not known'}"
        for one in facts["corpora"]
    )
    yield (
        "No recording is part of this folder. Whoever passes the heads on, or uses them, is bound by what the licences "
        "of the corpora and of the speech models say of models made with them."
    )


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def audits(study: Study) -> Iterator[str]:
    for entry in study.languages:
        said = "**LEAKY**" if study.leaky(entry["language"]) else "no speaker and no recording crosses a fold"
        yield (
            f"**{entry['language']}**: {entry.get('protocol', MISSING)}, {len(entry.get('folds', []))} test folds, "
            f"{entry.get('tested', MISSING)} of {entry.get('utterances', MISSING)} utterances tested; {said}."
        )
        yield bullets((entry.get("audit") or {}).get("messages", []))


def scores(study: Study, facts: Mapping[str, Any]) -> Iterator[str]:
    yield (
        "Percent on test speakers: mean ± deviation over seeds, and a 95 % interval over speakers. The bar is logistic "
        "regression on one layer; p by paired permutation over speakers / over utterances, corrected (Holm)."
    )
    for entry in study.languages:
        language = entry["language"]
        found = study.results(language)
        tests = {row["method"]: row for row in study.of_language("comparisons", language)}
        mark = {facts["method"]: " (**for use**)"}
        rows = [
            [language_text(study, language), method_text(study, method) + mark.get(method, ""),
             f"{spread(result['uar'])} {bounds(result['uar'])}", _test(tests.get(method)), spread(result["wa"]),
             spread(result["macro_f1"]), result["utterances"], result["emotions"], len(result.get("seeds", []))]
            for method, result in found.items()
        ]  # fmt: skip
        chance = number(entry.get("chance"))
        rows.append([language, "chance", chance, "", "", "", "", len(entry.get("emotions", [])), ""])
        yield table(["language", "method", "UAR", "against the bar", "WA", "macro-F1", "N", "E", "seeds"], rows)
        yield against_bar(study, language)
        yield chance_sentence(study, entry)
        if (result := found.get(str(facts["method"]))) and result.get("confusion"):
            yield from _recalls(entry, result)
    if not study.content.get("comparisons"):
        yield "The bar was not trained in this run, so there is nothing to compare with but chance."


def _test(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return MISSING
    return f"{row['difference']:+.1f}, p {probability(row['p_speakers'])} / {probability(row['p_utterances'])}"


def _recalls(entry: Mapping[str, Any], result: Mapping[str, Any]) -> Iterator[str]:
    """Recall of each emotion by the method for use, and what it is most often taken for."""
    counts = np.array(result["confusion"], dtype=float)
    emotions = entry["emotions"]
    rows = []
    for place, emotion in enumerate(emotions):
        total = counts[place].sum()
        others = np.delete(counts[place], place)
        worst = int(others.argmax()) if len(others) else 0
        names = [name for name in emotions if name != emotion]
        taken = f"{names[worst]}, {100 * others[worst] / total:.0f} %" if total and others.sum() else MISSING
        rows.append([emotion, number(100 * counts[place, place] / total if total else None), taken])
    yield f"Recall of each emotion ({entry['language']}), by the method for use:"
    yield table(["emotion", "recall", "most often taken for"], rows)


def calibration(study: Study, facts: Mapping[str, Any]) -> Iterator[str]:
    rows = [
        [entry["language"], entry["method"], entry["utterances"], number(entry["ece_before"]),
         number(entry["ece_after"]), number(entry["nll_before"], 2), number(entry["nll_after"], 2),
         " to ".join(degrees(one) for one in (entry["temperatures"][0], entry["temperatures"][-1]))]
        for entry in study.content.get("calibration", [])
    ]  # fmt: skip
    if not rows:
        yield "The run was not calibrated: its probabilities say which emotion is likelier, not how likely it is."
        return
    yield (
        "Test utterances before and after the temperature of their fold, which was fitted on dev speakers: expected "
        "calibration error in percent (15 bins) and negative log-likelihood in nats."
    )
    columns = ["language", "method", "N", "ECE before", "ECE after", "NLL before", "NLL after", "temperatures"]
    yield table(columns, rows)


def use(study: Study, facts: Mapping[str, Any]) -> Iterator[str]:
    if not facts["models"]:
        yield "There is no model for use in this run. Train one with `METHODS=fixed`, `searched` or `multi-domain`."
        return
    folders = [one["name"] for one in facts["upstreams"] if one["revision"] == "folder"]
    upstreams = "".join(f" /path/to/{name}" for name in folders)
    option = f' \\\n  --upstreams "{upstreams.strip()}"' if folders else ""
    language = study.languages[0]["language"]
    yield (
        f"```\nmser predict recording.wav --run FOLDER --language {language}{option}\n"
        f"mser export-head --run FOLDER --language {language}     # ONNX, needs mser[onnx]\n```"
    )
    yield f"FOLDER is the folder of this card. {_states(folders)}From Python:"
    named = f", upstreams={[f'/path/to/{name}' for name in folders]}" if folders else ""
    yield (
        "```python\nfrom mser.predict.recognizer import Recognizer\n\n"
        f'said = Recognizer.from_run("FOLDER"{named})(samples, sample_rate, "{language}")\n'
        "said.emotion, said.confidence, said.says(abstain=0.5)\n```"
    )


def _states(folders: Sequence[str]) -> str:
    if not folders:
        return "The speech models are found by their names. "
    return f"{', '.join(folders)} lay in a folder: the very weights below are needed, others are refused. "


def versions(results: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[str]:
    config = facts["config"]
    rows = [
        ["mser", f"{config['mser_version']}, recipe {config['recipe']}"],
        ["run", f"`{config['fingerprint']}`, results of {results.get('created', MISSING)}"],
        *([f"model `{one['file']}`", f"SHA-256 `{one['sha256']}`"] for one in facts["models"]),
        *([f"manifest `{one['name']}`", f"`{one['manifest']}`"] for one in facts["corpora"]),
    ]
    for one in facts["upstreams"]:
        versions = ", ".join(f"{name} {version}" for name, version in one["versions"].items())
        rows.append([
            f"upstream `{one['name']}`",
            f"revision {one['revision']}, weights `{one['weights_sha256'] or MISSING}`, {versions or 'no versions'}; "
            + ", ".join(f"store of {corpus} `{fingerprint}`" for corpus, fingerprint in one["stores"].items()),
        ])  # fmt: skip
    yield table(["of", "what"], rows)
