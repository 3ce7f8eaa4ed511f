"""``mser predict``: recordings in, emotions out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from mser.config import Workspace, write_json
from mser.errors import ConfigError, MserError, RunError
from mser.predict import HOP, LONGEST_WHOLE, WINDOW
from mser.runs import run_path
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
@click.option("--hop", type=float, help=f"Seconds from a window (of {WINDOW:g} if not given) to the next; half of it.")
@click.option("--whole", is_flag=True, help="Judge long recordings as one utterance, too; without windows.")
@click.option("--abstain", type=click.FloatRange(0, 1), default=0.0, help="Say `unsure` below this probability.")
@click.option("--timeline", type=click.Path(file_okay=False, path_type=Path), help="Folder for pictures over time.")
@click.option("--device", envvar="DEVICE", default="auto", show_default=True)
@home_option
def predict_command(recordings: tuple[str, ...], listed: TextIO | None, workspace: Workspace, **options: Any) -> None:
    """Tell the emotion of recordings by a trained run.

    RECORDING: a file; a folder stands for the recordings in it, - for one recording on standard input.
    """
    from mser.predict.listing import recordings_of

    with ExitStack() as stack:
        paths = list(recordings_of(recordings, listed, stack))
        if not paths:
            raise ConfigError("No recording was given.", field="RECORDING", expected="files, folders, - or --list")
        # Seconds to import: not before the arguments are known to be right.
        from mser.predict.answers import make_folder, require_writable
        from mser.predict.recognizer import Recognizer

        windows = asked_windows(options["window"], options["hop"], options["whole"])
        run = run_path(options["run"], workspace)
        recognizer = Recognizer.from_run(run, options["upstreams"], options["device"])
        for head in recognizer.heads.values():
            if not head.calibrated:
                console.print(f"{head.path.name}: its probabilities are not calibrated.", style="yellow")
        # All that can be wrong is found before anything is written.
        recognizer.asked(options["languages"])
        if options["output"] is not None:
            make_folder(options["output"].parent, "--output")
            require_writable(options["output"], "--output")
        if options["timeline"] is not None:
            make_folder(options["timeline"], "--timeline")
        failed = _predict(recognizer, paths, windows, options)
    if failed:
        raise RunError(
            f"{failed} of {len(paths)} recordings could not be judged.",
            hint="see the messages above; the others are done",
        )


@click.command("explain")
@click.argument("recording", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--run", "run", envvar="RUN", required=True, help="A run's folder or name, or one model file of it.")
@click.option("--language", required=True, help="Whose head is explained.")
@click.option("--start", type=float, help="Seconds: explain the recording from there on.")
@click.option("--end", type=float, help="Seconds: explain it up to there.")
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
def explain_command(recording: Path, workspace: Workspace, **options: Any) -> None:
    """Show which experts, layers and moments of a clip carried the decision about it.

    RECORDING: of at most a minute, or --start and --end of a part of a longer one. The part is judged as a clip of its
    own, without what surrounds it.
    """
    from mser.predict.answers import make_folder
    from mser.predict.explain import LONGEST, explain, explanation_picture
    from mser.predict.recognizer import Recognizer
    from mser.predict.recording import Recording

    clip = Recording.of_part(recording, options["start"], options["end"], LONGEST)
    recognizer = Recognizer.from_run(run_path(options["run"], workspace), options["upstreams"], options["device"])
    found = explain(recognizer, clip, options["language"])
    make_folder(options["output"], "--output")
    written = options["output"] / f"{_explained_name(clip, options)}.json"
    write_json(written, found.to_dict())
    picture = written.with_suffix(".png")
    explanation_picture(found, clip, picture)
    one = found.prediction
    console.print(f"{one.emotion}, {100 * one.confidence:.0f} %{'' if one.calibrated else ', not calibrated'}")
    print_table(
        "Experts",
        ["expert", "gate weight", "log probability without it"],
        [
            [name, f"{weight:.3f}", f"{-found.without_expert[name]:+.3f}" if name in found.without_expert else "–"]
            for name, weight in zip(one.experts, one.gate, strict=True)
        ],
    )
    console.print(f"{written}, {picture}", soft_wrap=True)


def _explained_name(clip: Recording, options: dict[str, Any]) -> str:
    """Other names for other recordings, languages and parts."""
    from mser.predict.names import file_name

    whole = options["start"] is None and options["end"] is None
    part = "" if whole else f"-{clip.start:.3f}-{clip.start + clip.seconds:.3f}"
    return f"{file_name(clip.name)}-{options['language']}{part}"


def asked_windows(window: float | None, hop: float | None, whole: bool) -> tuple[float, float] | None:
    """Seconds of a window, and from one to the next; None where neither was asked for.

    Raises:
        ConfigError: they cannot be used, or contradict ``whole``.
    """
    from mser.predict.recognizer import spans

    if window is None and hop is None:
        return None
    if whole:
        given = [f"--{name} {value:g}" for name, value in (("window", window), ("hop", hop)) if value is not None]
        raise ConfigError(
            "A recording is judged as a whole or in windows.",
            field="--whole, --window, --hop",
            expected="--whole alone, or --window and --hop",
            found=f"--whole {' '.join(given)}",
            hint="leave --whole out for windows, or the others for the whole",
        )
    window = WINDOW if window is None else window
    hop = window / 2 if hop is None else hop
    spans(window, window, hop)  # refuses what cannot be used
    return window, hop


def _predict(
    recognizer: Recognizer,
    paths: Sequence[tuple[str, Path]],
    windows: tuple[float, float] | None,
    options: dict[str, Any],
) -> int:
    """Judges the recordings in turn, and writes each as soon as it is judged; returns how many could not be."""
    from mser.predict.answers import Answers
    from mser.predict.recording import Recording

    failed = 0
    emotions = sorted({emotion for head in recognizer.heads.values() for emotion in head.emotions})
    began, seconds = time.monotonic(), 0.0
    with ExitStack() as stack:
        answers = stack.enter_context(Answers(options["form"], options["output"], emotions, options["abstain"]))
        advance = stack.enter_context(progress_bar("predict", "recordings"))
        for done, (name, path) in enumerate(paths, start=1):
            try:
                recording = Recording.of_file(path, name)
                found = list(judged(recognizer, recording, options["languages"], windows, options["whole"]))
            except MserError as error:
                failed += 1
                console.print(f"{name}: {error}", style="red", markup=False, soft_wrap=True)
                continue
            finally:
                advance(done, len(paths))
            seconds += recording.seconds
            answers.add(found)
            if options["timeline"] is not None:
                _draw(found, name, options["timeline"], options["abstain"])
    if seconds:
        spent = time.monotonic() - began
        console.print(f"{seconds:.0f} s of audio in {spent:.1f} s: {spent / seconds:.2f} of real time")
    return failed


def _draw(found: Sequence[Prediction], name: str, folder: Path, abstain: float) -> None:
    from mser.predict.names import file_name
    from mser.predict.output import timeline_picture

    picture = folder / f"{file_name(name)}.png"
    timeline_picture(found, picture, abstain)
    console.print(f"Timeline of {name}: {picture}", markup=False, soft_wrap=True)


def judged(
    recognizer: Recognizer,
    recording: Recording,
    languages: Sequence[str],
    windows: tuple[float, float] | None = None,
    whole: bool = False,
) -> Iterator[Prediction]:
    """The whole recording, or its windows: those that are given, or the usual ones where it is long.

    Args:
        windows: seconds of each, and from one to the next.
    """
    if windows is None and (whole or recording.seconds <= LONGEST_WHOLE):
        return iter(recognizer.answers(recording, languages))
    window, hop = windows or (WINDOW, HOP)
    return recognizer.timeline(recording, languages, window, hop)
