"""The HTML of the page's answers. Every text that is not ours is escaped; pictures and sound lie within it as data."""

from __future__ import annotations

import io
import wave
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np

from mser.errors import AudioError, MserError
from mser.predict.explain import Explanation
from mser.predict.output import clock
from mser.predict.recognizer import Prediction
from mser.predict.recording import Recording

#: Hz at which clips are played.
PLAYED_RATE = 16_000

STYLE = """
.mser-card { border: 1px solid var(--border-color-primary); border-radius: 8px; padding: 12px 16px; margin: 0;
  background: var(--block-background-fill); }
.mser-cards { display: grid; gap: 12px; grid-template-columns: repeat(auto-fit, minmax(min(260px, 100%), 1fr)); }
.mser-card h3 { margin: 0 0 8px; font-size: 1.15rem; }
.mser-card h4 { margin: 12px 0 4px; font-size: 0.9rem; font-weight: 600; }
.mser-quiet { color: var(--body-text-color-subdued); font-size: 0.85rem; margin: 4px 0; }
.mser-error { border-left: 4px solid #c62828; padding: 10px 14px; border-radius: 4px;
  background: color-mix(in srgb, #c62828 10%, var(--block-background-fill)); }
.mser-error p { margin: 0; }
.mser-name { overflow-wrap: anywhere; font-weight: 600; }
.mser-clip audio { display: block; width: 100%; margin-top: 8px; }
.mser-bars { display: grid; grid-template-columns: minmax(0, max-content) minmax(60px, 1fr) max-content;
  gap: 3px 10px; align-items: center; font-size: 0.92rem; margin: 0; }
.mser-bars dt, .mser-bars dd { margin: 0; display: contents; }
.mser-bars dt span { overflow-wrap: anywhere; }
.mser-track { height: 10px; border-radius: 5px; background: var(--border-color-primary); overflow: hidden; }
.mser-track i { display: block; height: 100%; background: #1f77b4; }
.mser-gate .mser-track i { background: #2ca02c; }
.mser-number { text-align: right; font-variant-numeric: tabular-nums; }
.mser-wide { overflow-x: auto; margin-top: 12px; }
@media (max-width: 700px) { .mser-wide::before { content: "wider than the screen: scroll to the right";
  font-size: 0.85rem; color: var(--body-text-color-subdued); } }
.mser-wide img { width: 100%; min-width: 640px; border-radius: 6px; background: white; }
.mser-table { border-collapse: collapse; font-size: 0.88rem; width: 100%; }
.mser-table, .mser-table tr { border-style: none !important; }
.mser-table th, .mser-table td { text-align: left; padding: 3px 10px 3px 0; font-variant-numeric: tabular-nums;
  border-style: none none solid none !important; border-color: var(--border-color-primary) !important; }
"""


def heading() -> str:
    """What the page is."""
    return (
        "<h1>Emotions of a clip</h1>"
        '<p class="mser-quiet">What a classifier says that was trained on the corpora of a run. It judges how speech '
        "sounds, and can be wrong; it does not know what anyone feels.</p>"
    )


def limits(megabytes: float, seconds: float) -> str:
    """What is taken, and what becomes of it."""
    return (
        f'<p class="mser-quiet">At most {megabytes:g} MB and {seconds:g} s, in any format that libsndfile reads, such '
        "as WAV, FLAC, Ogg and MP3. A clip stays in the memory of this machine while you look at it; no file is kept, "
        "and nothing is sent elsewhere.</p>"
    )


def message(error: MserError, name: str) -> str:
    """What went wrong, as a sentence, and what can be done.

    Args:
        name: of the clip: what is said of recordings has no subject of its own.
    """
    what = error.what.rstrip(".")
    if isinstance(error, AudioError) and not what.startswith(name):
        what = f"{name} {what}"
    facts = [("Expected", error.expected), ("Found", error.found), ("Next", error.hint)]
    lines = [f'<p class="mser-quiet">{label}: {escape(str(fact))}</p>' for label, fact in facts if fact is not None]
    return f'<div class="mser-error" role="alert"><p>{escape(what)}.</p>{"".join(lines)}</div>'


def clip(recording: Recording) -> str:
    """A clip's name and length, and a player of it."""
    sound = _data("audio/wav", _wav(recording))
    return (
        f'<div class="mser-card mser-clip"><span class="mser-name">{escape(recording.name)}</span> '
        f'<span class="mser-quiet">{recording.seconds:.1f} s at {recording.sample_rate} Hz; '
        f'to be heard as the models hear it, in one channel</span><audio controls src="{sound}"></audio></div>'
    )


def answers(predictions: Iterable[Prediction]) -> str:
    """A card for each language: emotions by their probability, and what each upstream weighed."""
    cards = [
        _card(one.language, f"{one.emotion}, {_percent(one.confidence)}", _named(one), one.calibrated)
        for one in predictions
    ]
    return f'<div class="mser-cards">{"".join(cards)}</div>'


def means(predictions: Sequence[Prediction]) -> str:
    """A card of the means over the parts of a long recording for each language."""
    cards = []
    for language in _languages(predictions):
        own = [one for one in predictions if one.language == language]
        shares = _means([_named(one)[0] for one in own]), _means([_named(one)[1] for one in own])
        emotions = [one.emotion for one in own]
        most = max(dict.fromkeys(emotions), key=emotions.count)
        title = f"{most} in {emotions.count(most)} of {len(own)} parts"
        cards.append(_card(language, title, shares, own[0].calibrated, "mean over the parts"))
    return f'<div class="mser-cards">{"".join(cards)}</div>'


def timeline(predictions: Sequence[Prediction], picture: bytes) -> str:
    """The parts of a long recording over time.

    Args:
        picture: PNG.
    """
    head = "".join(f"<th>{escape(language)}</th>" for language in _languages(predictions))
    rows = []
    for span in dict.fromkeys((one.start, one.end) for one in predictions):
        said = [one for one in predictions if (one.start, one.end) == span]
        cells = "".join(f"<td>{escape(one.emotion)} {_percent(one.confidence)}</td>" for one in said)
        rows.append(f"<tr><td>{clock(span[0])} – {clock(span[1])}</td>{cells}</tr>")
    return (
        f"{_picture(picture, 'Probabilities of the emotions over time, stacked')}"
        f"<details><summary>All {len(rows)} parts</summary>"
        f'<table class="mser-table"><tr><th>time</th>{head}</tr>{"".join(rows)}</table></details>'
    )


def explanation(found: Explanation, picture: bytes) -> str:
    """What carried a decision.

    Args:
        picture: PNG.
    """
    one = found.prediction
    lines = [
        f"Language {one.language}: {one.emotion}, {_percent(one.confidence)}. "
        "Moments and upstreams are left out in turn: moments in red spoke for it, those in blue against it; "
        "an upstream spoke for it where the log probability falls without it."
    ]
    if found.untouched:
        lines.append(f"{' and '.join(found.untouched)} hear the clip as a whole: no moment is left out for them.")
    notes = "".join(f'<p class="mser-quiet">{escape(line)}</p>' for line in lines)
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{weight:.2f}</td>"
        f"<td>{f'{-found.without_expert[name]:+.2f}' if name in found.without_expert else '–'}</td></tr>"
        for name, weight in zip(one.experts, one.gate, strict=True)
    )
    return (
        f"{notes}"
        f'<table class="mser-table"><tr><th>upstream</th><th>gate weight</th><th>without it, nats</th></tr>'
        f"{rows}</table>"
        f"{_picture(picture, f'Waveform, effect of each moment on {one.emotion}, gate and layer weights')}"
    )


def _card(
    language: str,
    title: str,
    shares: tuple[Mapping[str, float], Mapping[str, float]],
    calibrated: bool,
    what: str = "probability",
) -> str:
    emotions, gate = shares
    notice = "" if calibrated else '<p class="mser-quiet">These probabilities are not calibrated.</p>'
    return (
        f'<section class="mser-card"><h3>{escape(language)}: {escape(title)}</h3>{notice}'
        f"<h4>Emotions, {what}</h4>{_bars(emotions, 'mser-bars')}"
        f"<h4>Upstreams, gate weight</h4>{_bars(gate, 'mser-bars mser-gate')}</section>"
    )


def _bars(shares: Mapping[str, float], kind: str) -> str:
    """A row for each name, the largest first."""
    rows = "".join(
        f'<dt><span>{escape(name)}</span></dt><dd><span class="mser-track"><i style="width:{100 * share:.1f}%"></i>'
        f'</span><span class="mser-number">{_percent(share)}</span></dd>'
        for name, share in sorted(shares.items(), key=lambda item: -item[1])
    )
    return f'<dl class="{kind}">{rows}</dl>'


def _languages(predictions: Sequence[Prediction]) -> list[str]:
    return list(dict.fromkeys(one.language for one in predictions))


def _named(one: Prediction) -> tuple[dict[str, float], dict[str, float]]:
    """Emotion -> probability, and upstream -> gate weight."""
    emotions = dict(zip(one.emotions, one.probabilities.tolist(), strict=True))
    return emotions, dict(zip(one.experts, one.gate.tolist(), strict=True))


def _means(every: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([one[name] for one in every])) for name in every[0]}


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _picture(png: bytes, text: str) -> str:
    return f'<div class="mser-wide"><img alt="{escape(text)}" src="{_data("image/png", png)}"></div>'


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{b64encode(content).decode('ascii')}"


def _wav(recording: Recording) -> bytes:
    """16-bit PCM; what is beyond full scale is clipped."""
    samples = (recording.at(PLAYED_RATE).numpy().clip(-1, 1) * 32767).round().astype("<i2")
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(PLAYED_RATE)
        file.writeframes(samples.tobytes())
    return content.getvalue()
