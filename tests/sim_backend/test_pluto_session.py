"""The IIOD server answers its text protocol, whatever it is sent."""

from __future__ import annotations

import errno
import struct
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from sim_backend.pluto.cable import Cable
from sim_backend.pluto.device import Pluto
from sim_backend.pluto.protocol import Command, MalformedError, parse
from sim_backend.pluto.session import converse
from sim_backend.specification import FrontEndSpec
from testbed.bench.simulated_pluto import malformed


def pluto(model: str = "1r1t", **values: object) -> Pluto:
    channels = {"1r1t": 1, "2r2t": 2}[model]
    return Pluto(model, Cable(channels, FrontEndSpec()), **values)


def answer(said: bytes, device: Pluto | None = None) -> bytes:
    return converse(device or pluto(), said)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (b"PRINT\r", Command("PRINT")),
        (b"print", Command("PRINT")),
        (b"", Command("")),
        (b"TIMEOUT 2500\r", Command("TIMEOUT", count=2500)),
        (b"OPEN d 1024 00000003 CYCLIC", Command("OPEN", "d", count=1024, mask="00000003", cyclic=True)),
        (b"READ d INPUT voltage0 rssi", Command("READ", "d", "input", "voltage0", "rssi")),
        (b"READ d debug loopback", Command("READ", "d", "debug", attribute="loopback")),
        (b"READ d", Command("READ", "d")),
        (b"WRITE d OUTPUT altvoltage0 frequency 11", Command("WRITE", "d", "output", "altvoltage0", "frequency", 11)),
        (b"SET d BUFFERS_COUNT 8", Command("SET", "d", count=8)),
    ],
)
def test_a_line_is_its_command(line: bytes, command: Command) -> None:
    assert parse(line) == command


@pytest.mark.parametrize(
    "line",
    [b"ZPRINT", b"BINARY", b"OPEN d 5", b"OPEN d -5 00000003", b"READBUF d 1e3", b"\xff\xfe", b"WRITE d",
     b"READ d INPUT", b"TIMEOUT 99999999999999999999999", b"EXIT now", b"OPEN d 5 00000003 CYCLICAL"],
)  # fmt: skip
def test_what_is_no_command_is_refused(line: bytes) -> None:
    with pytest.raises(MalformedError):
        parse(line)


def test_the_version_has_a_tag_of_seven_characters() -> None:
    major, minor, tag = answer(b"VERSION\r\n").decode().removesuffix("\n").split(".", 2)
    assert (int(major), len(tag)) == (0, 7)
    assert int(minor) >= 24


def test_unknown_commands_are_answered_and_empty_lines_are_not() -> None:
    assert answer(b"ZPRINT\r\n\r\nBINARY\r\n\r\nEXIT\r\n") == b"-22\n-22\n"


@pytest.mark.parametrize(("model", "scans"), [("1r1t", 2), ("2r2t", 4)])
def test_the_context_is_xml_with_scan_elements_first(model: str, scans: int) -> None:
    length, xml = answer(b"PRINT\r\n", pluto(model)).split(b"\n", 1)
    assert int(length) == len(xml) - 1
    context = ElementTree.fromstring(xml)
    devices = {device.get("name"): device for device in context.findall("device")}
    assert {"ad9361-phy", "xadc", "cf-ad9361-lpc", "cf-ad9361-dds-core-lpc", "iio-axi-tdd-0"} <= set(devices)
    for name in ("cf-ad9361-lpc", "cf-ad9361-dds-core-lpc"):
        indices = [channel.find("scan-element") for channel in devices[name].findall("channel")]
        assert [element.get("index") for element in indices[:scans]] == [str(i) for i in range(scans)]
        assert all(element is None for element in indices[scans:])


def test_values_end_with_a_zero_that_is_counted() -> None:
    assert answer(b"READ ad9361-phy ensm_mode\r\n") == b"4\nfdd\0\n"


def test_all_attributes_at_once_are_lengths_and_padded_values() -> None:
    heard = answer(b"READ xadc INPUT temp0\r\n")
    length, data = heard.split(b"\n", 1)
    assert int(length) == len(data) - 1
    values, place = [], 0
    while place < int(length):
        (size,) = struct.unpack_from(">i", data, place)
        values.append(data[place + 4 : place + 4 + size])
        place += 4 + size + -size % 4
    assert values == [b"-2219\0", b"2621\0", b"123.040771484\0"]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"READ nobody ensm_mode", errno.ENODEV),
        (b"READ ad9361-phy nothing", errno.ENOENT),
        (b"READ ad9361-phy INPUT voltage7 rssi", errno.ENXIO),
        (b"READ ad9361-phy dcxo_tune_fine", errno.ENODEV),
        (b"OPEN iio:device4 1024 03", errno.EINVAL),
        (b"OPEN iio:device4 1024 00000000", errno.EINVAL),
        (b"OPEN xadc 1024 00000001", errno.EINVAL),
        (b"READBUF iio:device4 4096", errno.EBADF),
        (b"CLOSE iio:device4", errno.ENXIO),
        (b"SET iio:device4 BUFFERS_COUNT 0", errno.EINVAL),
    ],
)
def test_errors_are_negative_numbers(line: bytes, code: int) -> None:
    assert answer(line + b"\r\n") == b"%d\n" % -code


def test_the_payload_is_taken_before_an_error_is_told() -> None:
    for line, code in ((b"WRITE nobody ensm_mode 5", -19), (b"WRITE ad9361-phy ensm_mode 5", -22)):
        assert answer(line + b"\r\nPRINTREAD ad9361-phy ensm_mode\r\n") == b"%d\n4\nfdd\0\n" % code


def test_read_only_attributes_refuse() -> None:
    assert answer(b"WRITE ad9361-phy rx_path_rates 2\r\n1\0") == b"-13\n"


def test_received_blocks_come_with_their_mask_once() -> None:
    heard = answer(b"OPEN iio:device4 64 00000003\r\nREADBUF iio:device4 512\r\nCLOSE iio:device4\r\n")
    assert heard.startswith(b"0\n256\n00000003\n")
    rest = heard[len(b"0\n256\n00000003\n") + 256 :]
    assert rest.startswith(b"256\n")
    assert rest[4 + 256 :] == b"0\n"


def test_a_single_scan_element_is_a_column_of_both() -> None:
    def samples(mask: bytes, size: int) -> np.ndarray:
        heard = answer(b"OPEN iio:device4 64 %s\r\nREADBUF iio:device4 %d\r\n" % (mask, size))
        return np.frombuffer(heard.split(mask + b"\n")[1], np.int16)

    both = samples(b"00000003", 256).reshape(-1, 2)
    assert np.array_equal(samples(b"00000002", 128), both[:, 1])
    assert np.std(both) > 1


def test_a_second_sender_is_busy_and_comes_in_when_the_first_hangs_up() -> None:
    device = pluto()
    first = device.transmitter.open([0, 1], 16, cyclic=True)
    assert answer(b"OPEN iio:device3 16 00000003 CYCLIC\r\n", device) == b"-16\n"
    device.transmitter.close(first)
    for _ in range(3):  # each hangs up
        assert answer(b"OPEN iio:device3 16 00000003 CYCLIC\r\n", device) == b"0\n"


def test_digital_loopback_returns_what_was_pushed() -> None:
    sent = np.arange(-1024, 1024, dtype=np.int16).reshape(-1, 2) * 16
    said = b"WRITE ad9361-phy DEBUG loopback 2\r\n1\0"
    said += b"OPEN iio:device3 1024 00000003 CYCLIC\r\nWRITEBUF iio:device3 4096\r\n" + sent.tobytes()
    said += b"OPEN iio:device4 65536 00000003\r\nREADBUF iio:device4 262144\r\n"
    heard = answer(said).split(b"00000003\n")[1]
    got = np.frombuffer(heard, np.int16).reshape(-1, 2)
    begin = int(np.flatnonzero((got == sent[0] >> 4).all(axis=1))[0])
    whole = (len(got) - begin) // 1024 * 1024
    assert np.array_equal(got[begin : begin + whole], np.tile(sent >> 4, (whole // 1024, 1)))


def test_the_same_words_get_the_same_bits() -> None:
    said = b"OPEN iio:device4 4096 00000003\r\nREADBUF iio:device4 16384\r\nREADBUF iio:device4 16384\r\n"
    assert answer(said) == answer(said)
    assert answer(said) != answer(said, Pluto("1r1t", Cable(1, FrontEndSpec(), seed=5)))


def test_nothing_that_is_said_breaks_the_server() -> None:
    """A slice of `testbed.bench.simulated_pluto`, which says a hundred thousand."""
    random = np.random.default_rng(7)
    device = pluto("2r2t")
    for _ in range(1500):
        answer(malformed(random), device)
    assert answer(b"READ ad9361-phy calib_mode_available\r\n", device).endswith(b"rssi_gain_step\0\n")
    assert not device.receiver._readers
    assert device.transmitter._writer is None
