"""What this testbed writes into SigMF beyond the core: the extension namespace ``isac`` and its version."""

from __future__ import annotations

from typing import Any

__all__ = ["COLLECTION_SUFFIX", "DATA_SUFFIX", "EXTENSIONS", "META_SUFFIX", "SIGMF_VERSION"]

SIGMF_VERSION = "1.2.6"
DATA_SUFFIX = ".sigmf-data"
META_SUFFIX = ".sigmf-meta"
COLLECTION_SUFFIX = ".sigmf-collection"

EXTENSIONS: list[dict[str, Any]] = [{"name": "isac", "version": "1.0.0", "optional": True}]
"""Declared in every file; optional, because the samples can be read without it."""
