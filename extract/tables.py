"""What the commands of stage one print, as columns and rows."""

from __future__ import annotations

from collections.abc import Sequence

from extract.manifest import Scan
from extract.session import Planned, Told
from extract.verify import Verdict
from mser.upstream import Measurement

Rows = list[list[str]]
SCANS = ["corpus", "language", "utterances", "speakers", "emotions", "minutes", "rejected", "left out"]
STORES = ["corpus", "upstream", "computed", "kept", "layers x dim", "batching", "MB", "seconds", "x real time"]
PLANS = ["corpus", "upstream", "missing", "of", "shards", "hours", "frames", "GB", "time"]
VERDICTS = ["corpus", "upstream", "utterances", "shards", "recordings", "computed again", "difference", "faults"]


def scan_row(found: Scan) -> list[str]:
    """A row of ``SCANS``."""
    utterances = found.manifest.utterances
    return [
        found.manifest.corpus,
        found.manifest.language,
        str(len(utterances)),
        str(len({row.speaker for row in utterances})),
        str(len({row.emotion for row in utterances})),
        f"{sum(row.seconds for row in utterances) / 60:.1f}",
        str(len(found.rejected)),
        str(found.left_out),
    ]


def store_row(told: Told) -> list[str]:
    """A row of ``STORES``."""
    summary, provenance = told.summary, told.summary.store.provenance
    return [
        told.corpus,
        told.upstream,
        str(summary.computed),
        str(summary.kept),
        f"{provenance.layers} x {provenance.dim}",
        told.policy,
        f"{summary.store.size_bytes() / 1e6:.0f}",
        f"{told.seconds:.1f}",
        f"{summary.seconds_of_audio / told.seconds:.1f}",
    ]


def plan_rows(found: Sequence[Planned]) -> Rows:
    """Rows of ``PLANS``, and their sum."""
    rows = [
        [
            one.corpus,
            one.upstream,
            str(one.missing),
            str(one.utterances),
            str(one.shards),
            f"{one.hours:.2f}",
            str(one.frames),
            f"{one.bytes / 1e9:.3f}",
            duration(one.seconds),
        ]
        for one in found
    ]
    size, seconds = sum(one.bytes for one in found), sum(one.seconds for one in found)
    return [*rows, ["all", "", "", "", "", "", "", f"{size / 1e9:.3f}", duration(seconds)]]


def verdict_row(one: Verdict) -> list[str]:
    """A row of ``VERDICTS``."""
    counts = [str(one.utterances), str(one.shards), str(one.recordings)]
    return [one.corpus, one.upstream, *counts, one.recomputed, one.difference, str(len(one.faults))]


def batching_rows(measurements: Sequence[Measurement]) -> Rows:
    """A row a layer, a column a policy: the largest relative difference from running alone; last, the time."""
    layers = range(len(measurements[0].differences))
    rows = [[str(layer), *(f"{one.differences[layer]:.1e}" for one in measurements)] for layer in layers]
    return [*rows, ["time, alone = 1", *(f"{one.seconds / one.seconds_alone:.2f}" for one in measurements)]]


def duration(seconds: float) -> str:
    """Hours, minutes and seconds.

    >>> duration(3725.2), duration(59.6)
    ('1:02:05', '0:01:00')
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
