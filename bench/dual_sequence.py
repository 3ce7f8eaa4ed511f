"""How fast the dual-sequence cell is, against a naive loop over its steps and against PyTorch's LSTM: one table.

    python -m bench.dual_sequence                    batches as they are in training, one core
    python -m bench.dual_sequence --device cuda

A turn is the states of a batch and all gradients. The naive loop is autograd's, with the whole batch in each step and a
product for each gate and input; padding is computed as well. PyTorch's LSTM reads both sequences joined, and has four
blocks of weights where the cell has six.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from bench.common import facts, in_turn, ratio, table
from train.systems.dual_sequence_cell import BLOCKS, DualSequenceCell

#: (utterances, longest, mean frames, D of x, D of y, H): spectrograms and layers at the systems' defaults, and larger.
SIZES = ((32, 18, 9, 80, 160, 64), (32, 30, 15, 64, 64, 64), (32, 120, 60, 64, 64, 128))


def naive(cell: DualSequenceCell, x: Tensor, y: Tensor) -> Tensor:
    """States (B, T, H) of the cell's equations as they are written."""
    size = cell.hidden
    of_x, of_y = cell.from_x.split(size), cell.from_y.split(size)
    of_h, bias = cell.recurrent.split(size, 1), cell.bias.split(size)
    h = c = x.new_zeros(len(x), size)
    states = []
    for step in range(x.shape[1]):
        sums = [h @ of_h[number] + bias[number] for number in range(BLOCKS)]
        c_time = torch.tanh(sums[0] + x[:, step] @ of_x[0].t())
        c_frequency = torch.tanh(sums[1] + y[:, step] @ of_y[0].t())
        f, i_time, i_frequency, o = (
            torch.sigmoid(sums[number + 1] + x[:, step] @ of_x[number].t() + y[:, step] @ of_y[number].t())
            for number in range(1, BLOCKS - 1)
        )
        c = f * c + i_time * c_time + i_frequency * c_frequency
        h = o * torch.tanh(c)
        states.append(h)
    return torch.stack(states, dim=1)


def lengths_of(count: int, longest: int, mean: int) -> Tensor:
    """(B,) frames, spread evenly about the mean, one as long as the longest."""
    spread = torch.linspace(0.4, 1.6, count - 1) * mean * (mean * count - longest) / (mean * (count - 1))
    return torch.cat([spread.round().long().clamp(1, longest), torch.tensor([longest])])


def compared(sizes: tuple[int, ...], device: torch.device, rounds: int) -> list[str]:
    """A line of the table."""
    count, longest, mean, wide_x, wide_y, hidden = sizes
    torch.manual_seed(0)
    lengths = lengths_of(count, longest, mean)
    cell = DualSequenceCell(wide_x, wide_y, hidden).to(device)
    lstm = nn.LSTM(wide_x + wide_y, hidden, batch_first=True).to(device)
    x = torch.randn(count, longest, wide_x, device=device, requires_grad=True)
    y = torch.randn(count, longest, wide_y, device=device, requires_grad=True)
    there = lengths.to(device)

    def turn(states: Callable[[], Tensor]) -> Callable[[], None]:
        def run() -> None:
            states().sum().backward()
            if device.type == "cuda":
                torch.cuda.synchronize()

        return run

    def packed() -> Tensor:
        joined = pack_padded_sequence(torch.cat([x, y], 2), lengths, batch_first=True, enforce_sorted=False)
        return lstm(joined)[0].data

    turns = {
        "cell": turn(lambda: cell(x, y, there)),
        "naive": turn(lambda: naive(cell, x, y)),
        "lstm": turn(lambda: lstm(torch.cat([x, y], 2))[0]),
        "lstm, packed": turn(packed),
    }
    in_turn(turns, 2)  # warms up
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    spent = in_turn(turns, rounds, clock=clock)
    milliseconds = statistics.median(spent["cell"]) * 1e3
    shape = f"{count} x {longest} (mean {lengths.float().mean():.0f}), D {wide_x} + {wide_y}, H {hidden}"
    return [shape, f"{milliseconds:.1f}", *(ratio(spent[name], spent["cell"])[1] for name in list(turns)[1:])]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30, help="(30)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N (cpu)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(options.device)
    print(facts(options.device), end="\n\n", flush=True)
    header = ["batch", "cell, ms", "naive / cell", "LSTM / cell", "packed LSTM / cell"]
    rows = [compared(sizes, device, options.rounds) for sizes in SIZES]
    print(table("Median of the rounds' ratios, the middle half in brackets; above 1: the cell is faster", header, rows))


if __name__ == "__main__":
    main()
