"""Channel state between packets that share no phase: timing, common phase, and what cancels across antennas.

A WiFi card reports CSI whose timing, carrier phase and, on some cards, quarter or half turns between its
antennas are new in every packet. Timing and common phase are the same on all antennas of a packet: a quotient
(CSI ratio) or a conjugate product (CACC) of two antennas cancels them. The turns are not, and must be found first.
Arrays are (stream, antenna, packet, subcarrier); an antenna that a packet lacks is all zero in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsp.channel import ComplexArray, FloatArray

__all__ = [
    "Turns",
    "circular_std_rad",
    "coherence",
    "common_phase",
    "cross_product",
    "csi_ratio",
    "mean_product",
    "packet_phase",
    "packet_timing",
    "resolve_turns",
    "unwrapped_timing",
]

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.integer]

_TEMPLATE_PASSES = 3
_NEWTON_STEPS = 6
_MOST_STEPS = 10_000
_TRACK_PACKETS = 5
"""Packets over which the turn tracker averages its template: longer is quieter, shorter follows motion."""


@dataclass(frozen=True)
class Turns:
    """Turns of one antenna against another, packet by packet."""

    order: int
    """1: none; 2: half turns; 4: quarter turns."""
    turns: IntArray
    """Turns to take back in each packet, in units of 1/order of a turn; the most frequent value is called zero."""
    evidence: float
    """Log-likelihood (nats, after the Bayesian penalty) by which this order beats no turns; 0 for order 1."""
    doubtful: int
    """Packets whose phase lay nearer to the border between two turns than to the turn chosen."""

    @property
    def turned(self) -> int:
        """Packets whose turn was not the most frequent one."""
        return int(np.count_nonzero(self.turns))

    def untwist(self, product: ComplexArray) -> ComplexArray:
        """``product`` (…, packet, subcarrier) with the turns taken back."""
        return np.asarray(product * np.exp(-2j * np.pi * self.turns / self.order)[:, None])


def coherence(phase_rad: FloatArray) -> float:
    """Length of the mean of exp(j·phase): 1 for a constant, about 1/√n for n uniform phases; NaN left out."""
    phase = phase_rad[np.isfinite(phase_rad)]
    return float(abs(np.exp(1j * phase).mean())) if phase.size else 0.0


def circular_std_rad(phase_rad: FloatArray) -> float:
    """Circular standard deviation √(-2·ln coherence) in radians; infinite for a coherence of zero."""
    return float(np.sqrt(max(-2.0 * np.log(max(coherence(phase_rad), 1e-300)), 0.0)))


def mean_product(values: NDArray[np.complex64]) -> NDArray[np.complex128]:
    """Mean over the symbols of H_a·conj(H_0) for every antenna a after the first, in one pass: CACC's static part.

    Parameters
    ----------
    values : complex64 array, shape (antenna, symbol, subcarrier)

    Returns
    -------
    complex128 array, shape (antenna - 1, subcarrier)
    """
    from dsp.kernels.channel import _cross_mean

    given: NDArray[np.complex64] = np.ascontiguousarray(values, dtype=np.complex64)
    out = np.empty((values.shape[0] - 1, values.shape[2]), np.complex128)
    _cross_mean(given, out)
    return out


def packet_timing(values: ComplexArray, subcarrier_hz: FloatArray) -> FloatArray:
    """Timing of each packet against the file's common channel, by joint maximum likelihood over antennas and streams.

    Every packet is taken as one channel per antenna and stream, common to all packets, delayed by the packet's
    timing and turned by a free phase per antenna and stream: the timing maximises the sum over antennas and
    streams of |Σ_k H_k·conj(T_k)·exp(+j2πf_kτ)|². The common channel T is found by aligning and averaging, thrice.
    It starts as a constant, which makes the first pass the delay of each packet's strongest path; the mean of that
    pass is what the absolute level means.

    Parameters
    ----------
    values : complex array, shape (stream, antenna, packet, subcarrier)
        Zero where a packet lacks an antenna or subcarrier.
    subcarrier_hz : float array, shape (subcarrier,)
        Baseband frequencies, ascending, not necessarily uniform.

    Returns
    -------
    float array, shape (packet,)
        Seconds, positive when the packet appears later; NaN for a packet that is all zero.
    """
    snapshots = _snapshots(values)
    heard = np.any(snapshots != 0, axis=(1, 2))
    timing = np.full(len(snapshots), np.nan)
    if not heard.any() or len(subcarrier_hz) < 2:
        return timing
    present = snapshots[heard]
    frequency = np.asarray(subcarrier_hz, dtype=float)
    band_hz = float(frequency[-1] - frequency[0])
    center_s = _common_delay(present, frequency)
    # Packets jitter by far less than three resolution cells about the common delay.
    found = _best_delay(present, frequency, center_s, 3.0 / band_hz)
    level = found.mean()
    template: ComplexArray | None = None
    for _ in range(_TEMPLATE_PASSES):
        template = _template(present, frequency, found, template)
        found = found + _best_delay(
            _advanced(present, frequency, found) * template.conj()[None], frequency, 0.0, 1.0 / band_hz
        )
    timing[heard] = found - found.mean() + level
    return timing


def unwrapped_timing(values: ComplexArray, subcarrier_hz: FloatArray) -> FloatArray:
    """Timing of each packet from the least-squares slope of one antenna's unwrapped phase, the usual field method.

    Parameters
    ----------
    values : complex array, shape (packet, subcarrier)
    subcarrier_hz : float array, shape (subcarrier,)

    Returns
    -------
    float array, shape (packet,)
        Seconds; NaN for a packet with a zero. Biased by multipath and broken by noise that defeats the unwrapping.
    """
    timing = np.full(len(values), np.nan)
    heard = np.all(values != 0, axis=1)
    if heard.any() and len(subcarrier_hz) >= 2:
        phase = np.unwrap(np.angle(values[heard]), axis=1)
        timing[heard] = -np.polyfit(subcarrier_hz, phase.T, 1)[0] / (2 * np.pi)
    return timing


def common_phase(values: ComplexArray, subcarrier_hz: FloatArray, timing_s: FloatArray) -> FloatArray:
    """Phase of each packet at the carrier, radians, once its timing is taken out: shape (packet,); NaN if all zero.

    ``values`` is one antenna and stream, shape (packet, subcarrier).
    """
    turned = values * np.exp(2j * np.pi * np.nan_to_num(timing_s)[:, None] * subcarrier_hz)
    return packet_phase(turned)


def packet_phase(product: ComplexArray) -> FloatArray:
    """Phase of the sum over subcarriers and streams, radians, shape (packet,); NaN where the sum is zero.

    ``product`` has shape (packet, subcarrier) or (stream, packet, subcarrier). Streams differ by a phase of their
    own, which is turned to the first stream's before they are added.
    """
    sums = np.atleast_2d(product.sum(axis=-1))
    between = np.angle(np.sum(sums * sums[0].conj(), axis=1))
    total = np.sum(sums * np.exp(-1j * between)[:, None], axis=0)
    phase: FloatArray = np.where(total != 0, np.angle(total), np.nan)
    return phase


def cross_product(values: ComplexArray, antenna: int, reference: int) -> ComplexArray:
    """Conjugate product H_a·conj(H_r) of two antennas (CACC), shape (stream, packet, subcarrier).

    Timing and phase that the antennas share cancel; zero where either is absent. Source: survey eq. 32.
    """
    product: ComplexArray = values[:, antenna] * values[:, reference].conj()
    return product


def csi_ratio(values: ComplexArray, antenna: int, reference: int) -> ComplexArray:
    """Quotient H_a/H_r of two antennas, shape (stream, packet, subcarrier); NaN where either is exactly zero.

    Timing, phase and gain that the antennas share cancel. Source: survey V-A1.
    """
    above, below = values[:, antenna], values[:, reference]
    ratio = np.full(above.shape, np.nan + 1j * np.nan, dtype=np.complex128)
    return np.divide(above, below, out=ratio, where=(above != 0) & (below != 0))


def resolve_turns(product: ComplexArray) -> Turns:
    """Quarter or half turns between two antennas, found in the data and resolved packet by packet.

    Whether there are any is decided on the phase steps between consecutive packets: a mixture of q equidistant
    von Mises peaks and a uniform background is fitted for q = 1, 2, 4, and the order with the best Bayesian
    information criterion is taken (outliers go to the background, motion widens the peaks). The turns are then
    those that bring each packet nearest to a template tracked over its neighbours, so that slow motion is kept.
    One constant turn common to the whole file cannot be seen; the most frequent turn is called zero.

    Parameters
    ----------
    product : complex array, shape (stream, packet, subcarrier)
        Conjugate product of two antennas, zero where a packet lacks one of them.

    Returns
    -------
    Turns
        ``turns`` of shape (packet,); zero for packets that lack an antenna.
    """
    rows = np.moveaxis(product, 1, 0).reshape(product.shape[1], -1).astype(np.complex128)
    norm = np.linalg.norm(rows, axis=1)
    heard = np.flatnonzero(norm > 0)
    turns = np.zeros(len(rows), dtype=np.int64)
    if heard.size < 3:
        return Turns(1, turns, 0.0, 0)
    unit = rows[heard] / norm[heard, None]
    steps = np.angle(np.einsum("ti,ti->t", unit[1:], unit[:-1].conj()))
    # Tens of thousands of steps decide nothing that these do not.
    sample = steps[:: -(-len(steps) // _MOST_STEPS)]
    scores = {order: _mixture_score(sample, order) for order in (1, 2, 4)}
    order = max(scores, key=lambda q: scores[q])
    # Odds below a hundred to one are no ground for changing data.
    if order == 1 or scores[order] - scores[1] < np.log(100.0):
        return Turns(1, turns, 0.0, 0)
    found, margin = _track_turns(unit, order)
    if order == 4 and not np.any((found - found[0]) % 2):
        order, found = 2, found // 2
    frequent = int(np.bincount(found, minlength=order).argmax())
    turns[heard] = (found - frequent) % order
    return Turns(order, turns, float(scores[order] - scores[1]), int(np.count_nonzero(margin > np.pi / (2 * order))))


def _snapshots(values: ComplexArray) -> ComplexArray:
    """(stream, antenna, packet, subcarrier) as (packet, channel, subcarrier) of unit power, quiet channels too."""
    streams, antennas, packets, subcarriers = values.shape
    snapshots = values.transpose(2, 0, 1, 3).reshape(packets, streams * antennas, subcarriers).astype(np.complex128)
    power = np.sqrt((np.abs(snapshots) ** 2).sum(axis=(1, 2), keepdims=True))
    return np.asarray(snapshots / np.where(power > 0, power, 1.0))


def _advanced(snapshots: ComplexArray, frequency: FloatArray, timing_s: FloatArray) -> ComplexArray:
    """Snapshots with each packet's timing taken out."""
    turned: ComplexArray = snapshots * np.exp(2j * np.pi * timing_s[:, None] * frequency)[:, None, :]
    return turned


def _common_delay(snapshots: ComplexArray, frequency: FloatArray) -> float:
    """Delay with the most power over all packets and channels, within the period of the subcarrier grid."""
    step_hz = float(np.diff(frequency).min())
    band_hz = float(frequency[-1] - frequency[0])
    grid = np.arange(-0.5 / step_hz, 0.5 / step_hz, 0.25 / band_hz)
    profile = np.zeros(grid.size)
    steering = np.exp(2j * np.pi * frequency[:, None] * grid)
    # A few hundred packets fix the common delay; the rest cannot move it by a cell.
    for packet in snapshots[:: max(len(snapshots) // 400, 1)]:
        profile += (np.abs(packet @ steering) ** 2).sum(axis=0)
    return float(grid[profile.argmax()])


def _best_delay(product: ComplexArray, frequency: FloatArray, center_s: float, span_s: float) -> FloatArray:
    """Delay within ``center_s`` ± ``span_s`` that maximises Σ_channel |Σ_k P·exp(+j2πfτ)|², per packet."""
    band_hz = float(frequency[-1] - frequency[0])
    grid = center_s + np.arange(-span_s, span_s, 0.125 / band_hz)
    steering = np.exp(2j * np.pi * frequency[:, None] * grid)
    power = np.zeros((len(product), grid.size))
    for channel in range(product.shape[1]):
        power += np.abs(product[:, channel] @ steering) ** 2
    start = grid[power.argmax(axis=1)]
    delay = start.copy()
    omega = 2 * np.pi * frequency
    for _ in range(_NEWTON_STEPS):
        turned = _advanced(product, frequency, delay)
        zeroth, first, second = (turned @ (1j * omega) ** n for n in range(3))
        slope = 2 * np.sum(np.real(zeroth.conj() * first), axis=1)
        bend = 2 * np.sum(np.abs(first) ** 2 + np.real(zeroth.conj() * second), axis=1)
        step = np.where(bend < 0, -slope / np.where(bend < 0, bend, -1.0), 0.0)
        delay = np.clip(delay + step, start - 0.125 / band_hz, start + 0.125 / band_hz)
    return np.asarray(delay)


def _template(
    snapshots: ComplexArray, frequency: FloatArray, timing_s: FloatArray, template: ComplexArray | None
) -> ComplexArray:
    """Mean channel (channel, subcarrier) of the packets once timing and each channel's phase are taken out."""
    aligned = _advanced(snapshots, frequency, timing_s)
    guide = aligned[0] if template is None else template
    for _ in range(2):
        # Channels that the guide's packet lacked start from their own first sum.
        phase = np.einsum("pck,ck->pc", aligned, guide.conj())
        phase = np.where(phase == 0, aligned.sum(axis=2), phase)
        size = np.abs(phase)
        guide = (aligned * np.where(size > 0, phase.conj() / np.where(size > 0, size, 1.0), 0.0)[..., None]).mean(
            axis=0
        )
    return np.asarray(guide)


def _mixture_score(steps: FloatArray, order: int) -> float:
    """Log-likelihood less Bayesian penalty of phase steps under ``order`` equidistant peaks and a background.

    Peaks share one concentration; those off zero share one weight. Expectation-maximisation from several starts,
    because sharp peaks with tails have a local optimum for each width.
    """
    centers = 2 * np.pi * np.arange(order) / order
    cosines = np.cos(steps[:, None] - centers)
    best = -np.inf
    for start in (4.0, 40.0, 400.0, 4000.0):
        concentration, stay, background = start, 1.0 / order, 0.05
        before = -np.inf
        for _ in range(200):
            turn = (1.0 - stay - background) / max(order - 1, 1)
            weight = np.array([stay] + [max(turn, 0.0)] * (order - 1))
            # exp(κ(cos-1)) and the scaled Bessel function keep large concentrations finite.
            peaks = weight * np.exp(concentration * (cosines - 1.0)) / (2 * np.pi * _scaled_i0(concentration))
            density = peaks.sum(axis=1) + background / (2 * np.pi)
            score = float(np.log(density).sum())
            if score - before < 1e-4:
                break
            before = score
            share = peaks / density[:, None]
            background = float(np.clip(1.0 - share.sum() / len(steps), 1e-4, 0.5))
            stay = float(share[:, 0].sum() / len(steps)) if order > 1 else 1.0 - background
            concentration = _concentration(float((share * cosines).sum() / max(share.sum(), 1e-12)))
        best = max(best, score)
    parameters = 2 if order == 1 else 3
    return best - 0.5 * parameters * float(np.log(len(steps)))


def _scaled_i0(concentration: float) -> float:
    """exp(-κ)·I0(κ)."""
    from scipy.special import i0e

    return float(i0e(concentration))


def _concentration(mean_cosine: float) -> float:
    """Von Mises concentration of a mean cosine, within 0.01 to 10,000 (Best and Fisher 1981, approximation)."""
    r = float(np.clip(mean_cosine, 0.0, 0.99995))
    if r < 0.53:
        value = 2 * r + r**3 + 5 * r**5 / 6
    elif r < 0.85:
        value = -0.4 + 1.39 * r + 0.43 / (1 - r)
    else:
        value = 1 / (r**3 - 4 * r**2 + 3 * r)
    return float(np.clip(value, 0.01, 1e4))


def _track_turns(unit: ComplexArray, order: int) -> tuple[IntArray, FloatArray]:
    """Turn of each packet, and the angle left between it and the template of its neighbours."""
    packets = len(unit)
    turns = np.zeros(packets, dtype=np.int64)
    back = np.exp(-2j * np.pi * np.arange(order) / order)
    template = unit[0].copy()
    for packet in range(1, packets):
        angle = np.angle(np.vdot(template, unit[packet]))
        turns[packet] = int(np.rint(angle * order / (2 * np.pi))) % order
        template += (unit[packet] * back[turns[packet]] - template) / _TRACK_PACKETS
    margin = np.zeros(packets)
    index = np.arange(packets)
    low, high = np.maximum(index - _TRACK_PACKETS, 0), np.minimum(index + _TRACK_PACKETS + 1, packets)
    for sweep in range(10):
        # From both sides, the packet itself left out: corrects what the one-sided pass could not know.
        corrected = unit * back[turns][:, None]
        sums = np.vstack([np.zeros_like(unit[:1]), np.cumsum(corrected, axis=0)])
        neighbours = sums[high] - sums[low] - corrected
        angles = np.angle(np.einsum("ti,ti->t", corrected, neighbours.conj()))
        change = np.rint(angles * order / (2 * np.pi)).astype(np.int64)
        margin = np.abs(angles - change * 2 * np.pi / order)
        if not change.any():
            break
        # Neighbours that changed together would only swap their error: even and odd packets take turns.
        turns = np.where(index % 2 == sweep % 2, (turns + change) % order, turns)
    return turns, margin
