"""Tones of the standard's channels against their known counts, symmetry and pilots."""

from __future__ import annotations

import csiread.utils
import numpy as np
import pytest

from dsp.standards.wifi_csi import grouped_tones, remove_tone_rotation, tone_rotation, tones


@pytest.mark.parametrize(
    ("count", "efficient", "pilots"),
    [
        (52, False, 4),
        (56, False, 4),
        (114, False, 6),
        (242, False, 8),
        (484, False, 16),
        (242, True, 8),
        (484, True, 16),
        (996, True, 16),
        (1992, True, 32),
    ],
)
def test_tones_are_as_many_as_stated_and_symmetric(count: int, efficient: bool, pilots: int) -> None:
    index, pilot = tones(count, high_efficiency=efficient)
    assert index.size == count
    assert np.array_equal(index, -index[::-1])
    assert np.all(np.diff(index) > 0)
    assert np.count_nonzero(pilot) == pilots


def test_grouped_tones_agree_with_the_tool() -> None:
    assert np.array_equal(grouped_tones(20), csiread.utils.scidx(20, 2))
    assert np.array_equal(grouped_tones(40), csiread.utils.scidx(40, 4))
    with pytest.raises(ValueError, match="80 MHz"):
        grouped_tones(80)
    with pytest.raises(ValueError, match="77 tones"):
        tones(77)


@pytest.mark.parametrize("count", [56, 114, 242, 484])
def test_rotation_is_removed_where_it_is_and_left_where_it_is_not(count: int) -> None:
    rng = np.random.default_rng(count)
    index, _ = tones(count)
    taps = rng.normal(size=6) + 1j * rng.normal(size=6)
    smooth = np.array(
        [taps @ np.exp(-2j * np.pi * np.outer(rng.uniform(0, 200e-9, 6), index * 312.5e3)) for _ in range(5)]
    )
    rotation = tone_rotation(index)
    kept, found = remove_tone_rotation(smooth, index)
    assert not found
    assert np.array_equal(kept, smooth)
    removed, found = remove_tone_rotation(smooth * rotation, index)
    assert found == (count > 56)
    assert np.allclose(removed, smooth)
