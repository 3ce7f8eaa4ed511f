"""TensorBoard's events of searches and trainings, made from the result files that blocks leave.

Workers know nothing of it: the process that waits for them looks for new results whenever a block is done. So the
events are those of what counts, also after an interruption, and on a cluster.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mser.config import read_if_whole
from mser.errors import ConfigError
from mser.metrics import score
from mser.terminal import console

#: Of a run's or a search's folder; below it a folder for each result, as TensorBoard wants it.
FOLDER = "tensorboard"
#: Fields of :class:`mser.nas.settings.SearchCurve` that are curves.
SEARCH_CURVES = ("weight_loss", "alpha_loss", "entropy", "parameter_free")


class Point(NamedTuple):
    """One value of a curve; ``step`` is an epoch, unless the tag says otherwise."""

    tag: str
    step: int
    value: float


def require_tensorboard() -> None:
    """Raises ConfigError where the library is missing."""
    if find_spec("tensorboard") is None:
        raise ConfigError(
            "TensorBoard is not installed.", field="TENSORBOARD", hint='run `pip install "mser[tensorboard]"`'
        )


def search_points(content: Mapping[str, Any]) -> Iterator[Point]:
    """Of what a strategy found for a fold: its curves, what random search tried, and the dev UAR of the structure."""
    if "strategy" not in content:  # probes of single layers
        return
    curves = content["curves"]
    for point in curves:
        yield from (Point(f"search/{name}", point["epoch"], point[name]) for name in SEARCH_CURVES)
    for number, candidate in enumerate(content.get("candidates", [])):
        yield Point("search/dev_uar_of_candidate", number, candidate["dev_uar"])
    yield Point("search/dev_uar", curves[-1]["epoch"] if curves else 0, content["dev_uar"])


def training_points(content: Mapping[str, Any]) -> Iterator[Point]:
    """Of one method, fold and seed: losses, dev UAR where it decides when to stop, and UAR on the test fold."""
    if "probabilities" not in content:
        return
    losses = content.get("losses", [])
    yield from (Point("train/loss", epoch, loss) for epoch, loss in enumerate(losses))
    yield from (Point("dev/uar", epoch, uar) for epoch, uar in enumerate(content.get("dev_uar_of_epochs", [])))
    if "dev_uar" in content.get("chosen", {}):
        yield Point("dev/uar", 0, content["chosen"]["dev_uar"])
    said = np.array(content["probabilities"]).argmax(1)
    yield Point("test/uar", max(0, len(losses) - 1), score(np.array(content["truth"]), said).uar)


def result_points(result: Mapping[str, Any]) -> Iterator[Point]:
    """Of a method and language over all folds: the scores of each seed, which is the step."""
    for one in result["per_seed"]:
        yield from (Point(f"all_folds/{name}", one["seed"], one[name]) for name in ("uar", "wa", "macro_f1"))


class Log:
    """The events of one folder of results.

    Args:
        folder: of a run or of searches. pattern: of result files below it. points: of a result.

    Raises:
        ConfigError: TensorBoard is missing.
    """

    def __init__(self, folder: Path, pattern: str, points: Callable[[Mapping[str, Any]], Iterator[Point]]) -> None:
        require_tensorboard()
        self.folder, self.pattern, self.points = folder, pattern, points
        self.broken = False

    @property
    def target(self) -> Path:
        """What to give to ``tensorboard --logdir``."""
        return self.folder / FOLDER

    def update(self) -> None:
        """Writes the events of results that are new, or newer than theirs."""
        for path in sorted(self.folder.glob(self.pattern)):
            name, made = path.relative_to(self.folder).with_suffix(""), path.stat().st_mtime_ns
            written = self.target / name
            # A damaged one is made again by the block that it belongs to.
            if (not written.is_dir() or written.stat().st_mtime_ns < made) and (content := read_if_whole(path)):
                self._write(name, list(self.points(content)), made)

    def results(self, results: Mapping[str, Any]) -> None:
        """Writes the scores over all folds, of ``results.json``."""
        for one in results["results"]:
            name = Path("all-folds") / one["method"] / one["language"]
            self._write(name, list(result_points(one)))

    def following(self, advance: Callable[[int, int], None]) -> Callable[[int, int], None]:
        """``advance`` that also looks for new results."""

        def both(done: int, total: int) -> None:
            advance(done, total)
            self.update()

        return both

    def _write(self, name: Path, points: list[Point], made: int | None = None) -> None:
        """One folder of events, whole or not at all, in the place of an older one.

        Args:
            made: when the result was written, in nanoseconds; now if not given.
        """
        if self.broken or not points:
            return
        target = self.target / name
        # Beside what TensorBoard looks into: it would take the half for a training of its own.
        partial = self.folder / f".{FOLDER}.{os.getpid()}.partial"
        try:
            _write_events(partial, points, made / 1e9 if made else None)
            if made is not None:
                os.utime(partial, ns=(made, made))
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(target, ignore_errors=True)
            partial.replace(target)
        except OSError as error:
            # A study of days is worth more than its curves, which can be written again from its results.
            self.broken = True
            console.print(f"No more TensorBoard events are written: {error}", style="yellow", soft_wrap=True)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _write_events(folder: Path, points: list[Point], made: float | None) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        for point in points:
            writer.add_scalar(point.tag, point.value, point.step, walltime=made)


def search_log(folder: Path) -> Log:
    """Of the searches of a language."""
    return Log(folder, "*/*.json", search_points)


def run_log(folder: Path) -> Log:
    """Of a run."""
    return Log(folder, "*/*/*.json", training_points)
