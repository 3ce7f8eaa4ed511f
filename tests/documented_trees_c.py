"""Paths of corpora as their documentation gives them, written without a look at the definitions."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

_TESS_WORDS = """
    back bar base bath bean beg bite boat bone book bought burn cab calm came cause chain chair chalk chat check
    cheek chief choice cool dab date dead death deep dime dip ditch dodge dog doll door fail fall far fat fit
    five food gap gas gaze germ get gin goal good goose gun half hall hash hate have haze hire hit hole home
    hurl hush jail jar join judge jug juice keen keep keg kick kill king kite knock late laud lean learn lease
    lid life limb live loaf long lore lose lot love luck make match merge mess met mill mob mode mood moon mop
    mouse nag name near neat nice note numb pad page pain pass pearl peg perch phone pick pike pole pool puff
    rag raid rain raise rat reach read red ring ripe road room rose rot rough rush said sail search seize sell
    shack shall shawl sheep shirt should shout size soap soup sour south sub such sure take talk tape team tell
    thin third thought thumb time tip tire ton tool tough turn vine voice void vote wag walk wash week wheat
    when which whip white wife wire witch yearn yes young youth
"""
#: Speaker, then the highest number of each emotion, and the numbers that are not there.
_SHEMO = """
    F01 A23 F3 H7 N14 S22 W4, F02 A3 F1 H4 N8 S14 W4, F03 A10 F3 H5 N16 S9 W10, F04 A16 N2, F05 A3 N59 S3 W3,
    F06 A2 F1 H11 N1 S9 W3, F07 A64 H15 N14 S45-30 W6, F08 N1 W1, F09 A14 F2 H3 N17 S11 W4, F10 A60 N2 W2, F11
    N10 S4 W1, F12 A13 F1 N14, F13 A23 N2 W3, F14 H2 N9 W1, F15 A4 N4, F16 F2 S4 W1, F17 A3 H1 N1 S10 W1, F18 A1
    N1 S2, F19 N38 S5, F20 H5 N18 W6, F21 A58 H13 N38 S35 W30, F22 A9 F1 H4 N6 S15 W3, F23 A19 H7 N14 S3 W1, F24
    A70 F4 H27 N20 S15 W24, F25 A7 N4, F26 F1 N6 S3, F27 A3 H1 N1, F28 A26 H1 N7 S6, F29 H1 N10 W1, F30 A8 F1 H6
    N8 S10 W1, F31 A11 S1, M01 H1 N2 W1, M02 A28 H4 N19 S2, M03 A49 F2 H2 N9 S20 W7, M04 A12 H2 N82 S9 W2, M05
    A15-12-13 F1 H2 N26-5-6-7-8-9-10 S21-14-15-16-17-18-19-20 W4-3, M06 A2 N6 S7 W1, M07 F5 H2 N8 S1 W1, M08 H4
    N11 S1, M09 A23 N3, M10 A2 F1 N1, M11 H9 N6 S1, M12 A69 H1 N96 S5 W9, M13 A1 H3 N1, M14 N6 S1, M15 A13 N4
    W1, M16 A33 F1 H8 N5 W2, M17 A1 H1 N9 S1 W1, M18 A1 N17 S1, M19 A5 N9 S1 W2, M20 A8 H2 N8 S1 W4, M21 A4 F1
    H3 N10 S1 W7, M22 A6 H1 N35 S2 W1, M23 A2 H2 W1, M24 A4 H1 N7 S2 W4, M25 A70 H5 N26 S9 W10, M26 A37 N18 S4
    W2, M27 N65 W1, M28 A46 H3 N30 S21 W3, M29 A19 N6 S1, M30 A7 N9, M31 A5 N13 S1 W1, M32 A1 H3 N4 S5 W1, M33
    A1 N2, M34 A10 H6 N3 S5, M35 A1 N1 W1, M36 H1 N3 S6 W1, M37 A1 N20, M38 A1 N15, M39 A1 H2 N1 W1, M40 A5 N56
    S1, M41 A5 H7 N2 W7, M42 A13 N1, M43 A17 H3 N8 W7, M44 A1 F1 H9 N26 S4 W3, M45 N6 W1, M46 A5 N11 W1, M47 A20
    H1 N27 W2, M48 A4 N12 S1 W1, M49 H1 N5, M50 A12 N3, M51 N24 S2, M52 N3 S4, M53 A28 N27 S2, M54 A1 N4-1 S1,
    M55 A4 H1 N6, M56 A1 N5 W1
"""
_BAVED = """
    0/0-m-21-0-1-105 0/17-m-23-0-2-117 0/49-m-23-6-1-201 0/50-f-5-0-1-24 0/56-f-40-0-2-97 1/3-f-21-1-2-267
    1/4-m-20-1-0-394 1/50-f-5-1-1-291 1/56-f-40-1-0-324 1/56-f-40-1-0-329 1/56-f-40-1-1-337 2/100-f-6-2-0-24
    2/55-m-16-2-0-778 2/55-m-16-2-2-819 2/56-f-40-2-0-627 3/50-f-5-3-0-829 3/50-f-5-3-0-832 3/50-f-5-3-1-839
    3/50-f-5-3-1-844 3/56-f-40-3-0-881 3/56-f-40-3-2-917 4/0-m-21-4-1-1184 4/102-f-40-4-1-52 4/103-f-22-4-1-55
    4/44-f-21-4-2-1087 4/47-m-20-4-2-1261 4/49-m-23-4-1-1284 4/49-m-23-4-1-1288 4/50-f-5-4-2-1113
    4/54-f-19-4-1-1128 4/55-m-16-4-0-1312 5/47-m-20-5-1-1508 5/50-f-5-5-0-1377 6/47-m-20-6-0-1737
    6/47-m-20-6-1-1739 6/5-m-20-6-2-1787 6/50-f-5-6-1-1620 6/56-f-40-6-0-1647 6/56-f-40-6-0-1661
    6/56-f-40-6-2-1682
"""
_TUREV_WORDS = "acik algi beste bugu cay cekirge kemik konuk lokma satir sevgi turev"
_SUBESCO_SPEAKERS = """
    F_01_OISHI F_02_MONIKA F_03_SMITA F_04_SWARNALI F_05_MOUNI F_06_SIMI F_07_TITHI F_08_JOYEETA F_09_CHAITY
    F_10_FAHMEE M_01_BASHIR M_02_NIPUN M_03_ILIAS M_04_BIBHAS M_05_DURANTO M_06_SHUKANTO M_07_SIBLY M_08_PRASUN
    M_09_SHUMANTA M_10_EVAN
"""


def _resd() -> list[str]:
    """Dialogue, its two emotions and the letter of the turn; dialogues up to 11 have another folder and a space."""
    old = ["01_happiness_anger", "04_fear_enthusiasm", "07_fear_neutral", "08_sadness_anger"]
    new = ["anger_disgust_19", "enthusiasm_sadness_47", "happiness_neutral_18", "neutral_fear_27", "sadness_disgust_12"]
    dialogues = [(one, f"{one} ", one.split("_")[1:]) for one in old]
    for one in new:
        first, second, number = one.split("_")
        dialogues.append((one, f"{number}_{first}_{second}_", [first, second]))
    return [
        f"{part}/{folder}/{head}{emotion[0]}_{turn}0.wav"
        for folder, head, emotions in dialogues
        for emotion in emotions
        for part, turn in (("train", "01"), ("train", "03"), ("test", "02"))
    ]


def _shemo() -> list[str]:
    """Folder of women or men, then speaker, letter of the emotion, number within both."""
    found = []
    for one in " ".join(_SHEMO.split()).split(", "):
        speaker, *emotions = one.split(" ")
        for emotion in emotions:
            last, *gone = (int(number) for number in emotion[1:].split("-"))
            numbers = (number for number in range(1, last + 1) if number not in gone)
            folder = "female" if speaker[0] == "F" else "male"
            found += [f"{folder}/{speaker}{emotion[0]}{number:02}.wav" for number in numbers]
    return found


def _subesco() -> list[str]:
    """20 speakers, 10 sentences, 7 emotions, 5 takes; one name ends in a bracket."""
    emotions = "ANGRY DISGUST FEAR HAPPY NEUTRAL SAD SURPRISE".split()
    names = [
        f"{speaker}_S_{sentence}_{emotion}_{take}"
        for speaker, sentence, emotion, take in product(_SUBESCO_SPEAKERS.split(), range(1, 11), emotions, range(1, 6))
    ]
    odd = "F_02_MONIKA_S_2_SURPRISE_3"
    return [f"SUBESCO/{name}{']' if name == odd else ''}.wav" for name in names]


def _tess() -> list[str]:
    """2 women, 200 words, 7 emotions; one name lacks a letter."""
    emotions = "angry disgust fear happy neutral ps sad".split()
    names = ["_".join(parts) for parts in product(("OAF", "YAF"), _TESS_WORDS.split(), emotions)]
    return [f"{'OA_bite_neutral' if name == 'OAF_bite_neutral' else name}.wav" for name in names]


def _turevdb() -> list[str]:
    """Folder the emotion, then speaker, emotion and word: four speakers who said all, 12 of the 82 words."""
    emotions = [("Angry", "kz"), ("Calm", "sk"), ("Happy", "mt"), ("Sad", "hl")]
    return [
        f"Sound Source/{folder}/{speaker}_{code}_{word}.wav"
        for (folder, code), speaker, word in product(emotions, (1234, 1358, 1984, 6783), _TUREV_WORDS.split())
    ] + ["Sound Source/Sad/7895_hl_ogul1.wav"]


def _nemo() -> list[str]:
    """Speaker, emotion, sentence 1 to 90: the three speakers who said all."""
    emotions = "anger fear happiness neutral sadness surprised".split()
    return [
        f"samples/{'_'.join(map(str, parts))}.wav" for parts in product(("IC0", "KD0", "KS0"), emotions, range(1, 91))
    ]


def _emotale(language: str, lacking: tuple[int, ...] = ()) -> list[str]:
    """Language, speaker, emotion, sentence: 18 speakers in Danish, four of whom lack in English."""
    speakers = [speaker for speaker in (1, *range(3, 20)) if speaker not in lacking]
    return [
        f"wav/{language}_{speaker:03}_{emotion}_{sentence}.wav"
        for speaker, emotion, sentence in product(speakers, "ABHNS", range(1, 6))
    ]


def _baved() -> list[str]:
    """Folder the word, then speaker, gender, age, word, level, number: some of the names."""
    return [f"{name}.wav" for name in _BAVED.split()]


def _banglaser() -> list[str]:
    """34 speakers, 3 sentences, 3 repetitions, 4 emotions; 27 speakers (it is not said who) have neutral besides."""
    intensity = {1: 1, 2: 1, 3: 2, 4: 2, 5: 1}
    return [
        f"Actor {speaker:02}/03-01-{emotion:02}-{intensity[emotion]:02}-{sentence:02}-{take:02}-{speaker:02}.wav"
        for speaker, emotion, sentence, take in product(range(1, 35), intensity, range(1, 4), range(1, 4))
        if emotion != 5 or speaker <= 27
    ]


def _ksuemotions() -> list[str]:
    """Phase 1: 20 speakers, 16 sentences. Phase 2: 14 speakers, 12 sentences twice, anger for questions."""
    first = [f"{gender}{number:02}" for gender in "01" for number in range(1, 11)]
    second = "001 003 004 005 006 008 009 101 102 109 110 111 112 113".split()
    sentences = [*range(5, 13), *range(15, 19)]
    phases = [
        (1, (0, 1, 2, 3, 4), first, range(1, 17), (1,)),
        (2, (0, 1, 2, 3, 5), second, sentences, (1, 2)),
    ]
    return [
        f"data/SPEECH/Phase_{phase}/E{emotion:02}/D05E{emotion:02}P{speaker}S{sentence:02}T{take:02}.flac"
        for phase, *parts in phases
        for emotion, speaker, sentence, take in product(*parts)
    ]


def _jvnv() -> list[str]:
    """Folders speaker, emotion and session; the first three texts of the regular session."""
    emotions = "anger disgust fear happy sad surprise".split()
    return [
        f"{speaker}/{emotion}/regular/{speaker}_{emotion}_regular_{text:02}.wav"
        for speaker, emotion, text in product(("F1", "F2", "M1", "M2"), emotions, range(1, 4))
    ]


def _thai_ser() -> list[str]:
    """Recordings of two actors each: script turns, whose last field begins with the emotion."""
    return [
        f"studio{studio:03}/con/s{studio:03}_con_actor{actor:03}_script{script}_{sentence}_{emotion}{take}.flac"
        for studio in range(1, 5)
        for actor, script, sentence, emotion, take in product(
            (2 * studio - 1, 2 * studio), (1, 2), (1, 2, 3), range(1, 6), "ab"
        )
    ]


def _hindi() -> list[str]:
    """8 speakers, 5 sessions, 8 emotions, 10 sentences; one session with spaces in names, and some slips."""
    emotions = "anger disgust fear happy neutral sad sarcastic surprise".split()
    slips = {
        "4/session3/disgust/4.3.disgust-07": "4/session3/disgust/4.3.disgust 07",
        "4/session5/happy/4.5.happy-08": "4/session4/happy/4.5.happy-08",
        "7/session5/sad/7.5.sad-05": "7/session5/sad/7.5.Sad-05",
        "2/session3/happy/2.3.happy-04": "2/session3/happy/2.3.happpy-04",
        "2/session5/disgust/2.5.disgust-09": "2/session5/disgust/2.5.dusgust-09",
    }
    found = []
    for speaker, session, emotion, number in product(range(1, 9), range(1, 6), emotions, range(1, 11)):
        gap = " " if (speaker, session) == (4, 2) and emotion in emotions[:4] else ""
        name = f"{speaker}/session{session}/{emotion}/{speaker}.{session}.{gap}{emotion}-{number:02}"
        found.append(f"{slips.get(name, name)}.wav")
    return found


#: Corpus -> the paths of its recordings below its folder.
TREES: dict[str, Callable[[], list[str]]] = {
    "banglaser": _banglaser,
    "baved": _baved,
    "emotale_da": lambda: _emotale("DK"),
    "emotale_en": lambda: _emotale("EN", (14, 15, 18, 19)),
    "hindi": _hindi,
    "jvnv": _jvnv,
    "ksuemotions": _ksuemotions,
    "nemo": _nemo,
    "resd": _resd,
    "shemo": _shemo,
    "subesco": _subesco,
    "tess": _tess,
    "thai_ser": _thai_ser,
    "turevdb": _turevdb,
}
#: Corpus -> its tables: path -> text. None of these corpora is labelled by a table.
TABLES: dict[str, Callable[[], dict[str, str]]] = {}
#: Those whose trees are whole: they have the counts that are published.
COMPLETE: set[str] = {"banglaser", "emotale_da", "emotale_en", "hindi", "shemo", "subesco", "tess"}
