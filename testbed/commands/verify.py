"""`isac verify`: whether finished runs keep what must hold without any truth to compare with."""

from __future__ import annotations

from pathlib import Path

import click

from testbed.commands.options import json_option, refuse_place

__all__ = ["command"]


@click.command("verify")
@click.argument("runs", nargs=-1, required=True, type=click.Path(file_okay=False, path_type=Path), metavar="RUN...")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder of the page; the first RUN's own."
)
@click.option("--method", help="Method to judge; the run's first two-way method if not given.")
@click.option("--common-clock", is_flag=True, help="The devices shared a clock; counters that stamp times agreed.")
@click.option("--survey-std-m", type=click.FloatRange(min=0), default=0.02, show_default=True, help="Of the survey.")
@click.option("--cable-step-m", type=float, help="Cable that the second RUN has more than the first, in metres.")
@click.option("--velocity-factor", type=click.FloatRange(0.3, 1.0), default=0.66, show_default=True, help="Of it.")
@json_option("Write the verdicts here too.")
def command(
    runs: tuple[Path, ...],
    out: Path | None,
    method: str | None,
    common_clock: bool,
    survey_std_m: float,
    cable_step_m: float | None,
    velocity_factor: float,
    json_file: Path | None,
) -> None:
    """Hold each RUN, a finished run's folder, against what must be so: triangles that close, distances, cables.

    Exit codes: 0 no test failed; 1 one did; 2 the input was wrong. A test that a run does not offer is "not tested".
    """
    import msgspec

    from testbed.environment import versions
    from testbed.errors import UserError
    from testbed.verify import checks
    from testbed.verify.page import write_page
    from testbed.verify.verdict import Options, Subject, Verdict

    options = Options(
        method=method, common_clock=common_clock, survey_std_m=survey_std_m, cable_step_m=cable_step_m,
        velocity_factor=velocity_factor,
    )  # fmt: skip
    if out is not None:
        refuse_place("--out", out)
    subjects = [Subject.of(folder, options) for folder in runs]
    if cable_step_m is not None and len(subjects) != 2:
        raise UserError(
            f"--cable-step-m compares two runs, but {len(subjects)} are named: name the shorter cable's first"
        )
    for subject in subjects:
        known = {row.method for row in subject.run.results.links}
        if subject.method is None or subject.method not in known:
            raise UserError(
                f"{subject.run.path}: has no two-way method to judge ({method or 'none named'}): it has "
                f"{', '.join(sorted(known)) or 'no links'}"
            )
    verdicts: list[Verdict] = []
    curves = []
    for subject in subjects:
        prefix = f"{subject.name}: " if len(subjects) > 1 else ""
        found, drawn = checks.stability(subject)
        own = [checks.common_clock(subject), checks.closure(subject), checks.surveyed_baseline(subject), found]
        verdicts += [msgspec.structs.replace(verdict, test=prefix + verdict.test) for verdict in own]
        curves += drawn
    verdicts.append(checks.cable_step(subjects))
    for verdict in verdicts:
        click.echo(f"{verdict.status:10}  {verdict.test}: {verdict.text}")
    page = write_page(
        runs[0] if out is None else out, " and ".join(subject.name for subject in subjects), str(subjects[0].method),
        verdicts, curves,
    )  # fmt: skip
    click.echo(f"page: {page}")
    if json_file is not None:
        rows = {"environment": versions(), "runs": [str(folder) for folder in runs], "verdicts": verdicts}
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(rows), indent=1))
    if any(verdict.status == "failed" for verdict in verdicts):
        raise click.exceptions.Exit(1)
