"""``mser predict``: recordings in, emotions out."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from mser.config import Workspace, write_json
from mser.errors import ConfigError, MserError, RunError
from mser.predict import LONGEST_WHOLE, WINDOW
from mser.terminal import Words, console, home_option, print_table, progress_bar

if TYPE_CHECKING:
    from mser.predict.recognizer import Prediction, Recognizer
    from mser.predict.recording import Recording


@click.command("predict")
@click.argument("recordings", nargs=-1, metavar="[RECORDING | FOLDER | -]...")
@click.option("--run", "run", envvar="RUN", required=True, help="A run's folder or name, or one model file of it.")
@click.option("--language", "languages", type=Words(), default="", help="Whose heads answer; all of the run's if none.")
@click.option(
    "--upstreams", envvar="UPSTREAMS", type=Words(), default="", help="Folders of upstreams, if they lie in one."
)
@click.option("--list", "listed", type=click.File(), help="A file with a recording's path on each line; - for stdin.")
@click.option("--format", "form", type=click.Choice(["table", "jsonl", "csv"]), default="table", show_default=True)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write there, not to standard output.")
@click.option("--window", type=float, help=f"Seconds: judge such windows; {WINDOW:g} above {LONGEST_WHOLE:g} s.")
@click.option("--hop", type=float, help="Seconds from a window to the next; half a window if not given.")
@click.option("--whole", is_flag=True, help="Judge long recordings as one utterance, too.")
@click.option("--abstain", type=click.FloatRange(0, 1), default=0.0, help="Say `unsure` below this probability.")
@click.option("--timeline", type=click.Path(file_okay=False, path_type=Path), help="Folder for pictures over time.")
@click.option("--device", envvar="DEVICE", default="auto", show_default=True)
@home_option
def predict_command(recordings: tuple[str, ...], listed: TextIO | None, workspace: Workspace, **options: Any) -> None:
    """Tell the emotion of recordings by a trained run.

    RECORDING: a file; a folder stands for the recordings in it, - for one recording on standard input.
    """
    with ExitStack() as stack:
        paths = list(_paths(recordings, listed, stack))
        if not paths:
            raise ConfigError("No recording was given.", field="RECORDING", expected="files, folders, - or --list")
        # Seconds to import: not before the arguments are known to be right.
        from mser.predict.recognizer import Recognizer

        run = run_path(options["run"], workspace)
        recognizer = Recognizer.from_run(run, options["upstreams"], options["device"])
        for head in recognizer.heads.values():
            if not head.calibrated:
                console.print(f"{head.path.name}: its probabilities are not calibrated.", style="yellow")
        failed = _predict(recognizer, paths, options)
    if failed:
        raise RunError(
            f"{failed} of {len(paths)} recordings could not be judged.",
            hint="see the messages above; the others are done",
        )


@click.command("explain")
@click.argument("recording", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--run", "run", envvar="RUN", required=True, help="A run's folder or name, or one model file of it.")
@click.option("--language", required=True, help="Whose head is explained.")
@click.option("--upstreams", envvar="UPSTREAMS", type=Words(), default="", help="Those that lie in folders.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=".",
    show_default=True,
    help="Folder for the picture and the JSON.",
)
@click.option("--device", envvar="DEVICE", default="auto", show_default=True)
@home_option
def explain_command(
    recording: Path,
    run: str,
    language: str,
    upstreams: tuple[str, ...],
    output: Path,
    device: str,
    workspace: Workspace,
) -> None:
    """Show which experts, layers and moments of a clip carried the decision about it."""
    from mser.predict.explain import explain, explanation_picture
    from mser.predict.recognizer import Recognizer
    from mser.predict.recording import Recording

    recognizer = Recognizer.from_run(run_path(run, workspace), upstreams, device)
    clip = Recording.of_file(recording)
    found = explain(recognizer, clip, language)
    output.mkdir(parents=True, exist_ok=True)
    written = output / f"{recording.stem}-{language}.json"
    write_json(written, found.to_dict())
    explanation_picture(found, clip, written.with_suffix(".png"))
    one = found.prediction
    console.print(f"{one.emotion}, {100 * one.confidence:.0f} %")
    print_table(
        "Experts",
        ["expert", "gate weight", "log probability without it"],
        [
            [name, f"{weight:.3f}", f"{-found.without_expert[name]:+.3f}" if name in found.without_expert else "–"]
            for name, weight in zip(one.experts, one.gate, strict=True)
        ],
    )
    console.print(f"{written}, {written.with_suffix('.png')}", soft_wrap=True)


def run_path(run: str, workspace: Workspace) -> Path:
    """A run by its path, or by its name in the workspace."""
    path = Path(run)
    return path if path.exists() else workspace.runs / run


def _paths(recordings: Sequence[str], listed: TextIO | None, stack: ExitStack) -> Iterator[tuple[str, Path]]:
    """Name and path of each recording."""
    from mser.audio import SUFFIXES

    for text in recordings:
        path = Path(text)
        if text == "-":
            kept = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "recording"
            kept.write_bytes(sys.stdin.buffer.read())
            yield "standard input", kept
        elif path.is_dir():
            found = sorted(one for one in path.rglob("*") if one.suffix.lower() in SUFFIXES)
            if not found:
                raise ConfigError(
                    "The folder holds no recording.",
                    file=path,
                    expected=f"files ending in {' '.join(sorted(SUFFIXES))}",
                )
            yield from ((str(one), one) for one in found)
        else:
            yield text, path
    if listed is not None:
        yield from ((line.strip(), Path(line.strip())) for line in listed if line.strip())


def _predict(recognizer: Recognizer, paths: Sequence[tuple[str, Path]], options: dict[str, Any]) -> int:
    """Judges the recordings in turn, and writes each as soon as it is judged; returns how many could not be."""
    from mser.predict.output import csv_header, csv_line, json_line, table_row, timeline_picture
    from mser.predict.recording import Recording

    form, abstain, failed = options["form"], options["abstain"], 0
    emotions = sorted({emotion for head in recognizer.heads.values() for emotion in head.emotions})
    rows: list[list[str]] = []
    began, seconds = time.monotonic(), 0.0
    with ExitStack() as stack:
        output = options["output"]
        target = stack.enter_context(output.open("w", encoding="utf-8")) if output else sys.stdout
        if form == "csv":
            print(csv_header(emotions), file=target)
        advance = stack.enter_context(progress_bar("predict", "recordings"))
        for done, (name, path) in enumerate(paths, start=1):
            try:
                recording = Recording.of_file(path, name)
                found = list(judged(recognizer, recording, options))
            except MserError as error:
                if isinstance(error, ConfigError):
                    raise
                failed += 1
                console.print(f"{name}: {error}", style="red", markup=False, soft_wrap=True)
                continue
            finally:
                advance(done, len(paths))
            seconds += recording.seconds
            for one in found:
                if form == "table":
                    rows.append(table_row(one, abstain))
                else:
                    line = json_line(one, abstain) if form == "jsonl" else csv_line(one, emotions, abstain)
                    print(line, file=target, flush=True)
            if options["timeline"] is not None:
                options["timeline"].mkdir(parents=True, exist_ok=True)
                picture = options["timeline"] / f"{Path(name).stem}.png"
                timeline_picture(found, picture, abstain)
                console.print(f"Timeline: {picture}", soft_wrap=True)
        if form == "table" and rows:
            print_table("Emotions", ["recording", "time", "language", "emotion", "most probable"], rows, target)
    if seconds:
        spent = time.monotonic() - began
        console.print(f"{seconds:.0f} s of audio in {spent:.1f} s: {spent / seconds:.2f} of real time")
    return failed


def judged(recognizer: Recognizer, recording: Recording, options: dict[str, Any]) -> Iterator[Prediction]:
    """The whole recording, or its windows."""
    window, hop = options["window"], options["hop"]
    if options["whole"] or (window is None and recording.seconds <= LONGEST_WHOLE):
        return iter(recognizer.answers(recording, options["languages"]))
    window = window or WINDOW
    return recognizer.timeline(recording, options["languages"], window, hop or window / 2)
