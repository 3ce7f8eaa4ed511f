"""The commands of stage one (``mser-extract``, ``python -m extract``)."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import click
import torch

from extract.demo import make_demo_corpora
from extract.manifest import present, scan
from extract.states import Summary, extract
from extract.verify import verify
from mser.cli import MserGroup, console, home_option, languages_option, print_table, progress_bar, upstreams_option
from mser.config import Workspace
from mser.corpus import CorpusDefinition, corpora_of, load_definitions
from mser.errors import ConfigError, CorpusError, StoreError
from mser.manifest import Manifest, read_manifests
from mser.store.provenance import FILE_NAME
from mser.upstream import Upstream, load_upstream

#: Faults of a store that are printed before the rest is only counted.
SHOWN_FAULTS = 10

corpora_option = click.option(
    "--corpora",
    envvar="MSER_CORPORA",
    default="corpora",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder with a folder for each corpus (MSER_CORPORA); only read.",
)
definitions_option = click.option(
    "--definitions",
    envvar="MSER_DEFINITIONS",
    type=click.Path(path_type=Path),
    default=None,
    help="Folder of own corpus definitions (MSER_DEFINITIONS).",
)


@click.group(cls=MserGroup)
def main() -> None:
    """Stage one: manifests of recordings, and hidden states of frozen speech models."""


@main.command("manifest")
@languages_option
@corpora_option
@definitions_option
@home_option
def manifest_command(languages: tuple[str, ...], corpora: Path, definitions: Path | None, workspace: Workspace) -> None:
    """List the recordings of each corpus of the languages: labels, speakers, hashes."""
    known = load_definitions(definitions)
    rows = []
    warnings: list[str] = []
    for definition in _to_scan(languages, corpora, known):
        with progress_bar(f"manifest {definition.name}", "files") as advance:
            found = scan(definition, corpora, advance)
        path = found.manifest.write(workspace, found.rejected, found.warnings)
        utterances = found.manifest.utterances
        rows.append(
            [
                definition.name,
                definition.language,
                str(len(utterances)),
                str(len({row.speaker for row in utterances})),
                str(len({row.emotion for row in utterances})),
                f"{sum(row.seconds for row in utterances) / 60:.1f}",
                str(len(found.rejected)),
                str(found.left_out),
            ]
        )
        warnings += found.warnings
        if found.rejected:
            warnings.append(
                f"{definition.name}: {len(found.rejected)} files rejected, with reasons: "
                f"{path.with_suffix('.rejected.csv')}"
            )
    print_table(
        f"Manifests in {workspace.manifests}",
        ["corpus", "language", "utterances", "speakers", "emotions", "minutes", "rejected", "left out"],
        rows,
    )
    for warning in warnings:
        console.print(f"warning: {warning}", style="yellow", markup=False, soft_wrap=True)


def _to_scan(languages: tuple[str, ...], corpora: Path, known: dict[str, CorpusDefinition]) -> list[CorpusDefinition]:
    """The definitions whose folder is there: at least one for each language, or any if none is given."""
    if languages:
        return [one for language in languages for one in present(corpora_of([language], known), corpora)]
    there = [one for one in known.values() if (corpora / one.name).is_dir()]
    if not there:
        raise CorpusError(
            "No folder of a known corpus was found.",
            file=corpora,
            expected=f"one or several of: {' '.join(sorted(known))}",
            hint="set MSER_CORPORA to the folder that holds them, or run `make demo`",
        )
    return there


@main.command("states")
@languages_option
@upstreams_option
@corpora_option
@click.option(
    "--device", envvar="DEVICE", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N (DEVICE)."
)
@click.option(
    "--dtype", envvar="DTYPE", type=click.Choice(["float16", "float32"]), default="float16", show_default=True
)
@click.option("--frames/--no-frames", default=True, show_default=True, help="Keep the states of every frame.")
@click.option("--pooled/--no-pooled", default=True, show_default=True, help="Keep mean and deviation over frames.")
@click.option("--replace-changed", envvar="REPLACE_CHANGED", is_flag=True, help="Recompute recordings that changed.")
@home_option
def states_command(
    languages: tuple[str, ...],
    upstreams: tuple[str, ...],
    corpora: Path,
    device: str,
    dtype: str,
    frames: bool,
    pooled: bool,
    replace_changed: bool,
    workspace: Workspace,
) -> None:
    """Compute the hidden states that the stores lack."""
    manifests = read_manifests(workspace, languages)
    keep = [name for name, kept in (("frames", frames), ("pooled", pooled)) if kept]
    chosen, threads = pick_device(device), torch.get_num_threads()
    rows = []
    for name in upstreams:
        upstream = load_upstream(name, chosen)
        # The acoustic recipes are many small operations: threads only make them wait for each other.
        torch.set_num_threads(1 if upstream.info.family == "acoustic" else threads)
        for manifest in manifests:
            store = workspace.store(manifest.corpus, upstream.info.name)
            began = time.monotonic()
            with progress_bar(f"{manifest.corpus} x {upstream.info.name}", "utterances") as advance:
                summary = extract(
                    manifest,
                    corpora / manifest.corpus,
                    upstream,
                    store,
                    dtype=dtype,
                    keep=keep,
                    replace_changed=replace_changed,
                    advance=_with_rate(advance, began),
                )
            rows.append(_row(manifest, upstream, summary, time.monotonic() - began))
        if upstream.info.random_weights:
            console.print(f"{name} has random weights: it shows the flow, never an accuracy.", style="yellow")
    columns = ["corpus", "upstream", "computed", "kept", "layers x dim", "MB", "seconds", "x real time"]
    print_table(f"Stores in {workspace.cache}", columns, rows)


def _with_rate(advance: Callable[..., None], began: float) -> Callable[[int, int, float], None]:
    """Adds the seconds of audio done in a second to a progress bar."""

    def advance_with_rate(done: int, total: int, seconds: float) -> None:
        advance(done, total, f"{seconds / (time.monotonic() - began):.1f} x real time")

    return advance_with_rate


def _row(manifest: Manifest, upstream: Upstream, summary: Summary, spent: float) -> list[str]:
    return [
        manifest.corpus,
        upstream.info.name,
        str(summary.computed),
        str(summary.kept),
        f"{upstream.info.layers} x {upstream.info.dim}",
        f"{summary.store.size_bytes() / 1e6:.0f}",
        f"{spent:.1f}",
        f"{summary.seconds_of_audio / spent:.1f}",
    ]


def pick_device(name: str) -> torch.device:
    """The device by name; ``auto`` takes CUDA where there is one.

    Raises:
        ConfigError: no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        known = device.type in ("cpu", "cuda")
    except RuntimeError:
        known = False
    if not known:
        raise ConfigError("No such device.", field="DEVICE", expected="auto, cpu, cuda or cuda:N", found=name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            "The CUDA device is not there.",
            field="DEVICE",
            expected=f"one of {torch.cuda.device_count()} CUDA devices",
            found=name,
            hint="use DEVICE=cpu or DEVICE=auto",
        )
    return device


@main.command("verify")
@languages_option
@corpora_option
@home_option
def verify_command(languages: tuple[str, ...], corpora: Path, workspace: Workspace) -> None:
    """Check every store: shards, checksums, values, coverage, and the recordings where they are present."""
    verdicts = []
    for manifest in read_manifests(workspace, languages):
        for path in sorted((workspace.cache / manifest.corpus).glob(f"*/{FILE_NAME}")):
            with progress_bar(f"verify {manifest.corpus} x {path.parent.name}") as advance:
                verdicts.append(verify(manifest, corpora / manifest.corpus, path.parent, advance))
    rows = [
        [one.corpus, one.upstream, str(one.utterances), str(one.shards), str(one.recordings), str(len(one.faults))]
        for one in verdicts
    ]
    print_table("Stores verified", ["corpus", "upstream", "utterances", "shards", "recordings", "faults"], rows)
    for one in verdicts:
        for fault in one.faults[:SHOWN_FAULTS]:
            console.print(f"{one.corpus} x {one.upstream}: {fault}", style="red", markup=False, soft_wrap=True)
        if len(one.faults) > SHOWN_FAULTS:
            console.print(f"{one.corpus} x {one.upstream}: and {len(one.faults) - SHOWN_FAULTS} more", style="red")
    if not verdicts:
        raise StoreError("There is no store to verify.", file=workspace.cache, hint="run `make extract`")
    if any(one.faults for one in verdicts):
        raise SystemExit(1)


@main.command("demo")
@click.argument("folder", type=click.Path(path_type=Path))
def demo_command(folder: Path) -> None:
    """Speak the demo's synthetic corpora into FOLDER with a speech synthesiser."""
    counts = make_demo_corpora(folder)
    console.print(f"Synthetic corpora in {folder}: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
