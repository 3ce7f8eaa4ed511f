"""Which stores a workspace holds, how much of their manifests they cover, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mser.config import Workspace
from mser.errors import MserError
from mser.manifest import Manifest, read_manifests
from mser.store import Store
from mser.store.layout import PREFIX, SUFFIX
from mser.store.provenance import FILE_NAME

SHARDS = f"{PREFIX}*{SUFFIX}"


@dataclass(frozen=True)
class StoreSummary:
    """One line of a listing.

    Attributes:
        language: of the corpus; empty where that has no manifest.
        layer_numbers: of the upstream's layers, those that are kept. dim: D.
        held: utterances that the store holds.
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
    held: int = 0
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
        """``complete``, ``incomplete``, ``other recordings``, ``no manifest``, ``damaged`` or ``unusable``."""
        if not self.usable:
            return "unusable"
        if self.trouble:
            return "damaged"
        if not self.language:
            return "no manifest"
        if self.changed:
            return "other recordings"
        return "complete" if self.covered == self.total else "incomplete"

    @property
    def left_out(self) -> tuple[str, ...]:
        """What of the store cannot be shown, and why: sentences with what to run."""
        found = [self.trouble] if self.trouble else []
        if self.changed:
            found.append(
                f"{self.changed} utterances are left out, since it holds other recordings of them than the manifest "
                "lists; run `make extract` with REPLACE_CHANGED=1"
            )
        if self.usable and not self.language:
            found.append("its corpus has no manifest, so there are no labels; run `make manifest` for its language")
        return tuple(f"{self.corpus} x {self.upstream}: {one}" for one in found)


def list_stores(workspace: Workspace, manifests: Sequence[Manifest]) -> Iterator[StoreSummary]:
    """Every store of the corpora; one that cannot be opened is listed with its trouble."""
    for summary, _ in open_stores(workspace, manifests):
        yield summary


def every_store(workspace: Workspace, languages: Sequence[str] = ()) -> Iterator[StoreSummary]:
    """The stores of these languages; of all if none is given, those of corpora without a manifest among them.

    Raises:
        ManifestError: a language has no manifest, or it is damaged; or there is neither a manifest nor a store.
    """
    cached = [] if languages else sorted({folder.parent.name for folder in _folders(workspace.cache, "*/*")})
    manifests: list[Manifest] = []
    if languages or not cached or any(workspace.manifests.glob("*.json")):
        manifests = read_manifests(workspace, languages)
    known = {manifest.corpus for manifest in manifests}
    return list_stores(workspace, [*manifests, *(Manifest(name, "", (), "") for name in cached if name not in known)])


def open_stores(workspace: Workspace, manifests: Sequence[Manifest]) -> Iterator[tuple[StoreSummary, Store | None]]:
    """Every store of the corpora, without its damaged shards; None where it cannot be opened at all."""
    for manifest in manifests:
        for folder in _folders(workspace.cache / manifest.corpus, "*"):
            try:
                store = Store(folder, skip_damaged=True)
                yield summarise(store, manifest), store
            except MserError as error:
                trouble = said(error)
                if not (folder / FILE_NAME).is_file():
                    # The same extraction writes it anew, and takes the shards over.
                    trouble = f"no {FILE_NAME}, though shards lie there; run again the `make extract` that made them"
                summary = StoreSummary(
                    manifest.corpus,
                    manifest.language,
                    folder.name,
                    total=len(manifest.utterances),
                    size_bytes=sum(shard.stat().st_size for shard in folder.glob(SHARDS)),
                    trouble=trouble,
                    usable=False,
                )
                yield summary, None


def _folders(above: Path, pattern: str) -> list[Path]:
    """The stores' folders among those of a pattern: each has a description, or shards that have lost theirs."""
    return sorted({path.parent for name in (FILE_NAME, SHARDS) for path in above.glob(f"{pattern}/{name}")})


def summarise(store: Store, manifest: Manifest) -> StoreSummary:
    """One store's line."""
    provenance = store.provenance
    held = [row for row in manifest.utterances if row.utterance_id in store]
    right = [row for row in held if store.audio_sha256(row.utterance_id) == row.sha256]
    shards = len(store.shards) + len(store.damage)
    trouble = ""
    if store.damage:
        named = "; ".join(f"{getattr(one.file, 'name', one.file)}: {one.found or one.what}" for one in store.damage)
        hints = " or ".join(dict.fromkeys(one.hint for one in store.damage if one.hint))
        trouble = f"{len(store.damage)} of {shards} shards cannot be read, and are left out ({named}); next: {hints}"
    return StoreSummary(
        corpus=manifest.corpus,
        language=manifest.language,
        upstream=store.folder.name,
        revision=str(provenance.upstream.get("revision", ""))[:12],
        layer_numbers=provenance.layer_numbers,
        dim=provenance.dim,
        dtype=provenance.dtype,
        keep=provenance.keep,
        held=len(store),
        covered=len(right),
        total=len(manifest.utterances),
        changed=len(held) - len(right),
        seconds=sum(row.seconds for row in right),
        size_bytes=store.size_bytes(),
        trouble=trouble,
    )


def said(error: MserError) -> str:
    """An error in one line, with what a user needs to mend it.

    >>> said(MserError("It is broken.", file="a.h5", hint="run `make extract`"))
    'It is broken. a.h5; next: run `make extract`'
    """
    facts = [str(fact) for fact in (error.file, error.found) if fact is not None]
    hint = [f"next: {error.hint}"] if error.hint else []
    return " ".join([error.what, "; ".join([*facts, *hint])]).strip()
