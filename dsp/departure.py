"""When a node's own frames left it: the arrival of its leakage, and the one latency of a stream.

A node hears its own frames through leakage, 30 to 60 dB above anything else, together with echoes of the scene
40 dB and more below. A transmit-receive latency is one constant per stream start (methods section 3.6): whole
samples from the leakage, the fraction from calibration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dsp.channel import ChannelState
from dsp.dispersion import Dispersion, explained
from dsp.moment import Moment
from dsp.path_sum import PathFit, PathSum, path_sum

__all__ = ["Arrival", "Latency", "latency", "leakage_arrival"]

_LARGEST_ORDER = 12
_TRIAL_STEPS = 10
_LOOK_AHEAD = 1
_NOISE_TOLERANCE = 1.5
_SLOPE_OF_PATH = 0.4  # deviation of the delay, in 1/B, that an unresolved path of unit amplitude and any phase causes
_AGREEMENT_S = 20e-12
_AGREEMENT_STDS = 3.0


@dataclass(frozen=True)
class Arrival:
    """Arrival of the leakage on the node's own clock."""

    moment: Moment
    """Reading at which the slot's first sample arrived over the leakage path."""
    std_s: float
    """Deviation from noise, with every echo's delay and amplitude unknown."""
    echoes: int
    """Echoes found beside the leakage."""
    dispersion: Dispersion | None = None
    """What transmit and receive filters together do beside delaying; None if nothing is seen of it."""


@dataclass(frozen=True)
class Latency:
    """Time from a node's commanded departure to its arrival over the leakage, on its own clock."""

    samples: int
    fraction: float
    """Part of a sample to be added, -0.5 to 0.5."""
    std_s: float
    note: str
    """Where the fraction comes from, and what casts doubt on it."""


def leakage_arrival(csi: ChannelState) -> Arrival:
    """Arrival of the leakage in CSI of a node's own frames, free of the bias that echoes give it.

    The slot's mean channel is fitted by a sum of paths, amplitudes and delays free: the strongest first, then one
    echo at a time where the remainder is best explained, all delays refined together by Gauss-Newton steps after
    each. The number of echoes is the one of minimum description length, noise level unknown. A single path
    fitted instead is off by up to 265 ps with one echo at -40 dB, 20 to 67 ns late, in 16 MHz.

    Filters of transmitter and receiver disperse what they pass: 4 degrees and 1 dB at the edges of a Pluto's band,
    which paths alone would explain by an echo that is not there (145 ps too early in 16 MHz). What they do to all
    paths alike is fitted with them where that says it shorter (`dsp.dispersion`); the delay is that of the linear
    phase. An echo less than 1/B late is then hardly told from a filter: 160 ps rms at -40 dB, 20 to 67 ns late.

    What is left above the stated noise is taken for echoes that could not be resolved, and widens the deviation.
    Echoes are looked for after the leakage only, up to a quarter of the reciprocal subcarrier spacing.

    Parameters
    ----------
    csi : ChannelState
        The node's own frames; antenna 0 is used.

    Raises
    ------
    ValueError
        If fewer than eight subcarriers are known.
    """
    fit, noise = path_sum(csi)
    best, dispersion = explained(fit, _fewest_paths)
    excess = float(np.mean(np.abs(best.remainder) ** 2)) / noise
    unresolved_s = 0.0
    if excess > _NOISE_TOLERANCE:
        part = np.sqrt((excess - 1.0) * noise) / abs(best.amplitudes[0])
        unresolved_s = _SLOPE_OF_PATH * float(part) / fit.band_hz
    return Arrival(
        moment=csi.reference.shifted(float(best.delays_s[0])),
        std_s=float(np.hypot(best.delay_std_s[0], unresolved_s)),
        echoes=len(best.delays_s) - 1,
        dispersion=dispersion,
    )


def latency(
    arrivals: Sequence[Moment],
    commanded: Sequence[Moment | int],
    calibrated_fraction: float | None,
    *,
    std_s: float = 0.0,
) -> Latency:
    """One latency for a stream: whole samples from the leakage, the fraction from calibration.

    Without calibration the fraction is zero where the leakage agrees with a whole sample, because a node's
    converters share a clock; otherwise it is the measured one, and the note says so.

    Parameters
    ----------
    arrivals, commanded : sequences of equal length
        Leakage arrivals and the departures commanded, as moments or ticks of the same clock.
    calibrated_fraction : float or None
        Part of a sample known from calibration.
    std_s : float
        Deviation of one arrival, used where a single one leaves no scatter to be seen.

    Raises
    ------
    ValueError
        If the sequences are empty or of unequal length.
    """
    if not arrivals or len(arrivals) != len(commanded):
        raise ValueError(f"need as many departures as arrivals, at least one; got {len(commanded)} and {len(arrivals)}")
    whole, part = [], []
    for arrival, command in zip(arrivals, commanded, strict=True):
        tick, fraction = (command, 0.0) if isinstance(command, int) else (command.tick, command.fraction)
        whole.append(arrival.tick - tick)
        part.append(arrival.fraction - fraction)
    origin = sorted(whole)[len(whole) // 2]
    delays = np.array([number - origin for number in whole], dtype=np.float64) + np.array(part)
    rate_hz = float(arrivals[0].rate_hz)
    middle = float(np.median(delays))
    scatter_s = float(np.std(delays, ddof=1)) / rate_hz if len(delays) > 1 else 0.0
    mean_std_s = max(scatter_s, std_s) / np.sqrt(len(delays))
    doubts = "" if np.all(np.abs(delays - middle) < 0.5) else "; latency changed within the stream"
    if calibrated_fraction is not None:
        samples = origin + round(middle - calibrated_fraction)
        return Latency(samples, calibrated_fraction, scatter_s if doubts else 0.0, "fraction from calibration" + doubts)
    nearest = round(middle)
    measured = float(np.mean(delays)) - nearest
    tolerance_s = max(_AGREEMENT_STDS * mean_std_s, _AGREEMENT_S)
    if abs(measured) / rate_hz <= tolerance_s and not doubts:
        return Latency(origin + nearest, 0.0, 0.0, "whole samples: the converters share a clock")
    note = "fraction measured from the leakage, not calibrated: scene echoes may bias it"
    return Latency(origin + nearest, measured, scatter_s if doubts else float(mean_std_s), note + doubts)


def _fewest_paths(fit: PathSum) -> PathFit:
    """Fit of minimum description length; an addition that does not pay at once gets two more to do so."""
    best = current = fit.refined(np.array([fit.strongest_delay()]))
    idle = 0
    while idle <= _LOOK_AHEAD and len(current.delays_s) < _LARGEST_ORDER:
        trials = [
            fit.refined(np.append(current.delays_s, delay_s), _TRIAL_STEPS) for delay_s in fit.next_delays(current)
        ]
        trials = [trial for trial in trials if fit.plausible(trial)]
        if not trials:
            break
        current = fit.refined(min(trials, key=lambda solution: solution.length).delays_s)
        if not fit.plausible(current):
            break
        idle = 0 if current.length < best.length else idle + 1
        best = min(best, current, key=lambda solution: solution.length)
    return best
