"""`isac sim`: simulated devices that unchanged drivers reach like real ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from testbed.errors import UserError

if TYPE_CHECKING:
    from testbed.radio.simulated_pluto import PlutoServer

__all__ = ["command"]


@click.group("sim")
def command() -> None:
    """Serve simulated devices, which unchanged drivers reach like real ones."""


@command.command("pluto", short_help="Serve ADALM-Plutos as their firmware would, until interrupted.")
@click.option(
    "--port",
    "ports",
    type=click.IntRange(0, 65535),
    multiple=True,
    default=[30431],
    show_default=True,
    help="0 takes a free one. With several --node, one --port for each, or the first of consecutive ones.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address of this machine to listen at.")
@click.option(
    "--model",
    type=click.Choice(["1r1t", "2r2t"]),
    default="1r1t",
    show_default=True,
    help="The stock Pluto, or one told to be an AD9361 with two channels.",
)
@click.option(
    "--clock",
    type=click.Choice(["virtual", "wall"]),
    default="virtual",
    show_default=True,
    help="Time that waits for whoever reads, the same bits every time; or the wall clock, which loses samples.",
)
@click.option(
    "--scenario",
    type=click.Path(path_type=Path),
    help="Experiment file in whose scene it stands; without one its transmitter is wired to its receiver.",
)
@click.option("--node", "nodes", multiple=True, metavar="NAME", help="Where in the scene; give several for several.")
@click.option(
    "--ether", metavar="HOST:PORT", help="Ether of another process in which the node is, instead of one of its own."
)
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0, 600),
    default=0.25,
    show_default=True,
    metavar="SECONDS",
    help="How long a reception in virtual time waits for the scene's other Plutos.",
)
@click.option(
    "--attenuation",
    "attenuation_db",
    type=click.FloatRange(0, 150),
    default=30.0,
    show_default=True,
    metavar="DB",
    help="Of the cable from the transmitter to the receiver, without a scene.",
)
@click.option("--ideal", is_flag=True, help="Without a scene: no noise, phase noise, imbalance and offset.")
@click.option(
    "--seed", type=click.IntRange(0, 2**53), default=0, show_default=True, help="Of everything random, without a scene."
)
@click.option("--with-parent", is_flag=True, hidden=True, help="End when the standard input does.")
def pluto(
    ports: tuple[int, ...],
    host: str,
    model: str,
    clock: str,
    scenario: Path | None,
    nodes: tuple[str, ...],
    with_parent: bool,
    **how: Any,
) -> None:
    """Serve one or several ADALM-Plutos as their firmware would, until interrupted.

    adi.Pluto("ip:127.0.0.1:PORT"), iio_info -u ip:127.0.0.1:PORT and every other libiio program take it for one.
    """
    servers = _servers(ports, host, model, clock, scenario, nodes, how)
    for server in servers:
        click.echo(f"{server.pluto.name}: {model} Pluto, {clock} clock, at ip:{host}:{server.port}")
    _wait(with_parent)
    for server in servers:
        server.close()


def _servers(
    ports: tuple[int, ...],
    host: str,
    model: str,
    clock: str,
    scenario: Path | None,
    nodes: tuple[str, ...],
    how: dict[str, Any],
) -> list[PlutoServer]:
    from testbed.radio.simulated_pluto import Looped, serve_in_ether, serve_looped, serve_scene
    from testbed.scenario import load

    if scenario is None:
        if nodes or how["ether"]:
            raise UserError("--node and --ether place a Pluto in a scene: give its --scenario too")
        if len(ports) > 1:
            raise UserError("several --port are for several --node of a --scenario")
        looped = Looped(model, clock, how["attenuation_db"], how["ideal"], how["seed"])
        return [serve_looped(looped, host=host, port=ports[0])]
    experiment = load(scenario)
    if not nodes:
        names = ", ".join(node.name for node in experiment.node)
        raise UserError(f"--scenario is given without --node: one or several of {names}")
    if len(set(nodes)) != len(nodes):
        raise UserError(f"--node names one twice: {', '.join(nodes)}")
    if len(ports) not in (1, len(nodes)):
        raise UserError(f"there are {len(nodes)} --node and {len(ports)} --port: one for each, or the first of them")
    if len(ports) < len(nodes):
        ports = tuple(ports[0] + index if ports[0] else 0 for index in range(len(nodes)))
    if how["ether"]:
        if len(nodes) > 1 or clock == "wall":
            raise UserError("in another process's --ether there is one --node, and virtual time")
        return [serve_in_ether(experiment, nodes[0], address=how["ether"], model=model, host=host, port=ports[0])]
    placed = list(zip(nodes, ports, strict=True))
    return serve_scene(experiment, placed, model=model, clock=clock, host=host, wait_s=how["wait_s"])


def _wait(with_parent: bool) -> None:
    """Wait for the end: an interrupt, a termination, or that of the standard input."""
    import signal
    import sys
    import threading

    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())

    def follow() -> None:
        sys.stdin.buffer.read()
        ended.set()

    if with_parent:
        threading.Thread(target=follow, daemon=True).start()
    ended.wait()
