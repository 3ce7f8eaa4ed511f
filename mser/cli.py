"""The commands of the library (``mser``): what is cached, and what a trained run says."""

from __future__ import annotations

import click

from mser import __version__
from mser.config import Workspace
from mser.export.cli import export_command
from mser.hub.cli import push_command
from mser.inspect import layer_statistics, list_stores
from mser.loader import SMALLEST_DEVIATION
from mser.manifest import read_manifests
from mser.predict.cli import explain_command, predict_command
from mser.serve.cli import serve_command
from mser.store import Store
from mser.terminal import MserGroup, home_option, languages_option, print_table


@click.group(cls=MserGroup)
@click.version_option(__version__)
def main() -> None:
    """Look into what mser has cached, and put a trained run to use."""


@main.command("inspect")
@languages_option
@click.option("--layers/--no-layers", default=True, show_default=True, help="Statistics of every layer.")
@home_option
def inspect_command(languages: tuple[str, ...], layers: bool, workspace: Workspace) -> None:
    """List the stores of the languages and the statistics of their layers."""
    manifests = read_manifests(workspace, languages)
    found = list(list_stores(workspace, manifests))
    print_table(
        f"Stores in {workspace.cache}",
        [
            "corpus",
            "upstream",
            "revision",
            "utterances",
            "minutes",
            "layers x dim",
            "dtype",
            "holds",
            "MB",
            "state",
        ],
        [
            [
                one.corpus,
                one.upstream,
                one.revision,
                f"{one.covered} of {one.total}",
                f"{one.seconds / 60:.1f}",
                f"{one.layers} x {one.dim}",
                one.dtype,
                " ".join(one.keep),
                f"{one.size_bytes / 1e6:.0f}",
                one.trouble or ("complete" if one.covered == one.total else "incomplete"),
            ]
            for one in found
        ],
    )
    for one in found:
        if layers and not one.trouble and "frames" in one.keep and one.covered:
            store = Store(workspace.store(one.corpus, one.upstream))
            statistics = layer_statistics(store)
            print_table(
                f"{one.corpus} x {one.upstream}: {statistics.frames} frames",
                [
                    "layer",
                    "mean length of a state",
                    "mean of deviations",
                    "largest deviation",
                    "dead dimensions",
                ],
                [
                    [
                        str(store.provenance.layer_numbers[layer]),
                        f"{statistics.norm[layer]:.3f}",
                        f"{deviation.mean():.4f}",
                        f"{deviation.max():.3f}",
                        f"{int((deviation < SMALLEST_DEVIATION).sum())} of {len(deviation)}",
                    ]
                    for layer, deviation in enumerate(statistics.deviation)
                ],
            )


for command in (predict_command, explain_command, serve_command, export_command, push_command):
    main.add_command(command)
