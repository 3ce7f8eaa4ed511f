"""What can be asked of an inspection; light, so that a command line that asks starts at once."""

from __future__ import annotations

from dataclasses import dataclass

SECTIONS = ("stores", "statistics", "similarity", "probes", "map", "rejected", "audit")
#: What a layer is probed for.
TARGETS = ("emotion", "speaker", "gender", "sentence")
#: Kinds of maps, and their names.
METHODS = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}


@dataclass(frozen=True)
class Wanted:
    """What is to be shown.

    Attributes:
        sections: of :data:`SECTIONS`.
        targets: of probes, some of :data:`TARGETS`.
        upstreams: those to look at; all that are cached if none is named.
        over: of statistics: ``frames`` or ``means``; frames where they are kept if not given.
        layer: of the one upstream that is looked at, by its number there, to be mapped; the best on dev speakers if
            not given.
        run: name or folder of a run whose embeddings are mapped.
        methods: of maps, some of :data:`METHODS`.
    """

    sections: tuple[str, ...] = SECTIONS
    targets: tuple[str, ...] = TARGETS
    upstreams: tuple[str, ...] = ()
    over: str = ""
    layer: int | None = None
    run: str = ""
    methods: tuple[str, ...] = tuple(METHODS)
