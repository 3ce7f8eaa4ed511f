"""The dual-sequence LSTM (Wang et al. 2019, arXiv 1910.08874): one recurrent cell that reads two sequences in step.

In the paper the two are log-mel spectrograms of different windows, a fine one in time and a fine one in frequency; a
small convolutional network reads each, and a plain LSTM on MFCC speaks beside them. Here they are that, or two layers
of frozen speech models.

B batch, T and U frames of two sequences, D features, H hidden units, E emotions.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from train.systems.descent import Steps, mask_of, masked_mean
from train.systems.dual_sequence_cell import DualSequenceCell
from train.systems.layers import layer_scores
from train.systems.streams import Batch, FeatureDropout, Stream, StreamSystem, require
from train.systems.task import Task


def aligned(y: Tensor, lengths: Tensor, onto: Tensor, frames: int) -> Tensor:
    """Takes from y, for each frame of another sequence, the frame that lies at the same share of the utterance.

    Upstreams of equal rate may still differ by a frame at the end. Where lengths are equal, y stays as it is.

    Args:
        y: (B, U, D). lengths: (B,), its. onto: (B,), lengths of the other. frames: T of the other, padding included.

    Returns:
        (B, T, D); behind an utterance's end its last frame.
    """
    middles = torch.arange(frames, device=y.device) + 0.5
    places = (middles * (lengths / onto)[:, None]).long().clamp(max=(lengths - 1)[:, None])
    return y.gather(1, places[..., None].expand(-1, -1, y.shape[2]))


class Convolutions(nn.Module):
    """Two layers of 3 x 3 convolution, pooling by the largest, and ReLU, over a spectrogram.

    Each utterance is read as if it were alone: padding changes nothing, and is left out for speed. The utterances of a
    batch are laid one behind the other with a gap of silence that no convolution reaches across.

    Args:
        bands: D, of the spectrogram. channels: of each layer.

    Attributes:
        dim: D of what comes out.
    """

    #: Frames and bands that a pooling makes one, in each layer. Open in the paper.
    POOLS = ((2, 4), (2, 2))
    #: Frames of which one comes out. Gaps begin and end at multiples of it.
    STRIDE = 4

    def __init__(self, bands: int, channels: tuple[int, int]) -> None:
        super().__init__()
        pairs = zip((1, channels[0]), channels, strict=True)
        self.layers = nn.ModuleList(nn.Conv2d(before, after, 3, padding=1) for before, after in pairs)
        for _, pool in self.POOLS:
            bands = math.ceil(bands / pool)
        self.dim = bands * channels[-1]

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, D), zero behind the end, and lengths (B,) -> (B, ceil(T / 4), dim) and their lengths."""
        gap = 2  # frames at least: one is left after the first pooling
        room = (lengths + gap + self.STRIDE - 1) // self.STRIDE * self.STRIDE
        padded = functional.pad(frames, (0, 0, 0, int(room.max()) - frames.shape[1]))
        strip = padded[mask_of(room, padded.shape[1])][None, None]
        # A CPU takes half the time so.
        strip = strip.contiguous(memory_format=torch.channels_last)
        for layer, pool in zip(self.layers, self.POOLS, strict=True):
            # Zero behind each end, which changes no largest value that ReLU lets through.
            inside = mask_of(lengths, int(room.max()))[mask_of(room, int(room.max()))]
            strip = functional.max_pool2d(layer(strip).mul_(inside[:, None]), pool, ceil_mode=True).relu()
            lengths, room = (lengths + pool[0] - 1) // pool[0], room // pool[0]
        rows = strip[0].transpose(0, 1).flatten(1)
        # Rows of an utterance, its gap among them, go back to their places; the gap is cut off.
        out = rows.new_zeros(len(lengths), int(room.max()), self.dim)
        out[mask_of(room, out.shape[1])] = rows
        return (out * mask_of(lengths, out.shape[1])[..., None])[:, : int(lengths.max())], lengths


class Projection(nn.Module):
    """A linear layer on each frame: (B, T, D), lengths (B,) -> (B, T, dim) and the lengths."""

    def __init__(self, features: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.dim = dim
        self.layers = nn.Sequential(nn.Linear(features, dim), FeatureDropout(dropout))

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.layers(frames), lengths


class DualSequenceNetwork(nn.Module):
    """Two sequences through the cell, and MFCC through an LSTM where there are any; their logits are added.

    Args:
        fronts: what reads x and y, with ``dim`` features of each frame that comes out. mfcc: D of the MFCC; 0: none.
    """

    def __init__(
        self, fronts: Sequence[Convolutions | Projection], hidden: int, mfcc: int, dropout: float, emotions: int
    ) -> None:
        super().__init__()
        self.fronts = nn.ModuleList(fronts)
        self.cell = DualSequenceCell(fronts[0].dim, fronts[1].dim, hidden)
        self.lstm = nn.LSTM(mfcc, hidden, batch_first=True) if mfcc else None
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, emotions)
        self.mfcc_head = nn.Linear(hidden, emotions) if mfcc else None

    def forward(self, batch: Batch) -> Tensor:
        """Logits (B, E) of the streams x, y and, where there is such a branch, MFCC."""
        (x, lengths), (y, others) = (front(*one) for front, one in zip(self.fronts, batch, strict=False))
        states = self.cell(x, aligned(y, others, lengths, x.shape[1]), lengths)
        logits: Tensor = self.head(self.dropout(masked_mean(states, lengths)))
        if self.lstm is not None and self.mfcc_head is not None:
            frames, lengths = batch[2]
            logits = logits + self.mfcc_head(self.dropout(masked_mean(self.lstm(frames)[0], lengths)))
        return logits


@dataclass(frozen=True)
class DualSequence(StreamSystem):
    """A dual-sequence LSTM; subclasses say what its two sequences are.

    Attributes:
        rate: most frames a second of the two sequences.
        hidden: H, of the cell and of the LSTM on MFCC. Open in the paper's abstract; 64 for speed.
        mfcc_rate: frames a second of the MFCC, 10 for speed (100 are stored); 0: the cell alone, without that branch.
        dropout: on the mean states before the linear layers (and on projected frames).
    """

    rate: float = 10.0
    hidden: int = 64
    mfcc_rate: float = 10.0
    dropout: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.rate > 0, "rate", "above 0", self.rate)
        require(self.hidden >= 1, "hidden", "1 or more", self.hidden)
        require(self.mfcc_rate >= 0, "mfcc_rate", "above 0, or 0 for no such branch", self.mfcc_rate)
        require(0 <= self.dropout < 1, "dropout", "0 or more, below 1", self.dropout)

    @abstractmethod
    def pair(self, task: Task) -> tuple[Stream, Stream]:
        """x and y."""

    @abstractmethod
    def front(self, features: int) -> Convolutions | Projection:
        """What reads frames of so many features before the cell."""

    @property
    def extra(self) -> tuple[str, ...]:
        return ("mfcc",) if self.mfcc_rate else ()

    def streams(self, task: Task) -> tuple[Stream, ...]:
        mfcc = [Stream("mfcc", 0, self.mfcc_rate)] if self.mfcc_rate else []
        return (*self.pair(task), *mfcc)

    def network(self, dims: Sequence[int], emotions: int) -> nn.Module:
        mfcc = dims[2] if self.mfcc_rate else 0
        fronts = [self.front(dims[0]), self.front(dims[1])]
        return DualSequenceNetwork(fronts, self.hidden, mfcc, self.dropout, emotions)


@dataclass(frozen=True)
class SpectrogramPair(DualSequence):
    """x and y are log-mel spectrograms of windows of 256 and 512 samples, each read by a convolutional network.

    Attributes:
        rate: of the spectrograms before the networks, which leave a quarter of it; 100 are stored. 12.5 for speed: dev
            speakers of EmoDB like 25 no better.
        channels: of the two convolutions. Open, and small for speed.
        tuning: at a third of this rate the loss on ten shots an emotion hardly falls below that of a guess.
    """

    rate: float = 12.5
    channels: tuple[int, int] = (8, 16)
    steps: Steps = field(default=Steps(epochs=10, rate=1e-3, clip=1.0))
    tuning: Steps = field(default=Steps(epochs=5, rate=1e-3, least_steps=20, clip=1.0))

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = len(self.channels) == 2 and min(self.channels) >= 1
        require(fits, "channels", "two numbers of 1 or more", self.channels)

    @property
    def extra(self) -> tuple[str, ...]:
        return ("logmel-256", "logmel-512", *super().extra)

    def pair(self, task: Task) -> tuple[Stream, Stream]:
        return Stream("logmel-256", 0, self.rate), Stream("logmel-512", 0, self.rate)

    def front(self, features: int) -> Convolutions:
        return Convolutions(features, self.channels)


@dataclass(frozen=True)
class LayerPair(DualSequence):
    """x and y are the two layers, of one upstream or of two, that dev speakers like most; no convolutions.

    Attributes:
        rate: of the layers' frames. mfcc_rate: 0, so that the cell speaks alone.
        projected: features of a frame that a linear layer leaves, so that wide upstreams do not make a large cell.
    """

    rate: float = 5.0
    mfcc_rate: float = 0.0
    projected: int = 64
    steps: Steps = field(default=Steps(epochs=12, rate=1e-3, clip=1.0))

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.projected >= 1, "projected", "1 or more", self.projected)

    def pair(self, task: Task) -> tuple[Stream, Stream]:
        judged = [(score, name, layer) for name, own in layer_scores(task).items() for layer, score in enumerate(own)]
        require(len(judged) >= 2, "UPSTREAMS", "two layers or more", f"{len(judged)} in {', '.join(task.upstreams)}")
        best = sorted(judged, key=lambda one: -one[0])[:2]
        first, second = (Stream(name, layer, self.rate) for _, name, layer in best)
        return first, second

    def front(self, features: int) -> Projection:
        return Projection(features, self.projected, self.dropout)
