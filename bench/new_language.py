"""Leave one language out: each language as new to a run of all others, by the commands that a user has.

    python -m bench.new_language --language "de it en ur" --picture curves.svg

For each language `mser-train fit` trains METHOD on the others and `mser-train adapt` takes the run to it; both resume.
Prints the closed and all scores of every way, and writes all curves as one picture.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import matplotlib
import numpy as np

from mser.config import Workspace, read_json
from mser.terminal import Words, console, home_option, print_table
from train.adapt.page import MARKERS
from train.adapt.ways import WAYS
from train.report.pictures import COLOURS, FAINT

#: Ways that are drawn; the table has all.
DRAWN = ("averaged", "averaged-unlabelled", "self-trained", "shots", "shots-gentle", "scratch", "scratch-logistic")


@click.command()
@click.option("--language", "languages", type=Words(), default="de it en ur", show_default=True)
@click.option("--upstreams", default="acoustic whisper-base-encoder", show_default=True)
@click.option("--method", default="multi-domain", show_default=True, help="Of the runs: one with all languages.")
@click.option("--shots", default="1 5 10 20 all", show_default=True)
@click.option("--draws", default=10, show_default=True)
@click.option("--workers", default=0, help="Processes; one a core if not given.")
@click.option("--picture", type=click.Path(path_type=Path), help="SVG or PNG of all curves.")
@home_option
def main(
    languages: tuple[str, ...], upstreams: str, method: str, shots: str, draws: int, workers: int,
    picture: Path | None, workspace: Workspace,
) -> None:  # fmt: skip
    """Train without each language, take the run to it, and print what came of it."""
    found = {}
    for language in languages:
        run = f"without-{language}-{method}"
        others = " ".join(one for one in languages if one != language)
        if not (workspace.runs / run / "model.safetensors").is_file():
            _mser(workspace, "fit", "--language", others, "--upstreams", upstreams, "--methods", method, "--seeds", "0",
                  "--run", run, "--workers", str(workers))  # fmt: skip
        _mser(workspace, "adapt", "--language", language, "--run", run, "--shots", shots, "--draws", str(draws),
              "--workers", str(workers))  # fmt: skip
        found[language] = read_json(workspace.reports / f"{run}-to-{language}" / "adapt.json")
    for score in ("closed", "all"):
        print_table(f"{method} of the other languages; {score}, UAR in percent, {draws} draws", *table(found, score))
    if picture:
        draw(found, picture)
        console.print(f"Picture: {picture}", soft_wrap=True)


def _mser(workspace: Workspace, *words: str) -> None:
    subprocess.run([sys.executable, "-m", "train", *words, "--home", str(workspace.root)], check=True)


def table(found: dict[str, dict[str, Any]], score: str) -> tuple[list[str], list[list[str]]]:
    """A row a way and k, a column a language, and the mean over languages."""
    steps = next(iter(found.values()))["steps"]
    rows = []
    for way in WAYS:
        for k in steps:
            own = [
                next((one[score] for one in content["points"] if (one["way"], one["k"]) == (way.name, k)), None)
                for content in found.values()
            ]
            if all(own):
                cells = [f"{one['mean']:.1f} [{one['low']:.1f}, {one['high']:.1f}]" for one in own if one]
                mean = np.mean([one["mean"] for one in own if one])
                rows.append([f"{way.name}, k = {k}", *cells, f"{mean:.1f}"])
    heads = [f"{name}: E = {len(one['shared'] if score == 'closed' else one['emotions'])}, "
             f"N = {one['shared_utterances'] if score == 'closed' else one['utterances']}"
             for name, one in found.items()]  # fmt: skip
    return ["way", *heads, "mean"], rows


def draw(found: dict[str, dict[str, Any]], path: Path) -> None:
    """A panel a language: closed UAR over k, with 95 % bands over speakers."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(
        1, len(found), figsize=(4.1 * len(found), 3.7), layout="constrained", squeeze=False
    )
    for axes, (language, content) in zip(panels[0], found.items(), strict=True):
        steps = content["steps"]
        for place, way in enumerate(one.name for one in WAYS):
            own = [one for one in content["points"] if one["way"] == way and one["closed"] and way in DRAWN]
            if not own:
                continue
            x = [steps.index(one["k"]) for one in own]
            mean, low, high = ([one["closed"][key] for one in own] for key in ("mean", "low", "high"))
            colour = COLOURS[place % len(COLOURS)]
            if len(own) > 1:
                axes.fill_between(x, low, high, color=colour, alpha=0.1, lw=0)
            axes.plot(x, mean, color=colour, marker=MARKERS[place], ms=5, lw=1.4, label=way)
        axes.axhline(content["chance"]["closed"], color=FAINT, ls=":", lw=1)
        axes.set_xticks(range(len(steps)), steps)
        axes.set_title(f"{language}: E = {len(content['shared'])}, N = {content['shared_utterances']}", fontsize=10)
        axes.set_xlabel("k, labelled clips of each emotion")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0][0].set_ylabel("UAR, %, closed")
    panels[0][-1].legend(fontsize=7, loc="lower right")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


if __name__ == "__main__":
    main()
