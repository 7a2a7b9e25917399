"""A USRP as its library sees it: products, what they can do, their time, their inputs, their faults.

The device's samples come from and go to an `Air`, so that any simulated surroundings may stand behind it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sim_backend.fake_uhd.types import TimeSpec
from sim_backend.synthesizer import applied_carrier_hz, applied_rate_hz

__all__ = [
    "DEFAULT_PRODUCT",
    "DEFAULT_SERIAL",
    "PRODUCTS",
    "Air",
    "Device",
    "Product",
    "Recorded",
    "applied_frequency_hz",
    "applied_master_clock_hz",
]


DEFAULT_PRODUCT = "B210"
DEFAULT_SERIAL = "F5EA4C0"


@dataclass(frozen=True)
class Recorded:
    """What the converters delivered."""

    samples: NDArray[np.int16]
    """Shape (antenna, sample, 2); lost ones are missing."""
    full_scale: int
    runs: tuple[tuple[int, int, int], ...]
    """Runs without loss: (index of the first sample, samples, its tick)."""


class Air(Protocol):
    """What the device hears and is heard in; ticks are those of a counter of samples that starts with the device."""

    rate_hz: Fraction
    carrier_hz: Fraction
    antennas: int

    def present(self) -> tuple[int, int]:
        """What the counter reads, and what it read at the last whole second of true time."""
        ...

    def transmit(self, samples: NDArray[np.complex64], tick: int) -> None:
        """Send samples from a tick."""
        ...

    def receive(self, samples: int, tick: int) -> Recorded:
        """Record samples from a tick."""
        ...


@dataclass(frozen=True)
class Product:
    """What a model can do."""

    name: str
    kind: str
    """As `uhd.find` says it."""
    master_clocks_hz: tuple[float, ...]
    """Those that there are; empty: any in the range of the AD936x."""
    channels: int
    frequencies_hz: tuple[float, float]
    rx_gains_db: tuple[float, float]
    tx_gains_db: tuple[float, float]
    rx_antennas: tuple[str, ...]
    tx_antennas: tuple[str, ...] = ("TX/RX",)
    clock_sources: tuple[str, ...] = ("internal", "external", "gpsdo")
    time_sources: tuple[str, ...] = ("none", "internal", "external", "gpsdo")


PRODUCTS = {
    product.name: product
    for product in (
        Product("B210", "b200", (), 2, (50e6, 6e9), (0.0, 76.0), (0.0, 89.75), ("TX/RX", "RX2")),
        Product("X310", "x300", (200e6, 184.32e6), 2, (10e6, 6e9), (0.0, 31.5), (0.0, 31.5), ("TX/RX", "RX2", "CAL")),
        Product("n310", "n3xx", (122.88e6, 125e6, 153.6e6), 4, (10e6, 6e9), (0.0, 75.0), (0.0, 65.0),
                ("TX/RX", "RX2", "CAL"), time_sources=("internal", "external", "gpsdo", "sfp0")),
    )
}  # fmt: skip


def applied_master_clock_hz(product: Product, wanted_hz: Fraction) -> Fraction:
    """Master clock nearest to the wanted one, exact.

    Raises
    ------
    ValueError
        If the product has none such.
    """
    if not product.master_clocks_hz:
        if not 5e6 <= wanted_hz <= 61.44e6:
            raise ValueError(f"a master clock of {float(wanted_hz):g} Hz is outside 5 to 61.44 MHz")
        return applied_rate_hz(wanted_hz)
    if float(wanted_hz) not in product.master_clocks_hz:
        raise ValueError(f"Invalid master clock rate: {float(wanted_hz):g}")
    return Fraction(float(wanted_hz))


def applied_frequency_hz(product: Product, wanted_hz: Fraction, master_clock_hz: Fraction) -> Fraction:
    """Centre frequency nearest to the wanted one: the synthesizer's, or that of the digital mixer behind it.

    As a double, which is all that the library tells.
    """
    if not product.master_clocks_hz:
        return Fraction(float(applied_carrier_hz(wanted_hz)))
    step = master_clock_hz / 2**32
    return Fraction(float(round(wanted_hz / step) * step))


class Device:
    """One USRP in its air.

    ``arguments`` are those that the experiment gives, of which these make it a worse one: ``ref=absent`` and
    ``pps=absent`` leave the two inputs open, ``lose_ref_after=N`` opens the first after N streams; ``late=N`` lets the
    first N orders to stream come late; ``underflow=N`` and ``late_tx=N`` spoil the Nth burst; ``loss=drop`` blames the
    network for lost samples. Until the first streamer is made, `wait` passes the device's time; from then on it is the
    air's.
    """

    def __init__(self, arguments: dict[str, str], air: Air) -> None:
        name = arguments.get("product", DEFAULT_PRODUCT)
        if name not in PRODUCTS:
            raise RuntimeError(f"LookupError: KeyError: No devices found for product {name}")
        self.product = PRODUCTS[name]
        self.arguments = arguments
        self.air = air
        self.serial = arguments.get("serial", DEFAULT_SERIAL)
        self.clock_source, self.time_source = "internal", "internal" if self.product.kind == "n3xx" else "none"
        wanted = arguments.get("master_clock_rate")
        default = Fraction((self.product.master_clocks_hz or (32e6,))[0])
        try:
            self.master_clock_hz = applied_master_clock_hz(self.product, Fraction(wanted) if wanted else default)
        except ValueError as error:
            raise RuntimeError(f"ValueError: {error}") from None
        self.lock = threading.Condition()
        self.streaming = False
        self.streams = 0
        self.open_bursts = 0
        self._slept = Fraction(0)
        self._set: tuple[int, int] = (0, 0)
        """Tick of the air's counter, and what the device's time was set to there, in samples."""
        self._armed: tuple[int, int] | None = None
        """To be set at a pulse: its tick and the samples."""
        self._faults = {key: int(arguments.get(key, 0)) for key in ("late", "underflow", "late_tx")}

    # Time ----------------------------------------------------------------------------------------------------------

    def wait(self, seconds: float) -> None:
        """Let time pass for the device."""
        if not self.streaming:
            self._slept += Fraction(seconds)

    def settle(self) -> None:
        """From now on time is the air's; a whole number of seconds lies between the two, so that pulses stay pulses."""
        if not self.streaming:
            self.streaming = True
            self._slept = Fraction(-(-self._slept.numerator // self._slept.denominator))

    @property
    def ahead(self) -> int:
        """Samples by which the device's counter is ahead of the air's."""
        return round(self._slept * self.air.rate_hz)

    def counter(self) -> int:
        """Samples since the device was switched on."""
        return self.air.present()[0] + self.ahead

    def pulse(self) -> int | None:
        """Counter at the last pulse of the time source; None if there was none."""
        if not self._hears_pulses():
            return None
        tick, second = self.air.present()
        behind = tick + self.ahead - second
        return second + round((behind // self.air.rate_hz) * self.air.rate_hz)

    def _hears_pulses(self) -> bool:
        if self.time_source in ("none", "internal"):
            return self.time_source == "internal"
        return self.arguments.get("pps") != "absent"

    @property
    def locked(self) -> bool:
        """Whether the oscillator follows the reference."""
        if self.clock_source == "internal":
            return True
        after = self.arguments.get("lose_ref_after")
        gone = after is not None and self.streams >= int(after)
        return self.arguments.get("ref") != "absent" and not gone

    @property
    def reads_ahead(self) -> int:
        """Device's time in samples, less the air's counter."""
        self._latch()
        at, value = self._set
        return value - at + self.ahead

    def _latch(self) -> None:
        pulse = self.pulse()
        if self._armed is not None and pulse is not None and pulse > self._armed[0]:
            at = pulse if self.streaming else self._armed[0] + round(self.air.rate_hz)
            self._set, self._armed = (at, self._armed[1]), None

    def set_time(self, spec: TimeSpec, *, at_pulse: bool) -> None:
        """Set the time now, or at the next pulse."""
        value = round(spec.exact() * self.air.rate_hz)
        if at_pulse:
            last = self.pulse()
            self._armed = (last if last is not None else self.counter(), value)
        else:
            self._set, self._armed = (self.counter(), value), None

    def time(self, counter: int) -> TimeSpec:
        """Device's time at a reading of its counter."""
        self._latch()
        at, value = self._set
        seconds = (counter - at + value) / self.air.rate_hz
        whole = seconds.numerator // seconds.denominator
        return TimeSpec(whole, float(seconds - whole))

    def air_tick(self, spec: TimeSpec) -> int:
        """Tick of the air's counter at a time of the device, to the nearest sample."""
        return round(spec.exact() * self.air.rate_hz) - self.reads_ahead

    # Faults --------------------------------------------------------------------------------------------------------

    def fails(self, fault: str) -> bool:
        """Whether this one of the orders is to fail: counts down what the arguments say."""
        left = self._faults[fault]
        self._faults[fault] = max(left - 1, 0)
        return left > 0 if fault == "late" else left == 1
