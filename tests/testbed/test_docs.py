"""The documentation holds: its commands run and print what it shows, and what it refers to is there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
SOURCES = sorted(
    path for package in ("dsp", "firmware_cfg", "sim_backend", "testbed") for path in (ROOT / package).rglob("*.py")
)
ENVIRONMENT = os.environ | {
    "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    "OPENBLAS_NUM_THREADS": "1",
    "COLUMNS": "200",
}

Block = tuple[str, str]


def blocks(page: Path) -> list[Block]:
    """(language, text) of the fenced blocks of a page."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def named_files(page: Path) -> list[str]:
    """Files that the reader is told to save a block as, in order."""
    return re.findall(r"[Ss]ave\s+(?:this|it)\s+as\s+`([\w.-]+)`", page.read_text(encoding="utf-8"))


def shown_as(shown: str, printed: str) -> bool:
    """Whether the pieces of ``shown`` between ellipses occur in ``printed`` in their order."""
    pieces = [piece.strip() for piece in shown.split("…")]
    return re.search(".*".join(re.escape(piece) for piece in pieces), printed, flags=re.DOTALL) is not None


def run(command: str, folder: Path) -> str:
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    return done.stdout + (f"exit code {done.returncode}\n" if done.returncode else "")


def follow(page: Path, folder: Path) -> None:
    """Do what a page says: save its files, type its commands, run its Python, and look whether it is as shown."""
    names = named_files(page)
    for language, text in blocks(page):
        if language == "console":
            parts = re.split(r"^\$ (.*)\n", text, flags=re.MULTILINE)[1:]
            for command, shown in zip(parts[::2], parts[1::2], strict=True):
                printed = run(command, folder)
                assert shown_as(shown, printed), f"$ {command}\n{printed}\nis not as shown:\n{shown}"
                assert ("exit code" in shown) == ("exit code" in printed), f"$ {command}\n{printed}"
        elif language == "toml" and names:
            (folder / names.pop(0)).write_text(text, encoding="utf-8")
        elif language == "python":
            if names and names[0].endswith(".py"):
                (folder / names.pop(0)).write_text(text, encoding="utf-8")
                continue
            script = folder / "block.py"
            script.write_text(text, encoding="utf-8")
            printed = run(f"{sys.executable} {script}", folder)
            assert "exit code" not in printed, printed


@pytest.mark.parametrize(
    "page",
    [
        "tutorial.md",
        "how-to/foreign-recordings.md",
        "how-to/own-method.md",
        "how-to/firmware.md",
        "reference/experiment-file.md",
    ],
)
def test_a_page_can_be_followed(page: str, tmp_path: Path) -> None:
    follow(DOCS / page, tmp_path)


def test_the_comparison_of_output_can_fail() -> None:
    assert shown_as("a … c\n", "x\na b c\n")
    assert not shown_as("a … d\n", "x\na b c\n")
    assert not shown_as("c … a\n", "x\na b c\n")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target.split("#")[0]).exists(), f"{page.name}: {target}"


def test_the_map_names_every_page() -> None:
    text = (DOCS / "index.md").read_text(encoding="utf-8")
    missing = [
        str(page.relative_to(DOCS))
        for page in DOCS.rglob("*.md")
        if page.name != "index.md" and page.parent.name != "decisions" and str(page.relative_to(DOCS)) not in text
    ]
    assert not missing, f"docs/index.md does not name {missing}"


def test_decisions_are_numbered_and_listed() -> None:
    records = sorted(path.name for path in (DOCS / "decisions").glob("[0-9]*.md"))
    listed = (DOCS / "decisions" / "README.md").read_text(encoding="utf-8")
    assert [int(name[:4]) for name in records] == list(range(1, len(records) + 1))
    assert all(name in listed for name in records)


def test_pages_that_the_code_names_exist() -> None:
    for source in SOURCES:
        for page, equation in re.findall(r"(docs/[\w/-]+\.md)(?: eq\. (\d+))?", source.read_text(encoding="utf-8")):
            where = f"{source.relative_to(ROOT)} names {page}"
            assert (ROOT / page).is_file(), where
            if equation:
                text = (ROOT / page).read_text(encoding="utf-8")
                assert re.search(rf"\s\({equation}\)$", text, flags=re.MULTILINE), f"{where} eq. {equation}"


@pytest.mark.parametrize("page", sorted((DOCS / "methods").glob("*.md")), ids=lambda page: page.stem)
def test_equations_count_from_one(page: Path) -> None:
    numbers = [int(one) for one in re.findall(r"\s{2}\((\d+)\)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)]
    assert all(after == before + 1 for before, after in pairwise([0, *numbers]))


def test_commands_in_the_pages_are_there() -> None:
    from testbed.cli import COMMANDS

    for page in PAGES:
        for command in re.findall(r"(?:^|[`$ /])isac ([a-z]+)\b", page.read_text(encoding="utf-8")):
            assert command in COMMANDS, f"{page.relative_to(ROOT)}: isac {command}"
