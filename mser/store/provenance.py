"""What a store's states were made from: written once, compared at every use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from mser.config import fingerprint, read_json, write_json
from mser.errors import StoreError

SCHEMA_VERSION = 3
FILE_NAME = "store.json"


@dataclass(frozen=True)
class Provenance:
    """Everything but the audio that decides the numbers in a store.

    The audio is identified utterance by utterance, by the hash beside its states.

    Attributes:
        corpus: name of the corpus.
        upstream: attributes of :class:`mser.upstream.UpstreamInfo`.
        dtype: ``float16``, ``float32`` or ``int8`` (with a scale a feature), of the frames.
        keep: ``frames``, ``pooled`` or both.
        layer_numbers: of the upstream's layers, those that are kept, in order; all of them where none is named.
        window, overlap: seconds; recordings longer than a window are run in windows that overlap
            (:mod:`mser.upstream.windows`). 0: whole, however long.
        versions: of the libraries that compute the states.
    """

    corpus: str
    upstream: Mapping[str, Any]
    dtype: str = "float16"
    keep: tuple[str, ...] = ("frames", "pooled")
    layer_numbers: tuple[int, ...] = ()
    window: float = 0.0
    overlap: float = 0.0
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = ("float16", "float32", "int8")
        if self.dtype not in known:
            raise StoreError("Unknown dtype of frames.", field="dtype", expected=", ".join(known), found=self.dtype)
        if not self.keep or set(self.keep) - {"frames", "pooled"}:
            raise StoreError("Unknown content of a store.", field="keep", expected="frames, pooled", found=self.keep)
        whole = range(int(self.upstream["layers"]))
        object.__setattr__(self, "layer_numbers", tuple(self.layer_numbers) or tuple(whole))
        if list(self.layer_numbers) != sorted(set(self.layer_numbers) & set(whole)):
            raise StoreError(
                "The upstream has no such layers.",
                field="LAYERS",
                expected=f"layers from 0 to {len(whole) - 1}",
                found=", ".join(map(str, self.layer_numbers)),
            )

    @property
    def layers(self) -> int:
        """L, the number of layers kept."""
        return len(self.layer_numbers)

    @property
    def states(self) -> dict[str, Any]:
        """What decides the states up to rounding: stores that agree in it may be trained on together.

        Not the policy: all are exact, see :mod:`mser.upstream.batching`. Nor versions and dtype.
        """
        upstream = {name: value for name, value in self.upstream.items() if name not in ("policy", "attention")}
        return {
            "upstream": upstream,
            "layer_numbers": self.layer_numbers,
            "window": self.window,
            "overlap": self.overlap,
        }

    @property
    def dim(self) -> int:
        return int(self.upstream["dim"])

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return float(self.upstream["frame_rate"])

    @cached_property
    def fingerprint(self) -> str:
        """Hash of every attribute and the schema; asked for with every shard that is opened."""
        return fingerprint({**asdict(self), "schema_version": SCHEMA_VERSION})

    def write(self, folder: Path) -> None:
        write_json(
            folder / FILE_NAME, {**asdict(self), "schema_version": SCHEMA_VERSION, "fingerprint": self.fingerprint}
        )

    @classmethod
    def read(cls, folder: Path) -> Provenance:
        """Reads ``store.json``.

        Raises:
            StoreError: there is none, it is damaged, or of another schema version.
        """
        path = folder / FILE_NAME
        if not path.is_file():
            raise StoreError(
                "There is no store.", file=folder, hint="run `make extract` for this language and upstream"
            )
        content = read_json(path)
        if content.get("schema_version") != SCHEMA_VERSION:
            raise StoreError(
                "The store has another schema version.",
                file=path,
                field="schema_version",
                expected=SCHEMA_VERSION,
                found=content.get("schema_version"),
                hint="extract it again into another MSER_HOME, or use the mser version that wrote it",
            )
        names = {item.name for item in fields(cls)}
        if names - set(content):
            raise StoreError(
                "The store's description is damaged.", file=path, expected=sorted(names), found=sorted(content)
            )
        lists = {name: tuple(content[name]) for name in ("keep", "layer_numbers")}
        provenance = cls(**{**{name: content[name] for name in names}, **lists})
        if provenance.fingerprint != content["fingerprint"]:
            raise StoreError(
                "The store's description was changed after it was written.",
                file=path,
                field="fingerprint",
                expected=content["fingerprint"],
                found=provenance.fingerprint,
                hint="extract the store again",
            )
        return provenance

    def require_same(self, other: Provenance, folder: Path) -> None:
        """Raises StoreError naming each field in which a store in ``folder`` differs from ``other``."""
        if self.fingerprint == other.fingerprint:
            return
        have, want = _flat(asdict(self)), _flat(asdict(other))
        unlike = [name for name in sorted({*have, *want}) if have.get(name) != want.get(name)]
        raise StoreError(
            "The store holds states of another making; they are never mixed.",
            file=folder,
            field=", ".join(unlike),
            expected="; ".join(str(want.get(name)) for name in unlike),
            found="; ".join(str(have.get(name)) for name in unlike),
            hint="extract into another MSER_HOME, or delete this folder to make it anew",
        )


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, item in value.items():
        flat.update(_flat(item, f"{prefix}{name}.") if isinstance(item, Mapping) else {f"{prefix}{name}": item})
    return flat
