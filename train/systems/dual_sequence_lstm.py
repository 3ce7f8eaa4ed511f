"""The dual-sequence LSTM (Wang et al. 2019, arXiv 1910.08874): one recurrent cell that reads two sequences in step.

In the paper the two are log-mel spectrograms of different windows, a fine one in time and a fine one in frequency; a
small convolutional network reads each, and a plain LSTM on MFCC speaks beside them. Here they are that, or two layers
of frozen speech models.

B batch, T frames, D features, H hidden units, E emotions.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from train.systems.descent import Steps, mask_of, masked_mean
from train.systems.layers import layer_scores
from train.systems.streams import Batch, FeatureDropout, Stream, StreamSystem, require
from train.systems.task import Task

#: Blocks of H columns, in the order in which the parameters hold them: both candidates, then the gates f, i_T, i_F, o.
BLOCKS = 6


class _Recurrence(torch.autograd.Function):
    """The steps of the cell, with the gradient written out: autograd would keep and replay each small product.

    Rows are packed: those of the first step, then of the second, and so on, each step with the utterances that still
    go on, the longest first. Most factors of the chain rule depend on no later step. They are computed for all steps at
    once, and a step on the way back is one product with the recurrent weights and five products of elements.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, sizes: list[int]) -> Tensor:
        """States h (R, H) of R packed rows.

        Args:
            inputs: (R, 6 H), what x and y add to each block. weight: (H, 6 H). sizes: rows of each step.
        """
        hidden = len(weight)
        blocks = inputs.clone()
        cells, states = inputs.new_empty(len(inputs), hidden), inputs.new_empty(len(inputs), hidden)
        cell_before = state_before = inputs.new_zeros(sizes[0], hidden)
        for own, cell, state in zip(blocks.split(sizes), cells.split(sizes), states.split(sizes), strict=True):
            own.addmm_(state_before[: len(own)], weight)
            candidates, gates = own[:, : 2 * hidden].tanh_(), own[:, 2 * hidden :].sigmoid_()
            f, i_time, i_frequency, o = gates.split(hidden, 1)
            torch.mul(f, cell_before[: len(own)], out=cell)
            cell.addcmul_(i_time, candidates[:, :hidden]).addcmul_(i_frequency, candidates[:, hidden:])
            torch.tanh(cell, out=state).mul_(o)
            cell_before, state_before = cell, state
        ctx.save_for_backward(blocks, cells, states, weight)
        ctx.sizes = sizes
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        blocks, cells, states, weight = ctx.saved_tensors
        sizes, hidden = ctx.sizes, len(weight)
        c_time, c_frequency, f, i_time, i_frequency, o = blocks.split(hidden, 1)
        bent = cells.tanh()
        # How a block's sum moves the cell; of o, how it moves the state. Times their gradients in the loop below.
        sums = torch.cat(
            [
                i_time * (1 - c_time * c_time),
                i_frequency * (1 - c_frequency * c_frequency),
                _before(cells, sizes) * f * (1 - f),
                c_time * i_time * (1 - i_time),
                c_frequency * i_frequency * (1 - i_frequency),
                bent * o * (1 - o),
            ],
            dim=1,
        )
        back = weight.t().contiguous()
        to_states, to_cells = gradient.clone(), (o * (1 - bent * bent))
        later_sum = later_cell = gradient[:0]
        steps = zip(*(one.split(sizes) for one in (sums, to_states, to_cells, f)), strict=True)
        for own, to_state, to_cell, forgets in reversed(list(steps)):
            if len(later_cell):
                to_state[: len(later_sum)].addmm_(later_sum, back)
            to_cell.mul_(to_state)
            to_cell[: len(later_cell)].add_(later_cell)
            parts = own.view(-1, BLOCKS, hidden)
            parts[:, :-1].mul_(to_cell[:, None])
            parts[:, -1].mul_(to_state)
            later_sum, later_cell = own, to_cell * forgets
        return sums, _before(states, sizes).t() @ sums, None


def _before(rows: Tensor, sizes: list[int]) -> Tensor:
    """Of each packed row (R, H) the same utterance's row a step earlier; zeros in the first step."""
    steps = rows.split(sizes)
    return torch.cat([torch.zeros_like(steps[0]), *(one[:size] for one, size in zip(steps, sizes[1:], strict=False))])


class DualSequenceCell(nn.Module):
    """An LSTM cell with two inputs, run over all steps of a batch.

    With the sigmoid gates f, i_T, i_F and o of (h_{t-1}, x_t, y_t), the candidates C_T = tanh of (h_{t-1}, x_t) and
    C_F = tanh of (h_{t-1}, y_t)::

        c_t = f c_{t-1} + i_T C_T + i_F C_F
        h_t = o tanh(c_t)

    Args:
        x, y: D of the two sequences. hidden: H.

    Attributes:
        from_x: (5 H, D of x), rows of C_T, f, i_T, i_F, o. from_y: (5 H, D of y), rows of C_F and the gates.
        recurrent: (H, 6 H), columns of C_T, C_F and the gates. bias: (6 H,), alike.
    """

    def __init__(self, x: int, y: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.from_x = nn.Parameter(torch.empty((BLOCKS - 1) * hidden, x))
        self.from_y = nn.Parameter(torch.empty((BLOCKS - 1) * hidden, y))
        self.recurrent = nn.Parameter(torch.empty(hidden, BLOCKS * hidden))
        self.bias = nn.Parameter(torch.empty(BLOCKS * hidden))
        # As PyTorch draws the weights of its LSTM.
        for weight in self.parameters():
            nn.init.uniform_(weight, -1 / math.sqrt(hidden), 1 / math.sqrt(hidden))

    def forward(self, x: Tensor, y: Tensor, lengths: Tensor) -> Tensor:
        """States h.

        Args:
            x: (B, T, D of x). y: (B, T, D of y). lengths: (B,), of both.

        Returns:
            (B, T, H), zero behind each utterance's end.
        """
        hidden = self.hidden
        no_y, no_x = self.from_x.new_zeros(hidden, y.shape[2]), self.from_x.new_zeros(hidden, x.shape[2])
        of_x = torch.cat([self.from_x[:hidden], no_x, self.from_x[hidden:]])
        of_y = torch.cat([no_y, self.from_y])
        packed = pack_padded_sequence(torch.cat([x, y], dim=2), lengths.cpu(), batch_first=True, enforce_sorted=False)
        # One product for all steps of all utterances, padding left out.
        inputs = functional.linear(packed.data, torch.cat([of_x, of_y], dim=1), self.bias)
        states = _Recurrence.apply(inputs, self.recurrent, packed.batch_sizes.tolist())
        again = PackedSequence(states, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
        return pad_packed_sequence(again, batch_first=True, total_length=x.shape[1])[0]


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
    """

    rate: float = 12.5
    channels: tuple[int, int] = (8, 16)
    steps: Steps = field(default=Steps(epochs=12, rate=1e-3, clip=1.0))

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
