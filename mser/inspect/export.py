"""Selected layers of an upstream with the manifest's columns, in formats that other programs read."""

from __future__ import annotations

import csv
import json
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from mser.config import read_json
from mser.errors import ConfigError
from mser.inspect.selection import COLUMNS, Selection

#: Pooled of an utterance, in their order.
STATISTICS = ("mean", "deviation")
#: Rows of a chunk of a zarr array, and utterances of a row group of a parquet table.
CHUNK_ROWS, TABLE_ROWS = 4096, 64

Arrays = Mapping[str, np.ndarray]

#: Told after each utterance: how many are done, of how many. May raise, to stop.
Advance = Callable[[int, int], None]


def export(selection: Selection, path: Path, advance: Advance | None = None) -> Path:
    """Writes a selection, whole or not at all; the suffix of ``path`` is the format, one of :data:`WRITERS`.

    Arrays of npz, safetensors and zarr: ``layer-<number>`` for each layer, (N, 2, D) pooled mean and deviation or
    (sum T, D) frames with ``offsets`` (N + 1,), utterances in the manifest's order. Tables of csv and parquet: a row an
    utterance, of csv with frames a row a frame, the manifest's columns first. Values pass through files beside
    ``path``, so only safetensors, whose library asks for it, holds all of them in memory.

    Raises:
        ConfigError: unknown suffix, or something lies at ``path`` that no export replaces, or a library of an optional
            extra is missing. StoreError: a store is damaged.
    """
    if path.suffix not in WRITERS:
        raise ConfigError("Unknown format.", field="out", expected=" ".join(WRITERS), found=path.name)
    _require_replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        arrays = _arrays(selection, Path(folder), advance)
        partial = Path(folder) / f"partial{path.suffix}"
        WRITERS[path.suffix](selection, arrays, partial)
        if path.suffix == ".zarr" and path.is_dir():
            path.replace(Path(folder) / "before")
        partial.replace(path)
    return path


def _require_replaceable(path: Path) -> None:
    """Raises ConfigError where something lies there that may be no earlier export, such as a folder of other things."""
    if path.suffix == ".zarr":
        expected, right = "the folder of a zarr group", not path.is_symlink() and _is_zarr_group(path)
    else:
        expected, right = "a file", not path.is_dir()
    if (path.exists() or path.is_symlink()) and not right:
        raise ConfigError(
            "Something else lies where the export would, and is not replaced.",
            file=path,
            field="out",
            expected=f"nothing, or {expected}",
            found="a link" if path.is_symlink() else "a folder" if path.is_dir() else "a file",
            hint="give another --out, or move it away",
        )


def _is_zarr_group(path: Path) -> bool:
    """Whether a folder is a group by version 3 or version 2 of the format."""
    try:
        return read_json(path / "zarr.json")["node_type"] == "group"
    except (ConfigError, KeyError, TypeError):
        return (path / ".zgroup").is_file()


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
