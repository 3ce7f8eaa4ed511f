"""The commands of ``mser inspect``."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from mser.config import Workspace, store_name
from mser.inspect import tables
from mser.inspect.export import WRITERS, export
from mser.inspect.listing import every_store, open_stores
from mser.inspect.selection import select
from mser.inspect.utterance import draw_norms, find, states_of
from mser.inspect.wanted import METHODS, SECTIONS, TARGETS, Wanted
from mser.manifest import read_manifests
from mser.terminal import MserGroup, Words, console, home_option, languages_option, print_table, progress_bar

LOCATED = ("languages", "workspace")

upstreams_option = click.option(
    "--upstreams",
    envvar="UPSTREAMS",
    type=Words(),
    default="",
    help="Those to look at; all that are cached if not given.",
)
run_option = click.option(
    "--run", envvar="RUN", default="", help="Name or folder of a run whose embeddings are mapped."
)
layer_option = click.option(
    "--layer", type=int, help="Of one upstream, to be mapped; the best on dev speakers if not given."
)


class Choice(Words):
    """Words of a few."""

    def __init__(self, known: Sequence[str]) -> None:
        self.known = tuple(known)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        words = super().convert(value, param, ctx)
        unknown = [word for word in words if word not in self.known]
        if unknown or not words:
            self.fail(f"expected some of {' '.join(self.known)}, found {' '.join(unknown) or 'none'}", param, ctx)
        return words


methods_option = click.option(
    "--methods", type=Choice(list(METHODS)), default=" ".join(METHODS), show_default=True, help="Kinds of maps."
)


class LayerNumbers(click.ParamType):
    """Layers such as ``4-9`` or ``0,6,12``."""

    name = "layers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        numbers: list[int] = []
        for word in value.replace(",", " ").split():
            found = re.fullmatch(r"(\d+)(?:-(\d+))?", word)
            if found is None:
                self.fail(f"expected layers such as 4-9 or 0,6,12, found {value!r}", param, ctx)
            first, last = (int(number or found[1]) for number in found.groups())
            if last < first:
                self.fail(f"expected the lower layer of a range first, found {word!r}", param, ctx)
            numbers += range(first, last + 1)
        return tuple(dict.fromkeys(numbers))


def located(command: Any) -> Any:
    """The options that tell where to look, which may also stand before the command's name."""

    @languages_option
    @home_option
    @click.pass_context
    @functools.wraps(command)
    def placed(ctx: click.Context, /, **options: Any) -> Any:
        parent = ctx.parent
        for name in LOCATED:
            given_here = ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
            if parent and not given_here and parent.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                options[name] = parent.params[name]
        return command(**options)

    return placed


@click.group("inspect", cls=MserGroup, invoke_without_command=True)
@run_option
@upstreams_option
@languages_option
@home_option
@click.pass_context
def inspect_group(
    ctx: click.Context, run: str, upstreams: tuple[str, ...], languages: tuple[str, ...], workspace: Workspace
) -> None:
    """Show what the stores hold and where the emotion is: no GPU, no audio, no network.

    Without a command: the list of the stores, and a page with everything.
    """
    given = [name for name in ("run", "upstreams") if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    if ctx.invoked_subcommand is None:
        began = time.monotonic()
        told = _list(workspace, languages)
        _page(workspace, languages, Wanted(run=run, upstreams=_names(upstreams)), began, told)
    elif given:
        raise click.UsageError(f"give --{given[0]} after {ctx.invoked_subcommand!r}, if it takes it")


@inspect_group.command("page")
@run_option
@layer_option
@methods_option
@upstreams_option
@located
def page_command(
    run: str,
    layer: int | None,
    methods: tuple[str, ...],
    upstreams: tuple[str, ...],
    languages: tuple[str, ...],
    workspace: Workspace,
) -> None:
    """Write the page with everything: reports/inspect-<languages>/inspect.html."""
    wanted = Wanted(run=run, layer=layer, methods=methods, upstreams=_names(upstreams))
    _page(workspace, languages, wanted, time.monotonic())


@inspect_group.command("ls")
@located
def ls_command(languages: tuple[str, ...], workspace: Workspace) -> None:
    """List every store."""
    _list(workspace, languages)


@inspect_group.command("show")
@click.argument("utterance")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Of the picture: .png, .svg or .pdf.")
@located
def show_command(utterance: str, out: Path | None, languages: tuple[str, ...], workspace: Workspace) -> None:
    """Show the labels and states of an UTTERANCE, and draw the lengths of its states over time."""
    manifests = read_manifests(workspace, languages)
    row = find(manifests, utterance)
    own = [one for one in manifests if one.corpus == row.corpus]
    found, absent = states_of(row, list(open_stores(workspace, own)))
    print_table(f"{row.utterance_id}, {row.seconds:.2f} s", ["column", "value"], tables.label_rows(row))
    for one in found:
        print_table(tables.states_title(one), tables.STATES, tables.states_rows(one))
    _tell(absent if found or absent else ["No store holds it: run `make extract` for its language."])
    if not found:
        return
    name = re.sub(r"[^\w.-]", "-", row.utterance_id)
    path = draw_norms(row, found, out or workspace.reports / "inspect-utterances" / f"{name}.png")
    console.print(f"Picture: {path}" if path else "No frames are kept, so there is nothing over time.", soft_wrap=True)


@inspect_group.command("stats")
@click.option("--over", type=click.Choice(["frames", "means"]), help="Frames where they are kept, if not given.")
@upstreams_option
@located
def stats_command(
    over: str | None, upstreams: tuple[str, ...], languages: tuple[str, ...], workspace: Workspace
) -> None:
    """Statistics of each layer: mean, deviation, length, effective rank, dead features."""
    wanted = Wanted(("statistics",), upstreams=_names(upstreams), over=over or "")
    results = _results(workspace, languages, wanted)
    for one in results["statistics"]:
        if not one["trouble"]:
            print_table(tables.statistics_title(one), tables.STATISTICS, tables.statistics_rows(one))
    _write(workspace, results, "stats")


@inspect_group.command("similarity")
@upstreams_option
@located
def similarity_command(upstreams: tuple[str, ...], languages: tuple[str, ...], workspace: Workspace) -> None:
    """Linear CKA between all layers of all upstreams."""
    results = _results(workspace, languages, Wanted(("similarity",), upstreams=_names(upstreams)))
    for one in results["similarity"]:
        if not one["trouble"]:
            print_table(*tables.similarity_table(one))
    _write(workspace, results, "similarity")


@inspect_group.command("probe")
@click.option("--targets", type=Choice(TARGETS), default=" ".join(TARGETS), show_default=True)
@upstreams_option
@located
def probe_command(
    targets: tuple[str, ...], upstreams: tuple[str, ...], languages: tuple[str, ...], workspace: Workspace
) -> None:
    """Logistic regression on each layer: the emotion, and speaker, gender and sentence beside it."""
    wanted = Wanted(("probes", "audit"), targets=targets, upstreams=_names(upstreams))
    results = _results(workspace, languages, wanted)
    for language in results["languages"]:
        title, columns, rows, notes = tables.probe_table(language, results["probes"])
        print_table(title, columns, rows)
        for note in notes:
            console.print(f"  {note}", markup=False, soft_wrap=True)
    _write(workspace, results, "probe")


@inspect_group.command("map")
@run_option
@layer_option
@methods_option
@upstreams_option
@located
def map_command(
    run: str,
    layer: int | None,
    methods: tuple[str, ...],
    upstreams: tuple[str, ...],
    languages: tuple[str, ...],
    workspace: Workspace,
) -> None:
    """Map utterances by PCA, t-SNE and UMAP, of a layer or of a trained embedding (--run)."""
    wanted = Wanted(("map",), run=run, layer=layer, methods=methods, upstreams=_names(upstreams))
    results = _results(workspace, languages, wanted)
    for cloud in results["map"]:
        console.print(f"{cloud['title']}: {len(cloud['labels']['utterance_id'])} utterances. {cloud['note']}")
        for one in cloud["maps"]:
            console.print(f"  {METHODS[one['method']]}: {one['trouble'] or one['note']}", markup=False, soft_wrap=True)
    _write(workspace, results, "map")


@inspect_group.command("export")
@click.option("--upstream", default="", help="Whose layers; needed where several are cached.")
@click.option("--layers", type=LayerNumbers(), default="", help="Such as 4-9 or 0,6,12; all that are kept if none.")
@click.option("--frames/--pooled", default=False, help="All frames, or their mean and deviation (default).")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help=f"File (or folder) whose suffix is the format: {' '.join(WRITERS)}.  [default: an .npz below reports/]",
)
@located
def export_command(
    upstream: str,
    layers: tuple[int, ...],
    frames: bool,
    out: Path | None,
    languages: tuple[str, ...],
    workspace: Workspace,
) -> None:
    """Write layers of an upstream, with the manifest's columns, for other programs."""
    manifests = read_manifests(workspace, languages)
    name = store_name(upstream) if upstream else ""
    opened = list(open_stores(workspace, manifests))
    chosen = select(opened, manifests, name, layers, frames)
    folder = _folder(workspace, sorted({manifest.language for manifest in manifests}))
    path = out or folder / f"{chosen.upstream}-{'frames' if frames else 'pooled'}.npz"
    with progress_bar("export", "utterances") as advance:
        export(chosen, path, advance)
    total = sum(len(manifest.utterances) for manifest in manifests)
    numbers = ", ".join(map(str, chosen.layers))
    _tell([line for one, _ in opened if one.upstream == chosen.upstream for line in one.left_out])
    console.print(f"{len(chosen.utterances)} of {total} utterances, layers {numbers}: {path}", soft_wrap=True)


def _names(upstreams: Sequence[str]) -> tuple[str, ...]:
    return tuple(store_name(name) for name in upstreams)


def _tell(troubles: Sequence[str]) -> None:
    for line in troubles:
        console.print(line, style="yellow", markup=False, soft_wrap=True)


def _list(workspace: Workspace, languages: Sequence[str]) -> list[str]:
    """Prints the stores and what is left out of them; returns the latter."""
    found = list(every_store(workspace, languages))
    print_table(f"Stores in {workspace.cache}", tables.STORES, [tables.store_row(one) for one in found])
    left_out = [line for one in found for line in one.left_out]
    _tell(left_out)
    return left_out


def _results(
    workspace: Workspace, languages: Sequence[str], wanted: Wanted, told: Sequence[str] = ()
) -> dict[str, Any]:
    """What is found; prints what is not shown, but for lines that were ``told`` before."""
    # Late: scikit-learn takes seconds to import, and listing needs it not.
    from mser.inspect.survey import survey

    with progress_bar("inspect") as advance:
        results = survey(workspace, languages, wanted, advance)
    _tell([line for line in tables.troubles(results) if line not in told])
    return results


def _page(
    workspace: Workspace, languages: Sequence[str], wanted: Wanted, began: float, told: Sequence[str] = ()
) -> None:
    results = _results(workspace, languages, replace(wanted, sections=SECTIONS), told)
    _write(workspace, results, "inspect")
    spent = ", ".join(f"{part} {seconds:.1f}" for part, seconds in results["seconds"].items())
    console.print(f"{time.monotonic() - began:.1f} s ({spent}; statistics beside the others)", markup=False)


def _write(workspace: Workspace, results: dict[str, Any], name: str) -> None:
    from mser.inspect.page import write_page

    page = write_page(results, _folder(workspace, results["languages"]), name)
    console.print(f"Page: {page}", soft_wrap=True)


def _folder(workspace: Workspace, languages: Sequence[str]) -> Path:
    return workspace.reports / f"inspect-{'-'.join(languages)}"
