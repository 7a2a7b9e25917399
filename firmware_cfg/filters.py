"""FIR filters of the AD936x, designed from a specification and checked after quantisation.

A filter is one least-squares design by scipy after another, each weighted by where the last one erred most (Lawson's
way to a minimax fit), against the inverse of the half-band stages' droop, so that what is flat is the whole digital
chain. Coefficients are then rounded to the device's 16 bits, and the rounded ones are held against the specification.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.signal import firls, freqz

from firmware_cfg.clock_chain import FIR_TAPS, ClockChain, Direction, amplitude, clock_chain
from firmware_cfg.errors import FirmwareError

__all__ = ["Filter", "FilterPair", "FilterSpecification", "Response", "design", "design_pair"]

_PASS_SEGMENTS = 24
_STOP_SEGMENTS = 40
_BETWEEN_SEGMENTS = 8
_BETWEEN_ALLOWED = 0.3
"""Error tolerated between the bands, against a straight slope: left free, long filters swing to a hundredfold there."""
_LAWSON_STEPS = 12
_FULL_SCALE = 2**15
_LARGEST = 2**15 - 1
_GRID = 2048
_TOLERATED_LOSS = 0.9
"""Rather than give up a bit, the whole filter may lose this much of its amplitude."""


class FilterSpecification(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a filter has to pass and to stop, about the carrier; the same for reception and transmission."""

    pass_hz: float
    """Edge of the pass band in hertz: half of the occupied bandwidth."""
    stop_hz: float
    """Where the stop band begins, in hertz. The sample rate less the pass edge keeps aliases off the pass band."""
    ripple_db: float = 0.1
    """Largest over smallest amplitude in the pass band, in decibels, half-band stages included."""
    attenuation_db: float = 60.0
    """Least attenuation of the stop band in decibels."""
    factor: int = 2
    """1, 2 or 4: by how much the filter lowers the rate on reception, and raises it on transmission."""
    taps: int | None = None
    """A multiple of 16, or as many as the rate leaves time for."""


@dataclass(frozen=True)
class Response:
    """What a filter does after quantisation, half-band stages included."""

    ripple_db: float
    """Largest over smallest amplitude in the pass band."""
    attenuation_db: float
    """Least attenuation of the stop band, up to half the filter's own rate."""
    image_db: float
    """Least attenuation of what the converter's half-band stages fold onto the pass band; infinite without them."""
    gain_db: float
    """At the carrier, the device's own FIR gain included; the half-band stages count as one there."""


@dataclass(frozen=True)
class Filter:
    """One direction's filter as the device takes it."""

    chain: ClockChain
    specification: FilterSpecification
    coefficients: tuple[int, ...]
    gain_db: int
    """The device's own gain behind the filter: +6 to -12 in steps of six on reception, 0 or -6 on transmission."""

    def amplitude(self, frequency_hz: NDArray[np.float64]) -> NDArray[np.float64]:
        """Amplitude of FIR filter and half-band stages at ``frequency_hz`` from the carrier, gain included."""
        return self._fir(frequency_hz) * np.abs(self.chain.half_bands(frequency_hz))

    def response(self) -> Response:
        """Figures of the quantised filter, on a grid of 2,048 frequencies in each band."""
        edge, stop, half = self.specification.pass_hz, self.specification.stop_hz, 0.5 * self.chain.fir_rate_hz
        passed = self.amplitude(np.linspace(0.0, edge, _GRID))
        stopped = self.amplitude(np.linspace(stop, half, _GRID))
        level = float(np.sqrt(passed.max() * passed.min()))
        images = [
            np.linspace(center - edge, min(center + edge, 0.5 * self.chain.converter_hz), _GRID)
            for center in np.arange(
                self.chain.fir_rate_hz, 0.5 * self.chain.converter_hz + edge, self.chain.fir_rate_hz
            )
        ]
        folded = max((float(self.amplitude(image).max()) for image in images), default=0.0)
        return Response(
            ripple_db=_decibels(float(passed.max() / passed.min())),
            attenuation_db=_decibels(level / float(stopped.max())),
            image_db=_decibels(level / folded) if folded else float("inf"),
            gain_db=_decibels(float(passed[0])),
        )

    def complaint(self) -> str | None:
        """Sentence on how the quantised filter misses its specification; None if it keeps it."""
        wanted, found = self.specification, self.response()
        where = f"the {self.chain.direction} filter of {len(self.coefficients)} taps at {self._fir_text()}"
        wider = "widen stop_hz, ask less, or use a larger factor"
        if found.ripple_db > wanted.ripple_db:
            return f"ripple_db is {wanted.ripple_db:g}, but {where} ripples by {found.ripple_db:.3f} dB: {wider}"
        if found.attenuation_db < wanted.attenuation_db:
            return (
                f"attenuation_db is {wanted.attenuation_db:g}, but {where} attenuates by "
                f"{found.attenuation_db:.1f} dB: {wider}"
            )
        return None

    def _fir(self, frequency_hz: NDArray[np.float64]) -> NDArray[np.float64]:
        # Interpolation puts zeros between the samples, which the taps have to make up for; 6 dB are a shift by one bit.
        lost = self.chain.fir_rate_hz / self.chain.rate_hz if self.chain.direction == "transmit" else 1.0
        taps = np.array(self.coefficients, dtype=np.float64) * 2.0 ** (self.gain_db / 6) / _FULL_SCALE / lost
        _, response = freqz(taps, worN=frequency_hz, fs=self.chain.fir_rate_hz)
        return np.abs(response)

    def _fir_text(self) -> str:
        return f"{self.chain.fir_rate_hz / 1e6:g} MS/s"


@dataclass(frozen=True)
class FilterPair:
    """What one `.ftr` file holds: both directions, of equally many taps."""

    receive: Filter
    transmit: Filter

    def complaint(self) -> str | None:
        """Sentence on the first direction that misses the specification; None if both keep it."""
        return self.receive.complaint() or self.transmit.complaint()


def design_pair(specification: FilterSpecification, rate_hz: float) -> FilterPair:
    """Filters of both directions for one specification; whether they keep it, `FilterPair.complaint` says.

    Raises
    ------
    FirmwareError
        If the specification contradicts itself, the sample rate or the device.
    """
    chains = [clock_chain(direction, rate_hz, specification.factor) for direction in _DIRECTIONS]
    taps = specification.taps or min(chain.most_taps for chain in chains)
    receive, transmit = (design(specification, chain, taps) for chain in chains)
    return FilterPair(receive, transmit)


def design(specification: FilterSpecification, chain: ClockChain, taps: int) -> Filter:
    """Filter of one direction with ``taps`` taps.

    Raises
    ------
    FirmwareError
        If the specification contradicts itself, the sample rate or the device.
    """
    _check(specification, chain, taps)
    wished = _minimax(specification, chain, taps)
    # Coefficients twice as large with six decibels less behind them are one bit finer, as long as the largest fits.
    gain_db, scale = (-6, 2.0) if chain.direction == "receive" else (0, float(specification.factor))
    if chain.direction == "transmit" and specification.factor == 1:
        gain_db, scale = -6, 2.0
    counts = wished / wished.sum() * _FULL_SCALE * scale
    room = _LARGEST / float(np.abs(counts).max())
    if room < _TOLERATED_LOSS and gain_db < 0:
        counts, gain_db, room = 0.5 * counts, gain_db + 6, 2.0 * room
    counts *= min(1.0, room)
    return Filter(chain, specification, tuple(int(x) for x in np.round(counts)), gain_db)


_DIRECTIONS: tuple[Direction, Direction] = ("receive", "transmit")


def _check(specification: FilterSpecification, chain: ClockChain, taps: int) -> None:
    edge, stop, half = specification.pass_hz, specification.stop_hz, 0.5 * chain.fir_rate_hz
    if not 0 < edge < stop:
        raise FirmwareError(f"pass_hz is {edge:.0f} and stop_hz {stop:.0f}, but a filter passes less than it stops")
    if edge >= 0.5 * chain.rate_hz:
        raise FirmwareError(
            f"pass_hz is {edge:.0f}, beyond half the sample rate of {chain.rate_hz:.0f} Hz: "
            f"use less than {0.5 * chain.rate_hz:.0f}"
        )
    if stop >= half:
        raise FirmwareError(
            f"stop_hz is {stop:.0f}, but the filter runs at {chain.fir_rate_hz:.0f} Hz: use less than {half:.0f}, "
            "or a larger factor"
        )
    if specification.ripple_db <= 0 or specification.attenuation_db <= 0:
        raise FirmwareError("ripple_db and attenuation_db must be above zero")
    if taps % 16 or not 16 <= taps <= chain.most_taps:
        raise FirmwareError(
            f"taps is {taps}, but at {chain.rate_hz / 1e6:g} MS/s the {chain.direction} filter takes a multiple of "
            f"16 up to {chain.most_taps} of the device's {FIR_TAPS}"
        )


def _minimax(specification: FilterSpecification, chain: ClockChain, taps: int) -> NDArray[np.float64]:
    """Taps whose largest error against what is allowed there is nearly least; odd in number inside, even outside."""
    rate_hz = chain.fir_rate_hz
    edges = [
        np.linspace(0.0, specification.pass_hz, _PASS_SEGMENTS + 1),
        np.linspace(specification.pass_hz, specification.stop_hz, _BETWEEN_SEGMENTS + 1),
        np.linspace(specification.stop_hz, 0.5 * rate_hz, _STOP_SEGMENTS + 1),
    ]
    passed = 1.0 / chain.half_bands(edges[0])
    wished = [passed, passed[-1] * np.linspace(1.0, 0.0, _BETWEEN_SEGMENTS + 1), np.zeros(_STOP_SEGMENTS + 1)]
    bands = np.concatenate([np.column_stack([edge[:-1], edge[1:]]) for edge in edges])
    desired = np.concatenate([np.column_stack([wish[:-1], wish[1:]]) for wish in wished])
    ratio = 10 ** (specification.ripple_db / 20)
    allowed = np.concatenate(
        [
            np.full(_PASS_SEGMENTS, (ratio - 1) / (ratio + 1)),
            np.full(_BETWEEN_SEGMENTS, _BETWEEN_ALLOWED),
            np.full(_STOP_SEGMENTS, 10 ** (-specification.attenuation_db / 20)),
        ]
    )
    inside = bands[:, :1] + (bands[:, 1:] - bands[:, :1]) * np.linspace(0.05, 0.95, 7)
    share = (inside - bands[:, :1]) / (bands[:, 1:] - bands[:, :1])
    target = desired[:, :1] + (desired[:, 1:] - desired[:, :1]) * share
    weight = allowed**-2.0
    best, least = np.zeros(taps), np.inf
    for _ in range(_LAWSON_STEPS):
        # scipy's least squares wants an odd number of taps: the last one is left out, and stays zero.
        found = firls(taps - 1, bands, desired, weight=weight, fs=rate_hz)
        error = np.abs(amplitude(found, inside / rate_hz) - target).max(axis=1) / allowed
        if error.max() < least:
            best, least = np.append(found, 0.0), float(error.max())
        weight = weight * np.maximum(error / error.max(), 1e-2)
        weight /= weight.max()
    return best


def _decibels(ratio: float) -> float:
    return float(20 * np.log10(ratio)) if ratio > 0 else -float("inf")
