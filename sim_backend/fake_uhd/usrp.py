"""`uhd.usrp.MultiUSRP` of the fake, with the names, arguments and manners of the real one."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from sim_backend.fake_uhd.device import Device, applied_frequency_hz
from sim_backend.fake_uhd.streams import RXStreamer, TXStreamer
from sim_backend.fake_uhd.types import MetaRange, SensorValue, StreamArgs, SubdevSpec, TimeSpec, TuneRequest, TuneResult

__all__ = ["MultiUSRP"]

ALL = 2**64 - 1


class MultiUSRP:
    """One simulated USRP."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._frequency = {"rx": 0.0, "tx": 0.0}
        self._rate = {"rx": 0.0, "tx": 0.0}
        self._per_channel: dict[tuple[str, str, int], Any] = {}
        self._subdevice = {"rx": SubdevSpec("A:A"), "tx": SubdevSpec("A:A")}
        self._command_time: TimeSpec | None = None

    # What it is ----------------------------------------------------------------------------------------------------

    def get_num_mboards(self) -> int:
        """Boards under one address: one."""
        return 1

    def get_mboard_name(self, mboard: int = 0) -> str:
        """Product, as X310."""
        return self._device.product.name

    def get_usrp_rx_info(self, chan: int = 0) -> dict[str, str]:
        """What the board and its front end say of themselves."""
        return {
            "mboard_id": self._device.product.name,
            "mboard_serial": self._device.serial,
            "mboard_name": self._device.arguments.get("name", ""),
            "rx_id": "Simulated (0x0000)",
            "rx_serial": "",
        }

    def get_rx_num_channels(self) -> int:
        """Receive channels."""
        return self._device.product.channels

    def get_tx_num_channels(self) -> int:
        """Transmit channels."""
        return self._device.product.channels

    def get_master_clock_rate(self, mboard: int = 0) -> float:
        """Clock in hertz that the sample rates divide."""
        return float(self._device.master_clock_hz)

    def set_rx_subdev_spec(self, spec: SubdevSpec, mboard: int = ALL) -> None:
        """Choose the front ends that are the receive channels."""
        self._subdevice["rx"] = spec

    def set_tx_subdev_spec(self, spec: SubdevSpec, mboard: int = ALL) -> None:
        """Choose the front ends that are the transmit channels."""
        self._subdevice["tx"] = spec

    def get_rx_subdev_spec(self, mboard: int = 0) -> SubdevSpec:
        """Front ends that are the receive channels."""
        return self._subdevice["rx"]

    def get_tx_subdev_spec(self, mboard: int = 0) -> SubdevSpec:
        """Front ends that are the transmit channels."""
        return self._subdevice["tx"]

    # Clock and time ------------------------------------------------------------------------------------------------

    def get_clock_sources(self, mboard: int) -> list[str]:
        """Where its 10 MHz may come from."""
        return list(self._device.product.clock_sources)

    def get_time_sources(self, mboard: int) -> list[str]:
        """Where its pulses per second may come from."""
        return list(self._device.product.time_sources)

    def set_clock_source(self, source: str, mboard: int = ALL) -> None:
        """Choose one; a `RuntimeError` if it is none of them."""
        if source not in self._device.product.clock_sources:
            raise RuntimeError(f"RuntimeError: unknown clock source {source}")
        self._device.clock_source = source

    def set_time_source(self, source: str, mboard: int = ALL) -> None:
        """Choose one; a `RuntimeError` if it is none of them."""
        if source not in self._device.product.time_sources:
            raise RuntimeError(f"RuntimeError: unknown time source {source}")
        self._device.time_source = source

    def get_clock_source(self, mboard: int) -> str:
        """The one chosen."""
        return self._device.clock_source

    def get_time_source(self, mboard: int) -> str:
        """The one chosen."""
        return self._device.time_source

    def get_mboard_sensor_names(self, mboard: int = 0) -> list[str]:
        """Sensors of the board: the receiver of GPS has its own where it is used."""
        gps = ["gps_locked", "gps_time"] if "gpsdo" in (self._device.clock_source, self._device.time_source) else []
        return ["ref_locked", *gps]

    def get_mboard_sensor(self, name: str, mboard: int = 0) -> SensorValue:
        """Reading of one of them; a `RuntimeError` if it has none such."""
        if name not in self.get_mboard_sensor_names():
            raise RuntimeError(f"LookupError: Path not found in tree: /mboards/0/sensors/{name}")
        if name == "gps_time":
            pulse = self._device.pulse() or 0
            return SensorValue("GPS epoch time", round(pulse / self._device.air.rate_hz), "seconds", "")
        label, good, bad = (
            ("Ref", "locked", "unlocked") if name == "ref_locked" else ("GPS lock status", "locked", "no")
        )
        return SensorValue(label, self._device.locked, good, bad)

    def get_rx_sensor_names(self, chan: int = 0) -> list[str]:
        """Sensors of a receive front end: an AD936x tells its temperature too."""
        return ["lo_locked", "temp"] if not self._device.product.master_clocks_hz else ["lo_locked"]

    def get_rx_sensor(self, name: str, chan: int = 0) -> SensorValue:
        """Reading of one of them; a `RuntimeError` if it has none such."""
        if name not in self.get_rx_sensor_names(chan):
            raise RuntimeError(f"LookupError: Path not found in tree: /mboards/0/rx_frontends/A/sensors/{name}")
        if name == "temp":
            return SensorValue("Temperature", 37.5, "C", "")
        return SensorValue("LO", True, "locked", "unlocked")

    def get_time_now(self, mboard: int = 0) -> TimeSpec:
        """Time of the device."""
        return self._device.time(self._device.counter())

    def get_time_last_pps(self, mboard: int = 0) -> TimeSpec:
        """Time of the device at the last pulse; zero if none ever came."""
        pulse = self._device.pulse()
        return TimeSpec(0.0) if pulse is None else self._device.time(pulse)

    def set_time_now(self, time_spec: TimeSpec, mboard: int = ALL) -> None:
        """Set the time at once."""
        self._device.set_time(time_spec, at_pulse=False)

    def set_time_next_pps(self, time_spec: TimeSpec, mboard: int = ALL) -> None:
        """Set the time at the next pulse."""
        self._device.set_time(time_spec, at_pulse=True)

    def set_time_unknown_pps(self, time_spec: TimeSpec) -> None:
        """Set the time at a pulse after one was seen; a `RuntimeError` if none comes within 1.1 s."""
        before = self._device.pulse()
        for _ in range(11):
            if self._device.pulse() != before:
                break
            self._device.wait(0.1)
        else:
            raise RuntimeError(
                "RuntimeError: Board 0 may not be getting a PPS signal!\nNo PPS detected within the time interval.\n"
                "See the application notes for your device.\n"
            )
        self.set_time_next_pps(time_spec)
        self._device.wait(1.0)

    def get_time_synchronized(self) -> bool:
        """Whether all boards have one time: there is one."""
        return True

    def set_command_time(self, time_spec: TimeSpec, mboard: int = ALL) -> None:
        """Execute what follows at a time of the device."""
        self._command_time = time_spec

    def clear_command_time(self, mboard: int = ALL) -> None:
        """Execute what follows at once."""
        self._command_time = None

    # Rates, frequencies, gains -------------------------------------------------------------------------------------

    def set_rx_rate(self, rate: float, chan: int = ALL) -> None:
        """Set the nearest rate that the master clock divides down to."""
        self._rate["rx"] = self._nearest(rate)

    def set_tx_rate(self, rate: float, chan: int = ALL) -> None:
        """Set the nearest rate that the master clock divides down to."""
        self._rate["tx"] = self._nearest(rate)

    def get_rx_rate(self, chan: int = 0) -> float:
        """Sample rate in hertz."""
        return self._rate["rx"]

    def get_tx_rate(self, chan: int = 0) -> float:
        """Sample rate in hertz."""
        return self._rate["tx"]

    def _nearest(self, rate: float) -> float:
        clock = self._device.master_clock_hz
        return float(clock / max(1, round(clock / Fraction(rate))))

    def get_rx_freq_range(self, chan: int = 0) -> MetaRange:
        """Frequencies in hertz that can be received at."""
        return MetaRange(*self._device.product.frequencies_hz)

    def get_tx_freq_range(self, chan: int = 0) -> MetaRange:
        """Frequencies in hertz that can be sent at."""
        return MetaRange(*self._device.product.frequencies_hz)

    def set_rx_freq(self, tune_request: TuneRequest, chan: int = 0) -> TuneResult:
        """Tune; what is out of range is clipped, as the library does."""
        return self._tune("rx", tune_request)

    def set_tx_freq(self, tune_request: TuneRequest, chan: int = 0) -> TuneResult:
        """Tune; what is out of range is clipped, as the library does."""
        return self._tune("tx", tune_request)

    def get_rx_freq(self, chan: int = 0) -> float:
        """Frequency that was reached, hertz."""
        return self._frequency["rx"]

    def get_tx_freq(self, chan: int = 0) -> float:
        """Frequency that was reached, hertz."""
        return self._frequency["tx"]

    def _tune(self, side: str, request: TuneRequest) -> TuneResult:
        low, high = self._device.product.frequencies_hz
        wanted = Fraction(min(max(request.target_freq, low), high))
        reached = float(applied_frequency_hz(self._device.product, wanted, self._device.master_clock_hz))
        self._frequency[side] = reached
        result = TuneResult()
        result.target_rf_freq = result.clipped_rf_freq = result.actual_rf_freq = request.rf_freq
        result.target_dsp_freq = result.actual_dsp_freq = request.rf_freq - reached
        return result

    def get_rx_gain_range(self, chan: int = 0) -> MetaRange:
        """Gains in decibels, in steps of a half."""
        return MetaRange(*self._device.product.rx_gains_db, 0.5)

    def get_tx_gain_range(self, chan: int = 0) -> MetaRange:
        """Gains in decibels, in steps of a quarter."""
        return MetaRange(*self._device.product.tx_gains_db, 0.25)

    def set_rx_gain(self, gain: float, chan: int = 0) -> None:
        """Set the nearest gain that there is."""
        self._per_channel["rx", "gain", chan] = _stepped(gain, self.get_rx_gain_range())

    def set_tx_gain(self, gain: float, chan: int = 0) -> None:
        """Set the nearest gain that there is."""
        self._per_channel["tx", "gain", chan] = _stepped(gain, self.get_tx_gain_range())

    def get_rx_gain(self, chan: int = 0) -> float:
        """Gain in decibels."""
        return float(self._per_channel.get(("rx", "gain", chan), 0.0))

    def get_tx_gain(self, chan: int = 0) -> float:
        """Gain in decibels."""
        return float(self._per_channel.get(("tx", "gain", chan), 0.0))

    def get_rx_antennas(self, chan: int = 0) -> list[str]:
        """Ports that a channel can receive at."""
        return list(self._device.product.rx_antennas)

    def get_tx_antennas(self, chan: int = 0) -> list[str]:
        """Ports that a channel can send from."""
        return list(self._device.product.tx_antennas)

    def set_rx_antenna(self, ant: str, chan: int = 0) -> None:
        """Choose one; a `RuntimeError` if it is none of them."""
        self._per_channel["rx", "antenna", chan] = _known(ant, self._device.product.rx_antennas)

    def set_tx_antenna(self, ant: str, chan: int = 0) -> None:
        """Choose one; a `RuntimeError` if it is none of them."""
        self._per_channel["tx", "antenna", chan] = _known(ant, self._device.product.tx_antennas)

    def set_rx_bandwidth(self, bandwidth: float, chan: int = 0) -> None:
        """Set the analogue filter, at most the front end's."""
        self._per_channel["rx", "bandwidth", chan] = min(bandwidth, 160e6)

    def set_tx_bandwidth(self, bandwidth: float, chan: int = 0) -> None:
        """Set the analogue filter, at most the front end's."""
        self._per_channel["tx", "bandwidth", chan] = min(bandwidth, 160e6)

    def get_rx_bandwidth(self, chan: int = 0) -> float:
        """Bandwidth of the analogue filter, hertz."""
        return float(self._per_channel.get(("rx", "bandwidth", chan), 56e6))

    # Streams -------------------------------------------------------------------------------------------------------

    def get_rx_stream(self, args: StreamArgs) -> RXStreamer:
        """Receiving stream, of the rate and frequency that were set before."""
        self._tuned("rx")
        self._device.settle()
        return RXStreamer(self._device, args)

    def get_tx_stream(self, args: StreamArgs) -> TXStreamer:
        """Transmitting stream, likewise."""
        self._tuned("tx")
        return TXStreamer(self._device, args)

    def _tuned(self, side: str) -> None:
        """The air was made for one rate and carrier: another would be silently wrong."""
        air = self._device.air
        for what, mine, its in (
            ("rate", self._rate[side], air.rate_hz),
            ("frequency", self._frequency[side], air.carrier_hz),
        ):
            if mine != float(its):
                raise RuntimeError(f"the air around this fake was made for a {what} of {float(its)!r} Hz, not {mine!r}")


def _stepped(value: float, bounds: MetaRange) -> float:
    step = bounds.step()
    return round(min(max(value, bounds.start()), bounds.stop()) / step) * step


def _known(antenna: str, antennas: tuple[str, ...]) -> str:
    if antenna not in antennas:
        raise RuntimeError(f"ValueError: Invalid antenna selection: {antenna}")
    return antenna
