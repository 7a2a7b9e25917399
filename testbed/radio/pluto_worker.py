"""The process in which libiio works for a Pluto's driver: ``python -m testbed.radio.pluto_worker DESCRIPTOR``.

libiio is written in C, and trusts what a device answers. Here it may crash, or hang for good, and takes nothing with
it: the driver sees this process end, says so, and starts another.
"""

from __future__ import annotations

import os
import queue
import socket
import sys
import threading
from fractions import Fraction

import msgspec
import numpy as np

from testbed.radio import pluto_link as link
from testbed.radio.base import RadioError, RefusalError, Settings
from testbed.radio.pluto_device import PlutoDevice

__all__ = ["main"]

_QUESTIONS = msgspec.msgpack.Decoder(link.Question)


class _Worker:
    """Answers one driver until that is gone."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._device: PlutoDevice | None = None
        self._asked: queue.SimpleQueue[tuple[link.Question, bytearray] | None] = queue.SimpleQueue()

    def listen(self) -> None:
        """Take questions, in a thread of its own: one that closes the device wakes the other, which may wait for it."""
        try:
            while True:
                question, data = link.receive(self._connection, _QUESTIONS)
                if isinstance(question, link.Close) and self._device is not None:
                    self._device.close()
                self._asked.put((question, data))
        except link.LinkError:
            self._asked.put(None)
            if self._device is not None:
                self._device.close()

    def work(self) -> None:
        """Answer them."""
        while (asked := self._asked.get()) is not None:
            try:
                answer, data = self._answer(*asked)
            except RefusalError as error:
                answer, data = link.Failed("refusal", str(error)), b""
            except RadioError as error:
                answer, data = link.Failed("radio", str(error)), b""
            except OSError as error:
                answer, data = link.Failed("dead", error.strerror or str(error), error.errno or 0), b""
            except Exception as error:  # what the library raises where it does not understand its device
                answer, data = link.Failed("dead", f"{type(error).__name__}: {error}"[:500]), b""
            try:
                link.send(self._connection, answer, data)
            except link.LinkError:
                return

    def _answer(self, question: link.Question, data: bytearray) -> tuple[link.Answer, bytes | memoryview]:
        if isinstance(question, link.Close):
            self._device = None
            return link.Done(), b""
        if isinstance(question, link.Open):
            if self._device is not None:
                self._device.close()
            made = PlutoDevice(question.name, question.options, question.channels, patient=question.patient)
            self._device = made
            return link.Opened(made.uri, made.facts), b""
        if self._device is None:
            raise RadioError("no Pluto is open")
        if isinstance(question, link.Settle):
            asked = Settings(
                Fraction(question.carrier_hz), Fraction(question.rate_hz), question.antennas, question.tx_power_dbm
            )
            applied = self._device.set_up(asked)
            return link.SetUp(str(applied.carrier_hz), str(applied.rate_hz), applied.details), b""
        burst = np.frombuffer(data, np.complex64) if question.sends else None
        samples, lost = self._device.record(question.samples, burst, question.offset, Fraction(question.rate_hz))
        antennas, count, branches = samples.shape
        recorded = link.Recorded((antennas, count, branches), lost, self._device.conditions())
        return recorded, samples.data.cast("B") if samples.size else b""


def main(descriptor: int) -> None:
    """Answer the driver at the other end of the socket ``descriptor``, until it is gone."""
    worker = _Worker(socket.socket(fileno=descriptor))
    threading.Thread(target=worker.listen, daemon=True).start()
    worker.work()
    # Whatever still hangs in the library is of no interest any more.
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
