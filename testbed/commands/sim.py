"""`isac sim`: simulated devices that unchanged drivers reach like real ones."""

from __future__ import annotations

import click

__all__ = ["command"]


@click.group("sim")
def command() -> None:
    """Serve simulated devices, which unchanged drivers reach like real ones."""


@command.command("pluto")
@click.option("--port", type=click.IntRange(0, 65535), default=30431, show_default=True, help="0 takes a free one.")
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
    "--attenuation",
    "attenuation_db",
    type=click.FloatRange(0, 150),
    default=30.0,
    show_default=True,
    metavar="DB",
    help="Of the cable from the Pluto's transmitter to its own receiver.",
)
@click.option("--ideal", is_flag=True, help="Without noise, phase noise, imbalance and offset.")
@click.option("--seed", type=click.IntRange(0, 2**53), default=0, show_default=True, help="Of everything random.")
@click.option("--with-parent", is_flag=True, hidden=True, help="End when the standard input does.")
def pluto(
    port: int, host: str, model: str, clock: str, attenuation_db: float, ideal: bool, seed: int, with_parent: bool
) -> None:
    """Serve an ADALM-Pluto as its firmware would, until interrupted.

    adi.Pluto("ip:127.0.0.1:PORT"), iio_info -u ip:127.0.0.1:PORT and every other libiio program take it for one.
    """
    from testbed.radio.simulated_pluto import Looped, serve_looped

    server = serve_looped(Looped(model, clock, attenuation_db, ideal, seed), host=host, port=port)
    click.echo(f"Pluto {model}, {clock} clock: ip:{host}:{server.port}")
    _wait(with_parent)
    server.close()


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
