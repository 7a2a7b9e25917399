"""What a Pluto's filters make of its signal, in both directions, against scipy's responses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import signal

from sim_backend.pluto.cable import Cable
from sim_backend.pluto.device import Pluto
from sim_backend.pluto.emissions import Emission
from sim_backend.pluto.filters import PathFilter, filtered, impulse, reach
from sim_backend.pluto.medium import converted, sent_signal
from sim_backend.pluto.session import converse
from sim_backend.pluto.settings import Settings
from sim_backend.specification import FrontEndSpec

RATE_HZ = 20e6
IDEAL = FrontEndSpec(
    noise_figure_db=None, phase_noise_deg=0.0, gain_imbalance_db=0.0, phase_imbalance_deg=0.0, dc_offset=0j
)
TAPS = tuple(np.round(20_000 * signal.firwin(96, 0.24)).astype(int).tolist())
"""Half of its amplitude at 4.8 MHz, at twice the sample rate."""


def truth(path: PathFilter, frequency_hz: np.ndarray) -> np.ndarray:
    """Product of scipy's responses, one where it is largest; the half-band stages are those of the data sheet."""
    half = path.bandwidth_hz / 2
    butterworth, pole = (1.6, 5.0) if path.transmit else (1.4, 2.5)
    whole = np.ones(frequency_hz.size, complex)
    for order, corner in ((3, butterworth * half), (1, pole * half)):
        top, bottom = signal.butter(order, 2 * np.pi * corner, analog=True)
        whole *= signal.freqs(top, bottom, 2 * np.pi * frequency_hz)[1]
    rate = RATE_HZ * path.factor
    if path.taps:
        whole *= signal.freqz(path.taps, worN=frequency_hz, fs=rate)[1]
    first = [-53, 0, 313, 0, -1155, 0, 4989, 8192, 4989, 0, -1155, 0, 313, 0, -53]
    if not path.transmit:
        first = [-8, 0, 42, 0, -147, 0, 619, 1013, 619, 0, -147, 0, 42, 0, -8]
    third = [1, 2, 1] if path.transmit else [1, 4, 6, 4, 1]
    for taps, factor in zip((first, [-9, 0, 73, 128, 73, 0, -9], third), path.stages[::-1], strict=True):
        if factor == 2:
            rate *= 2
            whole *= signal.freqz(taps, worN=frequency_hz, fs=rate)[1] / sum(taps)
    return whole


def decibels(values: np.ndarray) -> np.ndarray:
    return 20 * np.log10(np.abs(values))


@pytest.mark.parametrize("transmit", [False, True])
@pytest.mark.parametrize(("stages", "factor", "taps"), [((2, 2, 2), 2, TAPS), ((1, 2, 2), 1, ()), ((1, 1, 1), 1, ())])
def test_the_response_is_that_of_its_parts(
    transmit: bool, stages: tuple[int, int, int], factor: int, taps: tuple[int, ...]
) -> None:
    path = PathFilter(transmit, 8_000_000, stages, factor, taps)
    frequency = np.linspace(-RATE_HZ / 2, RATE_HZ / 2, 1025)
    expected, got = truth(path, frequency), path.response(frequency, RATE_HZ)
    np.testing.assert_allclose(decibels(got), decibels(expected / np.abs(expected).max()), atol=1e-9)
    # The phase but for a delay, which is none over what a signal occupies.
    turn = np.unwrap(np.angle(expected * np.conj(got)))[256:769]
    assert np.ptp(turn - np.polyval(np.polyfit(frequency[256:769], turn, 1), frequency[256:769])) < 1e-6
    inner = np.linspace(0, 0.4 * RATE_HZ, 400)
    values = path.response(inner, RATE_HZ)
    # Through the origin: the phase is odd.
    slope = np.linalg.lstsq(
        (inner * np.abs(values))[:, None], np.unwrap(np.angle(values)) * np.abs(values), rcond=None
    )[0]
    assert abs(slope[0]) / (2 * np.pi) < 2e-12


@pytest.mark.parametrize("bandwidth_hz", [400_000, 8_000_000, 18_000_000])
@pytest.mark.parametrize("taps", [TAPS, ()])
def test_samples_are_filtered_as_the_response_says(bandwidth_hz: int, taps: tuple[int, ...]) -> None:
    path = PathFilter(False, bandwidth_hz, (2, 2, 2), 2, taps)
    half = reach(path, RATE_HZ)
    assert impulse(path, RATE_HZ).size == 2 * half + 1
    random = np.random.default_rng(3)
    for frequency in random.uniform(-0.4, 0.4, size=8) * RATE_HZ:
        tone = np.exp(2j * np.pi * frequency / RATE_HZ * np.arange(4 * half + 500)).astype(np.complex64)
        out = filtered(tone, path, RATE_HZ) / tone[half:-half]
        # -60 dB is what the simulator promises; without a FIR filter the dispersion's ends do not meet at the band's.
        assert np.max(np.abs(out - path.response(np.array([frequency]), RATE_HZ)[0])) < 1e-3


def loaded(channels: int = 1) -> tuple[Cable, Settings]:
    """A looped Pluto as a client has set it, with a FIR filter and narrow analog ones."""
    cable = Cable(channels, IDEAL, attenuation_db=40.0, delay_samples=20.0)
    pluto = Pluto("1r1t" if channels == 1 else "2r2t", cable)
    text = "RX 3 GAIN 0 DEC 2\nTX 3 GAIN 0 INT 2\n" + "".join(f"{tap},{tap}\n" for tap in TAPS)

    def write(where: str, value: str) -> bytes:
        return f"WRITE ad9361-phy {where} {len(value) + 1}\r\n{value}\0".encode()

    said = b"".join(
        [
            write("INPUT voltage0 sampling_frequency", "20000000"),
            write("filter_fir_config", text),
            write("INPUT out voltage_filter_fir_en", "1"),
            write("INPUT voltage0 rf_bandwidth", "8000000"),
            write("OUTPUT voltage0 rf_bandwidth", "10000000"),
            write("INPUT voltage0 gain_control_mode", "manual"),
            write("INPUT voltage0 hardwaregain", "30"),
            write("OUTPUT altvoltage1 frequency", "2400000000"),
        ]
    )
    assert b"-" not in converse(pluto, said)
    return cable, pluto.engine.settings


@pytest.mark.parametrize("directions", [("receive_path",), ("transmit_path",), ("receive_path", "transmit_path")])
@pytest.mark.parametrize("cyclic", [True, False])
def test_a_clients_filters_shape_what_is_looped_back(directions: tuple[str, ...], cyclic: bool) -> None:
    cable, settings = loaded()
    size = 2000
    bins = np.arange(-800, 801, 50)  # four fifths of the band, to which the interpolation keeps its word
    bins = bins[bins != 0]
    spectrum = np.zeros(size, complex)
    spectrum[bins] = np.exp(2j * np.pi * np.random.default_rng(5).uniform(size=bins.size))
    wave = np.fft.ifft(spectrum) * size
    wave *= 30_000 / np.max(np.abs([wave.real, wave.imag]))
    counts = np.tile(np.stack([wave.real, wave.imag], axis=1).round().astype(np.int16), (1 if cyclic else 12, 1))
    bare = replace(settings, receive_path=None, transmit_path=None)
    heard = []
    for one in (bare, replace(bare, **{name: getattr(settings, name) for name in directions})):
        received = cable.receive(5 * size, 5 * size, one, [Emission(0, counts, cyclic, 0)]) @ [1, 1j]
        heard.append(np.mean(np.fft.fft(received.reshape(5, size)), axis=0)[bins])
    frequency = bins / size * RATE_HZ
    expected = np.ones(bins.size, complex)
    for name in directions:
        part = truth(getattr(settings, name), np.append(frequency, np.linspace(-1e7, 1e7, 1025)))
        expected *= part[: bins.size] / np.abs(part).max()
    got = heard[1] / heard[0]
    passed = np.abs(expected) > 0.1
    assert 10 < np.count_nonzero(passed) < bins.size - 10
    np.testing.assert_allclose(decibels(got[passed]), decibels(expected[passed]), atol=0.1)
    # Of a tone of 36 counts rounding leaves half a per cent; the filters themselves are held to 1e-3 above.
    assert np.max(np.abs(got[~passed]) - np.abs(expected[~passed])) < 6e-3


def test_thermal_noise_goes_through_the_receivers_filters() -> None:
    _, settings = loaded()
    cable = Cable(1, replace(IDEAL, noise_figure_db=5.0))
    counts = cable.receive(0, 1 << 19, replace(settings, receive_gain_db=(71.0,)), []) @ [1, 1j]
    frequency, power = signal.welch(counts, RATE_HZ, nperseg=1024, return_onesided=False)
    assert settings.receive_path is not None
    expected = np.abs(truth(settings.receive_path, frequency)) ** 2
    inside = np.abs(frequency) < 4e6
    ratio = power[inside] / expected[inside]
    assert np.std(ratio) / np.mean(ratio) < 2.5 * np.sqrt(2 / (2 * 512))
    outside = np.abs(frequency) > 6.5e6
    assert 10 * np.log10(np.mean(power[outside]) / np.mean(power[inside])) < -20


def test_in_a_scene_they_are_the_same() -> None:
    _, settings = loaded()
    assert settings.transmit_path is not None
    assert settings.receive_path is not None
    sent = np.zeros((400, 2), np.int16)
    sent[200, 0] = 2000
    out, early = sent_signal(sent, settings)
    assert early == reach(settings.transmit_path, float(settings.rate_hz))
    taps = impulse(settings.transmit_path, float(settings.rate_hz))
    np.testing.assert_allclose(out[200 : 200 + taps.size], taps * 2000 / 2048, atol=1e-6)
    hearing = reach(settings.receive_path, float(settings.rate_hz))
    fine = np.zeros((2, 2 * hearing + 900, 2), np.int16)
    fine[1, hearing + 300] = 32_000, -16_000
    counts = converted(fine, 32_768, settings.receive_path, float(settings.rate_hz))
    assert counts.shape == (900, 4)
    middle = impulse(settings.receive_path, float(settings.rate_hz))[hearing].real
    assert counts[300].tolist() == [0, 0, round(2000 * middle), round(-1000 * middle)]
