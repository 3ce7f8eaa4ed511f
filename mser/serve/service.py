"""What the page asks for, without the page: clips read, judged and explained, one request at a time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

from torch import Tensor

from mser.errors import AudioError, ConfigError, MserError
from mser.predict import HOP, LONGEST_WHOLE, WINDOW
from mser.predict.explain import explain, explanation_picture
from mser.predict.extractor import part
from mser.predict.output import clock, timeline_picture
from mser.predict.recognizer import Recognizer, spans
from mser.predict.recording import Recording
from mser.serve import MEGABYTES, SECONDS, view
from mser.serve.runs import Run
from mser.serve.uploads import Uploads

#: Runs whose models stay in memory, with their upstreams; the one that was not asked longest goes first.
KEPT_RUNS = 3


@dataclass(frozen=True)
class Limits:
    """What a clip may have at most.

    Attributes:
        megabytes: of its file, 2^20 bytes each. seconds: of sound.
    """

    megabytes: float = MEGABYTES
    seconds: float = SECONDS

    @property
    def size(self) -> int:
        """In bytes."""
        return int(self.megabytes * 2**20)


@dataclass(frozen=True)
class Shown:
    """What the page shows of a clip.

    Attributes:
        message, clip, judged, over_time, explained: HTML; empty where there is nothing.
        recording: that further questions are about.
        languages: that have judged it. language: the one that is explained.
        parts: of a long recording, by their times. place: of the one that is explained.
    """

    message: str = ""
    clip: str = ""
    judged: str = ""
    over_time: str = ""
    explained: str = ""
    recording: Recording | None = None
    languages: tuple[str, ...] = ()
    language: str | None = None
    parts: tuple[str, ...] = ()
    place: int | None = None


@dataclass(frozen=True)
class _Heard:
    """What a question was about, whose states the next one often needs, too.

    Attributes:
        clip: the recording, or its part ``place``. states: of the clip by all upstreams of a run.
    """

    recognizer: Recognizer
    recording: Recording
    place: int | None
    clip: Recording
    states: dict[str, Tensor]


class Service:
    """Answers requests; models are loaded once a run, and one request computes at a time.

    Args:
        runs: by name. upstreams: as given to extract; needed for those that lie in folders.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    """

    def __init__(
        self,
        runs: Mapping[str, Run],
        uploads: Uploads,
        upstreams: Sequence[str] = (),
        device: str = "auto",
        limits: Limits | None = None,
    ) -> None:
        self.runs, self.uploads, self.limits = dict(runs), uploads, limits or Limits()
        self._upstreams, self._device = tuple(upstreams), device
        self._recognizers: OrderedDict[str, tuple[object, Recognizer]] = OrderedDict()
        self._computing = threading.RLock()
        self._heard: _Heard | None = None

    def recognizer(self, run: str) -> Recognizer:
        """A run's models with their upstreams: loaded at the first call, and again once it was trained anew.

        Raises:
            RunError: they cannot be loaded. ConfigError: there is no such device.
        """
        with self._computing:
            version = self.runs[run].version()
            kept, found = self._recognizers.get(run, (None, None))
            if found is None or kept != version:
                # What is replaced goes first: both might not fit into memory.
                self._heard = None
                self._recognizers.pop(run, None)
                while len(self._recognizers) >= KEPT_RUNS:
                    self._recognizers.popitem(last=False)
                found = Recognizer.from_run(self.runs[run].path, self._upstreams, self._device)
                self._recognizers[run] = (version, found)
            self._recognizers.move_to_end(run)
            return found

    def read(self, path: Path) -> Recording:
        """An upload, decoded into memory; its file is gone afterwards.

        Raises:
            AudioError: it is too large or too long, or cannot be judged.
        """
        with self.uploads.taken(path):
            if path.is_file() and path.stat().st_size > self.limits.size:
                raise AudioError(f"is too large: more than {self.limits.megabytes:g} MB", file=path)
            return Recording.of_file(path, path.name, self.limits.seconds).in_memory()

    def dropped(self, path: Path, run: str, languages: Sequence[str]) -> Iterator[Shown]:
        """A new clip: ever more of what is shown of it."""
        try:
            recording = self.read(path)
        except MserError as error:
            yield Shown(message=view.message(error, path.name))
        else:
            yield from self.judged(recording, run, languages)

    def judged(self, recording: Recording, run: str, languages: Sequence[str]) -> Iterator[Shown]:
        """A clip judged by heads of a run: the clip, then what they say, then what the first one's answer rests on."""
        shown = Shown(clip=view.clip(recording), recording=recording)
        yield shown
        try:
            shown = self._judged(shown, recording, run, languages)
            yield shown
            yield replace(shown, explained=self._explained(recording, run, languages[0], shown.place))
        except MserError as error:
            yield replace(shown, message=view.message(error, recording.name))

    def explained(self, shown: Shown, run: str, language: str, place: int | None) -> Shown:
        """The same, with the explanation of another language's answer, or about another part."""
        recording = shown.recording
        if recording is None:
            return shown
        shown = replace(shown, language=language, place=place, message="", explained="")
        try:
            return replace(shown, explained=self._explained(recording, run, language, place))
        except MserError as error:
            return replace(shown, message=view.message(error, recording.name))

    def _judged(self, shown: Shown, recording: Recording, run: str, languages: Sequence[str]) -> Shown:
        if not languages:
            raise ConfigError("No language is chosen.")
        shown = replace(shown, languages=tuple(languages), language=languages[0])
        with self._computing:
            recognizer = self.recognizer(run)
            if recording.seconds <= LONGEST_WHOLE:
                heard = self._hear(recognizer, recording, None)
                return replace(shown, judged=view.answers(recognizer.answers(recording, languages, heard.states)))
            found = list(recognizer.timeline(recording, languages, WINDOW, HOP))
            picture = BytesIO()
            timeline_picture(found, picture)
        own = [one for one in found if one.language == languages[0]]
        return replace(
            shown,
            judged=view.means(found),
            over_time=view.timeline(found, picture.getvalue()),
            parts=tuple(f"{clock(one.start)} – {clock(one.end)}" for one in own),
            place=max(range(len(own)), key=lambda place: own[place].confidence),
        )

    def _explained(self, recording: Recording, run: str, language: str, place: int | None) -> str:
        with self._computing:
            recognizer = self.recognizer(run)
            heard = self._hear(recognizer, recording, place)
            found = explain(recognizer, heard.clip, language, heard=heard.states)
            picture = BytesIO()
            explanation_picture(found, heard.clip, picture)
        return view.explanation(found, picture.getvalue())

    def _hear(self, recognizer: Recognizer, recording: Recording, place: int | None) -> _Heard:
        heard = self._heard
        same = heard is not None and heard.recognizer is recognizer and heard.recording is recording
        if heard is None or not same or heard.place != place:
            self._heard = None
            clip = recording
            if place is not None:
                clip = part(recording, *spans(recording.seconds, WINDOW, HOP)[place])
            heard = self._heard = _Heard(recognizer, recording, place, clip, recognizer.hear(clip))
        return heard

    def forget(self, shown: Shown) -> None:
        """Called when a page is closed: nothing of its clip stays in memory."""
        with self._computing:
            if self._heard is not None and shown.recording is self._heard.recording:
                self._heard = None
