"""Tests that earn a run trust where no truth is known: each compares what was measured with what must be."""
