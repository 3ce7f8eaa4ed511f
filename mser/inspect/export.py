"""Selected layers of an upstream with the manifest's columns, in formats that other programs read."""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from mser.errors import ConfigError, StoreError
from mser.inspect.blocks import utterances_of
from mser.inspect.listing import StoreSummary
from mser.manifest import Manifest, Utterance
from mser.store import Store

#: Columns of the manifest, in its order.
COLUMNS = tuple(item.name for item in fields(Utterance))
#: Pooled of an utterance, in their order.
STATISTICS = ("mean", "deviation")
#: Rows of a chunk of a zarr array, and utterances of a row group of a parquet table.
CHUNK_ROWS, TABLE_ROWS = 4096, 64

Arrays = Mapping[str, np.ndarray]

#: Told after each utterance: how many are done, of how many. May raise, to stop.
Advance = Callable[[int, int], None]


@dataclass(frozen=True)
class Selection:
    """What is exported.

    Attributes:
        stores: of one upstream, by corpus. utterances: N, all held by the stores.
        layers: by their number in the upstream. frames: all frames, or else pooled statistics.
    """

    upstream: str
    stores: dict[str, Store]
    utterances: tuple[Utterance, ...]
    layers: tuple[int, ...]
    frames: bool

    def __post_init__(self) -> None:
        for store in self.stores.values():
            store.require("frames" if self.frames else "pooled")
            unknown = set(self.layers) - set(store.provenance.layer_numbers)
            if unknown or not self.layers:
                raise StoreError(
                    "The store does not keep these layers.",
                    file=store.folder,
                    field="layers",
                    expected=", ".join(map(str, store.provenance.layer_numbers)),
                    found=", ".join(map(str, sorted(unknown))) or "none",
                )

    @property
    def dim(self) -> int:
        return next(iter(self.stores.values())).provenance.dim

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values: float32, or what frames are stored in."""
        kinds = {store.provenance.dtype for store in self.stores.values()}
        return np.dtype("float16" if self.frames and kinds == {"float16"} else "float32")

    @property
    def offsets(self) -> np.ndarray:
        """(N + 1,) int64: utterance n has the rows offsets[n]:offsets[n + 1] of a layer; with pooled one row each."""
        if not self.frames:
            return np.arange(len(self.utterances) + 1)
        counts = [self.stores[row.corpus].num_frames(row.utterance_id) for row in self.utterances]
        return np.cumsum([0, *counts])

    def names(self) -> list[str]:
        """Of the layers' arrays."""
        return [f"layer-{number}" for number in self.layers]

    def columns(self) -> dict[str, list[Any]]:
        """The manifest's columns, each of N values."""
        return {name: [getattr(row, name) for row in self.utterances] for name in COLUMNS}

    def read(self) -> Iterator[tuple[int, np.ndarray]]:
        """The place of each utterance and its values, (L, T, D) or pooled (L, 2, D); as they lie on the disk."""
        for corpus, store in self.stores.items():
            keys = [row.utterance_id if row.corpus == corpus else "" for row in self.utterances]
            chosen = [store.provenance.layer_numbers.index(number) for number in self.layers]
            for place, shard, row in utterances_of(store, keys):
                if self.frames:
                    yield place, np.array(shard.frames(row, chosen)).astype(self.dtype, copy=False)
                else:
                    yield place, store.pooled([keys[place]])[0, chosen]


def select(
    opened: Sequence[tuple[StoreSummary, Store | None]],
    manifests: Sequence[Manifest],
    upstream: str,
    layers: tuple[int, ...],
    frames: bool,
) -> Selection:
    """All that the stores of an upstream hold of the manifests' recordings.

    Args:
        upstream: name of its stores; may be empty where there is but one. layers: all that are kept if empty.

    Raises:
        ConfigError: no such upstream, or none is named of several. StoreError: a store is damaged, lacks a layer, or
            was made otherwise than the others.
    """
    there = sorted({summary.upstream for summary, _ in opened})
    name = upstream or (there[0] if len(there) == 1 else "")
    if name not in there:
        raise ConfigError(
            "One upstream is exported at a time.",
            field="upstream",
            expected=f"one of: {' '.join(there) or 'none is cached yet'}",
            found=upstream or "none",
        )
    own = [(summary, store) for summary, store in opened if summary.upstream == name]
    for summary, store in own:
        if store is None or summary.trouble:
            raise StoreError(
                "A store is damaged, and a part of it is not exported.",
                file=f"{summary.corpus} x {summary.upstream}",
                found=summary.trouble,
                hint="delete the damaged files and run `make extract` again, or export other languages",
            )
    stores = {summary.corpus: store for summary, store in own if store is not None}
    making = {str(store.provenance.states): corpus for corpus, store in stores.items()}
    if len(making) > 1:
        raise StoreError(
            "The stores were made by different upstreams of one name, or keep different layers.",
            field="corpus",
            found=", ".join(making.values()),
            hint="export one language at a time",
        )
    held = tuple(
        row
        for manifest in manifests
        for row in manifest.utterances
        if row.corpus in stores
        and row.utterance_id in stores[row.corpus]
        and stores[row.corpus].audio_sha256(row.utterance_id) == row.sha256
    )
    return Selection(name, stores, held, layers or next(iter(stores.values())).provenance.layer_numbers, frames)


def export(selection: Selection, path: Path, advance: Advance | None = None) -> Path:
    """Writes a selection, whole or not at all; the suffix of ``path`` is the format, one of :data:`WRITERS`.

    Arrays of npz, safetensors and zarr: ``layer-<number>`` for each layer, (N, 2, D) pooled mean and deviation or
    (sum T, D) frames with ``offsets`` (N + 1,), utterances in the manifest's order. Tables of csv and parquet: a row an
    utterance, of csv with frames a row a frame, the manifest's columns first. Values pass through files beside
    ``path``, so only safetensors, whose library asks for it, holds all of them in memory.

    Raises:
        ConfigError: unknown suffix, or a library of an optional extra is missing. StoreError: a store is damaged.
    """
    if path.suffix not in WRITERS:
        raise ConfigError("Unknown format.", field="out", expected=" ".join(WRITERS), found=path.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        arrays = _arrays(selection, Path(folder), advance)
        partial = Path(folder) / f"partial{path.suffix}"
        WRITERS[path.suffix](selection, arrays, partial)
        if path.is_dir():
            shutil.rmtree(path)
        partial.replace(path)
    return path


def _arrays(selection: Selection, folder: Path, advance: Advance | None) -> Arrays:
    """The layers' arrays, filled in the order in which utterances lie on the disk, and mapped to files."""
    offsets = selection.offsets
    shape = (int(offsets[-1]), selection.dim) if selection.frames else (len(selection.utterances), 2, selection.dim)
    arrays: dict[str, np.memmap[Any, Any]] = {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", "w+", selection.dtype, shape)
        for name in selection.names()
    }
    for done, (place, values) in enumerate(selection.read(), start=1):
        for array, own in zip(arrays.values(), values, strict=True):
            array[offsets[place] : offsets[place + 1]] = own
        if advance is not None:
            advance(done, len(selection.utterances))
    for array in arrays.values():
        array.flush()
    return arrays


def _npz(selection: Selection, arrays: Arrays, path: Path) -> None:
    small = {name: np.array(values) for name, values in selection.columns().items()}
    if selection.frames:
        small["offsets"] = selection.offsets
    with zipfile.ZipFile(path, "w", allowZip64=True) as archive:
        for name in arrays:
            archive.write(path.parent / f"{name}.npy", f"{name}.npy")
        for name, values in small.items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, values)


def _safetensors(selection: Selection, arrays: Arrays, path: Path) -> None:
    tensors = {**arrays, **({"offsets": selection.offsets} if selection.frames else {})}
    save_file(tensors, path, metadata={"manifest": json.dumps(selection.columns(), ensure_ascii=False)})


def _zarr(selection: Selection, arrays: Arrays, path: Path) -> None:
    try:
        import zarr
    except ImportError as error:
        raise _missing("zarr") from error
    group = zarr.open_group(str(path), mode="w")
    # Texts have no settled form in zarr, so the columns are attributes.
    group.attrs["manifest"] = selection.columns()
    for name, values in arrays.items():
        chunks = (min(CHUNK_ROWS, len(values)), *values.shape[1:])
        array = group.create_array(name, shape=values.shape, dtype=values.dtype, chunks=chunks)
        for start in range(0, len(values), CHUNK_ROWS):
            array[start : start + CHUNK_ROWS] = values[start : start + CHUNK_ROWS]
    if selection.frames:
        group.create_array("offsets", data=selection.offsets)


def _parquet(selection: Selection, arrays: Arrays, path: Path) -> None:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise _missing("pyarrow") from error
    vector = pa.list_(pa.float32(), selection.dim)
    columns, offsets = selection.columns(), selection.offsets
    kinds = {name: pa.int64() if isinstance(values[0], int) else pa.string() for name, values in columns.items()}
    if selection.frames:
        kinds |= {name: pa.list_(vector) for name in arrays}
    else:
        kinds |= {f"{name}-{statistic}": vector for name in arrays for statistic in STATISTICS}
    with parquet.ParquetWriter(path, pa.schema(list(kinds.items()))) as writer:
        for start in range(0, len(selection.utterances), TABLE_ROWS):
            end = min(start + TABLE_ROWS, len(selection.utterances))
            parts: dict[str, Any] = {name: values[start:end] for name, values in columns.items()}
            for name, values in arrays.items():
                own = np.asarray(values[offsets[start] : offsets[end]], dtype=np.float32)
                if selection.frames:
                    rows = pa.FixedSizeListArray.from_arrays(own.ravel(), selection.dim)
                    places = pa.array(offsets[start : end + 1] - offsets[start], pa.int32())
                    parts[name] = pa.ListArray.from_arrays(places, rows)
                else:
                    for place, statistic in enumerate(STATISTICS):
                        flat = np.ascontiguousarray(own[:, place]).ravel()
                        parts[f"{name}-{statistic}"] = pa.FixedSizeListArray.from_arrays(flat, selection.dim)
            writer.write_table(pa.table(parts, schema=pa.schema(list(kinds.items()))))


def _csv(selection: Selection, arrays: Arrays, path: Path) -> None:
    features, offsets = range(selection.dim), selection.offsets
    header = [*COLUMNS, *(["frame"] if selection.frames else [])]
    statistics = [""] if selection.frames else [f"-{name}" for name in STATISTICS]
    header += [f"{name}{statistic}-{feature}" for name in arrays for statistic in statistics for feature in features]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for place, row in enumerate(selection.utterances):
            own = [getattr(row, name) for name in COLUMNS]
            for frame, number in enumerate(range(offsets[place], offsets[place + 1])):
                # As few digits as give the value back.
                values = [text for array in arrays.values() for text in map(str, array[number].ravel())]
                writer.writerow([*own, *([frame] if selection.frames else []), *values])


def _missing(library: str) -> ConfigError:
    return ConfigError(
        "The library for this format is not installed.",
        field="out",
        expected=library,
        hint='run pip install "mser[export]", or write .npz, .csv or .safetensors',
    )


#: How each format is written, by suffix.
WRITERS: dict[str, Callable[[Selection, Arrays, Path], None]] = {
    ".npz": _npz,
    ".parquet": _parquet,
    ".csv": _csv,
    ".zarr": _zarr,
    ".safetensors": _safetensors,
}
