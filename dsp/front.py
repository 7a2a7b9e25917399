"""Samples to channel state: the slot of one transmitter, referred to the receiver's clock.

Acquisition's reference (arrival of the first frame's first sample, and carrier frequency offset) is removed exactly:
the recording is resampled onto the transmitter's clock. At offset CFO that clock runs 1 + CFO/carrier times as fast as
the receiver's, so that the transmitter's sample i stands at ``start + i/(1 + CFO/carrier)`` of the receiver's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import pi, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from dsp.channel import ChannelState
from dsp.equalization import back_off, combine, follow, noise_beyond_prefix, smooth
from dsp.fourier import transformed
from dsp.moment import Moment
from dsp.payload import Decoded, decode, error_vector_db, grid_of, soft_bits
from dsp.resampling import interpolate, margin_samples
from dsp.waveform import PREAMBLE_BOOST, Waveform, long_body, pilot_values

__all__ = ["PayloadResult", "SlotResult", "Tuning", "channel_state"]

_WELL_REMOVED = 1e-4
"""Offset in subcarrier spacings that may stay: what it leaks into neighbouring subcarriers is 75 dB down."""


_MOST_ROUNDS = 4
"""Rounds of refining the channel with all elements known, ended once it leaves no more than the noise."""
_UNLIKELY = 16.0
"""Squared mean over its expectation that the signal alone exceeds once in 10^7 slots."""
_WORTH_ANOTHER_ROUND = 0.03
"""Share of the noise that a correction of the converters' offset must have for the channel to be found anew."""


@dataclass(frozen=True)
class Tuning:
    """What a receiver's device applied, where it differs from what the transmitter's did."""

    rate_hz: Fraction
    carrier_hz: Fraction


@dataclass(frozen=True)
class PayloadResult:
    """What was made of the payload of one frame."""

    frame: int
    """Place within the slot, from the first frame given."""
    crc_ok: bool
    identity: int | None
    """As the frame's header says; None where the checksum fails."""
    round_index: int | None
    bits: NDArray[np.uint8]
    """Payload as decided."""
    bit_errors: int | None
    """Against what was sent; None where no frame of the slot tells it."""
    evm_db: float
    """Power of what the channel's estimate leaves unexplained over the power that it explains."""


@dataclass(frozen=True)
class SlotResult:
    """One slot of one transmitter at one receiver."""

    csi: ChannelState
    payload: tuple[PayloadResult, ...]
    grid: NDArray[np.complex64] | None
    """The resource elements sent, shape (symbol, subcarrier); None where no checksum holds."""
    equalised: NDArray[np.complex64]
    """Data elements of the first frame after equalisation, for the picture of the constellation."""
    data_aided: bool
    """Whether all elements were known, or pilots alone."""


@dataclass(frozen=True)
class _Reference:
    """Where the receiver sees the transmitter's samples."""

    start: float
    step: float
    """Receiver's samples for one of the transmitter's."""
    rotation: float
    """Observed carrier offset in cycles per receiver's sample."""
    cfo_hz: float

    @classmethod
    def at(cls, start: float, cfo_hz: float, waveform: Waveform, tuning: Tuning) -> _Reference:
        """For clocks that differ by ``cfo_hz`` at the receiver's carrier; exact, the fractions kept rational."""
        speed = 1 + cfo_hz / float(tuning.carrier_hz)
        step = float(tuning.rate_hz / waveform.rate_hz) / speed
        observed = cfo_hz + float(waveform.carrier_hz - tuning.carrier_hz) * speed
        return cls(start, step, observed / float(tuning.rate_hz), cfo_hz)


def channel_state(
    samples: NDArray[np.complex64],
    waveform: Waveform,
    *,
    clock: str,
    first_tick: int,
    starts: Sequence[float],
    period_samples: int,
    cfo_hz: float,
    identity: int,
    known: NDArray[np.complexfloating] | None = None,
    tuning: Tuning | None = None,
) -> SlotResult:
    """Channel state of the frames of one slot, which share one reference, and their payload.

    Parameters
    ----------
    samples : complex64 array, shape (antenna, sample)
        One stretch without loss.
    waveform : Waveform
        As the transmitter applied it.
    clock, first_tick : str, int
        The receiver's clock, and its reading at the first sample.
    starts : sequence of float
        Starts of the slot's frames in samples, ascending; the first is the reference. Missing frames are left out.
    period_samples : int
        Spacing of the slot's frames on the transmitter's clock.
    cfo_hz : float
        Carrier frequency offset, to a tenth of the subcarrier spacing; refined here over the first frame.
    identity : int
        The transmitter.
    known : complex array, shape (symbol, subcarrier), optional
        Resource elements sent, where the receiver knows them beforehand.
    tuning : Tuning, optional
        The receiver's rate and carrier, where its device applied others than the transmitter's.

    Returns
    -------
    SlotResult
        All elements are known and weigh |X|² where a checksum of the slot holds or ``known`` is given; pilots alone
        otherwise. Amplitudes are received over transmitted samples, full scale of the transmitter being one.

    Raises
    ------
    ValueError
        If there is no start, one is over half a prefix from its place in the slot, or a frame leaves the samples.
    """
    if not len(starts):
        raise ValueError("no frame to process")
    tuning = tuning or Tuning(waveform.rate_hz, waveform.carrier_hz)
    reference = _Reference.at(float(starts[0]), cfo_hz, waveform, tuning)
    frames = _frame_numbers(starts, period_samples, reference, waveform)
    samples, shift = _with_margins(samples, waveform, reference, frames[-1] * period_samples)
    offsets = [number * period_samples for number in frames]
    pilots = pilot_values(waveform, identity)
    reference = _Reference.at(reference.start + shift, cfo_hz, waveform, tuning)
    reference, received = _demodulated(samples, waveform, tuning, reference, identity, offsets, pilots)
    decoded = [_decode_frame(received, index, pilots, waveform) for index in range(len(frames))]
    grid = _grid([frame.decoded for frame in decoded], known, waveform, identity)
    sent = pilots if grid is None else grid
    received, expected = _explained(received, decoded, grid, pilots, reference, offsets, waveform)
    values, weights = _divide(received.symbols, sent)
    noise = received.noise if grid is None else noise_beyond_prefix(values, weights, waveform)
    mean = float(weights[weights > 0].mean())
    csi = ChannelState(
        values=values,
        weights=weights / mean,
        subcarrier_hz=waveform.subcarrier_hz,
        symbol_s=_symbol_times(waveform, reference, tuning, offsets),
        reference=Moment.at(clock, reference.start - shift, tuning.rate_hz, tick=first_tick),
        cfo_reference_hz=reference.cfo_hz,
        carrier_hz=tuning.carrier_hz,
        noise=noise / mean,
        frame_of_symbol=np.repeat(np.asarray(frames), waveform.symbols),
    )
    payload = _payload_results(frames, [frame.decoded for frame in decoded], received.symbols, expected, waveform)
    return SlotResult(csi, payload, grid, decoded[0].elements, grid is not None)


def _frame_numbers(starts: Sequence[float], period: int, reference: _Reference, waveform: Waveform) -> list[int]:
    places = (np.asarray(starts, float) - starts[0]) / (period * reference.step)
    numbers = np.round(places).astype(int)
    astray = np.abs(places - numbers) * period
    if np.any(astray > waveform.cp_samples / 2) or np.any(np.diff(numbers) < 1):
        raise ValueError(f"frames start at {list(starts)}: not multiples of {period} samples apart")
    return [int(number) for number in numbers]


def _with_margins(
    samples: NDArray[np.complex64], waveform: Waveform, reference: _Reference, last: int
) -> tuple[NDArray[np.complex64], int]:
    """The slot's samples less the converters' offset, with zeros where the interpolation reaches beyond; their shift.

    The offset is the mean, where that is more than the signal's own mean is likely to be: at a carrier offset it would
    turn, and spread over all subcarriers.
    """
    margin = margin_samples(interpolated_band(waveform)) + 2
    begin = reference.start + (waveform.short_samples + waveform.cp_samples - back_off(waveform)) * reference.step
    end = reference.start + (last + waveform.frame_samples - back_off(waveform)) * reference.step
    if reference.start < -1 or end > samples.shape[1] + 1:
        raise ValueError(f"a frame ends at {end:.0f} of {samples.shape[1]} samples, or starts before them")
    low, high = int(np.floor(begin)) - margin, int(np.ceil(end)) + margin
    piece = samples[:, max(low, 0) : high]
    offset = piece.mean(axis=1, dtype=np.complex128, keepdims=True)
    likely = np.mean(np.abs(piece) ** 2, axis=1, dtype=float, keepdims=True) / piece.shape[1]
    piece = piece - np.where(np.abs(offset) ** 2 > _UNLIKELY * likely, offset, 0).astype(np.complex64)
    missing = max(-low, 0), max(high - samples.shape[1], 0)
    return np.pad(piece, ((0, 0), missing)), -low


@dataclass(frozen=True)
class _Received:
    """Transforms of a slot's symbols and preambles, in units of the channel times the elements sent."""

    symbols: NDArray[np.complex64]
    """Shape (antenna, symbol of all frames, subcarrier)."""
    bodies: NDArray[np.complex64]
    """Channel by each long body, shape (antenna, frame, 2, subcarrier)."""
    noise: NDArray[np.float64]
    """Variance at an element, from the bodies' differences, shape (antenna,)."""

    @classmethod
    def of(
        cls,
        samples: NDArray[np.complex64],
        waveform: Waveform,
        reference: _Reference,
        identity: int,
        frame_offsets: Sequence[int],
    ) -> _Received:
        """Windows of all frames whose first samples leave ``frame_offsets`` after the slot's first."""
        offsets = np.asarray(frame_offsets, float)
        early = back_off(waveform)
        symbols = _window_starts(waveform, offsets)
        grid = _transform(samples, waveform, reference, symbols, waveform.fft_size, waveform.bins)
        grid *= np.float32(sqrt(waveform.active_subcarriers) / (waveform.fft_size * waveform.scale))
        body = waveform.long_samples
        first = offsets[:, None] + waveform.short_samples + waveform.cp_samples - early + [0, body]
        long = _transform(samples, waveform, reference, first.ravel(), body, waveform.long_bins)
        sequence = fft.fft(long_body(waveform, identity))[waveform.long_bins % body]
        long = (long / (sequence * PREAMBLE_BOOST * waveform.scale)).astype(np.complex64)
        long = long.reshape(samples.shape[0], offsets.size, 2, -1)
        difference = np.mean(np.abs(long[:, :, 1] - long[:, :, 0]) ** 2, axis=(1, 2), dtype=float) / 2
        # The bodies are stronger than the symbols, and their transform may be longer.
        noise = difference * PREAMBLE_BOOST**2
        on_grid = _on_grid(waveform)
        return cls(grid, long[..., on_grid], np.maximum(noise, 1e-30))


def _on_grid(waveform: Waveform) -> NDArray[np.int64]:
    ratio = waveform.long_samples // waveform.fft_size
    return np.searchsorted(waveform.long_bins, waveform.bins * ratio)


def _window_starts(waveform: Waveform, offsets: NDArray[np.float64]) -> NDArray[np.float64]:
    """First samples of the symbols' transform windows on the transmitter's clock, of all frames."""
    lead = waveform.preamble_samples + waveform.cp_samples - back_off(waveform)
    within = lead + np.arange(waveform.symbols) * waveform.symbol_samples
    return (offsets[:, None] + within).ravel()


def _symbol_times(
    waveform: Waveform, reference: _Reference, tuning: Tuning, frame_offsets: Sequence[int]
) -> NDArray[np.float64]:
    """Centres of the windows, seconds after the reference on the receiver's clock."""
    centres = _window_starts(waveform, np.asarray(frame_offsets, float)) + (waveform.fft_size - 1) / 2
    return np.asarray(centres * reference.step / float(tuning.rate_hz))


def interpolated_band(waveform: Waveform) -> float:
    """Share of the sampled band to interpolate.

    The steps between symbols fill all of it. Windows that keep clear of them need the subcarriers' band alone;
    windows that end near them would see what was interpolated wrongly: -48 dB at a prefix of 16.
    """
    return max(waveform.occupancy, 0.97) if back_off(waveform) < 16 else waveform.occupancy


def _transform(
    samples: NDArray[np.complex64],
    waveform: Waveform,
    reference: _Reference,
    firsts: NDArray[np.float64],
    size: int,
    bins: NDArray[np.int64],
) -> NDArray[np.complex64]:
    """Spectra at ``bins`` of windows that begin `back_off` early, as if they began in place."""
    windows = interpolate(
        samples,
        reference.start + firsts * reference.step,
        size,
        step=reference.step,
        rotation=reference.rotation,
        occupancy=interpolated_band(waveform),
    )
    turn = (reference.rotation * reference.start) % 1.0
    place = np.exp(2j * pi * (turn + bins * back_off(waveform) / size)).astype(np.complex64)
    return np.asarray(transformed(windows)[..., bins % size] * place)


def _demodulated(
    samples: NDArray[np.complex64],
    waveform: Waveform,
    tuning: Tuning,
    reference: _Reference,
    identity: int,
    frame_offsets: Sequence[int],
    pilots: NDArray[np.complex64],
) -> tuple[_Reference, _Received]:
    """Transforms of all frames, and their reference, whose carrier frequency offset the first frame refines."""
    received = _Received.of(samples, waveform, reference, identity, [0])
    left = _residual_cfo(received, pilots, waveform)
    if abs(left) > _WELL_REMOVED * waveform.spacing_hz or len(frame_offsets) > 1:
        reference = _Reference.at(reference.start, reference.cfo_hz + left, waveform, tuning)
        received = _Received.of(samples, waveform, reference, identity, frame_offsets)
    return reference, received


def _residual_cfo(received: _Received, pilots: NDArray[np.complex64], waveform: Waveform) -> float:
    """Carrier frequency offset left in the first frame, by the periodogram of its pilots against its preamble."""
    start = received.bodies[:, 0].mean(axis=1)
    start = _start_channel(start, received.noise, waveform)
    symbols = received.symbols[:, : waveform.symbols]
    sums = np.einsum("alk,ak,lk->l", symbols, start.conj() / received.noise[:, None], pilots.conj(), dtype=complex)
    size = 8 * waveform.symbols if waveform.symbols > 1 else 0
    spacing_s = waveform.symbol_samples / float(waveform.rate_hz)
    body_s = waveform.long_samples / float(waveform.rate_hz)
    coarse = float(np.angle(np.sum(received.bodies[:, 0, 1] * received.bodies[:, 0, 0].conj()))) / (2 * pi * body_s)
    if size == 0:
        return coarse
    # The bodies cannot tell the periodogram's aliases apart to better than their own noise, which is ample.
    frequencies = np.fft.fftfreq(size, spacing_s)
    spectrum = np.abs(np.fft.fft(sums, size)) ** 2
    peak = int(np.argmax(spectrum))
    left, middle, right = spectrum[peak - 1], spectrum[peak], spectrum[(peak + 1) % size]
    curve = left - 2 * middle + right
    fine = 0.5 * (left - right) / curve if curve < 0 else 0.0
    found = float(frequencies[peak] + fine / (size * spacing_s))
    return found + round((coarse - found) * spacing_s) / spacing_s


def _start_channel(
    bodies: NDArray[np.complex64], noise: NDArray[np.float64], waveform: Waveform
) -> NDArray[np.complex64]:
    """Channel by the preamble, held to delays within the prefix."""
    level = noise / (2 * PREAMBLE_BOOST**2)
    power = np.maximum(np.mean(np.abs(bodies) ** 2, axis=1) - level, 0.1 * level)
    damping = np.maximum(level * waveform.cp_samples / power, 1e-6 * waveform.active_subcarriers)
    return smooth(bodies, np.ones(bodies.shape), waveform, damping)


@dataclass(frozen=True)
class _DecodedFrame:
    decoded: Decoded
    channel: NDArray[np.complex64]
    """Shape (antenna, symbol, subcarrier), by the pilots."""
    elements: NDArray[np.complex64]


def _decode_frame(received: _Received, index: int, pilots: NDArray[np.complex64], waveform: Waveform) -> _DecodedFrame:
    symbols = _symbols_of(received, index, waveform)
    start = _start_channel(received.bodies[:, index].mean(axis=1), received.noise, waveform)
    channel = follow(symbols, pilots, start, received.noise, waveform)
    elements, reliability = combine(symbols, channel, received.noise)
    data = ~waveform.pilots
    likelihoods = soft_bits(elements[data], reliability[data], waveform.modulation)
    return _DecodedFrame(decode(waveform, likelihoods), channel, elements[data])


def _symbols_of(received: _Received, index: int, waveform: Waveform) -> NDArray[np.complex64]:
    return received.symbols[:, index * waveform.symbols : (index + 1) * waveform.symbols]


def _grid(
    decoded: Sequence[Decoded], known: NDArray[np.complexfloating] | None, waveform: Waveform, identity: int
) -> NDArray[np.complex64] | None:
    """Elements sent: given, or of the first frame whose checksum holds, the slot's frames being identical."""
    if known is not None:
        return np.asarray(known, np.complex64)
    for frame in decoded:
        if frame.crc_ok and frame.identity == identity:
            return grid_of(waveform, frame.information, identity=identity)
    return None


def _divide(
    symbols: NDArray[np.complex64], sent: NDArray[np.complex64]
) -> tuple[NDArray[np.complex64], NDArray[np.float64]]:
    """Received over transmitted, zero where unknown, and the weights |X|²."""
    whole = np.tile(sent, (symbols.shape[1] // sent.shape[0], 1))
    weights = np.abs(whole).astype(float) ** 2
    inverse = np.divide(1, whole, out=np.zeros_like(whole), where=weights > 0)
    return symbols * inverse, weights


def _explained(
    received: _Received,
    decoded: Sequence[_DecodedFrame],
    grid: NDArray[np.complex64] | None,
    pilots: NDArray[np.complex64],
    reference: _Reference,
    offsets: Sequence[int],
    waveform: Waveform,
) -> tuple[_Received, NDArray[np.complex64]]:
    """Symbols without what was left of the converters' offset, and what the channel's estimate explains of them."""
    if grid is None:
        return received, _expected(received, decoded, pilots, waveform)
    expected = _expected(received, decoded, grid, waveform)
    for _ in range(_MOST_ROUNDS):
        offset = _converter_offset(received.symbols - expected, waveform, reference, offsets)
        received = replace(received, symbols=received.symbols - offset)
        if np.mean(np.abs(offset) ** 2, dtype=float) < _WORTH_ANOTHER_ROUND * received.noise.mean():
            break
        # The channel had taken up a part of it.
        expected = _expected(received, decoded, grid, waveform)
    return received, expected


def _expected(
    received: _Received, decoded: Sequence[_DecodedFrame], sent: NDArray[np.complex64], waveform: Waveform
) -> NDArray[np.complex64]:
    """Symbols that the channel's estimate explains, zero where unknown, shape (antenna, symbol, subcarrier)."""
    parts = []
    count = received.symbols.shape[0] * np.count_nonzero(sent)
    for index, frame in enumerate(decoded):
        # The pilots' channel carries the common phases already: what is left of them is corrected with the rest.
        symbols, channel = _symbols_of(received, index, waveform), frame.channel
        for _ in range(_MOST_ROUNDS):
            channel = follow(symbols, sent, channel, received.noise, waveform, passes=1)
            explained = channel * sent
            left = np.abs(np.where(sent != 0, symbols - explained, 0)) ** 2
            if np.sum(left, dtype=float) <= 1.1 * count * float(received.noise.mean()):
                break
        parts.append(explained)
    return np.concatenate(parts, axis=1)


def _converter_offset(
    residual: NDArray[np.complex64], waveform: Waveform, reference: _Reference, offsets: Sequence[int]
) -> NDArray[np.complex64]:
    """What is left of the converters' constant offset in the symbols, by projection of what the signal leaves.

    The mean that was taken off the samples held a little of the signal too, 50 dB down in a frame; the signal known,
    the two can be told apart. The offset turns at the carrier's offset: one pattern over the subcarriers, one phase a
    symbol.
    """
    turn = reference.rotation * reference.step
    cycles = waveform.bins / waveform.fft_size + turn
    whole = np.abs(np.sin(pi * cycles)) < 1e-12
    kernel = np.where(
        whole, waveform.fft_size, np.sin(pi * waveform.fft_size * cycles) / np.sin(pi * (cycles + whole / 2))
    )
    across = kernel * np.exp(-2j * pi * cycles * ((waveform.fft_size - 1) / 2 - back_off(waveform)))
    starts = _window_starts(waveform, np.asarray(offsets, float)) + back_off(waveform)
    along = np.exp(-2j * pi * ((turn * starts) % 1.0))
    power = along.size * float(np.sum(np.abs(across) ** 2))
    amount = np.einsum("alk,l,k->a", residual, along.conj(), across.conj(), optimize=True) / max(power, 1e-30)
    pattern = np.outer(along, across)
    return np.asarray(amount[:, None, None] * pattern, np.complex64)


def _payload_results(
    frames: Sequence[int],
    decoded: Sequence[Decoded],
    symbols: NDArray[np.complex64],
    expected: NDArray[np.complex64],
    waveform: Waveform,
) -> tuple[PayloadResult, ...]:
    truth = next((frame.payload for frame in decoded if frame.crc_ok), None)
    results = []
    for index, (number, frame) in enumerate(zip(frames, decoded, strict=True)):
        part = slice(index * waveform.symbols, (index + 1) * waveform.symbols)
        seen = expected[:, part] != 0
        results.append(
            PayloadResult(
                frame=number - frames[0],
                crc_ok=frame.crc_ok,
                identity=frame.identity,
                round_index=frame.round_index,
                bits=frame.payload,
                bit_errors=None if truth is None else int(np.count_nonzero(frame.payload != truth)),
                evm_db=error_vector_db(symbols[:, part][seen], expected[:, part][seen]),
            )
        )
    return tuple(results)
