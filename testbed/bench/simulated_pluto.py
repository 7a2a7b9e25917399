"""The simulated Pluto under load: how fast the unchanged client gets samples, what the wall clock loses, what breaks.

`isac bench pluto` runs it. Each server is a process of its own, as a user would have it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.bench.pluto_replies import faults, replies
from testbed.bench.rows import BenchRow
from testbed.errors import RunError, UserError

__all__ = ["STUDIES", "bench", "malformed", "quantisation_limit_db"]

_RATE_HZ = 20_000_000
_STATUS = 0x8000_0088
_BACK_OFF_DB = 12.0
_PAUSES = 10


@contextmanager
def _served(*words: str) -> Iterator[str]:
    """URI of a simulated Pluto in a process of its own."""
    with _server(*words) as (uri, _):
        yield uri


@contextmanager
def _server(*words: str) -> Iterator[tuple[str, int]]:
    """URI and process of a simulated Pluto."""
    command = [sys.executable, "-m", "testbed.cli", "sim", "pluto", "--port", "0", "--with-parent", *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RunError("the simulated Pluto did not start")
        try:
            yield line.split()[-1], process.pid
        finally:
            process.stdin.close()


def _driver(uri: str, channels: int) -> Any:
    try:
        import adi
    except Exception as error:  # pyadi-iio itself raises plain exceptions where the C library is missing
        raise UserError(f"this bench wants pyadi-iio and Debian's libiio0: {error}") from None
    made = (adi.Pluto if channels == 1 else adi.ad9361)(uri)
    made.sample_rate = _RATE_HZ
    made.rx_lo = made.tx_lo = 2_400_000_000
    for channel in range(channels):
        setattr(made, f"gain_control_mode_chan{channel}", "manual")
        setattr(made, f"rx_hardwaregain_chan{channel}", 30)
        setattr(made, f"tx_hardwaregain_chan{channel}", 0.0)
    made.tx_cyclic_buffer = True
    return made


def _let_go(radio: Any) -> None:
    # The buffers before the context: libiio crashes otherwise.
    radio.rx_destroy_buffer()
    radio.tx_destroy_buffer()


def _noise_like(samples: int) -> NDArray[np.complex128]:
    random = np.random.default_rng(1)
    return np.asarray(random.standard_normal((samples, 2)) @ np.array([2.0**12, 2.0**12 * 1j]), dtype=complex)


def _processor_s(process: int) -> float:
    """Processor time that another process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rate(read: Callable[[], object], samples: int, seconds: float, server: int) -> tuple[float, float, float, int]:
    """Million samples a second: of the median and the fastest call, and by the processor time of client and server.

    Whatever else the machine does slows the median call, and hardly the other two. And the number of calls.
    """
    read()
    times: list[float] = []
    begun = time.process_time() + _processor_s(server)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        begin = time.perf_counter()
        read()
        times.append(time.perf_counter() - begin)
    used = (time.process_time() + _processor_s(server) - begun) / len(times)
    return samples / float(np.median(times)) / 1e6, samples / min(times) / 1e6, samples / used / 1e6, len(times)


def _row(metric: str, unit: str, value: float, goal: float | None, trials: int, **parameters: object) -> BenchRow:
    ratio = None if goal is None else value / goal
    return BenchRow(
        scenario="simulated-pluto", method="pyadi-iio", parameters=parameters, metric=metric, unit=unit, value=value,
        bound=goal, ratio=ratio, trials=trials,
    )  # fmt: skip


def connecting(trials: int = 20) -> list[BenchRow]:
    """Time to connect the unchanged driver."""
    import adi

    times = []
    with _served() as uri:
        adi.Pluto(uri)
        for _ in range(trials):
            begin = time.perf_counter()
            adi.Pluto(uri)
            times.append(time.perf_counter() - begin)
    return [_row("connect", "ms", 1e3 * float(np.median(times)), 50.0, trials)]


def throughput(seconds: float = 4.0) -> list[BenchRow]:
    """Samples a second, each channel, through ``rx()`` and from the int16 buffer itself, impairments on.

    Beside them what the client alone does with a buffer that is full already: ``rx()`` without waiting for a server,
    who therefore cannot make it any faster than that.
    """
    rows = []
    # Beyond these the client's arrays leave the processor's cache.
    for channels, buffer, goals in ((1, 1 << 17, (60.0, 150.0)), (2, 1 << 16, (20.0, 50.0))):
        with _server("--model", "1r1t" if channels == 1 else "2r2t") as (uri, server):
            radio = _driver(uri, channels)
            cyclic = _noise_like(32_768)
            radio.tx(cyclic if channels == 1 else [cyclic, cyclic[::-1]])
            radio.rx_buffer_size = buffer

            def read(radio: Any = radio) -> NDArray[np.int16]:
                radio._rxbuf.refill()
                return np.frombuffer(radio._rxbuf.read(), np.int16)

            def convert(radio: Any = radio) -> object:
                radio._rxbuf.refill = lambda: None
                try:
                    return radio.rx()
                finally:
                    del radio._rxbuf.refill

            reads = (("rx", radio.rx, goals[0]), ("rx of a full buffer", convert, None), ("int16", read, goals[1]))
            for name, call, goal in reads:
                *values, calls = _rate(call, buffer, seconds, server)
                for metric, value in zip(("median", "fastest", "by_processor"), values, strict=True):
                    metric = f"throughput_{metric}"
                    rows.append(_row(metric, "MS/s", value, goal, calls, channels=channels, read=name))
            _let_go(radio)
    return rows


def wall_clock(seconds: float = 60.0, buffer: int = 1 << 18, kernel_buffers: int = 16) -> list[BenchRow]:
    """Overflows at 20 MS/s while client and machine keep up, those while they did not, and pauses that are flagged.

    Block k is full k + 1 durations after the buffer was opened. Whoever has it within as long as all but two of the
    kernel's buffers take to fill loses nothing; the answer's arrival, by which this is judged, is no earlier than the
    moment that counts. After an overflow the buffer is opened anew.
    """
    false = real = blocks = flagged = 0
    duration = buffer / _RATE_HZ
    slack = (kernel_buffers - 2) * duration
    with _served("--clock", "wall") as uri:
        radio = _driver(uri, 1)
        radio.tx(_noise_like(32_768))
        radio.rx_buffer_size = buffer
        radio._rxadc.set_kernel_buffers_count(kernel_buffers)

        def clear() -> None:
            radio._rxadc.reg_write(_STATUS, 4)

        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            radio.rx_destroy_buffer()
            clear()
            full, late = time.perf_counter(), False
            radio._rx_init_channels()
            while time.perf_counter() < end:
                full += duration
                radio._rxbuf.refill()
                blocks += 1
                lost = radio._rxadc.reg_read(_STATUS) & 4
                late |= time.perf_counter() - full > slack
                if lost:
                    false, real = false + (not late), real + late
                    break
        for _ in range(_PAUSES):
            time.sleep((kernel_buffers + 1) * duration)
            flagged += bool(radio._rxadc.reg_read(_STATUS) & 4)
            for _ in range(kernel_buffers + 1):
                radio._rxbuf.refill()
            clear()
        _let_go(radio)
    return [
        _row("false_overflows", "1", float(false), None, blocks, seconds=seconds),
        _row("overflows_when_late", "1", float(real), None, blocks, seconds=seconds),
        _row("pauses_flagged", "1", flagged / _PAUSES, 1.0, _PAUSES),
    ]


def quantisation_limit_db(power: float, gain: float) -> float:
    """Error vector that two 12-bit converters leave, relative to the signal, decibels.

    ``power`` is the signal's at the DAC, relative to full scale, and ``gain`` the loop's amplitude: the DAC drops four
    of sixteen bits, and the ADC rounds, each an even distribution over one count in both branches, 2/12 count².
    """
    count = 2 / 12 / 2048**2
    return float(10 * np.log10((count * gain**2 + count) / (power * gain**2)))


def error_vector(symbols: int = 40) -> list[BenchRow]:
    """Error vector of a looped OFDM frame without impairments, beside what the converters' bits allow."""
    random = np.random.default_rng(3)
    size, active, prefix = 1024, 800, 64
    spectrum = np.zeros((symbols, size), complex)
    carriers = np.r_[1 : active // 2 + 1, size - active // 2 : size]
    spectrum[:, carriers] = np.exp(0.5j * np.pi * random.integers(4, size=(symbols, active)))
    samples = np.fft.ifft(spectrum, axis=1)
    samples *= 10 ** (-_BACK_OFF_DB / 20) / np.sqrt(np.mean(np.abs(samples) ** 2))
    spectrum = np.fft.fft(samples, axis=1)[:, carriers]
    sent = np.concatenate([samples[:, -prefix:], samples], axis=1).ravel()
    counts = np.round(2.0**15 * np.stack([sent.real, sent.imag]))
    if np.max(np.abs(counts)) > 2**15 - 1:
        raise RunError("the frame's peak is beyond full scale")
    with _served("--ideal", "--attenuation", "37") as uri:
        radio = _driver(uri, 1)
        radio.rx_hardwaregain_chan0 = 30  # 7 dBm at full scale less 37 dB is full scale at 30 dB of gain
        radio.tx(counts[0] + 1j * counts[1])
        radio.rx_buffer_size = 2 * sent.size
        radio.rx()
        heard = radio.rx() / 2048.0
        _let_go(radio)
    match = np.fft.ifft(np.fft.fft(heard[: sent.size]) * np.conj(np.fft.fft(sent)))
    place = int(np.argmax(np.abs(match))) - prefix // 2
    place += sent.size if place < 0 else 0
    received = heard[place : place + sent.size].reshape(symbols, prefix + size)[:, prefix:]
    frames = np.fft.fft(received, axis=1)[:, carriers]
    channel = np.sum(frames * spectrum.conj(), axis=0) / np.sum(np.abs(spectrum) ** 2, axis=0)
    error = np.mean(np.abs(frames / channel - spectrum) ** 2) / np.mean(np.abs(spectrum) ** 2)
    # One complex channel per subcarrier was fitted to as many symbols as there are.
    value = float(10 * np.log10(error * symbols / (symbols - 1)))
    # The converters' noise is white over the whole band, the signal's power within its subcarriers alone.
    limit = quantisation_limit_db(float(np.mean(np.abs(samples) ** 2)), 1.0) + 10 * np.log10(active / size)
    row = _row("error_vector", "dB", value, None, symbols * active, back_off_db=_BACK_OFF_DB)
    row.bound = limit
    return [row]


_WORDS = (
    b"READ WRITE OPEN CLOSE READBUF WRITEBUF SET TIMEOUT PRINT HELP VERSION EXIT GETTRIG SETTRIG DEBUG BUFFER INPUT "
    b"OUTPUT CYCLIC BUFFERS_COUNT ad9361-phy iio:device3 iio:device4 iio-axi-tdd-0 one-bit-adc-dac xadc voltage0 out "
    b"altvoltage0 frequency hardwaregain filter_fir_config direct_reg_access raw scale loopback 0 1 16 64 -1 00000003 "
    b"nan %n channel0 99999999999999999999 0x80000088 \xff\x00 sync_soft enable sampling_frequency TX_LO ensm_mode "
    b"gain_control_mode xo_correction phase powerdown"
).split(b" ")


def malformed(random: np.random.Generator) -> bytes:
    """A few lines of words in any order, with noise between them, and payloads of any length."""
    lines = []
    for _ in range(int(random.integers(1, 5))):
        line = b" ".join(_WORDS[index] for index in random.integers(len(_WORDS), size=int(random.integers(0, 7))))
        if random.uniform() < 0.3:
            line += bytes(random.integers(0, 256, size=int(random.integers(0, 40)), dtype=np.uint8))
        lines.append(line + (b"\r\n", b"\n", b"")[int(random.integers(3))])
        if random.uniform() < 0.3:
            lines.append(_WORDS[int(random.integers(len(_WORDS)))])
    return b"".join(lines)


def conversations(trials: int = 100_000, seed: int = 1) -> list[BenchRow]:
    """Malformed conversations, in one process: what breaks, and what is left behind."""
    import resource
    import threading

    from testbed.progress import progress_bar
    from testbed.radio.simulated_pluto import Interlocutor

    random = np.random.default_rng(seed)
    pluto = Interlocutor("2r2t")
    broken = 0

    def left() -> tuple[int, int, float]:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return threading.active_count(), len(os.listdir("/proc/self/fd")), memory

    with progress_bar(trials) as progress:
        for index in range(trials):
            if index == trials // 10:
                before = left()  # caches are filled by now
            try:
                pluto.answer(malformed(random))
            except Exception:  # whatever it is: it is counted
                broken += 1
            progress(index + 1, "talking")
    after = left()
    alive = pluto.answer(b"READ ad9361-phy calib_mode_available\r\n").endswith(b"\0\n")
    return [
        _row("conversations_broken", "1", float(broken), None, trials),
        _row("threads_left", "1", float(after[0] - before[0]), None, trials),
        _row("descriptors_left", "1", float(after[1] - before[1]), None, trials),
        _row("memory_left", "MB", after[2] - before[2], None, trials),
        _row("alive", "1", float(alive), 1.0, 1),
    ]


STUDIES: dict[str, Callable[[], list[BenchRow]]] = {
    "connecting": connecting,
    "throughput": throughput,
    "error-vector": error_vector,
    "wall-clock": wall_clock,
    "conversations": conversations,
    "faults": faults,
    "replies": replies,
}
"""By name; about two minutes together, and some ten for the last."""


def bench(names: tuple[str, ...] = ()) -> list[BenchRow]:
    """Rows of the studies of these names, or of all."""
    unknown = [name for name in names if name not in STUDIES]
    if unknown:
        raise UserError(f"no study of the simulated Pluto is called {unknown[0]!r}: there are {', '.join(STUDIES)}")
    return [row for name in names or STUDIES for row in STUDIES[name]()]
