"""Functionals of openSMILE as upstreams of one layer and one frame a recording; an optional extra.

``egemaps`` is eGeMAPSv02, the extended Geneva minimalistic acoustic parameter set of 88 features (Eyben et al. 2016,
IEEE Transactions on Affective Computing 7(2)); ``compare`` is ComParE_2016, 6373 features (Schuller et al. 2016,
Interspeech). Both are computed by openSMILE (Eyben et al. 2010, ACM Multimedia) through its own Python package.

Licence: openSMILE is not free software. audEERING's research licence, which the package carries, allows what is not
commercial, such as teaching, academic research and use at home, and of commercial research that which is published or
evaluates, apart from the making of a product. Use in a product, sold or given away, takes a commercial licence, and
models or features made with openSMILE count as use. This project does not contain it, and installs it only when asked.

What was measured with openSMILE 2.6.0:

- From 960 samples on (60 ms, the window behind the pitch) both sets give all their features; below, none.
- Digital silence, constants, clicks, noise and full scale give finite features, with one exception: ``compare`` gives
  NaN where nothing but one or two samples of the last bit stands in digital silence. Here that is an error.
- The package makes 16-bit samples of a waveform and lets +1 wrap around to -1; here they saturate instead.
- Any number of threads may share an upstream: each call builds an openSMILE of its own, and the interpreter is free
  meanwhile.
- Half an hour takes less than a minute and about 1.3 GB, 0.7 MB a second of audio.
- Features of ``compare`` reach 1e11 on speech, far more than float16 holds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mser.errors import UpstreamError
from mser.upstream.base import Prepared, Upstream, UpstreamInfo

#: Upstream -> feature set, as openSMILE calls it.
OPENSMILE_NAMES = {"egemaps": "eGeMAPSv02", "compare": "ComParE_2016"}
REVISION = "1"  # raise it when the code computes other values with the same openSMILE
SAMPLE_RATE = 16_000  # Hz
SHORTEST = 960  # samples
FULL_SCALE = 32_767 / 32_768  # the highest value of 16 bits


class OpenSmileUpstream(Upstream):
    """One of ``OPENSMILE_NAMES``; ``feature_names`` (D) are those of openSMILE."""

    frame_samples = 0

    def __init__(self, name: str) -> None:
        if name not in OPENSMILE_NAMES:
            known = ", ".join(OPENSMILE_NAMES)
            raise UpstreamError("There is no such set of openSMILE.", field="name", expected=known, found=name)
        version, self._smile = _open(OPENSMILE_NAMES[name])
        self.feature_names: list[str] = list(self._smile.feature_names)
        self.info = UpstreamInfo(
            name=name,
            family="opensmile",
            source=name,
            revision=f"{version} {OPENSMILE_NAMES[name]}",
            weights_sha256=_sha256(Path(self._smile.default_config_root), self.feature_names),
            layers=1,
            dim=len(self.feature_names),
            frame_rate=0.0,
            sample_rate=SAMPLE_RATE,
        )

    def num_frames(self, num_samples: int) -> int:
        """1 from 960 samples (60 ms) on, else 0."""
        return int(num_samples >= SHORTEST)

    def prepare(self, waveform: Tensor) -> Prepared:
        """The waveform (num_samples,) within 16 bits; UpstreamError: not mono, or not finite."""
        if waveform.ndim != 1 or not waveform.isfinite().all():
            found = f"{tuple(waveform.shape)}, {int((~waveform.isfinite()).sum())} of them not finite"
            what = "A waveform must be mono and finite."
            raise UpstreamError(what, field="waveform", expected="(num_samples,)", found=found)
        return Prepared(len(waveform), waveform.float().clamp(-1.0, FULL_SCALE))

    @torch.no_grad()
    def run(self, batch: Sequence[Prepared]) -> list[Tensor]:
        """Features (1, 1, D) of each waveform; UpstreamError: too short, or a feature is not finite."""
        return [self._features(one) for one in batch]

    def _features(self, one: Prepared) -> Tensor:
        self.require_fit(one.num_samples)
        values = self._smile(one.features.numpy(), self.info.sample_rate)  # (1, D, 1) float32
        features = torch.from_numpy(values).float().reshape(1, 1, self.info.dim)
        broken = (~features[0, 0].isfinite()).nonzero().flatten().tolist()
        if broken:
            raise UpstreamError(
                f"openSMILE gives features of {self.info.name} that are not finite.",
                field=", ".join(self.feature_names[index] for index in broken[:3]) + (" ..." if broken[3:] else ""),
                expected=f"{self.info.dim} finite features",
                found=f"{len(broken)} that are NaN or infinite",
                hint="listen to the recording: it is nearly silent; leave it out of the corpus",
            )
        return features


def _open(feature_set: str) -> tuple[str, Any]:
    """Version of openSMILE, and its ``Smile`` for the functionals of a feature set."""
    try:
        import opensmile  # it brings pandas and pyarrow, and takes seconds

        kind, level = opensmile.FeatureSet[feature_set], opensmile.FeatureLevel.Functionals
        return opensmile.__version__, opensmile.Smile(kind, level)
    except ImportError as error:
        raise UpstreamError(
            "openSMILE cannot be imported: it is an optional extra, with a licence that rules out commercial use.",
            found=error,
            hint='pip install "mser[opensmile]"',
        ) from error
    # No build for this machine; or a folder it is called with by a name that is not ASCII.
    except (OSError, RuntimeError, UnicodeEncodeError) as error:
        raise UpstreamError(
            "openSMILE cannot be started on this machine.",
            found=error,
            hint="use a system the package opensmile is built for, and a Python environment in a folder of ASCII name",
        ) from error


def _sha256(root: Path, names: Sequence[str]) -> str:
    """Hash over the feature names and every configuration file of openSMILE, as sets include parts of others."""
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    contents = [(name, hashlib.sha256(files[name].read_bytes()).hexdigest()) for name in sorted(files)]
    return hashlib.sha256(json.dumps([REVISION, list(names), contents]).encode()).hexdigest()


def load_opensmile(name: str) -> OpenSmileUpstream:
    """The upstream ``name``, one of ``OPENSMILE_NAMES``.

    Raises:
        UpstreamError: another name, or openSMILE is not installed or cannot be started.
    """
    return OpenSmileUpstream(name)
