"""Where things are: the repository, its tests, and the data that lie beside some checkouts."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
SHARED = ROOT.parent / "shared"
"""Real radiographs and awkward inputs; tests that need them skip where they are absent."""
