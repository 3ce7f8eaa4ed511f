"""File trees of corpora as their documentation describes them, written without their definitions."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product


def _aesdd() -> list[str]:
    """Folder the emotion; its first letter, two digits the sentence, the speaker in brackets; some takes more."""
    folders = ("anger", "disgust", "fear", "happiness", "sadness")
    usual = [
        f"{one}/{one[0]}{text:02} ({speaker}).wav" for one, text, speaker in product(folders, (1, 20), range(1, 7))
    ]
    return [*usual, "fear/f13 (01).wav", "sadness/s02 (5)b.wav", "sadness/s01 (5)a.wav"]


def _ased() -> list[str]:
    """xn-yy-aa-gg-bb: emotion and folder number, sentence, repetition, gender, speaker."""
    folders = ("01Neutral/n1", "02Fearful/f2", "03Happy/h3", "04Sad/s4", "05Angry/a5")
    who = ("01-01", "02-06", "02-65")
    usual = [
        f"{one}-{text:02}-{take}-{who}.wav" for one, text, take, who in product(folders, range(1, 8), ("01", "02"), who)
    ]
    return [*usual, "04Sad/S4-04-02-01-29.wav", "02Fearful/f2-07-02-02-21.wav"]


def _asvpesd() -> list[str]:
    """Modality, channel, emotion, intensity, statement, actor, age, source, language, resemblance, joined by -."""
    languages = ("01", "02", "04")
    usual = [
        f"Audio/actor_{actor}/03-01-{emotion:02}-0{strong}-07-{actor:02}-02-03-{language}{end}.wav"
        for emotion, strong, actor, language, end in product(range(1, 14), (1, 2), (5, 112), languages, ("", "-77"))
    ]
    return [
        *usual,
        "Audio/actor_12/03-01-06-01-02-12-02-01-01-16.wav",
        "Audio/actor_0/03-01-02-01-41-00-01-03-01.wav",
        "Audio/actor_1/03-01-03-01-02-01-02-03-03.wav",
        "Audio/actor_123/03-02-09-01-07-123-02-02-02-09.wav",
        "Audio/actor_93/03-01-04-01-01-93-02-02.wav",
        "Bonus/actor_150/03-02-04-01-91-150-04-01-00-14-05.wav",
    ]


def _cafe() -> list[str]:
    """Folders emotion and intensity; actor-emotion-intensity-sentence; neutral is mild only, without its folder."""
    emotions = ("Colère", "Dégoût", "Joie", "Peur", "Surprise", "Tristesse")
    strengths = ((1, "Faible"), (2, "Fort"))
    acted = [
        f"{emotion}/{folder}/{actor:02}-{emotion[0]}-{strength}-{text}.wav"
        for emotion, (strength, folder), actor, text in product(emotions, strengths, range(1, 13), range(1, 7))
    ]
    return acted + [f"Neutre/{actor:02}-N-1-{text}.wav" for actor, text in product(range(1, 13), range(1, 7))]


def _casia() -> list[str]:
    """Folder the speaker, folder the emotion, number the sentence from 201 to 250."""
    speakers = ("liuchanhg", "wangzhe", "zhaoquanyin", "ZhaoZuoxiang")
    emotions = ("angry", "fear", "happy", "neutral", "sad", "surprise")
    return [f"{who}/{emotion}/{text}.wav" for who, emotion, text in product(speakers, emotions, range(201, 251))]


def _cremad() -> list[str]:
    """Actor_sentence_emotion_level; levels for one sentence only, none for neutral; 20 takes are not there."""
    texts = "IEO TIE IOM IWW TAI MTI IWL ITH DFA ITS TSI WSI".split()
    missing = {(1002, "TIE", "NEU"), (1076, "ITS", "NEU")}
    missing |= set(product((1008,), ("WSI",), "ANG DIS FEA HAP NEU SAD".split()))
    missing |= set(product((1009,), ("MTI",), "ANG DIS FEA HAP NEU SAD".split()))
    missing |= set(product((1019,), ("ITH",), "ANG DIS FEA HAP NEU SAD".split()))
    return [
        f"AudioWAV/{actor}_{text}_{emotion}_{level}.wav"
        for actor, text, emotion in product(range(1001, 1092), texts, "ANG DIS FEA HAP NEU SAD".split())
        if (actor, text, emotion) not in missing
        for level in (("LO", "MD", "HI") if text == "IEO" and emotion != "NEU" else ("XX",))
    ]


#: Name, emotion and level of some recordings of EMNS.
_EMNS = {
    "wC6dAsG": ("Happy", 3),
    "3HcoloC": ("Sad", 8),
    "NiFbKKy": ("Surprised", 4),
    "RF6OuQ4": ("Disgust", 0),
    "KkeDrQa": ("Excited", 10),
    "aaaaaaa": ("Angry", 1),
    "bbbbbbb": ("Neutral", 0),
    "ccccccc": ("Sarcastic", 5),
}


def _emns() -> list[str]:
    """One folder of names that tell nothing, here as converted from webm."""
    return [f"cleaned_webm/recorded_audio_{name}.flac" for name in _EMNS]


def _emns_table() -> dict[str, str]:
    """Columns parted by bars; the path is that of another folder, with the suffix of before."""
    head = "id|utterance|description|emotion|date_created|status|gender|age|level|audio_recording|user_id"
    rows = [
        f"{number}|Sentence {number}, as read.|{{transcription}} said {{user_id}} in a {{emotion}} voice.|{emotion}|"
        f"2022-07-16 15:43:06.014790|Complete|female|20s|{level}|wavs/recorded_audio_{name}.webm|3"
        for number, (name, (emotion, level)) in enumerate(_EMNS.items(), start=390)
    ]
    return {"metadata.csv": "\n".join([head, *rows, ""])}


def _emovdb() -> list[str]:
    """Speaker and emotion in the folder; emotion, range of sentences and sentence in the name."""
    names = {"Amused": "amused", "Angry": "anger", "Disgusted": "disgust", "Neutral": "neutral", "Sleepy": "sleepiness"}
    usual = [
        f"{who}_{folder}/{name}_1-28_{text:04}.wav"
        for who, (folder, name), text in product(("bea", "jenie", "josh", "sam"), names.items(), (1, 11, 28))
        if (who, folder) not in {("josh", "Angry"), ("josh", "Disgusted")}
    ]
    return [*usual, "sam_Disgusted/Disgust_169_196_0183.wav", "bea_Neutral/Neutral_253-280_0260.wav"]


#: Emotion and actor of some recordings of Emozionalmente.
_EMOZIONALMENTE = {
    "1613655062436": ("neutrality", "3111cf7b"),
    "1619253465089": ("sadness", "3a8927e9"),
    "1613063132088": ("joy", "322ad29c"),
    "1613478518982": ("anger", "e61c967e"),
    "1614016987617": ("disgust", "01de3a31"),
    "1614016987618": ("fear", "01de3a31"),
    "1614016987619": ("surprise", "3111cf7b"),
}


def _emozionalmente() -> list[str]:
    """One folder of names that are times."""
    return [f"audio/{name}.wav" for name in _EMOZIONALMENTE]


def _emozionalmente_table() -> dict[str, str]:
    """A row a recording, with actor, sentence and the emotion that was meant."""
    rows = [f'{name}.wav,{who},"Una frase, come detta.",{emotion}' for name, (emotion, who) in _EMOZIONALMENTE.items()]
    return {"metadata/samples.csv": "\n".join(["file_name,actor,sentence,emotion_expressed", *rows, ""])}


def _enterface() -> list[str]:
    """Folders subject, emotion, sentence; subject_emotion_sentence, converted from avi; with the known slips."""
    emotions = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
    cut = [number for number in range(1, 45) if number not in (6, 12)]
    found = []
    for subject, emotion, text in product(cut, emotions, range(1, 6)):
        if (subject, emotion) == (23, "happiness") and text > 2:
            continue
        name = {3: "s_3", 11: "s12"}.get(subject, f"s{subject}")
        end = "avi" if (subject, emotion, text) == (16, "surprise", 3) else ""
        found.append(f"subject {subject}/{emotion}/sentence {text}/{name}_{emotion[:2]}_{text}{end}.wav")
    return found + [f"subject 6/{emotion}/s6_{emotion[:2]}.wav" for emotion in emotions]


def _esd(speakers: range) -> list[str]:
    """Folders speaker and emotion; speaker_number, 350 an emotion and numbered on from one to the next."""
    emotions = ("Neutral", "Angry", "Happy", "Sad", "Surprise")
    return [
        f"{who:04}/{emotion}/{who:04}_{350 * place + text:06}.wav"
        for who, (place, emotion), text in product(speakers, enumerate(emotions), range(1, 351))
    ]


def _emodb() -> list[str]:
    """Two digits the speaker, three signs the text, a letter the emotion, a letter the version."""
    speakers = ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")
    return [f"wav/{who}{text}{emotion}a.wav" for who, text, emotion in product(speakers, ("a01", "b10"), "WLEAFTN")]


def _emovo() -> list[str]:
    """Folder the speaker; emotion-speaker-sentence, 14 sentences."""
    texts = "b1 b2 b3 l1 l2 l3 l4 n1 n2 n3 n4 n5 d1 d2".split()
    emotions = "dis gio neu pau rab sor tri".split()
    return [f"{who}/{one}-{who}-{text}.wav" for who, one, text in product("f1 f2 f3 m1 m2 m3".split(), emotions, texts)]


def _savee() -> list[str]:
    """Folder the speaker; letters the emotion, two digits the sentence: 30 for neutral, 15 for the others."""
    texts = {"a": 15, "d": 15, "f": 15, "h": 15, "n": 30, "sa": 15, "su": 15}
    return [
        f"{who}/{emotion}{text:02}.wav"
        for who, (emotion, count) in product(("DC", "JE", "JK", "KL"), texts.items())
        for text in range(1, count + 1)
    ]


def _urdu() -> list[str]:
    """Folder the emotion; SGX_FXX_EYY: gender and speaker, file of the speaker, file of the emotion."""
    speakers = {"Angry": ("SM1", "SM4"), "Happy": ("SF1", "SM7"), "Neutral": ("SF9", "SM5"), "Sad": ("SF10", "SM25")}
    return [
        f"{emotion}/{who}_F{file}_{emotion[0]}0{20 * place + file}.wav"
        for emotion, both in speakers.items()
        for place, who in enumerate(both)
        for file in range(1, 11)
    ]


TREES: dict[str, Callable[[], list[str]]] = {
    "aesdd": _aesdd,
    "ased": _ased,
    "asvpesd_en": _asvpesd,
    "asvpesd_fr": _asvpesd,
    "asvpesd_zh": _asvpesd,
    "cafe": _cafe,
    "casia": _casia,
    "cremad": _cremad,
    "emns": _emns,
    "emodb": _emodb,
    "emovdb": _emovdb,
    "emovo": _emovo,
    "emozionalmente": _emozionalmente,
    "enterface": _enterface,
    "esd_en": lambda: _esd(range(11, 21)),
    "esd_zh": lambda: _esd(range(1, 11)),
    "savee": _savee,
    "urdu": _urdu,
}
TABLES: dict[str, Callable[[], dict[str, str]]] = {"emns": _emns_table, "emozionalmente": _emozionalmente_table}
#: Trees that are the whole corpus: what is read of them must have the expected counts.
COMPLETE: set[str] = {"cafe", "casia", "cremad", "emovo", "enterface", "esd_en", "esd_zh", "savee"}
