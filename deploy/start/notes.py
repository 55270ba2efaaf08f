"""How an experiment was started: a note in its folder, which `fedrad resume` reads."""

from pathlib import Path

SIMULATION = Path("sites") / "simulation.json"
"""Of a simulation: engine, sites and their folders. It lies on the sites' side of the folder."""
SUPERLINK = Path("superlink.json")
"""Of an experiment over hospitals: the SuperLink's address and certificates."""


def was_started(folder: Path) -> bool:
    """Whether an experiment was started in a folder, so that it can be resumed."""
    return any((folder / note).is_file() for note in (SIMULATION, SUPERLINK))
