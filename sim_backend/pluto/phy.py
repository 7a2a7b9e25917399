"""The transceiver: the device ``ad9361-phy`` with its limits, steps and read-backs."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from functools import partial
from typing import Any

from sim_backend.pluto.attributes import Attribute, Channel, Device, RefusedError, fixed, number, switch
from sim_backend.pluto.engine import Engine
from sim_backend.pluto.gains import AGC_MODES, attenuation_db, receive_range_db
from sim_backend.pluto.part import Part
from sim_backend.pluto.rates import Rates
from sim_backend.synthesizer import REFERENCE_HZ, applied_carrier_hz

__all__ = ["Transceiver"]

ENSM_MODES = ("sleep", "wait", "alert", "fdd", "pinctrl", "pinctrl_fdd_indep")
CALIBRATIONS = ("auto", "manual", "manual_tx_quad", "tx_quad", "rf_dc_offs", "rssi_gain_step")
RECEIVE_PORTS = (
    "A_BALANCED", "B_BALANCED", "C_BALANCED", "A_N", "A_P", "B_N", "B_P", "C_N", "C_P", "TX_MONITOR1", "TX_MONITOR2",
    "TX_MONITOR1_2",
)  # fmt: skip
_XO_SPAN_HZ = 8_000
_STALE_FACTOR = 8.0
"""Imbalance and offset beyond their calibrated ones, after a retune while tracking is off (-34 dB of image)."""
_FULL_REGISTER = 0xFF
_PAGE = 1000
"""Characters."""
_CHIP_ID = {0x037: 0x0A}


class Transceiver:
    """State of the transceiver beyond what the samples depend on, and the device that shows it."""

    def __init__(self, part: Part, engine: Engine) -> None:
        self._part, self._engine = part, engine
        self._rates = Rates(part, engine, self._awake)
        self._carriers = {"receive": 2_400_000_000, "transmit": 2_450_000_000}
        self._ensm = "fdd"
        self._calibration = "auto"
        self._tracking = {"quadrature": True, "rf_dc_offset": True, "bb_dc_offset": True}
        self._powered_down = {"receive": False, "transmit": False}
        self._receive_port = "A_BALANCED"
        self._transmit_port = "A"
        self._register = self._page = 0
        self._registers = dict(_CHIP_ID)
        self._debug = {"bist_prbs": "0", "bist_tone": "0", "bist_timing_analysis": "0", "gpo_set": "0"}

    @property
    def rate_text(self) -> str:
        """Sample rate as the driver prints it, rounded down."""
        return self._rates.text

    def _awake(self) -> None:
        if self._ensm == "sleep":
            raise RefusedError(errno.EINVAL)

    # -- synthesizers -----------------------------------------------------------------------------------------

    def _tune(self, path: str) -> Callable[[str], None]:
        def write(text: str) -> None:
            self._awake()
            wanted = int(number(text))
            low, high = self._part.receive_hz if path == "receive" else self._part.transmit_hz
            if not low <= wanted <= high:
                raise RefusedError(errno.EINVAL)
            self._carriers[path] = wanted
            self._retune(path)

        return write

    def _retune(self, path: str) -> None:
        """The synthesizer locks anew, at a phase of its own; the frequency loses its last bit in the clock tree."""
        wanted = self._carriers[path] & ~1
        applied = applied_carrier_hz(wanted, believed_hz=self._rates.believed_hz, transmit=path == "transmit")
        settings = self._engine.settings
        changes: dict[str, object] = {f"{path}_hz": applied}
        changes[f"{path}_tune"] = (settings.receive_tune if path == "receive" else settings.transmit_tune) + 1
        if path == "receive":
            if not all(self._tracking.values()):
                changes["stale_factor"] = _STALE_FACTOR
            low, high = receive_range_db(float(applied))
            changes["receive_gain_db"] = tuple(min(max(gain, low), high) for gain in settings.receive_gain_db)
        self._engine.change_settings(**changes)

    def _read_carrier(self, path: str) -> Callable[[], str]:
        def read() -> str:
            settings = self._engine.settings
            applied = settings.receive_hz if path == "receive" else settings.transmit_hz
            return str(int(applied * self._rates.seen) & ~1)

        return read

    def _power_down(self, path: str) -> Callable[[str], None]:
        def write(text: str) -> None:
            self._powered_down[path] = switch(text)
            self._apply_states()

        return write

    def _write_xo(self, text: str) -> None:
        value = int(number(text))
        if abs(value - REFERENCE_HZ) > _XO_SPAN_HZ:
            raise RefusedError(errno.EINVAL)
        self._rates.believe(value)
        for path in ("receive", "transmit"):
            self._retune(path)

    # -- states, tracking, calibration ------------------------------------------------------------------------

    def _write_ensm(self, text: str) -> None:
        word = text.strip()
        if word not in ENSM_MODES:
            raise RefusedError(errno.EINVAL)
        self._ensm = word
        self._apply_states()

    def _apply_states(self) -> None:
        running = self._ensm in ("fdd", "pinctrl", "pinctrl_fdd_indep")
        self._engine.change_settings(
            listening=running and not self._powered_down["receive"],
            radiating=running and not self._powered_down["transmit"],
        )

    def _read_tracking(self, name: str) -> str:
        return str(int(self._tracking[name]))

    def _track(self, name: str) -> Callable[[str], None]:
        def write(text: str) -> None:
            self._tracking[name] = switch(text)
            if all(self._tracking.values()):
                self._engine.change_settings(stale_factor=1.0)

        return write

    def _write_calibration(self, text: str) -> None:
        word = text.split()[0] if text.split() else ""
        if word not in CALIBRATIONS:
            raise RefusedError(errno.EINVAL)
        if word in ("auto", "manual"):
            self._calibration = word
        elif word == "rf_dc_offs":
            self._engine.change_settings(stale_factor=1.0)

    # -- gains ------------------------------------------------------------------------------------------------

    def _write_receive_gain(self, channel: int) -> Callable[[str], None]:
        def write(text: str) -> None:
            settings = self._engine.settings
            gain = int(number(text))
            if settings.agc[channel] != "manual":
                return  # the driver says so in the kernel's log at most
            low, high = receive_range_db(float(settings.receive_hz))
            if not low <= gain <= high:
                raise RefusedError(errno.EINVAL)
            self._engine.change_settings(receive_gain_db=_with(settings.receive_gain_db, channel, float(gain)))

        return write

    def _read_receive_gain(self, channel: int) -> Callable[[], str]:
        def read() -> str:
            self._engine.settle()
            return f"{self._engine.settings.receive_gain_db[channel]:.6f} dB"

        return read

    def _write_transmit_gain(self, channel: int) -> Callable[[str], None]:
        def write(text: str) -> None:
            gain = number(text)
            if not -89.75 <= gain <= 0.0:
                raise RefusedError(errno.EINVAL)
            settings = self._engine.settings
            self._engine.change_settings(
                transmit_gain_db=_with(settings.transmit_gain_db, channel, attenuation_db(gain))
            )

        return write

    def _write_mode(self, channel: int) -> Callable[[str], None]:
        def write(text: str) -> None:
            word = text.strip()
            if word not in AGC_MODES:
                raise RefusedError(errno.EINVAL)
            self._engine.settle()
            settings = self._engine.settings
            self._engine.change_settings(agc=tuple(_with(settings.agc, channel, word)))

        return write

    def _read_rssi(self, channel: int) -> Callable[[], str]:
        def read() -> str:
            level = -self._engine.power_dbm(channel)
            return f"{min(max(round(4 * level) / 4, 0.0), 127.75):.2f} dB"

        return read

    # -- debug ------------------------------------------------------------------------------------------------

    def _write_loopback(self, text: str) -> None:
        value = int(number(text))
        if value not in (0, 1, 2):
            raise RefusedError(errno.EINVAL)
        self._engine.change_settings(loopback=value)

    def _turn_page(self, text: str) -> None:
        page = number(text)
        if not 0 <= page < 1e6:
            raise RefusedError(errno.EINVAL)
        self._page = int(page)

    def _read_truth(self) -> str:
        """Page of the JSON text, since a client takes a kilobyte of an attribute; empty beyond the last."""
        text = json.dumps(self._engine.medium.truth())
        return text[self._page * _PAGE : (self._page + 1) * _PAGE]

    def _access_register(self, text: str) -> None:
        words = text.split()
        try:
            values = [int(word, 0) for word in words]
        except ValueError:
            raise RefusedError(errno.EINVAL) from None
        if len(values) not in (1, 2) or not all(0 <= value < 2**32 for value in values):
            raise RefusedError(errno.EINVAL)
        self._register = values[0]
        if len(values) == 2 and values[0] not in _CHIP_ID:
            if values[0] > 0x3FF:
                raise RefusedError(errno.EINVAL)
            self._registers[values[0]] = values[1] & _FULL_REGISTER

    # -- the device -------------------------------------------------------------------------------------------

    def device(self, identity: str) -> Device:
        """The device ``ad9361-phy``."""
        channels = [self._oscillator(1, "TX_LO", "transmit"), self._oscillator(0, "RX_LO", "receive")]
        for index in range(self._part.channels):
            channels += [self._receiver(index), self._transmitter(index)]
        channels.append(Channel("temp0", False, [fixed("input", "38500", "in_temp0_input")]))
        channels.append(Channel("out", False, [self._rates.both_filters()]))
        return Device(identity, "ad9361-phy", channels, self._attributes(), self._debug_attributes())

    def _oscillator(self, index: int, name: str, path: str) -> Channel:
        stem = f"out_altvoltage{index}_{name}_"
        low, high = self._part.receive_hz if path == "receive" else self._part.transmit_hz
        attributes = [
            fixed("external", "0", f"{stem}external"),
            Attribute("frequency", f"{stem}frequency", self._read_carrier(path), self._tune(path)),
            fixed("frequency_available", f"[{low} 1 {high}]", f"{stem}frequency_available"),
            Attribute(
                "powerdown", f"{stem}powerdown", lambda: str(int(self._powered_down[path])), self._power_down(path)
            ),
        ]
        return Channel(f"altvoltage{index}", True, attributes, name)

    def _receiver(self, index: int) -> Channel:
        stem = f"in_voltage{index}_"

        def available() -> str:
            low, high = receive_range_db(float(self._engine.settings.receive_hz))
            return f"[{low} 1 {high}]"

        def write_port(text: str) -> None:
            if text.strip() not in RECEIVE_PORTS:
                raise RefusedError(errno.EINVAL)
            self._receive_port = text.strip()

        attributes = [
            Attribute(
                f"{name}_tracking_en", f"in_voltage_{name}_tracking_en",
                partial(self._read_tracking, name), self._track(name),
            )
            for name in self._tracking
        ]  # fmt: skip
        attributes += [
            Attribute(
                "gain_control_mode", f"{stem}gain_control_mode", lambda: self._engine.settings.agc[index],
                self._write_mode(index),
            ),
            fixed("gain_control_mode_available", " ".join(AGC_MODES), "in_voltage_gain_control_mode_available"),
            Attribute(
                "hardwaregain", f"{stem}hardwaregain", self._read_receive_gain(index), self._write_receive_gain(index)
            ),
            Attribute("hardwaregain_available", f"{stem}hardwaregain_available", available),
            Attribute("rf_port_select", f"{stem}rf_port_select", lambda: self._receive_port, write_port),
            fixed("rf_port_select_available", " ".join(RECEIVE_PORTS), "in_voltage_rf_port_select_available"),
            Attribute("rssi", f"{stem}rssi", self._read_rssi(index)),
            *self._rates.channel_attributes("in", "receive"),
        ]  # fmt: skip
        return Channel(f"voltage{index}", False, attributes)

    def _transmitter(self, index: int) -> Channel:
        stem = f"out_voltage{index}_"

        def write_port(text: str) -> None:
            if text.strip() not in ("A", "B"):
                raise RefusedError(errno.EINVAL)
            self._transmit_port = text.strip()

        attributes = [
            Attribute(
                "hardwaregain", f"{stem}hardwaregain",
                lambda: f"{self._engine.settings.transmit_gain_db[index]:.6f} dB", self._write_transmit_gain(index),
            ),
            fixed(
                "hardwaregain_available", "[-89.750000 0.250000 0.000000]", f"{stem}hardwaregain_available"
            ),
            Attribute("rf_port_select", f"{stem}rf_port_select", lambda: self._transmit_port, write_port),
            fixed("rf_port_select_available", "A B", "out_voltage_rf_port_select_available"),
            fixed("rssi", "0.00 dB", f"{stem}rssi"),
            *self._rates.channel_attributes("out", "transmit"),
        ]  # fmt: skip
        return Channel(f"voltage{index}", True, attributes)

    def _attributes(self) -> list[Attribute]:
        def absent() -> str:
            raise RefusedError(errno.ENODEV)

        def no_oscillator(text: str) -> None:
            raise RefusedError(errno.ENODEV)

        low, high = REFERENCE_HZ - _XO_SPAN_HZ, REFERENCE_HZ + _XO_SPAN_HZ
        return [
            Attribute("calib_mode", "calib_mode", lambda: self._calibration, self._write_calibration),
            fixed("calib_mode_available", " ".join(CALIBRATIONS)),
            Attribute("dcxo_tune_coarse", "dcxo_tune_coarse", absent, no_oscillator),
            Attribute("dcxo_tune_fine", "dcxo_tune_fine", absent, no_oscillator),
            Attribute("ensm_mode", "ensm_mode", lambda: self._ensm, self._write_ensm),
            fixed("ensm_mode_available", " ".join(ENSM_MODES)),
            self._rates.fir_config(),
            self._rates.path_rates(transmit=False),
            self._rates.governor(),
            fixed("trx_rate_governor_available", "nominal highest_osr"),
            self._rates.path_rates(transmit=True),
            Attribute("xo_correction", "xo_correction", lambda: str(self._rates.believed_hz), self._write_xo),
            fixed("xo_correction_available", f"[{low} 1 {high}]"),
        ]  # fmt: skip

    def _debug_attributes(self) -> list[Attribute]:
        def kept(name: str) -> Attribute:
            return Attribute(
                name, name, lambda: self._debug[name], lambda text: self._debug.__setitem__(name, text.strip())
            )

        def initialize(text: str) -> None:
            if switch(text):
                self._engine.change_settings(stale_factor=1.0)

        return [
            *(kept(name) for name in self._debug),
            Attribute("loopback", "loopback", lambda: str(self._engine.settings.loopback), self._write_loopback),
            Attribute("initialize", "initialize", lambda: "0", initialize),
            # The one thing that no real device has: what its clock really did, for whoever judges an estimate.
            Attribute("isac,truth", "isac,truth", self._read_truth, self._turn_page),
            fixed("adi,2rx-2tx-mode-enable", str(int(self._part.channels == 2))),
            fixed("adi,frequency-division-duplex-mode-enable", "1"),
            fixed("adi,xo-disable-use-ext-refclk-enable", "0"),
            Attribute(
                "direct_reg_access", "direct_reg_access", lambda: f"0x{self._registers.get(self._register, 0):X}",
                self._access_register,
            ),
        ]  # fmt: skip


def _with(values: tuple[Any, ...], index: int, value: Any) -> tuple[Any, ...]:
    return (*values[:index], value, *values[index + 1 :])
