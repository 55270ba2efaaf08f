"""Check of Flower bundles before they are unpacked, so that only installed code runs.

A Flower bundle is code that is chosen by the person who starts a run. The bundle of fedrad is one
file, in the folder `bundle`. It holds no code, and names the apps of the fedrad that is installed
at the site. All other bundles are refused.
"""

import re
import tomllib
import zipfile
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

BUNDLE = Path(__file__).parent / "bundle" / "pyproject.toml"
"""The project file of fedrad's bundle, with which others are compared."""
FILES = {"pyproject.toml", ".info/CONTENT", ".info/METADATA"}
"""Files of a bundle: fedrad's, and those that Flower adds."""
LARGEST = 64 * 1024
"""Largest size of an unpacked file, bytes."""
VERSION = r"[0-9A-Za-z.+-]{1,40}"
"""Allowed version; Flower names the folder for unpacking by version, name and publisher."""

FORM = "a bundle of another form than fedrad's"
MORE = "the bundle holds files that fedrad's does not"
LARGE = "the bundle holds a file larger than fedrad's"
UNREADABLE = "the bundle cannot be read"
OTHER_APPS = "the bundle names other apps than fedrad's"
OTHER_NAME = "the bundle has another name than fedrad's"
PACKAGES = "the bundle asks for packages to be installed"
NOT_UNPACKED = "the bundle cannot be unpacked at the site"
REFUSALS = (FORM, MORE, LARGE, UNREADABLE, OTHER_APPS, OTHER_NAME, PACKAGES, NOT_UNPACKED)
"""All reasons that a coordinator can get when a bundle is refused."""


class BundleNotApprovedError(Exception):
    """A bundle that is not fedrad's. The text is one of REFUSALS and is sent to the coordinator."""


def check_bundle(content: bytes) -> None:
    """Raise BundleNotApprovedError unless a bundle holds what fedrad's holds.

    Parameters
    ----------
    content
        The bundle, a zip archive.
    """
    try:
        with zipfile.ZipFile(BytesIO(content)) as bundle:
            files = bundle.infolist()
            names = [file.filename for file in files]
            if len(set(names)) != len(names) or "pyproject.toml" not in names:
                raise BundleNotApprovedError(FORM)
            if set(names) - FILES:
                raise BundleNotApprovedError(MORE)
            if any(file.file_size > LARGEST for file in files):
                raise BundleNotApprovedError(LARGE)
            project = tomllib.loads(bundle.read("pyproject.toml").decode("utf-8"))
            apps, version = _apps(project), project["project"]["version"]
            has_our_name = (
                _names(project) == _names(_fedrad_project())
                and re.fullmatch(VERSION, version) is not None
            )
            dependencies = project["project"].get("dependencies")
    except BundleNotApprovedError:
        raise
    except Exception:  # a hostile archive can cause any error; its text is not sent
        raise BundleNotApprovedError(UNREADABLE) from None
    if apps != _apps(_fedrad_project()):
        raise BundleNotApprovedError(OTHER_APPS)
    if not has_our_name:
        raise BundleNotApprovedError(OTHER_NAME)
    if dependencies:
        raise BundleNotApprovedError(PACKAGES)


@cache
def _fedrad_project() -> dict[str, Any]:
    return tomllib.loads(BUNDLE.read_text(encoding="utf-8"))


def _apps(project: dict[str, Any]) -> Any:
    return project["tool"]["flwr"]["app"]["components"]


def _names(project: dict[str, Any]) -> tuple[Any, Any]:
    return project["project"]["name"], project["tool"]["flwr"]["app"]["publisher"]
