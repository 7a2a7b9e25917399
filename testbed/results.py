"""What a run found: the rows of ``results.json``, read and written so that a replay gives the same bytes.

Numbers are in SI units. A number that does not exist is null with a reason beside it, never NaN. Keys stand in the
order of the fields below, floats in their shortest exact form, and each row on a line of its own: two runs compare
with ``diff``, and a replay in the same environment differs in ``environment`` and ``timing`` alone.
"""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec

from dsp.moment import Moment
from testbed.capture import Capture
from testbed.errors import UserError
from testbed.formats.atomic import plain_number, write_atomically

__all__ = [
    "RESULTS_NAME",
    "SCHEMA_VERSION",
    "ClosureRow",
    "DetectionRow",
    "Epoch",
    "EventRow",
    "LinkRow",
    "LossRow",
    "NodeRow",
    "PayloadRow",
    "PositionRow",
    "Results",
    "RoundRow",
    "SignallingRow",
    "TargetTruth",
    "Truth",
    "encode_results",
    "load_results",
    "losses_of",
    "save_results",
]

SCHEMA_VERSION = 1
RESULTS_NAME = "results.json"


class Epoch(msgspec.Struct, frozen=True):
    """The moment to which an offset belongs."""

    clock: str
    """Node whose sample counter is read."""
    tick: int
    fraction: float
    """Part of a sample beyond the tick, 0 ≤ fraction < 1."""
    rate: int | str
    """Nominal rate of the counter in hertz; ``"p/q"`` where it is no whole number."""

    @classmethod
    def of(cls, moment: Moment) -> Epoch:
        """Row that stands for ``moment``, exactly."""
        rate = moment.rate_hz
        exact = rate.numerator if rate.denominator == 1 else str(rate)
        return cls(moment.clock, moment.tick, moment.fraction, exact)

    def moment(self) -> Moment:
        """Moment that the row stands for, exactly."""
        return Moment(self.clock, self.tick, self.fraction, Fraction(self.rate))


class LinkRow(msgspec.Struct, kw_only=True):
    """What one method said of one link in one round: TO = s_receiver - s_transmitter, CFO its opposite slope."""

    receiver: str
    transmitter: str
    round: int
    method: str
    valid: bool
    reason: str = ""
    """Why invalid, or why a number is null; where valid, what the reader should know."""
    to_s: float | None = None
    to_std_s: float | None = None
    """Deviation that the bound predicts."""
    cfo_hz: float | None = None
    cfo_std_hz: float | None = None
    epoch: Epoch | None = None
    phase_rad: float | None = None
    phase_std_rad: float | None = None
    phase_tracked_rad: float | None = None
    """The same with half turns counted since ``phase_tie_round``: over rounds it grows as -2π·carrier·TO does."""
    phase_tracked_std_rad: float | None = None
    phase_tie_round: int | None = None
    """Round since which no half turn was lost; null where the method tells no phase that could be tracked."""
    baseline_m: float | None = None
    """Two-way range between the nodes: path length of the earliest path, from the half-sum of both directions."""
    baseline_std_m: float | None = None
    snr_db: float | None = None
    to_change_s: float | None = None
    """Change of the time offset since a fingerprint whose own is not known; ``to_s`` is then null."""
    to_change_std_s: float | None = None
    to_error_s: float | None = None
    """Estimate minus truth, where truth is known."""
    cfo_error_hz: float | None = None


class DetectionRow(msgspec.Struct, kw_only=True):
    """One moving object on one link's delay-Doppler map."""

    receiver: str
    transmitter: str
    round: int
    method: str
    reference: str
    """``absolute``; ``line-of-sight`` where delay and Doppler count from the direct path's, ``static-path`` where from
    that of one which no geometry knows; ``none`` where the method tells no delay."""
    delay_s: float | None
    delay_std_s: float | None = None
    doppler_hz: float
    doppler_std_hz: float | None = None
    angle_rad: float | None = None
    """Bearing at the receiver from its array's broadside, positive towards its heading's left."""
    angle_std_rad: float | None = None
    mirror_angle_rad: float | None = None
    """The other bearing that a linear array cannot tell apart, until a second link rules it out."""
    snr_db: float | None = None
    target: str | None = None
    """True target's name, where truth is known."""


class PositionRow(msgspec.Struct, kw_only=True):
    """One position fused over links."""

    round: int
    method: str
    fusion: str
    target: str | None = None
    position_m: list[float] | None = None
    covariance_m2: list[list[float]] | None = None
    velocity_mps: list[float] | None = None
    """Estimated with the position; drawn to zero where the links leave it open."""
    error_m: float | None = None
    """Distance to the truth, where known."""
    reason: str = ""


class NodeRow(msgspec.Struct, kw_only=True):
    """One node's clock in one round: closed over all pairs, or predicted where the round did not measure it."""

    node: str
    round: int
    reference: str
    """Node whose clock counts as zero."""
    source: str = ""
    """``closed``; ``predicted`` from earlier rounds by the oscillators' noise model; ``reference``; empty where
    nothing is known."""
    epoch: Epoch | None = None
    offset_s: float | None = None
    """This node's reading minus the reference's at the epoch."""
    drift: float | None = None
    """Growth of the offset in seconds per second of the epoch's clock."""
    covariance: list[list[float]] | None = None
    """Of (offset_s, drift): s², s, 1."""
    predicted_offset_s: float | None = None
    """What the track expected before the round."""
    predicted_drift: float | None = None
    predicted_covariance: list[list[float]] | None = None
    nis: float | None = None
    """Normalised innovation squared, of two degrees: closed against predicted."""
    tracked_offset_s: float | None = None
    """Both together."""
    tracked_drift: float | None = None
    tracked_covariance: list[list[float]] | None = None
    offset_error_s: float | None = None
    """Closed or predicted minus truth, where known."""
    tracked_error_s: float | None = None
    temperature_c: float | None = None
    """Of the radio, where it tells."""
    reason: str = ""


class ClosureRow(msgspec.Struct, kw_only=True):
    """What closing the clocks of a round made of one pair."""

    round: int
    receiver: str
    transmitter: str
    method: str
    """Whose offset the pair counts with."""
    to_std_s: float
    """Deviation with which it counts: the method's, with the oscillators' wander from its epoch to the round's."""
    residual_s: float | None = None
    """Offset measured less closed."""
    residual_std_s: float | None = None
    """Null where no other link checks this one."""
    left_out: bool = False
    """Against all others, and not used."""
    reason: str = ""


class PayloadRow(msgspec.Struct, kw_only=True):
    """What came through of one slot's frames."""

    receiver: str
    transmitter: str
    round: int
    frames: int
    """Frames sent in the slot."""
    frames_lost: int
    """Frames not found, or found with a failed checksum."""
    bits: int
    bit_errors: int | None = None
    evm_db: float | None = None
    reason: str = ""


class SignallingRow(msgspec.Struct, kw_only=True):
    """One promise of the precoders beside what a round's joint slot showed."""

    round: int
    quantity: str
    """``sinr`` of a user, as a power ratio; ``position`` of the target, as root mean square and as distance."""
    subject: str
    """User or target."""
    unit: str
    promised: float
    """By the design."""
    bound: float | None = None
    """Least deviation of the position for the signals sent, with what echoes share with lines of sight and leakages
    and with phase noise: what the design leaves out."""
    expected: float | None = None
    """SINR that the precoders give with what the round's own slots show to be left of the stations' offsets, where
    they take them off."""
    measured: float | None = None
    standard_error: float | None = None
    """Of what was measured, where one round tells it."""
    stated: float | None = None
    """Deviation of the position that its likelihood states."""
    position_m: list[float] | None = None
    valid: bool = False
    reason: str = ""


class RoundRow(msgspec.Struct, kw_only=True):
    """What became of one round."""

    round: int
    status: str
    """``complete``, ``partial`` where a node is missing, ``failed``, or ``dropped``: live, with no time for it."""
    nodes: list[str]
    """Nodes whose capture is there."""
    reason: str = ""


class EventRow(msgspec.Struct, kw_only=True):
    """Something that went otherwise than planned."""

    round: int | None = None
    node: str | None = None
    code: str
    text: str


class LossRow(msgspec.Struct, kw_only=True):
    """Samples that the radio lost."""

    node: str
    round: int
    tick: int
    """Device's counter at the first sample lost."""
    samples: int


class TargetTruth(msgspec.Struct, kw_only=True):
    """Where a simulated target truly was, as one link sees it."""

    round: int
    receiver: str
    transmitter: str
    name: str
    delay_s: float
    doppler_hz: float
    position_m: list[float] | None = None


class Truth(msgspec.Struct, kw_only=True):
    """What a simulation knows."""

    targets: list[TargetTruth] = []


class Results(msgspec.Struct, kw_only=True):
    """Everything a run found."""

    schema_version: int = SCHEMA_VERSION
    environment: dict[str, Any]
    """Versions, machine, seed."""
    links: list[LinkRow] = []
    detections: list[DetectionRow] = []
    positions: list[PositionRow] = []
    nodes: list[NodeRow] = []
    closures: list[ClosureRow] = []
    payload: list[PayloadRow] = []
    signalling: list[SignallingRow] | msgspec.UnsetType = msgspec.UNSET
    """Absent where the experiment gives no precoders."""
    rounds: list[RoundRow] = []
    events: list[EventRow] = []
    losses: list[LossRow] = []
    truth: Truth | None = None
    """Simulation only."""
    timing: dict[str, float] = {}
    """Seconds per stage."""


def encode_results(results: Results) -> bytes:
    """JSON of ``results``: keys in the schema's order, one row a line, the same bytes for the same numbers.

    A NaN or an infinity becomes null; where the row has a ``reason``, that says so, and a link's row is no longer
    valid if what it lost is its offset.

    Raises
    ------
    ValueError
        If a number that the schema requires is not finite.
    """
    plain = msgspec.to_builtins(results, enc_hook=plain_number)
    sections = (b'"%s": %s' % (name.encode(), _section(part)) for name, part in plain.items())
    encoded = b"{\n" + b",\n".join(sections) + b"\n}\n"
    try:
        _DECODER.decode(encoded)
    except msgspec.ValidationError as error:
        raise ValueError(f"results hold a number that is not finite where one is required: {error}") from error
    return encoded


def save_results(results: Results, folder: Path) -> Path:
    """Path of the ``results.json`` written into ``folder``, whole or not at all.

    Raises
    ------
    ValueError
        As `encode_results`.
    """
    path = folder / RESULTS_NAME
    write_atomically(path, encode_results(results))
    return path


def load_results(path: Path | str) -> Results:
    """Results in the file, or in the run's folder, at ``path``.

    Raises
    ------
    UserError
        If there is no such file, or it is not a results file of a version that this release reads.
    """
    path = Path(path)
    if path.is_dir():
        path /= RESULTS_NAME
    try:
        encoded = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    try:
        version = msgspec.json.decode(encoded, type=_Version).schema_version
        if version != SCHEMA_VERSION:
            raise UserError(f"{path}: schema_version is {version}; this release reads version {SCHEMA_VERSION}")
        return _DECODER.decode(encoded)
    except msgspec.DecodeError as error:
        raise UserError(f"{path}: not a results file: {error}") from error


def losses_of(capture: Capture) -> list[LossRow]:
    """Samples lost inside ``capture``: one row for each jump of the counter between its stretches."""
    losses = []
    for before, after in zip(capture.stretches, capture.stretches[1:], strict=False):
        expected = before.first_tick + before.samples
        lost = after.first_tick - expected
        if lost:
            losses.append(LossRow(node=capture.node, round=capture.round, tick=expected, samples=lost))
    return losses


class _Version(msgspec.Struct):
    schema_version: int


_DECODER = msgspec.json.Decoder(Results)


def _section(part: Any) -> bytes:
    if isinstance(part, list):
        rows = b",\n".join(msgspec.json.encode(_without_nan(row)) for row in part)
        return b"[\n" + rows + b"\n]" if part else b"[]"
    return msgspec.json.encode(_without_nan(part) if isinstance(part, dict) else part)


def _is_finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    return not isinstance(value, list) or all(map(_is_finite, value))


def _without_nan(row: dict[str, Any]) -> dict[str, Any]:
    """``row`` with null for each field that is not finite, and the reason where the row has one."""
    lost = [name for name, value in row.items() if not _is_finite(value)]
    if not lost:
        return row
    kept = row | dict.fromkeys(lost)
    if "reason" in row:
        kept["reason"] = "; ".join(filter(None, [row["reason"], f"{', '.join(lost)} not finite"]))
    if "valid" in row and {"to_s", "cfo_hz", "epoch"} & set(lost):
        kept["valid"] = False
    return kept
