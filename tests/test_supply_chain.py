"""What is installed is what was tested: lock files with hashes, a list of all software, images."""

import json
import re
import tomllib
from importlib.metadata import version

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from support.paths import ROOT, TESTS

from fedrad.system.release import release

LOCKS = ("requirements.lock", "requirements-dev.lock")


def text_of(lock: str) -> str:
    return (ROOT / lock).read_text(encoding="utf-8")


def versions(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^(\S+)==(\S+) \\$", text_of(lock), flags=re.M))


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_hashes_and_no_address(lock):
    """`--require-hashes` refuses a file in which one is missing."""
    text = text_of(lock)
    packages = re.split(r"\n(?=\S)", text.strip())
    assert len(packages) == len(versions(lock)) > 100
    line = re.compile(r"[a-z0-9-]+==[0-9][0-9a-z.+]*( \\\n    --hash=sha256:[0-9a-f]{64})+")
    assert [package for package in packages if not line.fullmatch(package)] == []


@pytest.mark.parametrize(
    ("lock", "extras"), [("requirements.lock", []), ("requirements-dev.lock", ["export", "dev"])]
)
def test_the_lock_has_what_the_project_asks_for(lock, extras):
    """After a change of a dependency, `make lock`."""
    asked = [*project()["project"]["dependencies"]]
    for extra in extras:
        asked += project()["project"]["optional-dependencies"][extra]
    locked = versions(lock)
    for requirement in map(Requirement, asked):
        if requirement.name != "fedrad":
            assert Version(locked[canonicalize_name(requirement.name)]) in requirement.specifier


def test_a_hospital_and_the_tests_have_the_same_versions():
    """What is tested is what a hospital installs."""
    hospital, tested = map(versions, LOCKS)
    assert hospital.items() <= tested.items()
    assert not {"pytest", "playwright", "cyclonedx-bom"} & hospital.keys()


def test_these_tests_run_with_the_locked_versions():
    wrong = {
        name: version(name) for name, one in versions(LOCKS[1]).items() if version(name) != one
    }
    assert wrong == {}, "make install"


def test_images_are_pinned_by_their_content():
    """A tag can be moved to other content, a digest cannot."""
    docker = (ROOT / "deploy" / "docker" / "Dockerfile").read_text()
    assert re.findall(r"^FROM (\S+)", docker, flags=re.M) == ["${PYTHON}", "${PYTHON}"]
    assert re.search(r"^ARG PYTHON=python:3\.11-slim-bookworm@sha256:[0-9a-f]{64}$", docker, re.M)
    assert "--require-hashes" in docker


@pytest.fixture(scope="module")
def sbom(tmp_path_factory) -> dict:
    """The file of `make sbom`, which has been checked against the schema of CycloneDX."""
    import subprocess
    import sys

    file = tmp_path_factory.mktemp("sbom") / "fedrad.cdx.json"
    subprocess.run([sys.executable, str(TESTS / "sbom.py"), str(file)], check=True)
    return json.loads(file.read_text())


@pytest.mark.slow
class TestListOfSoftware:
    """`make sbom`."""

    def test_it_names_all_that_a_hospital_installs_with_licence_and_hashes(self, sbom):
        parts = {canonicalize_name(part["name"]): part for part in sbom["components"]}
        assert {name: part["version"] for name, part in parts.items()} == versions(LOCKS[0])
        for part in parts.values():
            (files,) = [r for r in part["externalReferences"] if r.get("hashes")]
            assert files["type"] == "distribution"
            assert part["licenses"]

    def test_it_names_the_code_of_fedrad(self, sbom):
        own = sbom["metadata"]["component"]
        assert (own["name"], own["version"]) == ("fedrad", version("fedrad"))
        assert own["hashes"][0]["content"] == release().partition("+sha256:")[2]
        (depends,) = [d for d in sbom["dependencies"] if d["ref"] == own["bom-ref"]]
        direct = {canonicalize_name(ref.partition("==")[0]) for ref in depends["dependsOn"]}
        asked = {Requirement(r).name for r in project()["project"]["dependencies"]}
        assert direct == asked

    def test_it_tells_nothing_of_the_machine_that_made_it(self, sbom):
        text = json.dumps(sbom)
        assert "file:" not in text
        assert str(ROOT) not in text
        assert not re.search(r'"/(tmp|home|root|opt|usr)', text)
