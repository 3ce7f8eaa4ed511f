"""What is mapped: the utterances of all languages by one layer, or by a trained model, with their labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mser.config import Workspace
from mser.errors import MserError
from mser.inspect.embeddings import embed
from mser.inspect.languages import Cached, Language
from mser.inspect.listing import said
from mser.inspect.probes import Probe
from mser.manifest import Manifest, Utterance
from mser.runs import study_folder

#: What points are coloured by: columns of the manifest, but for the speaker, whose name is made unique across corpora.
COLOURINGS = ("emotion", "speaker", "language", "corpus")


@dataclass(frozen=True)
class Cloud:
    """Utterances as points in a space.

    Attributes:
        title: what space. note: what a reader must know of it. features: (N, D).
        trouble: in a sentence, why there are no points; else empty.
    """

    title: str
    note: str
    utterances: tuple[Utterance, ...]
    features: np.ndarray
    trouble: str = ""

    def labels(self) -> dict[str, list[str]]:
        """Of each utterance, by column."""
        columns = ("utterance_id", "language", "corpus", "emotion", "gender", "text_id")
        found = {name: [str(getattr(row, name)) for row in self.utterances] for name in columns}
        return {**found, "speaker": [row.speaker_id for row in self.utterances]}


@dataclass(frozen=True)
class Layer:
    """A layer by its number in the upstream, and why it was taken."""

    upstream: str
    number: int
    reason: str


def best_layer(languages: Sequence[Language], probes: Mapping[str, Mapping[str, Probe]]) -> Layer | None:
    """The layer with the highest UAR on dev speakers, averaged over the languages that have it; most languages first.

    Args:
        probes: of emotions, by language and upstream; of the upstreams that may be chosen.

    Returns:
        None where nothing is cached.
    """
    found: dict[tuple[str, int], list[float]] = defaultdict(list)
    for language in languages:
        for upstream, probe in probes.get(language.language, {}).items():
            for number, uar in zip(language.cached[upstream].layer_numbers, probe.uar or (), strict=False):
                found[upstream, number].append(uar)
    if found:
        (upstream, number), uars = max(found.items(), key=lambda one: (len(one[1]), np.mean(one[1])))
        said = f"UAR {np.mean(uars):.1f} %" + (f", mean of {len(uars)} languages" if len(uars) > 1 else "")
        return Layer(upstream, number, f"the layer that tells emotions best on dev speakers ({said})")
    for language in languages:
        for upstream, cached in language.cached.items():
            number = cached.layer_numbers[len(cached.layer_numbers) // 2]
            return Layer(upstream, number, "the middle layer, as no emotion could be probed")
    return None


def layer_cloud(languages: Sequence[Language], layer: Layer) -> Cloud:
    """The pooled means of a layer, of all languages that have it by the same model."""
    model, utterances, features, absent = None, [], [], []
    for language in languages:
        cached = language.cached.get(layer.upstream)
        if cached is None or layer.number not in cached.layer_numbers or _model(cached) != (model or _model(cached)):
            absent.append(language.language)
            continue
        model = _model(cached)
        utterances += language.of(cached)
        features.append(cached.means[:, cached.layer_numbers.index(layer.number)])
    note = f"Means over frames; {layer.reason}."
    if absent:
        note += f" Without {', '.join(absent)}: no such layer by the same model is cached."
    return Cloud(f"{layer.upstream}, layer {layer.number}", note, tuple(utterances), np.concatenate(features))


def _model(cached: Cached) -> dict[str, object]:
    """What decides the states of a layer: other layers may be kept beside it."""
    return {name: value for name, value in cached.states.items() if name != "layer_numbers"}


def run_clouds(workspace: Workspace, run: str, manifests: Sequence[Manifest], strict: bool = True) -> list[Cloud]:
    """The embeddings by a run's models for use: a cloud for each model.

    Args:
        strict: raise where a language cannot be embedded, else give a cloud of its trouble.

    Raises:
        RunError: there is no such run. And, if ``strict``, as :func:`mser.inspect.embeddings.embed`.
    """
    name = study_folder(run, workspace).name
    by_model, clouds = defaultdict(list), []
    for language in dict.fromkeys(manifest.language for manifest in manifests):
        try:
            for one in embed(workspace, run, [manifest for manifest in manifests if manifest.language == language]):
                by_model[one.model, one.values.shape[1]].append(one)
        except MserError as error:
            if strict:
                raise
            title = f"embedding before the classifier of run {name}: {language}"
            clouds.append(Cloud(title, "", (), np.zeros((0, 0), np.float32), said(error)))
    for (model, _), parts in by_model.items():
        names = ", ".join(part.language for part in parts)
        clouds.append(
            Cloud(
                f"embedding before the classifier of run {model.parent.name}: {names}",
                f"{model.name}, by method {parts[0].method}. It was trained on all of these utterances, their labels "
                "included: how well it parts them says nothing about speakers it has not heard.",
                tuple(row for part in parts for row in part.utterances),
                np.concatenate([part.values for part in parts]),
            )
        )
    return clouds
