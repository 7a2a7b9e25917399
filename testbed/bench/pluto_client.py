"""A client of libiio that takes whatever it is told: ``python -m testbed.bench.pluto_client URI``.

Context after context it reads and writes attributes, receives and sends a buffer, and says after each how many threads,
descriptors and bytes of memory it has.
"""

from __future__ import annotations

import os
import sys
import threading
from itertools import count
from pathlib import Path
from typing import Any

__all__ = ["main"]

_SAMPLES = 512


def main(uri: str) -> None:
    """Connect to ``uri`` for ever, and print a line for each connection."""
    import iio

    for index in count():
        try:
            _converse(iio, uri, index)
        except Exception as error:  # whatever the library makes of what it is told: it has been told lies
            error.__traceback__ = None
        memory = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        print(threading.active_count(), len(os.listdir("/proc/self/fd")), memory, flush=True)


def _converse(iio: Any, uri: str, index: int) -> None:
    context = iio.Context(uri)
    context.set_timeout(1000)
    names = ("ad9361-phy", "cf-ad9361-lpc", "cf-ad9361-dds-core-lpc")
    transceiver, receiver, sender = (context.find_device(name) for name in names)
    if transceiver is None or receiver is None or sender is None:
        return
    if index % 3 == 0:
        channel = transceiver.find_channel("voltage0")
        channel.attrs["sampling_frequency"].value = channel.attrs["sampling_frequency"].value
        transceiver.debug_attrs["loopback"].value = "0"
        context.attrs.get("hw_serial")
        receiver.reg_read(0x80000088)
    buffers = []
    try:
        receiver.set_kernel_buffers_count(1)
        for device in (receiver, sender) if index % 3 == 1 else (receiver,):
            for channel in device.channels:
                channel.enabled = channel.scan_element
            buffers.append(iio.Buffer(device, _SAMPLES, False))
        if len(buffers) == 2:
            buffers[1].write(bytearray(4 * _SAMPLES))
            buffers[1].push()
        buffers[0].refill()
        for channel in receiver.channels:
            channel.read(buffers[0])
    finally:
        # Before the context, which the library wants to outlive them.
        buffers.clear()


if __name__ == "__main__":
    main(sys.argv[1])
