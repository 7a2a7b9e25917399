"""Bits to elements and back: mapping, code, checksum."""

from __future__ import annotations

from fractions import Fraction
from math import erfc, sqrt

import ldpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsp.coding import BLOCK_LENGTHS, code
from dsp.payload import decide, decode, encode, error_vector_db, grid_of, modulate, payload_bits, soft_bits
from dsp.waveform import Modulation, Waveform

SMALL = Waveform(256, 32, 200, 12, Modulation.QAM16, 8, Fraction(10_000_000), Fraction(2_400_000_000))


def parity_check(length):
    """The check matrix written out: block (i, j) is the identity with its columns turned right by the shift."""
    small = code(length)
    dense = np.zeros((length // 2, length), np.uint8)
    for (row, column), shift in np.ndenumerate(small.base):
        if shift >= 0:
            block = np.roll(np.eye(small.lift, dtype=np.uint8), shift, axis=1)
            dense[row * small.lift : (row + 1) * small.lift, column * small.lift : (column + 1) * small.lift] = block
    return dense


@pytest.mark.parametrize("length", BLOCK_LENGTHS)
def test_codewords_satisfy_every_check(length):
    rng = np.random.default_rng(length)
    information = rng.integers(0, 2, (20, length // 2), np.uint8)
    words = code(length).encode(information)
    checks = parity_check(length).astype(float)
    assert not (checks @ words.T % 2).any()
    assert np.array_equal(words[:, : length // 2], information)
    overlap = checks @ checks.T
    np.fill_diagonal(overlap, 0)
    # A mistyped shift almost surely closes a cycle of four; the published codes have none.
    assert overlap.max() == 1


@pytest.mark.parametrize(("length", "ebn0_db"), [(1944, 2.0), (1296, 2.3), (648, 2.8)])
def test_the_code_corrects_what_codes_of_its_length_do(length, ebn0_db):
    rng = np.random.default_rng(1)
    information = rng.integers(0, 2, (150, length // 2), np.uint8)
    sigma = sqrt(1 / (2 * 0.5 * 10 ** (ebn0_db / 10)))
    received = 1 - 2.0 * code(length).encode(information) + sigma * rng.standard_normal((150, length))
    decided, flags = code(length).decode(2 * received / sigma**2)
    assert np.mean(received < 0) > 0.05
    assert flags.mean() > 0.98
    assert np.array_equal(decided[flags], information[flags])


def test_decisions_agree_with_an_independent_decoder():
    rng = np.random.default_rng(2)
    small = code(648)
    words = small.encode(rng.integers(0, 2, (5, 324), np.uint8))
    sigma = 0.75
    likelihoods = 2 * (1 - 2.0 * words + sigma * rng.standard_normal(words.shape)) / sigma**2
    decided, flags = small.decode(likelihoods)
    checks = parity_check(648)
    for word, ours, flag in zip(likelihoods, decided, flags, strict=True):
        hard = (word < 0).astype(np.uint8)
        other = ldpc.BpDecoder(
            checks,
            error_channel=(1 / (1 + np.exp(np.abs(word)))).tolist(),
            max_iter=60,
            bp_method="product_sum",
        )
        error = other.decode((checks.astype(int) @ hard % 2).astype(np.uint8))
        assert flag
        assert np.array_equal((hard ^ error)[:324], ours)


@pytest.mark.parametrize("modulation", list(Modulation))
def test_constellations_are_gray_and_of_unit_power(modulation):
    words = (np.arange(1 << modulation.bits)[:, None] >> np.arange(modulation.bits)[::-1]) & 1
    points = modulate(words.astype(np.uint8).ravel(), modulation)
    assert np.mean(np.abs(points) ** 2) == pytest.approx(1.0, abs=1e-6)
    distance = np.abs(points[:, None] - points)
    nearest = np.min(distance + 10 * np.eye(len(points)), axis=1).min()
    first, second = np.nonzero(np.abs(distance - nearest) < 1e-5)
    assert np.all(np.abs(words[first] - words[second]).sum(axis=1) == 1)
    np.testing.assert_array_equal(decide(points, modulation), points)


@pytest.mark.parametrize("modulation", list(Modulation))
def test_soft_bits_take_the_side_of_the_exact_likelihood_and_never_overstate_it(modulation):
    rng = np.random.default_rng(3)
    words = ((np.arange(1 << modulation.bits)[:, None] >> np.arange(modulation.bits)[::-1]) & 1).astype(np.uint8)
    points = modulate(words.ravel(), modulation)
    elements = 1.1 * (rng.standard_normal(400) + 1j * rng.standard_normal(400))
    reliability = rng.uniform(5, 50, 400)
    squared = -(np.abs(elements[:, None] - points) ** 2) * reliability[:, None]
    zero = np.where(words.T[:, None] == 0, squared, -np.inf).max(axis=2)
    one = np.where(words.T[:, None] == 1, squared, -np.inf).max(axis=2)
    exact = (zero - one).T
    ours = soft_bits(elements, reliability, modulation).reshape(400, modulation.bits)
    assert np.all(ours * exact >= 0)
    assert np.all(np.abs(ours) <= np.abs(exact) * (1 + 1e-4) + 1e-4)
    if modulation is Modulation.QPSK:
        np.testing.assert_allclose(ours, exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("modulation", "snr_db"), [(Modulation.QPSK, 7.0), (Modulation.QAM64, 18.0)])
def test_symbol_errors_match_theory(modulation, snr_db):
    rng = np.random.default_rng(4)
    count, snr = 100_000, 10 ** (snr_db / 10)
    points = modulate(rng.integers(0, 2, count * modulation.bits, np.uint8), modulation)
    noise = np.sqrt(0.5 / snr) * (rng.standard_normal(count) + 1j * rng.standard_normal(count))
    levels = 2 ** (modulation.bits // 2)
    step = sqrt(1.5 / (levels**2 - 1))
    axis = (1 - 1 / levels) * erfc(step * sqrt(snr))
    expected = 1 - (1 - axis) ** 2
    measured = np.mean(np.abs(decide(points + noise, modulation) - points) > 1e-3)
    assert measured == pytest.approx(expected, abs=4 * sqrt(expected / count))


@settings(max_examples=25, deadline=None)
@given(
    identity=st.integers(0, 65535),
    round_index=st.integers(0, 2**32 - 1),
    seed=st.integers(0, 2**63),
    nonce=st.integers(0, 255),
    modulation=st.sampled_from(list(Modulation)),
)
def test_whatever_is_sent_comes_back(identity, round_index, seed, nonce, modulation):
    waveform = Waveform(256, 32, 200, 12, modulation, 8, Fraction(10_000_000), Fraction(2_400_000_000))
    grid, bits = encode(waveform, identity=identity, round_index=round_index, seed=seed, nonce=nonce)
    data = grid[~waveform.pilots]
    found = decode(waveform, soft_bits(data, np.full(data.size, 100.0), modulation))
    assert found.crc_ok
    assert (found.identity, found.round_index) == (identity, round_index)
    assert np.array_equal(found.payload, bits)
    assert bits.size == payload_bits(waveform)
    np.testing.assert_array_equal(grid_of(waveform, found.information, identity=identity), grid)


def test_a_frame_beyond_repair_fails_its_checksum():
    rng = np.random.default_rng(6)
    count = np.count_nonzero(~SMALL.pilots) * SMALL.modulation.bits
    found = decode(SMALL, rng.standard_normal(count).astype(np.float32))
    assert not found.crc_ok
    assert found.identity is None


def test_error_vector_is_relative_to_what_was_expected():
    expected = np.array([1 + 1j, 2.0])
    assert error_vector_db(expected * 1.1, expected) == pytest.approx(-20, abs=1e-9)
