"""Path-resolved synchronization: a static path told apart from the others carries the clock offsets.

Three ways of telling it apart: by delay where the band is wide, by direction where the array is, by a sparse
dictionary of delays where neither is. Everything else is compensated by it, packet by packet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import hypot

import numpy as np

from dsp.channel import ChannelState, FloatArray
from dsp.sensing.detection import Detections, Search
from dsp.synchronization.base import Need, Observation, Offset, require, undecided
from dsp.synchronization.carrier_alias import ALIASED, drifting_alias
from dsp.synchronization.path_resolved_alignment import Aligned, aligned, mover_bound, moving, with_movers
from dsp.synchronization.path_resolved_angle import first_antenna_lag_s, static_directions
from dsp.synchronization.path_resolved_delay import StaticPaths, static_paths
from dsp.synchronization.path_resolved_dictionary import dictionary_paths
from dsp.synchronization.slow_mover import delay_doubt_s, slow_mover_doubt_hz
from dsp.synchronization.symbol_grid import phase_frequency

__all__ = ["STATIC_PATH_DELAY", "MovingPath", "PathResolved", "PathResolvedAngle", "PathResolvedDictionary"]

STATIC_PATH_DELAY = "static_path_delay_s"
"""Key of `Observation.extras`: true delay of the earliest static path, where positions and line of sight give it."""

_WEAKEST_RAD = 0.2  # noise aligned to itself pretends to 0.3
_FALSE_TIMING = 0.01
"""Packets of a slot taken for another of their cells, on average."""
_LEAST_COHERENCE = 0.6
_COHERENT_PHASE = 0.8
"""Length of the mean phasor left by the best frequency, from which packets share a phase: chance reaches 0.4."""
_FALSE_ALARM_RATE = 1e-7
_PADDING = 2
_DOPPLER_RATE_STD = 50.0 / 2.4e9
"""Prior deviation of a path's Doppler rate per hertz of carrier: 50 Hz/s at 2.4 GHz."""
_CLOSEST_CELLS = 0.3
_CROWD_CELLS, _LARGEST_CROWD = 2.5, 3
"""Paths, the reference included, within so many cells of it: more fit anything that the band can show."""
_LARGEST_STD_CELLS = 0.1
_LONGEST_S = (1e-6, 5e-6)
"""Reach of the search before and after the reference."""
_FEWEST_SYMBOLS = 8
_WEAKEST_DIRECT = 1e-3
"""Power of the path of known length, of the strongest: weaker ones, before it, are what the model leaves of others."""
_BLOCKED = "no line of sight: the two directions together put the earliest path elsewhere than the survey does"
_MISPLACED = 5.0  # deviations
_PLACE_TOLERANCE = 0.1
"""Of 1/B: chain constants that are alike in both directions cancel in the offset and stand in the sum."""
_SIGN_EVIDENCE = 8.0
"""Log-likelihood by which a mover's Doppler must beat its negative: odds of three thousand to one."""


@dataclass(frozen=True)
class MovingPath:
    """A moving path against the static reference path."""

    delay_s: float
    delay_std_s: float
    doppler_hz: float
    doppler_std_hz: float
    snr_db: float
    """After integration over the slot, mean over antennas."""


@dataclass(frozen=True)
class _Separation:
    reference: StaticPaths | None
    """Static paths among which is the reference."""
    reason: str
    """Why none could be told apart."""


@dataclass(frozen=True)
class PathResolved:
    """Offsets and moving paths against the strongest static path that the bandwidth resolves in delay.

    Packets are aligned by the magnitude of their delay response, then by joint maximum likelihood of every packet's
    timing and phase, the static channel, and the moving paths on their exact model. The static channel's strongest
    path is the reference; ``details`` give each packet's timing and phase against it (``packet_timing_s``,
    ``packet_phase_rad``), the apparent delay of the reference, clock offset included (``apparent_delay_s``,
    ``apparent_delay_std_s``), and ``movers``: `MovingPath` against it.

    CFO is the slope of the packets' phases where they share one, else None. The time offset is the reference's
    apparent delay less its true one, known only where ``extras[STATIC_PATH_DELAY]`` states that of the earliest
    static path; otherwise ``to_s`` is None and ``reason`` says so.

    One antenna is looked at, the first: a wave that crosses an array arrives at each antenna at another time, which the
    bandwidth resolves long before the array itself, and what the surveyed length of a path ends at is one antenna.

    Invalid where the static channel does not carry half the power or is too weak in a packet, where another static
    path stands within a resolution cell of the reference, and where the strongest path moves against several that
    keep together. What moves together with the strongest path, alone, cannot be told from static.

    Source: survey V-A2; joint likelihood by the project, docs/methods/path-resolved.md.
    """

    name: str = "path-resolved"
    needs: frozenset[Need] = frozenset()

    def estimate(self, observation: Observation) -> Offset:
        """Offset against the static reference path, with the moving paths in its details.

        Raises
        ------
        ValueError
            If there are fewer than eight symbols or four subcarriers.
        """
        return _estimate(replace(observation, forward=observation.forward.antenna(0)), _by_delay)


@dataclass(frozen=True)
class PathResolvedAngle:
    """As `PathResolved`, the reference told apart by its direction at a uniform array, the others projected out.

    The subcarriers need not resolve the static paths. Invalid where the array cannot tell the directions apart, or
    where other static paths share the reference's direction and delay.

    Source: survey V-A2; methods section 3.3 (b).
    """

    name: str = "path-resolved-angle"
    needs: frozenset[Need] = frozenset({Need.SECOND_ANTENNA})

    def estimate(self, observation: Observation) -> Offset:
        """Offset against the static reference path; MissingInputError if there is one antenna."""
        require(observation, self.needs)
        return _estimate(observation, _by_angle)


@dataclass(frozen=True)
class PathResolvedDictionary:
    """As `PathResolved`, the reference told apart by a sparse dictionary of delays, for bands that resolve less.

    Source: methods section 3.3 (c).
    """

    name: str = "path-resolved-dictionary"
    needs: frozenset[Need] = frozenset()

    def estimate(self, observation: Observation) -> Offset:
        """Offset against the static reference path; raises as `PathResolved.estimate`."""
        return _estimate(replace(observation, forward=observation.forward.antenna(0)), _by_dictionary)


def _by_delay(state: Aligned) -> _Separation:
    known = state.static_weights > 0.0
    frequency = state.csi.subcarrier_hz[known]
    found = static_paths(
        frequency,
        state.static[:, known],
        weights=state.static_weights[known],
        noise=state.csi.noise,
        closest_cells=_CLOSEST_CELLS,
    )
    # fitted more closely than the bandwidth resolves, only to see whether it does
    if found.unresolved or found.distance_s(0) * float(np.ptp(frequency)) < 1.0:
        return _Separation(None, "the bandwidth does not resolve the static paths in delay: no reference path")
    return _Separation(found, "")


def _by_dictionary(state: Aligned) -> _Separation:
    found = dictionary_paths(state)
    cell_s = 1.0 / float(np.ptp(state.csi.subcarrier_hz))
    crowd = int(np.sum(np.abs(found.delays_s - found.delays_s[0]) < _CROWD_CELLS * cell_s))
    if found.unresolved or crowd > _LARGEST_CROWD or found.delay_std_s[0] > _LARGEST_STD_CELLS * cell_s:
        return _Separation(None, "the static channel is no sparse sum of paths that this SNR can tell apart")
    return _Separation(found, "")


def _by_angle(state: Aligned) -> _Separation:
    found = static_directions(state)
    if found.unresolved:
        return _Separation(None, "the array does not resolve the static paths in angle: no reference path")
    if found.reference.unresolved:
        return _Separation(None, "several static paths come from the reference's direction, unresolved in delay")
    return _Separation(found.reference, "")


def _estimate(observation: Observation, separate: Callable[[Aligned], _Separation]) -> Offset:
    csi = observation.forward
    if csi.values.shape[1] < _FEWEST_SYMBOLS or np.count_nonzero(csi.weights.sum(axis=0)) < 4:
        raise ValueError(f"path-resolved methods need {_FEWEST_SYMBOLS} symbols and four subcarriers")
    blank = undecided(csi)
    state = aligned(csi)
    reason = _unusable(state)
    if reason:
        return replace(blank, reason=reason)
    first = separate(state)
    origin_s = float((first.reference or _rough(state)).delays_s[0])
    state, found = with_movers(csi, state, _search(csi, origin_s))
    reason = _unusable(state)
    separation = separate(state)
    if reason or separation.reference is None:
        return replace(blank, reason=reason or separation.reason, details={"coherence": state.coherence})
    offset = _offset(blank, observation, state, separation.reference, found)
    return replace(offset, valid=False, reason=_BLOCKED) if _blocked(observation, offset, separate) else offset


def _blocked(observation: Observation, offset: Offset, separate: Callable[[Aligned], _Separation]) -> bool:
    """Whether the path of known length is not there: half the directions' sum of delays is free of clocks.

    Without the other direction nobody can tell, and what the experiment says of the path is believed.
    """
    reverse, true_s = observation.reverse, observation.extras.get(STATIC_PATH_DELAY)
    departures = observation.departure, observation.reverse_departure
    if offset.to_s is None or offset.to_std_s is None or offset.cfo_hz is None or true_s is None:
        return False
    if reverse is None or departures[1] is None:
        return False
    state = aligned(reverse)
    if _unusable(state):
        return False
    paths = separate(state).reference or _rough(state)
    index = _direct(paths)
    back_s = reverse.reference.seconds_since(departures[1]) + float(paths.delays_s[index])
    back_s -= reverse.cfo_reference_hz / float(reverse.carrier_hz) * float(reverse.symbol_s.mean())
    # the reverse slot is seen later, by what the clocks drift apart in between
    later_s = departures[1].seconds_since(offset.epoch) + float(reverse.symbol_s.mean())
    back_s -= offset.cfo_hz / float(reverse.carrier_hz) * later_s
    error_s = 0.5 * (offset.to_s + back_s - float(true_s))
    deviation_s = 0.5 * hypot(offset.to_std_s, float(paths.delay_std_s[index]))
    band_hz = float(np.ptp(reverse.subcarrier_hz))
    return abs(error_s) > _MISPLACED * deviation_s + _PLACE_TOLERANCE / band_hz


def _rough(state: Aligned) -> StaticPaths:
    """Static paths as far as a cell apart, whatever else there is."""
    known = state.static_weights > 0.0
    return static_paths(
        state.csi.subcarrier_hz[known],
        state.static[:, known],
        weights=state.static_weights[known],
        noise=state.csi.noise,
        closest_cells=1.0,
    )


def _direct(paths: StaticPaths) -> int:
    """Index of the earliest path that is not what the model leaves of others."""
    return int(np.argmin(np.where(paths.power > _WEAKEST_DIRECT * paths.power[0], paths.delays_s, np.inf)))


def _unusable(state: Aligned) -> str:
    """Why a slot carries no static reference at all."""
    # A packet's greatest noise of all cells may pass for its timing, by the tail of the match's Rice distribution; the
    # static channel that it is matched with is itself the mean of as many packets.
    antennas, packets, subcarriers = state.csi.values.shape
    energy = 0.5 / state.phase_std_rad**2
    energy /= 1.0 + antennas * subcarriers / (packets * energy)
    strays = 0.5 * packets * subcarriers * np.exp(-0.5 * energy)
    if state.phase_std_rad > _WEAKEST_RAD or strays > _FALSE_TIMING:
        return "the static paths are too weak in a packet to carry its timing and phase"
    if state.coherence < _LEAST_COHERENCE:
        return f"only {state.coherence:.0%} of the received power stands still: no static path to refer to"
    return ""


def _search(csi: ChannelState, origin_s: float) -> Search:
    period_s = 1.0 / float(np.min(np.diff(csi.subcarrier_hz)))
    return Search(
        min_delay_s=origin_s - min(0.25 * period_s, _LONGEST_S[0]),
        max_delay_s=origin_s + min(0.7 * period_s, _LONGEST_S[1]),
        max_doppler_hz=0.49 / float(np.min(np.diff(csi.symbol_s))),
        false_alarm_rate=_FALSE_ALARM_RATE,
        delay_padding=_PADDING,
        doppler_padding=_PADDING,
        doppler_rate_std_hz_per_s=_DOPPLER_RATE_STD * float(csi.carrier_hz),
    )


def _offset(blank: Offset, observation: Observation, state: Aligned, paths: StaticPaths, found: Detections) -> Offset:
    """Everything against the reference path."""
    csi = observation.forward
    true_s = observation.extras.get(STATIC_PATH_DELAY)
    index = 0 if true_s is None else _direct(paths)
    delay_s, deviation_s = float(paths.delays_s[index]), float(paths.delay_std_s[index])
    bound = mover_bound(state, found) if len(found.parameters) else None
    movers, open_signs = [], 0
    for path in found.paths:
        assert bound is not None
        number = int(
            np.argmin(np.sum(np.abs(found.parameters[:, :2] / (path.residual_delay_s, path.doppler_hz) - 1.0), axis=1))
        )
        # the evidence is linear in the mover: its second order, kept to the sign assumed, is none
        power = float(np.sum(np.abs(path.amplitudes) ** 2)) / float(paths.power[index])
        second = 2.0 * power * len(csi.noise) * 10.0 ** (path.snr_db / 10.0)
        if bound.sign_evidence[number] < max(_SIGN_EVIDENCE, second):
            open_signs += 1
            continue
        lag_s = first_antenna_lag_s(path.amplitudes, csi.noise, float(csi.carrier_hz))
        movers.append(
            MovingPath(
                delay_s=path.residual_delay_s + lag_s - delay_s,
                delay_std_s=hypot(float(bound.delay_std_s[number]), deviation_s),
                doppler_hz=path.doppler_hz,
                doppler_std_hz=float(bound.doppler_std_hz[number]),
                snr_db=path.snr_db,
            )
        )
    details: dict[str, object] = {
        "coherence": state.coherence,
        "movers": tuple(movers),
        "packet_timing_s": delay_s + state.timing_s,
        "packet_timing_std_s": state.timing_std_s,
        "packet_phase_rad": state.phase_rad,
        "static_delays_s": paths.delays_s - delay_s,
    }
    notes = [f"{open_signs} moving paths left out: their Doppler's sign is open"] if open_signs else []
    still = state.csi.values - moving(state.csi, found) if len(found.parameters) else state.csi.values
    slow_hz = slow_mover_doubt_hz(still, csi.weights, csi.noise, csi.symbol_s, csi.subcarrier_hz)
    to_s = to_std_s = None
    if observation.departure is None:
        notes.append("departure unknown: delays against the static path only")
    else:
        middle_s = float(csi.symbol_s.mean())
        apparent_s = csi.reference.seconds_since(observation.departure) + delay_s
        apparent_s -= csi.cfo_reference_hz / float(csi.carrier_hz) * middle_s
        slow_s = delay_doubt_s(slow_hz, csi.subcarrier_hz, csi.symbol_s)
        apparent_std_s = hypot(observation.delay_std_s(deviation_s), slow_s, observation.departure_std_s)
        details |= {"apparent_delay_s": apparent_s, "apparent_delay_std_s": apparent_std_s}
        if true_s is None:
            notes.append("time offset relative to the static path, whose length is not known")
        else:
            to_s, to_std_s = apparent_s - float(true_s), hypot(apparent_std_s, observation.clock_std_s)
    cfo_hz = cfo_std_hz = None
    slope = _frequency(state)
    if slope is None:
        notes.append("no CFO: the packets share no phase that tells one")
    else:
        cfo_hz, cfo_std_hz = csi.cfo_reference_hz + slope[0], hypot(slope[1], slow_hz, observation.clock_std_hz)
    reason = _moving_reference(paths, tuple(movers), float(np.ptp(csi.symbol_s)))
    if slope is not None and drifting_alias(
        state.timing_s, state.timing_std_s, csi.symbol_s, slope[0], float(csi.carrier_hz)
    ):
        reason = reason or ALIASED
    return replace(
        blank,
        to_s=to_s,
        to_std_s=to_std_s,
        cfo_hz=cfo_hz,
        cfo_std_hz=cfo_std_hz,
        valid=not reason,
        reason=reason or "; ".join(notes),
        details=details,
    )


def _moving_reference(paths: StaticPaths, movers: tuple[MovingPath, ...], span_s: float) -> str:
    """Whether the reference itself moves: nothing else stands still, and several others keep together."""
    if len(paths.delays_s) > 1 or len(movers) < 2:
        return ""
    dopplers = np.array([path.doppler_hz for path in movers])
    tolerance_hz = np.array([max(4.0 * path.doppler_std_hz, 0.1 / span_s) for path in movers])
    together = np.abs(dopplers[:, None] - dopplers) < np.hypot(tolerance_hz[:, None], tolerance_hz)
    if np.any(np.triu(together, 1)):
        return "the strongest path moves: all others move against it, some of them alike"
    return ""


def _frequency(state: Aligned) -> tuple[float, float] | None:
    """Slope of the packets' phases and its deviation, in hertz; None where they share no phase."""
    time: FloatArray = state.csi.symbol_s - state.csi.symbol_s.mean()
    phasors = np.exp(1j * state.phase_rad)
    hz, sure = phase_frequency(state.phase_rad, time, float(np.min(np.diff(time))))
    if not sure:
        return None
    turned = phasors * np.exp(-2j * np.pi * hz * time)
    if abs(turned.mean()) < _COHERENT_PHASE:
        return None
    angle = np.angle(turned * np.conj(turned.sum()))
    scatter = max(float(np.sqrt(np.sum(angle**2) / (len(time) - 2))), state.phase_std_rad)
    return hz, scatter / float(np.sqrt(time @ time)) / (2.0 * np.pi)
