"""A USRP's clock: which rates it divides down to, its time as exact ticks, and its sources, locked and verified."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from testbed.radio.base import RadioError, RefusalError
from testbed.scenario import Usrp

__all__ = ["SampleClock", "Sync", "in_one_line", "master_clock_hz", "synchronize", "unlocked"]

_AD936X = ("b200", "b210", "b200mini", "b205mini", "e310", "e312", "e313", "e320")
_MASTER_CLOCKS_HZ = {
    "x300": (200e6, 184.32e6),
    "x310": (200e6, 184.32e6),
    "n300": (122.88e6, 125e6, 153.6e6),
    "n310": (122.88e6, 125e6, 153.6e6),
    "n320": (200e6, 245.76e6, 250e6),
    "n321": (200e6, 245.76e6, 250e6),
}
_AD936X_RANGE_HZ = (Fraction(5_000_000), Fraction(61_440_000))
_AD936X_TWO_CHANNELS_HZ = Fraction(30_720_000)
_LARGEST_DIVISION = 512
_REFERENCE_HZ = 40_000_000
_BASEBAND_MODULUS = 2_088_960
_BASEBAND_VCO_HZ = (672e6, 1430e6)
_LOCK_S = 5.0
_POLL_S = 0.1


def in_one_line(error: BaseException) -> str:
    """What a library's error says, without its class names and line breaks."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    words = " ".join(lines) or type(error).__name__
    for prefix in ("RuntimeError: ", "ValueError: ", "LookupError: ", "KeyError: "):
        words = words.removeprefix(prefix)
    return words


def master_clock_hz(model: str, rate_hz: Fraction, channels: int) -> Fraction:
    """Master clock to ask of a device of this model, so that it divides down to the sample rate.

    Fixed by the driver, since a device that changes it by itself loses its time. The largest even multiple of the rate
    where any may be had, for the half-band filters; the first that the rate divides where there are a few.

    Raises
    ------
    RefusalError
        If none does.
    """
    name = model.lower()
    if name in _AD936X:
        low, high = _AD936X_RANGE_HZ
        if channels > 1:
            high = _AD936X_TWO_CHANNELS_HZ
        if not low / _LARGEST_DIVISION <= rate_hz <= high:
            raise RefusalError(
                f"waveform.sample_rate_hz is {float(rate_hz):g}, but a {model} with {channels} channel"
                f"{'s' if channels > 1 else ''} does at most {float(high) / 1e6:g} MS/s"
            )
        times = high // rate_hz
        return rate_hz * min(times if times == 1 else times // 2 * 2, _LARGEST_DIVISION)
    clocks = _MASTER_CLOCKS_HZ.get(name)
    if clocks is None:
        raise RefusalError(
            f"this driver knows no master clock of a {model}: give node.usrp.args one, master_clock_rate=…"
        )
    for clock in clocks:
        division = Fraction(clock) / rate_hz
        if division.denominator == 1 and division <= _LARGEST_DIVISION:
            return Fraction(clock)
    nearest = [clock / max(1, round(clock / float(rate_hz))) for clock in clocks]
    best = min(nearest, key=lambda rate: abs(rate - float(rate_hz)))
    raise RefusalError(
        f"waveform.sample_rate_hz is {float(rate_hz):g}, which no master clock of a {model} divides down to: "
        f"use {best:.10g}"
    )


@dataclass(frozen=True)
class SampleClock:
    """A device's time in samples: its master clock's ticks, divided down."""

    master_hz: Fraction
    """Exact."""
    division: int

    @classmethod
    def of(cls, model: str, told_hz: float, rate_hz: Fraction) -> SampleClock:
        """Clock of a device that tells its master clock as a double.

        What an AD936x makes is a multiple of its 40 MHz over 2 088 960 and a power of two; elsewhere whole hertz.
        """
        exact = _ad936x_hz(told_hz) if model.lower() in _AD936X else Fraction(round(told_hz))
        if abs(float(exact) - told_hz) > 1e-3:
            exact = Fraction(told_hz)
        return cls(exact, max(1, round(exact / rate_hz)))

    @property
    def rate_hz(self) -> Fraction:
        """Sample rate, exact."""
        return self.master_hz / self.division

    def tick(self, spec: Any) -> tuple[int, int]:
        """Sample at a time of the device, and the master clock's ticks beyond it.

        Whole seconds and the fraction are kept apart: one double of seconds since 1970 holds no nanoseconds.
        """
        seconds = Fraction(int(spec.get_full_secs())) + Fraction(float(spec.get_frac_secs()))
        return divmod(round(seconds * self.master_hz), self.division)

    def time_spec(self, library: Any, tick: int) -> Any:
        """The device's time at a sample."""
        seconds = Fraction(tick * self.division) / self.master_hz
        whole = seconds.numerator // seconds.denominator
        return library.types.TimeSpec(whole, float(seconds - whole))


def _ad936x_hz(told_hz: float) -> Fraction:
    divider = 1
    while told_hz * divider * 2 <= _BASEBAND_VCO_HZ[1]:
        divider *= 2
    step = Fraction(_REFERENCE_HZ, _BASEBAND_MODULUS * divider)
    return round(Fraction(told_hz) / step) * step


@dataclass(frozen=True)
class Sync:
    """What became of the clock and time sources."""

    clock_source: str
    """As the device says."""
    time_source: str
    faults: tuple[tuple[str, str], ...]
    """(code, text) of what is missing, where the experiment allows that."""


def synchronize(library: Any, device: Any, options: Usrp, *, wait: Callable[[float], None]) -> Sync:
    """Sources as set, after the reference has locked and the pulses per second have been seen to set the time.

    Raises
    ------
    RefusalError
        If the device has no such source.
    RadioError
        If, with `Usrp.require_lock`, one does not do its part.
    """
    for mboard in range(device.get_num_mboards()):
        for what, wanted, there in (
            ("clock_source", options.clock_source, list(device.get_clock_sources(mboard))),
            ("time_source", options.time_source, list(device.get_time_sources(mboard))),
        ):
            # A device without inputs for time has none to choose; "none" asks for nothing.
            if wanted not in there and not (what == "time_source" and wanted == "none"):
                raise RefusalError(f'node.usrp.{what} is "{wanted}", but the device has {", ".join(there)}')
    device.set_clock_source(options.clock_source)
    if options.time_source in device.get_time_sources(0):
        device.set_time_source(options.time_source)
    faults = []
    actual = device.get_clock_source(0)
    if actual != options.clock_source:
        faults.append(("clock-source", f"the clock source is {actual!r}, {options.clock_source!r} was asked for"))
    waited = 0.0
    while (missing := unlocked(device, options)) and waited < _LOCK_S:
        wait(_POLL_S)
        waited += _POLL_S
    faults += missing
    faults += _set_time(library, device, options, wait)
    if faults and options.require_lock:
        raise RadioError(f"{faults[0][1]}: mend it, or allow it with node.usrp.require_lock = false")
    return Sync(actual, device.get_time_source(0), tuple(faults))


def unlocked(device: Any, options: Usrp) -> list[tuple[str, str]]:
    """What a device's sensors miss of the sources asked for: (code, text).

    A sensor is read by ``to_bool``: as a truth value of its own every one is true.
    """
    said = []
    for mboard in range(device.get_num_mboards()):
        names = list(device.get_mboard_sensor_names(mboard))
        if (
            options.clock_source != "internal"
            and "ref_locked" in names
            and not device.get_mboard_sensor("ref_locked", mboard).to_bool()
        ):
            said.append(("reference-unlocked", f'the clock source "{options.clock_source}" does not lock'))
        if (
            "gpsdo" in (options.clock_source, options.time_source)
            and "gps_locked" in names
            and not device.get_mboard_sensor("gps_locked", mboard).to_bool()
        ):
            said.append(("gps-unlocked", "the GPS receiver has no fix"))
    return said


def _set_time(library: Any, device: Any, options: Usrp, wait: Callable[[float], None]) -> list[tuple[str, str]]:
    """Set the device's time, by the pulses per second where there are any, and see that it was set."""
    zero = library.types.TimeSpec(0, 0.0)
    if options.time_source in ("none", "internal") and device.get_num_mboards() == 1:
        device.set_time_now(zero)
        return []
    source = options.time_source
    if source in ("none", "internal"):
        return [("pps-missing", "several motherboards need a common pulse per second: give node.usrp.time_source")]
    try:
        device.set_time_unknown_pps(zero)
    except RuntimeError:
        device.set_time_now(zero)
        return [("pps-missing", f'no pulse per second comes from the time source "{source}"')]
    if source == "gpsdo" and "gps_time" in list(device.get_mboard_sensor_names(0)):
        second = device.get_mboard_sensor("gps_time", 0).to_int()
        device.set_time_next_pps(library.types.TimeSpec(second + 1, 0.0))
    wait(1.1)
    before = _last_pulses(device)
    wait(1.0)
    after = _last_pulses(device)
    # A board that took the pulse reads whole seconds at it, and every board the same.
    if len(set(after)) > 1 or not device.get_time_synchronized():
        return [("pps-unequal", "the motherboards disagree on the time of the last pulse per second")]
    if after[0][0] != before[0][0] + 1 or min(after[0][1], 1.0 - after[0][1]) > 1e-6:
        return [("pps-missing", f'the pulses per second of "{source}" did not set the time')]
    return []


def _last_pulses(device: Any) -> list[tuple[int, float]]:
    # Compared as pairs: the library's times are equal to nothing but themselves.
    specs = [device.get_time_last_pps(mboard) for mboard in range(device.get_num_mboards())]
    return [(spec.get_full_secs(), spec.get_frac_secs()) for spec in specs]
