"""What is cached of a language: its utterances, and the pooled means of each upstream that has a store of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mser.inspect.corpus import pooled_means
from mser.inspect.listing import StoreSummary
from mser.manifest import Manifest, Utterance
from mser.store import Store


@dataclass(frozen=True)
class Cached:
    """The pooled means of one upstream for the utterances of a language that it holds.

    Attributes:
        rows: (n,) row numbers of the language's utterances; the rest is not cached, or of other recordings.
        layer_numbers: L, in the upstream. means: (n, L, D) float32.
        states: what decides the states (:attr:`mser.store.Provenance.states`): spaces of other making are not shared.
    """

    upstream: str
    rows: np.ndarray
    layer_numbers: tuple[int, ...]
    means: np.ndarray
    states: dict[str, object]


@dataclass(frozen=True)
class Language:
    """One language as cached.

    Attributes:
        utterances: N, of all manifests of the language.
        cached: by upstream. troubles: what is left out, in sentences.
    """

    language: str
    utterances: tuple[Utterance, ...]
    cached: dict[str, Cached]
    troubles: tuple[str, ...]

    def of(self, cached: Cached) -> list[Utterance]:
        """The utterances that an upstream holds."""
        return [self.utterances[row] for row in cached.rows]

    @property
    def common(self) -> np.ndarray:
        """Row numbers of the utterances that every upstream holds."""
        held = [set(one.rows.tolist()) for one in self.cached.values()]
        return np.array(sorted(set.intersection(*held)) if held else [], dtype=int)


def read_language(
    language: str, manifests: Sequence[Manifest], opened: Sequence[tuple[StoreSummary, Store | None]]
) -> Language:
    """Reads the pooled means of every store of a language that can be used.

    Stores of one upstream whose states were made otherwise than those of its first corpus are left out, and said so;
    so are utterances with values that are not finite.
    """
    own = [manifest for manifest in manifests if manifest.language == language]
    utterances = tuple(row for manifest in own for row in manifest.utterances)
    by_upstream: dict[str, list[tuple[str, Store]]] = defaultdict(list)
    for summary, store in opened:
        if store is not None and summary.language == language and summary.covered:
            by_upstream[summary.upstream].append((summary.corpus, store))
    cached, troubles = {}, []
    for upstream, stores in by_upstream.items():
        found, said = _cached(upstream, stores, utterances)
        troubles += [f"{language} x {upstream}: {one}" for one in said]
        if len(found.rows):
            cached[upstream] = found
    return Language(language, utterances, cached, tuple(troubles))


def _cached(
    upstream: str, stores: Sequence[tuple[str, Store]], utterances: Sequence[Utterance]
) -> tuple[Cached, list[str]]:
    first = stores[0][1].provenance
    rows, means, troubles = [], [], []
    for corpus, store in stores:
        if store.provenance.states != first.states:
            troubles.append(f"the store of {corpus} was made otherwise than that of {stores[0][0]}, and is left out")
            continue
        held = [
            number
            for number, row in enumerate(utterances)
            if row.corpus == corpus and row.utterance_id in store and store.audio_sha256(row.utterance_id) == row.sha256
        ]
        found = pooled_means(store, [utterances[row].utterance_id for row in held], range(first.layers))
        finite = np.isfinite(found).all(axis=(1, 2))
        if not finite.all():
            worst = utterances[held[int(np.argmin(finite))]].utterance_id
            troubles.append(
                f"{int((~finite).sum())} utterances with values that are not finite are left out; the first: {worst}; "
                "run `make verify`"
            )
            held, found = [row for row, good in zip(held, finite, strict=True) if good], found[finite]
        rows += held
        means.append(found)
    order = np.argsort(rows)
    joined = np.concatenate(means)[order]
    return Cached(upstream, np.array(rows, dtype=int)[order], first.layer_numbers, joined, first.states), troubles
