"""What a run's heads cannot be trusted with, read off its data and results."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from train.report.study import Study, is_number, number

#: A corpus of fewer speakers than this speaks for these speakers more than for a language.
FEW_SPEAKERS = 30
SAID = {
    "acted": "acted, by speakers who were asked to; how people sound when an emotion is their own was not seen",
    "elicited": "elicited, brought about on purpose in a recording session",
    "spontaneous": "spontaneous, asked for by nobody; others judged which emotion it was",
    "synthetic": "synthetic, made by a speech synthesiser; nothing here says anything of people",
}


def limits(study: Study, facts: Mapping[str, Any]) -> Iterator[str]:
    """Sentences, each with the fact it rests on."""
    for corpus in facts["corpora"]:
        yield from _of_corpus(corpus)
    for language in study.languages:
        yield from _of_language(study, language, facts)
    yield _of_people(facts)
    yield (
        "Not for decisions about people, least of all without their knowledge and consent. In the European Union "
        "systems that infer emotions at work or in education are prohibited but for medical or safety reasons "
        "(Regulation (EU) 2024/1689, article 5(1)(f))."
    )


def _of_corpus(corpus: Mapping[str, Any]) -> Iterator[str]:
    name, speech = corpus["name"], corpus["speech"]
    yield f"The emotions of `{name}` are {SAID.get(speech, 'of a kind that its definition does not tell')}."
    shortest, median, longest = (number(value) for value in corpus["seconds"])
    rates = " and ".join(f"{rate / 1000:g}" for rate in corpus["sample_rates"])
    yield (
        f"The recordings of `{name}` come at {rates} kHz and are {shortest} to {longest} s long, half of them up to "
        f"{median} s. Other lengths, telephone lines, noise and several people at once were not tested."
    )


def _of_language(study: Study, language: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[str]:
    name, speakers = language["language"], language.get("speakers")
    emotions = language.get("emotions", [])
    result = study.result(name, str(facts["method"]))
    if is_number(speakers) and speakers < FEW_SPEAKERS:
        spread = ""
        if result and is_number(result["uar"].get("low")) and is_number(result["uar"].get("high")):
            low, high = result["uar"]["low"], result["uar"]["high"]
            spread = f" The 95 % interval over speakers is {number(high - low)} points of UAR wide."
        yield f"{name}: {speakers} speakers in all, which is few for a language.{spread}"
    if result:
        yield from _of_folds(name, result)
    for one in study.of_language("calibration", name):
        if one["method"] == facts["method"]:
            yield (
                f"{name}: the probability of the most probable emotion is off by {number(one['ece_after'])} points on "
                f"average for new speakers, with the temperature ({number(one['ece_before'])} without)."
            )
    yield (
        f"{name}: whatever is said becomes one of {len(emotions)} emotions ({', '.join(emotions)})"
        f"{'' if 'neutral' in emotions else '; neutral speech is none of them'}. `--abstain` says `unsure` below a "
        "probability."
    )


def _of_folds(name: str, result: Mapping[str, Any]) -> Iterator[str]:
    folds: dict[str, list[float]] = defaultdict(list)
    for one in result.get("per_fold", []):
        folds[one["fold"]].append(one["uar"])
    means = {fold: float(np.mean(values)) for fold, values in folds.items()}
    if len(means) > 1:
        worst, best = min(means, key=lambda one: means[one]), max(means, key=lambda one: means[one])
        yield (
            f"{name}: it depends on who speaks. UAR by test fold goes from {number(means[worst])} ({worst}) to "
            f"{number(means[best])} ({best})."
        )


def _of_people(facts: Mapping[str, Any]) -> str:
    genders: dict[str, int] = defaultdict(int)
    for corpus in facts["corpora"]:
        for gender, count in corpus["genders"].items():
            genders[gender] += count
    said = ", ".join(f"{count} {gender}" for gender, count in genders.items())
    return (
        f"No claim about any group of people: the speakers are {said}, and no score was taken by gender. Age, dialect, "
        "first language, health and culture are not in the data."
    )
