"""The contract that every synchronization method keeps.

A method declares the inputs it needs, receives an `Observation`, and returns an `Offset`: the clock offset of
receiver against transmitter at a stated moment, the standard deviation the bound predicts, and whether the
method's own assumptions were seen to hold. A silently wrong number is a defect: when an assumption is seen not to
hold, ``valid`` is False and ``reason`` says which, in words for the person at the bench.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from math import log10, sqrt
from typing import Any, Protocol

from dsp.channel import ChannelState
from dsp.moment import Moment
from dsp.oscillator import PowerLaw

__all__ = ["Method", "MissingInputError", "Need", "Observation", "Offset", "Port", "require", "undecided"]


class Need(StrEnum):
    """An input that a method may need beyond the forward link's CSI."""

    REVERSE_LINK = "the reverse link"
    SECOND_ANTENNA = "a second antenna"
    FINGERPRINT = "a fingerprint"
    ACTIVE_ECHO = "the node's own active echo"
    KNOWN_POSITIONS = "known node positions"
    RECIPROCAL_PORTS = "shared transmit-receive ports"


class Port(StrEnum):
    """Whether a node transmits and receives through the same antenna port."""

    SHARED = "shared"
    SEPARATE = "separate"


@dataclass(frozen=True)
class Observation:
    """What one pair of nodes observed of each other in one round."""

    forward: ChannelState
    """CSI at receiver n of transmitter m."""
    departure: Moment | None
    """m's clock when the first sample of its slot left; None if known neither by time stamp nor by leakage."""
    reverse: ChannelState | None = None
    """CSI at m of n."""
    reverse_departure: Moment | None = None
    """n's clock when the first sample of its slot left."""
    port: Port = Port.SHARED
    """Separate if either node's ports are."""
    chain_constant_s: float = 0.0
    """Calibrated non-reciprocal constant of the chains, subtracted from every two-way time offset."""
    departure_std_s: float = 0.0
    """Standard deviation of the departures' difference, where leakage measured it."""
    clock_std_s: float = 0.0
    """Deviation that clock wander between the two slots and synthesizer noise add to the time offset."""
    clock_std_hz: float = 0.0
    """The same for the carrier frequency offset."""
    clock_std_rad: float = 0.0
    """The same for the carrier phase offset."""
    phase_noise_share: float = 0.0
    """Part of the noise that synthesizers scatter between subcarriers, from 0 to 1: delays feel its power twice."""
    oscillators: PowerLaw = field(default_factory=PowerLaw)
    """Spectrum of the two clocks' difference: what of a phase that bends over the slot is theirs."""
    separation_s: float = 0.0
    """From one direction's slot to the other's; 0 where both are at once."""
    extras: dict[str, Any] = field(default_factory=dict)
    """Inputs of single families: fingerprint, active echo, positions; keyed by `Need`."""

    def delay_std_s(self, noise_std_s: float) -> float:
        """Deviation of a delay to which white noise of the power seen would give ``noise_std_s``."""
        return noise_std_s * sqrt(1.0 + self.phase_noise_share)

    def reversed(self) -> Observation:
        """The same observation with the roles of receiver and transmitter exchanged.

        Raises
        ------
        MissingInputError
            If there is no reverse link.
        """
        if self.reverse is None:
            raise MissingInputError(Need.REVERSE_LINK)
        return Observation(
            forward=self.reverse,
            departure=self.reverse_departure,
            reverse=self.forward,
            reverse_departure=self.departure,
            port=self.port,
            chain_constant_s=-self.chain_constant_s,
            departure_std_s=self.departure_std_s,
            clock_std_s=self.clock_std_s,
            clock_std_hz=self.clock_std_hz,
            clock_std_rad=self.clock_std_rad,
            phase_noise_share=self.phase_noise_share,
            oscillators=self.oscillators,
            separation_s=self.separation_s,
            extras=self.extras,
        )


@dataclass(frozen=True)
class Offset:
    """Clock offset of receiver n against transmitter m: TO = s_n - s_m, CFO = fc·(delta_m - delta_n)."""

    to_s: float | None
    """Time offset at ``epoch``; None where the method gives none, with the reason."""
    cfo_hz: float | None
    epoch: Moment
    """Receiver's clock reading to which the time offset belongs."""
    to_std_s: float | None = None
    """Predicted deviation: the bound, with clock wander, synthesizer noise and departure added in quadrature."""
    cfo_std_hz: float | None = None
    phase_rad: float | None = None
    """Carrier phase offset at ``epoch``, half the product's phase: known modulo π."""
    phase_std_rad: float | None = None
    snr_db: float | None = None
    valid: bool = True
    reason: str = ""
    """Why invalid; or, where valid, what the reader should know (which method `auto` chose, relative to what)."""
    details: dict[str, Any] = field(default_factory=dict)
    """Diagnostics of the method, for notebooks and tests; not part of the results file."""


def undecided(csi: ChannelState, reason: str = "") -> Offset:
    """Offset of which only its epoch, the middle of the symbols of ``csi``, and the SNR are known; invalid."""
    snr = csi.snr
    return Offset(
        to_s=None,
        cfo_hz=None,
        epoch=csi.reference.shifted(float(csi.symbol_s.mean())),
        snr_db=10.0 * log10(snr) if snr > 0.0 else None,
        valid=False,
        reason=reason,
    )


class Method(Protocol):
    """A synchronization method."""

    @property
    def name(self) -> str:
        """Name in the experiment file."""
        ...

    @property
    def needs(self) -> frozenset[Need]:
        """Inputs without which `estimate` raises `MissingInputError`."""
        ...

    def estimate(self, observation: Observation) -> Offset:
        """Offset of the forward receiver against the forward transmitter."""
        ...


class MissingInputError(ValueError):
    """An input that the method declares was not given."""

    def __init__(self, need: Need) -> None:
        super().__init__(f"this method needs {need.value}")
        self.need = need


def require(observation: Observation, needs: frozenset[Need]) -> None:
    """Raise `MissingInputError` for the first declared input that ``observation`` lacks."""
    for need in sorted(needs):
        if need is Need.REVERSE_LINK:
            missing = observation.reverse is None
        elif need is Need.SECOND_ANTENNA:
            missing = observation.forward.values.shape[0] < 2
        elif need is Need.RECIPROCAL_PORTS:
            missing = False  # a property of the link, judged per estimate and reported as invalid
        else:
            missing = need not in observation.extras
        if missing:
            raise MissingInputError(need)
