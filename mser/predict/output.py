"""What is told of predictions: a table, JSON lines, CSV, a picture of a long recording over time."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import matplotlib
import numpy as np

from mser.predict.names import title_of
from mser.predict.recognizer import Prediction

FORMATS = ("table", "jsonl", "csv")
COLUMNS = ("recording", "language", "start", "end", "emotion", "confidence", "calibrated", "probabilities", "gate")


def record(prediction: Prediction, abstain: float = 0.0) -> dict[str, Any]:
    """A prediction as plain values; times in seconds, probabilities to four decimals."""
    return {
        "recording": prediction.recording,
        "language": prediction.language,
        "start": round(prediction.start, 3),
        "end": round(prediction.end, 3),
        "emotion": prediction.says(abstain),
        "confidence": round(prediction.confidence, 4),
        "calibrated": prediction.calibrated,
        "probabilities": _named(prediction.emotions, prediction.probabilities),
        "gate": _named(prediction.experts, prediction.gate),
    }


def _named(names: Sequence[str], values: np.ndarray) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in zip(names, values, strict=True)}


def json_line(prediction: Prediction, abstain: float = 0.0) -> str:
    return json.dumps(record(prediction, abstain), ensure_ascii=False)


def csv_header(emotions: Sequence[str]) -> str:
    return _csv_row([*COLUMNS[:-2], *(f"p_{emotion}" for emotion in emotions)])


def csv_line(prediction: Prediction, emotions: Sequence[str], abstain: float = 0.0) -> str:
    """A row: of the emotions that the language lacks the cell is empty."""
    row = record(prediction, abstain)
    return _csv_row([*(row[name] for name in COLUMNS[:-2]), *(row["probabilities"].get(one, "") for one in emotions)])


def _csv_row(cells: Sequence[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()


def table_row(prediction: Prediction, abstain: float = 0.0) -> list[str]:
    """Recording, time, language, emotion, and the three most probable emotions with their probabilities.

    Those that are not calibrated are named so.
    """
    order = np.argsort(-prediction.probabilities)[:3]
    most = "  ".join(f"{prediction.emotions[place]} {100 * prediction.probabilities[place]:.0f} %" for place in order)
    most += "" if prediction.calibrated else "  (not calibrated)"
    span = f"{clock(prediction.start)} – {clock(prediction.end)}"
    return [prediction.recording, span, prediction.language, prediction.says(abstain), most]


def probability_label(calibrated: bool) -> str:
    """What an axis of probabilities says."""
    return "probability" if calibrated else "probability, not calibrated"


def clock(seconds: float) -> str:
    """
    >>> clock(3725.04), clock(9.96)
    ('1:02:05.0', '0:10.0')
    """
    tenths = round(10 * seconds)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest / 10:04.1f}" if hours else f"{minutes}:{rest / 10:04.1f}"


def timeline_picture(predictions: Sequence[Prediction], target: Path | IO[bytes], abstain: float = 0.0) -> None:
    """Probabilities over time, stacked, one panel a language; PNG, SVG or PDF by the path's ending, PNG in a stream.

    Args:
        predictions: the parts of one recording. abstain: a line is drawn there.
    """
    matplotlib.use("Agg")
    from matplotlib import pyplot

    languages = list(dict.fromkeys(one.language for one in predictions))
    figure, panels = pyplot.subplots(
        len(languages), 1, figsize=(12, 1.2 + 2.4 * len(languages)), squeeze=False, sharex=True, layout="constrained"
    )
    emotions = sorted({emotion for one in predictions for emotion in one.emotions})
    tints = dict(zip(emotions, pyplot.get_cmap("tab20")(np.linspace(0, 1, max(2, len(emotions)))), strict=False))
    for language, panel in zip(languages, panels[:, 0], strict=True):
        own = [one for one in predictions if one.language == language]
        edges, values = _steps(own)
        panel.stackplot(
            edges, values, step="post", labels=own[0].emotions, colors=[tints[one] for one in own[0].emotions]
        )
        if abstain:
            panel.axhline(abstain, color="black", linestyle="--", linewidth=1)
        panel.set(ylim=(0, 1), xlim=(edges[0], edges[-1]), ylabel=f"{probability_label(own[0].calibrated)}, {language}")
        panel.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    panels[-1, 0].set_xlabel("time in seconds")
    panels[0, 0].set_title(title_of(predictions[0].recording))
    figure.savefig(target, dpi=120)
    pyplot.close(figure)


def _steps(own: Sequence[Prediction]) -> tuple[np.ndarray, np.ndarray]:
    """Edges (n + 1,) in seconds and probabilities (E, n + 1): a part lasts to the middle of the next."""
    middles = [(one.start + one.end) / 2 for one in own]
    between = [(left + right) / 2 for left, right in pairwise(middles)]
    edges = np.array([own[0].start, *between, own[-1].end])
    values = np.stack([one.probabilities for one in [*own, own[-1]]], axis=1)
    return edges, values
