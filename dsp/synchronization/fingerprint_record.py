"""Fingerprint of a static scene as a record that can be kept: arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsp.channel import ComplexArray, FloatArray
from dsp.moment import Moment

__all__ = ["Fingerprint", "change_of_reference_s"]

_VERSION = 1
_MOMENTS = ("reference", "departure", "epoch")


@dataclass(frozen=True)
class Fingerprint:
    """Static scene of one link at one epoch."""

    values: ComplexArray
    """Static channel at the epoch against ``reference``, shape (subcarrier,)."""
    variance: FloatArray
    """Its noise variance, shape (subcarrier,)."""
    subcarrier_hz: FloatArray
    """Ascending, shape (subcarrier,)."""
    reference: Moment
    """Receiver's clock: zero of the channel's delays."""
    departure: Moment | None
    """Transmitter's clock when the slot left."""
    transmitter: str
    epoch: Moment
    """Receiver's clock at which the fingerprint was taken."""
    to_slope_s: float
    """Drift of the removed reference between ``reference`` and ``epoch``."""
    cfo_reference_hz: float
    """Carrier frequency offset removed from the CSI before."""
    cfo_hz: float
    """Carrier frequency offset at the epoch."""
    carrier_hz: Fraction
    to_s: float | None = None
    """Time offset at the epoch if it was known: what makes later offsets absolute."""
    to_std_s: float = 0.0
    to_origin: str = ""
    """What that time offset comes from, in words."""
    taken: str = ""
    """When, in words, if the receiver's counter does not run on from then, so that it tells no age."""

    def __post_init__(self) -> None:
        shape = self.subcarrier_hz.shape
        if len(shape) != 1 or self.values.shape != shape or self.variance.shape != shape:
            raise ValueError("values, variance and subcarrier_hz of a fingerprint must be of one length")
        if len(self.subcarrier_hz) < 3 or not np.all(np.diff(self.subcarrier_hz) > 0.0):
            raise ValueError("a fingerprint needs three subcarriers or more, ascending")
        if not (np.all(np.isfinite(self.values)) and np.all(np.isfinite(self.variance)) and np.all(self.variance > 0)):
            raise ValueError("a fingerprint's values must be finite, its variances finite and positive")

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Arrays that state the fingerprint exactly, without pickled objects: for ``numpy.savez``."""
        arrays: dict[str, NDArray[Any]] = {
            "version": np.array(_VERSION),
            "values": np.asarray(self.values, dtype=np.complex128),
            "variance": np.asarray(self.variance, dtype=np.float64),
            "subcarrier_hz": np.asarray(self.subcarrier_hz, dtype=np.float64),
            "transmitter": np.array(self.transmitter),
            "carrier_hz": _ratio(self.carrier_hz),
            "scalars": np.array([self.to_slope_s, self.cfo_reference_hz, self.cfo_hz, self.to_std_s]),
        }
        if self.to_s is not None:
            arrays["to_s"] = np.array(self.to_s)
        if self.to_origin:
            arrays["to_origin"] = np.array(self.to_origin)
        for name in _MOMENTS:
            moment: Moment | None = getattr(self, name)
            if moment is not None:
                arrays[f"{name}_clock"] = np.array(moment.clock)
                arrays[f"{name}_tick"] = np.array(moment.tick, dtype=np.int64)
                arrays[f"{name}_fraction"] = np.array(moment.fraction)
                arrays[f"{name}_rate_hz"] = _ratio(moment.rate_hz)
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Fingerprint:
        """Fingerprint from what `to_arrays` gave, also as ``numpy.load`` returns it.

        Raises
        ------
        ValueError
            If an array is missing or does not hold what it should; the message names it.
        """
        try:
            if int(arrays["version"]) != _VERSION:
                raise ValueError(f"fingerprint of version {int(arrays['version'])}: this reads version {_VERSION}")
            reference, departure, epoch = (_moment(arrays, name) for name in _MOMENTS)
            if reference is None or epoch is None:
                raise KeyError("reference_clock" if reference is None else "epoch_clock")
            slope_s, reference_hz, cfo_hz, to_std_s = (float(value) for value in np.asarray(arrays["scalars"]))
            return cls(
                values=np.asarray(arrays["values"], dtype=np.complex128),
                variance=np.asarray(arrays["variance"], dtype=np.float64),
                subcarrier_hz=np.asarray(arrays["subcarrier_hz"], dtype=np.float64),
                reference=reference,
                departure=departure,
                transmitter=str(arrays["transmitter"]),
                epoch=epoch,
                to_slope_s=slope_s,
                cfo_reference_hz=reference_hz,
                cfo_hz=cfo_hz,
                carrier_hz=_fraction(arrays["carrier_hz"]),
                to_s=float(arrays["to_s"]) if "to_s" in arrays else None,
                to_std_s=to_std_s,
                to_origin=str(arrays.get("to_origin", "")),
            )
        except KeyError as error:
            raise ValueError(f"not a fingerprint: no array {error.args[0]!r}") from None
        except (TypeError, ZeroDivisionError) as error:
            raise ValueError(f"not a fingerprint: {error}") from None


def change_of_reference_s(reference: Moment, departure: Moment, fingerprint: Fingerprint) -> float:
    """Change of (reference - departure) since the fingerprint, in rationals until the counters have cancelled.

    Raises
    ------
    ValueError
        If the fingerprint's own departure is not known.
    """
    if fingerprint.departure is None:
        raise ValueError("the fingerprint's own departure is not known")
    now = _exact(reference) - _exact(departure)
    then = _exact(fingerprint.reference) - _exact(fingerprint.departure)
    return float(now - then)


def _exact(moment: Moment) -> Fraction:
    return (moment.tick + Fraction(moment.fraction)) / moment.rate_hz


def _ratio(value: Fraction) -> NDArray[np.str_]:
    # Text: a synthesizer's exact frequency may need more than 64 bits.
    return np.array([str(value.numerator), str(value.denominator)])


def _fraction(pair: NDArray[Any]) -> Fraction:
    numerator, denominator = np.asarray(pair).tolist()
    return Fraction(int(numerator), int(denominator))


def _moment(arrays: Mapping[str, NDArray[Any]], name: str) -> Moment | None:
    if f"{name}_clock" not in arrays:
        return None
    return Moment(
        clock=str(arrays[f"{name}_clock"]),
        tick=int(arrays[f"{name}_tick"]),
        fraction=float(arrays[f"{name}_fraction"]),
        rate_hz=_fraction(arrays[f"{name}_rate_hz"]),
    )
