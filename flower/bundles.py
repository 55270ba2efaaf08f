"""Only installed code runs: what a bundle may hold, checked before anything of it is unpacked.

A Flower bundle is code chosen by whoever starts a run. fedrad's is one file, in the folder
`bundle`: it holds no code and names the apps of the fedrad that the site installed. Anything else
is refused, whoever sent it.
"""

import re
import tomllib
import zipfile
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

BUNDLE = Path(__file__).parent / "bundle" / "pyproject.toml"
"""fedrad's own, whose apps and names any other is compared with."""
FILES = {"pyproject.toml", ".info/CONTENT", ".info/METADATA"}
"""Files of a bundle: fedrad's own, and what Flower adds."""
LARGEST = 64 * 1024
"""Bytes a file of a bundle may unpack to."""
VERSION = r"[0-9A-Za-z.+-]{1,40}"
"""Of version, name and publisher Flower makes the name of the folder that it unpacks into."""

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
            apps, version = _apps(project), project["project"]["version"]
            has_our_name = (
                _names(project) == _names(_own()) and re.fullmatch(VERSION, version) is not None
            )
            dependencies = project["project"].get("dependencies")
    except BundleNotApprovedError:
        raise
    except Exception:  # whatever a hostile archive makes its readers raise, its text tells nobody
        raise BundleNotApprovedError(UNREADABLE) from None
    if apps != _apps(_own()):
        raise BundleNotApprovedError(OTHER_APPS)
    if not has_our_name:
        raise BundleNotApprovedError(OTHER_NAME)
    if dependencies:
        raise BundleNotApprovedError(PACKAGES)


@cache
def _own() -> dict[str, Any]:
    return tomllib.loads(BUNDLE.read_text(encoding="utf-8"))


def _apps(project: dict[str, Any]) -> Any:
    return project["tool"]["flwr"]["app"]["components"]


def _names(project: dict[str, Any]) -> tuple[Any, Any]:
    return project["project"]["name"], project["tool"]["flwr"]["app"]["publisher"]
