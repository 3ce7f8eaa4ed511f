"""``mser export-head``: the model for use of a run as ONNX."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mser.config import Workspace
from mser.errors import ConfigError
from mser.runs import run_path
from mser.terminal import console, home_option, print_table, progress_bar

if TYPE_CHECKING:
    from mser.export.states import Sample
    from mser.loader import Batch
    from mser.predict.head import TrainedHead


@click.command("export-head")
@click.option("--run", "run", envvar="RUN", required=True, help="A run's folder or name, or one model file of it.")
@click.option("--language", default="", help="Whose head; needed where the run has several.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="head-<language>.onnx by the model.")
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0, min_open=True),
    default=1e-4,
    show_default=True,
    help="Largest difference from torch at which the file is written.",
)
@home_option
def export_command(run: str, language: str, output: Path | None, tolerance: float, workspace: Workspace) -> None:
    """Write a run's model for use, of one language, as an ONNX file that needs neither torch nor mser.

    It is compared with torch on the states that the workspace holds of the language, or on made-up ones.
    """
    # Seconds to import: not before the arguments are known to be right.
    from mser.export.network import networks_of
    from mser.export.onnx_model import export_head, require_onnx
    from mser.export.states import sample
    from mser.predict.head import load_heads

    require_onnx()
    head = chosen(load_heads(run_path(run, workspace)), language)
    networks_of(head)  # refuses what cannot be exported, before states are read
    found = sample(head, workspace)
    if not found.real:
        console.print(f"Compared on made-up states: {found.reason}", style="yellow", markup=False, soft_wrap=True)
    if not head.calibrated:
        console.print(f"{head.path.name}: its probabilities are not calibrated.", style="yellow")
    path = output or head.path.with_name(f"head-{head.language}.onnx")
    console.print(f"Torch traces the head of {head.language}: seconds for each upstream, more of them on frames.")
    with progress_bar("compare", "batches") as advance:
        done = export_head(head, path, _counted(found, advance), tolerance)
    shapes = {name: " x ".join(map(str, shape)) for name, shape in {**done.inputs, **done.outputs}.items()}
    rows = [[name, shapes[name], "", ""] for name in done.inputs]
    rows += [[name, shapes[name], f"{value:.1e}", str(done.utterances)] for name, value in done.differences.items()]
    print_table("Inputs, and outputs compared with torch", ["name", "shape", "largest difference", "utterances"], rows)
    console.print(f"{done.path}: {done.size / 1e3:.0f} kB", soft_wrap=True)


def chosen(heads: dict[str, TrainedHead], language: str) -> TrainedHead:
    """The head of the language, or the only one.

    Raises:
        ConfigError: there are several, or none of the language.
    """
    if language in heads:
        return heads[language]
    if not language and len(heads) == 1:
        return next(iter(heads.values()))
    raise ConfigError(
        "The run has heads of several languages." if not language else "The run was not trained on this language.",
        field="--language",
        expected=f"one of: {' '.join(heads)}",
        found=language or "none",
    )


def _counted(found: Sample, advance: Any) -> Iterator[Batch]:
    for number, batch in enumerate(found.batches(), start=1):
        yield batch
        advance(number, len(found.rows))
