"""`isac bench`: accuracy against the bounds and speed against the bare transforms, measured here and now."""

from __future__ import annotations

from pathlib import Path

import click

from testbed.commands.options import json_option, methods_file_option, refuse_place

__all__ = ["command"]


@click.group("bench")
def command() -> None:
    """Measure what this installation does, against bounds and references."""


@command.command("accuracy", short_help="Errors beside their bounds, with trials and standard errors.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--trials", type=click.IntRange(min=1), help="Independent experiments; each bench's own number if not given."
)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Of the first trial.")
@click.option("--workers", type=click.IntRange(min=1), default=2, show_default=True, help="Processes.")
@methods_file_option
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("bench/accuracy"),
    show_default=True,
    help="Folder for a table and a figure of each bench; those of the same name are replaced.",
)
@json_option("Write the figures here too.")
def accuracy(
    names: tuple[str, ...], trials: int | None, seed: int, workers: int, out: Path, json_file: Path | None
) -> None:
    """Root mean square errors beside their bounds, with trials and standard errors; all benches if none is named."""
    from testbed.bench.accuracy import BENCHES, run_bench
    from testbed.bench.catalogue import PAGES, page
    from testbed.bench.folder import print_verdicts, write_goals, write_page
    from testbed.bench.pages import judged
    from testbed.bench.rows import print_rows, write_rows
    from testbed.environment import versions
    from testbed.errors import UserError
    from testbed.progress import progress_bar

    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        raise UserError(f"bench accuracy: no bench is called {unknown[0]!r}: there are {', '.join(BENCHES)}")
    refuse_place("--out", out)
    rows, verdicts = [], {}
    for name in names or BENCHES:
        with progress_bar(trials or BENCHES[name][0]) as progress:
            made = run_bench(name, trials=trials, seed=seed, workers=workers, progress=progress)
        rows += made
        verdicts[name] = judged(page(name).goals, made)
        # after each bench, so that one interrupted later leaves the others' pages
        out.mkdir(parents=True, exist_ok=True)
        write_page(out, name, page(name), made, versions(), seed=seed)
        write_goals(out, PAGES)
    print_rows(rows)
    print_verdicts(verdicts)
    click.echo(f"all figures, as tables and pictures, in {out}")
    if json_file is not None:
        write_rows(json_file, rows, versions())


@command.command("speed", short_help="Each stage against a copy, bare transforms and numpy.")
@click.argument("names", nargs=-1, metavar="[GROUP]...")
@click.option("--rounds", type=click.IntRange(min=7), default=9, show_default=True, help="Of every comparison.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("bench/speed"),
    show_default=True,
    help="Folder for the table and the figures; those of the same name are replaced.",
)
@json_option("Write the figures here too.")
def speed(names: tuple[str, ...], rounds: int, out: Path, json_file: Path | None) -> None:
    """Each stage against a copy, bare transforms and plain numpy, one thread; all groups if none is named."""
    from testbed.bench.rows import write_rows
    from testbed.bench.speed_run import GROUPS, measured, print_speed, write_speed
    from testbed.environment import versions
    from testbed.errors import UserError
    from testbed.progress import progress_bar

    unknown = [name for name in names if name not in GROUPS]
    if unknown:
        raise UserError(f"bench speed: no group is called {unknown[0]!r}: there are {', '.join(GROUPS)}")
    refuse_place("--out", out)
    rows = []
    chosen = names or tuple(GROUPS)
    with progress_bar(len(chosen)) as progress:
        for number, name in enumerate(chosen):
            rows += measured(name, rounds, lambda _, text, number=number: progress(number, text))  # type: ignore[misc]
    out.mkdir(parents=True, exist_ok=True)
    write_speed(out, rows, versions())
    print_speed(rows)
    click.echo(f"all figures, as tables and pictures, in {out}")
    if json_file is not None:
        write_rows(json_file, rows, versions())


@command.command("live", short_help="Highest rate sustained without dropping a round.")
@click.option("--seconds", type=click.FloatRange(min=1), default=60.0, show_default=True, help="Length of the stream.")
@click.option(
    "--rate",
    "rate_msps",
    type=click.FloatRange(min=0, min_open=True),
    metavar="MS/S",
    help="Million samples per second and antenna; the highest sustained is searched for if not given.",
)
@click.option("--depth", type=click.IntRange(min=1), default=3, show_default=True, help="Rounds held at most.")
@click.option("--recording", type=click.Path(path_type=Path), help="A run's folder to stream instead of a simulation.")
@json_option("Write the figures here too.")
@click.option("--exact", is_flag=True, help="Process every round by the exact pipeline, as `isac replay` does.")
def live(
    seconds: float, rate_msps: float | None, depth: int, recording: Path | None, json_file: Path | None, exact: bool
) -> None:
    """Highest rate that the whole chain sustains without dropping a round, its latency and memory."""
    from testbed.bench.live import live_rows, recorded_source, simulated_source
    from testbed.bench.rows import print_rows, write_rows
    from testbed.environment import versions
    from testbed.progress import progress_bar

    with progress_bar(None) as progress:
        progress(0, "making rounds" if recording is None else "reading rounds")
        source = simulated_source() if recording is None else recorded_source(recording)
        rate_hz = None if rate_msps is None else rate_msps * 1e6
        rows = live_rows(source, seconds=seconds, rate_hz=rate_hz, depth=depth, exact=exact, progress=progress)
    print_rows(rows)
    if json_file is not None:
        write_rows(json_file, rows, versions())


@command.command("pluto", short_help="The simulated Pluto under the unchanged client.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@json_option("Write the figures here too.")
def pluto(names: tuple[str, ...], json_file: Path | None) -> None:
    """Simulated Pluto under the unchanged client: speed, losses, error vector, malformed input; or those named."""
    from testbed.bench.rows import print_rows, write_rows
    from testbed.bench.simulated_pluto import bench
    from testbed.environment import versions

    rows = bench(names)
    print_rows(rows)
    if json_file is not None:
        write_rows(json_file, rows, versions())


@command.command("paper", short_help="Figures of the papers on network-level sensing.")
@click.argument("names", nargs=-1, metavar="[FIGURE]...")
@click.option("--trials", type=click.IntRange(min=2), help="Random networks; each figure's own number if not given.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Of the random networks.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("bench/paper"),
    show_default=True,
    help="Folder for a table and a figure of each; those of the same name are replaced.",
)
@json_option("Write the figures here too.")
def paper(names: tuple[str, ...], trials: int | None, seed: int, out: Path, json_file: Path | None) -> None:
    """Reproduce figures of the papers on network-level sensing, closed form and simulation on one plot; `all` or none
    named: every one.
    """
    from testbed.bench.paper.catalogue import FIGURES
    from testbed.bench.paper.figure import draw, figure_rows, page_text, print_compared
    from testbed.bench.rows import write_rows
    from testbed.environment import versions
    from testbed.errors import UserError
    from testbed.progress import progress_bar

    wanted = list(FIGURES) if not names or "all" in names else list(names)
    unknown = [name for name in wanted if name not in FIGURES]
    if unknown:
        raise UserError(f"bench paper: no figure is called {unknown[0]!r}: there are {', '.join(FIGURES)}, or all")
    refuse_place("--out", out)
    out.mkdir(parents=True, exist_ok=True)
    made = []
    with progress_bar(len(wanted)) as progress:
        for done, name in enumerate(wanted):
            progress(done, name)
            usual, make = FIGURES[name]
            figure = make(usual if trials is None else trials, seed)
            draw(figure, out / f"{name}.png")
            (out / f"{name}.md").write_text(page_text(figure), encoding="utf-8")
            made.append(figure)
    print_compared(made)
    click.echo(f"figures and tables in {out}")
    if json_file is not None:
        write_rows(json_file, [row for figure in made for row in figure_rows(figure)], versions())
