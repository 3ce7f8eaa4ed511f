"""What the threads of an extraction do: a recording becomes inputs, a batch of inputs what is stored of its states."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from pathlib import Path

import torch

from mser.audio import read_waveform
from mser.errors import ManifestError, MserError, UpstreamError
from mser.manifest import Utterance
from mser.store import Packed, Provenance, pack
from mser.upstream import Prepared, Upstream
from mser.upstream.windows import Piece


def naming(rows: Sequence[Utterance], error: MserError) -> MserError:
    """The error with the utterances it came from, where it names no file of its own."""
    if not isinstance(error, UpstreamError) or error.file is not None:
        return error
    named = ", ".join(row.utterance_id for row in rows)
    return UpstreamError(
        error.what, file=named, field=error.field, expected=error.expected, found=error.found, hint=error.hint
    )


def prepare(folder: Path, upstream: Upstream, row: Utterance, pieces: Sequence[Piece]) -> list[Prepared]:
    """The model's input for each piece of a recording.

    Args:
        folder: of the corpus's recordings.

    Raises:
        AudioError: the recording cannot be read. ManifestError: it is not the one in the manifest.
    """
    path = folder / row.path
    waveform, found = read_waveform(path, upstream.info.sample_rate)
    if found != row.sha256:
        raise ManifestError(
            f"The recording of {row.utterance_id} is not the one in the manifest.",
            file=path,
            field="sha256",
            expected=row.sha256,
            found=found,
            hint=f"run `make manifest LANG={row.language}` again",
        )
    return [upstream.prepare(waveform[piece.start : piece.end]) for piece in pieces]


_local = threading.local()


def run_batch(
    upstream: Upstream,
    inputs: Sequence[tuple[Utterance, Future[list[Prepared]], int]],
    pieces: Sequence[Piece],
    provenance: Provenance,
) -> tuple[list[Packed], int]:
    """Runs the model; gives what is stored of each piece, on the CPU, and how often the batch was halved."""
    rows = [row for row, _, _ in inputs]
    batch = [ready.result()[number] for _, ready, number in inputs]
    stream = None
    if upstream.device.type == "cuda":
        if not hasattr(_local, "stream"):
            _local.stream = torch.cuda.Stream(upstream.device)
        stream = _local.stream
    with torch.cuda.stream(stream) if stream is not None else nullcontext():
        packed, halved = _run_within_memory(upstream, rows, batch, pieces, provenance)
        if stream is not None:
            stream.synchronize()
    return packed, halved


def _run_within_memory(
    upstream: Upstream,
    rows: Sequence[Utterance],
    batch: Sequence[Prepared],
    pieces: Sequence[Piece],
    provenance: Provenance,
) -> tuple[list[Packed], int]:
    """Halves the batch until it fits into the device's memory."""
    try:
        return _run_whole(upstream, batch, pieces, provenance), 0
    except torch.OutOfMemoryError as error:
        if len(batch) == 1:
            raise UpstreamError(
                f"{upstream.info.name} needs more memory than {upstream.device} has.",
                file=rows[0].utterance_id,
                found=str(error).splitlines()[0],
                hint="give shorter windows (WINDOW=10), another DEVICE, or COMPUTE=float16; complete shards stay",
            ) from error
    # Behind the handler, so that the failed attempt's tensors are free.
    if upstream.device.type == "cuda":
        torch.cuda.empty_cache()
    middle = len(batch) // 2
    first, one = _run_within_memory(upstream, rows[:middle], batch[:middle], pieces[:middle], provenance)
    second, other = _run_within_memory(upstream, rows[middle:], batch[middle:], pieces[middle:], provenance)
    return [*first, *second], 1 + one + other


def _run_whole(
    upstream: Upstream, batch: Sequence[Prepared], pieces: Sequence[Piece], provenance: Provenance
) -> list[Packed]:
    states = upstream.run(batch)
    return [
        pack(one[:, piece.skip : piece.skip + piece.frames], provenance).cpu()
        for one, piece in zip(states, pieces, strict=True)
    ]
