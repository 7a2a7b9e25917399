"""Frames in a stream: who sent them, where they start, and at which carrier frequency offset.

Two stages. The short part's periodicity is sought at every sample, whatever the offset, by a running correlation with
the samples one period later, normalised by the local energy, so that neither the recording's level nor a strong frame
elsewhere matters. Around each place found, the long part of each node asked for is matched at the offsets that the
first stage leaves open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, exp, expm1, log, log1p, pi, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.special import gammainccinv

from dsp.waveform import PREAMBLE_BOOST, Waveform, long_body

__all__ = ["Detection", "find_frames"]

_CANDIDATE_PROBABILITY = 1e-4
"""Probability that noise exceeds the first threshold at one sample: few enough for the second stage to look at."""
_MOST_CANDIDATE_FALSE_ALARMS = 0.1
"""The second stage never accepts noise more often than this, however rare candidates are."""
_SECOND_NODE = 0.25
"""A second node at the same place must match at least this share of the best: above any cross-correlation."""
_BURIED = 0.08
"""Strength below which a candidate inside a frame already found is passed over: -4 dB against that frame, or payload
that looks periodic by chance."""
_SIDE_LOBE = 16.0
"""Side lobes of the long part's correlations stay below this share of its length's inverse, in power."""
_FIRST_PATH = 1e-2
"""Power below the strongest path's at which an earlier path still counts as the first."""
_FIRST_PATH_NOISE = 12.0
"""Power over the noise's mean that a first path must have: noise reaches it once in 10^5 places."""


@dataclass(frozen=True)
class Detection:
    """A frame found."""

    identity: int
    start: float
    """Position of the frame's first sample by its first path, in samples from the recording's first."""
    cfo_hz: float
    """Carrier frequency offset: received over expected carrier."""
    metric: float
    """Share of the received energy that the strongest path of the long part explains, 0 to 1."""
    snr: float
    """Signal to noise of one resource element of the frame, as a power ratio, mean over antennas."""
    power: float
    """Power of the long part's strongest path, antennas added, in the square of the recording's unit."""


@dataclass(frozen=True)
class _Candidate:
    position: int
    strength: float
    cfo_cycles: float
    """Coarse offset in cycles per sample."""
    std_cycles: float


@dataclass(frozen=True)
class _Match:
    metric: float
    position: int
    """Of the long part's first body by its strongest path."""
    cycles: float
    power: float


def find_frames(
    samples: NDArray[np.complex64],
    waveform: Waveform,
    *,
    identities: Sequence[int],
    false_alarm_rate: float,
) -> list[Detection]:
    """Complete frames of the nodes asked for, sorted by start.

    Parameters
    ----------
    samples : complex64 array, shape (antenna, sample)
        One stretch without loss, in any unit. Constant offsets are disregarded.
    waveform : Waveform
    identities : sequence of int
        Nodes to look for.
    false_alarm_rate : float, 0 < rate < 1
        Expected number of frames found in the whole stretch where it holds nothing but white Gaussian noise, all
        identities together. The thresholds follow from the distribution of the normalised correlations; the rate is
        kept from above, because neighbouring places are counted as independent.

    Raises
    ------
    ValueError
        If the rate is out of range or the samples are not of two dimensions.
    """
    if not 0 < false_alarm_rate < 1:
        raise ValueError(f"false_alarm_rate is {false_alarm_rate}: must be between 0 and 1")
    if samples.ndim != 2:
        raise ValueError(f"samples have shape {samples.shape}: must be (antenna, sample)")
    if not identities or samples.shape[1] < waveform.frame_samples // 2:
        return []
    samples = np.ascontiguousarray(samples, np.complex64)
    candidates, expected = _candidates(samples, waveform)
    accepted = min(false_alarm_rate / expected, _MOST_CANDIDATE_FALSE_ALARMS)
    found: list[Detection] = []
    inside = -1.0
    for candidate in candidates:
        if candidate.position < inside and candidate.strength < _BURIED:
            continue
        here = _identify(samples, waveform, candidate, identities, accepted)
        inside = max([inside, *(d.start + waveform.frame_samples for d in here)])
        found += here
    last = samples.shape[1] - waveform.frame_samples
    return _without_repeats([d for d in found if -1 < d.start < last + 1], waveform)


def correlation_samples(waveform: Waveform) -> int:
    """Products that the first stage sums: what of the short part stays periodic behind the longest echo."""
    return waveform.short_samples - waveform.short_period - waveform.cp_samples


def _candidates(samples: NDArray[np.complex64], waveform: Waveform) -> tuple[list[_Candidate], float]:
    """Places where the short part may stand, and how many noise alone would yield.

    For white noise the squared correlation coefficient of vectors of n complex elements exceeds x with probability
    (1 - x)^(n-1) = exp(-u). As a function of place it behaves like the envelope of a complex Gaussian process whose
    covariance is triangular, ``length`` wide, which passes a
    high level u on average 2·u·exp(-u)/length times a sample.

    Source: Aldous, "Probability Approximations via the Poisson Clumping Heuristic", 1989, section D10.
    """
    from dsp.kernels.acquisition import _search_periodic

    period, length = waveform.short_period, correlation_samples(waveform)
    freedom = samples.shape[0] * (length - 1) - 1
    level = -log(_CANDIDATE_PROBABILITY)
    threshold = -np.expm1(-level / freedom)
    most = samples.shape[1] // length + 2
    positions, strengths, angles = np.empty(most, np.int64), np.empty(most), np.empty(most)
    count = _search_periodic(samples, period, length, threshold, positions, strengths, angles)
    expected = max(samples.shape[1], length) * 2 * level * exp(-level) / length
    places = []
    for position, strength, angle in zip(positions[:count], strengths[:count], angles[:count], strict=True):
        spread = sqrt(max(1 - strength, 1e-6) / (2 * strength * samples.shape[0] * length)) / (2 * pi * period)
        places.append(_Candidate(int(position), float(strength), float(angle) / (2 * pi * period), spread))
    return places, expected


def _identify(
    samples: NDArray[np.complex64],
    waveform: Waveform,
    candidate: _Candidate,
    identities: Sequence[int],
    accepted: float,
) -> list[Detection]:
    """Frames of any of ``identities`` whose long part stands where the candidate says."""
    body, prefix, length = waveform.long_samples, waveform.cp_samples, correlation_samples(waveform)
    # The correlation's maximum lies on a plateau of a prefix's length, blurred by noise to about half its own length.
    begin = candidate.position + waveform.short_samples + prefix - prefix - length // 2
    lags = prefix + length
    segment = _cut(samples, begin, lags + 2 * body)
    offsets = _open_offsets(waveform, candidate)
    cells = lags * len(offsets) * len(identities)
    # A projection of n independent noise values holds a share x of their energy or more with probability (1 - x)^(n-1):
    # -(n-1)·ln(1 - x) is exponential, and its sum over both bodies and all antennas follows a gamma distribution.
    # Energy and degrees of freedom are the active band's, so that payload, which fills that band, counts as noise does.
    terms = 2 * samples.shape[0]
    threshold = gammainccinv(terms, -np.expm1(log1p(-accepted) / cells)) / (terms * (waveform.long_bins.size - 1))
    size = fft.next_fast_len(lags + 2 * body)
    time = np.arange(segment.shape[1])
    band = np.abs(fft.fftfreq(size)) <= waveform.occupancy / 2
    spectra = {identity: fft.fft(long_body(waveform, identity), size).conj() for identity in identities}
    best = dict.fromkeys(identities, _Match(0.0, begin, 0.0, 0.0))
    for offset in offsets:
        turned = fft.fft(segment * np.exp(-2j * pi * offset * time), size, axis=1) * band
        energy = np.maximum(_running_energy(fft.ifft(turned, axis=1), body, lags + body) * body, 1e-300)
        for identity in identities:
            matched = fft.ifft(turned * spectra[identity], axis=1)[:, : lags + body]
            shares = -np.log1p(-np.minimum(np.abs(matched) ** 2 / energy, 1 - 1e-12))
            metric = np.sum(shares[:, :lags] + shares[:, body:], axis=0) / terms
            lag = int(np.argmax(metric))
            if metric[lag] > best[identity].metric:
                first, second = matched[:, lag], matched[:, body + lag]
                turn = float(np.angle(np.sum(second * first.conj()))) / (2 * pi * body)
                power = float(np.sum(np.abs(first) ** 2 + np.abs(second) ** 2)) / (2 * body**2)
                best[identity] = _Match(float(metric[lag]), begin + lag, offset + turn, power)
    top = max(match.metric for match in best.values())
    found = [
        _refine(samples, waveform, identity, match)
        for identity, match in best.items()
        if match.metric > threshold and expm1(-match.metric) <= _SECOND_NODE * expm1(-top)
    ]
    return [d for d in found if abs(d.cfo_hz) <= 1.05 * waveform.capture_range_hz]


def _open_offsets(waveform: Waveform, candidate: _Candidate) -> list[float]:
    """Offsets in cycles per sample to try: the first stage's, four deviations to either side, and its aliases."""
    limit = 1.05 * waveform.capture_range_hz / float(waveform.rate_hz)
    spacing = 1 / (2 * waveform.long_samples)
    alias = 1 / waveform.short_period
    steps = ceil(4 * candidate.std_cycles / spacing)
    turns = ceil((limit + abs(candidate.cfo_cycles)) / alias)
    offsets = [
        candidate.cfo_cycles + turn * alias + step * spacing
        for turn in range(-turns, turns + 1)
        for step in range(-steps, steps + 1)
        if abs(candidate.cfo_cycles + turn * alias) <= limit
    ]
    return offsets or [candidate.cfo_cycles]


def _refine(
    samples: NDArray[np.complex64],
    waveform: Waveform,
    identity: int,
    match: _Match,
) -> Detection:
    """Offset from the two bodies, start from the first path of the channel that they show."""
    body, prefix = waveform.long_samples, waveform.cp_samples
    rate, carrier = float(waveform.rate_hz), float(waveform.carrier_hz)
    bins = waveform.long_bins
    spectrum = fft.fft(long_body(waveform, identity))[bins % body]
    begin, cycles = match.position - prefix // 2, match.cycles
    for _ in range(2):
        segment = _cut(samples, begin, 2 * body)
        turned = segment * np.exp(-2j * pi * cycles * np.arange(2 * body))
        received = fft.fft(turned.reshape(-1, 2, body), axis=2)[..., bins % body] / spectrum
        # The transmitter's clock moves the second body by the offset's share of a body: a ramp, not a rotation.
        slip = body * cycles * rate / carrier
        late = received[:, 1] * np.exp(-2j * pi * bins / body * slip)
        early = received[:, 0]
        product = np.sum(late * early.conj())
        cycles += float(np.angle(product)) / (2 * pi * body)
        late = late * np.exp(-1j * np.angle(product))
        noise = float(np.mean(np.abs(late - early) ** 2)) / 2
        delay = _first_path((early + late) / 2, bins, body, noise / 2, prefix)
        whole = begin
        begin = begin + round(delay) - max(prefix // 8, 1)
    cfo = cycles * rate
    step = 1 / (1 + cfo / carrier)
    centre = waveform.short_samples + prefix + body / 2
    start = whole + delay + body / 2 - centre * step
    signal = float(abs(product)) / early.size
    snr = signal / max(noise, 1e-300) / PREAMBLE_BOOST**2
    return Detection(identity, start, cfo, -expm1(-match.metric), snr, match.power)


def _first_path(
    channel: NDArray[np.complex128], bins: NDArray[np.int64], body: int, noise: float, prefix: int
) -> float:
    """Delay in samples of the first path, from -prefix to body - prefix.

    A Hann taper keeps the strongest path's side lobes 31 dB down, below what counts as a path.
    """
    over = 8
    half = bins[-1] + 1
    taper = np.cos(pi * bins / (2 * half)) ** 2
    spectrum = np.zeros((channel.shape[0], over * body), complex)
    spectrum[:, bins % (over * body)] = channel * taper
    profile = np.sum(np.abs(fft.ifft(spectrum, axis=1) * (over * body)) ** 2, axis=0)
    floor = noise * channel.shape[0] * float(np.sum(taper**2))
    peak = int(np.argmax(profile))
    order = np.arange(peak - over * prefix, peak + 1)
    before = profile[order % profile.size]
    threshold = max(_FIRST_PATH * before[-1], _FIRST_PATH_NOISE * floor)
    strong = np.flatnonzero(before >= min(threshold, before[-1]))
    at = int(strong[0])
    while at + 1 < before.size and before[at + 1] >= before[at]:
        at += 1
    place = int(order[at])
    left, middle, right = (float(profile[(place + d) % profile.size]) for d in (-1, 0, 1))
    curve = left - 2 * middle + right
    fine = 0.5 * (left - right) / curve if curve < 0 else 0.0
    delay = (place + fine) / over
    return delay - body if delay > body - prefix else delay


def _cut(samples: NDArray[np.complex64], begin: int, count: int) -> NDArray[np.complex128]:
    """Samples from ``begin`` less their mean, zero beyond the recording's edges."""
    out = np.zeros((samples.shape[0], count), complex)
    low, high = max(begin, 0), min(begin + count, samples.shape[1])
    if low < high:
        piece = samples[:, low:high].astype(complex)
        out[:, low - begin : high - begin] = piece - piece.mean(axis=1, keepdims=True)
    return out


def _running_energy(segment: NDArray[np.complex128], width: int, count: int) -> NDArray[np.float64]:
    """Energy of the ``width`` samples from each of ``count`` places, by antenna."""
    total = np.cumsum(np.abs(segment) ** 2, axis=1)
    total = np.concatenate([np.zeros((len(total), 1)), total], axis=1)
    return np.asarray(total[:, width : width + count] - total[:, :count])


def _without_repeats(found: list[Detection], waveform: Waveform) -> list[Detection]:
    """Detections without those that a better one explains, sorted by start.

    A repeat is the same node's within half a preamble. A side lobe is anyone's within a preamble and weaker than the
    long part's correlation with a shifted or foreign one.
    """
    kept: list[Detection] = []
    for detection in sorted(found, key=lambda d: -d.power):
        near = [d for d in kept if abs(d.start - detection.start) < waveform.preamble_samples]
        repeat = any(
            d.identity == detection.identity and abs(d.start - detection.start) < waveform.preamble_samples / 2
            for d in near
        )
        lobe = any(detection.power < _SIDE_LOBE / waveform.long_samples * d.power for d in near)
        if not repeat and not lobe:
            kept.append(detection)
    return sorted(kept, key=lambda d: d.start)
