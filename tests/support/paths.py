"""Folders of the repository and its tests, and of data beside some checkouts."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
SHARED = ROOT.parent / "shared"
"""Real radiographs and awkward inputs; tests that need them are skipped if they are absent."""
