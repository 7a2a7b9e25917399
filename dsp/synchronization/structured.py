"""Two-way offset from paths whose delays and Dopplers the directions share, and whose amplitudes they need not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import log, pi
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.special import chdtri

from dsp.bounds.link import two_way_bound
from dsp.channel import FloatArray
from dsp.synchronization.base import Need, Observation, Offset, Port, require
from dsp.synchronization.carrier_alias import ALIASED
from dsp.synchronization.matched_product import Residual, TwoWayLink, two_way_link, two_way_offset
from dsp.synchronization.structured_fit import SharedFit, SharedPaths

__all__ = ["LINE_OF_SIGHT", "LineOfSight", "ReciprocityStructured", "Structure", "structure", "structured_offset"]

LINE_OF_SIGHT = "line of sight"
"""Key of `Observation.extras`: a `LineOfSight`, where positions and port offsets give it."""

_NEEDS = frozenset({Need.REVERSE_LINK})
_MOST_PATHS = 12
_CANDIDATES = 3
_FALSE_LINK = 1e-3  # chance that the one path of a direction is its greatest noise
_FALSE_PATH = 0.01  # chance that a fit to noise takes one path more
_SHARED = 8.0  # power over variance in either direction that makes a path shared: noise reaches it in 3 of 10,000
# No wrong alignment shares so many paths, and so much of all: others are then not tried. Evenly spaced paths that are
# laid on one another shifted by one share all but one of each direction.
_BEYOND_CHANCE, _NEARLY_ALL = 3, 0.8
_SHARED_PART = 0.4  # of the paths: a wrong alignment fits each direction's paths on their own
_DENSITY = 0.9  # paths for each resolution cell that they span: beyond, a path stands for several
_LOST_INFORMATION = 2.0  # of the deviation that resolved paths of the same power would have
_NOT_RESOLVED = "paths are not resolved: {} over {:.1f} resolution cells"
_NEIGHBOUR = 1.3  # resolution cells: two thirds of one from either of two such paths, a third hides
_CROWDED = 0.75  # of the power in paths with such a neighbour
_STRAIN = 0.05  # chance that resolved paths look strained, and deviations are widened
_CONTRADICTION = 1e-4  # chance that a fit to shared paths is refused
_AMBIGUOUS = 6.0  # log-likelihood by which the best alignment must surpass any other
_NOISE_TOLERANCE = 1.5
_MISPLACED = 4.0  # deviations


@dataclass(frozen=True)
class LineOfSight:
    """True delays between the ports in use, by geometry."""

    forward_s: float
    """From the forward transmitter's port to the forward receiver's."""
    reverse_s: float


@dataclass(frozen=True)
class Structure:
    """Shared paths found in a link, and what speaks against them."""

    fit: SharedFit
    noise_ratio: float
    """Energy left over the noise stated."""
    objection: str
    """Why the offsets are not to be trusted; empty if nothing was seen."""


@dataclass(frozen=True)
class ReciprocityStructured:
    """Two-way offset by a joint maximum-likelihood fit of paths common to both directions.

    Delays and Dopplers are shared, complex amplitudes free in each direction, the offsets common to all paths.
    The directions' delay-Doppler maps, correlated, give the offsets to a cell; paths are then taken in one
    by one, each where it explains most of both remainders, and refined jointly with the offsets, until no further
    path is significant. Nothing is multiplied element by element, so the product's loss at low SNR is not paid.

    With separate ports every path has its own difference in delay, and only the line of sight's is known, less
    what `LINE_OF_SIGHT` among the observation's extras states: it is the surest path that stands where the line of
    sight must.

    The deviation is the inverse Fisher information's at the fit. Invalid where a departure is unknown, where more
    paths are significant than are fitted or they crowd into too few resolution cells, where fewer than two paths (or
    the only one) or two fifths of them are shared, where delays or Dopplers differ between the directions, where
    two alignments explain them alike, and with separate ports of unknown geometry. An echo inside another's
    resolution cell and too weak to be told from it is not seen, and pulls the offset if its phase is not reciprocal.
    The carrier phase is not given: free amplitudes leave none.

    Source: methods section 3.6, the project's derivation (docs/methods/structured.md).
    """

    name: str = "reciprocity-structured"
    needs: frozenset[Need] = _NEEDS

    def estimate(self, observation: Observation) -> Offset:
        """Offset of the forward receiver against the forward transmitter.

        Raises
        ------
        MissingInputError
            If there is no reverse link.
        ValueError
            If the directions share no frame or subcarrier, or hold no signal.
        """
        require(observation, self.needs)
        link = two_way_link(observation)
        return structured_offset(observation, link, structure(observation, link))


def structured_offset(observation: Observation, link: TwoWayLink, found: Structure) -> Offset:
    """Offset that the shared paths give, its validity and details."""
    fit = found.fit
    separate = observation.port is Port.SEPARATE
    chosen = 0
    growth = _growth(found)
    objection = found.objection
    geometry = observation.extras.get(LINE_OF_SIGHT)
    if separate and isinstance(geometry, LineOfSight):
        chosen, misplaced = _line_of_sight(observation, link, fit, geometry, growth)
        objection = objection or misplaced
    elif separate:
        objection = objection or "separate ports, and the line of sight's geometry is not known"
    to_s = float(fit.to_s[chosen])
    if separate and isinstance(geometry, LineOfSight):
        to_s -= 0.5 * (geometry.forward_s - geometry.reverse_s)
    residual = Residual(
        to_s=to_s,
        cfo_hz=fit.cfo_hz,
        phase_rad=0.0,
        to_std_s=growth * float(np.sqrt(max(fit.covariance[chosen, chosen], 0.0))),
        cfo_std_hz=growth * float(np.sqrt(max(fit.covariance[-1, -1], 0.0))),
        phase_std_rad=0.0,
    )
    offset = two_way_offset(link, residual, observation, reciprocal=False)
    details: dict[str, Any] = offset.details | {
        "paths": len(fit.paths),
        "path_delays_s": fit.paths[:, 0],
        "path_dopplers_hz": fit.paths[:, 1],
        "amplitudes": fit.amplitudes,
        "noise_ratio": found.noise_ratio,
    }
    valid = offset.valid and not objection
    reason = offset.reason or objection
    if valid:
        reason = f"{len(fit.paths)} shared paths"
        if growth > 1.0:
            reason += "; more left than the noise stated: deviations widened"
    return replace(offset, phase_rad=None, phase_std_rad=None, valid=valid, reason=reason, details=details)


def _growth(found: Structure) -> float:
    """Factor on the deviations: noise beyond that stated, or paths that disagree on the offsets by more than noise."""
    noise = found.noise_ratio if found.noise_ratio > _NOISE_TOLERANCE else 1.0
    fit = found.fit
    strained = fit.freed > 0 and 2.0 * fit.unexplained > float(chdtri(fit.freed, _STRAIN))
    return float(np.sqrt(max(noise, 2.0 * fit.unexplained / fit.freed if strained else 1.0)))


def structure(observation: Observation, link: TwoWayLink) -> Structure:
    """Shared paths of greatest penalised likelihood over the alignments that the magnitudes suggest."""
    separate = observation.port is Port.SEPARATE
    model = SharedPaths(link, gap_s=_gap(observation), separate=separate)
    threshold = _threshold(model.cells)
    found: list[SharedFit] = []
    for to_s, cfo_hz, _ in model.start(_CANDIDATES):
        grown = _grown(model, to_s, cfo_hz, threshold, separate)
        if grown is not None:
            found.append(grown)
            if _shared(grown) >= max(_BEYOND_CHANCE, _NEARLY_ALL * len(grown.paths)):
                break
            paired = None if separate else _paired(model, grown)
            if paired is not None:
                found.append(paired)
                break
    if not found:
        raise ValueError("no path stands above the noise in the two directions together")
    scores = [fit.gain - threshold * len(fit.paths) for fit in found]
    best = int(np.argmax(scores))
    fit = found[best]
    objection = ALIASED if _at_edge(model, fit) else _objection(model, fit, threshold)
    for rival, score in zip(found, scores, strict=True):
        apart = abs(rival.to_s[0] - fit.to_s[0]) > model.cell[0] or abs(rival.cfo_hz - fit.cfo_hz) > model.cell[1]
        if apart and scores[best] - score < _AMBIGUOUS:
            objection = objection or "two alignments of the directions explain them alike"
    if not objection and _aliased(model, fit):
        objection = ALIASED
    if not objection and not separate and _crowded(model, link, fit):
        objection = _NOT_RESOLVED.format(len(fit.paths), _spanned(model, fit))
    return Structure(fit=fit, noise_ratio=model.noise_ratio(fit), objection=objection)


def _grown(model: SharedPaths, to_s: float, cfo_hz: float, threshold: float, separate: bool) -> SharedFit | None:
    """Paths taken in one by one until the next is not significant."""
    fit: SharedFit | None = None
    paths: FloatArray = np.zeros((0, 2))
    offsets_s = np.array([to_s])
    while len(paths) < _MOST_PATHS:
        delay_s, doppler_hz, gain = model.next_path(paths, offsets_s, cfo_hz)
        # the offsets were chosen to lay the directions' greatest noise on one another: so many cells more were tried
        if gain < threshold + (0.0 if len(paths) else log(4.0 * model.cells)):
            break
        trial = np.vstack([paths, [delay_s, doppler_hz]])
        trial_s = np.append(offsets_s, offsets_s[0]) if separate and len(paths) else offsets_s
        fit = model.fit(trial, trial_s, cfo_hz, iterations=_ROUGH)
        paths, offsets_s, cfo_hz = fit.paths, fit.to_s, fit.cfo_hz
    if fit is None:
        return None
    return model.fit(paths, offsets_s, cfo_hz, iterations=_FINE)


def _paired(model: SharedPaths, fit: SharedFit) -> SharedFit | None:
    """The fit in which each direction's own paths are one another's; None unless nearly all become shared.

    A first path that only one direction knows may meet another one of the other direction's: offsets half a cell off,
    after which the others are no longer shared, and each direction's are fitted on their own. Half the difference of a
    forward and a reverse path is the correction that would make them one: that of most pairs is tried.
    """
    ahead, behind = (np.flatnonzero(row > _SHARED) for row in fit.significance)
    if not ahead.size or not behind.size:
        return None
    halves = 0.5 * (fit.paths[ahead][:, None] - fit.paths[behind])
    best: tuple[NDArray[np.intp], NDArray[np.intp], FloatArray] | None = None
    for trial in halves.reshape(-1, 2):
        apart = np.max(np.abs(halves - trial) / model.cell, axis=2)
        rows, columns = linear_sum_assignment(np.minimum(apart, _ONE_PATH))
        together = apart[rows, columns] < _ONE_PATH
        if best is None or np.count_nonzero(together) > len(best[0]):
            rows, columns = rows[together], columns[together]
            best = rows, columns, np.asarray(halves[rows, columns].mean(axis=0))
    assert best is not None
    rows, columns, correction = best
    others = len(ahead) + len(behind) - 2 * len(rows)
    if len(rows) < max(_BEYOND_CHANCE, _NEARLY_ALL * (len(rows) + others)):
        return None
    shared = 0.5 * (fit.paths[ahead[rows]] + fit.paths[behind[columns]])
    own = (
        np.delete(fit.paths[ahead], rows, axis=0) - correction,
        np.delete(fit.paths[behind], columns, axis=0) + correction,
    )
    offsets_s = fit.to_s + correction[0]
    return model.fit(np.concatenate([shared, *own]), offsets_s, fit.cfo_hz + correction[1], iterations=_FINE)


_ROUGH, _FINE = 3, 15
_ONE_PATH = 0.25  # resolution cells by which two directions' estimates of one path may differ


def _at_edge(model: SharedPaths, fit: SharedFit) -> bool:
    """Whether most of the power has the Doppler of what stands still where the CFO is off by an odd alias.

    The directions' frequencies are known modulo 1/T each: their half difference and half sum modulo 1/(2T) together.
    """
    half_hz = 0.5 / model.symbol_step_s
    at_edge = half_hz - np.abs(fit.paths[:, 1]) < 2.0 * model.cell[1]
    power = np.sum(np.abs(fit.amplitudes) ** 2, axis=0)
    return bool(model.cell[1] < half_hz and power[at_edge].sum() > 0.5 * power.sum())


def _aliased(model: SharedPaths, fit: SharedFit) -> bool:
    """Whether the same paths explain more at an alias of the CFO, by the sampling offset that goes with it."""
    half_hz = 0.5 / model.symbol_step_s
    if model.cell[1] > half_hz:
        return False
    for number, doppler in ((1, 1), (1, -1), (-1, 1), (-1, -1), (2, 0), (-2, 0)):
        paths = fit.paths + np.array([0.0, doppler * half_hz])
        other = model.fit(paths, fit.to_s, fit.cfo_hz + number * half_hz, iterations=1)
        if other.gain > fit.gain + _AMBIGUOUS:
            return True
    return False


def _threshold(cells: int) -> float:
    """Log-likelihood that two noise-only directions together reach in one of a hundred links."""
    level = log(4.0 * cells / _FALSE_PATH)  # a continuous search reaches what four times the cells would
    return level + log(1.0 + level)


def _objection(model: SharedPaths, fit: SharedFit, threshold: float) -> str:
    """What speaks against the fit, the first that applies."""
    if len(fit.paths) == _MOST_PATHS and model.next_path(fit.paths, fit.to_s, fit.cfo_hz)[2] > threshold:
        return f"more than {_MOST_PATHS} paths: their order is not resolved"
    spanned = _spanned(model, fit)
    if len(fit.paths) > _DENSITY * spanned + 1.0:
        return _NOT_RESOLVED.format(len(fit.paths), spanned)
    shared = _shared(fit)
    if shared < min(2, len(fit.paths)) or shared < _SHARED_PART * len(fit.paths):
        return f"too few paths shared by the two directions: {shared} of {len(fit.paths)}"
    if len(fit.paths) == 1 and float(fit.significance.min()) < log(4.0 * model.cells / _FALSE_LINK):
        return "a single path, in one direction too weak to be told from noise"
    if fit.freed > 0 and 2.0 * fit.unexplained > float(chdtri(fit.freed, _CONTRADICTION)):
        return "the directions' paths differ in delay or Doppler"
    return ""


def _spanned(model: SharedPaths, fit: SharedFit) -> float:
    """Resolution cells of the rectangle that holds the paths."""
    return float(np.prod(np.ptp(fit.paths, axis=0) / model.cell + 1.0))


def _crowded(model: SharedPaths, link: TwoWayLink, fit: SharedFit) -> bool:
    """Whether most of the power stands in paths so close to one another that others must be expected between them.

    Unseen ones move the centroids that their neighbours pose as, each direction's otherwise where phases are its own.
    So they do where the paths seen already cost each other most of what they tell of the offset.
    """
    resolved = two_way_bound(link.subcarrier_hz, link.symbol_s, link.snr).to_std_s
    if np.sqrt(max(float(fit.covariance[0, 0]), 0.0)) > _LOST_INFORMATION * resolved:
        return True
    places = fit.paths / model.cell
    apart = np.linalg.norm(places[:, None] - places, axis=2)
    np.fill_diagonal(apart, np.inf)
    power = np.sum(np.abs(fit.amplitudes) ** 2, axis=0)
    return bool(power[apart.min(axis=0) < _NEIGHBOUR].sum() > _CROWDED * power.sum())


def _shared(fit: SharedFit) -> int:
    """Paths significant in both directions."""
    return int(np.count_nonzero(fit.significance.min(axis=0) > _SHARED))


def _line_of_sight(
    observation: Observation, link: TwoWayLink, fit: SharedFit, geometry: LineOfSight, growth: float
) -> tuple[int, str]:
    """Path that is the line of sight, and what speaks against it.

    Half the directions' sum is free of clocks: of the paths that stand where the line of sight must, the surest; where
    departures are unknown, the earliest.
    """
    reverse = observation.reverse
    earliest = int(np.argmin(fit.paths[:, 0]))
    if observation.departure is None or observation.reverse_departure is None or reverse is None:
        return earliest, ""
    ahead = observation.forward.reference.seconds_since(observation.departure)
    back = reverse.reference.seconds_since(observation.reverse_departure)
    # the reverse slot is seen later, by what the clocks drift apart in between
    back -= (link.cfo_reference_hz + fit.cfo_hz) / link.carrier_hz * _gap(observation)
    errors_s = 0.5 * (ahead + back) + fit.paths[:, 0] - 0.5 * (geometry.forward_s + geometry.reverse_s)
    allowed_s = _MISPLACED * np.hypot(growth * fit.path_delay_std_s, observation.departure_std_s)
    cell_s = 1.0 / float(np.ptp(link.subcarrier_hz))
    near = np.abs(errors_s) < np.minimum(allowed_s, _FARTHEST * cell_s) + _PLACE_TOLERANCE * cell_s
    if not near.any():
        return earliest, f"the earliest path stands {1e9 * errors_s[earliest]:.1f} ns from the line of sight"
    variances = np.diag(fit.covariance)[:-1]
    surest = int(np.argmin(np.where(near, variances, np.inf)))
    energies = np.array([np.sum(1.0 / link.forward_variance), np.sum(1.0 / link.reverse_variance)])
    powers = 2.0 * np.abs(fit.amplitudes[:, surest]) ** 2 * energies
    alone_s = 0.5 * np.sqrt(np.sum(1.0 / powers)) / (2.0 * pi * float(np.std(link.subcarrier_hz)))
    if np.sqrt(max(float(variances[surest]), 0.0)) > _LINE_LOST * alone_s:
        return surest, "the line of sight is not resolved from other paths"
    return surest, ""


_LINE_LOST = 5.0  # of the deviation that the line of sight would have alone
_FARTHEST = 0.5  # of 1/B: a path this far from where it must be is another, however unsure
_PLACE_TOLERANCE = 0.1
"""Of 1/B: chain constants that are alike in both directions cancel in the offset and stand in the sum."""


def _gap(observation: Observation) -> float:
    """Time from the forward slot to the reverse one on the forward receiver's clock."""
    if observation.reverse_departure is None:
        return 0.0
    return observation.reverse_departure.seconds_since(observation.forward.reference)
