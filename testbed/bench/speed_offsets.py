"""Stages of clock offsets: the reciprocal product's maximum likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from dsp.matrix_pencil import pencil_delays
from dsp.moment import Moment
from dsp.synchronization.matched_product import TwoWayLink
from dsp.synchronization.reciprocity import greatest_likelihood
from testbed.bench.speed import Goal, Stage
from testbed.errors import RunError

__all__ = ["Reciprocal", "stages"]

_SPACING_HZ, _SYMBOL_S, _CARRIER_HZ = 120e3, 8.92e-6, 2.4e9


@dataclass(frozen=True)
class Reciprocal:
    """Both directions of a channel of five paths, offsets well off the grid."""

    subcarriers: int = 1024
    symbols: int = 256
    snr_db: float = 10.0
    seed: int = 1

    def link(self) -> tuple[TwoWayLink, float, float]:
        """Link with unit noise weights, and the offsets put into it."""
        rng = np.random.default_rng(self.seed)
        f = _SPACING_HZ * (np.arange(self.subcarriers) - self.subcarriers // 2)
        t = _SYMBOL_S * (np.arange(self.symbols) - (self.symbols - 1) / 2)
        delays, dopplers = rng.uniform(0.1e-6, 1.5e-6, 5), rng.uniform(-4e3, 4e3, 5)
        gains = rng.standard_normal(5) + 1j * rng.standard_normal(5)
        gains /= np.linalg.norm(gains)
        paths = np.exp(2j * np.pi * (np.multiply.outer(dopplers, t)[:, :, None] - np.outer(delays, f)[:, None, :]))
        channel = np.tensordot(gains, paths, axes=1)
        to_s, cfo_hz = rng.uniform(-100e-9, 100e-9), rng.uniform(-3e3, 3e3)
        turn = 2 * np.pi * (np.outer(t, cfo_hz * (1 + f / _CARRIER_HZ)) - to_s * f)
        level = 10 ** (-self.snr_db / 20) / np.sqrt(2)
        noise = level * (rng.standard_normal((2, *turn.shape)) + 1j * rng.standard_normal((2, *turn.shape)))
        variance = np.full(turn.shape, 10 ** (-self.snr_db / 10))
        epoch = Moment.at("clock", 0.0, Fraction(20_000_000))
        link = TwoWayLink(
            forward=channel * np.exp(1j * turn) + noise[0], reverse=channel * np.exp(-1j * turn) + noise[1],
            forward_variance=variance, reverse_variance=variance, subcarrier_hz=f, symbol_s=t,
            frame_of_symbol=np.zeros(self.symbols, np.intp), carrier_hz=_CARRIER_HZ, snr=10 ** (self.snr_db / 10),
            epoch=epoch, to_reference_s=0.0, cfo_reference_hz=0.0, phase_reference_rad=0.0,
        )  # fmt: skip
        return link, float(to_s), float(cfo_hz)


def pencil_stage() -> Stage:
    """1024 subcarriers, five paths, two of them 0.7 samples apart and one 30 dB down, at 40 dB."""
    rng = np.random.default_rng(2)
    size = 1024
    delays, gains = np.array([10.2, 10.9, 17.7, 40.2, 90.9]), np.array([1.0, 0.8, 0.5, 0.1, 0.03])
    noise = rng.standard_normal(size) + 1j * rng.standard_normal(size)
    values = np.exp(-2j * np.pi / size * np.outer(np.arange(size), delays)) @ gains + 0.01 / np.sqrt(2) * noise

    def plain() -> NDArray[np.float64]:
        hankel = np.lib.stride_tricks.sliding_window_view(values, size // 2)
        vectors = np.linalg.svd(hankel, full_matrices=False)[2][: gains.size].T
        poles = np.linalg.eigvals(np.linalg.lstsq(vectors[:-1], vectors[1:], rcond=None)[0])
        return np.asarray(np.sort(np.mod(-np.angle(poles) / (2 * np.pi), 1.0)) * size)

    apart = np.abs(pencil_delays(values, paths=gains.size, spacing_hz=1 / size) - plain()).max()
    if apart > 1e-3:
        raise RunError(f"the pencil's delays differ by {apart:.2g} samples from those of all singular vectors")
    return Stage(
        "matrix pencil, 1024",
        lambda: pencil_delays(values, paths=gains.size, spacing_hz=1 / size),
        {"economy SVD": plain},
        {"economy SVD": Goal(40, at_least=True)},
    )


def stages() -> list[Stage]:
    """Maximum likelihood on 1024 subcarriers by 256 symbols against one transform of that size padded by two."""
    link, _, _ = Reciprocal().link()
    product = link.product
    padded: NDArray[Any] = np.zeros((2 * product.shape[0], 2 * product.shape[1]), np.complex64)
    padded[: product.shape[0], : product.shape[1]] = product
    double = padded.astype(np.complex128)
    return [
        Stage(
            "reciprocity, maximum likelihood",
            lambda: greatest_likelihood(product, link),
            {
                "one 2-D transform, complex64": lambda: fft.fft2(padded, workers=1),
                "one 2-D transform, complex128": lambda: fft.fft2(double, workers=1),
            },
            {"one 2-D transform, complex64": Goal(1.5)},
        ),
        pencil_stage(),
    ]
