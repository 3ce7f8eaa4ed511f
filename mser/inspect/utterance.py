"""One utterance: its labels, and its states by every upstream that holds it."""

from __future__ import annotations

import difflib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure

from mser.config import written_whole
from mser.errors import ConfigError, ManifestError
from mser.inspect.listing import StoreSummary
from mser.manifest import Manifest, Utterance
from mser.store import Store

#: Suggestions for an unknown id, and how alike they must be.
SUGGESTIONS, LIKENESS = 5, 0.6
#: Marks of a line of norms in a terminal, the lowest first.
MARKS = "▁▂▃▄▅▆▇█"
FORMATS = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class States:
    """The states of one utterance by one upstream.

    Attributes:
        layer_numbers: L, in the upstream. frame_rate: frames a second. frames: T; 0 where none are kept.
        table: (L, 4) mean, deviation, least and largest value over frames and features; without frames those of the
            pooled means, whose deviation is over features alone.
        norms: (L, T) length of each frame's state; T is 0 where no frames are kept.
    """

    upstream: str
    shape: tuple[int, ...]
    dtype: str
    layer_numbers: tuple[int, ...]
    frame_rate: float
    frames: int
    table: np.ndarray
    norms: np.ndarray


def find(manifests: Sequence[Manifest], utterance_id: str) -> Utterance:
    """The manifest's row.

    Raises:
        ManifestError: no manifest has it; the message names the ones most like it.
    """
    rows = {row.utterance_id: row for manifest in manifests for row in manifest.utterances}
    if utterance_id in rows:
        return rows[utterance_id]
    alike = difflib.get_close_matches(utterance_id, rows, SUGGESTIONS, LIKENESS)
    # Whoever leaves the corpus out, or gives the file's name, means its last part.
    tail = Path(utterance_id).stem
    alike += [key for key in rows if key.rpartition("/")[2] == tail and key not in alike][:SUGGESTIONS]
    raise ManifestError(
        "No manifest has this utterance.",
        field="utterance",
        expected=f"one such as {', '.join(alike or list(rows)[:2])}",
        found=utterance_id,
        hint="utterance ids are the first column of manifests/<corpus>.csv",
    )


def states_of(
    utterance: Utterance, opened: Sequence[tuple[StoreSummary, Store | None]]
) -> tuple[list[States], list[str]]:
    """The states of an utterance by every upstream that holds this very recording; and why others do not, in sentences.

    Args:
        opened: the stores of its corpus.
    """
    found, absent = [], []
    for summary, store in opened:
        reason = _absence(utterance, summary, store)
        if store is not None and not reason:
            found.append(_states(store, utterance.utterance_id))
        else:
            absent.append(f"{summary.upstream}: {reason}")
    return found, absent


def _absence(utterance: Utterance, summary: StoreSummary, store: Store | None) -> str:
    """Why a store has no states of an utterance, with what to run; empty where it has."""
    if store is None:
        return summary.trouble
    if utterance.utterance_id not in store:
        # In which shards it lay is written in the shards alone.
        damage = f" in what can be read of it: {summary.trouble}"
        return f"does not hold it{damage if summary.trouble else '; run `make extract` for its language'}"
    if store.audio_sha256(utterance.utterance_id) != utterance.sha256:
        return "holds states of another recording of this name; run `make extract` with REPLACE_CHANGED=1"
    return ""


def _states(store: Store, key: str) -> States:
    provenance = store.provenance
    if "frames" in provenance.keep:
        values = torch.from_numpy(np.array(store.frames(key))).double()
        norms, frames = torch.linalg.vector_norm(values, dim=2), values.shape[1]
        shape = tuple(values.shape)
    else:
        values = torch.from_numpy(store.pooled([key])[0, :, :1]).double()
        norms, frames = torch.zeros(len(values), 0), 0
        shape = (len(values), 2, values.shape[2])
    flat = values.flatten(1)
    columns = [flat.mean(1), flat.std(1, correction=0), flat.amin(1), flat.amax(1)]
    return States(
        store.folder.name,
        shape,
        provenance.dtype if frames else "float32",
        provenance.layer_numbers,
        provenance.frame_rate,
        frames,
        torch.stack(columns, dim=1).numpy(),
        norms.numpy(),
    )


def line(values: np.ndarray, width: int = 40) -> str:
    """Values (T,) as one line of at most ``width`` marks, the highest for the largest.

    >>> line(np.array([0.0, 1.0, 2.0, 3.0]))
    '▁▃▆█'
    """
    if not len(values):
        return ""
    parts = np.array([part.mean() for part in np.array_split(values, min(width, len(values)))])
    if not np.isfinite(parts).all():
        return "not finite"
    low, high = parts.min(), parts.max()
    steps = (parts - low) / (high - low) * (len(MARKS) - 1) if high > low else np.zeros(len(parts))
    return "".join(MARKS[round(step)] for step in steps)


def draw_norms(utterance: Utterance, found: Sequence[States], path: Path) -> Path | None:
    """Writes a picture of the norms over time, a panel an upstream and a line a layer; None where no frames are kept.

    Args:
        path: its suffix is the format, one of :data:`FORMATS`.

    Raises:
        ConfigError: another suffix. DiskError: the file cannot be written.
    """
    if path.suffix.lower() not in FORMATS:
        raise ConfigError("Unknown kind of picture.", field="out", expected=" ".join(FORMATS), found=path)
    drawn = [one for one in found if one.frames]
    if not drawn:
        return None
    figure = Figure(figsize=(9, 2.6 * len(drawn) + 0.6), layout="constrained")
    figure.suptitle(f"{utterance.utterance_id}: {utterance.emotion}, {utterance.speaker}", parse_math=False)
    for axes, one in zip(figure.subplots(len(drawn), 1, squeeze=False)[:, 0], drawn, strict=True):
        times = (np.arange(one.frames) + 0.5) / one.frame_rate
        tints = colormaps["viridis"](np.linspace(0, 0.9, len(one.norms)))
        for number, norms, tint in zip(one.layer_numbers, one.norms, tints, strict=True):
            axes.plot(times, norms, color=tint, lw=1, label=f"layer {number}")
        axes.set_title(one.upstream, loc="left", parse_math=False, fontsize=10)
        axes.set_xlabel("seconds")
        axes.set_ylabel("length of the state")
        axes.set_ylim(bottom=0)
        # Of many layers the legend names some.
        handles, labels = axes.get_legend_handles_labels()
        every = -(-len(handles) // 13)
        axes.legend(handles[::every], labels[::every], loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    stream = io.BytesIO()
    figure.savefig(stream, format=path.suffix[1:].lower(), dpi=130)
    with written_whole(path) as partial:
        partial.write_bytes(stream.getvalue())
    return path
