"""The transceiver's rates: clock chain, FIR filters and RF bandwidth, with the attributes that show them."""

from __future__ import annotations

import errno
from collections.abc import Callable
from fractions import Fraction

from sim_backend.pluto.attributes import Attribute, RefusedError, fixed, number, switch
from sim_backend.pluto.chain import ClockChain, clock_chain, rate_range_hz
from sim_backend.pluto.engine import Engine
from sim_backend.pluto.fir import FirFilter, parse_fir
from sim_backend.pluto.part import BANDWIDTH_HZ, Part, path_filters
from sim_backend.synthesizer import REFERENCE_HZ

__all__ = ["Rates"]


class Rates:
    """State of the clock chain and of the filters on it.

    Parameters
    ----------
    part : Part
    engine : Engine
        Told of every change.
    awake : callable
        Raises `RefusedError` while the transceiver sleeps, which takes no rate then.
    """

    def __init__(self, part: Part, engine: Engine, awake: Callable[[], None]) -> None:
        self._part, self._engine, self._awake = part, engine, awake
        self.believed_hz = REFERENCE_HZ
        """What the driver takes its reference for, in hertz."""
        self._asked_hz = part.initial_rate_hz
        self._fir: FirFilter | None = None
        self._fir_on = {"receive": False, "transmit": False}
        self._highest = False
        self._bandwidth = {"receive": BANDWIDTH_HZ, "transmit": BANDWIDTH_HZ}
        self._chain = self._plan(self._asked_hz)

    @property
    def text(self) -> str:
        """Sample rate in hertz as the driver prints it, rounded down."""
        return str(int(self._chain.rate_hz * self.seen))

    @property
    def seen(self) -> Fraction:
        """What the driver, who believes in its reference, takes a frequency for: its factor."""
        return Fraction(self.believed_hz, REFERENCE_HZ)

    def believe(self, reference_hz: int) -> None:
        """Plan the clocks anew for another reference."""
        self.believed_hz = reference_hz
        self._apply_chain(self._plan(self._asked_hz))

    # -- the clock chain --------------------------------------------------------------------------------------

    def _plan(self, rate_hz: int, *, highest: bool | None = None) -> ClockChain:
        fir, on = self._fir, self._fir_on
        try:
            return clock_chain(
                rate_hz,
                receive_fir=fir.decimation if fir and on["receive"] else 1,
                transmit_fir=fir.interpolation if fir and on["transmit"] else 1,
                highest=self._highest if highest is None else highest,
                reference_hz=self.believed_hz,
            )
        except ValueError:
            raise RefusedError(errno.EINVAL) from None

    def _range_hz(self) -> tuple[int, int]:
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
        receive, transmit = path_filters(self._chain, self._bandwidth, self._fir, self._fir_on, self._part.corners)
        self._engine.change_settings(rate_hz=self._chain.rate_hz, receive_path=receive, transmit_path=transmit)

    def _write_rate(self, text: str) -> None:
        self._awake()
        rate = int(number(text))
        low, high = self._range_hz()
        if not low <= rate <= high:
            raise RefusedError(errno.EINVAL)
        chain = self._plan(rate)
        self._asked_hz = rate
        self._apply_chain(chain)

    def _write_governor(self, text: str) -> None:
        word = text.strip()
        if word not in ("nominal", "highest_osr"):
            raise RefusedError(errno.EINVAL)
        chain = self._plan(self._asked_hz, highest=word == "highest_osr")
        self._highest = word == "highest_osr"
        self._apply_chain(chain)

    # -- FIR filters ------------------------------------------------------------------------------------------

    def _load_fir(self, text: str) -> None:
        if any(self._fir_on.values()):
            raise RefusedError(errno.EBUSY)
        try:
            self._fir = parse_fir(text)
        except ValueError:
            raise RefusedError(errno.EINVAL) from None

    def _read_fir(self) -> str:
        return str(self._fir) if self._fir else "FIR Rx: 0,0 Tx: 0,0"

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
                chain = self._plan_with_fir()
            except RefusedError:
                self._fir_on = before
                raise
            self._apply_chain(chain)

        return write

    def _plan_with_fir(self) -> ClockChain:
        """Clocks of the rate asked for with the filters that are on; refused where they leave too little time."""
        low, high = self._range_hz()
        if not low <= self._asked_hz <= high:
            raise RefusedError(errno.EINVAL)
        chain = self._plan(self._asked_hz)
        receive, transmit = chain.taps()
        if self._fir is not None and (
            (self._fir_on["receive"] and len(self._fir.receive) > receive)
            or (self._fir_on["transmit"] and len(self._fir.transmit) > transmit)
        ):
            raise RefusedError(errno.EINVAL)
        return chain

    # -- attributes -------------------------------------------------------------------------------------------

    def channel_attributes(self, direction: str, path: str) -> list[Attribute]:
        """Attributes of a channel of the ``path`` receive or transmit, whose files begin with ``direction``, in or
        out."""
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
            Attribute("sampling_frequency", f"{stem}sampling_frequency", lambda: self.text, self._write_rate),
            Attribute(
                "sampling_frequency_available", f"{stem}sampling_frequency_available",
                lambda: "[{} 1 {}]".format(*self._range_hz()),
            ),
        ]  # fmt: skip

    def both_filters(self) -> Attribute:
        """Attribute that switches the FIR filters of both paths."""
        return Attribute(
            "voltage_filter_fir_en", "in_out_voltage_filter_fir_en",
            lambda: str(int(all(self._fir_on.values()))), self._enable_fir("receive", "transmit"),
        )  # fmt: skip

    def fir_config(self) -> Attribute:
        """Attribute that takes a file of FIR filters."""
        return Attribute("filter_fir_config", "filter_fir_config", self._read_fir, self._load_fir)

    def path_rates(self, *, transmit: bool) -> Attribute:
        """Attribute that tells every clock of a path."""
        name = "tx_path_rates" if transmit else "rx_path_rates"
        return Attribute(name, name, lambda: self._chain.words(transmit=transmit, scale=self.seen))

    def governor(self) -> Attribute:
        """Attribute that chooses among the chains of one rate."""
        return Attribute(
            "trx_rate_governor", "trx_rate_governor",
            lambda: "highest_osr" if self._highest else "nominal", self._write_governor,
        )  # fmt: skip
