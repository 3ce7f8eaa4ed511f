"""Which stores a workspace holds, how much of their manifests they cover, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mser.config import Workspace
from mser.errors import MserError
from mser.manifest import Manifest
from mser.store import Store
from mser.store.provenance import FILE_NAME


@dataclass(frozen=True)
class StoreSummary:
    """One line of a listing.

    Attributes:
        layer_numbers: of the upstream's layers, those that are kept. dim: D.
        covered: utterances of the manifest that the store holds, of these very recordings. total: of the manifest.
        changed: utterances that it holds of other recordings.
        seconds: of audio of the covered utterances.
        trouble: in a sentence, what is damaged or keeps the store from being used; empty where nothing does. States
            themselves are not read: ``make verify`` does.
        usable: whether something of it can be shown.
    """

    corpus: str
    language: str
    upstream: str
    revision: str = ""
    layer_numbers: tuple[int, ...] = ()
    dim: int = 0
    dtype: str = ""
    keep: tuple[str, ...] = ()
    covered: int = 0
    total: int = 0
    changed: int = 0
    seconds: float = 0.0
    size_bytes: int = 0
    trouble: str = ""
    usable: bool = True

    @property
    def layers(self) -> int:
        return len(self.layer_numbers)

    @property
    def health(self) -> str:
        """``complete``, ``incomplete``, ``other recordings``, ``damaged`` or ``unusable``."""
        if not self.usable:
            return "unusable"
        if self.trouble:
            return "damaged"
        if self.changed:
            return "other recordings"
        return "complete" if self.covered == self.total else "incomplete"


def list_stores(workspace: Workspace, manifests: Sequence[Manifest]) -> Iterator[StoreSummary]:
    """Every store of the corpora; one that cannot be opened is listed with its trouble."""
    for summary, _ in open_stores(workspace, manifests):
        yield summary


def open_stores(workspace: Workspace, manifests: Sequence[Manifest]) -> Iterator[tuple[StoreSummary, Store | None]]:
    """Every store of the corpora, without its damaged shards; None where it cannot be opened at all."""
    for manifest in manifests:
        for path in sorted((workspace.cache / manifest.corpus).glob(f"*/{FILE_NAME}")):
            try:
                store = Store(path.parent, skip_damaged=True)
                yield summarise(store, manifest), store
            except MserError as error:
                summary = StoreSummary(
                    manifest.corpus,
                    manifest.language,
                    path.parent.name,
                    total=len(manifest.utterances),
                    trouble=said(error),
                    usable=False,
                )
                yield summary, None


def summarise(store: Store, manifest: Manifest) -> StoreSummary:
    """One store's line."""
    provenance = store.provenance
    held = [row for row in manifest.utterances if row.utterance_id in store]
    right = [row for row in held if store.audio_sha256(row.utterance_id) == row.sha256]
    shards = len(store.shards) + len(store.damage)
    damage = "; ".join(
        f"{getattr(error.file, 'name', error.file)}: {error.found or error.what}" for error in store.damage
    )
    return StoreSummary(
        corpus=manifest.corpus,
        language=manifest.language,
        upstream=store.folder.name,
        revision=str(provenance.upstream.get("revision", ""))[:12],
        layer_numbers=provenance.layer_numbers,
        dim=provenance.dim,
        dtype=provenance.dtype,
        keep=provenance.keep,
        covered=len(right),
        total=len(manifest.utterances),
        changed=len(held) - len(right),
        seconds=sum(row.seconds for row in right),
        size_bytes=store.size_bytes(),
        trouble=f"{len(store.damage)} of {shards} shards cannot be read, and are left out ({damage})" if damage else "",
    )


def said(error: MserError) -> str:
    """An error in one line, with what a user needs to mend it.

    >>> said(MserError("It is broken.", file="a.h5", hint="run `make extract`"))
    'It is broken. a.h5; next: run `make extract`'
    """
    facts = [str(fact) for fact in (error.file, error.found) if fact is not None]
    hint = [f"next: {error.hint}"] if error.hint else []
    return " ".join([error.what, "; ".join([*facts, *hint])]).strip()
