"""A user's synchronization method, held to the contract: whatever it does, the run goes on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite
from numbers import Real
from typing import Any

import numpy as np

from dsp.channel import ChannelState
from dsp.moment import Moment
from dsp.synchronization.base import MissingInputError, Need, Observation, Offset, require

__all__ = ["GuardedMethod"]

_NUMBERS = ("to_s", "cfo_hz", "to_std_s", "cfo_std_hz", "phase_rad", "phase_std_rad", "snr_db")
_DEVIATIONS = {"to_s": "to_std_s", "cfo_hz": "cfo_std_hz"}
_DETAILS = ("doppler_hz", "doppler_std_hz")
"""What the pipeline reads of a method's details; of those only plain numbers are taken from a user's."""


@dataclass(frozen=True)
class GuardedMethod:
    """A user's method whose every failure is an invalid offset with the reason, or a `ValueError` that becomes one.

    Its inputs are read-only views, so that it cannot change what the next method sees; of its result every number is
    made a float, and one that is not finite, a deviation that is not positive or not given, or an epoch that is not a
    reading of the receiver's clock makes it invalid.
    """

    inner: Any
    name: str
    needs: frozenset[Need]

    def estimate(self, observation: Observation) -> Offset:
        """Offset that the user's method returns, held to the contract.

        Raises
        ------
        MissingInputError
            If an input that the method declares is missing.
        ValueError
            If it raised.
        """
        require(observation, self.needs)
        try:
            said = self.inner.estimate(_read_only(observation))
        except MissingInputError:
            raise
        except (Exception, SystemExit) as error:
            text = " ".join(str(error).split())
            raise ValueError(f"{self.name} failed: {type(error).__name__}: {text}".rstrip(": ")) from error
        return _checked(said, observation)


def _checked(said: Any, observation: Observation) -> Offset:
    clock = observation.forward.reference
    if not isinstance(said, Offset):
        return _invalid(observation, f"returned {type(said).__name__}, not an Offset")
    epoch = said.epoch
    if not isinstance(epoch, Moment) or (epoch.clock, epoch.rate_hz) != (clock.clock, clock.rate_hz):
        return _invalid(observation, "its epoch is no reading of the receiver's clock")
    numbers: dict[str, Any] = {}
    wrong: list[str] = []
    for key in _NUMBERS:
        value = getattr(said, key)
        good = value is None or (isinstance(value, Real) and isfinite(value))
        numbers[key] = float(value) if good and value is not None else None
        if not good:
            wrong.append(f"{key} is {value!r}"[:80])
    for key, deviation in _DEVIATIONS.items():
        if said.valid and numbers[key] is not None and not (numbers[deviation] or 0.0) > 0.0:
            wrong.append(f"{key} has no positive deviation {deviation}")
    details = said.details if isinstance(said.details, dict) else {}
    kept = {key: float(details[key]) for key in _DETAILS if isinstance(details.get(key), Real)}
    reason = " ".join(str(said.reason).split())
    return replace(
        said,
        **numbers,
        valid=bool(said.valid) and not wrong,
        reason="; ".join(filter(None, [reason, *wrong])),
        details={key: value for key, value in kept.items() if isfinite(value)},
    )


def _invalid(observation: Observation, reason: str) -> Offset:
    return Offset(None, None, epoch=observation.forward.reference, valid=False, reason=reason)


def _read_only(observation: Observation) -> Observation:
    reverse = observation.reverse
    return replace(
        observation,
        forward=_frozen(observation.forward),
        reverse=None if reverse is None else _frozen(reverse),
        extras=dict(observation.extras),
    )


def _frozen(state: ChannelState) -> ChannelState:
    arrays: dict[str, Any] = {}
    for key in ("values", "weights", "subcarrier_hz", "symbol_s", "noise", "frame_of_symbol"):
        view: np.ndarray[Any, Any] = getattr(state, key).view()
        view.flags.writeable = False
        arrays[key] = view
    return replace(state, **arrays)
