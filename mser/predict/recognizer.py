"""From a run's model and its upstreams to the emotion of a recording, with calibrated probabilities."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mser.errors import ConfigError
from mser.experts import Expert, averaging, expert_of_frames, expert_of_pooled
from mser.loader import Batch, Loader
from mser.predict import HOP, WINDOW
from mser.predict.extractor import Extractor, States, load_extractors
from mser.predict.head import TrainedHead, load_heads
from mser.predict.recording import Recording

#: Parts of a recording that the heads judge at a time.
BATCH = 64


@dataclass(frozen=True)
class Prediction:
    """What a run says of a recording, or of a part of it.

    Attributes:
        language: by whose gate and head. start, end: seconds of the part.
        emotions: E. probabilities: (E,), calibrated where ``calibrated``.
        gate: (K,) weight of each of ``experts``.
    """

    recording: str
    language: str
    start: float
    end: float
    emotions: tuple[str, ...]
    probabilities: np.ndarray
    experts: tuple[str, ...]
    gate: np.ndarray
    calibrated: bool

    @property
    def emotion(self) -> str:
        """The most probable one."""
        return self.emotions[int(self.probabilities.argmax())]

    @property
    def confidence(self) -> float:
        """The probability of the most probable emotion."""
        return float(self.probabilities.max())

    def says(self, abstain: float = 0.0) -> str:
        """The emotion, or ``unsure`` where its probability is below ``abstain``."""
        return self.emotion if self.confidence >= abstain else "unsure"


class Recognizer:
    """A trained run, ready to be asked.

    Args:
        heads: by language. extractors: of each upstream of a head, by its name and the fingerprint of its states.
    """

    def __init__(self, heads: Mapping[str, TrainedHead], extractors: Mapping[str, Extractor], device: torch.device):
        self.heads, self.extractors, self.device = dict(heads), dict(extractors), device
        for head in self.heads.values():
            head.model.to(device).eval()

    @classmethod
    def from_run(cls, path: Path | str, upstreams: Sequence[str] = (), device: str = "auto") -> Recognizer:
        """Loads the models for use of a run and the upstreams they need, each once.

        Args:
            path: folder of a run, or one model file of it.
            upstreams: as given to extract; needed for upstreams that lie in a folder.
            device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

        Raises:
            RunError: there is no model for use, or an upstream is missing or another one than it was trained with.
        """
        chosen = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        if chosen.type == "cuda" and not torch.cuda.is_available():
            raise ConfigError("There is no CUDA device.", field="device", expected="cpu or auto", found=device)
        heads = load_heads(Path(path))
        wanted = {key: provenance for head in heads.values() for key, provenance in head.stores.items()}
        keep = {key: sorted({head.features for head in heads.values() if key in head.stores}) for key in wanted}
        return cls(heads, load_extractors(wanted, upstreams, chosen, keep), chosen)

    @property
    def languages(self) -> tuple[str, ...]:
        return tuple(self.heads)

    def __call__(self, waveform: Tensor | np.ndarray, sample_rate: int, language: str) -> Prediction:
        """The emotion of an utterance.

        Args:
            waveform: (samples,) or (samples, channels), floating point in [-1, 1]. sample_rate: Hz.
            language: of the run.

        Raises:
            AudioError: it is too short, silent, not finite, or of integers. ConfigError: the run does not know the
                language.
        """
        (found,) = self.answers(Recording.of_samples(waveform, sample_rate), [language])
        return found

    def answers(
        self, recording: Recording, languages: Sequence[str] = (), heard: Mapping[str, Tensor] | None = None
    ) -> list[Prediction]:
        """What the heads of some languages (or of all) say of a whole recording.

        Args:
            heard: by :meth:`hear`; if not given, states are computed window by window, of which no more is kept than
                the heads need: for pooled features as much as for a second of sound, for others every frame.

        Raises:
            AudioError, ConfigError: as :meth:`__call__`.
        """
        heads = self.asked(languages)
        if heard is None:
            states = {key: [self.extractors[key].whole(recording)] for key in self._keys(heads)}
        else:
            states = {key: [self.extractors[key].kept(heard[key])] for key in self._keys(heads)}
        return [self.judge(head, states, recording, [(0.0, recording.seconds)])[0] for head in heads]

    def hear(self, recording: Recording, languages: Sequence[str] = ()) -> dict[str, Tensor]:
        """States of a whole recording by each upstream of some languages (or of all), for several questions.

        Returns:
            Those of all layers, (L, T, D) float32 on the device, by key of the store.

        Raises:
            AudioError, ConfigError: as :meth:`__call__`.
        """
        return {key: self.extractors[key].states(recording) for key in self._keys(self.asked(languages))}

    def timeline(
        self,
        recording: Recording,
        languages: Sequence[str] = (),
        window: float = WINDOW,
        hop: float = HOP,
        advance: Callable[[int, int], None] = lambda done, total: None,
    ) -> Iterator[Prediction]:
        """What the heads say of the parts of a recording, in the order of time.

        Each part is judged by states that have heard what surrounds it, so that every second is computed once.

        Args:
            window, hop: seconds: length of a part, and from the start of one to that of the next.
            advance: told parts done and in all.
        """
        heads, cut = self.asked(languages), spans(recording.seconds, window, hop)
        streams = {key: self.extractors[key].parts(recording, cut) for key in self._keys(heads)}
        for first in range(0, len(cut), BATCH):
            chosen = cut[first : first + BATCH]
            states = {key: [next(stream) for _ in chosen] for key, stream in streams.items()}
            judged = [self.judge(head, states, recording, chosen) for head in heads]
            for of_part in zip(*judged, strict=True):
                yield from of_part
            advance(first + len(chosen), len(cut))

    def asked(self, languages: Sequence[str] = ()) -> list[TrainedHead]:
        """The heads of some languages, or of all; raises ConfigError for one that the run was not trained on."""
        unknown = [language for language in languages if language not in self.heads]
        if unknown:
            raise ConfigError(
                "The run was not trained on this language.",
                field="language",
                expected=" ".join(self.languages),
                found=" ".join(unknown),
                hint="give one of these, or none for the answers of all of them",
            )
        return [self.heads[language] for language in languages or self.languages]

    def _keys(self, heads: Sequence[TrainedHead]) -> list[str]:
        return list(dict.fromkeys(key for head in heads for key in head.stores))

    def judge(
        self,
        head: TrainedHead,
        states: Mapping[str, Sequence[States]],
        recording: Recording,
        cut: Sequence[tuple[float, float]],
    ) -> list[Prediction]:
        """What a head says of the parts of a recording whose states are given, by key of the store.

        Args:
            cut: starts and ends in seconds from where the recording begins; told as times of what it is a part of.
        """
        batch = batch_of(head, states, self.device)
        with torch.inference_mode():
            output = head.model(head.language, batch)
        probabilities = (output.logits / head.temperature).softmax(1).cpu().numpy()
        experts = tuple(shape.name for shape in head.model.experts)
        spans = [(recording.start + start, recording.start + end) for start, end in cut]
        return [
            Prediction(recording.name, head.language, *span, head.emotions, own, experts, gate, head.calibrated)
            for span, own, gate in zip(spans, probabilities, output.gate.cpu().numpy(), strict=True)
        ]


def batch_of(head: TrainedHead, states: Mapping[str, Sequence[States]], device: torch.device) -> Batch:
    """A batch as training had it: by the same loader, from states as a store would hold them."""
    experts = [_expert(head, name, states[key]) for name, key in head.keys.items()]
    count = len(experts[0].frames)
    return Loader(experts, torch.zeros(count, dtype=torch.int64), device).gather(np.arange(count))


def _expert(head: TrainedHead, name: str, states: Sequence[States]) -> Expert:
    if head.features == "pooled":
        places = [(name, f"part {number}") for number in range(len(states))]
        pooled = [one.pooled for one in states if one.pooled is not None]
        return expert_of_pooled(name, torch.stack(pooled), places)
    factor = averaging(head.stores[head.keys[name]].frame_rate, head.frame_rate)
    frames = [one.frames for one in states if one.frames is not None]
    return expert_of_frames(name, frames, factor)


def spans(seconds: float, window: float, hop: float) -> list[tuple[float, float]]:
    """Starts and ends of the parts of a recording; the last one ends with it.

    >>> spans(9.0, 4.0, 2.0)
    [(0.0, 4.0), (2.0, 6.0), (4.0, 8.0), (5.0, 9.0)]
    >>> spans(3.0, 4.0, 2.0)
    [(0.0, 3.0)]

    Raises:
        ConfigError: a window of less than half a second, or parts that leave gaps.
    """
    if not window >= 0.5 or not 0 < hop <= window:
        raise ConfigError(
            "These windows cannot be used.",
            field="window, hop",
            expected="a window of half a second or more, and a hop above 0 and no longer than it",
            found=f"{window:g}, {hop:g}",
        )
    if seconds <= window:
        return [(0.0, seconds)]
    count = int(np.ceil((seconds - window) / hop - 1e-9))
    starts = [number * hop for number in range(count)]
    return [(start, start + window) for start in starts] + [(seconds - window, seconds)]
