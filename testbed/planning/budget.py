"""Link budget of an experiment: paths, levels and signal-to-noise ratios, from the experiment file alone."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from math import log10, pi

import numpy as np

from dsp import SPEED_OF_LIGHT_MPS
from dsp.channel import FloatArray
from testbed.antennas import antenna_m
from testbed.scenario import Node, Scenario
from testbed.schedule import dsp_waveform

__all__ = ["LinkBudget", "PlannedPath", "echo_gain", "link_budgets", "noise_watts", "sine_std", "way"]

_BOLTZMANN_290K = 1.380649e-23 * 290.0
_CREST_DB = 11.0
"""Peak over mean power that an OFDM signal exceeds in one sample of a hundred thousand."""


@dataclass(frozen=True)
class PlannedPath:
    """One way from a transmitter to a receiver, when the run begins."""

    name: str
    """Reflector's name, or "line of sight"."""
    delay_s: float
    doppler_hz: float
    share: float
    """Of the link's power."""
    moving: bool


@dataclass(frozen=True)
class LinkBudget:
    """One direction of a link: what arrives, above what."""

    receiver: Node
    transmitter: Node
    baseline_m: float
    paths: tuple[PlannedPath, ...]
    """Strongest first."""
    received_dbm: float
    """Mean power while a frame lasts, total over the paths."""
    thermal_snr_db: float
    """Per resource element, of thermal noise alone."""
    quantisation_snr_db: float
    """Of the converter's rounding alone, at the level that the gain leaves the distant node."""
    phase_snr_db: float
    """Of both synthesizers' phase noise alone; infinite without."""
    level_dbfs: float
    """Distant node's root mean square below full scale."""
    leakage_dbfs: float | None
    """Own leakage's, likewise; None if there is none."""
    needed_attenuation_db: float
    """By how much leakage or distant node must come down for its crests to fit the converter."""

    @property
    def snr_db(self) -> float:
        """Per resource element, of all noise together."""
        return -10 * log10(
            sum(10 ** (-x / 10) for x in (self.thermal_snr_db, self.quantisation_snr_db, self.phase_snr_db))
        )

    @property
    def snr(self) -> float:
        """The same as a power ratio."""
        return float(10 ** (self.snr_db / 10))

    @property
    def static_share(self) -> float:
        """Power of the paths that stand still over all."""
        return sum(path.share for path in self.paths if not path.moving)

    @property
    def path_count(self) -> int:
        """Ways from transmitter to receiver."""
        return len(self.paths)

    def path(self, name: str) -> PlannedPath | None:
        """Path of that name."""
        return next((path for path in self.paths if path.name == name), None)

    def echo_snr(self, scenario: Scenario, position_m: FloatArray, rcs_m2: float) -> FloatArray:
        """Signal to noise per resource element of an echo from places of shape (..., 2 or 3)."""
        total = sum(_gains(self.receiver, self.transmitter, scenario).values())
        gain = echo_gain(self.receiver, self.transmitter, scenario.waveform.carrier_hz, position_m, rcs_m2)
        return np.asarray(self.snr * gain / total)


def link_budgets(scenario: Scenario) -> dict[tuple[str, str], LinkBudget]:
    """Budget of every ordered pair of nodes, by receiver and transmitter.

    Free space along the line of sight, the bistatic radar equation over each reflector, 290 K times noise figure over
    the occupied band; `scene.snr_db` replaces the thermal ratio where it is stated. Gains as the nodes' front ends set
    them: the strongest signal, own leakage included, at ``level_dbfs``.
    """
    heard: dict[str, float] = {}
    for receiver, transmitter in permutations(scenario.node, 2):
        watts = _received_watts(receiver, transmitter, scenario)
        heard[receiver.name] = max(heard.get(receiver.name, 0.0), watts)
    return {
        (receiver.name, transmitter.name): _budget(receiver, transmitter, scenario, heard[receiver.name])
        for receiver, transmitter in permutations(scenario.node, 2)
    }


def echo_gain(
    receiver: Node, transmitter: Node, carrier_hz: float, position_m: FloatArray, rcs_m2: float
) -> FloatArray:
    """Power gain by the bistatic radar equation: λ²·σ/((4π)³·r1²·r2²), over places of shape (..., dimension)."""
    wavelength = SPEED_OF_LIGHT_MPS / carrier_hz
    out = _distance(position_m, antenna_m(transmitter, transmits=True))
    back = _distance(position_m, antenna_m(receiver, transmits=False))
    return np.asarray(wavelength**2 * rcs_m2 / ((4 * pi) ** 3 * out**2 * back**2))


def _distance(position_m: FloatArray, antenna: FloatArray) -> FloatArray:
    place = np.asarray(position_m, dtype=float)
    size = max(place.shape[-1], antenna.size)
    widened = [np.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, size - a.shape[-1])]) for a in (place, antenna)]
    return np.asarray(np.linalg.norm(widened[0] - widened[1], axis=-1))


def _gains(receiver: Node, transmitter: Node, scenario: Scenario) -> dict[str, float]:
    """Power gain of each path when the run begins."""
    carrier_hz = scenario.waveform.carrier_hz
    gains: dict[str, float] = {}
    if scenario.scene.line_of_sight:
        distance = float(_distance(antenna_m(transmitter, transmits=True), antenna_m(receiver, transmits=False)))
        gains["line of sight"] = (SPEED_OF_LIGHT_MPS / carrier_hz / (4 * pi * distance)) ** 2
    for reflector in scenario.scene.reflector:
        place = np.array(reflector.position_m)
        gains[reflector.name] = float(echo_gain(receiver, transmitter, carrier_hz, place, reflector.rcs_m2))
    return gains


def _received_watts(receiver: Node, transmitter: Node, scenario: Scenario) -> float:
    """Mean power at the receiver's antenna while a frame lasts."""
    if scenario.scene.snr_db is not None:
        return float(10 ** (scenario.scene.snr_db / 10)) * noise_watts(receiver, scenario)
    transmitted = 1e-3 * 10 ** (transmitter.tx_power_dbm / 10) * dsp_waveform(scenario).scale ** 2
    return sum(_gains(receiver, transmitter, scenario).values()) * float(transmitted)


def noise_watts(receiver: Node, scenario: Scenario) -> float:
    """Thermal noise over the occupied band; of an ideal receiver where it is switched off."""
    figure = receiver.front_end.noise_figure_db
    waveform = scenario.waveform
    occupied_hz = waveform.active_subcarriers * waveform.sample_rate_hz / waveform.fft_size
    return float(_BOLTZMANN_290K * occupied_hz * 10 ** ((0.0 if isinstance(figure, str) else figure) / 10))


def _budget(receiver: Node, transmitter: Node, scenario: Scenario, strongest_watts: float) -> LinkBudget:
    front, waveform, scene = receiver.front_end, scenario.waveform, scenario.scene
    watts = _received_watts(receiver, transmitter, scenario)
    occupied = waveform.active_subcarriers / waveform.fft_size
    noise = noise_watts(receiver, scenario)
    leakage = None if isinstance(scene.leakage_db, str) else strongest_watts * 10 ** (scene.leakage_db / 10)
    loudest = max(strongest_watts, leakage or 0.0) + noise / occupied
    gain_db = front.gain_db if front.gain_db is not None else front.level_dbfs - 10 * log10(loudest / 1e-3)
    level_dbfs = 10 * log10(watts / 1e-3) + gain_db
    leakage_dbfs = None if leakage is None else 10 * log10(leakage / 1e-3) + gain_db
    # Both branches round: a sixth of a count squared, of which the occupied band holds its share.
    rounding_dbfs = 10 * log10(1 / 6) - 20 * log10(2 ** (front.bits - 1)) + 10 * log10(occupied)
    phase = (transmitter.front_end.phase_noise_deg**2 + front.phase_noise_deg**2) * (pi / 180) ** 2
    crest = max(level_dbfs, -np.inf if leakage_dbfs is None else leakage_dbfs) + _CREST_DB
    gains = _gains(receiver, transmitter, scenario)
    total = sum(gains.values())
    ends = antenna_m(transmitter, transmits=True), antenna_m(receiver, transmits=False)
    paths = []
    for name, gain in gains.items():
        reflector = next((one for one in scene.reflector if one.name == name), None)
        place = None if reflector is None else np.array(reflector.position_m, dtype=float)
        velocity_mps = np.array((0.0,) if reflector is None else reflector.velocity_mps, dtype=float)
        delay_s, doppler_hz = way(ends, place, velocity_mps, waveform.carrier_hz)
        moving = bool(np.any(velocity_mps))
        paths.append(PlannedPath(name, delay_s, doppler_hz, gain / total, moving))
    return LinkBudget(
        receiver=receiver,
        transmitter=transmitter,
        baseline_m=float(_distance(*ends)),
        paths=tuple(sorted(paths, key=lambda path: -path.share)),
        received_dbm=10 * log10(watts / 1e-3),
        thermal_snr_db=np.inf if isinstance(front.noise_figure_db, str) else 10 * log10(watts / noise),
        quantisation_snr_db=level_dbfs - rounding_dbfs,
        phase_snr_db=np.inf if phase == 0 else -10 * log10(phase),
        level_dbfs=level_dbfs,
        leakage_dbfs=leakage_dbfs,
        needed_attenuation_db=max(0.0, crest),
    )


def way(
    ends: tuple[FloatArray, FloatArray], place: FloatArray | None, velocity_mps: FloatArray, carrier_hz: float
) -> tuple[float, float]:
    """Delay between two ends by a place, straight if None, and Doppler: the rate at which the way shortens, in
    wavelengths, as the place moves."""
    if place is None:
        return float(_distance(*ends)) / SPEED_OF_LIGHT_MPS, 0.0
    legs = [float(_distance(place, end)) for end in ends]
    rate = 0.0
    for end, leg in zip(ends, legs, strict=True):
        towards = np.pad(place, (0, 3 - place.size)) - np.pad(end, (0, 3 - end.size))
        rate += float(towards @ np.pad(velocity_mps, (0, 3 - velocity_mps.size))) / leg
    return sum(legs) / SPEED_OF_LIGHT_MPS, -rate * carrier_hz / SPEED_OF_LIGHT_MPS


def sine_std(receiver: Node, carrier_hz: float, cell_snr: FloatArray) -> FloatArray:
    """Deviation of the sine of a bearing: one source, an SNR per antenna of ``cell_snr``; infinite for one antenna.

    √(6/(ρ·A(A²−1))) of the phase between neighbours, over 2π·spacing/λ. Source: methods 2, docs/methods/planning.md
    eq. 2.
    """
    if receiver.antennas < 2:
        return np.full(np.shape(cell_snr), np.inf)
    a = receiver.antennas
    phase = np.sqrt(6 / (np.asarray(cell_snr) * a * (a * a - 1)))
    return np.asarray(phase * SPEED_OF_LIGHT_MPS / carrier_hz / (2 * pi * receiver.antenna_spacing_m))
