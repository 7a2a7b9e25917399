"""From the antenna's field to the converter's counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim_backend.propagation import BLOCK
from sim_backend.randomness import generator, key_words
from sim_backend.specification import FrontEndSpec

__all__ = ["Loss", "digitise", "full_scale", "losses", "phase_noise", "thermal_power"]

_BOLTZMANN_290K = 1.380649e-23 * 290.0


def full_scale(spec: FrontEndSpec) -> int:
    """Count that stands for full scale."""
    return int(2 ** ((spec.bits or 16) - 1))


def thermal_power(spec: FrontEndSpec, bandwidth_hz: float) -> float:
    """Noise power referred to the antenna, watts; of an ideal receiver if the noise is switched off."""
    return float(_BOLTZMANN_290K * bandwidth_hz * 10 ** ((spec.noise_figure_db or 0.0) / 10))


def phase_noise(spec: FrontEndSpec, rate_hz: float, samples: int, seed: int, *labels: str | int) -> NDArray[np.float32]:
    """Phase of one synthesizer over a stretch, radians, shape (sample,); zeros if switched off.

    White noise through the loop's one-pole low pass: power 2·rms²/(pi·bandwidth) per hertz below it.
    """
    from sim_backend.kernels import _phase_noise

    if spec.phase_noise_deg == 0.0:
        return np.zeros(samples, dtype=np.float32)
    angle = np.empty(samples, dtype=np.float32)
    deviation = float(np.deg2rad(spec.phase_noise_deg))
    pole = float(np.exp(-2 * np.pi * spec.phase_noise_bandwidth_hz / rate_hz))
    start = deviation * float(generator(seed, *labels, "phase noise").standard_normal())
    _phase_noise(start, pole, deviation * float(np.sqrt(1 - pole**2)), key_words(seed, *labels, "phase noise"), angle)
    return angle


def digitise(
    spec: FrontEndSpec,
    real: NDArray[np.float32],
    imaginary: NDArray[np.float32],
    *,
    noise_power: float,
    scale: float,
    angle: NDArray[np.float32],
    seed: int,
    labels: tuple[str | int, ...],
) -> NDArray[np.int16]:
    """Counts of the converter, shape (sample, 2).

    Adds thermal noise, turns by the receive synthesizer's phase noise, applies gain, the branches' imbalance and
    the DC offset, rounds and clips, in that order.

    Parameters
    ----------
    real, imaginary : float32 arrays, shape (sample,)
        Field in square-root watts; a whole number of `BLOCK`.
    noise_power : float
        Of the complex noise over the whole rate, watts; 0 for none.
    scale : float
        Full scale per square-root watt.
    angle : float32 array, shape (sample,)
        Receive synthesizer's phase noise, radians.
    seed, labels
        What the noise is for.
    """
    from sim_backend.kernels import _digitise

    if real.size % BLOCK or not real.size == imaginary.size == angle.size:
        raise ValueError(f"a stretch is a whole number of blocks of {BLOCK}, got {real.size} samples")
    counts = np.empty((real.size, 2), dtype=np.int16)
    limit = full_scale(spec)
    ratio = 10.0 ** (spec.gain_imbalance_db / 20.0)
    skew = float(np.deg2rad(spec.phase_imbalance_deg))
    _digitise(
        real, imaginary, angle, key_words(seed, *labels, "thermal"), float(np.sqrt(noise_power / 2)),
        scale * limit, ratio, float(np.sin(skew)), float(np.cos(skew)),
        spec.dc_offset.real * limit, spec.dc_offset.imag * limit, limit, counts.view(np.int32)[:, 0],
    )  # fmt: skip
    return counts


@dataclass(frozen=True)
class Loss:
    """Samples that a lost buffer took away."""

    start: int
    """Index into the array that is left, of the first sample after the loss."""
    samples: int


def losses(
    spec: FrontEndSpec, samples: int, seed: int, *labels: str | int
) -> tuple[NDArray[np.bool_] | None, list[Loss]]:
    """Which samples of a stretch survive (None if all do), and where the others were."""
    if spec.lost_buffer_probability <= 0:
        return None, []
    buffers = -(-samples // spec.buffer_samples)
    lost = generator(seed, *labels, "lost buffers").uniform(size=buffers) < spec.lost_buffer_probability
    if not lost.any():
        return None, []
    kept = ~np.repeat(lost, spec.buffer_samples)[:samples]
    edges = np.flatnonzero(np.diff(np.concatenate([[1], kept.astype(np.int8), [1]])))
    remaining = np.concatenate([[0], np.cumsum(kept)])
    gaps = [Loss(int(remaining[begin]), int(end - begin)) for begin, end in zip(edges[::2], edges[1::2], strict=True)]
    return kept, gaps
