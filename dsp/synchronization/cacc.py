"""Cross-antenna cross-correlation: movers relative to the line of sight, whatever the clocks do."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, log10, pi

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.special import gammainccinv

from dsp import SPEED_OF_LIGHT_MPS
from dsp.channel import ChannelState, ComplexArray, FloatArray
from dsp.sensing.angle import subspace_nulls
from dsp.sensing.cross_antenna import mean_product
from dsp.synchronization.base import Need, Observation, Offset, require
from dsp.synchronization.symbol_grid import grid_steps

__all__ = ["CrossAntennaCorrelation", "CrossAntennaSensing", "RelativePath", "cross_antenna_paths"]

NO_OFFSET = "cross-antenna correlation cancels the clock offsets and so gives none"
_LARGEST_ORDER = 6
_FALSE_ALARM = 1e-3
_LARGEST_ECHO = 0.12
"""Ripple p/(1 + p)² that other static paths of relative power p in total, -8 dB, make; two alike make a quarter."""
_LARGEST_MOTION = 0.18
"""The same for movers, -5 dB."""
_ANTENNA_SIGMAS = 6.0
"""Excess of an antenna's power over its noise, in deviations, without which it hears nothing."""
_CLEAR_OF_REST = 2.0
"""Deviations that a Doppler must be from zero."""
_PADDING = 4
_NEWTON_STEPS = 10


@dataclass(frozen=True)
class RelativePath:
    """A moving path against the line of sight."""

    delay_s: float
    """Delay beyond the line of sight's; add distance over speed of light for the absolute one."""
    delay_std_s: float
    doppler_hz: float
    """Against the line of sight; positive when the path shortens."""
    doppler_std_hz: float
    angle_rad: float | None
    """Angle from broadside; None without antenna positions."""
    snr_db: float
    """Over the whole frame and all antennas, after integration."""


@dataclass(frozen=True)
class CrossAntennaSensing:
    """What the cross-antenna correlation tells of the scene."""

    paths: tuple[RelativePath, ...]
    valid: bool
    reason: str


@dataclass(frozen=True)
class CrossAntennaCorrelation:
    """Offset-free sensing by cross-antenna correlation; says that it gives no clock offset.

    ``valid`` judges the sensing (`cross_antenna_paths`): a line of sight that dominates.

    Source: survey equation 32; methods section 3.2.
    """

    name: str = "cacc"
    needs: frozenset[Need] = frozenset({Need.SECOND_ANTENNA})

    def estimate(self, observation: Observation) -> Offset:
        """Offset without numbers; the sensing result stands in ``details["sensing"]``.

        Raises
        ------
        MissingInputError
            If the forward link has a single antenna.
        """
        require(observation, self.needs)
        csi = observation.forward
        sensing = cross_antenna_paths(csi)
        snr = csi.snr
        return Offset(
            to_s=None,
            cfo_hz=None,
            epoch=csi.reference.shifted(float(np.mean(csi.symbol_s))),
            snr_db=10.0 * log10(snr) if snr > 0.0 else None,
            valid=sensing.valid,
            reason=NO_OFFSET if sensing.valid else sensing.reason,
            details={"sensing": sensing},
        )


def cross_antenna_paths(csi: ChannelState, *, antenna_m: FloatArray | None = None) -> CrossAntennaSensing:
    """Moving paths against the line of sight, from products of antennas that cancel every common offset.

    The products H_a·conj(H_0), less their means over the slot, hold each mover's product with the line of sight
    and, mirrored in delay and Doppler, its conjugate. Folding subcarriers f and -f turns both into one source of
    steering cos(2πf·tau), tau > 0: MUSIC on the folded covariance finds the delays, a scan along each the
    signed Doppler. All are then refined together by least squares with the mirrored pairs' amplitudes free per
    antenna, and what remains is searched for more. Angles follow from the direct amplitudes over the antennas.

    Parameters
    ----------
    csi : ChannelState
        At least two antennas; subcarriers symmetric about zero for the folded search.
    antenna_m : float array, shape (antenna,), optional
        Positions along the array, positive to its left; angles are left out if not given.

    Returns
    -------
    CrossAntennaSensing
        Invalid, with the reason and without paths, where no line of sight stands 8 dB above the other static paths
        together or movers are not well below it: products among the weak paths then pose as targets.

    Raises
    ------
    ValueError
        If there is one antenna or fewer than eight symbols.

    Source: survey equation 32; methods section 3.2 (mirrored MUSIC, the project's derivation).
    """
    if csi.values.shape[0] < 2 or len(csi.symbol_s) < 8:
        raise ValueError(f"need two antennas and eight symbols, got {csi.values.shape[0]} and {len(csi.symbol_s)}")
    known: NDArray[np.bool_] = np.all(csi.weights > 0.0, axis=0)
    f, t = csi.subcarrier_hz[known], csi.symbol_s - csi.symbol_s.mean()
    values = csi.values[:, :, known].astype(np.complex128)
    reason = _deaf(values, csi, known) or _unfit(values, csi, known)
    if reason:  # what would be fitted there are products among the weak paths, at great length
        return CrossAntennaSensing(paths=(), valid=False, reason=reason)
    products = values[1:] * np.conj(values[0])
    mean = mean_product(csi.values[:, :, known])[:, None]
    colour = _noise_root(values, csi.noise * float(np.mean(1.0 / csi.weights[:, known])))
    white = np.linalg.solve(colour, (products - mean).reshape(len(products), -1)).reshape(products.shape)
    fit = _MirroredFit(white, f, t, float(csi.carrier_hz))
    paths = fit.paths()
    sight = mean.mean(axis=(1, 2))
    level = float(np.mean(np.abs(values[0]) ** 2) - csi.noise[0])
    return CrossAntennaSensing(
        paths=tuple(
            RelativePath(
                delay_s=float(path.delay_s),
                delay_std_s=path.delay_std_s,
                doppler_hz=float(path.doppler_hz),
                doppler_std_hz=path.doppler_std_hz,
                angle_rad=None
                if antenna_m is None
                else _angle(
                    _direct(colour @ path.direct, colour @ path.mirrored, sight, level),
                    antenna_m,
                    SPEED_OF_LIGHT_MPS / float(csi.carrier_hz),
                ),
                snr_db=path.snr_db,
            )
            for path in paths
        ),
        valid=True,
        reason="",
    )


def _deaf(values: ComplexArray, csi: ChannelState, known: NDArray[np.bool_]) -> str:
    """Which antenna hears nothing; empty if all do."""
    noise = csi.noise[:, None, None] / csi.weights[:, known]
    excess = np.sum(np.abs(values) ** 2 / noise - 1.0, axis=(1, 2))
    deaf = np.flatnonzero(excess < _ANTENNA_SIGMAS * np.sqrt(noise[0].size))
    return f"antenna {int(deaf[0])} hears nothing: no product" if deaf.size else ""


def _unfit(values: ComplexArray, csi: ChannelState, known: NDArray[np.bool_]) -> str:
    """Why the products cannot be read as movers against a line of sight; empty if they can.

    One path alone makes every product of antennas flat over frequency; others of p times its power in total ripple all
    of them, power and phase, by a variance of 2p/(1 + p)² of the squared mean power, which includes them. A band of few
    resolution cells sees few fringes, and one antenna's power may miss them: every antenna meets the paths otherwise.
    """
    antennas, symbols, subcarriers = values.shape
    noise = csi.noise * float(np.mean(1.0 / csi.weights[:, known]))
    products = np.einsum("alk,blk->abk", values, values.conj()) / symbols - np.diag(noise)[:, :, None]
    levels = products[range(antennas), range(antennas)].real.mean(axis=1)
    if levels.min() <= 0.0:
        return "no signal above the noise"
    scale = float(levels.sum()) ** 2
    scatter = np.outer(noise, levels) + np.outer(levels, noise) + np.outer(noise, noise)  # of one symbol's products
    ripple = float(np.sum(np.mean(np.abs(products - products.mean(axis=2, keepdims=True)) ** 2, axis=2)))
    echoes = 0.5 * max(ripple - float(scatter.sum()) / symbols, 0.0) / scale
    # the deviation of that ripple by noise alone; a product and its conjugate are one
    unsure = float(np.sqrt(2.0 / subcarriers * np.sum(scatter**2))) / symbols / scale
    if 0.5 * unsure > _LARGEST_ECHO:
        return "the line of sight is too weak to show that it dominates"
    if echoes > _LARGEST_ECHO:
        return "no line of sight that dominates: the channel is not flat over the band"
    power = np.abs(values[0]) ** 2
    moving = float(np.mean((power - power.mean(axis=0)) ** 2)) - float(scatter[0, 0])
    if 0.5 * max(moving, 0.0) / float(np.mean(power.mean(axis=0) ** 2)) > _LARGEST_MOTION:
        return "no line of sight that dominates: moving paths are too strong"
    return ""


def _noise_root(values: ComplexArray, noise: FloatArray) -> ComplexArray:
    """Root of the products' noise covariance over antennas 1…, lower triangular.

    An antenna's own noise meets the reference's signal, the reference's noise, common to all products, meets theirs:
    C = diag(σ_a²)·mean |H_0|² + σ_0²·(R - diag σ_a²), R the antennas' covariance as received.
    """
    others = values[1:].reshape(len(values) - 1, -1)
    signal = others @ others.conj().T / others.shape[1] - np.diag(noise[1:])
    own = noise[1:] * float(np.mean(np.abs(values[0]) ** 2))
    levels, turns = np.linalg.eigh(signal)
    common = (turns * np.maximum(levels, 0.0)) @ turns.conj().T
    # without noise any small one serves: all that counts is that every antenna is weighed alike
    least = 1e-9 * float(np.mean(np.abs(values) ** 2)) ** 2
    root: ComplexArray = np.linalg.cholesky(np.diag(np.maximum(own, least)) + noise[0] * common)
    return root


def _direct(direct: ComplexArray, mirrored: ComplexArray, sight: ComplexArray, level: float) -> ComplexArray:
    """Direct amplitudes b_a·g_0* on all antennas: the reference's by least squares from the mirrored ones, g_a·b_0*.

    ``sight`` is g_a·g_0*, ``level`` |g_0|².
    """
    reference = level * np.vdot(mirrored, sight) / np.vdot(sight, sight)
    return np.concatenate([[reference], direct])


def _angle(direct: ComplexArray, antenna_m: FloatArray, wavelength_m: float) -> float:
    """Angle of greatest correlation with the array's steering, from broadside."""
    best, sines = 0.0, np.linspace(-1.0, 1.0, 721)
    for reach in (1 / 360, 1 / 7200, 1 / 144000):
        steering = np.exp(-2j * pi / wavelength_m * np.outer(sines, antenna_m))
        best = float(sines[int(np.argmax(np.abs(steering @ direct)))])
        sines = np.clip(best + np.linspace(-reach, reach, 41), -1.0, 1.0)
    return float(np.arcsin(best))


@dataclass(frozen=True)
class _Fitted:
    delay_s: float
    delay_std_s: float
    doppler_hz: float
    doppler_std_hz: float
    direct: ComplexArray
    mirrored: ComplexArray
    snr_db: float


class _MirroredFit:
    """Mirrored pairs of exponentials in whitened products of shape (product, symbol, subcarrier)."""

    def __init__(self, products: ComplexArray, f: FloatArray, t: FloatArray, carrier_hz: float) -> None:
        self._products = products
        self._f, self._t = f, t
        self._stretch = 1.0 + f / carrier_hz  # a mover's delay changes within the slot
        self._delay_cell_s = 1.0 / float(np.ptp(f))
        self._doppler_cell_hz = 1.0 / float(np.ptp(t))

    def paths(self) -> list[_Fitted]:
        """Paths that stand out of the noise, strongest first."""
        points: FloatArray = np.zeros((0, 2))
        for delay_s in self._music_delays():
            points = np.vstack([points, [delay_s, self._doppler_at(self._left(points), float(delay_s))]])
        points = self._significant(self._refined(points))
        while len(points) < _LARGEST_ORDER:
            more = self._significant(self._refined(np.vstack([points, self._strongest(self._left(points))])))
            if len(more) <= len(points):
                break
            points = more
        fitted = sorted(self._fitted(points), key=lambda path: -path.snr_db)
        # what cannot be told from rest was taken off with the mean: what is fitted there balances another path's fit
        fitted = [path for path in fitted if abs(path.doppler_hz) > _CLEAR_OF_REST * path.doppler_std_hz]
        return [path for number, path in enumerate(fitted) if not self._is_product(path, fitted[:number])]

    def _is_product(self, path: _Fitted, stronger: list[_Fitted]) -> bool:
        """Whether a path stands where the product of two stronger movers with each other must."""
        for number, one in enumerate(stronger):
            for other in stronger[:number]:
                delay_s, doppler_hz = one.delay_s - other.delay_s, one.doppler_hz - other.doppler_hz
                if delay_s < 0.0:
                    delay_s, doppler_hz = -delay_s, -doppler_hz
                near = abs(path.delay_s - delay_s) < 0.5 * self._delay_cell_s
                if near and abs(path.doppler_hz - doppler_hz) < 0.5 * self._doppler_cell_hz:
                    return True
        return False

    def _music_delays(self) -> FloatArray:
        """Delays of the folded covariance's sources, number by minimum description length."""
        f = self._f
        order = np.argsort(f)
        spacing = float(np.min(np.diff(f)))
        upper = np.flatnonzero(f > 0.25 * spacing)
        mirror = order[np.clip(np.searchsorted(f[order], -f[upper] - 0.25 * spacing), 0, len(f) - 1)]
        paired = np.abs(f[mirror] + f[upper]) < 0.25 * spacing
        upper, mirror = upper[paired], mirror[paired]
        if len(upper) < 2 * _LARGEST_ORDER:
            return np.zeros(0)
        folded = (self._products[..., upper] + self._products[..., mirror]).reshape(-1, len(upper))
        covariance = folded.T @ folded.conj() / len(folded)
        eigenvalues, vectors = np.linalg.eigh(covariance)
        count = _sources(eigenvalues[::-1], len(folded))
        if count == 0:
            return np.zeros(0)
        grid_s = np.arange(0.25, 0.5 / spacing / self._delay_cell_s, 1.0 / 16) * self._delay_cell_s
        steering = np.cos(2.0 * pi * np.outer(grid_s, f[upper]))
        norm = np.sum(steering**2, axis=1)
        null = subspace_nulls(vectors[None, :, -count:], steering.T)[0]
        spectrum = 1.0 / np.maximum(null, 1e-12 * norm) * norm
        peaks = np.flatnonzero((spectrum >= np.roll(spectrum, 1)) & (spectrum > np.roll(spectrum, -1)))
        found: FloatArray = grid_s[peaks[np.argsort(spectrum[peaks])[::-1][:count]]]
        return found

    def _doppler_at(self, left: ComplexArray, delay_s: float) -> float:
        """Signed Doppler of greatest power at a delay, direct and mirrored term together."""
        direct = left @ np.exp(2j * pi * self._f * delay_s)
        mirrored = np.conj(left) @ np.exp(2j * pi * self._f * delay_s)
        return self._doppler_peak(direct[..., None], mirrored[..., None])[0]

    def _doppler_peak(self, direct: ComplexArray, mirrored: ComplexArray) -> tuple[float, int, float]:
        """Doppler and column of the greatest power among series of shape (antenna, symbol, column)."""
        steps = grid_steps(self._t)
        spacing_s = float(np.min(np.diff(self._t)))
        size = fft.next_fast_len(_PADDING * int(steps[-1] + 1))
        power: FloatArray = np.zeros((size, direct.shape[-1]))
        for series in (direct, mirrored):
            for antenna in series:
                padded = np.zeros((size, direct.shape[-1]), dtype=np.complex128)
                padded[steps] = antenna
                power += np.abs(fft.fft(padded, axis=0)) ** 2
        row, column = divmod(int(np.argmax(power)), power.shape[1])
        doppler_hz = float(fft.fftfreq(size, spacing_s)[row])
        return doppler_hz, column, float(power[row, column])

    def _strongest(self, left: ComplexArray) -> FloatArray:
        """Delay and Doppler of the greatest mirrored power of the remainder."""
        spacing = float(np.min(np.diff(self._f)))
        grid_s = np.arange(0.25, 0.5 / spacing / self._delay_cell_s, 0.5) * self._delay_cell_s
        beams = np.exp(2j * pi * np.outer(self._f, grid_s))
        doppler_hz, column, _ = self._doppler_peak(left @ beams, np.conj(left) @ beams)
        return np.array([[grid_s[column], doppler_hz]])

    def _turns(self, point: FloatArray) -> ComplexArray:
        """Direct exponential of one path, shape (symbol, subcarrier)."""
        turns: ComplexArray = np.exp(2j * pi * (np.outer(point[1] * self._t, self._stretch) - point[0] * self._f))
        return turns

    def _terms(self, points: FloatArray) -> ComplexArray:
        """Direct and mirrored exponential of each path less its mean over time, shape (2·path, element)."""
        return _mirrored([_centred(self._turns(point)) for point in points])

    def _amplitudes(self, terms: ComplexArray) -> tuple[ComplexArray, ComplexArray, ComplexArray]:
        """Least-squares amplitudes (term, product), the terms' conjugates, what is left (product, element)."""
        target = self._products.reshape(len(self._products), -1)
        conjugate = terms.reshape(-1, 2, terms.shape[1])[:, ::-1].reshape(terms.shape)
        amplitudes = np.linalg.lstsq(conjugate @ terms.T, conjugate @ target.T, rcond=1e-10)[0]
        return amplitudes, conjugate, target - amplitudes.T @ terms

    def _left(self, points: FloatArray) -> ComplexArray:
        if len(points) == 0:
            return self._products
        return self._amplitudes(self._terms(points))[2].reshape(self._products.shape)

    def _normal(self, points: FloatArray) -> tuple[FloatArray, FloatArray, ComplexArray, ComplexArray]:
        """Normal matrix and right side in delays and Dopplers, amplitudes eliminated; amplitudes; remainder.

        Every slope is an element-wise derivative, or its conjugate for the mirrored term, times a product's
        amplitude, so that all inner products are those of derivatives with terms and with one another.
        """
        turned = [self._turns(point) for point in points]
        terms = _mirrored([_centred(one) for one in turned])
        amplitudes, conjugate, left = self._amplitudes(terms)
        by_delay = -2j * pi * self._delay_cell_s * self._f
        by_doppler = 2j * pi * self._doppler_cell_hz * np.outer(self._t, self._stretch)
        slopes = _mirrored([_centred(factor * one) for one in turned for factor in (by_delay, by_doppler)])
        turned_slopes = slopes.reshape(-1, 2, slopes.shape[1])[:, ::-1].reshape(slopes.shape)
        across = conjugate @ slopes.T
        projected = turned_slopes @ slopes.T
        projected -= across.conj().T @ np.linalg.lstsq(conjugate @ terms.T, across, rcond=1e-10)[0]
        size = 2 * len(points)
        mixed = np.zeros((2 * size, size, amplitudes.shape[1]), np.complex128)
        for parameter in range(size):
            mixed[2 * parameter, parameter] = amplitudes[2 * (parameter // 2)]
            mixed[2 * parameter + 1, parameter] = amplitudes[2 * (parameter // 2) + 1]
        matrix = np.einsum("ipa,ij,jqa->pq", mixed.conj(), projected, mixed, optimize=True).real
        right = np.einsum("ipa,ia->p", mixed.conj(), turned_slopes @ left.T).real
        return matrix, right, amplitudes, left

    def _refined(self, points: FloatArray) -> FloatArray:
        """Delays and Dopplers of least squares near the given ones, steps at most a quarter of a cell."""
        if len(points) == 0:
            return points
        cells = np.array([self._delay_cell_s, self._doppler_cell_hz])
        for _ in range(_NEWTON_STEPS):
            matrix, right, _, _ = self._normal(points)
            damping = 1e-6 * np.trace(matrix) / len(matrix)
            step = np.linalg.solve(matrix + damping * np.eye(len(matrix)), right)
            points = points + np.clip(step, -0.25, 0.25).reshape(-1, 2) * cells
            if np.max(np.abs(step)) < 1e-5:
                break
        turned = points[:, 0] < 0.0  # a mirrored term taken for the direct one
        upright: FloatArray = np.where(turned[:, None], -points, points)
        return upright

    def _significant(self, points: FloatArray) -> FloatArray:
        """Paths whose pair of terms explains more than noise does anywhere in the map."""
        if len(points) == 0:
            return points
        _, _, amplitudes, left = self._normal(points)
        products = len(self._products)
        noise = float(np.mean(np.abs(left) ** 2))
        energy = left.shape[1] * np.sum(np.abs(amplitudes) ** 2, axis=1).reshape(-1, 2).sum(axis=1) / noise
        # Energy of two complex cells a product, the greatest of a continuous search: of four times the map's cells.
        threshold = gammainccinv(2 * products, _FALSE_ALARM / (4.0 * left.shape[1]))
        apart = points[:, 0] > 0.2 * self._delay_cell_s
        significant: FloatArray = points[(energy > threshold) & apart]
        return significant

    def _fitted(self, points: FloatArray) -> list[_Fitted]:
        if len(points) == 0:
            return []
        matrix, _, amplitudes, left = self._normal(points)
        noise = float(np.mean(np.abs(left) ** 2))
        deviation = np.sqrt(0.5 * noise * np.diag(np.linalg.pinv(matrix, hermitian=True))).reshape(-1, 2)
        return [
            _Fitted(
                delay_s=float(delay_s),
                delay_std_s=float(deviation[path, 0]) * self._delay_cell_s,
                doppler_hz=float(doppler_hz),
                doppler_std_hz=float(deviation[path, 1]) * self._doppler_cell_hz,
                direct=amplitudes[2 * path],
                mirrored=amplitudes[2 * path + 1],
                snr_db=10.0 * log10(left.shape[1] * float(np.sum(np.abs(amplitudes[2 * path]) ** 2)) / noise),
            )
            for path, (delay_s, doppler_hz) in enumerate(points)
        ]


def _mirrored(direct: list[ComplexArray]) -> ComplexArray:
    """Each array and its conjugate in turn, shape (2·array, element)."""
    stacked = np.stack(direct).reshape(len(direct), -1)
    return np.stack([stacked, stacked.conj()], axis=1).reshape(2 * len(direct), -1)


def _centred(series: ComplexArray) -> ComplexArray:
    """Less the mean over symbols, shape (symbol, subcarrier)."""
    centred: ComplexArray = series - series.mean(axis=0)
    return centred


def _sources(eigenvalues: FloatArray, snapshots: int) -> int:
    """Number of sources of minimum description length; eigenvalues descending."""
    size = len(eigenvalues)
    lengths = []
    for count in range(_LARGEST_ORDER + 1):
        tail = np.maximum(eigenvalues[count:], 1e-300)
        ratio = float(np.mean(np.log(tail)) - np.log(np.mean(tail)))
        lengths.append(-snapshots * (size - count) * ratio + 0.5 * count * (2 * size - count) * log(snapshots))
    return int(np.argmin(lengths))
