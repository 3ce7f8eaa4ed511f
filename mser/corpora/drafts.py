"""What a definition lacks though it reads its folder: speakers to split by, texts that come back, answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath

from mser.corpora.codes import words_in
from mser.corpora.definition import CorpusDefinition
from mser.corpora.outcome import Outcome
from mser.corpora.proposal import Question
from mser.corpora.writing import ASKED, QUESTION

#: A test, a dev and a training speaker.
LEAST_SPEAKERS = 3
#: Words that are shown of those that are lost.
SHOWN = 3
#: Keys that a proposal leaves open.
OPEN = ("licence", "citation", "get")
#: Severity, sentence, key of the definition that it belongs to.
Doubt = tuple[str, str, str]


def lost_emotions(outcome: Outcome) -> Iterator[Question]:
    """What is to be asked of files that are not read, though their names hold words for emotions."""
    found: dict[tuple[str, str], list[PurePosixPath]] = defaultdict(list)
    for path, _ in outcome.unlike:
        for word in {word for part in path.with_suffix("").parts for word in words_in(part)}:
            found[word].append(path)
    told = [
        f"{word!r} ({label}) in {len(paths)}, such as {paths[0]}"
        for (word, label), paths in sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    ]
    if told:
        more = f"; and {len(told) - SHOWN} words more" if len(told) > SHOWN else ""
        yield Question(
            "pattern", f"What is the scheme of files that are not read, with {'; '.join(told[:SHOWN])}{more}?"
        )


def unanswered(definition: CorpusDefinition) -> Iterator[Doubt]:
    """What a proposed definition still asks."""
    unknown = [key for key in OPEN if getattr(definition, key).strip().lower() == ASKED]
    path = definition.source.path
    lines = path.read_text(encoding="utf-8").splitlines() if path is not None and path.is_file() else []
    questions = sum(line.lstrip().startswith(f"# {QUESTION}") for line in lines)
    told = [f"{', '.join(unknown)} {'are' if len(unknown) > 1 else 'is'} {ASKED}"] if unknown else []
    told += [f"{questions} lines # {QUESTION} are left in the file: answer and delete them"] if questions else []
    if told:
        yield "warning", "; ".join(told), unknown[0] if unknown else "title"


def unmapped_all(definition: CorpusDefinition) -> Iterator[Doubt]:
    """Emotions that are all left out: a manifest would be empty."""
    if definition.emotions and not any(definition.emotions.values()):
        yield (
            "error",
            "every label is left out (null): map those that are emotions to labels of labels.yaml",
            "emotions",
        )


def speakers_to_split_by(definition: CorpusDefinition, outcome: Outcome) -> Iterator[Doubt]:
    """Speakers that are not told apart, or too few of them; facts where the definition says so itself."""
    number = len(outcome.speakers)
    if not outcome.utterances or number >= LEAST_SPEAKERS:
        return
    kinds = {defect["kind"] for defect in definition.defects}
    known = kinds & {"one-speaker", "no-speakers"} or definition.expected.get("speakers") == number
    advice = f"the protocol `speakers` needs {LEAST_SPEAKERS}, for training, dev and test; PROTOCOL=random-70-10-20 "
    advice += "takes fewer, and measures nothing for new speakers"
    told = "speakers are not told apart" if outcome.speakers == {ASKED} else f"only {number} speaker{'s'[: number - 1]}"
    yield "fact" if known else "warning", f"{told}: {advice}", "speaker"


def texts_that_never_return(definition: CorpusDefinition, outcome: Outcome) -> Iterator[Doubt]:
    """A text of its own for each file, where people were given what to say, only numbers the files."""
    texts = [text for one in outcome.utterances if (text := one.fields.get("text_id"))]
    if definition.speech != "spontaneous" and len(set(texts)) == len(texts) == len(outcome.utterances) > 1:
        advice = "text_id is no sentence that comes back; leave it out, or read it at another place"
        yield "warning", f"as many texts as files, such as {', '.join(sorted(texts)[:3])}: {advice}", "text_id"
