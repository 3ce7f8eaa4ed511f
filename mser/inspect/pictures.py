"""The page's pictures: interactive, drawn by plotly.js, which the page holds once. The only user of plotly."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from mser.markup import Markup, element

#: Colours that colour-blind readers can tell apart (Okabe & Ito 2008), dark enough on white, and shapes beside them.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#4d4d4d", "#e69f00")
SHAPES = ("circle", "diamond", "square", "triangle-up", "cross", "x", "star", "triangle-down")
DASHES = ("solid", "dash", "dot", "dashdot")
INK, SOFT, LINE = "#1f2933", "#52606d", "#e4e7eb"
#: Pixels of a row of a heat map, and of what is above all rows; above MANY rows they are thinner.
ROW, THIN_ROW, MANY, ABOVE = 26, 15, 40, 70
#: Columns that have their number, of those of a similarity; of more, every second, third and so on.
NUMBERED = 20
#: Up to this many layers the similarity stands in its cell.
WRITTEN = 16
CONFIG = {
    "responsive": True,
    "displaylogo": False,
    "displayModeBar": "hover",
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
}

#: Layers of upstreams in their order: (upstream, number).
Layers = Sequence[tuple[str, int]]


def library() -> str:
    """plotly.js, some megabytes."""
    return str(get_plotlyjs())


def probe_picture(layers: Layers, probes: Sequence[Mapping[str, float]], chances: Mapping[str, float]) -> Markup:
    """UAR of each layer and target, the darker the further it is from chance to 100 %.

    Args:
        probes: of each layer, target -> percent. chances: target -> percent.
    """
    rows = _Rows(layers)
    uars = [[probe.get(name) for name in chances] for probe in probes]
    shares = [
        [
            None if uar is None else (uar - chance) / (100 - chance)
            for uar, chance in zip(row, chances.values(), strict=True)
        ]
        for row in uars
    ]
    heat = go.Heatmap(
        z=rows.spread(shares, [None] * len(chances)),
        x=[f"{name}<br>chance {chance:.1f}" for name, chance in chances.items()],
        y=list(range(rows.count)),
        text=rows.spread([["–" if uar is None else f"{uar:.1f}" for uar in row] for row in uars], [""] * len(chances)),
        texttemplate="%{text}",
        customdata=rows.spread([[name] * len(chances) for name in rows.names], [""] * len(chances)),
        hovertemplate="%{customdata}<br>%{x}<br>UAR %{text} %<extra></extra>",
        hoverongaps=False,
        zmin=0,
        zmax=1,
        colorscale="Blues",
        showscale=False,
        xgap=2,
        ygap=2,
    )
    figure = go.Figure(heat)
    rows.label(figure)
    figure.update_xaxes(side="top", showgrid=False, ticks="", fixedrange=True)
    return _drawn(figure, rows.pixels + ABOVE)


def similarity_picture(layers: Layers, values: Sequence[Sequence[float | None]]) -> Markup:
    """Linear CKA of each pair of layers; columns in the order of the rows."""
    rows = _Rows(layers)
    # Columns need no names, only a gap between upstreams.
    columns = [place - 1 for place in rows.places]
    every = -(-len(columns) // NUMBERED)
    across = [rows.spread(row, None)[1:] for row in values]
    empty: list[Any] = [None] * (rows.count - 1)
    heat = go.Heatmap(
        z=rows.spread(across, empty),
        x=list(range(rows.count - 1)),
        y=list(range(rows.count)),
        texttemplate="%{z:.2f}" if len(layers) <= WRITTEN else None,
        customdata=rows.spread(
            [rows.spread([f"{one}<br>{other}" for other in rows.names], "")[1:] for one in rows.names], empty
        ),
        hovertemplate="%{customdata}<br>CKA %{z:.3f}<extra></extra>",
        hoverongaps=False,
        zmin=0,
        zmax=1,
        colorscale="Blues",
        showscale=len(layers) > WRITTEN,
        colorbar={"title": {"text": "CKA"}, "thickness": 10},
        xgap=1,
        ygap=1,
    )
    figure = go.Figure(heat)
    rows.label(figure)
    figure.update_xaxes(
        side="top",
        showgrid=False,
        zeroline=False,
        ticks="",
        fixedrange=True,
        tickvals=columns[::every],
        ticktext=rows.numbers[::every],
    )
    return _drawn(figure, rows.pixels + ABOVE, css="plot square")


def layer_picture(stores: Sequence[Mapping[str, Any]], key: str, title: str, logarithmic: bool = False) -> Markup:
    """A statistic over the layers: a colour a corpus, a dash and a shape an upstream.

    Args:
        key: of the statistic in each store's layers.
    """
    corpora = list(dict.fromkeys(store["corpus"] for store in stores))
    upstreams = list(dict.fromkeys(store["upstream"] for store in stores))
    figure = go.Figure()
    for store in stores:
        name = html.escape(f"{store['corpus']} x {store['upstream']}")
        kind = upstreams.index(store["upstream"])
        colour = COLOURS[corpora.index(store["corpus"]) % len(COLOURS)]
        line = go.Scatter(
            x=[layer["layer"] for layer in store["layers"]],
            y=[layer[key] for layer in store["layers"]],
            name=name,
            mode="lines+markers",
            line={"color": colour, "width": 2, "dash": DASHES[kind % len(DASHES)]},
            marker={"symbol": SHAPES[kind % len(SHAPES)], "size": 8, "color": colour},
            hovertemplate=f"{name}<br>layer %{{x}}: %{{y:.4g}}<extra></extra>",
        )
        figure.add_trace(line)
    figure.update_xaxes(title="layer", tickformat="d", gridcolor=LINE, zeroline=False)
    if logarithmic:
        ticks = [digit * 10.0**power for power in range(-6, 9) for digit in (1, 2, 5)]
        figure.update_yaxes(type="log", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])
    else:
        figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(title=title, gridcolor=LINE)
    below = {"orientation": "h", "y": -0.2, "yanchor": "top", "font": {"size": 11}}
    figure.update_layout(showlegend=True, legend=below)
    return _drawn(figure, 330 + 22 * len(stores))


def map_picture(
    points: Sequence[Sequence[float]], labels: Mapping[str, Sequence[str]], colourings: Sequence[str]
) -> Markup:
    """Points coloured by one of several labels at a time, to be chosen above the picture.

    What a point is (:func:`map_texts`) stands once beside all pictures of the same utterances.

    Args:
        points: (N, 2). labels: column -> N values. colourings: of the columns.
    """
    place = np.asarray(points, dtype=np.float32)
    figure, owners = go.Figure(), []
    for colouring in colourings:
        values = np.array(labels[colouring])
        for number, value in enumerate(sorted(set(values.tolist()))):
            rows = np.flatnonzero(values == value)
            marker = {
                "color": COLOURS[number % len(COLOURS)],
                "symbol": SHAPES[(number + number // len(COLOURS)) % len(SHAPES)],
                "size": 6,
                "opacity": 0.75,
            }
            figure.add_trace(
                go.Scatter(
                    x=place[rows, 0],
                    y=place[rows, 1],
                    name=html.escape(value) or "not known",
                    mode="markers",
                    marker=marker,
                    customdata=rows.tolist(),
                    hovertemplate="%{text}<extra></extra>",
                    visible=colouring == colourings[0],
                )
            )
            owners.append(colouring)
    buttons = [
        {"label": f"colours: {one}", "method": "update", "args": [{"visible": [owner == one for owner in owners]}]}
        for one in colourings
    ]
    menu = {"buttons": buttons, "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom", "bgcolor": "#fff"}
    figure.update_layout(updatemenus=[menu], showlegend=True, legend={"itemsizing": "constant"})
    figure.update_xaxes(showticklabels=False, gridcolor=LINE, zeroline=False)
    figure.update_yaxes(showticklabels=False, gridcolor=LINE, zeroline=False)
    return _drawn(figure, 540, css="plot map")


def map_texts(labels: Mapping[str, Sequence[str]]) -> Markup:
    """What each of N utterances is, for the pictures beside it: an element that shows nothing.

    Args:
        labels: column -> N values, ``utterance_id`` among them.
    """
    others = [name for name in labels if name != "utterance_id"]
    said = [
        "<br>".join(
            [html.escape(key), *(f"{name}: {html.escape(labels[name][row])}" for name in others if labels[name][row])]
        )
        for row, key in enumerate(labels["utterance_id"])
    ]
    # No text may end the element that it stands in.
    content = json.dumps(said, ensure_ascii=False).replace("<", "\\u003c")
    return element("script", Markup(content), css="said", attributes={"type": "application/json"})


class _Rows:
    """The rows of a heat map over layers: above the layers of each upstream a row that holds its name.

    Attributes:
        count: rows, those of names among them. places: of the layers. pixels: height of all.
    """

    def __init__(self, layers: Layers) -> None:
        self.places: list[int] = []
        self.heads: dict[str, int] = {}
        for upstream, _ in layers:
            if upstream not in self.heads:
                self.heads[upstream] = len(self.places) + len(self.heads)
            self.places.append(len(self.places) + len(self.heads))
        self.count = len(self.places) + len(self.heads)
        self.names = [f"{html.escape(upstream)}, layer {number}" for upstream, number in layers]
        self.numbers = [str(number) for _, number in layers]
        self.pixels = self.count * (ROW if self.count <= MANY else THIN_ROW)

    def spread(self, values: Sequence[Any], empty: Any) -> list[Any]:
        """Values of the layers, with ``empty`` where a name stands."""
        found = [empty] * self.count
        for place, value in zip(self.places, values, strict=True):
            found[place] = value
        return found

    def label(self, figure: go.Figure) -> None:
        figure.update_yaxes(
            range=[self.count - 0.5, -0.5],
            showgrid=False,
            zeroline=False,
            ticks="",
            fixedrange=True,
            tickvals=self.places,
            ticktext=self.numbers,
            ticklabelstandoff=5,
        )
        for upstream, place in self.heads.items():
            figure.add_annotation(
                text=html.escape(upstream),
                xref="paper",
                x=0,
                xanchor="left",
                y=place + 0.1,
                showarrow=False,
                font={"color": SOFT, "size": 12},
            )


def _drawn(figure: go.Figure, height: int, css: str = "plot") -> Markup:
    figure.update_layout(
        height=height,
        template="none",
        font={"color": INK, "size": 12, "family": "system-ui, sans-serif"},
        margin={"l": 10, "r": 10, "t": 40, "b": 10},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        modebar={"bgcolor": "rgba(255,255,255,0.7)", "color": SOFT, "activecolor": INK},
    )
    figure.update_xaxes(automargin=True)
    figure.update_yaxes(automargin=True)
    drawn = figure.to_html(full_html=False, include_plotlyjs=False, config=CONFIG, validate=False)
    return element("div", Markup(drawn), css=css)
