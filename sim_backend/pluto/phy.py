"""The transceiver: the device ``ad9361-phy`` with its limits, steps and read-backs."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

from sim_backend.pluto.attributes import Attribute, Channel, Device, RefusedError, fixed, number, switch
from sim_backend.pluto.chain import ClockChain, clock_chain, rate_range_hz
from sim_backend.pluto.engine import Engine
from sim_backend.pluto.filters import PathFilter
from sim_backend.pluto.fir import FirFilter, parse_fir
from sim_backend.pluto.gains import AGC_MODES, attenuation_db, receive_range_db
from sim_backend.pluto.settings import Settings
from sim_backend.synthesizer import REFERENCE_HZ, applied_carrier_hz

__all__ = ["Part", "Transceiver", "initial_settings"]

ENSM_MODES = ("sleep", "wait", "alert", "fdd", "pinctrl", "pinctrl_fdd_indep")
CALIBRATIONS = ("auto", "manual", "manual_tx_quad", "tx_quad", "rf_dc_offs", "rssi_gain_step")
RECEIVE_PORTS = (
    "A_BALANCED", "B_BALANCED", "C_BALANCED", "A_N", "A_P", "B_N", "B_P", "C_N", "C_P", "TX_MONITOR1", "TX_MONITOR2",
    "TX_MONITOR1_2",
)  # fmt: skip
_XO_SPAN_HZ = 8_000
_STALE_FACTOR = 8.0
"""Imbalance and offset beyond their calibrated ones, after a retune while tracking is off (-34 dB of image)."""
_BANDWIDTH_HZ = 18_000_000
"""RF bandwidth when the firmware is up."""
_FULL_REGISTER = 0xFF
_PAGE = 1000
"""Characters."""
_CHIP_ID = {0x037: 0x0A}


class Part:
    """What the chip can do: the AD9363A of the stock Pluto, or the AD9361 that it can be told to be."""

    def __init__(self, channels: int) -> None:
        self.channels = channels
        extended = channels == 2
        self.name = "ad9361" if extended else "ad9363a"
        self.receive_hz = (70_000_000, 6_000_000_000) if extended else (325_000_000, 3_800_000_000)
        self.transmit_hz = (46_875_001, 6_000_000_000) if extended else (325_000_000, 3_800_000_000)
        self.receive_bandwidth_hz = (200_000, 56_000_000 if extended else 20_000_000)
        self.transmit_bandwidth_hz = (200_000, 40_000_000 if extended else 20_000_000)


def initial_settings(part: Part, name: str) -> Settings:
    """As the firmware leaves the transceiver: 30.72 MS/s, or half of it with two channels, at 2.4 and 2.45 GHz."""
    chain = clock_chain(30_720_000 // part.channels)
    receive, transmit = _path_filters(chain, {"receive": _BANDWIDTH_HZ, "transmit": _BANDWIDTH_HZ}, None, {})
    return Settings(
        rate_hz=chain.rate_hz,
        receive_hz=applied_carrier_hz(2_400_000_000),
        transmit_hz=applied_carrier_hz(2_450_000_000),
        receive_gain_db=(71.0,) * part.channels,
        transmit_gain_db=(-10.0,) * part.channels,
        agc=("slow_attack",) * part.channels,
        receive_path=receive,
        transmit_path=transmit,
        name=name,
    )


def _path_filters(
    chain: ClockChain, bandwidth_hz: dict[str, int], fir: FirFilter | None, on: dict[str, bool]
) -> tuple[PathFilter, PathFilter]:
    """Filters of reception and transmission; the FIR filter where it is loaded and ``on``."""
    made = []
    for path, divisions in (("receive", chain.receive), ("transmit", chain.transmit)):
        taps: tuple[int, ...] = ()
        if fir is not None and on.get(path):
            taps = fir.receive if path == "receive" else fir.transmit
        made.append(PathFilter(path == "transmit", bandwidth_hz[path], divisions[:3], divisions[3], taps))
    return made[0], made[1]


class Transceiver:
    """State of the transceiver beyond what the samples depend on, and the device that shows it."""

    def __init__(self, part: Part, engine: Engine) -> None:
        self._part, self._engine = part, engine
        self._believed_hz = REFERENCE_HZ
        self._asked_hz = 30_720_000 // part.channels
        self._carriers = {"receive": 2_400_000_000, "transmit": 2_450_000_000}
        self._fir: FirFilter | None = None
        self._fir_on = {"receive": False, "transmit": False}
        self._highest = False
        self._ensm = "fdd"
        self._calibration = "auto"
        self._bandwidth = {"receive": _BANDWIDTH_HZ, "transmit": _BANDWIDTH_HZ}
        self._tracking = {"quadrature": True, "rf_dc_offset": True, "bb_dc_offset": True}
        self._powered_down = {"receive": False, "transmit": False}
        self._receive_port = "A_BALANCED"
        self._transmit_port = "A"
        self._register = self._page = 0
        self._registers = dict(_CHIP_ID)
        self._debug = {"bist_prbs": "0", "bist_tone": "0", "bist_timing_analysis": "0", "gpo_set": "0"}
        self._chain = self._plan(self._asked_hz)

    # -- rates ------------------------------------------------------------------------------------------------

    def _plan(self, rate_hz: int, *, highest: bool | None = None) -> ClockChain:
        fir, on = self._fir, self._fir_on
        try:
            return clock_chain(
                rate_hz,
                receive_fir=fir.decimation if fir and on["receive"] else 1,
                transmit_fir=fir.interpolation if fir and on["transmit"] else 1,
                highest=self._highest if highest is None else highest,
                reference_hz=self._believed_hz,
            )
        except ValueError:
            raise RefusedError(errno.EINVAL) from None

    def _rates_hz(self) -> tuple[int, int]:
        factors = [
            factor
            for on, factor in (
                (self._fir_on["receive"], self._fir.decimation if self._fir else 1),
                (self._fir_on["transmit"], self._fir.interpolation if self._fir else 1),
            )
            if on
        ]
        return rate_range_hz(min(factors) if len(factors) == 2 else 1, self._part.channels)

    def _apply_chain(self, chain: ClockChain) -> None:
        self._chain = chain
        self._apply_filters()

    def _apply_filters(self) -> None:
        receive, transmit = _path_filters(self._chain, self._bandwidth, self._fir, self._fir_on)
        self._engine.change_settings(rate_hz=self._chain.rate_hz, receive_path=receive, transmit_path=transmit)

    def _write_rate(self, text: str) -> None:
        self._awake()
        rate = int(number(text))
        low, high = self._rates_hz()
        if not low <= rate <= high:
            raise RefusedError(errno.EINVAL)
        chain = self._plan(rate)
        self._asked_hz = rate
        self._apply_chain(chain)

    @property
    def rate_text(self) -> str:
        """Sample rate as the driver prints it, rounded down."""
        return str(int(self._chain.rate_hz * self._seen))

    @property
    def _seen(self) -> Fraction:
        """What the driver, who believes in its reference, takes a frequency for."""
        return Fraction(self._believed_hz, REFERENCE_HZ)

    def _awake(self) -> None:
        if self._ensm == "sleep":
            raise RefusedError(errno.EINVAL)

    # -- FIR filters ------------------------------------------------------------------------------------------

    def _load_fir(self, text: str) -> None:
        if any(self._fir_on.values()):
            raise RefusedError(errno.EBUSY)
        try:
            self._fir = parse_fir(text)
        except ValueError:
            raise RefusedError(errno.EINVAL) from None

    def _enable_fir(self, *paths: str) -> Callable[[str], None]:
        def write(text: str) -> None:
            on = switch(text)
            if all(self._fir_on[path] == on for path in paths):
                return
            if on and self._fir is None:
                raise RefusedError(errno.EINVAL)
            before = dict(self._fir_on)
            self._fir_on.update(dict.fromkeys(paths, on))
            try:
                low, high = self._rates_hz()
                if not low <= self._asked_hz <= high:
                    raise RefusedError(errno.EINVAL)
                chain = self._plan(self._asked_hz)
                receive, transmit = chain.taps()
                if self._fir is not None and (
                    (self._fir_on["receive"] and len(self._fir.receive) > receive)
                    or (self._fir_on["transmit"] and len(self._fir.transmit) > transmit)
                ):
                    raise RefusedError(errno.EINVAL)
            except RefusedError:
                self._fir_on = before
                raise
            self._apply_chain(chain)

        return write

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
        applied = applied_carrier_hz(wanted, believed_hz=self._believed_hz, transmit=path == "transmit")
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
            return str(int(applied * self._seen) & ~1)

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
        self._believed_hz = value
        self._apply_chain(self._plan(self._asked_hz))
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

    def _write_governor(self, text: str) -> None:
        word = text.strip()
        if word not in ("nominal", "highest_osr"):
            raise RefusedError(errno.EINVAL)
        chain = self._plan(self._asked_hz, highest=word == "highest_osr")
        self._highest = word == "highest_osr"
        self._apply_chain(chain)

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
        both = Attribute(
            "voltage_filter_fir_en", "in_out_voltage_filter_fir_en",
            lambda: str(int(all(self._fir_on.values()))), self._enable_fir("receive", "transmit"),
        )  # fmt: skip
        channels.append(Channel("out", False, [both]))
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

    def _rate_attributes(self, direction: str, path: str) -> list[Attribute]:
        low, high = self._part.receive_bandwidth_hz if path == "receive" else self._part.transmit_bandwidth_hz

        def write_bandwidth(text: str) -> None:
            self._awake()
            self._bandwidth[path] = min(max(int(number(text)), low), high)
            self._apply_filters()

        stem = f"{direction}_voltage_"
        return [
            Attribute(
                "filter_fir_en", f"{stem}filter_fir_en", lambda: str(int(self._fir_on[path])), self._enable_fir(path)
            ),
            Attribute("rf_bandwidth", f"{stem}rf_bandwidth", lambda: str(self._bandwidth[path]), write_bandwidth),
            fixed("rf_bandwidth_available", f"[{low} 1 {high}]", f"{stem}rf_bandwidth_available"),
            Attribute("sampling_frequency", f"{stem}sampling_frequency", lambda: self.rate_text, self._write_rate),
            Attribute(
                "sampling_frequency_available", f"{stem}sampling_frequency_available",
                lambda: "[{} 1 {}]".format(*self._rates_hz()),
            ),
        ]  # fmt: skip

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
            *self._rate_attributes("in", "receive"),
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
            *self._rate_attributes("out", "transmit"),
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
            Attribute("filter_fir_config", "filter_fir_config", self._read_fir, self._load_fir),
            Attribute("rx_path_rates", "rx_path_rates", lambda: self._chain.words(transmit=False, scale=self._seen)),
            Attribute(
                "trx_rate_governor", "trx_rate_governor",
                lambda: "highest_osr" if self._highest else "nominal", self._write_governor,
            ),
            fixed("trx_rate_governor_available", "nominal highest_osr"),
            Attribute("tx_path_rates", "tx_path_rates", lambda: self._chain.words(transmit=True, scale=self._seen)),
            Attribute("xo_correction", "xo_correction", lambda: str(self._believed_hz), self._write_xo),
            fixed("xo_correction_available", f"[{low} 1 {high}]"),
        ]  # fmt: skip

    def _read_fir(self) -> str:
        return str(self._fir) if self._fir else "FIR Rx: 0,0 Tx: 0,0"

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
