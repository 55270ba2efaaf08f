"""Only installed code runs: what a bundle may hold, checked before anything of it is unpacked.

A Flower bundle is code chosen by whoever starts a run. fedrad's holds none: it names the apps of
the fedrad that the site installed. Anything else is refused, whoever sent it.
"""

import tomllib
import zipfile
from io import BytesIO

APPS = {"serverapp": "fedrad.server.app:app", "clientapp": "fedrad.client.app:app"}
FILES = {"pyproject.toml", ".info/CONTENT", ".info/METADATA"}
"""Files of a bundle: fedrad's own, and what Flower adds."""
LARGEST = 64 * 1024
"""Bytes a file of a bundle may unpack to."""


class BundleNotApprovedError(Exception):
    """A bundle that is not fedrad's. The text goes to the coordinator: it tells nothing of the
    site."""


def approve(content: bytes) -> None:
    """Refuse a bundle that holds more than fedrad's, or names other apps. Raises
    BundleNotApprovedError."""
    try:
        with zipfile.ZipFile(BytesIO(content)) as bundle:
            held = bundle.infolist()
            names = [file.filename for file in held]
            if len(set(names)) != len(names) or "pyproject.toml" not in names:
                raise BundleNotApprovedError("a bundle of another form than fedrad's")
            if set(names) - FILES:
                raise BundleNotApprovedError("the bundle holds files that fedrad's does not")
            if any(file.file_size > LARGEST for file in held):
                raise BundleNotApprovedError("the bundle holds a file larger than fedrad's")
            project = tomllib.loads(bundle.read("pyproject.toml").decode("utf-8"))
            components = project["tool"]["flwr"]["app"]["components"]
            dependencies = project["project"].get("dependencies")
    except BundleNotApprovedError:
        raise
    except Exception:  # whatever a hostile archive makes its readers raise, its text tells nobody
        raise BundleNotApprovedError("the bundle cannot be read") from None
    if components != APPS:
        raise BundleNotApprovedError("the bundle names other apps than fedrad's")
    if dependencies:
        raise BundleNotApprovedError("the bundle asks for packages to be installed")
