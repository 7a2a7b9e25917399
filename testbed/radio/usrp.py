"""USRPs (B2x0, X3x0, N3xx) through UHD's Python library: timed reception and transmission on the device's own counter.

The library is GPL and, where Debian builds it, wants numpy 1: it is imported when a device is opened, in the agent's
own process, whose interpreter `Usrp.python` may name. Everything this driver calls of it is checked against the real
one by tests/testbed/radio/test_uhd_conformance.py.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.capture import Departure, Stretch
from testbed.radio.base import Applied, Capabilities, RadioError, Reception, RefusalError, Settings
from testbed.radio.usrp_clock import SampleClock, Sync, in_one_line, master_clock_hz, synchronize, unlocked
from testbed.radio.usrp_sensors import temperatures
from testbed.scenario import Usrp

__all__ = ["UsrpRadio"]

_FULL_SCALE = 32768
_TUNE_S = 0.1
"""From the command to retune all channels at once until they do."""
_PROBE_SHARE = 0.25
"""Of the lead, waited for the device to say that the order to stream came too late, before anything is sent."""
_ATTEMPTS = 3
_LEAD_S = 0.05
_DATA_S = 1.0
_DRAIN_READS = 200
_LOCK_S = 2.0
_CARRIERS_APART_HZ = 0.05


@dataclass(frozen=True)
class _Open:
    """A configured device."""

    usrp: Any
    rx: Any
    tx: Any
    clock: SampleClock
    sync: Sync
    channels: int


class UsrpRadio:
    """USRP that ``options`` name; keeps `testbed.radio.base.Radio`.

    ``library`` and ``wait`` stand in for the module ``uhd`` and `time.sleep`.

    Raises
    ------
    RadioError
        If the library is missing, or no device, or more than one, answers to the arguments.
    """

    def __init__(
        self, name: str, options: Usrp, *, library: Any = None, wait: Callable[[float], None] = time.sleep
    ) -> None:
        self._name, self._options, self._wait = name, options, wait
        self._library = _real_library() if library is None else library
        self._found = self._find()
        self._open: _Open | None = None
        self._queued: list[tuple[NDArray[np.complex64], int]] = []
        self._stream = -1
        self._lead_s = _LEAD_S

    @property
    def capabilities(self) -> Capabilities:
        """Time stamps and timed transmission always; rates and channels as the open device has them."""
        made = self._open
        fastest = float(made.clock.master_hz) if made is not None else 200e6
        return Capabilities(
            time_stamps=True,
            timed_transmit=True,
            full_duplex=True,
            channels=made.usrp.get_rx_num_channels() if made is not None else 2,
            rates_hz=(fastest / 512, fastest),
        )

    # Configuration -------------------------------------------------------------------------------------------------

    def configure(self, settings: Settings) -> Applied:
        """See `Radio.configure`: the device is opened anew, its clock synchronized, all channels tuned at one time."""
        self._let_go()
        try:
            return self._configure(settings)
        except RuntimeError as error:  # all that the library raises
            self._let_go()
            raise RadioError(f"the USRP of {self._name!r}: {in_one_line(error)}") from None
        except RadioError:
            self._let_go()
            raise

    def _configure(self, settings: Settings) -> Applied:
        library, options = self._library, self._options
        model = str(self._found.get("product") or self._found.get("type", ""))
        arguments = options.args
        if "master_clock_rate" not in arguments:
            clock_hz = master_clock_hz(model, settings.rate_hz, settings.antennas)
            arguments = ",".join(part for part in (arguments, f"master_clock_rate={float(clock_hz)!r}") if part)
        usrp = library.usrp.MultiUSRP(arguments)
        for spec, choose in (
            (options.rx_subdev, usrp.set_rx_subdev_spec),
            (options.tx_subdev, usrp.set_tx_subdev_spec),
        ):
            if spec:
                choose(library.usrp.SubdevSpec(spec))
        channels = usrp.get_rx_num_channels()
        if settings.antennas > channels:
            raise RefusalError(
                f"{self._name} wants {settings.antennas} antennas, but its {model} receives on {channels}"
            )
        clock = self._rates(usrp, model, settings)
        sync = synchronize(library, usrp, options, wait=self._wait)
        self._analogue(usrp, settings.antennas)
        carrier = self._tune(usrp, clock, settings)
        received = library.usrp.StreamArgs("sc16", "sc16")
        received.channels = list(range(settings.antennas))
        sent = library.usrp.StreamArgs("fc32", "sc16")
        sent.channels = [options.transmit_channel]
        # The receiving one last: from then on nothing may pass the device's time but its streams.
        tx = usrp.get_tx_stream(sent)
        rx = usrp.get_rx_stream(received)
        self._open = _Open(usrp, rx, tx, clock, sync, settings.antennas)
        self._stream += 1
        self._lead_s = settings.start_lead_s or _LEAD_S
        return Applied(carrier, clock.rate_hz, self._details(usrp, settings.antennas, sync))

    def _rates(self, usrp: Any, model: str, settings: Settings) -> SampleClock:
        wanted = float(settings.rate_hz)
        usrp.set_rx_rate(wanted)
        usrp.set_tx_rate(wanted)
        clock = SampleClock.of(model, usrp.get_master_clock_rate(), settings.rate_hz)
        applied = float(clock.rate_hz)
        for told in (usrp.get_rx_rate(), usrp.get_tx_rate()):
            if abs(told - applied) > 1e-3 or abs(applied - wanted) > 1e-6 * wanted:
                raise RefusalError(
                    f"waveform.sample_rate_hz is {wanted:.10g}, but the device applies {told:.10g}: "
                    "use that, or another master_clock_rate in node.usrp.args"
                )
        return clock

    def _analogue(self, usrp: Any, antennas: int) -> None:
        """Gains, antenna ports and filters; whatever the device cannot do is refused, not clipped."""
        options = self._options
        gains = (
            ("rx_gain_db", options.rx_gain_db, usrp.get_rx_gain_range),
            ("tx_gain_db", options.tx_gain_db, usrp.get_tx_gain_range),
        )
        for key, gain, bounds in gains:
            low, high = bounds(0).start(), bounds(0).stop()
            if not low <= gain <= high:
                raise RefusalError(f"node.usrp.{key} is {gain:g}, but the device does {low:g} to {high:g} dB")
        ports = (
            ("rx_antenna", options.rx_antenna, list(usrp.get_rx_antennas(0))),
            ("tx_antenna", options.tx_antenna, list(usrp.get_tx_antennas(options.transmit_channel))),
        )
        for key, port, there in ports:
            if port and port not in there:
                raise RefusalError(f'node.usrp.{key} is "{port}", but the device has {", ".join(there)}')
        for channel in range(antennas):
            usrp.set_rx_gain(options.rx_gain_db, channel)
            if options.rx_antenna:
                usrp.set_rx_antenna(options.rx_antenna, channel)
            if options.bandwidth_hz is not None:
                usrp.set_rx_bandwidth(options.bandwidth_hz, channel)
        usrp.set_tx_gain(options.tx_gain_db, options.transmit_channel)
        if options.tx_antenna:
            usrp.set_tx_antenna(options.tx_antenna, options.transmit_channel)
        if options.bandwidth_hz is not None:
            usrp.set_tx_bandwidth(options.bandwidth_hz, options.transmit_channel)

    def _tune(self, usrp: Any, clock: SampleClock, settings: Settings) -> Fraction:
        """Carrier after all channels were tuned at one time, which keeps phases between them where hardware can."""
        library, options = self._library, self._options
        wanted, sender = float(settings.carrier_hz), options.transmit_channel
        for bounds in (usrp.get_rx_freq_range(0), usrp.get_tx_freq_range(sender)):
            if not bounds.start() <= wanted <= bounds.stop():
                raise RefusalError(
                    f"waveform.carrier_hz is {wanted:.10g}, but the device covers {bounds.start() / 1e6:g} to "
                    f"{bounds.stop() / 1e6:g} MHz"
                )
        request = library.types.TuneRequest(wanted)
        if options.lo_offset_hz:
            request = library.types.TuneRequest(wanted, options.lo_offset_hz)
        now, _ = clock.tick(usrp.get_time_now())
        usrp.set_command_time(clock.time_spec(library, now + round(_TUNE_S * clock.rate_hz)))
        for channel in range(settings.antennas):
            usrp.set_rx_freq(request, channel)
        usrp.set_tx_freq(request, sender)
        usrp.clear_command_time()
        self._wait(2 * _TUNE_S)
        self._await_oscillators(usrp, settings.antennas)
        received, sent = usrp.get_rx_freq(0), usrp.get_tx_freq(sender)
        if abs(received - wanted) > 1e3 or abs(sent - received) > _CARRIERS_APART_HZ:
            raise RefusalError(
                f"waveform.carrier_hz is {wanted:.10g}, but the device receives at {received:.10g} and transmits at "
                f"{sent:.10g}: try another node.usrp.lo_offset_hz"
            )
        # The library tells a double: right to half a microhertz at 6 GHz.
        return Fraction(received)

    def _await_oscillators(self, usrp: Any, antennas: int) -> None:
        waited = 0.0
        while True:
            open_loops = [
                channel
                for channel in range(antennas)
                if "lo_locked" in list(usrp.get_rx_sensor_names(channel))
                and not usrp.get_rx_sensor("lo_locked", channel).to_bool()
            ]
            if not open_loops:
                return
            if waited > _LOCK_S:
                raise RadioError(f"the local oscillator of channel {open_loops[0]} does not lock")
            self._wait(_TUNE_S)
            waited += _TUNE_S

    def _details(self, usrp: Any, antennas: int, sync: Sync) -> dict[str, Any]:
        facts = dict(usrp.get_usrp_rx_info(0))
        return {
            "radio": "usrp",
            "model": usrp.get_mboard_name(0),
            "serial": facts.get("mboard_serial", ""),
            "clock_source": sync.clock_source,
            "time_source": sync.time_source,
            "synchronized": not sync.faults,
            "rx_gain_db": [usrp.get_rx_gain(channel) for channel in range(antennas)],
            "tx_gain_db": usrp.get_tx_gain(self._options.transmit_channel),
            "bandwidth_hz": usrp.get_rx_bandwidth(0),
            "master_clock_hz": usrp.get_master_clock_rate(),
            **temperatures(usrp),
        }

    # Samples -------------------------------------------------------------------------------------------------------

    def transmit(self, samples: NDArray[np.complex64], *, offset_samples: int) -> None:
        """See `Radio.transmit`: it leaves at exactly that sample, or the reception says that it did not."""
        values = np.asarray(samples, np.complex64)
        peak = float(np.max(np.abs(values), initial=0.0))
        if peak > 1.0 + 1e-6:
            raise RadioError(f"samples of {self._name!r} exceed full scale: peak {peak:.3f}")
        if offset_samples < 0:
            raise RadioError(f"{self._name!r} is to transmit {-offset_samples} samples before it starts to receive")
        if values.size:
            self._queued.append((values, offset_samples))

    def receive(self, samples: int) -> Reception:
        """See `Radio.receive`; begins so long after the call as `Settings.start_lead_s` says."""
        made = self._configured()
        queued, self._queued = self._queued, []
        events = [*made.sync.faults] if made.sync.faults else unlocked(made.usrp, self._options)
        try:
            first = self._start(made, events)
            bursts = [_Burst(self._library, made, values, first + offset) for values, offset in queued]
            parts = self._record(made, first, samples, events)
            departures = [tick for burst in bursts if (tick := burst.departed(events)) is not None]
            self._stop(made)
        except RuntimeError as error:
            raise RadioError(f"the USRP of {self._name!r} is gone: {in_one_line(error)}") from None
        if not parts:
            raise RadioError(f"the USRP of {self._name!r} delivers no samples: {'; '.join(text for _, text in events)}")
        stretches = []
        start = 0
        for values, tick in parts:
            stretches.append(Stretch(start, values.shape[1], tick))
            start += values.shape[1]
        joined = parts[0][0] if len(parts) == 1 else np.concatenate([values for values, _ in parts], axis=1)
        return Reception(
            samples=joined.view(np.int16).reshape(made.channels, -1, 2),
            full_scale=_FULL_SCALE,
            stretches=tuple(stretches),
            stream=self._stream,
            # All or none: a burst whose time is not certain gives no departure.
            departures=tuple(Departure(0, tick, 0.0) for tick in departures) if len(departures) == len(queued) else (),
            events=tuple({"code": code, "text": text} for code, text in events),
            conditions=temperatures(made.usrp),
        )

    def close(self) -> None:
        """See `Radio.close`."""
        self._queued = []
        self._let_go()

    def _let_go(self) -> None:
        # Streamers before the device, whose end closes it.
        self._open = None

    def _configured(self) -> _Open:
        if self._open is None:
            raise RadioError(f"the USRP of {self._name!r} is not configured")
        return self._open

    def _start(self, made: _Open, events: list[tuple[str, str]]) -> int:
        """Tick from which the device streams, after it has had the time to refuse one that is past.

        Only then is anything sent: an order that came late is repeated with twice the lead.
        """
        library = self._library
        error = library.types.RXMetadataErrorCode
        for attempt in range(_ATTEMPTS):
            lead_s = self._lead_s * 2**attempt
            now, _ = made.clock.tick(made.usrp.get_time_now())
            first: int = now + 1 + round(lead_s * made.clock.rate_hz)
            command = library.types.StreamCMD(library.types.StreamMode.start_cont)
            command.stream_now = False
            command.time_spec = made.clock.time_spec(library, first)
            made.rx.issue_stream_cmd(command)
            told = library.types.RXMetadata()
            made.rx.recv(np.empty((made.channels, 1), np.int32), told, _PROBE_SHARE * lead_s)
            if told.error_code == error.timeout:
                return first
            self._stop(made)
            if told.error_code != error.late:
                events.append(("early-samples", f"samples came before their time: {told.error_code.name}"))
                continue
            # The other nodes have begun by then: what they hear of each other is less, or nothing, in this round.
            text = f"an order to receive came late with a lead of {1e3 * lead_s:g} ms, and is repeated with twice that"
            events.append(("late-command", text))
        raise RadioError(f"the USRP of {self._name!r} starts no stream: {events[-1][1]}")

    def _record(
        self, made: _Open, first: int, samples: int, events: list[tuple[str, str]]
    ) -> list[tuple[NDArray[np.int32], int]]:
        """Runs without loss, each with its first tick; overflows and drops are events, and the edges of runs."""
        library = self._library
        error = library.types.RXMetadataErrorCode
        parts: list[tuple[NDArray[np.int32], int]] = []
        tick, end = first, first + samples
        troubles: dict[str, int] = {}
        told = library.types.RXMetadata()
        silent = False
        while tick < end:
            # A new array each time: the library writes into nothing that is not contiguous.
            room = np.empty((made.channels, end - tick), np.int32)
            count = made.rx.recv(room, told, _DATA_S + self._lead_s * 2**_ATTEMPTS)
            code = told.error_code
            if count:
                at, beyond = made.clock.tick(told.time_spec)
                if beyond or at < tick:
                    # Between two samples of the raster: no whole number says where they belong.
                    troubles["off-raster"] = troubles.get("off-raster", 0) + count
                    break
                if at < end:
                    parts.append((room[:, : min(count, end - at)], at))
                tick = at + count
            if code == error.none:
                continue
            if code == error.timeout:
                silent = not count
                break
            kind = told.error_code.name
            if code == error.overflow and told.out_of_sequence:
                kind = "drop"
            troubles[kind] = troubles.get(kind, 0) + 1
            if code in (error.late, error.broken_chain, error.bad_packet):
                break
        _say(events, troubles, samples - sum(values.shape[1] for values, _ in parts), silent=silent and not troubles)
        return parts

    def _stop(self, made: _Open) -> None:
        """End the stream, and read away what is still on its way."""
        library = self._library
        made.rx.issue_stream_cmd(library.types.StreamCMD(library.types.StreamMode.stop_cont))
        told = library.types.RXMetadata()
        room = np.empty((made.channels, max(1, made.rx.get_max_num_samps())), np.int32)
        for _ in range(_DRAIN_READS):
            if not made.rx.recv(room, told, 0.02) and told.error_code == library.types.RXMetadataErrorCode.timeout:
                return

    def _find(self) -> dict[str, str]:
        try:
            found = [dict(one.to_dict()) for one in self._library.find(self._options.args)]
        except RuntimeError as error:
            raise RadioError(f"node.usrp.args of {self._name!r}: {in_one_line(error)}") from None
        if not found:
            raise RadioError(
                f'no USRP answers to node.usrp.args = "{self._options.args}" of {self._name!r}: '
                "see `uhd_find_devices` for those that are there"
            )
        if len(found) > 1:
            serials = ", ".join(one.get("serial", "?") for one in found)
            raise RefusalError(
                f'{len(found)} USRPs answer to node.usrp.args = "{self._options.args}" of {self._name!r}: '
                f"choose one by its serial number: {serials}"
            )
        return found[0]


def _say(events: list[tuple[str, str]], troubles: dict[str, int], lost: int, *, silent: bool) -> None:
    """Add what went wrong in a reception."""
    words = {
        "overflow": ("overflow", "the device's buffer ran over {} times: the host reads too slowly"),
        "drop": ("packets-dropped", "packets were lost {} times between device and host"),
        "off-raster": ("off-raster", "the stream restarted between two samples of its raster: {} samples dropped"),
        "late": ("late-command", "the order to receive came late"),
    }
    for kind, count in troubles.items():
        code, text = words.get(kind, (kind.replace("_", "-"), f"the library says {kind}, {{}} times"))
        events.append((code, text.format(count)))
    if silent:
        events.append(("stream-silent", "the device stopped delivering samples"))
    if lost:
        events.append(("samples-lost", f"{lost} samples lost"))


class _Burst:
    """A timed transmission under way: the first packet is handed over at once, the rest by a thread."""

    def __init__(self, library: Any, made: _Open, samples: NDArray[np.complex64], tick: int) -> None:
        self._library, self._made, self._samples, self._tick = library, made, samples, tick
        self._failure = ""
        self._sent = 0
        metadata = library.types.TXMetadata()
        metadata.has_time_spec = True
        metadata.time_spec = made.clock.time_spec(library, tick)
        metadata.start_of_burst = True
        first = samples[: made.tx.get_max_num_samps()]
        metadata.end_of_burst = len(first) == len(samples)
        self._sent = made.tx.send(first, metadata, _DATA_S)
        self._thread = threading.Thread(target=self._send_rest, daemon=True)
        self._thread.start()

    def _send_rest(self) -> None:
        metadata = self._library.types.TXMetadata()
        metadata.end_of_burst = True
        # Until it begins to leave the device takes no more than its buffer holds.
        now, _ = self._made.clock.tick(self._made.usrp.get_time_now())
        patience = _DATA_S + max(0.0, (self._tick - now + len(self._samples)) / float(self._made.clock.rate_hz))
        try:
            while self._sent < len(self._samples):
                count = self._made.tx.send(self._samples[self._sent :], metadata, patience)
                if not count:
                    self._failure = "the device takes no more samples to transmit"
                    return
                self._sent += count
        except RuntimeError as error:
            self._failure = in_one_line(error)

    def departed(self, events: list[tuple[str, str]]) -> int | None:
        """Tick of its first sample; None where the device says, or does not deny, that it went wrong."""
        self._thread.join(timeout=_DATA_S)
        if self._thread.is_alive():
            self._failure = "the device takes no more samples to transmit"
        if self._failure:
            events.append(("transmit-failed", self._failure))
            return None
        codes = self._library.types.TXMetadataEventCode
        told = self._library.types.TXAsyncMetadata()
        bad = {
            codes.time_error: ("late-transmit", "the transmission came too late for its time, and was not sent"),
            codes.underflow: ("underflow", "the transmission ran dry in its middle: the host writes too slowly"),
            codes.underflow_in_packet: ("underflow", "the transmission ran dry in a packet"),
            codes.seq_error: ("transmit-dropped", "packets to transmit were lost on their way to the device"),
            codes.seq_error_in_packet: ("transmit-dropped", "packets to transmit were lost on their way"),
        }
        well = True
        while self._made.tx.recv_async_msg(told, 0.2):
            if told.event_code == codes.burst_ack:
                break
            for code, said in bad.items():
                if told.event_code == code:
                    events.append(said)
                    well = False
            if told.event_code == codes.time_error:
                break
        else:
            events.append(("transmit-unacknowledged", "the device does not say that the burst was sent"))
            well = False
        return self._tick if well else None


def _real_library() -> Any:
    """The module ``uhd``; raises `RadioError` that says how to get it."""
    if int(np.__version__.split(".")[0]) >= 2:
        raise RefusalError(
            f"this agent runs with numpy {np.__version__}, with which UHD's library crashes: give node.usrp.python an "
            "interpreter with numpy 1.26 and uhd (docs/how-to/usrp.md)"
        )
    try:
        import uhd
    except ImportError as error:
        raise RefusalError(
            f"UHD's Python library is missing ({error}): sudo apt-get install python3-uhd, and see "
            "docs/how-to/usrp.md for the interpreter"
        ) from None
    return uhd
