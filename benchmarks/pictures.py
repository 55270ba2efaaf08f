"""How files are read, one line a file, to compare two releases of fedrad.

    python benchmarks/pictures.py FOLDER [FOLDER ...] [--size 224] > NOW
    diff BEFORE NOW

Each line has the file, the start of the SHA-256 of its picture (or why it cannot be used),
the contrast scheme, and the remarks. The files are read in this process, one after the other.
"""

import argparse
from hashlib import sha256
from pathlib import Path

from fedrad.client.images.single_file import read_file
from fedrad.models.settings import InputSettings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--size", type=int, default=224)
    arguments = parser.parse_args()
    settings = InputSettings(size=arguments.size)
    for folder in arguments.folders:
        for file in sorted(path for path in folder.rglob("*") if path.suffix != ".csv"):
            if file.is_file():
                reading, picture = read_file(str(file), settings)
                shown = sha256(picture).hexdigest()[:16] if picture else reading.unusable
                name = file.relative_to(folder.parent)
                print(name, shown, reading.scheme, *sorted(reading.remarks), sep=" | ")


if __name__ == "__main__":
    main()
