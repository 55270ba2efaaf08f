"""A string that names a module of another room is no way around the order of imports."""

import ast
import re
import tomllib
from pathlib import Path

import pytest
from support.paths import TESTS

REPOSITORY = TESTS.parent
EXCEPTION = Path("flower") / "bundle" / "pyproject.toml"
"""Flower's format asks for the names of the apps there."""


def layers() -> list[set[str]]:
    """The rooms from the top to the bottom, as import-linter has them."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    contracts = project["tool"]["importlinter"]["contracts"]
    (order,) = (c for c in contracts if c["name"].startswith("Imports go one way"))
    return [set(re.findall(r"fedrad\.(\w+)", layer)) for layer in order["layers"]]


def forbidden(room: str) -> set[str]:
    """Rooms that a room may not import: those above it and those beside it."""
    rooms: set[str] = set()
    for layer in layers():
        rooms |= layer
        if room in layer:
            return rooms - {room}
    raise AssertionError(room)


ROOMS = sorted(set.union(*layers()))


def test_the_order_names_every_room():
    links = {link.name for link in (REPOSITORY / "src" / "fedrad").iterdir() if link.is_symlink()}
    assert links == set(ROOMS)


def texts(file: Path) -> list[str]:
    """All strings of a Python file but its docstrings; the whole of another."""
    if file.suffix != ".py":
        return [file.read_text()]
    nodes = list(ast.walk(ast.parse(file.read_text())))
    documentation = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    return [
        node.value
        for node in nodes
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in documentation
    ]


@pytest.mark.parametrize("room", ROOMS)
def test_no_string_names_a_module_of_a_room_that_may_not_be_imported(room):
    named = re.compile(rf"\bfedrad[./]({'|'.join(sorted(forbidden(room) or {'-'}))})\b")
    for suffix in ("py", "toml", "html", "j2", "md", "css", "js"):
        for file in (REPOSITORY / room).rglob(f"*.{suffix}"):
            if file.relative_to(REPOSITORY) == EXCEPTION:
                continue
            for text in texts(file):
                assert not named.search(text), f"{file}: {named.search(text)}"
