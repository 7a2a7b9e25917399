"""Finding frames: in noise, in multipath, behind a loud neighbour, and not where there are none."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from dsp import acquisition
from dsp.acquisition import find_frames
from dsp.waveform import Modulation, Waveform, frame

CARRIER = Fraction(2_400_000_000)
WIDE = Waveform(1024, 128, 800, 3, Modulation.QPSK, 8, Fraction(20_000_000), CARRIER)
NARROW = Waveform(64, 16, 52, 24, Modulation.QPSK, 4, Fraction(20_000_000), CARRIER)
SLOW = Waveform(64, 16, 52, 24, Modulation.QPSK, 4, Fraction(1_000_000), CARRIER)
FAST = Waveform(4096, 288, 3276, 2, Modulation.QPSK, 12, Fraction(61_440_000), Fraction(3_500_000_000))
IDENTITIES = [0, 1, 2, 3]


def element_noise(waveform, snr_db):
    """Noise variance of a sample for a signal to noise ratio of a resource element."""
    return waveform.scale**2 * waveform.fft_size / waveform.active_subcarriers / 10 ** (snr_db / 10)


def heard(rendered, waveform, sent, start, cfo_hz, **options):
    return rendered(
        sent.samples,
        start=start,
        speed=1 + cfo_hz / float(waveform.carrier_hz),
        turn=cfo_hz / float(waveform.rate_hz),
        **options,
    )


@pytest.mark.parametrize("waveform", [WIDE, NARROW, SLOW, FAST], ids=["1024", "64", "64 at 1 MS/s", "4096"])
def test_a_frame_is_found_at_minus_3_db_over_the_whole_capture_range(waveform, rendered, white_noise):
    rng = np.random.default_rng(waveform.fft_size)
    sent = frame(waveform, identity=2, round_index=0, seed=1)
    for share in (-1.0, -0.37, 0.0, 0.61, 1.0):
        start, cfo = rng.uniform(100, 1900), share * waveform.capture_range_hz
        count = waveform.frame_samples + 2000
        received = heard(rendered, waveform, sent, start, cfo, count=count)
        received = received + white_noise(rng, (2, count), element_noise(waveform, -3.0))
        found = find_frames(received.astype(np.complex64), waveform, identities=IDENTITIES, false_alarm_rate=1e-6)
        assert [d.identity for d in found] == [2]
        assert abs(found[0].start - start) < 0.3
        # Behind it, the front refines within a tenth of the spacing either way.
        assert abs(found[0].cfo_hz - cfo) < 0.1 * waveform.spacing_hz
        assert 10 * np.log10(found[0].snr) == pytest.approx(-3.0, abs=1.0)


def test_offset_and_start_are_fine_at_20_db(rendered, white_noise):
    rng = np.random.default_rng(5)
    sent = frame(WIDE, identity=1, round_index=0, seed=1)
    offsets, starts = [], []
    for _ in range(12):
        start, cfo, count = rng.uniform(0, 1000), rng.uniform(-1, 1) * 150e3, WIDE.frame_samples + 1200
        received = heard(rendered, WIDE, sent, start, cfo, count=count)[None]
        received = received + white_noise(rng, received.shape, element_noise(WIDE, 20.0))
        (found,) = find_frames(received.astype(np.complex64), WIDE, identities=IDENTITIES, false_alarm_rate=1e-6)
        offsets.append(found.cfo_hz - cfo)
        starts.append(found.start - start)
    # The bound on the offset from two bodies is 8 Hz; 12 trials exceed 1.7 deviations together once in 10^4.
    assert np.sqrt(np.mean(np.square(offsets))) < 14
    assert np.sqrt(np.mean(np.square(starts))) < 0.01


def test_the_first_path_is_the_reference_though_the_strongest_is_later(rendered, white_noise):
    rng = np.random.default_rng(6)
    sent = frame(WIDE, identity=0, round_index=0, seed=1)
    paths = [(0.0, 0.35), (41.3, 1.0j), (118.7, -0.6)]
    received = heard(rendered, WIDE, sent, 700.4, 90e3, count=WIDE.frame_samples + 2000, paths=paths)[None]
    received = received + white_noise(rng, received.shape, element_noise(WIDE, 15.0))
    (found,) = find_frames(received.astype(np.complex64), WIDE, identities=IDENTITIES, false_alarm_rate=1e-6)
    assert found.start == pytest.approx(700.4, abs=0.3)


def test_a_loud_clipped_neighbour_and_converter_offsets_hide_nothing(rendered, white_noise):
    rng = np.random.default_rng(7)
    own, other = (frame(WIDE, identity=i, round_index=0, seed=1) for i in (0, 1))
    amplitude, count = 1e-3, 4 * (WIDE.frame_samples + 700)
    received = white_noise(rng, (2, count), amplitude**2 * element_noise(WIDE, 12.0))
    starts = [500, 500 + WIDE.frame_samples + 100]
    for start in starts:
        # Back to back, 55 dB above; the weak frames follow after 200 samples.
        received[:, start : start + WIDE.frame_samples] += 10 ** (55 / 20) * amplitude * own.samples
    weak = starts[-1] + WIDE.frame_samples + 200.6
    received = received + amplitude * heard(rendered, WIDE, other, weak, -61e3, count=count)
    received = received + (0.03 - 0.02j)
    clipped = np.clip(received.real, -0.2, 0.2) + 1j * np.clip(received.imag, -0.2, 0.2)
    assert np.mean(clipped != received) > 0.01
    found = find_frames(clipped.astype(np.complex64), WIDE, identities=IDENTITIES, false_alarm_rate=1e-6)
    assert [d.identity for d in found] == [0, 0, 1]
    np.testing.assert_allclose([d.start for d in found], [*starts, weak], atol=0.05)
    assert abs(found[2].cfo_hz + 61e3) < 100


def test_frames_cut_by_the_edge_and_nodes_not_asked_for_are_left_out(rendered):
    sent = frame(WIDE, identity=1, round_index=0, seed=1)
    whole = heard(rendered, WIDE, sent, 300.5, 10e3, count=WIDE.frame_samples + 600).astype(np.complex64)[None]
    options = {"identities": IDENTITIES, "false_alarm_rate": 1e-6}
    assert len(find_frames(whole, WIDE, **options)) == 1
    assert find_frames(whole[:, 400:], WIDE, **options) == []
    assert find_frames(whole[:, : WIDE.frame_samples + 200], WIDE, **options) == []
    assert find_frames(whole, WIDE, identities=[0, 2, 3], false_alarm_rate=1e-6) == []
    assert find_frames(whole[:, :100], WIDE, **options) == []
    exactly = find_frames(sent.samples[None], WIDE, **options)
    assert [d.identity for d in exactly] == [1]
    assert abs(exactly[0].start) < 0.01


def test_equal_frames_of_two_nodes_that_overlap_are_both_found(rendered, white_noise):
    rng = np.random.default_rng(8)
    count = WIDE.frame_samples + 4000
    received = white_noise(rng, (1, count), element_noise(WIDE, 15.0))
    for identity, start, cfo in ((0, 500.3, 20e3), (3, 2900.8, -35e3)):
        sent = frame(WIDE, identity=identity, round_index=0, seed=1)
        received = received + heard(rendered, WIDE, sent, start, cfo, count=count)
    found = find_frames(received.astype(np.complex64), WIDE, identities=IDENTITIES, false_alarm_rate=1e-6)
    assert [d.identity for d in found] == [0, 3]


def test_the_running_correlation_is_the_plain_one():
    rng = np.random.default_rng(9)
    period, length = WIDE.short_period, acquisition.correlation_samples(WIDE)
    recording = (rng.standard_normal((2, 9000)) + 1j * rng.standard_normal((2, 9000)) + 2).astype(np.complex64)
    recording[:, 6000 : 6000 + length + 3 * period] += 3 * np.tile(recording[:1, :period], 40)[:, : length + 3 * period]
    candidates, _ = acquisition._candidates(recording, WIDE)
    (best,) = [c for c in candidates if c.strength > 0.2]
    early = recording[:, best.position : best.position + length].astype(complex)
    late = recording[:, best.position + period : best.position + period + length].astype(complex)
    early, late = (part - part.mean(axis=1, keepdims=True) for part in (early, late))
    product = np.sum(late * early.conj())
    strength = np.abs(product) ** 2 / (np.sum(np.abs(early) ** 2) * np.sum(np.abs(late) ** 2))
    assert best.strength == pytest.approx(strength, rel=1e-9)
    assert best.cfo_cycles == pytest.approx(np.angle(product) / (2 * np.pi * period), abs=1e-12)


def test_noise_makes_as_many_candidates_as_designed():
    rng = np.random.default_rng(10)
    found, expected = 0, 0.0
    for _ in range(60):
        recording = rng.standard_normal((1, 2 * 200_000), np.float32).view(np.complex64)
        candidates, designed = acquisition._candidates(recording, NARROW)
        found, expected = found + len(candidates), expected + designed
    assert expected > 80
    # The clumping heuristic counts from above; twelve percent is one deviation.
    assert 0.45 < found / expected < 1.35


@pytest.mark.parametrize("antennas", [1, 2])
def test_noise_passes_the_second_stage_as_often_as_designed(antennas):
    rng = np.random.default_rng(11)
    accepted, trials, hits = 0.25, 240, 0
    freedom = antennas * (acquisition.correlation_samples(NARROW) - 1) - 1
    strength = -np.expm1(-10 / freedom)
    for _ in range(trials):
        recording = rng.standard_normal((antennas, 2 * 4096), np.float32).view(np.complex64)
        place = acquisition._Candidate(2000, strength, rng.uniform(-0.4, 0.4) / NARROW.short_period, 1e-3)
        hits += bool(acquisition._identify(recording, NARROW, place, IDENTITIES, accepted))
    designed = accepted * trials
    assert 0.4 * designed < hits < designed + 4 * np.sqrt(designed)


def test_noise_and_foreign_payload_alone_give_no_frames():
    rng = np.random.default_rng(12)
    noise = rng.standard_normal((2, 2 * 300_000), np.float32).view(np.complex64)
    assert find_frames(noise, NARROW, identities=IDENTITIES, false_alarm_rate=1e-4) == []
    # Payload without preamble, its pilots a comb whose period is twice the short part's.
    long = replace(WIDE, symbols=60, pilot_spacing=8)
    payload = frame(long, identity=0, round_index=0, seed=2).samples[long.preamble_samples :]
    assert find_frames(payload[None], WIDE, identities=IDENTITIES, false_alarm_rate=1e-4) == []


def test_a_wrong_request_is_refused():
    recording = np.zeros((1, 20_000), np.complex64)
    with pytest.raises(ValueError, match="false_alarm_rate"):
        find_frames(recording, WIDE, identities=[0], false_alarm_rate=0.0)
    with pytest.raises(ValueError, match="shape"):
        find_frames(recording[0], WIDE, identities=[0], false_alarm_rate=0.1)
    assert find_frames(recording, WIDE, identities=[0], false_alarm_rate=0.1) == []
