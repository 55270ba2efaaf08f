"""Only installed code runs: what a bundle may hold, checked before anything of it is unpacked.

A Flower bundle is code chosen by whoever starts a run. fedrad's holds none: it names the apps of
the fedrad that the site installed. Anything else is refused, whoever sent it.
"""

import re
import tomllib
import zipfile
from io import BytesIO

APPS = {"serverapp": "fedrad.server.app:app", "clientapp": "fedrad.client.app:app"}
FILES = {"pyproject.toml", ".info/CONTENT", ".info/METADATA"}
"""Files of a bundle: fedrad's own, and what Flower adds."""
LARGEST = 64 * 1024
"""Bytes a file of a bundle may unpack to."""


NAME, PUBLISHER, VERSION = "fedrad-bundle", "fedrad", r"[0-9A-Za-z.+-]{1,40}"
"""Of these Flower makes the name of the folder that it unpacks into."""

FORM = "a bundle of another form than fedrad's"
MORE = "the bundle holds files that fedrad's does not"
LARGE = "the bundle holds a file larger than fedrad's"
UNREADABLE = "the bundle cannot be read"
OTHER_APPS = "the bundle names other apps than fedrad's"
OTHER_NAME = "the bundle has another name than fedrad's"
PACKAGES = "the bundle asks for packages to be installed"
NOT_UNPACKED = "the bundle cannot be unpacked at the site"
REFUSALS = (FORM, MORE, LARGE, UNREADABLE, OTHER_APPS, OTHER_NAME, PACKAGES, NOT_UNPACKED)
"""All that a coordinator is told of why a bundle is not run."""


class BundleNotApprovedError(Exception):
    """A bundle that is not fedrad's. The text, one of REFUSALS, goes to the coordinator."""


def approve(content: bytes) -> None:
    """Refuse a bundle that holds more than fedrad's, or names other apps. Raises
    BundleNotApprovedError."""
    try:
        with zipfile.ZipFile(BytesIO(content)) as bundle:
            held = bundle.infolist()
            names = [file.filename for file in held]
            if len(set(names)) != len(names) or "pyproject.toml" not in names:
                raise BundleNotApprovedError(FORM)
            if set(names) - FILES:
                raise BundleNotApprovedError(MORE)
            if any(file.file_size > LARGEST for file in held):
                raise BundleNotApprovedError(LARGE)
            project = tomllib.loads(bundle.read("pyproject.toml").decode("utf-8"))
            flower, about = project["tool"]["flwr"]["app"], project["project"]
            components, dependencies = flower["components"], about.get("dependencies")
            named = (about["name"], flower["publisher"]) == (NAME, PUBLISHER)
            named = named and re.fullmatch(VERSION, about["version"]) is not None
    except BundleNotApprovedError:
        raise
    except Exception:  # whatever a hostile archive makes its readers raise, its text tells nobody
        raise BundleNotApprovedError(UNREADABLE) from None
    if components != APPS:
        raise BundleNotApprovedError(OTHER_APPS)
    if not named:
        raise BundleNotApprovedError(OTHER_NAME)
    if dependencies:
        raise BundleNotApprovedError(PACKAGES)
