"""What a reader must know before any number, of a report or of a search."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mser.checkpoint import facts_if_whole
from mser.config import store_name
from mser.model import ExpertShape
from mser.store import Provenance
from train.data import LanguageData
from train.final import models_for_use
from train.methods import strategies
from train.search import folds_to_search, searched
from train.settings import Inputs
from train.study import Study

#: Trainings that a sentence names of many.
EXAMPLES = 5


def notes(
    study: Study,
    languages: Sequence[LanguageData],
    results: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]],
) -> list[str]:
    """Sentences on data, on upstreams, and on trainings that diverged.

    Args:
        results: for each language and method those of all folds and seeds.
    """
    names = strategies(study.methods)
    return [
        *_synthetic(languages),
        *_upstreams(languages),
        *_missing(study, languages),
        *_of_tests(results),
        *(sentence for data in languages for sentence in search_notes(study.inputs, data, names)),
        *_of_models(study),
    ]


def upstreams_of(languages: Sequence[LanguageData]) -> list[ExpertShape]:
    """The upstreams of all languages, each as in the first that has it; a language may lack some."""
    found: dict[str, ExpertShape] = {}
    for data in languages:
        for shape in data.shapes:
            found.setdefault(shape.name, shape)
    return list(found.values())


def has_random_weights(upstream: str, languages: Sequence[LanguageData]) -> bool:
    """Whether the states of any language come from weights that were never trained."""
    return any(made.upstream["random_weights"] for made in _made(upstream, languages))


def _made(upstream: str, languages: Sequence[LanguageData]) -> list[Provenance]:
    """What the states of each language that has an upstream were made from, by its first store."""
    return [next(iter(data.stores[upstream].values())).provenance for data in languages if upstream in data.stores]


def _synthetic(languages: Sequence[LanguageData]) -> Iterator[str]:
    corpora = sorted({row.corpus for data in languages for row in data.utterances if row.corpus.startswith("demo_")})
    if corpora:
        yield (
            f"The corpora {', '.join(corpora)} are synthetic, made by a speech synthesiser: "
            "these numbers show that everything works, and nothing about real speech."
        )


def _upstreams(languages: Sequence[LanguageData]) -> Iterator[str]:
    names = [shape.name for shape in upstreams_of(languages)]
    for name in names:
        if has_random_weights(name, languages):
            yield f"{name} has random weights and was never trained: it shows the flow, never an accuracy."
    for name in names:
        made = _made(name, languages)
        # One sentence where all languages keep the same layers.
        for layers, kept in dict.fromkeys((one.upstream["layers"], one.layer_numbers) for one in made):
            if len(kept) < layers:
                yield (
                    f"Of the {layers} layers of {name} these are kept, and numbered from 0 here: "
                    f"{' '.join(map(str, kept))}."
                )


def _missing(study: Study, languages: Sequence[LanguageData]) -> Iterator[str]:
    """A sentence for each language and upstream that it goes without."""
    asked = [store_name(name) for name in study.inputs.upstreams]
    every = dict.fromkeys([*asked, *(shape.name for shape in upstreams_of(languages))])
    for data in languages:
        for name in every:
            if name not in data.stores:
                yield f"{data.language} was trained and tested without {name}, which was not extracted for it."


def _of_tests(results: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    """A sentence for each method and language of which a training diverged."""
    for (language, method), own in results.items():
        lost = [one for one in own if one.get("diverged") is not None]
        if lost:
            places = _listed([f"{one['fold']} seed {one['seed']} in epoch {one['diverged']}" for one in lost])
            yield (
                f"{len(lost)} of {len(own)} trainings of {method} on {language} diverged and were stopped; the weights "
                f"of the epoch before count ({places})."
            )


def search_notes(inputs: Inputs, data: LanguageData, names: Sequence[str]) -> Iterator[str]:
    """A sentence for each strategy of which the training of a structure, to judge it, diverged.

    Args:
        names: of strategies; those that were not searched are left out.
    """
    for name in names:
        judged = []
        for fold in folds_to_search(data):
            found = searched(inputs, data, fold.name, name) or {"candidates": []}
            judged += [(fold.name, one.get("diverged")) for one in found.get("candidates", [found])]
        lost = [f"{fold} in epoch {epoch}" for fold, epoch in judged if epoch is not None]
        if lost:
            yield (
                f"{len(lost)} of {len(judged)} trainings that judged structures of {name} on {data.language} diverged "
                f"and were stopped; their dev UAR is that of the epoch before ({_listed(lost)})."
            )


def _of_models(study: Study) -> Iterator[str]:
    """A sentence for each model for use whose training diverged."""
    for path, languages in models_for_use(study).items():
        facts = facts_if_whole(path) or {}
        if facts.get("diverged") is not None:
            best = facts["best_epoch"]
            weights = f"it has the weights of epoch {best}" if best >= 0 else "it has learned nothing, and is of no use"
            yield (
                f"The training of the model for use of {' '.join(languages)} ({path.name}) diverged in epoch "
                f"{facts['diverged']} and was stopped; {weights}."
            )


def _listed(places: Sequence[str]) -> str:
    return f"{', '.join(places[:EXAMPLES])}{', ...' if len(places) > EXAMPLES else ''}"
