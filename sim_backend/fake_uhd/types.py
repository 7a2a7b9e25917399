"""Value types of the fake `uhd`: those of `uhd.types` and `uhd.usrp`, with the traps of the real ones.

A `TimeSpec` compares by identity and has no order, a `SensorValue` is true whatever it says, and metadata of
receptions cannot be written by whoever calls, all as in UHD 4.3.
"""

from __future__ import annotations

from enum import Enum, IntEnum
from fractions import Fraction

__all__ = [
    "MetaRange",
    "RXMetadata",
    "RXMetadataErrorCode",
    "SensorValue",
    "StreamArgs",
    "StreamCMD",
    "StreamMode",
    "SubdevSpec",
    "TXAsyncMetadata",
    "TXMetadata",
    "TXMetadataEventCode",
    "TimeSpec",
    "TuneRequest",
    "TuneRequestPolicy",
    "TuneResult",
]


class TimeSpec:
    """Whole seconds and a fraction of one, as device time is told."""

    def __init__(self, first: float, second: float | None = None, rate: float | None = None) -> None:
        if rate is not None:  # seconds, ticks, ticks a second
            whole, ticks = int(first), int(second or 0)
            exact = Fraction(whole) + Fraction(ticks) / Fraction(rate)
        elif second is not None:
            if not isinstance(first, int):
                raise TypeError("TimeSpec(): incompatible constructor arguments: whole seconds must be an int")
            exact = Fraction(first) + Fraction(second)
        else:
            exact = Fraction(float(first))
        self._full = exact.numerator // exact.denominator
        self._fraction = float(exact - self._full)

    def get_full_secs(self) -> int:
        """Whole seconds."""
        return self._full

    def get_frac_secs(self) -> float:
        """The rest, in [0, 1)."""
        return self._fraction

    def get_real_secs(self) -> float:
        """Both in one float, which loses what a float does not hold."""
        return self._full + self._fraction

    def __add__(self, other: TimeSpec | float) -> TimeSpec:
        if isinstance(other, TimeSpec):
            return _exact(self.exact() + other.exact())
        return _exact(self.exact() + Fraction(float(other)))

    def __sub__(self, other: TimeSpec | float) -> TimeSpec:
        if isinstance(other, TimeSpec):
            return _exact(self.exact() - other.exact())
        return _exact(self.exact() - Fraction(float(other)))

    def exact(self) -> Fraction:
        """Seconds; not in the real library."""
        return Fraction(self._full) + Fraction(self._fraction)

    # Identity, as in the real library: two equal times are not equal.
    __hash__ = object.__hash__


def _exact(seconds: Fraction) -> TimeSpec:
    whole = seconds.numerator // seconds.denominator
    return TimeSpec(whole, float(seconds - whole))


class StreamMode(Enum):
    """How long a stream lasts."""

    start_cont = ord("a")
    stop_cont = ord("o")
    num_done = ord("d")
    num_more = ord("m")


class StreamCMD:
    """Order to stream."""

    def __init__(self, stream_mode: StreamMode) -> None:
        self.stream_mode = stream_mode
        self.num_samps = 0
        self.stream_now = True
        self.time_spec = TimeSpec(0.0)


class RXMetadataErrorCode(Enum):
    """What went wrong while receiving."""

    none = 0x0
    timeout = 0x1
    late = 0x2
    broken_chain = 0x4
    overflow = 0x8
    alignment = 0xC
    bad_packet = 0xF


class RXMetadata:
    """What came with received samples; written by the library alone."""

    def __init__(self) -> None:
        self._write(RXMetadataErrorCode.none, None)

    def _write(self, code: RXMetadataErrorCode, time: TimeSpec | None, *, out_of_sequence: bool = False) -> None:
        self._code = code
        self._time = time
        self._out_of_sequence = out_of_sequence

    @property
    def error_code(self) -> RXMetadataErrorCode:
        """What went wrong."""
        return self._code

    @property
    def has_time_spec(self) -> bool:
        """Whether the first sample's time is known."""
        return self._time is not None

    @property
    def time_spec(self) -> TimeSpec:
        """Time of the first sample."""
        return TimeSpec(0.0) if self._time is None else self._time

    @property
    def out_of_sequence(self) -> bool:
        """Whether packets were lost on their way, rather than samples in the device."""
        return self._out_of_sequence

    def strerror(self) -> str:
        """The error in words."""
        return f"ERROR_CODE_{self._code.name.upper()}"


class TXMetadata:
    """What goes with samples to send."""

    def __init__(self) -> None:
        self.has_time_spec = False
        self.time_spec = TimeSpec(0.0)
        self.start_of_burst = False
        self.end_of_burst = False


class TXMetadataEventCode(IntEnum):
    """What became of a burst."""

    burst_ack = 0x1
    underflow = 0x2
    seq_error = 0x4
    time_error = 0x8
    underflow_in_packet = 0x10
    seq_error_in_packet = 0x20
    user_payload = 0x40


class TXAsyncMetadata:
    """Word from the device on what was sent; written by the library alone."""

    def __init__(self) -> None:
        self._write(TXMetadataEventCode.burst_ack, 0)

    def _write(self, code: TXMetadataEventCode, channel: int) -> None:
        self._code, self._channel = code, channel

    @property
    def event_code(self) -> TXMetadataEventCode:
        """What became of the burst."""
        return self._code

    @property
    def channel(self) -> int:
        """Channel of the streamer."""
        return self._channel


class SensorValue:
    """Reading of a sensor. It has no truth value of its own: every one counts as true."""

    def __init__(self, name: str, value: bool | int | float | str, unit: str, other: str) -> None:
        self.name, self.unit = name, unit
        self.value = str(value).lower() if isinstance(value, bool) else str(value)

    def to_bool(self) -> bool:
        """The reading as yes or no."""
        return self.value == "true"

    def to_int(self) -> int:
        """The reading as a whole number."""
        return int(self.value)

    def to_real(self) -> float:
        """The reading as a number."""
        return float(self.value)


class MetaRange:
    """From where to where something can be set, and in which steps."""

    def __init__(self, start: float, stop: float, step: float = 0.0) -> None:
        self._bounds = (start, stop, step)

    def start(self) -> float:
        """Lowest value."""
        return self._bounds[0]

    def stop(self) -> float:
        """Highest value."""
        return self._bounds[1]

    def step(self) -> float:
        """Step; 0 for none."""
        return self._bounds[2]


class TuneRequestPolicy(Enum):
    """Who chooses a part of the frequency."""

    none = ord("N")
    auto = ord("A")
    manual = ord("M")


class TuneRequest:
    """Frequency asked for, with the local oscillator ``lo_off`` beside it if that is given."""

    def __init__(self, target_freq: float = 0.0, lo_off: float | None = None) -> None:
        self.target_freq = float(target_freq)
        self.rf_freq_policy = TuneRequestPolicy.auto if lo_off is None else TuneRequestPolicy.manual
        self.dsp_freq_policy = TuneRequestPolicy.auto
        self.rf_freq = self.target_freq + (lo_off or 0.0)
        self.dsp_freq = 0.0


class TuneResult:
    """Frequencies that the two stages of tuning reached."""

    def __init__(self) -> None:
        self.clipped_rf_freq = self.target_rf_freq = self.actual_rf_freq = 0.0
        self.target_dsp_freq = self.actual_dsp_freq = 0.0


class StreamArgs:
    """Formats, channels and arguments of a stream."""

    def __init__(self, cpu_format: str, otw_format: str) -> None:
        self.cpu_format, self.otw_format = cpu_format, otw_format
        self.channels: list[int] = []
        self.args = ""


class SubdevSpec:
    """Which daughterboard front ends the channels are."""

    def __init__(self, text: str) -> None:
        self._text = text

    def to_string(self) -> str:
        """The specification's text."""
        return self._text
