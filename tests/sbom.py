"""Write a list of all software that a hospital installs with fedrad: run by `make sbom`.

The list is a CycloneDX bill of materials (JSON): fedrad with the hash of its code, and every
package of `requirements.lock` with version, licence, and the SHA-256 of the files that it may be
installed from. Licences come from the installed packages, hashes from the lock file. Nothing of the
machine that makes the list is in it.
"""

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from licences import KNOWN
from packaging.utils import canonicalize_name

from fedrad.system.release import release

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
Part = dict[str, Any]


def locked(text: str) -> dict[str, tuple[str, list[str]]]:
    """Package -> version and SHA-256 of its files, as a lock file has them."""
    packages = re.split(r"\n(?=\S)", text.replace("\\\n", ""))
    found = [re.match(r"(\S+)==(\S+)", package) for package in packages]
    return {
        match[1]: (match[2], re.findall(r"sha256:([0-9a-f]{64})", package))
        for match, package in zip(found, packages, strict=True)
        if match
    }


def installed() -> Part:
    """What cyclonedx-bom says of this environment, in the order of the names."""
    command = [sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible"]
    command += ["--pyproject", str(ROOT / "pyproject.toml"), sys.executable]
    made = subprocess.run(command, capture_output=True, check=True, text=True)
    bill: Part = json.loads(made.stdout)
    return bill


def for_hospitals(bill: Part, packages: dict[str, tuple[str, list[str]]], code: str) -> Part:
    """The part of an environment's list that a hospital installs, without this machine.

    Parameters
    ----------
    bill
        List of an environment in which more may be installed.
    packages
        Package -> version and hashes: what a hospital installs.
    code
        The release of fedrad (`fedrad.system.release`).

    Raises
    ------
    SystemExit
        If a package is not installed, or in another version: make the environment anew.
    """
    there = {canonicalize_name(part["name"]): part for part in bill["components"]}
    wrong = [
        f"{name}=={version}"
        for name, (version, _) in packages.items()
        if there.get(name, {}).get("version") != version
    ]
    if wrong:
        raise SystemExit(f"not installed as locked: {', '.join(wrong)}; `make install` does it")
    kept = [_component(there[name], hashes) for name, (_, hashes) in packages.items()]
    own = bill["metadata"]["component"] | {
        "version": importlib.metadata.version("fedrad"),
        "hashes": [{"alg": "SHA-256", "content": code.partition("+sha256:")[2]}],
        "purl": f"pkg:pypi/fedrad@{importlib.metadata.version('fedrad')}",
    }
    references = {part["bom-ref"] for part in kept}
    depends = [
        {
            "ref": one["ref"],
            "dependsOn": [ref for ref in one.get("dependsOn", ()) if ref in references],
        }
        for one in bill["dependencies"]
        if one["ref"] in references | {own["bom-ref"]}
    ]
    return bill | {
        "metadata": bill["metadata"] | {"component": own},
        "components": kept,
        "dependencies": depends,
    }


def _component(part: Part, hashes: list[str]) -> Part:
    """A package with its hashes, and its licence in words where its metadata give no identifier."""
    if not part.get("licenses"):
        words = KNOWN.get(part["name"]) or importlib.metadata.metadata(part["name"])["License"]
        part = part | {"licenses": [{"license": {"name": words}}]}
    files = {
        "type": "distribution",
        "url": part["purl"],
        "comment": "the files that requirements.lock accepts, one for each platform",
        "hashes": [{"alg": "SHA-256", "content": content} for content in hashes],
    }
    others = [one for one in part.get("externalReferences", ()) if "file:" not in one["url"]]
    return part | {"externalReferences": [*others, files]}


def main() -> None:
    """Write the list into the file that is given, once it has been checked."""
    packages = locked(LOCK.read_text(encoding="utf-8"))
    text = json.dumps(for_hospitals(installed(), packages, release()), indent=1)
    if fault := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise SystemExit(f"not a valid CycloneDX file: {fault}")
    file = Path(sys.argv[1])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + "\n", encoding="utf-8")
    print(f"{file}: {len(packages)} packages")


if __name__ == "__main__":
    main()
