"""File lists of further corpora, made from their documented naming alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import product


def _kannada() -> list[str]:
    """speaker-emotion-sentence: 13 speakers, 6 emotions, 6 sentences."""
    return [f"{s:02}-{e:02}-{t:02}.wav" for s, e, t in product(range(1, 14), range(1, 7), range(1, 7))]


def _emouerj() -> list[str]:
    """Gender, speaker of it, emotion, take; the published takes of an emotion are dealt out evenly to the speakers."""
    speakers = [f"{gender}{number:02}" for gender, number in product("mw", range(1, 5))]
    takes = {"h": 91, "a": 94, "s": 100, "n": 92}
    return [f"emoUERJ/{speakers[k % 8]}{emotion}{k // 8 + 1:02}.wav" for emotion, n in takes.items() for k in range(n)]


def _indowave() -> list[str]:
    """actor-emotion-intensity-repetition: 10 actors, 5 emotions, 2 intensities, 3 times."""
    parts = product(range(1, 11), range(1, 6), range(1, 3), range(1, 4))
    return [f"{a:02}-{e:02}-{i:02}-{r:02}.wav" for a, e, i, r in parts]


def _kazemotts() -> list[str]:
    """narrator/part/narrator_emotion_number, where numbers run over the whole corpus: a few of 54760."""
    narrators = ("1263201035", "399172782", "805570882")
    emotions = ("neutral", "angry", "happy", "sad", "fear", "surprise")
    found = enumerate(product(narrators, ("train", "eval"), emotions))
    return [f"{narrator}/{part}/{narrator}_{emotion}_{number}.wav" for number, (narrator, part, emotion) in found]


def _demos() -> list[str]:
    """DEMOS/PR or NP, gender, speaker, emotion, number and letter; NEU without the first: a few of 9697."""
    people = (("m", "02"), ("f", "61"), ("m", "69"))
    moods = ("rab", "tri", "gio", "pau", "dis", "col", "sor")
    moved = [f"DEMOS/{p}_{g}_{s}_{e}00a.wav" for p, (g, s), e in product(("PR", "NP"), people, moods)]
    return moved + [f"NEU/{g}_{s}_neu01{letter}.wav" for (g, s), letter in product(people, "ab")]


_FILM = ("Luca Biaggini", "Nuria Llop", "Sean Penn", "Xavier Fernández", "????")


def _emofilm() -> list[str]:
    """Gender, emotion, three digits, letter, language; all three languages lie in one folder: a few of 1115."""
    parts = product("fm", ("ans", "dis", "gio", "rab", "tri"), (4, 23), "ab", ("it", "es", "en"))
    return [f"wav_corpus/{g}_{e}{n:03}{letter}{language}.wav" for g, e, n, letter, language in parts]


def _emofilm_legend() -> dict[str, str]:
    """A table a gender, with name, actor and film."""
    names = [path.split("/")[1].removesuffix(".wav") for path in _emofilm()]
    rows = {gender: [name for name in names if name[0] == gender[0]] for gender in ("female", "male")}
    return {
        f"legend_{gender}.csv": "file,speaker,film\n"
        + "".join(f"{name},{_FILM[k % len(_FILM)]},A film\n" for k, name in enumerate(found))
        for gender, found in rows.items()
    }


def _mess() -> list[str]:
    """Emotion, speaker, kind of sentence, number: 25 of each, 1800 in all."""
    parts = product("ACHS", ("F1", "F2", "F3", "M1", "M2", "M3"), "MTV", range(1, 26))
    return [f"MESS/{emotion}{speaker}{kind}{number:02}_SCR.wav" for emotion, speaker, kind, number in parts]


def _castro_lima() -> list[str]:
    """Running number, kind, speaker, emotion, number within it: so many of A, then so many of B."""
    counts = {
        "s": {"angry": (16, 16), "disgust": (6, 6), "fear": (12, 12), "happy": (15, 14), "neutral": (16, 14),
              "sad": (15, 16), "surprise": (16, 16)},
        "p": {"angry": (15, 16), "disgust": (11, 12), "fear": (8, 9), "happy": (12, 5), "neutral": (16, 14),
              "sad": (12, 16), "surprise": (16, 16)},
    }  # fmt: skip
    paths = []
    for kind, emotions in counts.items():
        takes = [(emotion, k + 1, "A" if k < a else "B") for emotion, (a, b) in emotions.items() for k in range(a + b)]
        paths += [f"{n}{kind}{speaker}_{emotion}{k}.wav" for n, (emotion, k, speaker) in enumerate(takes, 1)]
    return paths


def _mspimprov() -> list[str]:
    """Audio/session/scene/kind/name: two sessions, one sentence in four emotions, the four kinds of turn."""
    parts = product((1, 2), "AHNS", "FM", "PRST")
    return [
        f"Audio/session{n}/S01{e}/{k}/MSP-IMPROV-S01{e}-{g}{n:02}-{k}-{'FM' if g == 'F' else 'MF'}01.wav"
        for n, e, g, k in parts
    ]


def _mspimprov_ratings() -> dict[str, str]:
    """A head line a turn with the majority, and a line a listener below it."""
    lines = []
    for k, path in enumerate(_mspimprov()):
        name, label = path.split("/")[-1].removesuffix(".wav"), "AHNSOX"[k % 6]
        lines.append(f"{name}.avi; {label}; A:2.833333; V:3.166667; D:2.833333 ; N:3.600000;\n")
        lines.append("W01; Neutral; Neutral,; A:3.000000; V:3.000000; D:3.000000; N:4.000000;\n\n")
    return {"Evalution.txt": "".join(lines)}


_QUECHUA = ("happy", "sadness", "bored", "fear", "sleepy", "calm", "excited", "angry", "neutral", "anger", "boredom")


def _quechua() -> list[str]:
    """Audios/number: a few of 12420."""
    return [f"Audios/{number}.wav" for number in range(11000, 11000 + 6 * len(_QUECHUA))]


def _quechua_map() -> dict[str, str]:
    """The sheet with number, emotion, actor and file of the script."""
    parts = enumerate(product(range(1, 7), _QUECHUA))
    rows = [f"{11000 + k},{emotion},a{actor},a{actor}_T{k:03}\n" for k, (actor, emotion) in parts]
    return {"Data/Data/Data.csv": "Audio,Emotion,Actor,File\n" + "".join(rows)}


def _emota() -> list[str]:
    """emotion/speaker_sentence_emotion: every speaker, some of the 19 sentences."""
    emotions = ("happy", "sad", "angry", "fear", "neutral")
    parts = product(emotions, range(1, 23), (1, 10, 19))
    return [f"{emotion}/{speaker:02}_{sentence:02}_{emotion[:3]}.wav" for emotion, speaker, sentence in parts]


def _sitb_osed() -> list[str]:
    """sample-emotion-dialect-actor: four actors a dialect, two samples of each emotion."""
    parts = product(range(1, 21), enumerate(("a", "d", "f", "h", "s", "su"), 1), (1, 2))
    return [f"{letter}{k}-{e:02}-{(actor - 1) // 4 + 1:02}-{actor:02}.wav" for actor, (e, letter), k in parts]


def _fau_aibo() -> list[str]:
    """wav/school_child_turn_chunk: a few children of both schools."""
    parts = product(("Ohm", "Mont"), (1, 2, 20), (0, 137), range(5))
    return [f"wav/{school}_{child:02}_{turn:03}_{chunk:02}.wav" for school, child, turn, chunk in parts]


def _fau_aibo_labels() -> dict[str, str]:
    """A line a chunk: name, class, confidence."""
    names = [path.split("/")[1].removesuffix(".wav") for path in _fau_aibo()]
    return {"chunk_labels_5cl_corpus.txt": "".join(f"{n} {'NEAPR'[k % 5]} 0.75\n" for k, n in enumerate(names))}


_RATED = ("neutral", "happy", "surprise", "angry", "sad", "disqust", "fear", "happy;neutral")


def _kemdy20() -> list[str]:
    """wav/Session/name: two people a session, six topics."""
    parts = product((1, 40), (0, 1), range(1, 7), (1, 2))
    return [
        f"wav/Session{s:02}/Sess{s:02}_script{t:02}_User{2 * s - 1 + p:03}{'FM'[p]}_{k:03}.wav" for s, p, t, k in parts
    ]


def _kemdy20_ratings() -> dict[str, str]:
    """A table a session with two head lines; the second and third columns are times, the fourth is the name."""
    head = "Numb,Wav, ,Segment ID,Total Evaluation, .1, .2,Eval01F\n ,start,end, ,Emotion,Valence,Arousal,Emotion\n"
    found: dict[str, str] = {}
    for k, path in enumerate(_kemdy20()):
        name = path.split("/")[-1].removesuffix(".wav")
        table = f"annotation/{name[:6]}_eval.csv"
        found[table] = found.get(table, head) + f"{k},0.1,1.5,{name},{_RATED[k % 8]},3.1,2.9,neutral\n"
    return found


def _kemdy19() -> list[str]:
    """wav/Session/scene/name: written and free scenes of a woman and a man."""
    scenes = [f"{kind}{n:02}" for kind, n in product(("script", "impro"), (1, 2))]
    parts = product((1, 20), scenes, "FM", (0, 1))
    return [f"wav/Session{s:02}/Sess{s:02}_{c}/Sess{s:02}_{c}_{g}{k:03}.wav" for s, c, g, k in parts]


def _kemdy19_ratings() -> dict[str, str]:
    """Two tables a session, one for the sensors of each person, with the same ratings of all turns."""
    head = (
        "Numb,Wav,,ECG,,E4-EDA,,E4-TEMP,,Segment ID,Total Evaluation,,,Eval01F\n,start,end,,,,,,,,Emotion,,,Emotion\n"
    )
    found: dict[str, str] = {}
    for k, path in enumerate(_kemdy19()):
        name = path.split("/")[-1].removesuffix(".wav")
        for gender in "FM":
            table = f"annotation/Session{name[4:6]}_{gender}_res.csv"
            row = f"{k},0.1,1.5,1,2,3,4,5,{6 if gender == 'F' else 7},{name},{_RATED[k % 8]},3.1,2.9,neutral\n"
            found[table] = found.get(table, head) + row
    return found


def _eaed() -> list[str]:
    """series/actor/actor_emotion_ number: a few of 3614."""
    emotions = ("happy", "sad", "angry", "neutral", "surprised", "fearful")
    parts = product(("NellyKarim", "AhmedAmin"), emotions, (1, 2, 12))
    return [f"Series/{actor}/{actor}_{emotion}_ {number:02}.wav" for actor, emotion, number in parts]


def _thorsten_emotional() -> list[str]:
    """emotion/hash: the same 300 hashes in each of eight folders."""
    styles = ("amused", "angry", "disgusted", "drunk", "neutral", "sleepy", "surprised", "whisper")
    hashes = [hashlib.md5(str(k).encode(), usedforsecurity=False).hexdigest() for k in range(300)]
    return [f"{style}/{one}.wav" for style, one in product(styles, hashes)]


def _hash(k: int) -> str:
    return hashlib.md5(f"dusha {k}".encode(), usedforsecurity=False).hexdigest()


def _dusha() -> list[str]:
    """part/wavs/hash: a few of 201850."""
    return [f"crowd_{'test' if k % 4 == 3 else 'train'}/wavs/{_hash(k)}.wav" for k in range(40)]


def _dusha_raw() -> dict[str, str]:
    """A table a part with several rows a recording, one a listener."""
    head = ["hash_id", "audio_path", "duration", "annotator_emo", "golden_emo", "annotator_id", "speaker_text"]
    found: dict[str, str] = {}
    for k, path in enumerate(_dusha()):
        part, _, name = path.split("/")
        emotion = ("angry", "sad", "neutral", "positive", "other")[k % 5]
        table = f"{part}/raw_{part}.tsv"
        found.setdefault(table, "\t".join([*head, "speaker_emo", "source_id"]) + "\n")
        for listener, heard in enumerate(("neutral", emotion)):
            row = [name[:-4], f"wavs/{name}", "3.2", heard, "", f"l{listener}", f"слова {k % 7}", emotion, f"s{k % 9}"]
            found[table] += "\t".join(row) + "\n"
    return found


def _jtes() -> list[str]:
    """speaker/emotion/speaker_emotion_sentence: four of 100 speakers, 4 emotions, 50 sentences each."""
    parts = product(("f01", "f50", "m01", "m50"), ("ang", "joy", "neu", "sad"), range(1, 51))
    return [f"{speaker}/{emotion}/{speaker}_{emotion}_{k:02}.wav" for speaker, emotion, k in parts]


def _e_seravd() -> list[str]:
    """version-emotion-source-T-number: 300 of each emotion, dealt out to the six sources."""
    sources = ("AADC", "D1990", "DHB", "HA3", "HSL", "TAOL")
    emotions = ("Angry", "Sad", "Neutral", "Happy")
    parts = product(enumerate(emotions, 1), range(300))
    return [f"{name}/{sources[k % 6]}/02-{e:02}-{sources[k % 6]}-T-{k + 1:04}.wav" for (e, name), k in parts]


def _ogvc() -> list[str]:
    """actor/dialogue/player, utterance, emotion, strength: two utterances of each emotion by the four actors."""
    emotions = ("ACC", "ANG", "ANT", "DIS", "FEA", "JOY", "SAD", "SUR")
    parts = product(("F1", "F2", "M1", "M2"), enumerate(emotions), (1, 2), range(4))
    return [f"{actor}/{k + 1:02}/FOY{k + 1:02}{u:02}{emotion}{level}.wav" for actor, (k, emotion), u, level in parts]


def _syntact() -> list[str]:
    """voice_emotion_phrase: six voices, six emotions, the first phrases."""
    emotions = ("happy", "angry", "sad", "neutral", "bored", "scared")
    parts = product(("de1", "de2", "de3", "de4", "de6", "de7"), emotions, range(3))
    return [f"wav/{voice}_{emotion}_p{phrase:06}.wav" for voice, emotion, phrase in parts]


def _kbes() -> list[str]:
    """emotion-intensity-gender and more, which is not documented."""
    return [f"{e}-{i}-{g}-{k}-1.wav" for e, i, g, k in product(range(1, 6), (1, 2), (0, 1), (1, 20))]


#: All documented paths of a corpus, or some of them.
TREES: dict[str, Callable[[], list[str]]] = {
    "castro_lima": _castro_lima,
    "demos": _demos,
    "dusha": _dusha,
    "e_seravd": _e_seravd,
    "eaed": _eaed,
    "emofilm_en": _emofilm,
    "emofilm_es": _emofilm,
    "emofilm_it": _emofilm,
    "emota": _emota,
    "emouerj": _emouerj,
    "fau_aibo": _fau_aibo,
    "indowave": _indowave,
    "jtes": _jtes,
    "kannada": _kannada,
    "kazemotts": _kazemotts,
    "kbes": _kbes,
    "kemdy19": _kemdy19,
    "kemdy20": _kemdy20,
    "mess": _mess,
    "mspimprov": _mspimprov,
    "ogvc": _ogvc,
    "quechua": _quechua,
    "sitb_osed": _sitb_osed,
    "syntact": _syntact,
    "thorsten_emotional": _thorsten_emotional,
}
#: The tables that come with a corpus: path -> text.
TABLES: dict[str, Callable[[], dict[str, str]]] = {
    "dusha": _dusha_raw,
    "emofilm_en": _emofilm_legend,
    "emofilm_es": _emofilm_legend,
    "emofilm_it": _emofilm_legend,
    "fau_aibo": _fau_aibo_labels,
    "kemdy19": _kemdy19_ratings,
    "kemdy20": _kemdy20_ratings,
    "mspimprov": _mspimprov_ratings,
    "quechua": _quechua_map,
}
#: Trees with every path of the published counts.
COMPLETE: set[str] = {"castro_lima", "e_seravd", "emouerj", "indowave", "kannada", "mess", "thorsten_emotional"}
