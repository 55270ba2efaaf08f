"""A bundle that is not fedrad's is refused, whatever it holds."""

import zipfile
from io import BytesIO
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk
from hypothesis import given
from hypothesis import strategies as st

from fedrad.flower.bundles import BUNDLE, BundleNotApprovedError, check_bundle

PROJECT = BUNDLE.read_text()


def bundle(folder: Path, project: str = PROJECT, **files: str) -> bytes:
    """A bundle as Flower builds it."""
    (folder / "pyproject.toml").write_text(project)
    for name, text in files.items():
        (folder / name.replace("_py", ".py")).write_text(text)
    return build_fab_from_disk(folder)


def test_fedrads_own_bundle_is_approved(tmp_path):
    check_bundle(bundle(tmp_path))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"evil_py": "open('/tmp/x', 'w')"}, "files that fedrad's does not"),
        ({"project": PROJECT.replace("fedrad.client.app", "os.path")}, "other apps"),
        ({"project": PROJECT.replace("fedrad.server.app", "evil.app")}, "other apps"),
        ({"project": PROJECT.replace("dependencies = []", 'dependencies = ["evil"]')}, "packages"),
        ({"project": PROJECT.replace("Runs the", "x" * 70_000)}, "larger than"),
        ({"project": PROJECT.replace('"fedrad-bundle"', '"evil"')}, "another name"),
        (
            {"project": PROJECT.replace('publisher = "fedrad"', 'publisher = "evil"')},
            "another name",
        ),
    ],
)
def test_any_other_bundle_is_refused(tmp_path, change, why):
    with pytest.raises(BundleNotApprovedError, match=why):
        check_bundle(bundle(tmp_path, **change))


def test_what_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(BundleNotApprovedError, match="cannot be read"):
        check_bundle(b"nothing")
    twice = BytesIO()
    with zipfile.ZipFile(twice, "w") as file:
        file.writestr("pyproject.toml", PROJECT)
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("pyproject.toml", PROJECT.replace("fedrad.client.app", "evil"))
    with pytest.raises(BundleNotApprovedError, match="another form"):
        check_bundle(twice.getvalue())


@given(st.binary(max_size=300), st.integers(0, 2**32))
def test_whatever_an_archive_holds_it_is_refused_in_the_same_words(noise, at):
    """A bundle that was damaged anywhere, and a project file of any content."""
    archives = []
    for text in (noise, b"tool = 1", b"[tool.flwr.app]"):
        archive = BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("pyproject.toml", text)
        whole = archive.getvalue()
        archives += [whole, whole[: at % len(whole)]]
    for content in (*archives, noise):
        with pytest.raises(BundleNotApprovedError):
            check_bundle(content)
