"""The dual-sequence LSTM cell (Wang et al. 2019, arXiv 1910.08874): one recurrent cell that reads two sequences.

B batch, T frames, D features, H hidden units, R packed rows: the frames of all utterances.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

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
