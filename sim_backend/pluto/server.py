"""The server: listens, and gives each connection a thread of its own."""

from __future__ import annotations

import contextlib
import socket
import threading

from sim_backend.pluto.device import Pluto
from sim_backend.pluto.protocol import LINE_BYTES, MalformedError
from sim_backend.pluto.session import Session

__all__ = ["PlutoServer", "SocketStream"]

_READ_BYTES = 1 << 16
_SEND_BUFFER_BYTES = 1 << 22
_MOST_CONNECTIONS = 64


class SocketStream:
    """A connection, with what was received beyond the last line or payload."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._rest = bytearray()

    def line(self) -> bytes:
        """See `sim_backend.pluto.session.Stream`; the rest of a line that is too long is dropped."""
        searched = 0
        overlong = False
        while (end := self._rest.find(b"\n", searched)) < 0:
            if len(self._rest) > LINE_BYTES:
                overlong = True
                self._rest.clear()
            searched = len(self._rest)
            self._receive()
        line = bytes(self._rest[:end])
        del self._rest[: end + 1]
        if overlong or len(line) > LINE_BYTES:
            raise MalformedError("a line too long")
        return line

    def exactly(self, count: int) -> bytearray:
        """See `sim_backend.pluto.session.Stream`."""
        data = self._rest[:count]
        del self._rest[:count]
        have = len(data)
        if have < count:
            data.extend(bytes(count - have))
            view = memoryview(data)
            while have < count:
                got = self._connection.recv_into(view[have:])
                if not got:
                    raise ConnectionResetError("the client is gone")
                have += got
            view.release()
        return data

    def send(self, *parts: bytes | memoryview) -> None:
        """See `sim_backend.pluto.session.Stream`."""
        if sum(map(len, parts)) <= _READ_BYTES:
            self._connection.sendall(b"".join(parts))
            return
        # In one call: a header by itself wakes a client who then waits for the rest.
        sent = self._connection.sendmsg(parts)
        for part in parts:
            if sent < len(part):
                self._connection.sendall(memoryview(part)[sent:])
            sent = max(sent - len(part), 0)

    def _receive(self) -> None:
        data = self._connection.recv(_READ_BYTES)
        if not data:
            raise ConnectionResetError("the client is gone")
        self._rest += data


class PlutoServer:
    """A simulated Pluto on a port of this machine; libiio finds it as ``ip:HOST:PORT``.

    Parameters
    ----------
    pluto : Pluto
    host : str
        Address to listen at.
    port : int
        0 takes a free one.

    Raises
    ------
    OSError
        If the port cannot be had.
    """

    def __init__(self, pluto: Pluto, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.pluto = pluto
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._threads: set[threading.Thread] = set()
        self._closed = False
        self._socket = socket.create_server((host, port), backlog=16)
        self.port: int = self._socket.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, name=f"pluto {self.port}", daemon=True)
        self._acceptor.start()

    def close(self) -> None:
        """Hang up on every client, and end every thread; closing twice is harmless."""
        with self._lock:
            self._closed = True
            connections, threads = list(self._connections), list(self._threads)
        with contextlib.suppress(OSError):  # wakes the accepting thread
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for connection in connections:
            with contextlib.suppress(OSError):  # gone already
                connection.shutdown(socket.SHUT_RDWR)
        self.pluto.engine.abandon()
        for thread in (self._acceptor, *threads):
            thread.join()

    @property
    def clients(self) -> int:
        """Connections that are open."""
        with self._lock:
            return len(self._connections)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return  # closed
            with self._lock:
                if self._closed or len(self._connections) >= _MOST_CONNECTIONS:
                    connection.close()
                    continue
                thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
                self._connections.add(connection)
                self._threads.add(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
            try:
                Session(self.pluto, SocketStream(connection)).serve()
            except OSError:
                pass  # the client is gone, which is how every conversation may end
            finally:
                with self._lock:
                    self._connections.discard(connection)
                    self._threads.discard(threading.current_thread())
