"""The states of a recording by one upstream, by the code and in the bits in which a store holds them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mser.config import store_name
from mser.errors import AudioError, RunError, UpstreamError
from mser.predict.recording import Recording
from mser.store import Provenance
from mser.store.pack import Packed, merge, pack, unpack
from mser.upstream import Upstream, load_upstream
from mser.upstream.windows import pieces_of

#: Revision of an upstream that lay in a folder.
FOLDER = "folder"


class States(NamedTuple):
    """What a store would hold of one utterance, as far as it is kept.

    Attributes:
        frames: (L, T, D) float16 or float32; None where not kept, and for an upstream of one frame a recording.
        pooled: (L, S, D) float32: mean and deviation over frames; None where not kept.
    """

    frames: Tensor | None
    pooled: Tensor | None


class Extractor:
    """One upstream, as a store's description says it was used.

    Args:
        keep: ``frames``, ``pooled`` or both: what heads are going to ask for. The rest is forgotten window by window:
            the frames of an hour are gigabytes, their statistics as small as those of a second.

    Raises:
        RunError: the upstream is another one, or of another revision, than the store was made with.
    """

    def __init__(self, upstream: Upstream, provenance: Provenance, keep: Sequence[str] = ("frames", "pooled")) -> None:
        require_same(upstream, provenance)
        upstream.use(str(provenance.upstream["policy"]))
        kept = ("pooled",) if upstream.frame_samples == 0 else tuple(keep)
        self.upstream, self.provenance = upstream, replace(provenance, keep=kept)

    @property
    def rate(self) -> int:
        """Hz that the upstream takes."""
        return self.upstream.info.sample_rate

    def whole(self, recording: Recording) -> States:
        """The states of a whole recording, as its store would hold them.

        Memory holds all layers of one window of the upstream, and what is kept of the others.

        Raises:
            AudioError: the recording is too short for the upstream.
        """
        packed = [pack(states, self.provenance).cpu() for states in self._pieces(recording)]
        return _states([piece.count for piece in packed], packed)

    @property
    def step(self) -> float:
        """Seconds from a frame to the next; 0 where there is one frame a recording."""
        return self.upstream.frame_samples / self.rate

    def states(self, recording: Recording) -> Tensor:
        """All layers' states of a whole recording, as the upstream computes them: (L, T, D) float32 on the device."""
        return torch.cat(list(self._pieces(recording)), dim=1)

    def kept(self, states: Tensor) -> States:
        """What a store would keep of states (L, T, D)."""
        piece = pack(states.contiguous(), self.provenance).cpu()
        return _states([piece.count], [piece])

    def parts(self, recording: Recording, spans: Sequence[tuple[float, float]]) -> Iterator[States]:
        """The states of parts of a recording, each frame computed once, within what surrounds it.

        Memory holds the frames of one part and of one window of the upstream, however long the recording is. (An
        upstream of one frame a recording hears each part alone.)

        Args:
            spans: starts and ends in seconds, sorted by both.
        """
        if self.upstream.frame_samples == 0:
            yield from (self.whole(part(recording, *span)) for span in spans)
            return
        step = self.step
        total = self.upstream.num_frames(len(recording.at(self.rate)))
        pieces, first = self._pieces(recording), 0
        held = next(pieces)
        for start, end in spans:
            # What ends with the recording has its last frames, which may begin before its end and lie behind it.
            beyond = total if end >= recording.seconds - step / 2 else min(total, round(end / step))
            begin = min(round(start / step), beyond - 1)
            while first + held.shape[1] < beyond:
                passed = min(max(0, begin - first), held.shape[1])
                held, first = torch.cat([held[:, passed:], next(pieces)], dim=1), first + passed
            yield self.kept(held[:, begin - first : beyond - first])

    def _pieces(self, recording: Recording) -> Iterator[Tensor]:
        """The states of each window of the upstream, those of all its layers: (L, T, D) float32 on the device."""
        waveform = recording.at(self.rate)
        pieces = pieces_of(len(waveform), self.upstream, self.provenance.window, self.provenance.overlap)
        if not pieces:
            raise AudioError(f"{recording.name} has a length that {self.upstream.info.name} does not take")
        for piece in pieces:
            with torch.inference_mode():
                (states,) = self.upstream.run([self.upstream.prepare(waveform[piece.start : piece.end])])
            # Outside of the mode, which would else hold for whoever asks for the next window.
            yield states[:, piece.skip : piece.skip + piece.frames]


def part(recording: Recording, start: float, end: float) -> Recording:
    """A part of a recording as a recording of its own, from ``start`` to ``end`` in seconds."""
    rate = recording.sample_rate
    samples = recording.at(rate)[round(start * rate) : round(end * rate)]
    return Recording(recording.name, len(samples) / rate, rate, samples.numpy()[:, None])


def _states(counts: list[int], packed: Sequence[Packed]) -> States:
    pooled = [piece.pooled for piece in packed if piece.pooled is not None]
    frames = [
        piece.frames if piece.scale is None else unpack(piece.frames, piece.scale)
        for piece in packed
        if piece.frames is not None
    ]
    return States(torch.cat(frames, dim=1) if frames else None, merge(counts, pooled) if pooled else None)


def require_same(upstream: Upstream, provenance: Provenance) -> None:
    """Raises RunError where an upstream is not the one that a store's description names."""
    ignored = ("policy", "attention", "source", "name", "compute")
    now, made = asdict(upstream.info), dict(provenance.upstream)
    unlike = [name for name in now if name not in ignored and now[name] != made.get(name)]
    if unlike:
        raise RunError(
            f"The run was trained on the states of another {made['name']}.",
            field=", ".join(unlike),
            expected=", ".join(str(made.get(name)) for name in unlike),
            found=", ".join(str(now[name]) for name in unlike),
            hint="give the upstream that was extracted with --upstreams, or extract and train again with this one",
        )


def load_extractors(
    provenances: Mapping[str, Provenance],
    names: Sequence[str],
    device: torch.device,
    keep: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Extractor]:
    """An extractor for each upstream of a run; stores of one upstream share its model.

    Args:
        provenances: of stores, by any key.
        names: upstreams as given to extract; needed for folders.
        keep: of each key, as :class:`Extractor` takes it; frames and pooled statistics if not given.

    Raises:
        RunError: an upstream has to be named, or is another one. UpstreamError: it cannot be loaded.
    """
    given = {store_name(name): name for name in names}
    found: dict[str, Extractor] = {}
    for key, provenance in provenances.items():
        same = (one.upstream for one in found.values() if one.provenance.upstream == provenance.upstream)
        upstream = next(same, None) or _load(provenance, given, device)
        found[key] = Extractor(upstream, provenance, keep[key]) if keep else Extractor(upstream, provenance)
    return found


def _load(provenance: Provenance, given: Mapping[str, str], device: torch.device) -> Upstream:
    made: Mapping[str, Any] = provenance.upstream
    name, revision = str(made["name"]), str(made["revision"])
    if revision == FOLDER and name not in given:
        # A model of the hub by the same name is another one, and may be gigabytes.
        raise _missing(name, revision, f"no folder of the name {name}")
    # A store is named as its hub id, with -- for the slash.
    wanted = given.get(name) or name.replace("--", "/", 1)
    # A CPU calculates in float32 only, which is what the other types approximate.
    compute = str(made["compute"]) if device.type == "cuda" else "float32"
    # The run's own revision: the registry's, or the newest, may have changed since.
    asked = None if revision == FOLDER else revision
    try:
        return load_upstream(wanted, device, policy=str(made["policy"]), compute=compute, revision=asked)
    except UpstreamError as error:
        raise _missing(name, revision, error.what if error.found is None else f"{error.what} {error.found}") from error


def _missing(name: str, revision: str, found: str) -> RunError:
    lay = revision == FOLDER
    return RunError(
        f"The run needs the upstream {name}, which cannot be loaded.",
        field="--upstreams",
        expected=f"the folder that was given to extract, {name}" if lay else f"{name} in its revision {revision}",
        found=found,
        hint=f'add --upstreams "/path/to/{name}"'
        if lay
        else f"connect to the network once, so that this revision of {name} can be fetched",
    )
