"""Files in an experiment's folder that record how it was started, for `fedrad resume`."""

from pathlib import Path

SIMULATION = Path("sites") / "simulation.json"
"""Of a simulation: engine, and folders of the sites. It is in the sites' part of the folder."""
SUPERLINK = Path("superlink.json")
"""Of an experiment over hospitals: the coordinator's folder."""


def was_started(folder: Path) -> bool:
    """Whether an experiment was started in a folder, so that it can be resumed."""
    return any((folder / note).is_file() for note in (SIMULATION, SUPERLINK))
