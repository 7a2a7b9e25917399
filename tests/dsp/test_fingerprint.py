"""Fingerprint method against truth made from the signal model of methods section 1, and its record."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dsp.bounds.fingerprint import fingerprint_scene_std_s, fingerprint_to_std_s
from dsp.channel import ChannelState
from dsp.moment import Moment
from dsp.synchronization.base import MissingInputError, Need, Observation, Offset
from dsp.synchronization.fingerprint import (
    FingerprintMethod,
    correlated_rows,
    fingerprint_spectrum,
    take_fingerprint,
)
from dsp.synchronization.fingerprint_record import Fingerprint

SPACING_HZ, SYMBOL_S, SYMBOLS, SUBCARRIERS = 120e3, 0.25e-3, 24, 48
CARRIER_HZ = Fraction(2_400_000_000)
RATE_HZ = Fraction(30_720_000)
NOISE = 0.01
METHOD = FingerprintMethod()


@dataclass(frozen=True)
class Scene:
    """Paths and clocks of one slot; offsets at the slot's reference."""

    delays_s: NDArray[np.float64]
    gains: NDArray[np.complex128]
    to_s: float
    cfo_hz: float
    mover: tuple[float, float, complex] | None = None
    """Delay, Doppler, amplitude."""


def slot(
    scene: Scene, generator: np.random.Generator, *, tick: int = 0, to_reference_s: float = 0.0, names: str = "nm"
) -> tuple[ChannelState, Moment]:
    """CSI by the formula of methods section 1 and the departure, the reference ``to_reference_s`` after it."""
    f = SPACING_HZ * np.r_[np.arange(-SUBCARRIERS // 2, 0), np.arange(1, SUBCARRIERS // 2 + 1)]
    t = 3e-5 + SYMBOL_S * np.arange(SYMBOLS)
    values = np.zeros((SYMBOLS, f.size), complex)
    paths = [(tau, 0.0, gain) for tau, gain in zip(scene.delays_s, scene.gains, strict=True)]
    for tau, nu, gain in paths + ([scene.mover] if scene.mover else []):
        to_s = scene.to_s - scene.cfo_hz / float(CARRIER_HZ) * t - to_reference_s
        delay = tau - nu / float(CARRIER_HZ) * t + to_s
        values += gain * np.exp(-2j * np.pi * np.outer(delay, f) + 2j * np.pi * ((nu + scene.cfo_hz) * t)[:, None])
    values += np.sqrt(NOISE / 2) * (generator.normal(size=values.shape) + 1j * generator.normal(size=values.shape))
    departure = Moment.at(names[1], 0.25, RATE_HZ, tick=tick)
    csi = ChannelState(
        values=values[None],
        weights=np.ones(values.shape),
        subcarrier_hz=f,
        symbol_s=t,
        reference=replace(departure, clock=names[0]).shifted(to_reference_s),
        cfo_reference_hz=0.0,
        carrier_hz=CARRIER_HZ,
        noise=np.array([NOISE]),
        frame_of_symbol=np.zeros(SYMBOLS, dtype=np.intp),
    )
    return csi, departure


def scene(generator: np.random.Generator) -> Scene:
    gains = generator.normal(size=5) + 1j * generator.normal(size=5)
    return Scene(
        delays_s=generator.uniform(0.1e-6, 1.2e-6, 5),
        gains=gains / np.linalg.norm(gains),
        to_s=float(generator.uniform(-80e-9, 80e-9)),
        cfo_hz=float(generator.uniform(-300.0, 300.0)),
    )


def middle_to_s(later: Scene) -> float:
    """True time offset at the middle of the slot."""
    middle = 3e-5 + SYMBOL_S * (SYMBOLS - 1) / 2
    return later.to_s - later.cfo_hz / float(CARRIER_HZ) * middle


def estimated(first: Scene, later: Scene, generator: np.random.Generator, *, known: bool = True) -> Offset:
    before, left = slot(first, generator)
    after, left_later = slot(later, generator, tick=10**12, to_reference_s=31.3e-9)
    to_s = middle_to_s(first) if known else None
    fingerprint = take_fingerprint(before, left, transmitter="m", to_s=to_s)
    return METHOD.estimate(Observation(after, left_later, extras={Need.FINGERPRINT: fingerprint}))


@pytest.mark.parametrize("seed", range(4))
def test_offsets_have_the_documented_sign_and_their_stated_deviation(seed: int) -> None:
    generator = np.random.default_rng(seed)
    first = scene(generator)
    later = replace(first, to_s=first.to_s + 55.5e-9, cfo_hz=first.cfo_hz - 171.0)
    found = estimated(first, later, generator)
    assert found.valid, found.reason
    assert found.to_s is not None
    assert found.to_std_s is not None
    assert found.cfo_hz is not None
    assert found.cfo_std_hz is not None
    assert abs(found.to_s - middle_to_s(later)) < 4.5 * found.to_std_s
    assert abs(found.cfo_hz - later.cfo_hz) < 4.5 * found.cfo_std_hz
    assert found.to_std_s < 2.0 * fingerprint_to_std_s(SUBCARRIERS, SPACING_HZ, SYMBOLS, 1.0 / NOISE)
    assert "absolute" in found.reason
    assert found.details["similarity"] > 0.99


def test_errors_follow_the_stated_deviation_with_a_mover_in_the_scene() -> None:
    generator = np.random.default_rng(7)
    normalised = []
    for _ in range(12):
        first = replace(scene(generator), mover=(0.9e-6, 730.0, 0.3j))
        later = replace(first, to_s=first.to_s - 20e-9, mover=(0.8e-6, -1210.0, 0.3))
        found = estimated(first, later, generator)
        assert found.valid, found.reason
        assert found.to_s is not None
        assert found.to_std_s is not None
        normalised.append((found.to_s - middle_to_s(later)) / found.to_std_s)
        (mover, *_) = found.details["movers"]
        assert mover.doppler_hz == pytest.approx(-1210.0, abs=2.0)
    # chi-square of twelve degrees, one in a thousand on either side
    assert 2.2 < float(np.sum(np.square(normalised))) < 32.9


def test_an_unknown_offset_at_the_fingerprint_makes_the_result_relative() -> None:
    generator = np.random.default_rng(3)
    first = scene(generator)
    later = replace(first, to_s=first.to_s + 12.5e-9)
    found = estimated(first, later, generator, known=False)
    assert found.to_s is not None
    assert found.to_std_s is not None
    assert abs(found.to_s - 12.5e-9) < 4.5 * found.to_std_s
    assert "relative to the fingerprint" in found.reason
    assert found.details["reference"] == "relative"


def test_another_scene_is_recognised() -> None:
    generator = np.random.default_rng(5)
    found = estimated(scene(generator), scene(generator), generator)
    assert not found.valid
    assert found.to_s is None
    assert "changed since the fingerprint" in found.reason


def test_a_mover_above_the_static_paths_is_recognised() -> None:
    generator = np.random.default_rng(6)
    first = scene(generator)
    found = estimated(first, replace(first, mover=(0.7e-6, 900.0, 2.5)), generator)
    assert not found.valid
    assert found.reason


@pytest.mark.parametrize("seed", range(3))
def test_no_fingerprint_is_taken_of_a_mover_above_several_static_paths(seed: int) -> None:
    generator = np.random.default_rng(100 + seed)
    mover = (float(generator.uniform(0.2e-6, 1.2e-6)), float(generator.uniform(200.0, 1700.0)), 3.0)
    csi, departure = slot(replace(scene(generator), mover=mover), generator)
    with pytest.raises(ValueError, match="no fingerprint"):
        take_fingerprint(csi, departure, transmitter="m")


def test_a_scene_without_anything_static_gives_no_fingerprint() -> None:
    generator = np.random.default_rng(8)
    csi, departure = slot(scene(generator), generator)
    noise = generator.normal(size=(2, *csi.values.shape))
    with pytest.raises(ValueError, match="no fingerprint"):
        take_fingerprint(replace(csi, values=noise[0] + 1j * noise[1]), departure, transmitter="m")


def test_common_phase_and_amplitude_do_not_matter() -> None:
    first = scene(np.random.default_rng(9))
    turned = replace(first, gains=first.gains * np.exp(1.234j))
    plain, other = (estimated(first, later, np.random.default_rng(10)) for later in (first, turned))
    assert plain.to_s is not None
    assert other.to_s is not None
    assert plain.to_std_s is not None
    # the noise is the same and the channel turned against it, so that only its own share may differ
    assert abs(plain.to_s - other.to_s) < 6.0 * plain.to_std_s


def test_departure_unknown_leaves_the_carrier_offset() -> None:
    generator = np.random.default_rng(11)
    first = scene(generator)
    csi, departure = slot(first, generator)
    fingerprint = take_fingerprint(csi, departure, transmitter="m")
    found = METHOD.estimate(Observation(csi, None, extras={Need.FINGERPRINT: fingerprint}))
    assert (found.valid, found.reason, found.to_s) == (False, "departure unknown", None)
    assert found.cfo_hz == pytest.approx(first.cfo_hz, abs=1.0)


def test_the_fingerprint_of_another_link_is_refused() -> None:
    generator = np.random.default_rng(12)
    csi, departure = slot(scene(generator), generator)
    fingerprint = take_fingerprint(csi, departure, transmitter="m")
    other, left = slot(scene(generator), generator, names="xm")
    with pytest.raises(MissingInputError, match="fingerprint"):
        METHOD.estimate(Observation(other, left, extras={Need.FINGERPRINT: [fingerprint]}))
    with pytest.raises(MissingInputError, match="fingerprint"):
        METHOD.estimate(Observation(csi, departure))


def test_the_spectrum_is_the_double_sum_of_the_survey() -> None:
    generator = np.random.default_rng(13)
    first = scene(generator)
    csi, departure = slot(first, generator)
    fingerprint = take_fingerprint(csi, departure, transmitter="m")
    spectrum = fingerprint_spectrum(csi, fingerprint, padding=2)
    t = csi.symbol_s - csi.symbol_s.mean()
    level = np.sum(np.abs(fingerprint.values) ** 2) * SYMBOLS
    for row, column in generator.integers((0, 0), spectrum.values.shape, (5, 2)):
        turn = (
            np.outer(t * spectrum.doppler_hz[row], np.ones(SUBCARRIERS)) - spectrum.delay_s[column] * csi.subcarrier_hz
        )
        direct = abs(np.sum(csi.values[0] * np.conj(fingerprint.values) * np.exp(-2j * np.pi * turn))) / level
        assert spectrum.values[row, column] == pytest.approx(direct, rel=1e-6, abs=1e-9)
    assert spectrum.values.max() == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("size", [256, 1024, 300])
def test_rows_are_correlated_as_by_double_precision(size: int) -> None:
    generator = np.random.default_rng(size)
    steps = np.sort(generator.choice(size, 200, replace=False))
    rows = generator.standard_normal((5, 200)) + 1j * generator.standard_normal((5, 200))
    factor = generator.standard_normal(200) + 1j * generator.standard_normal(200)
    rows, factor = rows.astype(np.complex64), factor.astype(np.complex64)
    turn = np.exp(2j * np.pi * np.outer(steps, np.arange(size)) / size)
    direct = np.abs((rows.astype(complex) * factor) @ turn)
    error = correlated_rows(rows, factor, steps, size) - direct
    assert 10 * np.log10(np.sum(error**2) / np.sum(direct**2)) < -120


def test_a_scene_bound_of_a_flat_channel_is_the_closed_form() -> None:
    f = SPACING_HZ * np.arange(SUBCARRIERS)
    flat = fingerprint_scene_std_s(f, np.ones(SUBCARRIERS, complex), np.full(SUBCARRIERS, 2.0 * NOISE / SYMBOLS))
    assert flat == pytest.approx(fingerprint_to_std_s(SUBCARRIERS, SPACING_HZ, SYMBOLS, 1.0 / NOISE), rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    tick=st.integers(0, 2**62),
    fraction=st.floats(0.0, 1.0, exclude_max=True),
    name=st.text(min_size=1, max_size=12).filter(lambda text: "\0" not in text),
    to_s=st.none() | st.floats(-1e3, 1e3),
    departed=st.booleans(),
    count=st.integers(3, 9),
)
def test_a_record_survives_its_file(
    tick: int, fraction: float, name: str, to_s: float | None, departed: bool, count: int
) -> None:
    moment = Moment("n", tick, fraction, Fraction(2**80 + 1, 3))
    record = Fingerprint(
        values=np.arange(count) + 1j,
        variance=np.full(count, 0.1),
        subcarrier_hz=np.arange(count) * 1e3,
        reference=moment,
        departure=replace(moment, clock=name) if departed else None,
        transmitter=name,
        epoch=moment,
        to_slope_s=1e-12,
        cfo_reference_hz=5.0,
        cfo_hz=7.0,
        carrier_hz=Fraction(7, 3),
        to_s=to_s,
    )
    file = io.BytesIO()
    np.savez(file, **record.to_arrays())
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        again = Fingerprint.from_arrays(dict(arrays))
    assert replace(again, values=record.values, variance=record.variance, subcarrier_hz=record.subcarrier_hz) == record
    assert np.array_equal(again.values, record.values)


@pytest.mark.parametrize("missing", ["values", "epoch_tick", "carrier_hz", "transmitter", "reference_clock"])
def test_a_broken_record_is_named(missing: str) -> None:
    generator = np.random.default_rng(14)
    csi, departure = slot(scene(generator), generator)
    arrays = take_fingerprint(csi, departure, transmitter="m").to_arrays()
    del arrays[missing]
    with pytest.raises(ValueError, match=missing):
        Fingerprint.from_arrays(arrays)
