"""Refuse a dependency whose licence would bind fedrad: run by `make lint`.

Permissive licences, weak copyleft used unmodified (LGPL, MPL), and NVIDIA's own for the CUDA
libraries that PyTorch's wheels bring along are accepted; GPL and AGPL are not.
"""

import json
import subprocess
import sys

FORBIDDEN = ("GPL", "AFFERO")
WEAK = ("LGPL", "LESSER")
# Packages whose metadata name no licence, looked up by hand in their repositories.
KNOWN = {
    "cuda-toolkit": "NVIDIA Proprietary Software",
    "axe-playwright-python": "MIT; axe-core in it: MPL-2.0",
}


def main() -> int:
    """Print what is forbidden or unknown; 1 if anything is."""
    command = [sys.executable, "-m", "piplicenses", "--format=json", "--from=mixed"]
    packages = json.loads(
        subprocess.run(command, capture_output=True, check=True, text=True).stdout
    )
    bad = []
    for package in packages:
        licence = KNOWN.get(package["Name"], package["License"])
        upper = licence.upper()
        weak = any(word in upper for word in WEAK)
        if (any(word in upper for word in FORBIDDEN) and not weak) or upper == "UNKNOWN":
            bad.append(f"{package['Name']} {package['Version']}: {licence}")
    print(f"{len(packages)} packages, {len(bad)} with a licence that is not accepted")
    print("\n".join(bad))
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
