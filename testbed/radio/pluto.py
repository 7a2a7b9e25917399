"""ADALM-Plutos through pyadi-iio: no time stamps, one snapshot a round.

Stock firmware counts no samples and starts when it starts. Each round is therefore one buffer, contiguous because the
device fills it before the host reads it, on a stream of its own: its counter begins at zero, and how late the
transmission came is found from the node's own leakage. What stands higher on the ladder (docs/how-to/pluto.md) takes
away unknowns: a common clock the frequency offset, the TDD engine the latency.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from testbed.capture import Stretch
from testbed.radio.base import Applied, Capabilities, RadioError, Reception, RefusalError, Settings
from testbed.radio.pluto_device import SetUp
from testbed.radio.pluto_process import PlutoProcess
from testbed.scenario import Pluto

__all__ = ["PlutoRadio"]

_FULL_SCALE = 2048
_SUSTAINED_HZ = 5e6
"""Samples a second and channel that USB carries without a gap, both directions together."""
_REFUSING = (errno.EINVAL, errno.ERANGE, errno.EOPNOTSUPP, errno.EPERM, errno.EBUSY)
"""What a device answers to what it cannot do; a lost connection has other numbers."""
_REBUILDS = 3
_REBUILD_PAUSE_S = 0.5


class PlutoRadio:
    """Pluto that ``options`` name; keeps `testbed.radio.base.Radio`.

    ``wait`` stands in for `time.sleep`; the time of a ``patient`` one, which is simulated, stands still while nobody
    reads.

    Raises
    ------
    RadioError
        When it is configured: if the library is missing, or nothing, or something else, answers.
    """

    def __init__(
        self, name: str, options: Pluto, *, wait: Callable[[float], None] = time.sleep, patient: bool = False
    ) -> None:
        self._name, self._options, self._wait, self._patient = name, options, wait, patient
        self._device: PlutoProcess | None = None
        self._settings: Settings | None = None
        self._set_up: SetUp | None = None
        self._queued: tuple[NDArray[np.complex64], int] | None = None
        self._stream = -1
        self._closed = False

    @property
    def capabilities(self) -> Capabilities:
        """No time stamps and no timed transmission; two channels where it was told to have them."""
        channels = 1 if self._settings is None else self._settings.antennas
        return Capabilities(
            time_stamps=False,
            timed_transmit=False,
            full_duplex=True,
            channels=channels,
            rates_hz=(25e6 / 48, 61.44e6 / channels),
        )

    def configure(self, settings: Settings) -> Applied:
        """See `Radio.configure`: the context is opened anew, so that nothing recorded before can come after."""
        self._let_go()
        self._queued = None
        self._settings = settings
        made = self._open()
        self._stream += 1
        streaming = float(settings.rate_hz) * settings.antennas > _SUSTAINED_HZ
        note = {"above_sustained_rate": streaming}
        return Applied(made.carrier_hz, made.rate_hz, made.details | note)

    def _open(self) -> SetUp:
        assert self._settings is not None
        self._device = PlutoProcess(self._name, self._options, self._settings.antennas, patient=self._patient)
        try:
            self._set_up = self._device.set_up(self._settings)
        except OSError as error:
            self._let_go()
            if error.errno in _REFUSING:
                raise RefusalError(f"the Pluto of {self._name!r} refuses its settings: {error}") from None
            raise RadioError(f"the Pluto of {self._name!r} was lost while it was set up: {error}") from None
        except RadioError:
            self._let_go()
            raise
        return self._set_up

    def transmit(self, samples: NDArray[np.complex64], *, offset_samples: int) -> None:
        """See `Radio.transmit`; one transmission for each reception."""
        values = np.asarray(samples, np.complex64)
        peak = float(np.max(np.maximum(np.abs(values.real), np.abs(values.imag)), initial=0.0))
        if peak > 1.0 + 1e-6:
            raise RadioError(f"samples of {self._name!r} exceed full scale: peak {peak:.3f}")
        if offset_samples < 0:
            raise RadioError(f"{self._name!r} is to transmit {-offset_samples} samples before it starts to receive")
        if self._queued is not None:
            raise RadioError(f"the Pluto of {self._name!r} sends one burst for each reception, and has one queued")
        if values.size:
            self._queued = (values, offset_samples)

    def receive(self, samples: int) -> Reception:
        """See `Radio.receive`; on a new stream each time, as nothing says how long it was since the last."""
        if self._device is None or self._set_up is None or self._settings is None:
            raise RadioError(f"the Pluto of {self._name!r} is not configured")
        burst, offset = self._queued or (None, 0)
        if not self._patient and self._options.alignment != "tdd":
            offset += round(self._options.receive_lag_s * self._set_up.rate_hz)
        self._queued = None
        if self._settings.start_lead_s:
            self._wait(self._settings.start_lead_s)
        events: list[dict[str, str]] = []
        for attempt in range(_REBUILDS + 1):
            try:
                got, lost = self._device.record(samples, burst, offset, self._set_up.rate_hz)
                break
            except OSError as error:
                if self._closed:
                    raise RadioError(f"the Pluto of {self._name!r} is gone: closed") from None
                if attempt == _REBUILDS:
                    raise RadioError(f"the Pluto of {self._name!r} is gone: {error}") from None
                events.append(
                    {"code": "device-lost", "text": f"libiio lost the device ({error}), which is opened anew"}
                )
                self._rebuild()
        if lost:
            # Nothing says where: no part of it is continuous for certain.
            text = f"the device lost samples somewhere in its buffer: all {got.shape[1]} are left out"
            events.append({"code": "samples-lost", "text": text})
            got = got[:, :0]
        self._stream += 1
        return Reception(
            samples=got,
            full_scale=_FULL_SCALE,
            stretches=(Stretch(0, got.shape[1], 0),) if got.size else (),
            stream=self._stream,
            events=tuple(events),
            conditions=dict(self._device.conditions) if self._device is not None else {},
        )

    def close(self) -> None:
        """See `Radio.close`."""
        self._closed = True
        self._let_go()

    def _rebuild(self) -> None:
        """A context that failed once is dead for good: another, with the settings of the last."""
        self._let_go()
        failure = ""
        for attempt in range(_REBUILDS):
            self._wait(_REBUILD_PAUSE_S * 2**attempt)
            if self._closed:
                raise RadioError(f"the Pluto of {self._name!r} is gone: closed")
            try:
                self._open()
                return
            except RadioError as error:
                failure = str(error)
        raise RadioError(f"the Pluto of {self._name!r} is gone: {failure}")

    def _let_go(self) -> None:
        device, self._device = self._device, None
        if device is not None:
            device.close()
