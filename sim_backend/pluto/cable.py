"""A Pluto whose transmitter is looped back to its receiver through an attenuator: what its converter delivers.

Transmitter and receiver share one oscillator, so that the delay is constant in samples and only the two
synthesizers' own phase noise, the branches' imbalance, the offset, thermal noise, saturation and the converter's bits
come between them. What repeats is worked out once: see `kernels._receive`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import gcd

import numpy as np
from numpy.typing import NDArray

from sim_backend import front_end
from sim_backend.pluto.emissions import Counts, Emission, window
from sim_backend.pluto.filters import PathFilter, filtered, reach
from sim_backend.pluto.medium import FULL_SCALE_DBM, Medium
from sim_backend.pluto.settings import Settings
from sim_backend.propagation import BLOCK, REACH, Source, propagate
from sim_backend.randomness import generator, key_words
from sim_backend.specification import FrontEndSpec

__all__ = ["Cable"]

FloatArray = NDArray[np.float64]
Singles = NDArray[np.float32]

_NOISE = 1 << 18
_ANGLES = (131_071, 130_999)
"""Samples of the two synthesizers' angles before they repeat; prime, so that together they hardly do."""
_LONG = 1 << 16
_MARGIN = 2 * (REACH + BLOCK)
_TILES = 4


@dataclass(frozen=True)
class _Tile:
    """One period of a cyclic emission, as it arrives at one receiver, relative to the transmitters' full scale."""

    real: Singles
    imaginary: Singles
    start: int
    power: float


class Cable(Medium):
    """Cable from each transmit port to the receive port of the same number.

    Parameters
    ----------
    channels : int
        Receivers, as many as transmitters.
    front : FrontEndSpec
        Noise figure, phase noise, imbalance, offset and bits; its gain is not used.
    attenuation_db : float
        Of the cable.
    isolation_db : float
        Between the ports of different numbers, beyond the cable's attenuation.
    delay_samples : float
        From the DAC to the ADC, fraction included.
    seed : int
        Of everything random.
    """

    def __init__(
        self,
        channels: int,
        front: FrontEndSpec,
        *,
        attenuation_db: float = 30.0,
        isolation_db: float = 45.0,
        delay_samples: float = 37.3,
        seed: int = 0,
    ) -> None:
        self.channels = channels
        self._front = front
        self._seed = seed
        self._delay = delay_samples
        leak = 0.0 if channels == 1 else 10 ** (-isolation_db / 20)
        turns = generator(seed, "cable").uniform(size=(channels, channels))
        loss = 10 ** (-attenuation_db / 20)
        self._matrix = loss * np.where(np.eye(channels, dtype=bool), 1.0, leak) * np.exp(2j * np.pi * turns)
        self._tiles: dict[tuple[int, int, Settings], tuple[Emission, _Tile]] = {}
        self._recent: dict[int, tuple[Emission, Settings, _Tile]] = {}
        self._known: Settings | None = None
        self._deaf = self._aligned = False
        self._reach = 0
        """Samples on either side of what is heard that the filters look at."""
        self._noise = _noise_tile(seed, None, 1.0)

    def power_dbm(self, channel: int, first: int, samples: int, settings: Settings, emissions: list[Emission]) -> float:
        """See `Medium.power_dbm`."""
        milliwatts = 1e3 * self._noise_watts(settings)
        weights = np.abs(self._weights(channel, settings)) ** 2
        for emission in emissions:
            if not settings.radiating or not self._in_band(settings):
                break
            begin = max(emission.start, first)
            end = first + samples if emission.stop is None else min(emission.stop, first + samples)
            if begin >= end:
                continue
            power = emission.power
            if not emission.cyclic:
                played = window([emission], first, samples, emission.samples.shape[1])
                power = replace(emission, samples=played).power
            share = (end - begin) / samples if emission.cyclic else 1.0
            milliwatts += share * float(weights @ power) * 10 ** (FULL_SCALE_DBM / 10)
        return float(10 * np.log10(milliwatts)) if milliwatts > 0 else -np.inf

    def receive(self, first: int, samples: int, settings: Settings, emissions: list[Emission]) -> Counts:
        """See `Medium.receive`."""
        counts: Counts = np.empty((samples, 2 * self.channels), dtype=np.int16)
        if settings is not self._known:
            # Rational arithmetic, and hashes of whole filters, once for all blocks of one setting.
            self._known = settings
            self._reach = sum(reach(path, float(settings.rate_hz)) for path in _paths(settings))
            self._noise = _noise_tile(self._seed, settings.receive_path, float(settings.rate_hz))
            self._deaf = not settings.radiating or not self._in_band(settings)
            self._aligned = settings.receive_hz == settings.transmit_hz
        lead, trail = int(self._delay) + _MARGIN + self._reach, _MARGIN + self._reach
        heard = [e for e in emissions if e.hits(first - lead, first + samples + trail) and not self._deaf]
        whole = len(heard) == 1 and heard[0].cyclic and heard[0].covers(first - lead, first + samples + trail)
        periodic = whole and self._aligned
        for channel in range(self.channels):
            if not settings.listening:
                counts[:, 2 * channel : 2 * channel + 2] = 0
            elif not heard:
                self._digitise(_silence(), 0, first, settings, channel, counts)
            elif periodic:
                tile = self._tile(heard[0], settings, channel)
                self._digitise(tile, (first - tile.start) % tile.real.size, first, settings, channel, counts)
            else:
                self._digitise(
                    self._field(heard, first, samples, settings, channel), 0, first, settings, channel, counts
                )
        return counts

    # -- the field --------------------------------------------------------------------------------------------

    def _in_band(self, settings: Settings) -> bool:
        """Whether the transmitter's band reaches into the receiver's: the analog filter keeps out what does not."""
        return abs(settings.transmit_hz - settings.receive_hz) < settings.rate_hz

    def _weights(self, channel: int, settings: Settings) -> NDArray[np.complex128]:
        return np.asarray(self._matrix[channel] * 10 ** (np.asarray(settings.transmit_gain_db) / 20))

    def _noise_watts(self, settings: Settings) -> float:
        if self._front.noise_figure_db is None:
            return 0.0
        return front_end.thermal_power(self._front, float(settings.rate_hz))

    def _tile(self, emission: Emission, settings: Settings, channel: int) -> _Tile:
        """One period or several, long enough for a vector machine; kept for as long as nothing changes."""
        recent = self._recent.get(channel)
        if recent is not None and recent[0] is emission and recent[1] is settings:
            return recent[2]
        key = (id(emission), channel, _static(settings))
        if key not in self._tiles:
            period = len(emission.samples)
            length = period * -(-_LONG // period)
            steady = replace(emission, start=0, end=None)
            tile = self._field([steady], length, length, settings, channel)
            while len(self._tiles) >= _TILES * self.channels:
                del self._tiles[next(iter(self._tiles))]
            # The emission is kept beside the tile, so that its identity stays its own.
            self._tiles[key] = emission, replace(tile, start=emission.start)
        self._recent[channel] = emission, settings, self._tiles[key][1]
        return self._tiles[key][1]

    def _field(self, heard: list[Emission], first: int, samples: int, settings: Settings, channel: int) -> _Tile:
        """Field behind a receiver's filters, relative to the transmitters' full scale, synthesizer phases included."""
        path, rate_hz = settings.receive_path, float(settings.rate_hz)
        if path is None:
            field = self._arriving(heard, first, samples, settings, channel)
        else:
            early = reach(path, rate_hz)
            field = self._arriving(heard, first - early, samples + 2 * early, settings, channel)
            field = filtered(field, path, rate_hz)
        power = float(np.mean(field.real**2 + field.imag**2)) if samples else 0.0
        return _Tile(np.ascontiguousarray(field.real), np.ascontiguousarray(field.imag), first, power)

    def _arriving(
        self, heard: list[Emission], first: int, samples: int, settings: Settings, channel: int
    ) -> NDArray[np.complex64]:
        """Field at a receiver's port."""
        path, rate_hz = settings.transmit_path, float(settings.rate_hz)
        early = 0 if path is None else reach(path, rate_hz)
        whole = int(self._delay)
        begin = first - whole - _MARGIN - early
        blocks = -(-samples // BLOCK)
        played = window(heard, begin, blocks * BLOCK + 2 * (_MARGIN + early), 2 * self.channels) >> 4
        parts = played.astype(np.float32) / np.float32(2048.0)
        weights = self._weights(channel, settings)
        sent = sum(
            weights[index] * (parts[:, 2 * index] + 1j * parts[:, 2 * index + 1]) for index in range(self.channels)
        )
        sent = np.asarray(sent, dtype=np.complex64)
        source = Source.of(sent if path is None else filtered(sent, path, rate_hz))
        edges = np.arange(blocks + 1, dtype=np.float64) * BLOCK
        position = edges + (_MARGIN - (self._delay - whole))
        cycles = self._cycles(first, edges, settings)
        real, imaginary = (np.zeros(blocks * BLOCK, dtype=np.float32) for _ in range(2))
        for run in source.active:
            propagate(source, run, position[None], cycles[None], [1.0], real, imaginary)
        return np.asarray(real[:samples] + np.complex64(1j) * imaginary[:samples], np.complex64)

    def _cycles(self, first: int, edges: FloatArray, settings: Settings) -> FloatArray:
        """Carrier phase at block edges, turns: the synthesizers' phases, and their difference where they differ."""
        offset = (settings.transmit_hz - settings.receive_hz) / settings.rate_hz
        start = offset * first
        turns = float(start - start.__floor__()) + settings.phase_turns(self._seed)
        return np.asarray(turns + float(offset) * edges)

    # -- the receiver -----------------------------------------------------------------------------------------

    def _digitise(self, field: _Tile, place: int, tick: int, settings: Settings, channel: int, counts: Counts) -> None:
        from sim_backend.pluto.kernels import _receive

        front = self._front
        limit = front_end.full_scale(front)
        pole = float(np.exp(-2 * np.pi * front.phase_noise_bandwidth_hz / float(settings.rate_hz)))
        angles = [_angle_tile(length, pole, float(np.deg2rad(front.phase_noise_deg)), self._seed) for length in _ANGLES]
        noise_re, noise_im = self._noise
        worse = settings.stale_factor
        skew = float(np.deg2rad(worse * front.phase_imbalance_deg))
        amplitude = np.sqrt(1e-3 * 10 ** (FULL_SCALE_DBM / 10))
        _receive(
            field.real, field.imaginary, place, tick, noise_re, noise_im,
            np.uint32(key_words(self._seed, "thermal", channel)[0]), angles[0], angles[1],
            float(np.sqrt(self._noise_watts(settings) / 2)), float(amplitude),
            float(np.sqrt(1e3 * 10 ** (settings.receive_gain_db[channel] / 10))) * limit,
            10.0 ** (worse * front.gain_imbalance_db / 20.0), float(np.sin(skew)), float(np.cos(skew)),
            worse * front.dc_offset.real * limit, worse * front.dc_offset.imag * limit, limit,
            counts.view(np.int32), channel,
        )  # fmt: skip


def _static(settings: Settings) -> Settings:
    """Settings as far as a tile depends on them."""
    return replace(settings, receive_gain_db=(), agc=(), stale_factor=1.0, loopback=0)


@lru_cache(maxsize=1)
def _silence() -> _Tile:
    nothing = np.zeros(_LONG, dtype=np.float32)
    return _Tile(nothing, nothing, 0, 0.0)


def _paths(settings: Settings) -> list[PathFilter]:
    return [path for path in (settings.receive_path, settings.transmit_path) if path is not None]


@lru_cache(maxsize=4)
def _noise_tile(seed: int, path: PathFilter | None, rate_hz: float) -> tuple[Singles, Singles]:
    """Thermal noise behind a receiver's filters, closing upon itself; of unit variance in each branch before them."""
    random = generator(seed, "noise tile")
    real, imaginary = random.standard_normal((2, _NOISE), dtype=np.float32)
    if path is None:
        return real, imaginary
    around = np.pad(real + np.complex64(1j) * imaginary, reach(path, rate_hz), mode="wrap")
    shaped = filtered(around, path, rate_hz)
    return np.ascontiguousarray(shaped.real), np.ascontiguousarray(shaped.imag)


@lru_cache(maxsize=16)
def _angle_tile(length: int, pole: float, deviation: float, seed: int) -> Singles:
    """Angle of a synthesizer, low-passed noise that closes upon itself, radians."""
    assert gcd(*_ANGLES) == 1
    if deviation == 0.0:
        return np.zeros(length, dtype=np.float32)
    white = np.fft.rfft(generator(seed, "angle tile", length).standard_normal(length))
    response = np.sqrt(1 - pole**2) / (1 - pole * np.exp(-2j * np.pi * np.fft.rfftfreq(length)))
    return np.asarray(deviation * np.fft.irfft(white * response, n=length), dtype=np.float32)
