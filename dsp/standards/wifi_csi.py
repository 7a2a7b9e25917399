"""Which subcarriers an 802.11 CSI report holds, and the tone rotation of wide channels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dsp.channel import ComplexArray

__all__ = ["HE_SPACING_HZ", "SPACING_HZ", "grouped_tones", "remove_tone_rotation", "tone_rotation", "tones"]

SPACING_HZ = 312_500.0
"""Subcarrier spacing of 802.11a/g/n/ac at full clock."""
HE_SPACING_HZ = 78_125.0
"""Subcarrier spacing of 802.11ax."""

IntArray = NDArray[np.int64]

# Occupied tones by (high-efficiency?, count): IEEE 802.11-2020 tables 17-5, 19-6, 21-5, and 802.11ax-2021 27.3.11.
_RUNS: dict[tuple[bool, int], tuple[tuple[int, int], ...]] = {
    (False, 52): ((-26, -1), (1, 26)),
    (False, 56): ((-28, -1), (1, 28)),
    (False, 114): ((-58, -2), (2, 58)),
    (False, 242): ((-122, -2), (2, 122)),
    (False, 484): ((-250, -130), (-126, -6), (6, 126), (130, 250)),
    (True, 242): ((-122, -2), (2, 122)),
    (True, 484): ((-244, -3), (3, 244)),
    (True, 996): ((-500, -3), (3, 500)),
    (True, 1992): ((-1012, -515), (-509, -12), (12, 509), (515, 1012)),
}
_PILOTS: dict[tuple[bool, int], tuple[int, ...]] = {
    (False, 52): (7, 21),
    (False, 56): (7, 21),
    (False, 114): (11, 25, 53),
    (False, 242): (11, 39, 75, 103),
    (False, 484): (25, 53, 89, 117, 139, 167, 203, 231),
    (True, 242): (22, 48, 90, 116),
    (True, 484): (10, 36, 78, 104, 144, 170, 212, 238),
    (True, 996): (24, 92, 158, 226, 266, 334, 400, 468),
    (True, 1992): tuple(sorted(512 + sign * k for k in (24, 92, 158, 226, 266, 334, 400, 468) for sign in (-1, 1))),
}


def tones(count: int, *, high_efficiency: bool = False) -> tuple[IntArray, NDArray[np.bool_]]:
    """Subcarrier indices of a full CSI report of ``count`` tones, ascending, and which of them are pilots.

    Raises
    ------
    ValueError
        If no channel width has that many tones.
    """
    runs = _RUNS.get((high_efficiency, count))
    if runs is None:
        known = ", ".join(str(n) for he, n in _RUNS if he is high_efficiency)
        raise ValueError(f"no channel has {count} tones; known are {known}")
    index = np.concatenate([np.arange(first, last + 1) for first, last in runs])
    return index, np.isin(np.abs(index), _PILOTS[high_efficiency, count])


def grouped_tones(width_mhz: int) -> IntArray:
    """The 30 tones that an Intel 5300 reports: grouping 2 at 20 MHz and 4 at 40 MHz (802.11n table 7-25f).

    Raises
    ------
    ValueError
        If the width is neither 20 nor 40 MHz.
    """
    if width_mhz == 20:
        return np.asarray(np.r_[-28:-1:2, -1, 1:28:2, 28], dtype=np.int64)
    if width_mhz == 40:
        return np.asarray(np.r_[-58:-5:4, -2, 2:55:4, 58], dtype=np.int64)
    raise ValueError(f"grouped reports exist for 20 and 40 MHz, not for {width_mhz} MHz")


def tone_rotation(index: IntArray) -> ComplexArray:
    """Rotation γ that a transmitter puts on the tones of an HT or VHT channel wider than 20 MHz.

    40 MHz: j from the centre up. 80 MHz: -1 from tone -64 up. 160 MHz: the 80 MHz pattern in each half.
    Source: IEEE 802.11-2020, 19.3.9.3.4 and 21.3.7.5.
    """
    widest = int(np.abs(index).max())
    if widest <= 28:
        return np.ones(index.shape, dtype=np.complex128)
    if widest <= 58:
        return np.where(index >= 0, 1j, 1.0 + 0j)
    if widest <= 122:
        return np.where(index >= -64, -1.0 + 0j, 1.0 + 0j)
    return np.where((index + 128 - 256 * (index >= 0)) >= -64, -1.0 + 0j, 1.0 + 0j)


def remove_tone_rotation(values: ComplexArray, index: IntArray) -> tuple[ComplexArray, bool]:
    """CSI (…, subcarrier) without the transmitter's tone rotation, and whether it was there.

    Some cards report the channel with γ in it, some without. The one of the two whose delay profile has the higher
    peak (fourth-power mean, over all snapshots) is the smoother channel, and is taken.
    """
    rotation = tone_rotation(index)
    if np.all(rotation == 1):
        return values, False
    size = 1 << int(np.ceil(np.log2(2 * (index.max() - index.min() + 1))))
    place = (index % size).astype(int)

    def peak(csi: ComplexArray) -> float:
        grid = np.zeros((csi.size // csi.shape[-1], size), dtype=np.complex128)
        grid[:, place] = csi.reshape(-1, csi.shape[-1])
        return float(np.sum(np.abs(np.fft.ifft(grid, axis=1)) ** 4))

    turned = values * rotation.conj()
    if peak(turned) > peak(values):
        return turned, True
    return values, False
