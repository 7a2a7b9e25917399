"""Angle of arrival at a uniform or arbitrary linear array, by MUSIC, with every bearing that fits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsp import SPEED_OF_LIGHT_MPS
from dsp.channel import ComplexArray, FloatArray

__all__ = ["Angle", "bearing", "covariance", "music", "null_spectra", "signal_subspaces", "steering", "subspace_nulls"]

_MOST_ITERATIONS = 200
_SETTLED = 1e-12
"""What an invariant subspace may lack of being one, over the covariance's trace; others are found by eigenvalues."""
_GRID_PER_BEAM = 16
"""Samples of the spectrum per beam width before refinement."""


@dataclass(frozen=True)
class Angle:
    """One arrival at a linear array, which sees only the sine of the bearing."""

    sine: float
    """Sine of the bearing: direction cosine along the array's axis, the positive axis to heading's left."""
    sine_std: float
    """From the amplitudes' noise; does not grow towards endfire as the bearing's does."""
    bearings_rad: tuple[float, ...]
    """Every bearing that fits, front before back (π − bearing), for each grating lobe of a spacing beyond half a
    wavelength; (−π, π]. They stay hypotheses until another link removes them."""
    bearing_std_rad: float
    """Of each bearing, sine_std/cos; infinite where the arrival is along the array."""
    sines: tuple[float, ...]
    """The sine and its grating repetitions."""


def steering(sines: FloatArray, positions_m: FloatArray, carrier_hz: float) -> ComplexArray:
    """Array response exp(+j2π·fc/c·x_a·sine), shape (antenna, sine)."""
    return np.asarray(
        np.exp(2j * np.pi * carrier_hz / SPEED_OF_LIGHT_MPS * np.multiply.outer(positions_m, sines)),
        dtype=np.complex128,
    )


def covariance(snapshots: ComplexArray) -> ComplexArray:
    """Spatial covariance of snapshots, shape (snapshot, antenna) to (antenna, antenna)."""
    return np.asarray(np.einsum("na,nb->ab", snapshots, snapshots.conj()) / len(snapshots))


def music(spatial: ComplexArray, positions_m: FloatArray, carrier_hz: float, *, sources: int = 1) -> tuple[float, ...]:
    """Sines of the arrivals by MUSIC: where the array response is most nearly orthogonal to the noise subspace.

    The null spectrum is sampled over one unambiguous period of the sine (grating repetitions left out) and its
    minima refined by Newton's method. With one source and one snapshot this is the beamformer's maximum, which is
    the maximum-likelihood estimate.

    Parameters
    ----------
    spatial : complex array, shape (antenna, antenna)
        Covariance, antenna phases calibrated.
    positions_m : float array, shape (antenna,)
        Along the array, positive to heading's left.
    sources : int, 1 ≤ sources < antennas

    Returns
    -------
    tuple of float
        One sine per source, deepest null first, in −1…1; fewer if the spectrum has fewer minima.

    Raises
    ------
    ValueError
        If there are not fewer sources than antennas, or two antennas stand in one place.

    Source: Schmidt 1986.
    """
    antennas = len(positions_m)
    if not 1 <= sources < antennas:
        raise ValueError(f"{sources} sources need more than {antennas} antennas")
    spacing = float(np.min(np.diff(np.sort(positions_m))))
    if spacing <= 0:
        raise ValueError("two antennas stand in one place")
    wavelength = SPEED_OF_LIGHT_MPS / carrier_hz
    signal = signal_subspaces(np.asarray(spatial)[None], sources)
    half = min(1.0, 0.5 * wavelength / spacing)
    aperture = float(np.ptp(positions_m)) / wavelength
    count = int(np.ceil(2 * half * max(aperture, 0.5) * _GRID_PER_BEAM)) * 2
    # up to half a wavelength and beyond the spectrum is periodic: the last sample would repeat the first
    periodic = 2.0 * half * spacing >= wavelength * (1.0 - 1e-9)
    grid = np.linspace(-half, half, count, endpoint=not periodic)
    null = subspace_nulls(signal, steering(grid, positions_m, carrier_hz))[0]
    noise = np.eye(antennas) - signal[0] @ signal[0].conj().T
    before = np.roll(null, 1) if periodic else np.r_[np.inf, null[:-1]]
    after = np.roll(null, -1) if periodic else np.r_[null[1:], np.inf]
    minima = np.flatnonzero((null <= before) & (null < after))
    if not minima.size:
        minima = np.array([int(np.argmin(null))])
    refined = [_refined(float(grid[index]), grid[1] - grid[0], noise, positions_m, carrier_hz) for index in minima]
    refined.sort(key=lambda pair: pair[1])
    return tuple(float(np.clip(sine, -1.0, 1.0)) for sine, _ in refined[:sources])


def null_spectra(covariances: ComplexArray, response: ComplexArray, *, sources: int) -> FloatArray:
    """Null spectra of MUSIC of many covariances over one raster: smallest where the array looks along a source.

    The signal subspace is found by orthogonal iteration, which for few sources is several times faster than all
    eigenvalues, and is iterated until it is invariant to 1e-12 of the trace. Where the sources do not stand out enough
    for that within 200 steps, all eigenvectors are computed: the result is the same either way.

    Parameters
    ----------
    covariances : complex array, shape (covariance, antenna, antenna)
        Hermitian.
    response : complex array, shape (antenna, angle)
        From `steering`.
    sources : int, 1 ≤ sources < antennas

    Returns
    -------
    float array, shape (covariance, angle)
        |a|² - |Eᴴa|², E the signal subspace.

    Raises
    ------
    ValueError
        If there are not fewer sources than antennas.

    Source: Schmidt 1986; Golub and Van Loan, "Matrix Computations", section 8.2.4 (orthogonal iteration).
    """
    return subspace_nulls(signal_subspaces(covariances, sources), response)


def signal_subspaces(covariances: ComplexArray, sources: int) -> NDArray[np.complex128]:
    """Orthonormal signal subspaces of Hermitian matrices, shape (covariance, antenna, source), as `null_spectra` says.

    Raises
    ------
    ValueError
        If there are not fewer sources than antennas.
    """
    from dsp.kernels.music import _signal_subspaces

    count, antennas = covariances.shape[:2]
    if not 1 <= sources < antennas:
        raise ValueError(f"{sources} sources need more than {antennas} antennas")
    spatial: NDArray[np.complex128] = np.ascontiguousarray(covariances, dtype=np.complex128)
    vectors = np.empty((count, antennas, sources), np.complex128)
    settled = np.empty(count, np.bool_)
    _signal_subspaces(spatial, _MOST_ITERATIONS, _SETTLED, vectors, settled)
    if not settled.all():
        vectors[~settled] = np.linalg.eigh(spatial[~settled])[1][:, :, antennas - sources :]
    return vectors


def subspace_nulls(vectors: ComplexArray, response: ComplexArray) -> FloatArray:
    """What subspaces (subspace, antenna, source) leave of the power of responses (antenna, angle)."""
    from dsp.kernels.music import _null_spectra

    basis: NDArray[np.complex128] = np.ascontiguousarray(vectors, dtype=np.complex128)
    out = np.empty((len(basis), response.shape[1]))
    real: NDArray[np.float64] = np.ascontiguousarray(response.real, dtype=np.float64)
    imag: NDArray[np.float64] = np.ascontiguousarray(response.imag, dtype=np.float64)
    _null_spectra(basis, real, imag, out)
    return out


def bearing(
    amplitudes: ComplexArray,
    amplitude_noise: FloatArray,
    *,
    spacing_m: float,
    carrier_hz: float,
    calibration: ComplexArray | None = None,
) -> Angle:
    """Angle of arrival of one detection from its amplitudes on a uniform array.

    Parameters
    ----------
    amplitudes : complex array, shape (antenna,) or (snapshot, antenna)
        Of one path; several snapshots (cells, slots) share the direction, not the phase.
    amplitude_noise : float array, shape (antenna,) or (antenna, 2, antenna, 2)
        Deviation per real dimension of each antenna's amplitude; or the covariance of real and imaginary parts, where
        the antennas' errors go together. Of every snapshot.
    spacing_m : float > 0
        Antenna a stands at a·spacing to heading's left of antenna 0.
    calibration : complex array, shape (antenna,), optional
        Response of each receive chain to one wave at broadside; divided out.

    Returns
    -------
    Angle
        Deviation to first order: the sine errs by Σ p_a·(x_a − x̄)·δφ_a / (2π·fc/c·Σ p_a·(x_a − x̄)²) for phases that
        err by δφ_a, p_a the antenna's power and x̄ the mean position weighted with it. With independent noise of one
        size that is the bound, for two antennas half a wavelength apart 1/(π√ρ), ρ the SNR of one.

    Raises
    ------
    ValueError
        If there are fewer than two antennas.
    """
    snapshots = np.atleast_2d(amplitudes).astype(np.complex128)
    if snapshots.shape[1] < 2:
        raise ValueError("an angle needs two antennas")
    noise = np.asarray(amplitude_noise, dtype=np.float64)
    if noise.ndim == 1:
        noise = np.einsum("a,ab,ij->aibj", noise**2, np.eye(noise.size), np.eye(2))
    if calibration is not None:
        snapshots = snapshots / calibration
        turn = np.stack([np.stack([w.real, -w.imag, w.imag, w.real]).reshape(2, 2) for w in 1.0 / calibration])
        noise = np.einsum("aki,aibj,blj->akbl", turn, noise, turn)
    positions = spacing_m * np.arange(snapshots.shape[1])
    (sine,) = music(covariance(snapshots), positions, carrier_hz)
    power = np.sum(np.abs(snapshots) ** 2, axis=0)
    arm = positions - float(power @ positions / power.sum())
    by_part = np.stack([-snapshots.imag, snapshots.real], axis=-1) * arm[:, None]
    turned = 2.0 * np.pi * carrier_hz / SPEED_OF_LIGHT_MPS * float(power @ arm**2)
    deviation = float(np.sqrt(np.einsum("tai,aibj,tbj->", by_part, noise, by_part))) / turned
    period = SPEED_OF_LIGHT_MPS / carrier_hz / spacing_m
    lobes = np.arange(np.ceil((-1.0 - sine) / period), np.floor((1.0 - sine) / period) + 1)
    sines = tuple(float(value) for value in sorted(sine + period * lobes, key=lambda value: abs(value - sine)))
    bearings: list[float] = []
    for value in sines:
        front = float(np.arcsin(np.clip(value, -1.0, 1.0)))
        bearings += [front, float(np.remainder(np.pi - front + np.pi, 2.0 * np.pi) - np.pi)]
    cosine = float(np.sqrt(max(1.0 - sine**2, 0.0)))
    return Angle(
        sine=sine,
        sine_std=deviation,
        bearings_rad=tuple(bearings),
        bearing_std_rad=float(deviation / cosine) if cosine > 0 else float("inf"),
        sines=sines,
    )


def _refined(
    start: float, step: float, projector: ComplexArray, positions: FloatArray, carrier: float
) -> tuple[float, float]:
    """Minimum of the null spectrum near ``start``, and its depth; ``projector`` is onto the noise."""
    slope = 2j * np.pi * carrier / SPEED_OF_LIGHT_MPS * positions
    sine = start
    for _ in range(20):
        response = steering(np.array([sine]), positions, carrier)[:, 0]
        first, second = slope * response, slope**2 * response
        gradient = 2.0 * float(np.real(first.conj() @ projector @ response))
        curvature = 2.0 * float(np.real(second.conj() @ projector @ response + first.conj() @ projector @ first))
        if curvature <= 0:
            break
        change = float(np.clip(sine - gradient / curvature, start - step, start + step)) - sine
        sine += change
        if abs(change) < 1e-12:
            break
    response = steering(np.array([sine]), positions, carrier)[:, 0]
    return sine, float(np.real(response.conj() @ projector @ response))
