"""What stage two knows of a language: utterances, labels, folds, audit and the states of its experts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mser.config import Workspace, fingerprint, read_json, store_name
from mser.errors import ConfigError, StoreError
from mser.experts import Expert, frames_expert, pooled_expert
from mser.manifest import Utterance, read_manifests
from mser.model import ExpertShape
from mser.nas.genotype import FRAMES_SPACE, POOLED_SPACE, SearchSpace
from mser.protocol import Audit, Fold, audit, make_folds, require_disjoint
from mser.store import Store
from mser.store.provenance import FILE_NAME


@dataclass(frozen=True)
class Features:
    """Which of the cached states are trained on.

    Attributes:
        kind: ``frames`` or ``pooled`` (mean and deviation over frames).
        frame_rate: frames a second, at most; longer sequences are averaged down. Speech has four to five
            syllables a second, and emotion moves no faster.
    """

    kind: str = "pooled"
    frame_rate: float = 5.0

    def __post_init__(self) -> None:
        if self.kind not in ("frames", "pooled"):
            raise ConfigError("Unknown features.", field="FEATURES", expected="frames or pooled", found=self.kind)
        if not self.frame_rate > 0:
            raise ConfigError("The frame rate must be positive.", field="FRAME_RATE", found=self.frame_rate)

    @property
    def space(self) -> SearchSpace:
        return FRAMES_SPACE if self.kind == "frames" else POOLED_SPACE


@dataclass(frozen=True)
class LanguageData:
    """One language, ready to train on.

    Attributes:
        emotions: E, sorted. stores: upstream name -> corpus -> store.
        protocol, published: of its folds, see :func:`mser.protocol.make_folds`.
    """

    language: str
    utterances: tuple[Utterance, ...]
    emotions: tuple[str, ...]
    stores: dict[str, dict[str, Store]]
    manifests: dict[str, str]
    features: Features
    protocol: str = "speakers"
    published: Path | None = None

    @cached_property
    def labels(self) -> Tensor:
        """(N,) int64, indices into ``emotions``."""
        return torch.tensor([self.emotions.index(row.emotion) for row in self.utterances])

    @cached_property
    def folds(self) -> list[Fold]:
        return make_folds(self.utterances, self.protocol, self.published)

    @cached_property
    def tested(self) -> np.ndarray:
        """Rows that some fold tests: the denominator of every score."""
        return np.unique(np.concatenate([fold.test for fold in self.folds]))

    @cached_property
    def audit(self) -> Audit:
        """The audit of the folds; raises ProtocolError where a test speaker is in training of speakers' folds."""
        report = audit("+".join(self.manifests), self.utterances, self.folds, self.protocol)
        if self.protocol == "speakers":
            require_disjoint(report)
        return report

    @cached_property
    def speakers(self) -> Tensor:
        """(N,) int64, a number for each speaker."""
        names = sorted({row.speaker_id for row in self.utterances})
        return torch.tensor([names.index(row.speaker_id) for row in self.utterances])

    @cached_property
    def experts(self) -> tuple[Expert, ...]:
        """One an upstream, as cached."""
        if self.features.kind == "pooled":
            return self.pooled_experts
        rate = self.features.frame_rate
        return _finite(frames_expert(stores, self.utterances, rate) for stores in self.stores.values())

    @cached_property
    def pooled_experts(self) -> tuple[Expert, ...]:
        """One an upstream: mean and deviation over frames."""
        return _finite(pooled_expert(stores, self.utterances) for stores in self.stores.values())

    @cached_property
    def speaker_experts(self) -> tuple[Expert, ...]:
        """The experts with each speaker's mean taken off, and divided by the speaker's deviation."""
        return tuple(expert.by_group(self.speakers) for expert in self.experts)

    def normalised(self, normalise: str) -> tuple[Expert, ...]:
        """The experts by a method's way to normalise: ``none`` or ``speaker``."""
        return self.speaker_experts if normalise == "speaker" else self.experts

    @property
    def shapes(self) -> tuple[ExpertShape, ...]:
        return tuple(ExpertShape(expert.name, expert.layers, expert.dim) for expert in self.experts)

    def means(self, upstream: str, normalise: str = "none") -> np.ndarray:
        """Means over frames: (N, L, D) float32, for probes."""
        expert = self.pooled_experts[list(self.stores).index(upstream)]
        if normalise == "speaker":
            expert = expert.by_group(self.speakers)
        return expert.moments[:, :, 0, : expert.dim // 2].numpy()

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything the language's numbers come from.

        Of a published protocol the folds are part of it, row by row: its files may change where they lie.
        """
        stores = {
            name: {corpus: store.provenance.fingerprint for corpus, store in stores.items()}
            for name, stores in self.stores.items()
        }
        published = [self.protocol, _rows_of(self.folds)] if self.protocol != "speakers" else []
        features = [self.features.kind, self.features.frame_rate]
        return fingerprint([self.language, self.manifests, stores, *features, *published])


def _rows_of(folds: Sequence[Fold]) -> list[Any]:
    """Names and row numbers of folds and their splits, JSON-able."""
    return [
        [
            fold.name,
            fold.train.tolist(),
            fold.test.tolist(),
            [[split.train.tolist(), split.dev.tolist()] for split in fold.splits],
        ]
        for fold in folds
    ]


def _finite(experts: Iterable[Expert]) -> tuple[Expert, ...]:
    """The experts; raises StoreError, naming the utterance, where one holds NaN."""
    found = tuple(experts)
    for expert in found:
        expert.require_finite()
    return found


def cached_upstreams(workspace: Workspace, corpora: Sequence[str]) -> list[str]:
    """Upstreams that have a store of every one of the corpora."""
    found = [{path.parent.name for path in (workspace.cache / corpus).glob(f"*/{FILE_NAME}")} for corpus in corpora]
    return sorted(set.intersection(*found)) if found else []


def all_upstreams(workspace: Workspace, languages: Sequence[str], missing: bool) -> tuple[str, ...]:
    """Upstreams that are cached for every corpus of the languages; with ``missing`` for every corpus of one of them.

    Args:
        languages: all with a manifest if empty.
    """
    manifests = read_manifests(workspace, languages)
    own = [[one.corpus for one in manifests if one.language == name] for name in {one.language for one in manifests}]
    groups = own if missing else [[corpus for group in own for corpus in group]]
    return tuple(sorted({name for corpora in groups for name in cached_upstreams(workspace, corpora)}))


def load_languages(
    workspace: Workspace,
    languages: Sequence[str],
    upstreams: Sequence[str],
    features: Features,
    protocol: str = "speakers",
    published: Path | None = None,
    missing: bool = False,
) -> list[LanguageData]:
    """Reads manifests and opens stores.

    Args:
        languages: all with a manifest if empty. upstreams: names as given to extract; all that are cached for
            every corpus if empty.
        protocol, published: of the folds, see :func:`mser.protocol.make_folds`.
        missing: a language may lack some of the upstreams, but not all: it is trained without them.

    Raises:
        ManifestError, StoreError: something is missing, damaged or does not fit; the message says what to run.
    """
    manifests = read_manifests(workspace, languages)
    corpora = [manifest.corpus for manifest in manifests]
    names = [store_name(name) for name in upstreams] or list(all_upstreams(workspace, languages, missing))
    if not names:
        raise StoreError(
            "No upstream has been extracted for all of these corpora.",
            file=workspace.cache,
            expected=f"stores of {', '.join(corpora)}",
            hint='run `make extract LANG="..." UPSTREAMS="..."`',
        )
    found = []
    for language in languages or sorted({manifest.language for manifest in manifests}):
        own = [manifest for manifest in manifests if manifest.language == language]
        utterances = tuple(row for manifest in own for row in manifest.utterances)
        there = cached_upstreams(workspace, [one.corpus for one in own])
        chosen = [name for name in names if name in there] if missing else []
        # None of them: let the first one say what to run.
        stores = {name: open_stores(workspace, [one.corpus for one in own], name, language) for name in chosen or names}
        emotions = tuple(sorted({row.emotion for row in utterances}))
        fingerprints = {manifest.corpus: manifest.fingerprint for manifest in own}
        found.append(LanguageData(language, utterances, emotions, stores, fingerprints, features, protocol, published))
    return found


def open_stores(workspace: Workspace, corpora: Sequence[str], upstream: str, language: str) -> dict[str, Store]:
    """The stores of an upstream for a language's corpora.

    Raises:
        StoreError: it was not extracted for one of them; says what to run. Or a store is damaged.
    """
    return {corpus: _open(workspace, corpus, upstream, language) for corpus in corpora}


def _open(workspace: Workspace, corpus: str, upstream: str, language: str) -> Store:
    folder = workspace.store(corpus, upstream)
    if not (folder / FILE_NAME).is_file():
        there = cached_upstreams(workspace, [corpus])
        raise StoreError(
            f"Upstream {upstream!r} was not extracted for {corpus}.",
            file=folder,
            field="UPSTREAMS",
            expected=f"one of the extracted ones: {' '.join(there) or 'none yet'}",
            found=upstream,
            hint=f'run `make extract LANG={language} UPSTREAMS="{upstream}"`, or train with MISSING=1: without it',
        )
    return Store(folder)


def stamp_of(
    workspace: Workspace, language: str, upstreams: Sequence[str], published: Path | None = None
) -> tuple[object, ...]:
    """What changes when a manifest, a store or a published fold of a language is written anew; cheap to ask for.

    Manifests by their fingerprints, all else by the times at which files came and went: shards never change.

    Args:
        upstreams: as given to extract; all that are cached if empty.
    """
    names = {store_name(name) for name in upstreams}
    found: list[object] = []
    for path in sorted(workspace.manifests.glob("*.json")):
        head = read_json(path)
        if not isinstance(head, dict) or head.get("language") != language:
            continue
        stores = [one for one in (workspace.cache / path.stem).glob(f"*/{FILE_NAME}")
                  if not names or one.parent.name in names]  # fmt: skip
        files = [path.with_suffix(".csv"), *stores, *(one.parent for one in stores)]
        for root in (published, published / "data") if published else ():
            files += (root / path.stem).glob("fold_*/*.jsonl")
        found += [path.stem, head.get("fingerprint"), *((str(one), one.stat().st_mtime_ns) for one in sorted(files))]
    return tuple(found)
