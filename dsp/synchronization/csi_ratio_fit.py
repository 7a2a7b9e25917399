"""Maximum-likelihood fit of one moving path to the ratios of antennas, in homogeneous coordinates.

With free complex gain g in every symbol and subcarrier (clock offsets, gain control and the symbol's own value) the
antennas of one element stand as

    X = g·(s + a·w) + noise,    w = exp(j2π·nu·t·(1 + f/fc)),

s the static channel and a the moving path, one vector over the antennas per subcarrier. Their ratios are a Möbius
map of w, a circle. Fitting the direction of X instead of a quotient divides by no antenna, so that a fade in one is
no pole, and takes any number of antennas.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dsp.channel import ChannelState, ComplexArray, FloatArray

__all__ = ["CircleFit", "Ratios", "circle_fit", "line_power", "ratios", "turns_of"]

_ITERATIONS = 40
_HALVINGS = 12


@dataclass(frozen=True)
class Ratios:
    """Antennas of every known element, scaled to unit noise."""

    values: ComplexArray
    """Shape (subcarrier, symbol, antenna); zero where an element is unknown."""
    scale: FloatArray
    """√weight of each element, shape (subcarrier, symbol)."""
    static: ComplexArray
    """Dominant direction of each subcarrier, unit length, shape (subcarrier, antenna)."""
    moving_basis: ComplexArray
    """Directions across it, shape (subcarrier, antenna, antenna - 1)."""
    time_s: FloatArray
    """About the mean, shape (symbol,)."""
    stretch: FloatArray
    """1 + f/fc, shape (subcarrier,)."""

    @property
    def phase_aligned(self) -> ComplexArray:
        """Values turned so that each element's component along the static direction is real and positive."""
        along = np.einsum("kn,kln->kl", self.static.conj(), self.values)
        return np.asarray(self.values * np.exp(-1j * np.angle(along))[..., None])


@dataclass(frozen=True)
class CircleFit:
    """One moving path beside a static channel."""

    doppler_hz: float
    doppler_std_hz: float
    """From the Fisher information with static and moving channel unknown, and the gains' noise added."""
    static: ComplexArray
    """Shape (subcarrier, antenna)."""
    moving: ComplexArray
    """Same shape; phase at the mean symbol time."""
    residual: ComplexArray
    """What the circle leaves, phase aligned, unit noise across the fitted direction; (subcarrier, symbol, antenna)."""
    cost: float
    """Energy of the residual."""


def ratios(csi: ChannelState) -> Ratios:
    """Whitened antennas of a slot, subcarriers that are never known left out.

    Raises
    ------
    ValueError
        If no element is known.
    """
    known = np.any(csi.weights > 0.0, axis=0)
    if not known.any():
        raise ValueError("no known element in the slot")
    scale = np.sqrt(csi.weights[:, known].T)
    noise = np.maximum(csi.noise, np.finfo(float).tiny)
    values = csi.values[:, :, known].astype(np.complex128) / np.sqrt(noise)[:, None, None]
    values = values.transpose(2, 1, 0) * scale[..., None]
    spread = np.einsum("kln,klm->knm", values, values.conj())
    _, vectors = np.linalg.eigh(spread)
    time = csi.symbol_s.astype(np.float64)
    return Ratios(
        values=values,
        scale=scale,
        static=vectors[:, :, -1],
        moving_basis=vectors[:, :, :-1],
        time_s=time - time.mean(),
        stretch=1.0 + csi.subcarrier_hz[known] / float(csi.carrier_hz),
    )


def turns_of(seen: Ratios, doppler_hz: float) -> ComplexArray:
    """w of every element, shape (subcarrier, symbol)."""
    return np.asarray(np.exp(2j * np.pi * doppler_hz * np.outer(seen.stretch, seen.time_s)))


def line_power(series: ComplexArray, time_s: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Periodogram of series (row, symbol) summed over rows, scaled to mean one per row in unit noise, and its axis.

    Symbols may stand at any times: their autocorrelation is gathered on a raster of an eighth of the smallest
    spacing, and the axis ends at half the inverse of that spacing, the span that is free of aliases.
    """
    spacing = float(np.min(np.diff(time_s)))
    raster = np.rint((time_s - time_s[0]) * (8.0 / spacing)).astype(np.int64)
    reach = int(raster[-1])
    size = 1 << int(np.ceil(np.log2(4 * (reach + 8))))
    gram = series.T @ series.conj()
    lag = (raster[:, None] - raster[None, :]) % size
    gathered = np.zeros(size, dtype=np.complex128)
    np.add.at(gathered, lag.ravel(), gram.ravel())
    power = np.fft.fft(gathered).real / len(time_s)
    axis = np.fft.fftfreq(size, spacing / 8.0)
    inside = np.abs(axis) <= 0.5 / spacing
    order = np.argsort(axis[inside])
    return np.maximum(power[inside][order], 0.0), axis[inside][order]


def circle_fit(seen: Ratios, doppler_hz: float, *, exact: bool) -> CircleFit:
    """Most likely circle near a Doppler: Gauss–Newton over Doppler, static and moving channel jointly.

    Parameters
    ----------
    seen : Ratios
    doppler_hz : float
        Within half a cell of the truth.
    exact : bool
        False leaves the moving path's component along the static direction out: the circle is then traversed at
        constant speed, which is the first order in the moving path.
    """
    static, moving = _start(seen, doppler_hz, exact)
    state = _Normal(seen, doppler_hz, static, moving, exact)
    for _ in range(_ITERATIONS):
        step_hz, step_static, step_moving = state.step()
        share = 1.0
        for _ in range(_HALVINGS):
            trial = _Normal(
                seen,
                state.doppler_hz + share * step_hz,
                state.static + share * step_static,
                state.moving + share * step_moving,
                exact,
            )
            if trial.cost <= state.cost:
                break
            share *= 0.5
        else:
            break
        settled = state.cost - trial.cost < 1e-4  # of a likelihood: a hundredth of a deviation
        state = trial
        if settled:
            break
    aligned = state.residual * np.exp(-1j * np.angle(state.gain))[..., None]
    return CircleFit(state.doppler_hz, state.doppler_std_hz(), state.static, state.moving, aligned, state.cost)


def _start(seen: Ratios, doppler_hz: float, exact: bool) -> tuple[ComplexArray, ComplexArray]:
    """Static and moving channel by linear least squares on the phase-aligned values."""
    w = turns_of(seen, doppler_hz)
    known = (seen.scale > 0.0).astype(np.float64)
    columns = np.stack([known, known * w], axis=-1) * seen.scale[..., None]
    gram = np.einsum("kli,klj->kij", columns.conj(), columns)
    gram += 1e-9 * np.trace(gram, axis1=1, axis2=2).real[:, None, None] * np.eye(2)
    right = np.einsum("kli,kln->kin", columns.conj(), seen.phase_aligned)
    static, moving = np.moveaxis(np.linalg.solve(gram, right), 1, 0)
    # along the static direction a magnitude shows the moving path half at w and half at its conjugate
    along = seen.static * np.einsum("kn,kn->k", seen.static.conj(), moving)[:, None]
    moving = moving + along if exact else moving - along
    return np.asarray(static), np.asarray(moving)


class _Normal:
    """Residual of one set of parameters and its normal equations, the gains eliminated."""

    def __init__(
        self, seen: Ratios, doppler_hz: float, static: ComplexArray, moving: ComplexArray, exact: bool
    ) -> None:
        self._seen, self._exact = seen, exact
        self.doppler_hz, self.static, self.moving = doppler_hz, static, moving
        self._turn = turns_of(seen, doppler_hz)
        self._path = static[:, None, :] + moving[:, None, :] * self._turn[..., None]
        self._length = np.maximum(np.sum(np.abs(self._path) ** 2, axis=-1), 1e-300)
        self.gain: ComplexArray = np.sum(self._path.conj() * seen.values, axis=-1) / self._length
        self.residual: ComplexArray = seen.values - self.gain[..., None] * self._path
        self.cost = float(np.sum(np.abs(self.residual) ** 2))

    def step(self) -> tuple[float, ComplexArray, ComplexArray]:
        """Gauss–Newton step of the Doppler and of both channels."""
        inverse_right, inverse_slope, slope, information, gradient = self._eliminated()
        information -= float(np.sum((slope.conj() * inverse_slope).real))
        gradient -= float(np.sum((slope.conj() * inverse_right).real))
        step_hz = gradient / max(information, 1e-300)
        # far from the peak a step beyond a quarter of a cell leaves the region where the circle is linear in it
        limit_hz = 0.25 / float(np.ptp(self._seen.time_s))
        step_hz = float(np.clip(step_hz, -limit_hz, limit_hz))
        across = np.einsum("knm,km->kn", self._basis(), inverse_right - inverse_slope * step_hz)
        antennas = self.static.shape[1]
        return step_hz, across[:, :antennas], across[:, antennas:]

    def doppler_std_hz(self) -> float:
        """Deviation: noise in the gains adds to the score but not to the information."""
        _, inverse_slope, slope, information, _ = self._eliminated()
        information -= float(np.sum((slope.conj() * inverse_slope).real))
        known = self._seen.scale > 0.0
        power = np.abs(self.gain) ** 2 * known
        signal = float(np.sum(power * self._length))
        growth = signal / max(signal - float(np.count_nonzero(known)), 1e-3 * signal)
        # the moving channel found contains noise, too, one unit for each of its free numbers
        across = np.einsum("knm,kn->km", self._seen.moving_basis.conj(), self.moving)
        moved = float(np.sum(np.abs(across) ** 2 * power.sum(axis=1)[:, None]))
        growth *= moved / max(moved - across.size, 1e-3 * moved)
        return float(growth / np.sqrt(max(2.0 * information, 1e-300)))

    def _basis(self) -> ComplexArray:
        """Free directions of (static, moving): static only across its direction, which fixes the gains' scale."""
        across, (count, antennas, free) = self._seen.moving_basis, self._seen.moving_basis.shape
        basis = np.zeros((count, 2 * antennas, 2 * free + self._exact), dtype=np.complex128)
        basis[:, :antennas, :free] = across
        basis[:, antennas:, free : 2 * free] = across
        if self._exact:
            basis[:, antennas:, -1] = self._seen.static
        return basis

    def _eliminated(self) -> tuple[ComplexArray, ComplexArray, ComplexArray, float, float]:
        """Normal equations of the channels solved for the residual and for the Doppler's derivative."""
        power = np.abs(self.gain) ** 2
        projected = power / self._length
        antennas = self.static.shape[1]
        identity = np.eye(antennas)
        blocks = []
        for turn in (np.ones_like(self._turn), self._turn):
            outer = np.einsum("kl,kln,klm->knm", projected * turn, self._path, self._path.conj(), optimize=True)
            blocks.append(np.einsum("kl->k", power * turn)[:, None, None] * identity - outer)
        gram = np.block([[blocks[0], blocks[1]], [np.conj(np.swapaxes(blocks[1], 1, 2)), blocks[0]]])
        rate = 2j * np.pi * self._seen.stretch[:, None] * self._seen.time_s
        slope = (self.gain * rate * self._turn)[..., None] * self.moving[:, None, :]
        slope -= (np.sum(self._path.conj() * slope, axis=-1) / self._length)[..., None] * self._path
        weights = np.stack([self.gain.conj(), (self.gain * self._turn).conj()], axis=1)
        columns = [(weights @ field).reshape(len(field), -1) for field in (self.residual, slope)]
        basis = self._basis()
        adjoint = np.conj(np.swapaxes(basis, 1, 2))
        reduced = adjoint @ gram @ basis
        size = reduced.shape[1]
        reduced += 1e-10 * np.trace(reduced, axis1=1, axis2=2).real[:, None, None] * np.eye(size)
        both = adjoint @ np.stack(columns, axis=-1)
        solved = np.linalg.solve(reduced, both)
        information = float(np.sum(np.abs(slope) ** 2))
        gradient = float(np.sum((slope.conj() * self.residual).real))
        return solved[..., 0], solved[..., 1], both[..., 1], information, gradient
