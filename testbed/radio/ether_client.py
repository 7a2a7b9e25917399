"""A device's connection to the ether that another process serves."""

from __future__ import annotations

import contextlib
import socket
import threading

import numpy as np
from numpy.typing import NDArray

from testbed.radio import wire
from testbed.radio.base import RadioError
from testbed.radio.wire import Refused, WireError

__all__ = ["EtherConnection"]

_CONNECT_S = 5.0


class EtherConnection:
    """Connection to the ether at ``address`` (HOST:PORT); one question at a time, from any thread.

    Raises
    ------
    RadioError
        If nothing answers there.
    """

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        try:
            self._socket = socket.create_connection((host, int(port)), timeout=_CONNECT_S)
        except (OSError, ValueError) as error:
            raise RadioError(f"the ether at {address!r} does not answer: {error}") from None
        self._socket.settimeout(None)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lock = threading.Lock()

    def ask(
        self, question: wire.Question, samples: NDArray[np.complex64] | None = None
    ) -> tuple[wire.Answer, bytearray]:
        """The ether's answer, and the bytes beside it.

        Raises
        ------
        RadioError
            If the ether refuses, or is gone.
        """
        try:
            with self._lock:
                if samples is None:
                    wire.send(self._socket, question)
                else:
                    wire.send(self._socket, question, samples)
                answer, data = wire.receive_answer(self._socket)
        except WireError as error:
            raise RadioError(f"the simulated ether is gone: {error}") from None
        if isinstance(answer, Refused):
            raise RadioError(answer.text)
        return answer, data

    def close(self) -> None:
        """Leave the ether; whoever waits in another thread wakes up. May be called twice."""
        with contextlib.suppress(OSError):  # closed already is closed
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
