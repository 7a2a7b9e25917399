"""Plans against a U-Boot environment behind an `ssh` that is not the system's, and a transceiver that is not there."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from firmware_cfg.attributes import Address
from firmware_cfg.boards import Identity, known_board
from firmware_cfg.errors import FirmwareError
from firmware_cfg.plans import apply_attributes, apply_environment, attribute_steps, check, environment_steps
from firmware_cfg.profiles import PlutoProfile, load_profile, read_profile
from firmware_cfg.secure_shell import SecureShell

REV_C = Identity("Analog Devices PlutoSDR Rev.C (Z7010-AD9363A)", "v0.39", "104")


class Transceiver:
    """Attributes by the rules of the AD9361's driver: a slow rate needs the filter, and gains need manual mode."""

    uri = "ip:there"
    identity = REV_C

    def __init__(self, channels: int = 1) -> None:
        self.channels = channels
        self.has_tdd = False
        self.narrow = False
        self.writes: list[tuple[str, str]] = []
        self.values: dict[str, str] = {}
        for number in range(channels):
            self.values |= {
                f"input voltage{number} gain_control_mode": "slow_attack",
                f"input voltage{number} hardwaregain": "71.000000 dB",
                f"output voltage{number} hardwaregain": "-10.000000 dB",
            }
        self.values |= {f"{way} voltage0 rf_bandwidth": "18000000" for way in ("input", "output")}
        self.values |= {
            f"input voltage0 {name}": "1"
            for name in ("quadrature_tracking_en", "rf_dc_offset_tracking_en", "bb_dc_offset_tracking_en")
        }
        self.values |= {
            "input voltage0 sampling_frequency": "30719999",
            "input out voltage_filter_fir_en": "0",
            "filter_fir_config": "FIR Rx: 0,0 Tx: 0,0",
        }

    def read(self, address: Address) -> str:
        return self.values[str(address).removeprefix("ad9361-phy ")]

    def write(self, address: Address, value: str) -> None:
        name = str(address).removeprefix("ad9361-phy ")
        assert name in self.values
        filtered = self.values["input out voltage_filter_fir_en"] == "1"
        if name.endswith("sampling_frequency"):
            assert filtered or int(value) >= 25e6 / 12
        if name.endswith("fir_en") and value == "0":
            assert int(self.read(Address("sampling_frequency", "voltage0"))) >= 25e6 / 12
        if name == "filter_fir_config":
            assert not filtered
            taps = sum(line[0] in "-0123456789" for line in value.splitlines())
            factor = value.split("INT ")[1].split()[0]
            value = f"FIR Rx: {taps},{factor} Tx: {taps},{factor}"
        if name == "input voltage0 hardwaregain" and self.values["input voltage0 gain_control_mode"] != "manual":
            return
        if name.endswith("hardwaregain"):
            value = f"{float(value):.6f} dB"
        self.values[name] = value
        self.writes.append((name, value))


def pluto(name: str, **changes: Any) -> PlutoProfile:
    import msgspec

    profile = load_profile("pluto", name)
    assert isinstance(profile, PlutoProfile)
    return msgspec.structs.replace(profile, **changes)


def test_two_receivers_are_four_variables_and_undone_as_they_were(fake_ssh: Any) -> None:
    device = fake_ssh({"mode": "1r1t", "attr_val": "ad9364", "attr_name": "compatible"})
    shell = SecureShell("root@pluto")
    identity, now = shell.read()
    assert (identity.model, identity.firmware) == ("Analog Devices PlutoSDR Rev.C (Z7010/AD9363)", "v0.39")
    steps = environment_steps(pluto("sounding-20-two-antennas"), now)
    assert [(step.name, step.before, step.after) for step in steps] == [
        ("attr_val", "ad9364", "ad9361"),
        ("compatible", None, "ad9361"),
        ("mode", "1r1t", "2r2t"),
    ]
    assert [step.undo for step in steps] == [
        "fw_setenv attr_val ad9364",
        "fw_setenv compatible",
        "fw_setenv mode 1r1t",
    ]
    apply_environment(shell, steps)
    assert device.environment == {
        "mode": "2r2t", "attr_val": "ad9361", "attr_name": "compatible", "compatible": "ad9361"
    }  # fmt: skip
    assert device.targets == {"root@pluto"}
    assert environment_steps(pluto("sounding-20-two-antennas"), shell.read()[1]) == []


def test_the_external_clock_is_set_and_taken_back(fake_ssh: Any) -> None:
    fake_ssh()
    shell = SecureShell("root@pluto")
    before = shell.read()[1]
    apply_environment(shell, environment_steps(pluto("common-clock-20"), before))
    assert shell.read()[1]["ad936x_ext_refclk_override"] == "<40000000>"
    apply_environment(shell, environment_steps(pluto("sounding-20"), shell.read()[1]))
    assert shell.read()[1] == before


def test_a_device_is_started_anew(fake_ssh: Any) -> None:
    device = fake_ssh()
    SecureShell("root@pluto").reboot()
    began = time.monotonic()
    while not (device.root / "boots").exists():
        assert time.monotonic() < began + 20
        time.sleep(0.05)
    assert (device.root / "boots").read_text() == "reset\n"


def test_a_variable_that_does_not_stick_is_told(fake_ssh: Any) -> None:
    fake_ssh(stuck="mode")
    shell = SecureShell("root@pluto")
    steps = environment_steps(pluto("sounding-20-two-antennas"), shell.read()[1])
    with pytest.raises(FirmwareError, match="mode reads back as '1r1t' after '2r2t'"):
        apply_environment(shell, steps)


def test_a_device_that_refuses_ssh_is_one_line(fake_ssh: Any) -> None:
    fake_ssh(refuses="root@pluto: Permission denied (publickey,password).\n")
    with pytest.raises(FirmwareError, match="Permission denied") as caught:
        SecureShell("root@pluto").read()
    assert "\n" not in str(caught.value)


def test_a_machine_without_the_environment_is_no_pluto(fake_ssh: Any) -> None:
    fake_ssh({})
    with pytest.raises(FirmwareError, match="no Pluto"):
        SecureShell("root@printer").read()


@pytest.mark.parametrize(
    ("identity", "profile", "says"),
    [
        (Identity("Xilinx ZC706", "v0.39"), "sounding-20", "nothing is known of"),
        (Identity(REV_C.model, "v0.20"), "sounding-20", "needs 0.31 or later"),
        (Identity(REV_C.model, "v0.38"), "shared-edge-20", "needs 0.39 or later"),
        (Identity(REV_C.model, "1e2d-main"), "sounding-20", "no version"),
        (
            Identity("Analog Devices PlutoSDR Rev.B (Z7010-AD9363)", "v0.39"),
            "sounding-20-two-antennas",
            "which has one",
        ),
        (Identity("Analog Devices PlutoSDR Rev.B (Z7010-AD9363)", "v0.39"), "common-clock-20", "takes none"),
    ],
)
def test_boards_and_firmware_that_cannot_are_refused(identity: Identity, profile: str, says: str) -> None:
    with pytest.raises(FirmwareError, match=says):
        check(identity, pluto(profile))


def test_boards_are_told_apart() -> None:
    assert known_board(REV_C).channels == 2
    assert known_board(Identity("Analog Devices PlutoSDR Rev.B (Z7010-AD9363)", "v0.31")).channels == 1
    assert known_board(Identity("PLUTO+ SDR (Z7010-AD9361)", "v0.35")).channels == 2


@pytest.mark.parametrize("name", ["sounding-20", "streaming-4", "wide-40"])
@pytest.mark.parametrize("slow", [False, True])
def test_attributes_are_set_in_an_order_that_the_driver_takes_and_only_once(name: str, slow: bool) -> None:
    device: Any = Transceiver()
    if slow:
        device.values |= {"input voltage0 sampling_frequency": "1000000", "input out voltage_filter_fir_en": "1"}
    profile = pluto(name)
    apply_attributes(device, attribute_steps(profile, device))
    assert int(device.values["input voltage0 sampling_frequency"]) == profile.sample_rate_hz
    assert device.values["input voltage0 hardwaregain"] == "40.000000 dB"
    assert device.values["output voltage0 hardwaregain"] == "-20.000000 dB"
    assert device.values["input voltage0 quadrature_tracking_en"] == "0"
    settled = dict(device.values)
    device.writes.clear()
    apply_attributes(device, attribute_steps(profile, device))
    assert device.values == settled
    # All but the filter, whose coefficients no attribute tells, is left alone.
    assert {name for name, _ in device.writes} == {"filter_fir_config", "input out voltage_filter_fir_en"}


def test_a_wide_band_takes_another_name_for_the_chip_and_a_boot() -> None:
    device: Any = Transceiver()
    device.narrow = True
    steps = environment_steps(pluto("wide-40"), {"mode": "1r1t"})
    assert [(step.name, step.after) for step in steps] == [
        ("attr_name", "compatible"), ("attr_val", "ad9364"), ("compatible", "ad9364")
    ]  # fmt: skip
    assert environment_steps(pluto("wide-40"), {"compatible": "ad9361"}) == []
    assert not any("bandwidth" in step.name for step in attribute_steps(pluto("wide-40"), device))
    device.narrow = False
    assert sum("bandwidth" in step.name for step in attribute_steps(pluto("wide-40"), device)) == 2


def test_both_receivers_are_set_where_the_device_shows_two() -> None:
    device: Any = Transceiver(2)
    apply_attributes(device, attribute_steps(pluto("sounding-20-two-antennas"), device))
    assert device.values["input voltage1 hardwaregain"] == "40.000000 dB"


def test_what_reads_back_otherwise_is_told() -> None:
    device: Any = Transceiver()
    steps = attribute_steps(pluto("sounding-20"), device)
    device.write = lambda address, value: None
    with pytest.raises(FirmwareError, match="reads back as"):
        apply_attributes(device, steps)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("sample_rate_hz = 70e6", "run at"),
        ("channels = 2\nsample_rate_hz = 40e6", "2 channels run at"),
        ("transmit_attenuation_db = 0.1", "steps are 0.25 dB"),
        ("bandwidth_hz = 100e3", "200 kHz"),
        ("tdd = true", "came with 0.39"),
        ("colour = 3", "colour"),
        ("kernel_buffers = 0", "kernel_buffers"),
    ],
)
def test_profiles_that_the_device_cannot_keep_are_refused(line: str, says: str) -> None:
    keys = {"purpose": '"x"', "sample_rate_hz": "20e6", "bandwidth_hz": "18e6"}
    keys |= dict(part.split(" = ") for part in line.split("\n"))
    text = 'device = "pluto"\n' + "\n".join(f"{key} = {value}" for key, value in keys.items())
    with pytest.raises(FirmwareError, match=says) as caught:
        read_profile(text, source="mine.toml")
    assert str(caught.value).startswith("mine.toml: ")


@pytest.mark.parametrize(
    ("device", "clock", "rate", "says"),
    [
        ("x3x0", "100e6", "20e6", "it has 200000000"),
        ("x3x0", "200e6", "30e6", "use 28571429"),
        ("b2x0", "80e6", "20e6", "runs at"),
    ],
)
def test_master_clocks_that_do_not_exist_are_refused(device: str, clock: str, rate: str, says: str) -> None:
    text = f'device = "{device}"\npurpose = "x"\nbandwidth_hz = 1e6\nmaster_clock_hz = {clock}\nsample_rate_hz = {rate}'
    with pytest.raises(FirmwareError, match=says):
        read_profile(text, source="x")


def test_a_profile_of_another_device_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('device = "pluto"\npurpose = "x"\nsample_rate_hz = 20e6\nbandwidth_hz = 18e6\n')
    with pytest.raises(FirmwareError, match="device is 'pluto', but DEVICE is a x3x0"):
        load_profile("x3x0", str(path))
