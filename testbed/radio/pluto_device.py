"""One ADALM-Pluto through pyadi-iio: found, known for what it is, set up, read and written; let go of in order.

pyadi-iio's objects are used for what they do well. The samples are taken from libiio's buffer as they are, 16 bits, in
an eighth of the time; attributes that its properties hide, or set to something else, are written by name.
"""

from __future__ import annotations

import atexit
import contextlib
import re
import threading
import time
import weakref
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.radio.ad936x import exact_carrier_hz, exact_rate_hz
from testbed.radio.base import RadioError, RefusalError, Settings
from testbed.scenario import Pluto

__all__ = ["PlutoDevice", "SetUp"]

_STATUS_REGISTER = 0x8000_0088
_OVERFLOW = 1 << 2
_OLDEST_FIRMWARE = (0, 31)
_TDD_FIRMWARE = (0, 39)
_TWO_CHANNEL_FIRMWARE = (0, 39)
_SLACK_MS = 3_000
_LOOK_SHARE = 0.3
"""Of a buffer's duration, after the first one is full, at which the device is asked whether it lost samples."""
_TRACKING = ("quadrature_tracking_en", "rf_dc_offset_tracking_en", "bb_dc_offset_tracking_en")
_SETTLING_S = 0.1
"""For which tracking is left to find its corrections once all else is set."""
_FULL_SCALE = 2047
"""Of the DAC's 12 bits, which the interface takes left-aligned in 16."""
_OPEN: weakref.WeakSet[PlutoDevice] = weakref.WeakSet()


@dataclass(frozen=True)
class SetUp:
    """What was applied."""

    carrier_hz: Fraction
    rate_hz: Fraction
    details: dict[str, Any]


@atexit.register
def _close_all() -> None:
    # libiio crashes if a buffer outlives its context, and the interpreter's end lets go of them in any order.
    for device in list(_OPEN):
        device.close()


def _libraries() -> tuple[Any, Any]:
    """The modules ``adi`` and ``iio``; raises `RefusalError` that says how to get them."""
    try:
        import adi
        import iio
    except (ImportError, OSError) as error:
        raise RefusalError(
            f"a Pluto needs pyadi-iio and libiio, which are missing ({str(error).splitlines()[0]}): "
            "pip install 'isac-testbed[pluto]' and sudo apt-get install libiio0"
        ) from None
    return adi, iio


class PlutoDevice:
    """The Pluto that ``options`` name, with ``channels`` receivers.

    The time of a ``patient`` one, which is simulated, stands still while nobody reads.

    Raises
    ------
    RadioError
        If nothing answers there; a `RefusalError` if the library is missing, or what answers is not this Pluto.
    """

    def __init__(self, name: str, options: Pluto, channels: int, *, patient: bool = False) -> None:
        self._name, self._options, self._channels, self._patient = name, options, channels, patient
        self._adi, self._iio = _libraries()
        self.facts: dict[str, str] = {}
        self.uri = self._address()
        make = self._adi.Pluto if channels == 1 else self._adi.ad9361
        try:
            # One context and no other: whoever serves it need not tell two of ours apart.
            self._sdr: Any = make(uri=self.uri)
            context = self._sdr.ctx
        except Exception as error:  # pyadi raises nothing more particular, and hides the reason
            self._refuse_others(self._context())
            raise RadioError(f'the Pluto at "{self.uri}" of {name!r} does not open: {error}') from None
        self._refuse_others(context)
        self._busy = threading.Lock()
        """Held while libiio works on a buffer, which nobody may destroy meanwhile."""
        self._closed = False
        _OPEN.add(self)

    # What it is ----------------------------------------------------------------------------------------------------

    def _address(self) -> str:
        """URI as libiio takes it, found by serial number if that is all that is known."""
        options = self._options
        if options.uri:
            return str(options.uri)
        try:
            found = {uri: str(words) for uri, words in self._iio.scan_contexts().items()}
        except OSError as error:
            raise RefusalError(
                f"libiio finds no devices by itself ({error}): give node.pluto.uri of {self._name!r}"
            ) from None
        mine = [uri for uri, words in found.items() if f"serial={options.serial}" in words]
        if len(mine) != 1:
            there = ", ".join(found) or "none"
            raise RadioError(
                f'no Pluto of node.pluto.serial = "{options.serial}" of {self._name!r} is plugged in: there are {there}'
            )
        return str(mine[0])

    @property
    def serial(self) -> str:
        """Serial number."""
        return self.facts.get("hw_serial", "")

    @property
    def firmware(self) -> tuple[int, int]:
        """Major and minor number of the firmware's version; (0, 0) for one of other making."""
        found = re.match(r"v?(\d+)\.(\d+)", self.facts.get("fw_version", ""))
        return (int(found[1]), int(found[2])) if found else (0, 0)

    def _context(self) -> Any:
        """What answers at the address, whatever it is."""
        try:
            return self._iio.Context(self.uri)
        except OSError as error:
            where = f'node.pluto.uri = "{self.uri}" of {self._name!r}'
            raise RadioError(f"no Pluto answers at {where}: {error}") from None

    def _refuse_others(self, context: Any) -> None:
        self.facts = {key: str(value) for key, value in context.attrs.items()}
        devices = {device.name: device for device in context.devices}
        model, version = self.facts.get("hw_model", "unknown"), self.facts.get("fw_version", "unknown")
        where = f'node.pluto.uri = "{self.uri}" of {self._name!r}'
        if "pluto" not in model.lower() or not {"ad9361-phy", "cf-ad9361-lpc"} <= set(devices):
            raise RefusalError(f"{where} answers as {model!r}, which is no Pluto")
        if self._options.serial and self.serial != self._options.serial:
            raise RefusalError(
                f'{where} has the serial number {self.serial}, but node.pluto.serial is "{self._options.serial}"'
            )
        needed = _OLDEST_FIRMWARE
        if self._options.alignment == "tdd":
            needed = _TDD_FIRMWARE
        elif self._channels > 1:
            needed = _TWO_CHANNEL_FIRMWARE
        if (0, 0) < self.firmware < needed:
            raise RefusalError(
                f"{where} runs firmware {version}, but v{needed[0]}.{needed[1]} or later is needed: update it from "
                "https://github.com/analogdevicesinc/plutosdr-fw/releases"
            )
        have = sum(not channel.output and channel.scan_element for channel in devices["cf-ad9361-lpc"].channels) // 2
        if have < self._channels:
            raise RefusalError(
                f"{where} has {have} receiver, but {self._channels} antennas are wanted: "
                "tell it to be one of two (docs/how-to/pluto.md), or use antennas = 1"
            )
        if self._options.alignment == "tdd" and "iio-axi-tdd-0" not in devices:
            raise RefusalError(f'{where} has no TDD engine: use node.pluto.alignment = "preamble"')

    # Setting up ----------------------------------------------------------------------------------------------------

    def set_up(self, settings: Settings) -> SetUp:
        """Everything set as asked, read back.

        Raises
        ------
        RefusalError
            If the device cannot do what it is asked, with what it can.
        """
        with self._busy:
            self._destroy_buffers()
            self._refuse_beyond(settings)
            sdr, options = self._sdr, self._options
            carrier_hz, rate_hz = round(settings.carrier_hz), round(settings.rate_hz)
            sdr.loopback = 0
            # What is tuned with tracking off keeps the corrections of where it was before.
            self._track(on=True)
            self._set_rate(rate_hz)
            sdr.rx_lo = carrier_hz
            sdr.tx_lo = carrier_hz
            bandwidth_hz = options.bandwidth_at(rate_hz)
            sdr.rx_rf_bandwidth = bandwidth_hz
            sdr.tx_rf_bandwidth = bandwidth_hz
            for channel in range(self._channels):
                setattr(sdr, f"gain_control_mode_chan{channel}", "manual")
                setattr(sdr, f"rx_hardwaregain_chan{channel}", options.rx_gain_db)
                setattr(sdr, f"tx_hardwaregain_chan{channel}", -89.75 if channel else -options.tx_attenuation_db)
            if not options.tracking:
                # It would follow the signal, and with it what is to be measured.
                if not self._patient:
                    time.sleep(_SETTLING_S)
                self._track(on=False)
            sdr.rx_enabled_channels = list(range(self._channels))
            sdr.tx_enabled_channels = [0]
            sdr._rxadc.set_kernel_buffers_count(options.kernel_buffers)
            if options.alignment == "tdd":
                self._arm_engine()
            return self._applied(rate_hz, carrier_hz)

    def _track(self, *, on: bool) -> None:
        """Switch what corrects imbalance and offset by the signal."""
        for name in _TRACKING:
            self._sdr._ctrl.find_channel("voltage0").attrs[name].value = str(int(on))

    def _refuse_beyond(self, settings: Settings) -> None:
        options, phy = self._options, self._sdr._ctrl
        receiver, sender = phy.find_channel("voltage0"), phy.find_channel("voltage0", True)
        oscillators = phy.find_channel("altvoltage0", True), phy.find_channel("altvoltage1", True)
        asked = [
            ("waveform.sample_rate_hz", float(settings.rate_hz), receiver, "sampling_frequency"),
            *(("waveform.carrier_hz", float(settings.carrier_hz), one, "frequency") for one in oscillators),
            ("node.pluto.rx_gain_db", options.rx_gain_db, receiver, "hardwaregain"),
            ("node.pluto.tx_attenuation_db", -options.tx_attenuation_db, sender, "hardwaregain"),
        ]
        if options.bandwidth_hz is not None:
            asked += [
                ("node.pluto.bandwidth_hz", options.bandwidth_hz, one, "rf_bandwidth") for one in (receiver, sender)
            ]
        # The rate's lowest without a FIR filter that decimates; the driver loads one below.
        for key, value, channel, attribute in asked:
            low, high = _range_of(channel, f"{attribute}_available")
            if attribute == "sampling_frequency":
                low = min(low, 25e6 / 48 + 1)
            if not low <= value <= high:
                if key.endswith("tx_attenuation_db"):
                    low, high, value = -high, -low, -value
                raise RefusalError(f"{key} is {value:.10g}, but this Pluto does {low:.10g} to {high:.10g}")

    def _set_rate(self, rate_hz: int) -> None:
        """Rate, with the experiment's own FIR filters or those of the library."""
        sdr, options = self._sdr, self._options
        if not options.fir:
            sdr.sample_rate = rate_hz
            return
        path = Path(options.fir)
        try:
            path.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise RefusalError(f'node.pluto.fir of {self._name!r} is "{path}": {error}') from None
        try:
            sdr.filter = str(path)
            # Not by its property, which loads a filter of its own over this one.
            sdr._ctrl.find_channel("voltage0").attrs["sampling_frequency"].value = str(rate_hz)
        except OSError as error:
            raise RefusalError(f'the Pluto refuses node.pluto.fir = "{path}" at {rate_hz} Hz: {error}') from None

    def _applied(self, rate_hz: int, carrier_hz: int) -> SetUp:
        sdr, options, phy = self._sdr, self._options, self._sdr._ctrl
        believed_hz = int(phy.attrs["xo_correction"].value) if "xo_correction" in phy.attrs else 40_000_000
        carriers = [exact_carrier_hz(carrier_hz, int(told), believed_hz) for told in (sdr.rx_lo, sdr.tx_lo)]
        rates = [exact_rate_hz(phy.attrs[f"{path}_path_rates"].value, believed_hz) for path in ("rx", "tx")]
        if carriers[0] != carriers[1] or rates[0] != rates[1]:
            raise RefusalError(f"receiver and transmitter are set apart: {carriers[0]} and {carriers[1]} Hz")
        if abs(float(rates[0]) - rate_hz) > 100:
            raise RefusalError(f"a rate of {rate_hz} Hz was asked for, {float(rates[0]):.10g} applied")
        channels = range(self._channels)
        details = {
            "radio": "pluto",
            "model": self.facts.get("hw_model", ""),
            "serial": self.serial,
            "firmware": self.facts.get("fw_version", ""),
            "clock_source": "external" if options.alignment == "common-clock" or options.common_clock else "internal",
            "alignment": options.alignment,
            "xo_correction_hz": believed_hz,
            "rx_gain_db": [float(getattr(sdr, f"rx_hardwaregain_chan{channel}")) for channel in channels],
            "tx_attenuation_db": -float(sdr.tx_hardwaregain_chan0),
            "bandwidth_hz": float(sdr.rx_rf_bandwidth),
            "fir": options.fir,
            "kernel_buffers": options.kernel_buffers,
            "capture": "snapshots: one buffer a round, nothing between",
            **self.conditions(),
        }
        return SetUp(carriers[0], rates[0], details)

    # The TDD engine ------------------------------------------------------------------------------------------------

    def _engine(self) -> Any:
        return self._sdr.ctx.find_device("iio-axi-tdd-0")

    def _arm_engine(self) -> None:
        """Have both DMAs wait for one edge: the device's own trigger, or that on its pin."""
        engine = self._engine()
        engine.attrs["enable"].value = "0"
        pins = self._sdr.ctx.find_device("one-bit-adc-dac")
        for channel in pins.channels if pins is not None else ():
            if "label" in channel.attrs and channel.attrs["label"].value.lower() == "phaser_enable":
                channel.attrs["raw"].value = "1"
                break
        else:
            raise RefusalError(
                f"the Pluto of {self._name!r} does not lead its TDD engine to its DMAs: update its firmware"
            )
        external = self._options.edge == "external"
        for name, value in (
            ("startup_delay_raw", "0"),
            ("burst_count", "1"),
            ("sync_internal", "0"),
            ("sync_external", str(int(external))),
            ("sync_reset", "0"),
        ):
            engine.attrs[name].value = value
        for index in range(3):
            output = engine.find_channel(f"channel{index}", True)
            for name, value in (("polarity", "0"), ("on_raw", "0"), ("off_raw", "16"), ("enable", "1")):
                output.attrs[name].value = value

    def _await_edge(self, samples: int, rate_hz: Fraction) -> None:
        """One frame as long as the round, from the next trigger on."""
        engine = self._engine()
        engine.attrs["frame_length_ms"].value = f"{1e3 * float(samples / rate_hz) + 1.0:.3f}"
        engine.attrs["enable"].value = "1"

    # Samples -------------------------------------------------------------------------------------------------------

    def record(
        self, samples: int, burst: NDArray[np.complex64] | None, offset: int, rate_hz: Fraction
    ) -> tuple[NDArray[np.int16], bool]:
        """Samples of one new buffer, shape (antenna, sample, 2), and whether some were lost on the way.

        What is to be sent goes first, with the silence before it: it takes as long to travel as it likes, and starts
        when it is there; the receiver is started right after. With the TDD engine both wait for its edge.

        Raises
        ------
        OSError
            The context is dead, and a new device has to be made.
        """
        failure = ""
        with self._busy:
            if self._closed:
                raise RadioError(f"the Pluto of {self._name!r} is gone: closed")
            try:
                self._start(samples, burst, offset, rate_hz)
                data, lost = self._read(float(samples / rate_hz))
            except OSError as error:
                failure = str(error)
                # Frames that the traceback keeps alive would keep the buffer alive, beyond its context.
                error.__traceback__ = None
            self._destroy_buffers()
        if failure:
            raise OSError(failure)
        return np.ascontiguousarray(data.reshape(samples, self._channels, 2).transpose(1, 0, 2)), lost

    def _start(self, samples: int, burst: NDArray[np.complex64] | None, offset: int, rate_hz: Fraction) -> None:
        sdr, engine = self._sdr, self._options.alignment == "tdd"
        self._destroy_buffers()
        sdr.ctx.set_timeout(int(1e3 * samples / rate_hz) + _SLACK_MS)
        if engine:
            self._engine().attrs["enable"].value = "0"
            self._await_edge(samples, rate_hz)
        if burst is not None:
            self._send(burst, offset, samples if engine else 0)
        sdr._rxadc.reg_write(_STATUS_REGISTER, _OVERFLOW)
        sdr.rx_buffer_size = samples
        sdr._rx_init_channels()
        if engine and self._options.edge == "soft":
            self._engine().attrs["sync_soft"].value = "1"

    def _read(self, seconds: float) -> tuple[NDArray[np.int16], bool]:
        """The buffer's samples, and whether the device flagged a loss while the buffer was being filled.

        The flag rises as well once every buffer is full, which is while the first one still travels to the host. It is
        therefore looked at while the second one is being filled; looked at later it says nothing.
        """
        sdr, buffers = self._sdr, self._options.kernel_buffers
        began = time.monotonic()
        early: list[bool] = []

        def flagged() -> bool:
            flag = bool(sdr._rxadc.reg_read(_STATUS_REGISTER) & _OVERFLOW)
            return flag and (self._patient or time.monotonic() - began < buffers * seconds)

        def look() -> None:
            with contextlib.suppress(OSError):  # which whoever reads the samples is told as well
                early.append(flagged())

        watch = threading.Timer((1 + _LOOK_SHARE) * seconds, look)
        if buffers > 1 and not self._patient:
            watch.start()
        try:
            sdr._rxbuf.refill()
            lost = buffers > 1 and flagged()
        finally:
            watch.cancel()
            if watch.ident is not None:
                watch.join()
        return np.frombuffer(sdr._rxbuf.read(), np.int16), lost or any(early)

    def _send(self, burst: NDArray[np.complex64], offset: int, length: int) -> None:
        """Hand over silence and burst; ``length`` pads it, round and round, for the TDD engine."""
        sdr = self._sdr
        whole = np.zeros(max(offset + len(burst), length), np.complex128)
        # Twelve bits, left-aligned: the interface cuts off the lowest four.
        whole[offset : offset + len(burst)] = 16 * np.round(_FULL_SCALE * burst.astype(np.complex128))
        sdr.tx_cyclic_buffer = length > 0
        sdr.tx(whole)

    def _destroy_buffers(self) -> None:
        with contextlib.suppress(OSError):  # a dead context cannot be told
            self._sdr.rx_destroy_buffer()
        with contextlib.suppress(OSError):
            self._sdr.tx_destroy_buffer()

    def conditions(self) -> dict[str, float]:
        """Temperatures, degrees Celsius: of the transceiver (``temperature_c``) and the board's processor, if told."""
        found = {}
        for key, device, scaled in (("temperature_c", "ad9361-phy", False), ("board_temperature_c", "xadc", True)):
            # Not every firmware shows them, and what cannot be read is not missed.
            with contextlib.suppress(OSError, KeyError, ValueError, AttributeError):
                values = self._sdr.ctx.find_device(device).find_channel("temp0").attrs
                if scaled:
                    value = (float(values["raw"].value) + float(values["offset"].value)) * float(values["scale"].value)
                else:
                    value = float(values["input"].value)
                found[key] = round(1e-3 * value, 1)
        return found

    def close(self) -> None:
        """Wake whoever waits, destroy the buffers, then the context; never raises, may be called twice."""
        if self._closed:
            return
        self._closed = True
        _OPEN.discard(self)
        if self._busy.locked():
            with contextlib.suppress(OSError, AttributeError):  # it may be gone by now
                self._sdr._rxbuf.cancel()
        # A call that hangs in the library keeps its buffer: to destroy that would crash.
        if self._busy.acquire(timeout=2.0):
            try:
                self._destroy_buffers()
                self._sdr._ctrl = self._sdr._rxadc = self._sdr._txdac = None
                self._sdr._ctx = None
            finally:
                self._busy.release()


def _range_of(channel: Any, attribute: str) -> tuple[float, float]:
    """Lowest and highest value of an attribute, from what its device says: [lowest step highest]."""
    if channel is None or attribute not in channel.attrs:
        return float("-inf"), float("inf")
    values = [float(word) for word in re.findall(r"-?\d+(?:\.\d+)?", channel.attrs[attribute].value)]
    return (values[0], values[-1]) if values else (float("-inf"), float("inf"))
