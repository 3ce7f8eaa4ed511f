"""Curves over labelled clips as inline SVG, in the look of the report's pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from mser.markup import Markup
from train.report.pictures import FAINT, svg, value
from train.report.study import is_number, number

#: Of each colour: the marker as it is drawn, and as a legend writes it. Shapes tell lines apart without colour.
MARKERS = (("o", "●"), ("s", "■"), ("D", "◆"), ("^", "▲"), ("v", "▼"), ("P", "✚"))
#: Values of k with the UAR of each, None where there is none.
Line = list[tuple[int, float | None]]
PALE = "#c3ccd5"


def limits(lines: Sequence[Line], further: Sequence[float | None]) -> tuple[float, float]:
    """Ends of an axis that holds every point and some further values.

    >>> limits([[(0, 40.0), (5, 60.0)]], [None])
    (39.0, 61.0)
    """
    known = [point for line in lines for _, point in line if is_number(point)]
    known += [point for point in further if is_number(point)]
    if not known:
        return 0.0, 100.0
    margin = 0.05 * max(1.0, max(known) - min(known))
    return min(known) - margin, max(known) + margin


def shots_picture(
    title: str,
    lines: Mapping[str, Line],
    looks: Mapping[str, tuple[str, str] | None],
    shots: Sequence[int],
    chance: float | None,
    ends: tuple[float, float],
    size: tuple[float, float],
    legend: bool = False,
) -> Markup:
    """UAR over k, a line a system, with its mean where it is in colour.

    Args:
        looks: colour and marker of each system, no marker for the bar, None for pale ones; drawn in this order.
        shots: the values of k, drawn as even steps. chance: a dotted line. ends: of the axis of UAR.
        size: width and height in inches. legend: whether the systems in colour are named inside the picture.
    """
    steps = {k: step for step, k in enumerate(shots)}

    def draw(axes: Axes) -> None:
        for name, look in looks.items():
            line = lines.get(name, [])
            points = [steps[k] for k, _ in line], [value(point) for _, point in line]
            if look is None:
                axes.plot(*points, color=PALE, lw=0.9, marker=".", ms=2.5)
            else:
                colour, marker = look
                ls = "-" if marker else "--"
                axes.plot(*points, color=colour, lw=1.5, marker=marker, ms=4.5, ls=ls, alpha=0.9, label=name)
        if legend and axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=6.5, loc="best", reverse=True)
        if is_number(chance):
            axes.axhline(chance, color=FAINT, ls=":", lw=1)
        axes.set_xticks(range(len(shots)), [str(k) for k in shots])
        axes.set_xlim(-0.15, len(shots) - 0.85)
        axes.set_ylim(*ends)
        axes.set_xlabel("k, labelled clips of each emotion")
        axes.set_ylabel("UAR, %", labelpad=7)
        axes.grid(axis="y", color="#e4e7eb", lw=0.7)

    said = "; ".join(
        f"{name} {', '.join(number(point) for _, point in lines[name])}"
        for name, look in reversed(list(looks.items()))
        if look is not None and name in lines
    )
    whole = ", ".join(map(str, shots))
    text = f"{title}: UAR over k = {whole}: {said or 'no system in colour'}"
    return svg(draw, size, text if not is_number(chance) else f"{text}; chance {number(chance)}", leaky=False)
