"""A laboratory that is not ours: rounds made by exact evaluation of the frame's Fourier series."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import finufft
import numpy as np
import pytest
from numpy.typing import NDArray


@pytest.fixture
def without_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs and replays of this process write no report: seconds, where nothing looks at it."""
    monkeypatch.setattr("testbed.report.page.write_report", lambda folder: folder)


@dataclass(frozen=True)
class ForeignNode:
    """A radio with a clock of its own, which reads zero when its recording begins."""

    begins_s: float
    """True time of its recording's first sample."""
    ppm: float
    departure_samples: float
    """When its slot's first sample leaves, on its own clock, in samples."""
    echoes: tuple[tuple[float, complex], ...] = ()
    """Own echoes: delay in seconds, amplitude against the leakage."""
    leakage_delay_s: float = 0.0

    def reading(self, true_s: NDArray[np.float64] | float) -> NDArray[np.float64] | float:
        return (true_s - self.begins_s) * (1.0 + self.ppm * 1e-6)

    def true(self, reading_s: NDArray[np.float64] | float) -> NDArray[np.float64] | float:
        return reading_s / (1.0 + self.ppm * 1e-6) + self.begins_s


@dataclass(frozen=True)
class ForeignLaboratory:
    """Two nodes, shared ports, static paths that both directions see alike."""

    rate_hz: float
    carrier_hz: float
    frames: tuple[NDArray[np.complexfloating], NDArray[np.complexfloating]]
    """One frame of each node, as `isac frame` writes it."""
    nodes: tuple[ForeignNode, ForeignNode]
    paths: tuple[tuple[float, complex], ...]
    """Delay in seconds and amplitude of each path between the nodes."""
    frames_per_slot: int = 1
    frame_period_s: float = 10e-3
    leakage_db: float | None = 40.0
    snr_db: float = 20.0
    occupied_share: float = 0.78
    seed: int = 0

    def record(self, samples: int) -> list[NDArray[np.int16]]:
        """What each node's 12-bit converter gives, shape (1, samples, 2)."""
        rng = np.random.default_rng(self.seed)
        power = float(np.mean(np.abs(self.frames[0]) ** 2)) * sum(abs(b) ** 2 for _, b in self.paths)
        noise = np.sqrt(power / 10 ** (self.snr_db / 10) / self.occupied_share / 2)
        leak = (
            0.0
            if self.leakage_db is None
            else np.sqrt(10 ** (self.leakage_db / 10) * power) / np.sqrt(float(np.mean(np.abs(self.frames[0]) ** 2)))
        )
        records = []
        for n in (0, 1):
            total = noise * (rng.normal(size=samples) + 1j * rng.normal(size=samples))
            total += self._heard(n, 1 - n, self.paths, samples, phase=rng.uniform(0, 2 * np.pi))
            if leak:
                own = ((self.nodes[n].leakage_delay_s, leak), *((d, leak * b) for d, b in self.nodes[n].echoes))
                total += self._heard(n, n, own, samples, phase=rng.uniform(0, 2 * np.pi))
            largest = max(np.abs(total.real).max(), np.abs(total.imag).max())
            counts = np.round(total * (0.5 * 2047 / largest))
            records.append(np.stack([counts.real, counts.imag], axis=-1).astype(np.int16)[None])
        return records

    def time_offset(self, receiver: int, reading_s: float) -> float:
        """s_n - s_m at the true instant when the receiver's clock reads ``reading_s``."""
        transmitter = self.nodes[1 - receiver]
        return reading_s - float(transmitter.reading(self.nodes[receiver].true(reading_s)))

    def _heard(self, n: int, m: int, paths: tuple[tuple[float, complex], ...], samples: int, phase: float):
        receiver, transmitter, frame = self.nodes[n], self.nodes[m], self.frames[m]
        padded = np.concatenate([frame, np.zeros(4096, frame.dtype)])
        # Modes -N/2 … N/2-1 of the zero-padded frame: its exact band-limited continuation.
        modes = np.fft.fftshift(np.fft.fft(padded.astype(complex))) / padded.size
        received_s = np.arange(samples) / self.rate_hz
        true_s = receiver.true(received_s)
        out = np.zeros(samples, complex)
        for delay_s, amplitude in paths:
            sent_s = transmitter.reading(true_s - delay_s)
            carrier = np.exp(2j * np.pi * self.carrier_hz * (sent_s - received_s) + 1j * phase)
            for f in range(self.frames_per_slot):
                position = sent_s * self.rate_hz - transmitter.departure_samples
                position = position - round(f * self.frame_period_s * self.rate_hz)
                inside = (position > -1024) & (position < frame.size + 1024)
                angle = np.ascontiguousarray(2 * np.pi * position[inside] / padded.size)
                wave = finufft.nufft1d2(np.mod(angle, 2 * np.pi), modes, isign=1, eps=1e-9)
                out[inside] += amplitude * wave * carrier[inside]
        return out


@pytest.fixture
def foreign_laboratory() -> Callable[..., ForeignLaboratory]:
    """Constructor of a `ForeignLaboratory`."""
    return ForeignLaboratory


@pytest.fixture
def foreign_node() -> Callable[..., ForeignNode]:
    """Constructor of a `ForeignNode`."""
    return ForeignNode
