"""The semidefinite programme behind precoder designs, over one block of subcarriers or many.

Of each part of the antennas (a station's, or all that cooperate coherently) and block the total covariance T is free.
What a user may have of it, W_u ⪰ 0 with ΣW_u ⪯ T, matters through the users' own directions alone: with Q a basis of
their channels, matrices X_u ⪰ 0 of at most as many rows as there are users, ΣX_u ⪯ QᴴTQ, say all of it, for
W_u = TQG⁻¹X_uG⁻¹QᴴT with G = QᴴTQ keeps QᴴW_uQ = X_u and ΣW_u ⪯ T (docs/methods/signalling.md eq. 6 and eq. 7).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsp.channel import ComplexArray, FloatArray
from dsp.network.cooperation import Cooperation

__all__ = ["Demand", "InfeasibleError", "Limits", "Relaxed", "UnsolvedError", "relaxed"]

IntArray = NDArray[np.integer]
_NOTHING = 1e-9
"""Share of an antenna's power below which a stream is the solver's remainder, and left out."""


class InfeasibleError(ValueError):
    """No precoders meet the users' demands within the antennas' power; the text says so."""


class UnsolvedError(RuntimeError):
    """The solver came to no end though the users' demands can be met; the text says so."""


@dataclass(frozen=True)
class Demand:
    """What a design has to keep."""

    channels: ComplexArray
    """Shape (user, station, antenna)."""
    noise: float
    """Power at a user."""
    sinr: FloatArray
    """Least power ratio of each user, shape (user,)."""
    antenna_power: float
    """Most that an antenna sends."""
    mode: Cooperation = Cooperation.COHERENT
    serving: tuple[int, ...] = ()
    """Station of each user, where they are coordinated; the nearest in channel power if empty."""

    def stations_of(self, user: int) -> list[int]:
        """Stations that send to a user."""
        count = self.channels.shape[1]
        if self.mode is not Cooperation.COORDINATED:
            return list(range(count))
        if self.serving:
            return [self.serving[user]]
        return [int(np.argmax((np.abs(self.channels[user]) ** 2).sum(axis=1)))]

    @property
    def parts(self) -> list[IntArray]:
        """Antennas that send with common phase: all, where fields add coherently, else each station's."""
        _, stations, antennas = self.channels.shape
        everything = np.arange(stations * antennas)
        return [everything] if self.mode is Cooperation.COHERENT else list(everything.reshape(stations, -1))

    @property
    def unmet(self) -> str:
        """Sentence on demands that no precoders meet."""
        wanted = ", ".join(f"{10 * np.log10(one):.1f} dB" for one in self.sinr)
        return (
            f"no precoders give the users {wanted} with {self.antenna_power:g} W an antenna: ask for less, or more "
            "power"
        )


@dataclass(frozen=True)
class Limits:
    """What holds beside the users' demands."""

    each_block: bool = False
    """Whether every block keeps to its share of each antenna's power, or only all together."""
    turn: Callable[[int], int] | None = None
    """Station that alone lights the target on a block; None: all may."""


@dataclass(frozen=True)
class Relaxed:
    """Solution of the relaxation, and precoders that reach it."""

    precoders: list[ComplexArray]
    """By block, each of shape (stream, station, antenna), users' streams first, in roots of the antennas' power."""
    bound_m2: float
    """Least squared position error."""


@dataclass
class _Block:
    """Variables of one block, in units of the antennas' power."""

    demand: Demand
    totals: list[Any]
    bases: list[ComplexArray]
    """Of the users' channels, each of shape (antenna, direction)."""
    shares: list[list[Any]]
    """By user and part, X_u; None where the part does not serve the user."""
    constraints: list[Any]


def relaxed(
    demands: Sequence[Demand],
    terms: FloatArray,
    prior: FloatArray,
    vectors: ComplexArray,
    limits: Limits = Limits(),
) -> Relaxed:
    """Solution of the design by semidefinite relaxation, and exact recovery of users' streams of rank one.

    Parameters
    ----------
    demands : sequence of Demand
        Of each block, alike but for the channels.
    terms : float array, shape (station, block, parameter, parameter)
        Information for a unit of power that a station puts on the target on a block; the position comes first.
    prior : float array, shape (parameter, parameter)
    vectors : complex array, shape (station, antenna)
        Steering vectors towards the target.
    limits : Limits

    Raises
    ------
    InfeasibleError
        If the demands cannot be met.
    UnsolvedError
        If the solver fails.
    ModuleNotFoundError
        If cvxpy is not installed.

    Source: survey eq. 30; docs/methods/signalling.md eq. 6 and eq. 7.
    """
    # Imported by name: its types and its untyped parts would be strangers in a strictly typed tree.
    cp: Any = import_module("cvxpy")
    blocks = [_block(cp, demand) for demand in demands]
    stations, antennas = vectors.shape
    constraints = [one for block in blocks for one in block.constraints]
    # Powers as variables of their own: what joins the blocks is then small, whatever their number.
    spent = cp.Variable((len(blocks), stations * antennas))
    lit = cp.Variable((len(blocks), stations))
    for number, block in enumerate(blocks):
        for part, total in zip(block.demand.parts, block.totals, strict=True):
            constraints.append(spent[number, part] == cp.real(cp.diag(total)))
        for station, vector in enumerate(vectors):
            power = cp.real(cp.trace(np.outer(vector, vector.conj()) @ _own(block, station, antennas)))
            constraints.append(lit[number, station] == power / antennas)
    constraints.append(spent <= 1.0 if limits.each_block else cp.sum(spent, axis=0) <= len(blocks))
    if limits.turn is not None:
        for number in range(len(blocks)):
            idle = [station for station in range(stations) if station != limits.turn(number)]
            constraints.append(lit[number, idle] == 0)
    demand = demands[0]
    objective, schur, unit = _position_error(cp, terms * (demand.antenna_power * antennas), prior, lit)
    problem = cp.Problem(cp.Minimize(objective), [*constraints, schur])
    try:
        _solve(cp, problem)
    except cp.error.SolverError as error:
        if max(_least_power(cp, one) for one in demands) > 1.0:
            raise InfeasibleError(demand.unmet) from None
        raise UnsolvedError(f"the solver ended without a design: {str(error).partition('.')[0]}") from error
    if problem.status not in ("optimal", "optimal_inaccurate"):
        raise InfeasibleError(demand.unmet)
    return Relaxed([_recovered(block) for block in blocks], float(problem.value) * unit)


def _solve(cp: Any, problem: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of an inaccurate solution: the gap says what it is worth
        # Information over many blocks is sparse enough to be taken apart, which costs the solver twice the steps.
        problem.solve(solver=cp.CLARABEL, chordal_decomposition_enable=False)


def _block(cp: Any, demand: Demand) -> _Block:
    """Variables of one block, and what gives every user its SINR there."""
    parts, users = demand.parts, len(demand.channels)
    flat = demand.channels.reshape(users, sum(map(len, parts))) / np.sqrt(demand.noise / demand.antenna_power)
    totals = [cp.Variable((len(part), len(part)), hermitian=True) for part in parts]
    constraints: list[Any] = [total >> 0 for total in totals]
    bases = [_basis(flat[:, part].T) for part in parts]
    gains = np.linalg.norm(flat, axis=1) ** 2
    shares = [
        [
            cp.Variable((basis.shape[1], basis.shape[1]), hermitian=True)
            if demand.mode is Cooperation.COHERENT or part in demand.stations_of(user)
            else None
            for part, basis in enumerate(bases)
        ]
        for user in range(users)
    ]
    constraints += [share >> 0 for user in shares for share in user if share is not None]
    for number, (basis, total) in enumerate(zip(bases, totals, strict=True)):
        taken: list[Any] = [user[number] for user in shares if user[number] is not None]
        if taken:
            constraints.append(basis.conj().T @ total @ basis - sum(taken) >> 0)
    for user in range(users):
        heard: Any = 0.0
        wanted: Any = 0.0
        for part, basis, total, share in zip(parts, bases, totals, shares[user], strict=True):
            channel = flat[user, part] / np.sqrt(gains[user])
            heard += cp.real(cp.trace(np.outer(channel, channel.conj()) @ total))
            if share is not None:
                seen = basis.conj().T @ channel
                wanted += cp.real(cp.trace(np.outer(seen, seen.conj()) @ share))
        constraints.append(wanted * (1 + 1 / demand.sinr[user]) >= heard + 1 / gains[user])
    return _Block(demand, totals, bases, shares, constraints)


def _basis(columns: ComplexArray) -> ComplexArray:
    """Orthonormal basis of ``columns``, shape (antenna, direction)."""
    if not columns.shape[1]:
        return columns
    left, size, _ = np.linalg.svd(columns, full_matrices=False)
    return np.asarray(left[:, size > 1e-12 * size[0]])


def _own(block: _Block, station: int, antennas: int) -> Any:
    """Covariance of one station's antennas."""
    if len(block.totals) > 1:
        return block.totals[station]
    own = slice(station * antennas, (station + 1) * antennas)
    return block.totals[0][own, own]


def _position_error(cp: Any, terms: FloatArray, prior: FloatArray, lit: Any) -> tuple[Any, Any, float]:
    """Trace of the position's block of the inverse information, the constraint that makes it so by Schur's complement,
    and its unit: parameters are scaled to an information of about one, both coordinates alike."""
    scale = 1 / np.sqrt(np.maximum(np.diag(prior + terms.sum(axis=(0, 1))), 1e-300))
    scale[:2] = np.sqrt(np.mean(scale[:2] ** 2))
    both = np.outer(scale, scale)
    stations, blocks = terms.shape[:2]
    information = prior * both + sum(
        lit[block, station] * (terms[station, block] * both) for block in range(blocks) for station in range(stations)
    )
    bound = cp.Variable((2, 2), symmetric=True)
    select = np.eye(len(scale))[:, :2]
    return cp.trace(bound), cp.bmat([[bound, select.T], [select, information]]) >> 0, float(scale[0] ** 2)


def _least_power(cp: Any, demand: Demand) -> float:
    """Least power of the strongest antenna, as a share of what it may send, that gives every user its SINR; inf where
    none does."""
    block, share = _block(cp, demand), cp.Variable()
    powers = [cp.real(cp.diag(total)) <= share for total in block.totals]
    problem = cp.Problem(cp.Minimize(share), [*block.constraints, *powers])
    try:
        _solve(cp, problem)
    except cp.error.SolverError:
        return float("inf")
    return float(problem.value) if problem.status in ("optimal", "optimal_inaccurate") else float("inf")


def _recovered(block: _Block) -> ComplexArray:
    """Users' streams of rank one that keep h·W·h, and sensing streams that make up the total."""
    demand, parts = block.demand, block.demand.parts
    users, stations, antennas = demand.channels.shape
    flat = demand.channels.reshape(users, stations * antennas)
    rest = [0.5 * (total.value + total.value.conj().T) for total in block.totals]
    made = [np.zeros(stations * antennas, dtype=complex) for _ in range(users)]
    for number, (part, basis, total) in enumerate(zip(parts, block.bases, list(rest), strict=True)):
        if not users:
            break
        whitened = _inverse_root(basis.conj().T @ total @ basis)
        outward = total @ basis @ whitened
        for user in range(users):
            share = block.shares[user][number]
            if share is None:
                continue
            inner = _within_one(whitened @ share.value @ whitened)
            h = flat[user, part]
            seen = outward @ (inner @ (outward.conj().T @ h))
            wanted = float((h.conj() @ seen).real)
            if wanted > _NOTHING**2 * float((np.abs(h) ** 2).sum()):
                made[user][part] = seen / np.sqrt(wanted)
            rest[number] = rest[number] - np.outer(made[user][part], made[user][part].conj())
    sensing = []
    for part, left in zip(parts, rest, strict=True):
        values, directions = np.linalg.eigh(left)
        for value, direction in zip(values, directions.T, strict=True):
            if value > _NOTHING:
                stream = np.zeros(stations * antennas, dtype=complex)
                stream[part] = np.sqrt(value) * direction
                sensing.append(stream)
    streams = np.array([*made, *sensing], dtype=complex).reshape(-1, stations, antennas)
    return np.asarray(streams * np.sqrt(demand.antenna_power))


def _inverse_root(matrix: ComplexArray) -> ComplexArray:
    """Inverse square root of a positive semidefinite matrix, zero where it is."""
    values, directions = np.linalg.eigh(0.5 * (matrix + matrix.conj().T))
    roots = np.where(values > 1e-12 * max(values[-1], 0.0), 1 / np.sqrt(np.maximum(values, 1e-300)), 0.0)
    return np.asarray(directions * roots @ directions.conj().T)


def _within_one(matrix: ComplexArray) -> ComplexArray:
    """The nearest hermitian matrix with eigenvalues between zero and one."""
    values, directions = np.linalg.eigh(0.5 * (matrix + matrix.conj().T))
    return np.asarray(directions * np.clip(values, 0.0, 1.0) @ directions.conj().T)
