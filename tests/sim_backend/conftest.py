"""Whether libiio and its Python binding are here; what needs them is skipped with the reason where they are not."""

from __future__ import annotations

import shutil
from ctypes.util import find_library

import pytest


@pytest.fixture(scope="session")
def libiio() -> None:
    """Skip where Debian's libiio0 is missing."""
    if find_library("iio") is None:
        pytest.skip("libiio is missing: apt-get install libiio0")
    pytest.importorskip("iio", reason="pylibiio is missing: pip install 'isac-testbed[pluto]'")
    pytest.importorskip("adi", reason="pyadi-iio is missing: pip install 'isac-testbed[pluto]'")


@pytest.fixture(scope="session")
def iio_programs() -> None:
    """Skip where Debian's libiio-utils are missing."""
    if shutil.which("iio_info") is None:
        pytest.skip("iio_info is missing: apt-get install libiio-utils")
