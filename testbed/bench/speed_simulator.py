"""The simulated ether against the plain way: six moving paths into two antennas, noise, phase noise and twelve bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim_backend.front_end import digitise, phase_noise
from sim_backend.propagation import BLOCK, Source, propagate
from sim_backend.specification import FrontEndSpec
from testbed.bench.speed import Goal, Stage

__all__ = ["stages"]

_SAMPLES, _ANTENNAS, _PATHS = 256 * 1152, 2, 6
_RATE_HZ, _CARRIER_HZ, _CLOCKS = 20e6, 2.4e9, 3e-6
_OCCUPIED = 0.8
_NOISE, _SCALE = 1e-3, 0.1


def stages() -> list[Stage]:
    """Ours, exact to -90 dB and better; plainly, by linear interpolation, which is wrong by -12 dB.

    Both make counts of the samples that a node sends: ours fills them in first, and that is counted.
    """
    rng = np.random.default_rng(1)
    spectrum = rng.standard_normal(_SAMPLES) + 1j * rng.standard_normal(_SAMPLES)
    spectrum[np.abs(np.fft.fftfreq(_SAMPLES)) > 0.5 * _OCCUPIED] = 0.0
    samples = (np.fft.ifft(spectrum) * np.sqrt(_SAMPLES)).astype(np.complex64)
    edges = np.arange(0, _SAMPLES + 1, BLOCK, dtype=float)
    delays = rng.uniform(2, 30, _PATHS)
    speeds = rng.uniform(-3e-8, 3e-8, _PATHS)
    gains = rng.standard_normal((_ANTENNAS, _PATHS)) + 1j * rng.standard_normal((_ANTENNAS, _PATHS))
    front = FrontEndSpec()

    def place(path: int, instants: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(instants * (1 + _CLOCKS - speeds[path]) - delays[path])

    def turns(position: NDArray[np.float64], instants: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(_CARRIER_HZ / _RATE_HZ * (position - instants))

    def ours() -> list[NDArray[np.int16]]:
        source = Source.of(samples)
        angle = phase_noise(front, _RATE_HZ, _SAMPLES, 1, "bench")
        counts = []
        field = np.empty((2, _SAMPLES), np.float32)
        for antenna in range(_ANTENNAS):
            field.fill(0.0)
            position = np.array([place(path, edges) for path in range(_PATHS)])
            propagate(source, source.active[0], position, turns(position, edges), gains[antenna], *field)
            counts.append(
                digitise(front, *field, noise_power=_NOISE, scale=_SCALE, angle=angle, seed=1, labels=(antenna,))
            )
        return counts

    def plain() -> list[NDArray[Any]]:
        instants = np.arange(_SAMPLES, dtype=float)
        whole = np.arange(_SAMPLES, dtype=float)
        noise = np.random.default_rng(2)
        angle = 0.01 * noise.standard_normal(_SAMPLES)
        counts = []
        for antenna in range(_ANTENNAS):
            heard = np.zeros(_SAMPLES, complex)
            for path in range(_PATHS):
                position = place(path, instants)
                value = np.interp(position, whole, samples.real) + 1j * np.interp(position, whole, samples.imag)
                heard += gains[antenna, path] * value * np.exp(2j * np.pi * turns(position, instants))
            heard += np.sqrt(_NOISE / 2) * (noise.standard_normal(_SAMPLES) + 1j * noise.standard_normal(_SAMPLES))
            heard *= np.exp(1j * angle) * (_SCALE * 2048)
            pairs = np.stack([heard.real, heard.imag], axis=-1)
            counts.append(np.clip(np.round(pairs), -2048, 2047).astype(np.int16))
        return counts

    return [Stage("simulator", ours, {"numpy": plain}, {"numpy": Goal(25, at_least=True)})]
