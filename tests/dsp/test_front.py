"""From samples to channel state: against the channel that an exact evaluation of the received signal used."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from dsp.front import Tuning, channel_state
from dsp.waveform import Modulation, Waveform, frame

CARRIER = Fraction(2_400_000_000)
SETTING = Waveform(1024, 128, 800, 32, Modulation.QPSK, 8, Fraction(20_000_000), CARRIER)
NUMEROLOGIES = [
    SETTING,
    Waveform(64, 16, 52, 60, Modulation.QPSK, 4, Fraction(20_000_000), CARRIER),
    Waveform(256, 64, 200, 40, Modulation.QAM16, 6, Fraction(10_000_000), Fraction(5_800_000_000)),
    Waveform(2048, 144, 1200, 14, Modulation.QAM64, 12, Fraction(30_720_000), Fraction(3_500_000_000)),
]
FIVE = [(0.0, 0.6), (4.37, 0.4j), (11.91, -0.3), (19.2, 0.25 - 0.2j), (29.6, 0.2j)]


def element_noise(waveform, snr_db, power=1.0):
    return power * waveform.scale**2 * waveform.fft_size / waveform.active_subcarriers / 10 ** (snr_db / 10)


def heard(rendered, waveform, samples, start, cfo_hz, **options):
    return rendered(
        samples,
        start=start,
        speed=1 + cfo_hz / float(waveform.carrier_hz),
        turn=cfo_hz / float(waveform.rate_hz),
        **options,
    )


def true_channel(csi, waveform, *, start, cfo_hz, first_tick, paths=((0.0, 1.0),)):
    """Channel by the convention in `dsp.channel`, of paths given in the receiver's samples."""
    rate, carrier = float(waveform.rate_hz), float(waveform.carrier_hz)
    time = csi.symbol_s
    late_s = (start - (csi.reference.tick - first_tick + csi.reference.fraction)) / rate
    slope = (cfo_hz - csi.cfo_reference_hz) / carrier
    channel = np.zeros((len(time), csi.subcarrier_hz.size), complex)
    for delay, amplitude in paths:
        seconds = (late_s + delay / rate) * (1 + cfo_hz / carrier) - slope * time
        channel += amplitude * np.exp(-2j * np.pi * np.outer(seconds, csi.subcarrier_hz))
    return channel * np.exp(2j * np.pi * (cfo_hz * (time - late_s) - csi.cfo_reference_hz * time))[:, None]


def error_db(csi, channel, antenna=0):
    error = np.sum(csi.weights * np.abs(csi.values[antenna] - channel) ** 2)
    return 10 * np.log10(error / np.sum(csi.weights * np.abs(channel) ** 2))


def delay_error_s(csi, channel):
    """Least-squares delay of the values against the true channel."""
    product = np.sum(csi.weights * csi.values[0] * channel.conj(), axis=0)
    phase = np.angle(product * product.sum().conj())
    centred = csi.subcarrier_hz - np.average(csi.subcarrier_hz, weights=np.abs(product))
    return -np.sum(np.abs(product) * phase * centred) / np.sum(np.abs(product) * centred**2) / (2 * np.pi)


@pytest.mark.parametrize("waveform", NUMEROLOGIES, ids=lambda w: str(w.fft_size))
@pytest.mark.parametrize("ppm", [50.0, -50.0])
@pytest.mark.parametrize("paths", [[(0.0, 1.0)], FIVE[:3]], ids=["one path", "three paths"])
def test_offsets_at_50_ppm_are_removed_exactly(waveform, ppm, paths, rendered):
    rng = np.random.default_rng(waveform.fft_size)
    paths = [(delay * min(1.0, waveform.cp_samples / 40), amplitude) for delay, amplitude in paths]
    cfo, start = ppm * 1e-6 * float(waveform.carrier_hz), rng.uniform(300, 900)
    sent = frame(waveform, identity=1, round_index=3, seed=5)
    count = waveform.frame_samples + 1500
    received = heard(rendered, waveform, sent.samples, start, cfo, count=count, paths=paths)
    result = channel_state(
        received.astype(np.complex64)[None],
        waveform,
        clock="east",
        first_tick=10**12,
        starts=[start + 0.02],
        period_samples=waveform.frame_samples,
        cfo_hz=cfo + 0.004 * waveform.spacing_hz,
        identity=1,
    )
    csi = result.csi
    channel = true_channel(csi, waveform, start=start, cfo_hz=cfo, first_tick=10**12, paths=paths)
    # Steps between symbols ring for some samples at fractional delays: a prefix of 16 does not hold that.
    roomy = waveform.cp_samples >= 64
    assert error_db(csi, channel) < (-60 if roomy else -45)
    assert abs(delay_error_s(csi, channel)) < (0.5e-12 if roomy else 10e-12)
    assert result.data_aided
    assert result.payload[0].crc_ok
    assert result.payload[0].bit_errors == 0
    assert np.array_equal(result.payload[0].bits, sent.payload)
    assert result.payload[0].evm_db < (-60 if roomy else -45)
    np.testing.assert_allclose(result.grid, sent.grid, atol=1e-6)


def test_frames_of_a_slot_share_one_reference_and_a_lost_one_leaves_a_gap(rendered, white_noise):
    rng = np.random.default_rng(2)
    waveform, period, cfo, start = replace(SETTING, symbols=10), 25_001, -87e3, 411.7
    sent = frame(waveform, identity=2, round_index=0, seed=5)
    slot = np.zeros(3 * period + waveform.frame_samples, complex)
    for number in range(4):
        slot[number * period : number * period + waveform.frame_samples] = sent.samples
    speed = 1 + cfo / float(CARRIER)
    received = heard(rendered, waveform, slot, start, cfo, count=slot.size + 1500, paths=FIVE)
    received = np.stack([received, 0.5j * received]) + white_noise(rng, (2, received.size), element_noise(waveform, 35))
    starts = [start + number * period / speed + rng.uniform(-1, 1) for number in (0, 1, 3)]
    result = channel_state(
        received.astype(np.complex64),
        waveform,
        clock="east",
        first_tick=-7,
        starts=starts,
        period_samples=period,
        cfo_hz=cfo + 20,
        identity=2,
    )
    csi = result.csi
    assert csi.values.shape == (2, 30, 800)
    assert list(csi.frame_of_symbol) == [0] * 10 + [1] * 10 + [3] * 10
    assert [p.frame for p in result.payload] == [0, 1, 3]
    gap_s = csi.symbol_s[20] - csi.symbol_s[10]
    assert gap_s == pytest.approx(2 * period / (1 + csi.cfo_reference_hz / float(CARRIER)) / 20e6, abs=1e-15)
    channel = true_channel(csi, waveform, start=start, cfo_hz=cfo, first_tick=-7, paths=FIVE)
    for antenna, gain in enumerate((1.0, 0.5j)):
        expected = np.sum(csi.weights * csi.noise[antenna] / np.maximum(csi.weights, 1e-9))
        error = np.sum(csi.weights * np.abs(csi.values[antenna] - gain * channel) ** 2)
        assert error == pytest.approx(expected, rel=0.06)


def test_unlike_devices_are_told_apart_from_offset_clocks(rendered):
    """A receiver 2.4 Hz and 1.3 Hz off in what its synthesizers applied, its crystal 30 ppm off besides."""
    tuning = Tuning(Fraction(20_000_001) + Fraction(1, 3), CARRIER + Fraction(12, 5))
    cfo, start = -30e-6 * float(tuning.carrier_hz), 700.3
    speed = 1 + cfo / float(tuning.carrier_hz)
    sent = frame(SETTING, identity=0, round_index=0, seed=1)
    received = rendered(
        sent.samples,
        count=SETTING.frame_samples + 1500,
        start=start,
        speed=speed * float(SETTING.rate_hz / tuning.rate_hz),
        turn=(float(SETTING.carrier_hz) * speed - float(tuning.carrier_hz)) / float(tuning.rate_hz),
    )
    result = channel_state(
        received.astype(np.complex64)[None],
        SETTING,
        clock="east",
        first_tick=0,
        starts=[start],
        period_samples=SETTING.frame_samples,
        cfo_hz=cfo,
        identity=0,
        tuning=tuning,
    )
    csi = result.csi
    # The reference is the crystals' offset alone, and what is left of it turns the symbols.
    turn = np.unwrap(np.angle(np.sum(csi.weights * csi.values[0], axis=1)))
    slope_hz = np.polyfit(csi.symbol_s, turn, 1)[0] / (2 * np.pi)
    assert csi.cfo_reference_hz + slope_hz == pytest.approx(cfo, abs=2e-3)
    assert csi.carrier_hz == tuning.carrier_hz
    assert csi.reference.rate_hz == tuning.rate_hz
    drift = np.angle(np.sum(csi.values[0, 1:] * csi.values[0, :-1].conj(), axis=0))
    per_hz = np.polyfit(csi.subcarrier_hz, drift, 1)[0] / (2 * np.pi)
    expected = (cfo - csi.cfo_reference_hz) / float(CARRIER) * np.diff(csi.symbol_s).mean()
    assert per_hz == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("snr_db", [0.0, 20.0, 40.0])
@pytest.mark.parametrize("moving", [False, True], ids=["static", "mover"])
def test_noise_is_unbiased_and_a_mover_is_not_noise(snr_db, moving, rendered, white_noise):
    rng = np.random.default_rng(int(snr_db) + moving)
    waveform, measured = replace(SETTING, symbols=24), []
    sent = frame(waveform, identity=1, round_index=0, seed=1)
    true = element_noise(waveform, snr_db)
    for _ in range(4):
        start, cfo, count = rng.uniform(200, 600), rng.uniform(-1, 1) * 100e3, waveform.frame_samples + 800
        received = heard(rendered, waveform, sent.samples, start, cfo, count=count)
        if moving:
            echo = heard(rendered, waveform, sent.samples, start, cfo + 180.0, count=count, paths=[(7.3, 0.1)])
            received = received + echo
        received = received + white_noise(rng, (1, count), true)
        result = channel_state(
            received.astype(np.complex64),
            waveform,
            clock="east",
            first_tick=0,
            starts=[start],
            period_samples=waveform.frame_samples,
            cfo_hz=cfo,
            identity=1,
        )
        measured.append(result.csi.noise[0])
    in_elements = true * waveform.active_subcarriers / waveform.fft_size / waveform.scale**2
    assert np.mean(measured) / in_elements == pytest.approx(1.0, abs=0.05)


def test_64_qam_holds_at_20_db_in_fading_multipath(rendered, white_noise):
    rng = np.random.default_rng(3)
    waveform = replace(SETTING, modulation=Modulation.QAM64)
    sent = frame(waveform, identity=1, round_index=9, seed=1)
    for _ in range(5):
        gains = rng.standard_normal(5) + 1j * rng.standard_normal(5)
        gains /= np.sqrt(np.sum(np.abs(gains) ** 2))
        paths = list(zip(rng.uniform(0, 30, 5), gains, strict=True))
        start, cfo, count = rng.uniform(200, 600), rng.uniform(-1, 1) * 100e3, waveform.frame_samples + 800
        received = heard(rendered, waveform, sent.samples, start, cfo, count=count, paths=paths)
        received = received + white_noise(rng, (1, count), element_noise(waveform, 20.0))
        (payload,) = channel_state(
            received.astype(np.complex64),
            waveform,
            clock="east",
            first_tick=0,
            starts=[start],
            period_samples=waveform.frame_samples,
            cfo_hz=cfo,
            identity=1,
        ).payload
        assert payload.crc_ok
        assert (payload.identity, payload.round_index, payload.bit_errors) == (1, 9, 0)
        assert np.array_equal(payload.bits, sent.payload)
        assert payload.evm_db == pytest.approx(-20, abs=1.5)


def test_without_a_checksum_pilots_alone_are_known(rendered, white_noise):
    rng = np.random.default_rng(4)
    waveform = replace(SETTING, modulation=Modulation.QAM64)
    sent = frame(waveform, identity=1, round_index=0, seed=1)
    received = heard(rendered, waveform, sent.samples, 333.3, 50e3, count=waveform.frame_samples + 800)[None]
    received = received + white_noise(rng, received.shape, element_noise(waveform, 3.0))
    options = {
        "clock": "east",
        "first_tick": 0,
        "starts": [333.3],
        "period_samples": waveform.frame_samples,
        "cfo_hz": 50e3,
        "identity": 1,
    }
    samples = received.astype(np.complex64)
    blind = channel_state(samples, waveform, **options)
    assert not blind.data_aided
    assert blind.grid is None
    assert not blind.payload[0].crc_ok
    assert blind.payload[0].bit_errors is None
    np.testing.assert_allclose(blind.csi.weights, waveform.pilots, atol=1e-6)
    assert not blind.csi.values[:, ~waveform.pilots].any()
    assert 10 * np.log10(blind.csi.snr) == pytest.approx(3.0, abs=0.5)
    told = channel_state(samples, waveform, known=sent.grid, **options)
    assert told.data_aided
    assert np.all(told.csi.weights > 0)
    assert told.csi.weights.mean() == pytest.approx(1.0)
    channel = true_channel(told.csi, waveform, start=333.3, cfo_hz=50e3, first_tick=0)
    assert error_db(told.csi, channel) == pytest.approx(-3.0, abs=0.3)


def test_the_converters_offset_leaves_no_trace(rendered):
    sent = frame(SETTING, identity=1, round_index=0, seed=1)
    options = {
        "clock": "east",
        "first_tick": 0,
        "starts": [333.3],
        "period_samples": SETTING.frame_samples,
        "cfo_hz": 73_000.0,
        "identity": 1,
    }
    received = heard(rendered, SETTING, sent.samples, 333.3, 73e3, count=SETTING.frame_samples + 800)[None]
    offset = received + (0.4 - 0.7j) * np.sqrt(np.mean(np.abs(received) ** 2))
    csi = channel_state(offset.astype(np.complex64), SETTING, **options).csi
    channel = true_channel(csi, SETTING, start=333.3, cfo_hz=73e3, first_tick=0)
    assert error_db(csi, channel) < -60


def test_a_frame_that_fills_the_recording_is_processed(rendered):
    sent = frame(SETTING, identity=1, round_index=0, seed=1)
    result = channel_state(
        sent.samples[None],
        SETTING,
        clock="east",
        first_tick=0,
        starts=[0.0],
        period_samples=SETTING.frame_samples,
        cfo_hz=0.0,
        identity=1,
    )
    assert result.payload[0].crc_ok
    # The first and last symbols lack neighbours to interpolate from only outside their windows.
    assert 10 * np.log10(np.mean(np.abs(result.csi.values - 1) ** 2 * result.csi.weights)) < -60


def test_slots_that_cannot_be_are_refused():
    samples = np.zeros((1, 300_000), np.complex64)
    options = {"clock": "east", "first_tick": 0, "period_samples": 60_000, "cfo_hz": 0.0, "identity": 0}
    with pytest.raises(ValueError, match="no frame"):
        channel_state(samples, SETTING, starts=[], **options)
    with pytest.raises(ValueError, match="not multiples"):
        channel_state(samples, SETTING, starts=[100.0, 60_900.0], **options)
    with pytest.raises(ValueError, match="a frame ends"):
        channel_state(samples, SETTING, starts=[290_000.0], **options)
