"""The commands of stage one (``mser-extract``, ``python -m extract``)."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from extract import tables
from extract.choose import pick_device
from extract.demo import make_demo_corpora
from extract.download.cli import download_command
from extract.manifest import copies, scan, to_scan
from extract.session import Session, Told, run_session
from extract.states import Settings
from extract.verify import Verdict, verify
from mser.config import Workspace
from mser.corpora import load_definitions
from mser.errors import ConfigError, StoreError
from mser.manifest import Manifest, read_manifests
from mser.store.provenance import FILE_NAME
from mser.terminal import (
    MserGroup,
    Words,
    console,
    corpora_option,
    definitions_option,
    home_option,
    languages_option,
    print_table,
    progress_bar,
    upstreams_option,
)
from mser.upstream import POLICIES
from mser.upstream.windows import OVERLAP_SECONDS, WINDOW_SECONDS

#: Faults of a store that are printed before the rest is only counted.
SHOWN_FAULTS = 10


class Layers(click.ParamType):
    """Numbers and ranges of layers: ``4-9``, ``0,6,12``; nothing for all."""

    name = "layers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        found: set[int] = set()
        for word in value.replace(",", " ").split():
            match = re.fullmatch(r"(\d+)(?:-(\d+))?", word)
            first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
            if first > last:
                raise ConfigError("These are no layers.", field="LAYERS", expected="such as 4-9 or 0,6,12", found=word)
            found |= set(range(first, last + 1))
        return tuple(sorted(found))


def session_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say what is run on what, how, and what is kept: the command gets a Session and manifests."""
    options = [
        languages_option,
        upstreams_option,
        corpora_option,
        home_option,
        click.option("--device", envvar="DEVICE", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N."),
        click.option(
            "--compute",
            envvar="COMPUTE",
            type=click.Choice(["auto", "float32", "float16", "bfloat16"]),
            default="auto",
            show_default=True,
            help="What models calculate in; auto: as the store was begun, else float32. Half precision needs CUDA.",
        ),
        click.option(
            "--batching",
            envvar="BATCHING",
            type=click.Choice(["auto", *POLICIES]),
            default="auto",
            show_default=True,
            help="auto: as the store was begun, else measured on CUDA; alone on a CPU.",
        ),
        click.option(
            "--dtype",
            envvar="DTYPE",
            type=click.Choice(["float16", "float32", "int8"]),
            default="float16",
            show_default=True,
            help="Of cached frames; int8 has a scale for each feature of an utterance.",
        ),
        click.option("--layers", envvar="LAYERS", type=Layers(), default="", help="To keep: 4-9 or 0,6,12; all."),
        click.option(
            "--frames/--no-frames", envvar="FRAMES", default=True, show_default=True, help="Keep states of every frame."
        ),
        click.option(
            "--pooled/--no-pooled", envvar="POOLED", default=True, show_default=True, help="Keep mean and deviation."
        ),
        click.option(
            "--window",
            envvar="WINDOW",
            type=float,
            default=WINDOW_SECONDS,
            show_default=True,
            help="Seconds; longer recordings are run in overlapping windows. 0: never.",
        ),
        click.option(
            "--overlap", envvar="OVERLAP", type=float, default=OVERLAP_SECONDS, show_default=True, help="Seconds."
        ),
    ]

    @wraps(command)
    def with_session(
        languages: tuple[str, ...],
        upstreams: tuple[str, ...],
        corpora: Path,
        workspace: Workspace,
        device: str,
        compute: str,
        batching: str,
        dtype: str,
        layers: tuple[int, ...],
        frames: bool,
        pooled: bool,
        window: float,
        overlap: float,
        **others: Any,
    ) -> None:
        manifests = read_manifests(workspace, languages)
        pick_device(device)
        keep = tuple(name for name, kept in (("frames", frames), ("pooled", pooled)) if kept)
        settings = Settings(dtype, keep, layers, window, overlap)
        command(Session(workspace, corpora, upstreams, settings, device, compute, batching), manifests, **others)

    decorated: Callable[..., None] = with_session
    for option in reversed(options):
        decorated = option(decorated)
    return decorated


@click.group(cls=MserGroup)
def main() -> None:
    """Stage one: manifests of recordings, and hidden states of frozen speech models."""


main.add_command(download_command)


@main.command("manifest")
@languages_option
@corpora_option
@definitions_option
@home_option
def manifest_command(languages: tuple[str, ...], corpora: Path, definitions: Path | None, workspace: Workspace) -> None:
    """List the recordings of each corpus of the languages: labels, speakers, hashes."""
    known = load_definitions(definitions)
    rows = []
    manifests: list[Manifest] = []
    warnings: list[str] = []
    for definition in to_scan(languages, corpora, known):
        with progress_bar(f"manifest {definition.name}", "files") as advance:
            found = scan(definition, corpora, advance)
        path = found.manifest.write(workspace, found.rejected, found.warnings)
        rows.append(tables.scan_row(found))
        manifests.append(found.manifest)
        warnings += found.warnings
        if found.rejected:
            warnings.append(
                f"{definition.name}: {len(found.rejected)} files rejected, with reasons: "
                f"{path.with_suffix('.rejected.csv')}"
            )
    print_table(f"Manifests in {workspace.manifests}", tables.SCANS, rows)
    for warning in (*warnings, *copies(manifests)):
        warn(warning)


@main.command("states")
@session_options
@click.option("--replace-changed", envvar="REPLACE_CHANGED", is_flag=True, help="Recompute recordings that changed.")
@click.option("--wait", envvar="WAIT", is_flag=True, help="Wait for another extraction of the same store to end.")
@click.option("--scheduler", envvar="SCHEDULER", default="", help="Address of a Dask scheduler: tcp://host:8786.")
@click.option(
    "--workers",
    envvar="WORKERS",
    type=click.IntRange(min=0),
    default=0,
    help="Processes of a local cluster; one a GPU by default.",
)
def states_command(
    session: Session, manifests: list[Manifest], replace_changed: bool, wait: bool, scheduler: str, workers: int
) -> None:
    """Compute the hidden states that the stores lack."""
    rows: list[list[str]] = []

    def tell(told: Told) -> None:
        rows.append(tables.store_row(told))
        for remark in told.remarks:
            warn(remark)

    failed = run_session(
        session,
        manifests,
        scheduler=scheduler,
        workers=workers,
        replace_changed=replace_changed,
        wait=wait,
        tell=tell,
        progress=_progress,
    )
    if rows:
        print_table(f"Stores in {session.workspace.cache}", tables.STORES, rows)
    for error in failed[:-1]:
        console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
    if failed:
        raise failed[-1]


def _progress(title: str) -> Any:
    """A progress bar that also shows the seconds of audio done in a second."""
    return progress_bar(title, "utterances", rate=True)


def warn(text: str) -> None:
    console.print(f"warning: {text}", style="yellow", markup=False, soft_wrap=True)


@main.command("plan")
@session_options
@click.option(
    "--workers", envvar="WORKERS", type=click.IntRange(min=0), default=0, help="Processes or GPUs that will compute."
)
def plan_command(session: Session, manifests: list[Manifest], workers: int) -> None:
    """Tell hours, frames, gigabytes and time of an extraction from a short sample, and whether the disk holds it."""
    found = list(session.plan(manifests, max(1, workers)))
    print_table(f"To be extracted into {session.workspace.cache}", tables.PLANS, tables.plan_rows(found))
    session.require_room(sum(one.bytes for one in found))


@main.command("verify")
@languages_option
@corpora_option
@click.option(
    "--upstreams",
    envvar="UPSTREAMS",
    type=Words(),
    default="",
    help="Where to find upstreams given as folders, for --recompute and --batching.",
)
@click.option(
    "--recompute",
    envvar="RECOMPUTE",
    type=click.IntRange(min=0),
    default=2,
    show_default=True,
    help="Random utterances of each store.",
)
@click.option("--batching", is_flag=True, help="Instead: run utterances alone and batched, a line a layer.")
@click.option("--device", envvar="DEVICE", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N.")
@home_option
def verify_command(
    languages: tuple[str, ...],
    corpora: Path,
    upstreams: tuple[str, ...],
    recompute: int,
    batching: bool,
    device: str,
    workspace: Workspace,
) -> None:
    """Check every store: shards, checksums, values, coverage, recordings where present, and states computed again."""
    manifests = read_manifests(workspace, languages)
    if batching:
        _print_batching(Session(workspace, corpora, upstreams or ("acoustic",), Settings(), device), manifests)
        return
    verdicts: list[Verdict] = []
    again = Session(workspace, corpora, upstreams, Settings(), device).recompute
    for manifest in manifests:
        for path in sorted((workspace.cache / manifest.corpus).glob(f"*/{FILE_NAME}")):
            with progress_bar(f"verify {manifest.corpus} x {path.parent.name}") as advance:
                verdict = verify(manifest, corpora / manifest.place, path.parent, advance)
            if recompute and not verdict.faults:
                verdict = again(verdict, manifest, path.parent, recompute)
            verdicts.append(verdict)
    print_table("Stores verified", tables.VERDICTS, [tables.verdict_row(one) for one in verdicts])
    for one in verdicts:
        for fault in one.faults[:SHOWN_FAULTS]:
            console.print(f"{one.corpus} x {one.upstream}: {fault}", style="red", markup=False, soft_wrap=True)
        if len(one.faults) > SHOWN_FAULTS:
            console.print(f"{one.corpus} x {one.upstream}: and {len(one.faults) - SHOWN_FAULTS} more", style="red")
    if not verdicts:
        raise StoreError("There is no store to verify.", file=workspace.cache, hint="run `make extract`")
    if any(one.faults for one in verdicts):
        raise SystemExit(1)


def _print_batching(session: Session, manifests: list[Manifest]) -> None:
    for name, info, measurements, chosen in session.measure(manifests[0]):
        print_table(
            f"{name} ({info.family}, {info.compute}, {info.attention or 'no'} attention): largest difference of a "
            f"layer from each utterance alone, of the layer's largest value. Chosen here: {chosen}",
            ["layer", *(one.policy for one in measurements)],
            tables.batching_rows(measurements),
        )


@main.command("demo")
@click.argument("folder", type=click.Path(path_type=Path))
def demo_command(folder: Path) -> None:
    """Speak the demo's synthetic corpora into FOLDER with a speech synthesiser."""
    counts = make_demo_corpora(folder)
    console.print(f"Synthetic corpora in {folder}: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
