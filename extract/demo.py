"""Small synthetic corpora, spoken by espeak-ng, to try the whole chain without a download.

A demo corpus is the full grid of its speakers, sentences and emotions. An emotion is a manner of
speaking laid over the habits of the speaker, and every utterance strays a little from it; voices
differ among themselves as well, so that the emotion can be heard, but by no single threshold.
Sentences are the same for all emotions. Recordings are mono, 16-bit, at espeak-ng's own 22 050 Hz.

espeak-ng keeps flutter and noise states for as long as it is loaded; neither a new seed nor a new
initialisation clears them. Each corpus is therefore spoken in an interpreter of its own, and by no
voice with breath (f2, f3, f5), whose noise is another in every process. So the bytes of a corpus
depend on nothing but this recipe, the installed espeak-ng and the platform.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import shutil
import subprocess
import sys
import wave
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from mser.errors import CorpusError

RECIPE = 1  # raised whenever the same call would speak other recordings
SEED = 20
MARKER = "complete.json"
HINT = "pip install mser[demo]"


@dataclass(frozen=True)
class Manner:
    """A way of speaking: a speaker's habit, or what an emotion does to it; ordered as espeak_PARAMETER."""

    rate: float  # words a minute; of an emotion: a factor
    volume: float  # amplitude, where 100 is espeak's own; of an emotion: a factor
    pitch: float  # espeak's scale, 0 to 99; of an emotion: steps added
    pitch_range: float  # likewise


MANNERS = {
    "ang": Manner(rate=1.17, volume=1.45, pitch=8, pitch_range=14),
    "hap": Manner(rate=1.06, volume=1.10, pitch=20, pitch_range=36),
    "neu": Manner(rate=1.00, volume=1.00, pitch=0, pitch_range=0),
    "sad": Manner(rate=0.84, volume=0.70, pitch=-8, pitch_range=-16),
}
LOWEST = Manner(rate=160, volume=42, pitch=38, pitch_range=32)  # speakers' habits lie evenly
HIGHEST = Manner(rate=176, volume=52, pitch=50, pitch_range=44)  # between these two
STRAY = Manner(rate=0.04, volume=0.08, pitch=4, pitch_range=7)  # standard deviation of an utterance


@dataclass(frozen=True)
class Language:
    """What is spoken in a language, and by whom."""

    voice: str  # espeak-ng's name of the language
    variants: dict[str, str]  # speaker (the letter is the gender): espeak-ng's voice variant
    sentences: tuple[str, ...]  # everyday statements


LANGUAGES = {
    "de": Language(
        voice="de",
        variants={"f1": "f1", "f2": "f4", "f3": "linda", "m1": "m3", "m2": "m7", "m3": "klatt4"},
        sentences=(
            "Der Bus hält vor der Bäckerei.",
            "Die Schlüssel liegen auf dem Tisch.",
            "Am Montag kommt der Brief an.",
            "Das Fenster im Flur steht offen.",
            "Wir treffen uns nach der Arbeit.",
        ),
    ),
    "en": Language(
        voice="en-us",
        variants={"f1": "f1", "f2": "f4", "f3": "steph", "m1": "m3", "m2": "m6", "m3": "adam"},
        sentences=(
            "The bus stops outside the bakery.",
            "The keys are lying on the table.",
            "The letter arrives on Monday.",
            "The window in the hall is open.",
            "We are meeting after work today.",
        ),
    ),
    "it": Language(
        voice="it",
        variants={"f1": "f1", "f2": "f4", "f3": "linda", "m1": "m3", "m2": "m7", "m3": "adam"},
        sentences=(
            "L'autobus si ferma al mercato.",
            "Le chiavi sono sopra il tavolo.",
            "La lettera arriva di lunedì.",
            "La finestra in sala è aperta.",
            "Ci vediamo stasera dopo cena.",
        ),
    ),
}


@dataclass(frozen=True)
class Line:
    """One utterance, as espeak-ng is told to speak it."""

    path: str  # speaker/speaker_sentence_emotion, within the corpus and without suffix
    voice: str
    text: str
    manner: tuple[int, int, int, int]  # words a minute, volume to 200, pitch and its range to 99


def plan(language: str) -> list[Line]:
    """Every utterance of a demo corpus, in the order of speaking; speaks nothing.

    Raises:
        CorpusError: if there is no demo corpus in that language.
    """
    if language not in LANGUAGES:
        known = ", ".join(LANGUAGES)
        raise CorpusError("There is no such demo corpus.", field="language", expected=known, found=language)
    spoken = LANGUAGES[language]
    chance = random.Random(f"{SEED} {language}")
    lines = []
    for speaker, variant in spoken.variants.items():
        habit = Manner(*map(chance.uniform, astuple(LOWEST), astuple(HIGHEST)))
        strength = chance.uniform(0.85, 1.15)  # some speakers show more than others
        for number, text in enumerate(spoken.sentences, 1):
            for emotion, manner in MANNERS.items():
                path, voice = f"{speaker}/{speaker}_s{number}_{emotion}", f"{spoken.voice}+{variant}"
                lines.append(Line(path, voice, text, _spot(habit, manner, strength, chance)))
    return lines


def _spot(habit: Manner, manner: Manner, strength: float, chance: random.Random) -> tuple[int, int, int, int]:
    """A habit moved by `strength` times an emotion's manner and by chance, as espeak-ng takes it."""
    rate = habit.rate * manner.rate**strength * (1 + chance.gauss(0, STRAY.rate))
    volume = habit.volume * manner.volume**strength * (1 + chance.gauss(0, STRAY.volume))
    pitch = habit.pitch + manner.pitch * strength + chance.gauss(0, STRAY.pitch)
    pitch_range = habit.pitch_range + manner.pitch_range * strength + chance.gauss(0, STRAY.pitch_range)
    return round(rate), round(volume), round(max(0, min(99, pitch))), round(max(0, min(99, pitch_range)))


def make_demo_corpora(
    folder: Path,
    *,
    languages: Sequence[str] = ("de", "en", "it"),
    progress: Callable[[str], None] | None = None,
) -> dict[str, int]:
    """Speaks the demo corpora that `folder` lacks, each into its folder `demo_<language>`.

    A corpus is spoken into `demo_<language>.partial` and takes its name when it is complete. One that is
    complete and of the present recipe stays as it is; one of another recipe is spoken anew.

    Args:
        folder: where the corpora are to lie; made if missing.
        languages: keys of :data:`LANGUAGES`.
        progress: told one line of text a corpus.

    Returns:
        Corpus name to number of utterances, for all of `languages`.

    Raises:
        CorpusError: for another language, if espeak-ng cannot be loaded or fails, or if a folder of that
            name is there which was not written by this function.
    """
    counts = {f"demo_{language}": len(plan(language)) for language in languages}
    for language in languages:
        corpus = Path(folder).resolve() / f"demo_{language}"
        count = counts[corpus.name]
        there = _is_complete(corpus, count)
        if not there:
            _espeak_paths()  # says at once, and in this process, what is not installed
            _speak_apart(language, corpus)
        if progress is not None:
            progress(f"{corpus.name}: {count} utterances{', already there' if there else ' spoken'}")
    return counts


def _is_complete(corpus: Path, count: int) -> bool:
    """Whether a folder holds all `count` recordings of the present recipe.

    Raises:
        CorpusError: if the folder is there without a marker, and so is not ours to replace.
    """
    if not corpus.exists():
        return False
    try:
        recipe = json.loads((corpus / MARKER).read_text(encoding="utf-8"))["recipe"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorpusError(
            "This folder has a demo corpus's name, but no marker of one.", file=corpus / MARKER, found=error,
            hint="move or remove the folder",
        ) from error  # fmt: skip
    return bool(recipe == RECIPE) and len(list(corpus.rglob("*.wav"))) == count


def _espeak_paths() -> tuple[str, str]:
    """Paths of the espeak-ng library and of its data; CorpusError if they are not installed."""
    try:
        import espeakng_loader

        return espeakng_loader.get_library_path(), espeakng_loader.get_data_path()
    except (ImportError, RuntimeError) as error:
        raise CorpusError("espeak-ng is not installed.", found=error, hint=HINT) from error


def _speak_apart(language: str, corpus: Path) -> None:
    """Speaks a corpus in an interpreter of its own, then puts it in place; CorpusError if that failed."""
    partial = corpus.with_name(corpus.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    here = str(Path(__file__).resolve().parents[1])
    paths = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    call = "import sys; from extract.demo import speak; speak(*sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", call, language, str(partial)],
        env={**os.environ, "PYTHONPATH": paths, "PYTHONUTF8": "1"},
        check=False, capture_output=True, encoding="utf-8", errors="replace",
    )  # fmt: skip
    if done.returncode != 0:
        said = done.stderr.rpartition("mser.errors.")[2].strip()  # our own error, else the whole traceback
        found = f"exit code {done.returncode}: {said or 'no message'}"
        raise CorpusError("espeak-ng could not speak a demo corpus.", file=partial, found=found, hint=HINT)
    if corpus.exists():
        shutil.rmtree(corpus)
    partial.rename(corpus)


def speak(language: str, folder: str) -> None:
    """Speaks a whole corpus into an empty folder, the marker last.

    To be called once in a process: a second call would speak other bytes.

    Raises:
        CorpusError: if espeak-ng cannot be loaded or refuses a line.
    """
    lines = plan(language)
    espeak = _Espeak()
    for line in lines:
        file = Path(folder, line.path + ".wav")
        file.parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(file), "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(espeak.sample_rate)
            out.writeframes(espeak.say(line))
    made = {"recipe": RECIPE, "seed": SEED, "utterances": len(lines), "espeak_ng": espeak.version}
    Path(folder, MARKER).write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


class _Espeak:
    """espeak-ng by its C interface (speak_lib.h); CorpusError if it cannot be loaded or does not start."""

    SYNCHRONOUS, DONT_EXIT, UTF8, BY_CHARACTER = 2, 0x8000, 1, 1

    def __init__(self) -> None:
        library, data = _espeak_paths()
        try:
            c: Any = ctypes.CDLL(library)
        except OSError as error:
            raise CorpusError("espeak-ng cannot be loaded.", file=library, found=error, hint=HINT) from error
        # text, size in bytes, first position, its kind, last position, flags, id, user data
        number, pointer = ctypes.c_uint, ctypes.c_void_p
        head = [ctypes.c_char_p, ctypes.c_size_t, number, ctypes.c_int]
        c.espeak_Synth.argtypes = [*head, number, number, pointer, pointer]
        c.espeak_Info.restype = ctypes.c_char_p
        # Hz; 0 or less if it did not start.
        self.sample_rate = int(c.espeak_Initialize(self.SYNCHRONOUS, 0, os.fsencode(data), self.DONT_EXIT))
        if self.sample_rate <= 0:
            wanted = "its data, on a path of at most 150 characters"
            raise CorpusError("espeak-ng does not start.", file=data, expected=wanted, hint=HINT)
        self.version = c.espeak_Info(None).decode("ascii", "replace")
        self._c, self._samples = c, bytearray()
        # C keeps no more than the pointer, so the callback must stay referred to from here.
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, pointer)
        self._callback = kind(self._collect)
        c.espeak_SetSynthCallback(self._callback)

    def _collect(self, samples: Any, count: int, events: int | None) -> int:
        """Called from C with `count` samples; 0 asks for more."""
        if samples and count > 0:
            self._samples += ctypes.string_at(samples, 2 * count)
        return 0

    def say(self, line: Line) -> bytes:
        """A line's samples, 16-bit mono in the machine's byte order; CorpusError if espeak-ng refuses it."""
        self._samples.clear()
        text, kind = line.text.encode() + b"\0", self.BY_CHARACTER
        status = self._c.espeak_SetVoiceByName(line.voice.encode())
        for parameter, value in enumerate(line.manner, start=1):
            status = status or self._c.espeak_SetParameter(parameter, value, 0)
        status = status or self._c.espeak_Synth(text, len(text), 0, kind, 0, self.UTF8, None, None)
        status = status or self._c.espeak_Synchronize()
        if status or not self._samples:
            found = f"status {status}, {len(self._samples)} bytes"
            raise CorpusError("espeak-ng refused a line.", file=line.path, field=line.voice, found=found)
        return bytes(self._samples)
