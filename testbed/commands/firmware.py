"""`isac firmware`: what a device is set to for a purpose, how it gets there and back, and its FIR filters."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from testbed.commands.options import json_option, refuse_file
from testbed.errors import RunError, UserError

if TYPE_CHECKING:
    from firmware_cfg.boards import Identity
    from firmware_cfg.filters import FilterPair
    from firmware_cfg.plans import Step
    from firmware_cfg.profiles import PlutoProfile, Profile, UsrpProfile

__all__ = ["command"]

_ssh = click.option("--ssh", metavar="USER@HOST", help="Where ssh finds the device; root@HOST of an ip: DEVICE.")
_environment = click.option(
    "--environment/--no-environment",
    default=True,
    show_default=True,
    help="Look at the U-Boot environment, which needs ssh.",
)


@click.group("firmware")
def command() -> None:
    """Profiles of devices: plan, apply, and the FIR filters that go with them."""


@command.command("profiles", short_help="List the profiles that ship.")
@click.argument("device", required=False)
@json_option("Write what is printed here too.")
def profiles(device: str | None, json_file: Path | None) -> None:
    """List the profiles that ship, of DEVICE or of all kinds: pluto, b2x0, x3x0, n3xx."""
    from firmware_cfg.profiles import DEVICES, load_profile, profile_names

    with _one_line():
        found = [
            {"device": kind, "profile": name, "purpose": load_profile(kind, name).purpose}
            for kind in (DEVICES if device is None else (device,))
            for name in profile_names(kind)
        ]
    for row in found:
        click.echo(f"{row['device']:6} {row['profile']:24} {row['purpose']}")
    _write(json_file, {"profiles": found})


@command.command("plan", short_help="Print what would change on DEVICE; changes nothing.")
@click.argument("device")
@click.argument("profile")
@_ssh
@_environment
@json_option("Write what is printed here too.")
def plan(device: str, profile: str, ssh: str | None, environment: bool, json_file: Path | None) -> None:
    """Print what of DEVICE would be changed to bring it to PROFILE, and how to undo it. Changes nothing.

    DEVICE is an address, ip:192.168.2.1 or usb:1.4.5, and is read; or a kind, pluto, b2x0, x3x0 or n3xx, and the plan
    is the one of a device fresh from its box. PROFILE is a name that `isac firmware profiles` lists, or a file that
    ends in .toml.
    """
    from firmware_cfg.profiles import PlutoProfile, load_profile

    address = _is_address(device)
    with _one_line():
        wanted = load_profile("pluto" if address else device, profile)
        if not isinstance(wanted, PlutoProfile):
            _print_usrp(device, profile, wanted, json_file)
            return
        if address:
            bench = _Bench(device, wanted, _target(device, ssh) if environment else None)
            identity, steps, notes = bench.identity, bench.steps, bench.notes
        else:
            identity, steps, notes = None, _offline(wanted), ["nothing was read: these are all settings of the profile"]
    _print_plan(device, profile, wanted, identity, steps, notes)
    _write(json_file, _plan_rows(device, profile, identity, steps, notes))


@command.command("apply", short_help="Bring DEVICE to PROFILE, and read back that it is.")
@click.argument("device")
@click.argument("profile")
@_ssh
@_environment
@click.option("--reboot", is_flag=True, help="Start the device anew if something counts only from the next boot.")
@json_option("Write what is printed here too.")
def apply(device: str, profile: str, ssh: str | None, environment: bool, reboot: bool, json_file: Path | None) -> None:
    """Bring DEVICE, an address, to PROFILE, and read back that it is. Applied again, it has nothing left to do.

    Exit codes: 0 the device is as the profile wants it; 1 it refused, or read back something else; 2 the board, its
    firmware, the profile or the address is wrong, and nothing was changed.
    """
    from firmware_cfg.errors import FirmwareError
    from firmware_cfg.plans import apply_attributes, apply_environment
    from firmware_cfg.profiles import PlutoProfile, load_profile

    with _one_line():
        if not _is_address(device):
            load_profile(device, profile)
            raise UserError(
                f"DEVICE is {device!r}, which is no address: give ip:HOST or usb:BUS.PORT of a Pluto; a USRP keeps no "
                "settings, its driver applies the profile at each run"
            )
        wanted = load_profile("pluto", profile)
        assert isinstance(wanted, PlutoProfile)
        bench = _Bench(device, wanted, _target(device, ssh) if environment else None)
    try:
        if bench.shell is not None:
            apply_environment(bench.shell, bench.steps)
        apply_attributes(bench.device, bench.steps)
        booting = reboot and any(step.kind == "environment" for step in bench.steps) and bench.shell is not None
        if booting and bench.shell is not None:
            bench.shell.reboot()
    except FirmwareError as error:
        raise RunError(str(error)) from None
    for step in bench.steps:
        click.echo(f"set {step.text()}")
    for note in bench.notes:
        click.echo(f"note: {note}")
    if any(step.kind == "environment" for step in bench.steps):
        click.echo(
            "the device starts anew: apply once more when it is up, for the settings that power takes away"
            if booting
            else "the environment counts from the next boot: reboot the device, then apply once more"
        )
    elif not [step for step in bench.steps if not _rewritten(step)]:
        click.echo("nothing else was to be done: the device is as the profile wants it")
    _write(json_file, _plan_rows(device, profile, bench.identity, bench.steps, bench.notes))


@command.command("filter", short_help="Design the FIR filters of an AD936x.")
@click.option("--profile", help="Take a Pluto profile's filter instead of the options below.")
@click.option("--rate-hz", type=float, help="Sample rate.")
@click.option("--pass-hz", type=float, help="Edge of the pass band about the carrier.")
@click.option("--stop-hz", type=float, help="Where the stop band begins.")
@click.option("--ripple-db", type=float, default=0.1, show_default=True)
@click.option("--attenuation-db", type=float, default=60.0, show_default=True)
@click.option("--factor", type=click.Choice(["1", "2", "4"]), default="2", show_default=True)
@click.option("--taps", type=int, help="A multiple of 16; as many as the rate allows if not given.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The .ftr file to write.")
@click.option("--figure", type=click.Path(path_type=Path), help="Draw the response into this PNG.")
@json_option("Write what is printed here too.")
def make_filter(
    profile: str | None,
    rate_hz: float | None,
    pass_hz: float | None,
    stop_hz: float | None,
    out: Path,
    figure: Path | None,
    json_file: Path | None,
    **specification: Any,
) -> None:
    """Design the FIR filters of an AD936x from a specification, and hold the rounded ones against it.

    Exit codes: 0 they keep it, half-band stages included; 1 they do not, and nothing is written.
    """
    from firmware_cfg import ftr
    from firmware_cfg.filters import FilterSpecification, design_pair
    from firmware_cfg.profiles import PlutoProfile, load_profile

    for option, path in (("--out", out), ("--figure", figure)):
        if path is not None:
            refuse_file(option, path)
    with _one_line():
        if profile is not None:
            wanted = load_profile("pluto", profile)
            if not isinstance(wanted, PlutoProfile) or wanted.filter is None:
                raise UserError(f"--profile is {profile!r}, which has no filter: give a specification instead")
            rate_hz, asked = wanted.sample_rate_hz, wanted.filter
        elif rate_hz is None or pass_hz is None or stop_hz is None:
            raise UserError("give --profile, or --rate-hz, --pass-hz and --stop-hz")
        else:
            specification["factor"] = int(specification["factor"])
            asked = FilterSpecification(pass_hz=pass_hz, stop_hz=stop_hz, **specification)
        pair = design_pair(asked, rate_hz)
    rows = _filter_rows(pair)
    for row in rows:
        click.echo(
            f"{row['direction']:8} {row['taps']} taps at {row['fir_rate_hz'] / 1e6:g} MS/s: ripple "
            f"{row['ripple_db']:.3f} dB, stop band {row['attenuation_db']:.1f} dB, images {row['image_db']:.1f} dB, "
            f"gain {row['gain_db']:.2f} dB"
        )
    _write(json_file, {"filters": rows})
    wrong = pair.complaint()
    if wrong is not None:
        raise RunError(wrong)
    out.write_text(ftr.dumps(pair), encoding="utf-8")
    click.echo(f"{out}: written")
    if figure is not None:
        from testbed.report.filter_figure import write_filter_figure

        write_filter_figure(pair, figure)
        click.echo(f"{figure}: written")


class _Bench:
    """A Pluto at its address, read, and what of it differs from the profile."""

    def __init__(self, uri: str, profile: PlutoProfile, target: str | None) -> None:
        from firmware_cfg.attributes import Attributes
        from firmware_cfg.errors import FirmwareError
        from firmware_cfg.plans import attribute_steps, check, environment_steps, too_fast_for_two, waits_for_boot
        from firmware_cfg.secure_shell import SecureShell

        self.device = Attributes(uri)
        self.identity: Identity = self.device.identity
        check(self.identity, profile)
        self.shell = None if target is None else SecureShell(target)
        self.notes: list[str] = []
        self.steps: list[Step] = []
        narrow, two = waits_for_boot(profile, self.device), too_fast_for_two(profile, self.device)
        if self.shell is None:
            self.notes.append("the U-Boot environment was not looked at")
            if narrow or two:
                runs = "with two channels, up to 30.72 MS/s" if two else "as an AD9363, up to 20 MHz"
                raise FirmwareError(
                    f"the device runs {runs}, but the profile wants {profile.sample_rate_hz / 1e6:g} MS/s and "
                    f"{profile.bandwidth_hz / 1e6:g} MHz: let its U-Boot environment be changed too, without "
                    "--no-environment"
                )
        else:
            there, now = self.shell.read()
            check(there, profile)
            self.steps += environment_steps(profile, now)
        if two:
            self.notes.append("a rate above 30.72 MS/s comes with the next boot, all else after it: apply once more")
            return
        self.steps += attribute_steps(profile, self.device)
        if narrow:
            self.notes.append("a bandwidth above 20 MHz comes with the next boot: apply once more then")
        if profile.channels > self.device.channels:
            self.notes.append("the second receiver appears with the next boot: apply once more then")
        if profile.tdd and not self.device.has_tdd:
            self.notes.append("the TDD engine is not there (iio-axi-tdd-0): the firmware was built without it")
        self.notes += _for_the_driver(profile)


def _for_the_driver(profile: PlutoProfile) -> list[str]:
    notes = [f"kernel buffers: {profile.kernel_buffers}, set by whoever opens the buffer; the device stores none"]
    if profile.tdd:
        notes.append("TDD engine: armed by the driver at each run; the shared edge goes to pin L12N")
    return notes


def _offline(profile: PlutoProfile) -> list[Step]:
    """Steps of a device fresh from its box, of which nothing was read."""
    from firmware_cfg import ftr
    from firmware_cfg.attributes import Address
    from firmware_cfg.filters import design_pair
    from firmware_cfg.plans import Step, environment_steps, wanted_attributes

    wanted = [(Address("sampling_frequency", "voltage0"), f"{profile.sample_rate_hz:.0f}")]
    if profile.filter is not None:
        shape = ftr.loads(ftr.dumps(design_pair(profile.filter, profile.sample_rate_hz)), source=profile.purpose).shape
        wanted = [(Address("filter_fir_config"), shape), (Address("voltage_filter_fir_en", "out"), "1"), *wanted]
    wanted += wanted_attributes(profile, profile.channels)
    steps = environment_steps(profile, {})

    def command(address: Address, value: str) -> str:
        return address.command("URI", '"$(cat FILE.ftr)"' if address.name == "filter_fir_config" else value)

    return steps + [
        Step("attribute", str(address), "not read", value, command(address, value), "", "until power is removed")
        for address, value in wanted
    ]


def _print_plan(
    device: str,
    name: str,
    profile: PlutoProfile,
    identity: Identity | None,
    steps: Sequence[Step],
    notes: Sequence[str],
) -> None:
    click.echo(f"{name} for {device}: {profile.purpose}")
    if identity is not None:
        click.echo(
            f"found {identity.model}, firmware {identity.firmware}, serial number {identity.serial or 'unknown'}"
        )
    if not [step for step in steps if not _rewritten(step)]:
        click.echo("nothing is to be changed")
    for lasts in dict.fromkeys(step.lasts for step in steps):
        click.echo(f"\nlasts {lasts}:")
        for step in steps:
            if step.lasts == lasts:
                click.echo(f"  {step.text()}\n      {step.command}")
    undo = [step for step in reversed(steps) if step.undo]
    if undo:
        click.echo("\nto undo, in this order:")
        for step in undo:
            click.echo(f"      {step.undo}")
    if any(step.kind == "environment" for step in steps):
        click.echo("fw_setenv is typed on the device: ssh root@HOST; then device_reboot reset")
    for note in notes:
        click.echo(f"note: {note}")


def _print_usrp(device: str, name: str, profile: UsrpProfile | Profile, json_file: Path | None) -> None:
    import msgspec

    settings = msgspec.to_builtins(profile)
    click.echo(f"{name} for {device}: {profile.purpose}")
    click.echo("nothing is changed on a USRP, which keeps no settings; the driver sets at each run:")
    for key, value in settings.items():
        if key not in ("purpose", "device"):
            click.echo(f"  {key}: {value:.12g}" if isinstance(value, float) else f"  {key}: {value}")
    click.echo("to undo: nothing")
    _write(json_file, {"device": device, "profile": name, "steps": [], "settings": settings})


def _plan_rows(
    device: str, profile: str, identity: Identity | None, steps: Sequence[Step], notes: Sequence[str]
) -> dict[str, Any]:
    keys = ("kind", "name", "before", "after", "command", "undo", "lasts")
    return {
        "device": device,
        "profile": profile,
        "identity": None
        if identity is None
        else {"model": identity.model, "firmware": identity.firmware, "serial": identity.serial},
        "steps": [{key: getattr(step, key) for key in keys} | {"rewritten": _rewritten(step)} for step in steps],
        "notes": list(notes),
    }


def _rewritten(step: Step) -> bool:
    """Whether the step only writes again what is there, because it cannot be read whole."""
    return (step.before is not None and step.before == step.after) or step.name.endswith("voltage_filter_fir_en")


def _filter_rows(pair: FilterPair) -> list[dict[str, Any]]:
    from math import isfinite

    rows = []
    for one in (pair.receive, pair.transmit):
        found = one.response()
        rows.append(
            {
                "direction": one.chain.direction,
                "taps": len(one.coefficients),
                "fir_rate_hz": one.chain.fir_rate_hz,
                "converter_hz": one.chain.converter_hz,
                "gain_setting_db": one.gain_db,
                "ripple_db": found.ripple_db,
                "attenuation_db": found.attenuation_db,
                "image_db": found.image_db if isfinite(found.image_db) else None,
                "gain_db": found.gain_db,
                "coefficients": list(one.coefficients),
            }
        )
    return rows


def _is_address(device: str) -> bool:
    return re.match(r"(ip|usb|local|serial):", device) is not None


def _target(device: str, given: str | None) -> str:
    if given is not None:
        return given
    host = re.fullmatch(r"ip:(\[[^]]+\]|[^:]+)(:\d+)?", device)
    if host is None:
        raise UserError(
            f"DEVICE is {device}, which tells no host for ssh: give --ssh root@HOST, or --no-environment to leave the "
            "U-Boot environment alone"
        )
    return f"root@{host[1].strip('[]')}"


@contextmanager
def _one_line() -> Iterator[None]:
    """Turn what is wrong with a profile, a filter or a device into wrong input."""
    from firmware_cfg.errors import FirmwareError

    try:
        yield
    except FirmwareError as error:
        raise UserError(str(error)) from None


def _write(path: Path | None, rows: dict[str, Any]) -> None:
    if path is not None:
        import msgspec

        path.write_bytes(msgspec.json.format(msgspec.json.encode(rows), indent=1))
