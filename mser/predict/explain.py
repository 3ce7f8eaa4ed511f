"""What carried a decision: which experts, which of their layers, which moments of the clip.

Moments and experts are judged by leaving them out and asking again (occlusion; Zeiler and Fergus 2014, arXiv
1311.2901, section 4.2): the effect is how much the log probability of the emotion falls. Weights of gates and layers
say what the model mixes, not what decided.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import matplotlib
import numpy as np
import torch
from torch import Tensor

from mser.errors import RunError
from mser.model import MultiGateModel
from mser.predict.extractor import States
from mser.predict.head import TrainedHead
from mser.predict.names import title_of
from mser.predict.output import probability_label
from mser.predict.recognizer import Prediction, Recognizer, batch_of, spans
from mser.predict.recording import Recording, require_length

#: Seconds that are left out at a time, and from one to the next.
WINDOW, HOP = 0.5, 0.125
#: Seconds: each moment needs all layers of a clip once more, and longer recordings are no single decision.
LONGEST = 60.0
#: Clips of fewer frames than this have nothing to leave out.
FEWEST_FRAMES = 2
#: Moments that are judged together, and bytes that their states may have, as far as frames are kept of them.
AT_A_TIME, BYTES = 16, 2**28


@dataclass(frozen=True)
class Explanation:
    """Of one clip by one language's head.

    Attributes:
        layers: expert -> (L,) weights of its layer mix.
        without_expert: expert -> effect of its saying nothing, in nats; none where the language has one expert only.
        moments: (n, 2) starts and ends in seconds, of the recording that the clip is a part of.
        effects: (n,) of leaving each out, in nats: above 0 it spoke for the emotion, below 0 against it.
        untouched: upstreams of one frame a recording, whose states moments do not change.
    """

    prediction: Prediction
    layers: dict[str, list[float]]
    without_expert: dict[str, float]
    moments: np.ndarray
    effects: np.ndarray
    untouched: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        one = self.prediction
        return {
            "recording": one.recording,
            "language": one.language,
            "start": round(one.start, 3),
            "end": round(one.end, 3),
            "emotion": one.emotion,
            "calibrated": one.calibrated,
            "probabilities": dict(zip(one.emotions, one.probabilities.round(4).tolist(), strict=True)),
            "gate": dict(zip(one.experts, one.gate.round(4).tolist(), strict=True)),
            "layers": {name: np.round(weights, 4).tolist() for name, weights in self.layers.items()},
            "without_expert": {name: round(effect, 4) for name, effect in self.without_expert.items()},
            "moments": [
                {"start": round(float(start), 3), "end": round(float(end), 3), "effect": round(float(effect), 4)}
                for (start, end), effect in zip(self.moments, self.effects, strict=True)
            ],
            "untouched": list(self.untouched),
        }


def explain(
    recognizer: Recognizer,
    recording: Recording,
    language: str,
    window: float = WINDOW,
    hop: float = HOP,
    heard: Mapping[str, Tensor] | None = None,
) -> Explanation:
    """What carried the decision of a language's head about a clip.

    Args:
        window, hop: seconds that are left out at a time, and from one moment to the next.
        heard: states of the clip, where they were computed before.

    Raises:
        ConfigError: the run does not know the language. RunError: it has no experts that can be left out.
        AudioError: the clip is longer than LONGEST.
    """
    require_length(recording.name, recording.seconds, LONGEST)
    (head,) = recognizer.asked([language])
    model = head.model
    if not isinstance(model, MultiGateModel):
        raise RunError("This model has no experts of its own.", file=head.path, field="kind", found=model.kind)
    heard = recognizer.hear(recording, [language]) if heard is None else heard
    whole = {key: heard[key] for key in head.stores}
    moments = np.array(spans(recording.seconds, window, hop))
    steps = {key: recognizer.extractors[key].step for key in head.stores}
    alone = {key: [recognizer.extractors[key].kept(states)] for key, states in whole.items()}
    said = recognizer.judge(head, alone, recording, [(0.0, recording.seconds)])
    many = AT_A_TIME
    if head.features == "frames":
        many = min(many, max(1, BYTES // sum(states.nbytes for states in whole.values())))
    for begin in range(0, len(moments), many):
        chosen = moments[begin : begin + many]
        judged = {
            key: [recognizer.extractors[key].kept(_without(states, steps[key], *moment)) for moment in chosen]
            for key, states in whole.items()
        }
        said += recognizer.judge(head, judged, recording, [(0.0, recording.seconds)] * len(chosen))
    place = int(said[0].probabilities.argmax())
    logs = np.log([max(float(one.probabilities[place]), 1e-12) for one in said])
    untouched = tuple(name for name, key in head.keys.items() if not steps[key])
    layers = model.layer_weights(language)
    silent = _without_experts(head, model, alone, recognizer.device, place)
    effects = {name: float(logs[0] - log) for name, log in silent.items()}
    return Explanation(said[0], layers, effects, moments + recording.start, logs[0] - logs[1:], untouched)


def _without(states: Tensor, step: float, start: float, end: float) -> Tensor:
    """States (L, T, D) without the frames of a moment; all of them where none would be left, or time has no meaning."""
    if not step or states.shape[1] < FEWEST_FRAMES:
        return states
    first, last = round(start / step), max(round(start / step) + 1, round(end / step))
    left = torch.cat([states[:, :first], states[:, last:]], dim=1)
    return left if left.shape[1] else states


def _without_experts(
    head: TrainedHead, model: MultiGateModel, states: dict[str, list[States]], device: torch.device, place: int
) -> dict[str, float]:
    """For each expert of the language the log probability of an emotion when the expert's states are their mean."""
    network: Any = model.network(head.language)
    if len(network.used) < 2:
        return {}
    batch = batch_of(head, states, device)
    found = {}
    for mix, number, at in zip(network.mixes, network.used, network.places, strict=True):
        muted = list(batch.states)
        muted[at] = mix.shift.expand_as(batch.states[at])
        with torch.inference_mode():
            logits = model(head.language, batch._replace(states=tuple(muted))).logits / head.temperature
        found[model.experts[number].name] = float(logits.log_softmax(1)[0, place])
    return found


def explanation_picture(explanation: Explanation, recording: Recording, target: Path | IO[bytes]) -> None:
    """The clip's waveform over the effects of its moments, beside probabilities, gate and layers.

    Args:
        target: PNG, SVG or PDF by the path's ending, PNG in a stream.
    """
    matplotlib.use("Agg")
    from matplotlib import pyplot

    one = explanation.prediction
    layered = {name: weights for name, weights in explanation.layers.items() if len(weights) > 1}
    figure = pyplot.figure(figsize=(12, 7), layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=[3, 2])
    top, bottom = halves
    _draw_moments(top, explanation, recording)
    panels = bottom.subplots(1, 2 + len(layered), squeeze=False)[0]
    panels[0].barh(one.emotions, one.probabilities, color="tab:blue")
    panels[0].set(
        xlim=(0, 1), xlabel=probability_label(one.calibrated), title=f"{one.emotion}, language {one.language}"
    )
    panels[0].invert_yaxis()
    shown = [f"{name}\nwithout it {-effect:+.2f} nats" for name, effect in explanation.without_expert.items()]
    names = shown if len(shown) == len(one.experts) else list(one.experts)
    panels[1].barh(names, one.gate, color="tab:green")
    panels[1].set(xlim=(0, 1), xlabel="gate weight", title="experts")
    for panel, (name, weights) in zip(panels[2:], layered.items(), strict=True):
        panel.bar(range(len(weights)), weights, color="tab:orange")
        panel.set(xlabel="layer", ylabel="weight", title=f"layers of {name}")
    figure.savefig(target, dpi=120)
    pyplot.close(figure)


def _draw_moments(figure: Any, explanation: Explanation, recording: Recording) -> None:
    wave, effect = figure.subplots(2, 1, sharex=True)
    rate = 8000
    samples = recording.at(rate).numpy()
    wave.plot(recording.start + np.arange(len(samples)) / rate, samples, linewidth=0.4, color="gray")
    wave.set(ylabel="waveform", title=title_of(recording.name))
    middles = explanation.moments.mean(1)
    effect.axhline(0, color="black", linewidth=0.8)
    effect.fill_between(
        middles, 0, explanation.effects, where=explanation.effects >= 0, color="tab:red", alpha=0.6, interpolate=True
    )
    effect.fill_between(
        middles, 0, explanation.effects, where=explanation.effects < 0, color="tab:blue", alpha=0.6, interpolate=True
    )
    emotion = explanation.prediction.emotion
    effect.set(
        xlabel="time in seconds",
        xlim=(recording.start, recording.start + recording.seconds),
        ylabel=f"for {emotion}, nats\n(red: for, blue: against)",
    )
