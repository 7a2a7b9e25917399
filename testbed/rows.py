"""Rows of the results, made of what the stages found and, in simulation, of the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import hypot, log10

import numpy as np
from numpy.typing import NDArray

from dsp import SPEED_OF_LIGHT_MPS
from dsp.channel import ChannelState
from dsp.front import PayloadResult
from dsp.moment import Moment
from dsp.synchronization.base import Offset
from dsp.synchronization.symbol_grid import frame_blocks
from testbed.calibration import Calibration
from testbed.capture import Capture
from testbed.pairs import Heard
from testbed.results import DetectionRow, Epoch, EventRow, LinkRow, PayloadRow, PositionRow
from testbed.scenario import Scenario
from testbed.target_truth import TargetsSeen
from testbed.targets import Echoes, absolute_origin_s, mirror_resolved, positions, slot_times, station
from testbed.truth import ClockTruth, carrier_offset, time_offset

__all__ = ["Offsets", "baseline", "clocks", "event", "events", "link", "payload", "targets", "unheard"]

Offsets = dict[tuple[str, str, str], Offset]
"""By receiver, transmitter and method."""


def event(index: int | None, node: str | None, code: str, text: str) -> EventRow:
    """Something that went otherwise than planned."""
    return EventRow(round=index, node=node, code=code, text=text)


def events(capture: Capture) -> list[EventRow]:
    """What the radio reported in a round."""
    return [event(capture.round, capture.node, said["code"], said["text"]) for said in capture.events]


def clocks(captures: Mapping[str, Capture]) -> dict[str, ClockTruth]:
    """True clocks of the nodes, where the captures carry them."""
    return {name: ClockTruth(capture) for name, capture in captures.items() if capture.truth is not None}


def payload(
    receiver: str, transmitter: str, index: int, frames: int, received: Sequence[PayloadResult], sent: NDArray[np.uint8]
) -> PayloadRow:
    """What came through of one slot whose frames all carry ``sent``."""
    if not received:
        return PayloadRow(
            receiver=receiver, transmitter=transmitter, round=index, frames=frames, frames_lost=frames, bits=0,
            reason="no frame found",
        )  # fmt: skip
    # A frame that is intact, but not what this round would have sent, was made for another one: it is its own truth.
    intact = next((one.bits for one in received if one.crc_ok), sent)
    return PayloadRow(
        receiver=receiver,
        transmitter=transmitter,
        round=index,
        frames=frames,
        frames_lost=frames - sum(one.crc_ok for one in received),
        bits=sum(one.bits.size for one in received),
        bit_errors=sum(int(np.count_nonzero(one.bits != intact)) for one in received),
        evm_db=10 * log10(float(np.mean([10 ** (one.evm_db / 10) for one in received]))),
    )


def unheard(receiver: str, transmitter: str, index: int, method: str) -> LinkRow:
    """Row of a link on which no frame was found."""
    return LinkRow(
        receiver=receiver, transmitter=transmitter, round=index, method=method, valid=False,
        reason=f"{receiver} found no frame of {transmitter}",
    )  # fmt: skip


def baseline(
    forward: Heard, reverse: Heard | None, offsets: tuple[Offset, Offset], calibration: Calibration
) -> tuple[float, float] | None:
    """Length and deviation, in metres, of the earliest path: the mean of both directions, where the clocks cancel."""
    if reverse is None:
        return None
    total_s, variance = 0.0, 0.0
    for one, said in zip((forward, reverse), offsets, strict=True):
        middle_s = float(one.csi.symbol_s.mean())
        origin_s = absolute_origin_s(one, said, middle_s, calibration)
        if origin_s is None or one.departed is None:
            return None
        path = one.first_path()
        total_s += path.delay_s + origin_s
        variance += path.std_s**2 + one.departed.std_s**2
    return 0.5 * total_s * SPEED_OF_LIGHT_MPS, 0.5 * variance**0.5 * SPEED_OF_LIGHT_MPS


def link(
    heard: Heard,
    index: int,
    name: str,
    offset: Offset,
    range_m: tuple[float, float] | None,
    truths: Mapping[str, ClockTruth],
) -> LinkRow:
    """What one method said of one link, and by how much it erred where the truth is known."""
    receiver, transmitter = heard.receiver.name, heard.transmitter.name
    row = LinkRow(
        receiver=receiver,
        transmitter=transmitter,
        round=index,
        method=name,
        valid=offset.valid,
        reason=offset.reason,
        to_s=offset.to_s,
        to_std_s=offset.to_std_s,
        cfo_hz=offset.cfo_hz,
        cfo_std_hz=offset.cfo_std_hz,
        epoch=Epoch.of(offset.epoch),
        phase_rad=offset.phase_rad,
        phase_std_rad=offset.phase_std_rad,
        snr_db=offset.snr_db,
        to_change_s=offset.details.get("to_change_s"),
        to_change_std_s=offset.details.get("to_change_std_s"),
    )
    if range_m is not None:
        row.baseline_m, row.baseline_std_m = range_m
    if receiver in truths and transmitter in truths:
        try:
            _judge(row, heard, offset, truths[receiver], truths[transmitter])
        except ValueError as error:  # a user's method may state an epoch at which nobody recorded
            row.valid, row.reason = False, "; ".join(filter(None, [row.reason, str(error)]))
    return row


def _judge(row: LinkRow, heard: Heard, offset: Offset, receiver: ClockTruth, transmitter: ClockTruth) -> None:
    """Write into ``row`` by how much ``offset`` erred.

    Raises
    ------
    ValueError
        If the truth does not reach to the offset's epoch.
    """
    if offset.to_s is not None:
        row.to_error_s = offset.to_s - time_offset(receiver, transmitter, offset.epoch)
    if offset.cfo_hz is not None:
        # Each slot has a slope of its own; between the slots nobody measured.
        true_hz = [
            carrier_offset(receiver, transmitter, heard.csi.carrier_hz, slot)
            for slot in _slots(heard.csi, offset.epoch)
        ]
        row.cfo_error_hz = offset.cfo_hz - sum(true_hz) / len(true_hz)


def _slots(csi: ChannelState, epoch: Moment) -> tuple[list[tuple[Moment, Moment]], list[tuple[Moment, Moment]]]:
    """Frames of the receiver's clock that a two-way frequency comes from: its receptions, mirrored at the epoch.

    Between the frames of a slot nobody measured: a slope over the gaps too is another one, by millihertz.
    """
    half_s = 0.5 * float(np.min(np.diff(csi.symbol_s))) if len(csi.symbol_s) > 1 else 0.0
    received = []
    for block in frame_blocks(csi.frame_of_symbol):
        ends = csi.symbol_s[block[0]] - half_s, csi.symbol_s[block[-1]] + half_s
        received.append((csi.reference.shifted(float(ends[0])), csi.reference.shifted(float(ends[1]))))
    sent = [
        (epoch.shifted(epoch.seconds_since(end)), epoch.shifted(epoch.seconds_since(begin))) for begin, end in received
    ]
    return received, sent


def targets(
    index: int,
    name: str,
    found: Sequence[Echoes],
    offsets: Offsets,
    scenario: Scenario,
    calibration: Calibration,
    truth: TargetsSeen,
) -> tuple[list[DetectionRow], list[PositionRow]]:
    """Detections and positions as one method makes them absolute; relative to the line of sight by CACC."""
    detections: list[DetectionRow] = []
    origins: list[float | None] = []
    deviations: list[float] = []
    for seen in found:
        offset = offsets[seen.heard.receiver.name, seen.heard.transmitter.name, name]
        origin = absolute_origin_s(seen.heard, offset, seen.middle_s, calibration)
        origins.append(origin)
        deviations.append(offset.to_std_s or 0.0)
        if origin is not None:
            detections += _detections(index, name, seen, "absolute", origin, offset.to_std_s or 0.0, truth)
        elif offset.valid:
            detections += _relative(index, name, seen, offset, truth, sight=scenario.scene.line_of_sight)
    if not any(origin is not None for origin in origins):
        return detections, []
    times_s, instant = slot_times(found, offsets, name)
    located = positions(found, origins, deviations, times_s, scenario)
    stations = {node.name: station(node, scenario.waveform.carrier_hz) for node in scenario.node}
    rows: list[PositionRow] = []
    for target in located:
        where = target.position.position_m
        for link_index, number in target.links:
            seen = found[link_index]
            angle = seen.angles[number]
            if angle is None or target.position.ambiguous:
                continue
            row = next(
                row
                for row in detections
                if (row.receiver, row.transmitter) == (seen.heard.receiver.name, seen.heard.transmitter.name)
                and row.doppler_hz == seen.sensing.detections[number].doppler_hz
            )
            row.angle_rad = mirror_resolved(angle, stations[row.receiver], where)
            row.mirror_angle_rad = None
        target_name, error_m = truth.nearest(where, target.position.covariance_m2, instant)
        rows.append(
            PositionRow(
                round=index,
                method=name,
                fusion="centralised",
                target=target_name,
                position_m=[float(x) for x in where],
                covariance_m2=[[float(x) for x in line] for line in target.position.covariance_m2],
                velocity_mps=[float(x) for x in target.position.velocity_mps],
                error_m=error_m,
                reason="another position fits as well" if target.position.ambiguous else "",
            )
        )
    return detections, rows


def _detections(
    index: int, name: str, seen: Echoes, reference: str, origin_s: float, origin_std_s: float, truth: TargetsSeen
) -> list[DetectionRow]:
    rows = []
    for path, angle in zip(seen.sensing.detections, seen.angles, strict=True):
        rows.append(
            DetectionRow(
                receiver=seen.heard.receiver.name,
                transmitter=seen.heard.transmitter.name,
                round=index,
                method=name,
                reference=reference,
                delay_s=path.residual_delay_s + origin_s,
                delay_std_s=hypot(path.delay_std_s, origin_std_s),
                doppler_hz=path.doppler_hz,
                doppler_std_hz=path.doppler_std_hz,
                angle_rad=None if angle is None else angle.bearings_rad[0],
                angle_std_rad=None
                if angle is None or not np.isfinite(angle.bearing_std_rad)
                else angle.bearing_std_rad,
                mirror_angle_rad=None if angle is None or len(angle.bearings_rad) < 2 else angle.bearings_rad[1],
                snr_db=path.snr_db,
                target=truth.name_of(seen, path.residual_delay_s + origin_s, path.doppler_hz, reference),
            )
        )
    return rows


def _relative(
    index: int, name: str, seen: Echoes, offset: Offset, truth: TargetsSeen, *, sight: bool
) -> list[DetectionRow]:
    """What a method without clock offset says of movers: against the line of sight or, without, against the static path
    that it refers to, or their Doppler alone."""
    reference = "line-of-sight" if sight else "static-path"
    if offset.details.get("reference") == "relative":
        path = seen.heard.first_path()
        return _detections(index, name, seen, reference, -path.delay_s, path.std_s, truth)
    sensing, movers = offset.details.get("sensing"), offset.details.get("movers", ())
    rows = [
        DetectionRow(
            receiver=seen.heard.receiver.name,
            transmitter=seen.heard.transmitter.name,
            round=index,
            method=name,
            reference=reference,
            delay_s=path.delay_s,
            delay_std_s=path.delay_std_s,
            doppler_hz=path.doppler_hz,
            doppler_std_hz=path.doppler_std_hz,
            snr_db=path.snr_db,
            target=truth.name_of(seen, path.delay_s, path.doppler_hz, reference),
        )
        for path in (movers if sensing is None else sensing.paths)
    ]
    if not rows and offset.details.get("doppler_hz") is not None:
        deviation_hz = offset.details.get("doppler_std_hz")
        rows.append(_doppler_only(index, name, seen, offset.details["doppler_hz"], deviation_hz, truth))
    return rows


def _doppler_only(
    index: int, name: str, seen: Echoes, doppler_hz: float, doppler_std_hz: float | None, truth: TargetsSeen
) -> DetectionRow:
    return DetectionRow(
        receiver=seen.heard.receiver.name, transmitter=seen.heard.transmitter.name, round=index, method=name,
        reference="none", delay_s=None, doppler_hz=doppler_hz, doppler_std_hz=doppler_std_hz,
        target=truth.name_of(seen, None, doppler_hz, "none"),
    )  # fmt: skip
