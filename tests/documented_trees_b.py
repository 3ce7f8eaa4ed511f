"""File lists of corpora I to R as their documentation describes them, written without the definitions."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product


def iemocap() -> list[str]:
    """SessionN/sentences/wav/DIALOGUE/DIALOGUE_XNNN: the dialogue names the session, X is the speaker's gender."""
    return [
        f"Session{number}/sentences/wav/{dialogue}/{dialogue}_{gender}{turn:03d}.wav"
        for number, wears, scene, gender, turn in _iemocap_turns()
        for dialogue in [f"Ses{number:02d}{wears}_{scene}"]
    ]


def iemocap_tables() -> dict[str, str]:
    """One text a dialogue: times, turn, emotion and three attributes between tabs, then what each listener said."""
    emotions = ("ang", "dis", "exc", "fea", "fru", "hap", "neu", "oth", "sad", "sur", "xxx")
    texts: dict[str, str] = {}
    for place, (number, wears, scene, gender, turn) in enumerate(_iemocap_turns()):
        dialogue = f"Ses{number:02d}{wears}_{scene}"
        path = f"Session{number}/dialog/EmoEvaluation/{dialogue}.txt"
        head = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
        texts[path] = texts.get(path, head) + (
            f"[{turn + 6.2901:.4f} - {turn + 8.2357:.4f}]\t{dialogue}_{gender}{turn:03d}\t"
            f"{emotions[place % len(emotions)]}\t[2.5000, 2.5000, 2.5000]\n"
            "C-E2:\tNeutral;\t()\nA-E3:\tval 3; act 2; dom  2;\t()\n\n"
        )
    return texts


def _iemocap_turns() -> list[tuple[int, str, str, str, int]]:
    return list(product(range(1, 6), "FM", ("impro01", "script01_1", "script01_1b"), "FM", (0, 1)))


def jlcorpus() -> list[str]:
    """speaker_emotion_NS_T: 4 speakers, 10 emotions, 15 sentences N, 2 sessions S, 2 takes T."""
    emotions = "angry anxious apologetic assertive concerned encouraging excited happy neutral sad".split()
    names = product(("female1", "female2", "male1", "male2"), emotions, range(1, 16), "ab", (1, 2))
    folder = "Raw JL corpus (unchecked and unannotated)/JL(wav+txt)"
    return [f"{folder}/{who}_{emotion}_{number}{session}_{take}.wav" for who, emotion, number, session, take in names]


#: Dramas of M3ED: those who speak as A and B in each dialogue; a name of one drama is somebody else in another.
M3ED_DRAMAS = {
    "shaonianpai": [("王胜男", "林大为"), ("林妙妙", "王胜男")],
    "yijiarenzhiming": [("p3", "P1"), ("P1", "陈婷")],
    "waixiangren": [("P1", "小水")],
}
M3ED_EMOTIONS = ("Neutral", "Surprise", "Disgust", "Anger", "Sad", "Happy", "Fear")


def m3ed() -> list[str]:
    """modality_speech/S_DRAMA_DIALOGUE_UTTERANCE: S is A or B, the speakers of a dialogue; numbers may lack some."""
    return [f"modality_speech/{who}_{drama}_{one}_{two}.wav" for drama, one, two, who in _m3ed_turns()]


def m3ed_tables() -> dict[str, str]:
    """annotation.json: drama, dialogue, then who A and B are, and the utterances with speaker and labels."""
    found: dict[str, dict[str, dict[str, dict[str, object]]]] = {}
    for drama, one, two, who in _m3ed_turns():
        emotion = M3ED_EMOTIONS[(one + two) % 7] if two > 2 or one > 1 else M3ED_EMOTIONS[two - 1]
        names = dict(zip("AB", M3ED_DRAMAS[drama][one - 1], strict=True))
        info = {
            letter: {"Name": name, "Age": "mid", "Gender": {"A": "female", "B": "male"}[letter], "OtherName": []}
            for letter, name in names.items()
        }
        dialogue = found.setdefault(drama, {}).setdefault(f"{drama}_{one}", {"SpeakerInfo": dict(info), "Dialog": {}})
        votes = {f"EmoAnnotator{number}": emotion for number in (1, 2, 3)}
        dialogue["Dialog"][f"{drama}_{one}_{two}"] = {
            "StartTime": "00:00:00:01", "EndTime": "00:00:01:03", "Text": "钟点工阿姨", "Speaker": who,
            "EmoAnnotation": {**votes, "final_mul_emo": f"{emotion},Fear", "final_main_emo": emotion},
        }  # fmt: skip
    return {"annotation.json": json.dumps(found, ensure_ascii=False, indent=4)}


def _m3ed_turns() -> list[tuple[str, int, int, str]]:
    return [
        (drama, one, two, "AB"[(two + two // 3) % 2 == 0])
        for drama, dialogues in M3ED_DRAMAS.items()
        for one in range(1, len(dialogues) + 1)
        for two in range(1, 16)
        if (one, two) != (1, 11)
    ]


def mead() -> list[str]:
    """ACTOR/audio/EMOTION/level_N/NNN, converted: 30 sentences an emotion and level, 40 neutral ones of level 1."""
    emotions = "angry contempt disgusted fear happy sad surprised".split()
    loud = product(("M003", "W040"), emotions, (1, 2, 3), (1, 15, 30))
    calm = product(("M003", "W040"), ("neutral",), (1,), (1, 15, 40))
    return [f"{who}/audio/{emotion}/level_{level}/{number:03d}.flac" for who, emotion, level, number in (*loud, *calm)]


#: Folder of the clips and of the table of each part of MELD, below the folder of the corpus.
MELD_PARTS = {
    "train": ("train/train_splits", "train"),
    "dev": ("dev_splits_complete", "."),
    "test": ("output_repeated_splits_test", "."),
}
MELD_HEAD = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"
MELD_ROLES = ("Chandler", "Phoebe", "All", "Richard’s Date", "Phoebe/Waitress")
MELD_EMOTIONS = ("anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise")


def meld(part: str) -> list[str]:
    """diaN_uttM in the folder of the part, converted; N and M count from 0 in every part."""
    return [f"{MELD_PARTS[part][0]}/dia{one}_utt{two}.flac" for one, two in product(range(7), range(5))]


def meld_tables(part: str) -> dict[str, str]:
    """PART_sent_emo.csv: a row an utterance, with dialogue and utterance in columns of their own."""
    rows = [
        f'{7 * one + two},"Well, so it is.",{MELD_ROLES[two]},{MELD_EMOTIONS[one]},neutral,{one},{two},8,21,'
        '"00:16:16,059","00:16:21,731"'
        for one, two in product(range(7), range(5))
    ]
    return {f"{MELD_PARTS[part][1]}/{part}_sent_emo.csv".removeprefix("./"): "\n".join([MELD_HEAD, *rows, ""])}


#: Folder of MER2023 -> what its names begin with.
MER_PARTS = {"train": "sample_", "test1": "sample_", "test2": "sample_", "test3": "samplenew_"}
MER_EMOTIONS = ("angry", "happy", "neutral", "sad", "surprise", "worried")


def mer2023() -> list[str]:
    """PART/sample_NNNNNNNN, samplenew_NNNNNNNN for newer clips, converted; no name occurs in two parts."""
    return [
        f"{part}/{start}{1000 * place + number:08d}.flac"
        for place, (part, start) in enumerate(MER_PARTS.items())
        for number in range(12)
    ]


def mer2023_tables() -> dict[str, str]:
    """PART-label.csv: name, emotion and, but for part 2, valence."""
    texts = {f"{part}-label.csv": "name,discrete" + ",valence" * (part != "test2") + "\n" for part in MER_PARTS}
    for place, path in enumerate(mer2023()):
        part, name = path.rsplit(".", 1)[0].split("/")
        texts[f"{part}-label.csv"] += f"{name},{MER_EMOTIONS[place % 6]}" + ",0.5" * (part != "test2") + "\n"
    return texts


def mesd() -> list[str]:
    """EMOTION_VOICE_LIST_WORD: 24 words of list A by every voice in every emotion; some of list B."""
    words = (
        "abajo adios antes arriba ayer basta_ya de_nada delante dentro derecha detras fuera gracias hola hoy izquierda "
        "lento no nunca por_favor pronto rapido si tarde"
    ).split()
    emotions = "Anger Disgust Fear Happiness Neutral Sadness".split()
    names = [f"{emotion}_{voice}_A_{word}" for emotion, voice, word in product(emotions, "FMC", words)]
    names += ["Disgust_C_B_abandono", "Sadness_M_B_locura", "Happiness_C_B_fresco", "Anger_F_B_enganado"]
    return [f"Mexican Emotional Speech Database (MESD)/{name}.wav" for name in names]


MSP_NAMES = ("0001_0008", "0001_0009", "0047_0295_0001", "0047_0295_0002", "0114_0176_0001", "0804_0108")
MSP_SPEAKERS = ("30,Male", "39,Female", "Unknown,Unknown")


def msppodcast() -> list[str]:
    """Audios/MSP-PODCAST_PPPP_NNNN: podcast and turn; a turn cut in parts has a third number."""
    return [f"Audios/MSP-PODCAST_{name}.wav" for name in _msp_names()]


def msppodcast_tables() -> dict[str, str]:
    """Labels/labels_consensus.csv: name, a letter for the emotion, activation, valence, dominance, speaker, part."""
    rows = [
        f"MSP-PODCAST_{name}.wav,{'ACDFHNOSUX'[place % 10]},2.2,3.777778,4.0,{MSP_SPEAKERS[place % 3]},Train"
        for place, name in enumerate(_msp_names())
    ]
    head = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set"
    return {"Labels/labels_consensus.csv": "\n".join([head, *rows, ""])}


def _msp_names() -> list[str]:
    return [*MSP_NAMES, *(f"0202_{number:04d}" for number in range(100, 124))]


def oreau() -> list[str]:
    """GENDER/sessE/SSaNNEa: speaker S, sentence N within the emotion E; 79 sentences, 10 to 13 an emotion."""
    speakers = (("f", "10"), ("f", "42"), ("m", "07"), ("m", "41"))
    return [
        f"OréauFR_02/{gender}/sess{emotion.lower()}/{speaker}a{number:02d}{emotion}a.wav"
        for (gender, speaker), emotion, number in product(speakers, "CDJNPST", range(1, 11))
    ]


def pavoque() -> list[str]:
    """PROMPT-STYLE: the prompts m of all four acted styles, some of each other kind, and one outtake."""
    shared = product(range(1, 21), ("angry", "happy", "poker", "sad"))
    others = (
        "a0001-neutral e0238-neutral m0405-neutral prudence0001-neutral spike0008-angry poker_a0001-angry "
        "poppy0069-happy poker_f0001-happy obadiah0111-sad poker_d0001-sad poker_n0001-poker a0014a-neutral"
    ).split()
    return [f"wav/{name}.wav" for name in (*(f"m{number:04d}-{style}" for number, style in shared), *others)]


def polish() -> list[str]:
    """SPEAKER.E_WORD_N: 5 men, 3 emotions, 6 words, 5 takes."""
    words = ("nie", "oddaj", "podaj", "stop", "tak", "trzymaj")
    return [f"m{who}.{e}_{word}_{take}.wav" for who, e, word, take in product(range(1, 6), "asn", words, range(1, 6))]


def ravdess() -> list[str]:
    """Actor_AA/03-01-EE-II-SS-TT-AA: 24 actors, 8 emotions, 2 strengths (neutral: 1), 2 sentences, 2 takes."""
    return [
        f"Actor_{actor:02d}/03-01-{emotion:02d}-{strength:02d}-{sentence:02d}-{take:02d}-{actor:02d}.wav"
        for actor, emotion, strength, sentence, take in product(range(1, 25), range(1, 9), (1, 2), (1, 2), (1, 2))
        if (emotion, strength) != (1, 2)
    ]


def thai_ser_tables() -> dict[str, str]:
    """emotion_label.json: name -> a list of one record, for the turns of the main microphone; votes, and agreement."""
    emotions = ("Neutral", "Angry", "Happy", "Sad", "Frustrated")
    scripts = product((1, 2), (1, 2, 3), range(1, 6), "ab")
    turns = {f"script{one}_{two}_{digit}{take}": emotions[digit - 1] for one, two, digit, take in scripts}
    turns |= {f"impro{one}_{two}": emotions[one - 1] for one, two in product(range(1, 6), range(1, 9))}
    found = {
        f"s{(actor + 1) // 2:03}_con_actor{actor:03}_{turn}.flac": emotion
        for actor in range(1, 9)
        for turn, emotion in turns.items()
    }
    # Those of the examples.
    found |= {"s001_con_actor001_script2_2_2b.flac": "Angry", "s003_con_actor005_script2_2_2b.flac": "Angry"}
    labels = {
        name: [{"annotated": [[emotion], ["Other"]], "majority_emo": None, "agreement": 0.5, "assigned_emo": emotion}]
        for name, emotion in found.items()
    }
    return {"emotion_label.json": json.dumps(labels)}


#: Corpus -> its documented files, or some dozens of them.
TREES: dict[str, Callable[[], list[str]]] = {
    "iemocap": iemocap,
    "jlcorpus": jlcorpus,
    "m3ed": m3ed,
    "mead": mead,
    "meld": lambda: [path for part in MELD_PARTS for path in meld(part)],
    "mer2023": mer2023,
    "mesd": mesd,
    "msppodcast": msppodcast,
    "oreau": oreau,
    "pavoque": pavoque,
    "polish": polish,
    "ravdess": ravdess,
}
#: Corpus -> its tables by relative path; THAI SER's files are listed elsewhere.
TABLES: dict[str, Callable[[], dict[str, str]]] = {
    "iemocap": iemocap_tables,
    "m3ed": m3ed_tables,
    "meld": lambda: {name: text for part in MELD_PARTS for name, text in meld_tables(part).items()},
    "mer2023": mer2023_tables,
    "msppodcast": msppodcast_tables,
    "thai_ser": thai_ser_tables,
}
#: Corpora of which every file is listed above.
COMPLETE: set[str] = {"jlcorpus", "polish", "ravdess"}
