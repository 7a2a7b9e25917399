"""What oscillator and synthesizer noise add to the offsets that two slots, seen at different times, yield."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, pi, sqrt

import numpy as np
from scipy.integrate import simpson

from dsp.channel import FloatArray

__all__ = [
    "PowerLaw",
    "extrapolation_wander_s",
    "line_wander",
    "midpoint_wander_s",
    "phase_power",
    "synthesizer_disturbance",
    "synthesizer_frequency_deviation_hz",
    "synthesizer_phase_deviation_rad",
]

_HIGHEST_HZ = 1e5
"""Where a synthesizer's loop no longer follows its reference: clock noise beyond it does not reach the air."""
_SETTLED = 30.0
"""Cycles of an average after which what it leaves of a spectrum's oscillation is a thousandth."""


@dataclass(frozen=True)
class PowerLaw:
    """Spectrum of fractional frequency S_y(f) = Σ h_a · f^a, a = -2 … 2 (IEEE 1139), one-sided, per hertz."""

    random_walk_fm: float = 0.0
    flicker_fm: float = 0.0
    white_fm: float = 0.0
    flicker_pm: float = 0.0
    white_pm: float = 0.0

    def time_error(self, frequency_hz: FloatArray) -> FloatArray:
        """One-sided spectrum of the time error x, S_x = S_y / (2πf)², in s²/Hz at ``frequency_hz`` > 0."""
        terms = (self.random_walk_fm, self.flicker_fm, self.white_fm, self.flicker_pm, self.white_pm)
        total = np.zeros_like(frequency_hz)
        for exponent, coefficient in zip(range(-2, 3), terms, strict=True):
            total = total + coefficient * frequency_hz ** float(exponent)
        return total / (2 * pi * frequency_hz) ** 2


def midpoint_wander_s(power_law: PowerLaw, *, separation_s: float, averaging_s: float) -> float:
    """Standard deviation of a clock's mean over two slots against its reading half-way between them.

    A two-way exchange measures the mean of the offset at its two slots; stated for the middle it errs by
    e = ½(x(-h) + x(h)) - x(0) with 2h the slots' separation, whose spectrum is S_x·(sinc(f·T)·cos(2πfh) - 1)², the
    sinc averaging each slot over the frames' length T. Constant offset and frequency cancel.

    Parameters
    ----------
    power_law : PowerLaw
        Of one oscillator; two independent ones add in quadrature.
    separation_s : float ≥ 0
        From the middle of one slot to the middle of the other; 0 where both directions are at once.
    averaging_s : float > 0
        Length of a slot's frames.

    Returns
    -------
    float
        Seconds.

    Source: this project, docs/methods/reciprocity.md eq. 9.
    """
    span = max(separation_s, averaging_s)
    highest_hz = max(_HIGHEST_HZ, 1.0 / span)
    settled_hz = min(_SETTLED / averaging_s, highest_hz)
    # Logarithmic below the first null of the response, then fine enough to follow its oscillation.
    low = np.geomspace(1e-4 / span, 0.1 / span, 400)
    high = np.arange(0.1 / span, settled_hz, 0.02 / span)
    frequency = np.concatenate([low[:-1], high])
    response = (np.sinc(frequency * averaging_s) * np.cos(pi * frequency * separation_s) - 1.0) ** 2
    variance = float(simpson(power_law.time_error(frequency) * response, x=frequency))
    if settled_hz < highest_hz:
        # Its mean from there on: the sinc is small, and oscillates.
        frequency = np.geomspace(high[-1], highest_hz, 200)
        response = 1.0 + 0.25 / (pi * frequency * averaging_s) ** 2
        density = power_law.time_error(frequency) * response * frequency
        variance += float(simpson(density, x=np.log(frequency)))
    return sqrt(variance)


def extrapolation_wander_s(power_law: PowerLaw, *, step_s: float, separation_s: float, averaging_s: float) -> float:
    """Standard deviation of a clock carried ``step_s`` on from a two-way exchange by the drift that it measured.

    x(D) - x(0) - D·y, with y the mean of the least-squares slopes over both slots, has the spectrum
    S_x·|exp(jωD) - 1 - jωD·w(ωT/2)·cos(ωh)|², w(z) = 3(sin z - z·cos z)/z³ and 2h the slots' separation.

    Parameters
    ----------
    power_law : PowerLaw
        Of one oscillator, or of a difference.
    step_s : float
        Of either sign.
    separation_s, averaging_s : float
        As `midpoint_wander_s`.

    Returns
    -------
    float
        Seconds.
    """
    if step_s == 0.0:
        return 0.0
    span = max(abs(step_s), separation_s, averaging_s)
    least = min(abs(step_s), averaging_s)
    frequency = np.geomspace(1e-3 / span, max(30.0 / least, 100.0 / span), 2000)
    omega = 2 * pi * frequency
    z = np.maximum(0.5 * omega * averaging_s, 1e-3)
    slope = 3.0 * (np.sin(z) - z * np.cos(z)) / z**3 * np.cos(0.5 * omega * separation_s)
    response = np.abs(np.exp(1j * omega * step_s) - 1.0 - 1j * omega * step_s * slope) ** 2
    density = power_law.time_error(frequency) * response * frequency
    return sqrt(float(simpson(density, x=np.log(frequency))))


def line_wander(
    power_law: PowerLaw, time_s: FloatArray, *, separation_s: float, averaging_s: float
) -> tuple[float, float]:
    """Deviations of a clock's two-way offsets about a straight line through several exchanges: time, frequency.

    Each exchange takes the mean offset and the least-squares slope over two slots. The squares that a line through
    all of them leaves, over the freedoms it leaves, have the spectrum S_x·|q(ωT/2)·cos(ωh)|²·L(f): q the sinc for the
    time and w of `extrapolation_wander_s` times ω for the frequency, and L what the line leaves of exp(jωt) at the
    exchanges' times.

    Parameters
    ----------
    power_law : PowerLaw
        Of one oscillator, or of a difference.
    time_s : float array, shape (exchange,)
        Three or more, ascending.
    separation_s, averaging_s : float
        As `midpoint_wander_s`.

    Returns
    -------
    (float, float)
        Seconds, and seconds per second.

    Raises
    ------
    ValueError
        If there are fewer than three exchanges.
    """
    if len(time_s) < 3:
        raise ValueError(f"three exchanges leave something of a line, {len(time_s)} do not")
    span = float(np.ptp(time_s))
    highest_hz = max(_HIGHEST_HZ, 1.0 / averaging_s)
    frequency = np.geomspace(1e-3 / span, highest_hz, 4000)
    omega = 2 * pi * frequency
    place = (time_s - time_s.mean()) / span
    basis = np.linalg.qr(np.stack([np.ones_like(place), place], axis=1))[0]
    waves = np.exp(1j * np.outer(time_s - time_s.mean(), omega))
    left = np.sum(np.abs(waves - basis @ (basis.T @ waves)) ** 2, axis=0) / (len(time_s) - 2)
    z = np.maximum(0.5 * omega * averaging_s, 1e-3)
    slope = omega * 3.0 * (np.sin(z) - z * np.cos(z)) / z**3
    density = power_law.time_error(frequency) * np.cos(0.5 * omega * separation_s) ** 2 * left * frequency
    variances = [
        float(simpson(density * response**2, x=np.log(frequency)))
        for response in (np.sinc(frequency * averaging_s), slope)
    ]
    return sqrt(variances[0]), sqrt(variances[1])


def synthesizer_frequency_deviation_hz(rms_rad: float, *, corner_hz: float, length_s: float) -> float:
    """Standard deviation that one synthesizer's phase noise adds to a frequency fitted over ``length_s``.

    Phase noise flat up to the loop's corner, S_φ = S_0 / (1 + (f/corner)²) with variance S_0·corner·π/2; the
    least-squares slope of a phase record of length T weights it by |W(f)|², W the transform of 12·t/T³.

    Parameters
    ----------
    rms_rad : float
        Total phase noise in radians.
    corner_hz : float > 0
        Corner frequency of the loop.
    length_s : float > 0
        Length of the record over which the phase slope is fitted.

    Returns
    -------
    float
        Hertz.
    """
    # The phase has the covariance σ²·e^(-a|τ|), a = 2π·corner; weighted by 12·t/T³ twice, with u = aT, the slope has
    # the variance 288·σ²/T²·∫ (1/12 - x/4 + x³/6)·e^(-ux) dx over 0…1: by moments of the exponential, or by its series.
    u = 2 * pi * corner_hz * length_s
    if u > 0.03:
        left = exp(-u)
        weighted = (1 - left) / (12 * u) - (1 - left * (1 + u)) / (4 * u**2)
        weighted += (6 - left * (u**3 + 3 * u**2 + 6 * u + 6)) / (6 * u**4)
    else:
        weighted = u / 120 - u**2 / 288 + u**3 / 1120
    return sqrt(288 * weighted) * rms_rad / (2 * pi * length_s)


def synthesizer_phase_deviation_rad(rms_rad: float, *, corner_hz: float, length_s: float) -> float:
    """Standard deviation of the mean of one synthesizer's phase noise over ``length_s``.

    The same phase noise; the mean of a record of length T weights its spectrum by sinc²(f·T).

    Parameters
    ----------
    rms_rad, corner_hz, length_s : float
        As `synthesizer_frequency_deviation_hz`.

    Returns
    -------
    float
        Radians.
    """
    # ∫ S_0/(1 + (f/c)²)·sinc²(fT) df in closed form, with a = 2πcT: σ²·2/a·(1 - (1 - e⁻ᵃ)/a)
    a = 2 * pi * corner_hz * length_s
    share = 2 / a * (1 + np.expm1(-a) / a) if a > 1e-4 else 1.0 - a / 3
    return rms_rad * sqrt(float(share))


def synthesizer_disturbance(rms_rad: float, *, corner_hz: float, length_s: float) -> float:
    """Power that one synthesizer's phase noise scatters from each subcarrier to the others, relative to the signal.

    All but what is the mean phase of an OFDM symbol of length T, which turns all subcarriers alike. In a delay this
    power counts twice: what reaches subcarrier m from k and k from m are one draw of the phase, so that their errors
    add where noise's would not, as long as the corner is far below the bandwidth (docs/methods/reciprocity.md eq. 10).

    Parameters
    ----------
    rms_rad, corner_hz : float
        As `synthesizer_frequency_deviation_hz`.
    length_s : float > 0
        Of a symbol, cyclic prefix left out.

    Returns
    -------
    float
        Power ratio.
    """
    return rms_rad**2 - synthesizer_phase_deviation_rad(rms_rad, corner_hz=corner_hz, length_s=length_s) ** 2


def phase_power(
    power_law: PowerLaw, weights: FloatArray, time_s: FloatArray, *, carrier_hz: float, separation_s: float
) -> float:
    """Expected power that clock noise puts into given components of the matched product's phase.

    The product's phase is -2π·carrier times the sum of the time offset at the two directions' slots, x(t) + x(t + D):
    component w takes ∫ S_x·(2π·carrier)²·|1 + exp(j2πfD)|²·|Σ w·exp(j2πft)|² df of it.

    Parameters
    ----------
    power_law : PowerLaw
        Of the two clocks' difference.
    weights : float array, shape (time, component)
        Orthogonal to a constant and a straight line, which clock noise has without end.
    time_s : float array, shape (time,)
        In seconds, ascending.
    separation_s : float ≥ 0
        From one slot to the other, D.

    Returns
    -------
    float
        Summed over the components, in rad².
    """
    span_s = float(time_s[-1] - time_s[0])
    if span_s <= 0.0 or power_law == PowerLaw():
        return 0.0
    frequency = np.geomspace(0.02 / span_s, 30.0 / span_s, 400)
    taken = np.abs(np.exp(2j * pi * np.outer(frequency, time_s)) @ weights) ** 2
    both = 4.0 * np.cos(pi * frequency * separation_s) ** 2
    density = power_law.time_error(frequency) * (2 * pi * carrier_hz) ** 2 * both * taken.sum(axis=1)
    return float(simpson(density * frequency, x=np.log(frequency)))
