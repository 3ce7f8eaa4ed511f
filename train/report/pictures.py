"""Pictures as inline SVG: the same bytes for the same numbers, and no state of matplotlib is changed."""

from __future__ import annotations

import hashlib
import io
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mser.markup import Markup, markup
from train.report.study import LEAKY, TRANSDUCTIVE, is_number, number, short

INK, FAINT, ALARM = "#1f2933", "#9aa5b1", "#b3261e"
#: Colours that colour-blind readers can tell apart (Okabe & Ito 2008), dark enough on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b0508a", "#8a6d00", "#4d4d4d")
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "mser", "svg.fonttype": "none", "text.parse_math": False, "font.size": 9.0,
    "font.family": "sans-serif",
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": FAINT, "axes.labelcolor": INK,
    "text.color": INK, "xtick.color": INK, "ytick.color": INK, "axes.linewidth": 0.8, "legend.frameon": False,
    "legend.fontsize": 8.0, "axes.titlesize": 9.0, "figure.facecolor": "none", "axes.facecolor": "none",
}  # fmt: skip
#: Letters shown of a method's name, and twice as many of an expert's.
LETTERS = 18
#: The date and the maker would change from run to run, and name addresses.
NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def svg(draw: Callable[[Axes], None], size: tuple[float, float], label: str, leaky: bool) -> Markup:
    """An SVG element with a text for those who cannot see it.

    Args:
        draw: draws on the axes. size: width and height in inches. leaky: whether its numbers come from folds that
            leak, which is then said within the picture: it may be shown without its caption.
    """
    label = f"{LEAKY}: {label}" if leaky else label
    stream = io.StringIO()
    with rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        if leaky:
            figure.suptitle(LEAKY, color=ALARM, fontsize=9, fontweight="bold", x=0.99, ha="right")
        figure.savefig(stream, format="svg", metadata=NO_METADATA)
    content = stream.getvalue()
    content = content[content.index("<svg") :].strip()
    # Several pictures share a page, so that each needs ids of its own.
    prefix = "p" + hashlib.sha256((label + content).encode()).hexdigest()[:10]
    content = re.sub(r'(<[^<>]*?\sid=")', rf"\g<1>{prefix}-", content)
    content = re.sub(r'(<[^<>]*?(?:href="#|url\(#))', rf"\g<1>{prefix}-", content)
    return Markup(content.replace("<svg ", f'<svg role="img" aria-label="{markup(label)}" ', 1))


def colours(names: Sequence[str]) -> dict[str, str]:
    return {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(names)}


def value(entry: Any) -> float:
    """The number, or NaN, which draws nothing."""
    return float(entry) if is_number(entry) else float("nan")


def interval_picture(
    language: str,
    results: Mapping[str, dict[str, Any]],
    tints: Mapping[str, str],
    chance: Any,
    limits: tuple[float, float],
    marked: Mapping[str, bool],
    leaky: bool,
) -> Markup:
    """Dot (mean), bar (95 % interval) and small dots (seeds) of each method's UAR.

    Args:
        tints: colour of each method. chance: drawn where the axis reaches it. limits: of the axis.
        marked: whether each method is transductive. leaky: as of :func:`svg`, here and below.
    """

    def draw(axes: Axes) -> None:
        for row, (method, result) in enumerate(results.items()):
            uar, tint = result["uar"], tints[method]
            axes.plot([value(uar.get("low")), value(uar.get("high"))], [row, row], color=tint, lw=2.2, alpha=0.55)
            seeds = [value(entry["uar"]) for entry in result.get("per_seed", [])]
            axes.plot(seeds, [row + 0.24] * len(seeds), ".", color=tint, ms=4, alpha=0.7)
            axes.plot([value(uar.get("mean"))], [row], "o", color=tint, ms=6.5)
            axes.annotate(number(uar.get("mean")), (1.01, row), xycoords=("axes fraction", "data"), va="center")
        if is_number(chance) and limits[0] <= chance <= limits[1]:
            axes.axvline(chance, color=FAINT, ls="--", lw=1)
            axes.annotate(f"chance {number(chance)}", (chance, 1.01), xycoords=("data", "axes fraction"), fontsize=8)
        names = [short(method, LETTERS) + (f"\n{TRANSDUCTIVE}" if marked[method] else "") for method in results]
        axes.set_yticks(range(len(results)), names)
        axes.set_ylim(len(results) - 0.5, -0.5)
        axes.set_xlim(*limits)
        axes.set_xlabel("UAR, %")
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color="#e4e7eb", lw=0.7)

    said = "; ".join(
        f"{method}{f' ({TRANSDUCTIVE})' if marked[method] else ''} {number(result['uar'].get('mean'))}"
        for method, result in results.items()
    )
    height = 0.9 + 0.34 * len(results)
    return svg(draw, (3.5, height), f"{language}: UAR with 95 % interval: {said}; chance {number(chance)}", leaky)


def expert_picture(language: str, gates: Sequence[dict[str, Any]], tints: Mapping[str, str], leaky: bool) -> Markup:
    """Bars of the mean gate over the experts, one colour a method, with the deviation over utterances."""
    experts = list(dict.fromkeys(expert for gate in gates for expert in gate["experts"]))
    thick = 0.6 / max(1, len(gates))

    def draw(axes: Axes) -> None:
        for number_, gate in enumerate(gates):
            rows = [experts.index(expert) - 0.3 + thick * (number_ + 0.5) for expert in gate["experts"]]
            means, deviations = [[value(entry) for entry in gate[part]] for part in ("mean", "deviation")]
            axes.barh(
                rows, means, thick * 0.85, color=tints[gate["method"]], alpha=0.8, label=short(gate["method"], LETTERS)
            )
            axes.errorbar(means, rows, xerr=deviations, fmt="none", ecolor=INK, elinewidth=1, capsize=2)
        for row, expert in enumerate(experts):
            axes.annotate(
                short(expert, 2 * LETTERS), (0, row - 0.34), xytext=(3, 0), textcoords="offset points", va="bottom"
            )
        axes.set_yticks([])
        axes.set_ylim(len(experts) - 0.5, -0.65)
        axes.set_xlim(0, 1)
        axes.set_xlabel("gate weight")
        _legend(axes, len(gates))

    said = "; ".join(f"{gate['method']} {_said(gate['experts'], gate['mean'])}" for gate in gates)
    height = 0.8 + len(experts) * (0.34 + 0.16 * len(gates))
    return svg(draw, (3.5, height), f"{language}: gate weights over experts: {said}", leaky)


def layer_picture(
    language: str, expert: str, gates: Sequence[dict[str, Any]], tints: Mapping[str, str], leaky: bool
) -> Markup:
    """The mean weight of each layer of an expert, one colour a method, with the deviation as a band."""
    present = [(gate["method"], gate["layers"][expert]) for gate in gates if expert in gate.get("layers", {})]

    def draw(axes: Axes) -> None:
        for method, weights in present:
            means, deviations = [np.array([value(entry) for entry in weights[part]]) for part in ("mean", "deviation")]
            places = np.arange(len(means))
            axes.fill_between(places, means - deviations, means + deviations, color=tints[method], alpha=0.18, lw=0)
            axes.plot(places, means, "o-", color=tints[method], lw=1.5, ms=4, label=short(method, LETTERS))
        count = len(present[0][1]["mean"])
        axes.axhline(1 / count, color=FAINT, ls="--", lw=1)
        axes.set_xticks(range(0, count, 1 + count // 14))
        axes.set_ylim(bottom=0)
        axes.set_xlabel("layer")
        axes.set_ylabel("weight")
        _legend(axes, len(present))

    said = "; ".join(f"{method} {_said(range(len(w['mean'])), w['mean'])}" for method, w in present)
    return svg(draw, (3.5, 2.4), f"{language}: layer weights of {expert}: {said}", leaky)


def curve_picture(
    language: str, title: str, curves: Sequence[Sequence[dict[str, Any]]], keys: Mapping[str, str], leaky: bool
) -> Markup:
    """Curves over the epochs of a search: one faint line a fold, and the mean over folds.

    Args:
        curves: for each fold its epochs. keys: field of an epoch -> what to call it.
    """
    shares = "entropy" in keys  # then all are between 0 and 1
    tints = colours(list(keys))

    def draw(axes: Axes) -> None:
        for key, name in keys.items():
            at_epoch = defaultdict(list)
            for fold in curves:
                points = [(entry["epoch"], value(entry.get(key))) for entry in fold]
                axes.plot(*zip(*points, strict=True), color=tints[key], lw=0.8, alpha=0.3)
                for epoch, found in points:
                    at_epoch[epoch].append(found)
            means = [(epoch, np.mean(found)) for epoch, found in sorted(at_epoch.items())]
            axes.plot(*zip(*means, strict=True), color=tints[key], lw=2.2, label=name)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if shares:
            axes.set_ylim(-0.03, 1.03)
        axes.grid(axis="y", color="#e4e7eb", lw=0.7)
        _legend(axes, len(keys))

    label = f"{language}: {title} over the epochs of the search, mean of {len(curves)} folds"
    return svg(draw, (3.5, 2.4), label, leaky)


def dev_picture(language: str, groups: Mapping[str, Sequence[float]], tints: Mapping[str, str], leaky: bool) -> Markup:
    """Dots (a fold each) and a line (their mean) of the dev UAR of each way to find a structure."""

    def draw(axes: Axes) -> None:
        for row, (name, found) in enumerate(groups.items()):
            tint = tints.get(name, FAINT)
            axes.plot(found, [row] * len(found), "o", color=tint, ms=5, alpha=0.45, mew=0)
            mean = float(np.mean(found))
            axes.plot([mean, mean], [row - 0.3, row + 0.3], color=tint, lw=2.5)
            axes.annotate(number(mean), (1.01, row), xycoords=("axes fraction", "data"), va="center")
        axes.set_yticks(range(len(groups)), list(groups))
        axes.set_ylim(len(groups) - 0.5, -0.5)
        axes.set_xlabel("dev UAR, %")
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color="#e4e7eb", lw=0.7)

    said = "; ".join(f"{name} {number(float(np.mean(found)))}" for name, found in groups.items())
    label = f"{language}: dev UAR, mean over folds: {said}"
    return svg(draw, (3.5, 0.8 + 0.36 * len(groups)), label, leaky)


def _legend(axes: Axes, entries: int) -> None:
    if entries > 1:
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=2,  # three long names are wider than the picture
            handlelength=1.2,
            columnspacing=1.2,
            borderpad=0,
        )


def _said(names: Sequence[object], weights: Sequence[Any]) -> str:
    return ", ".join(f"{name} {number(weight, 3)}" for name, weight in zip(names, weights, strict=True))
