"""Files are written whole, through `system/files.py`, so that a crash leaves no torn one."""

import ast
from collections.abc import Iterator

import pytest
from support.paths import TESTS

REPOSITORY = TESTS.parent
ROOMS = [link.name for link in (REPOSITORY / "src" / "fedrad").iterdir() if link.is_symlink()]

NAMED = {
    "flower/processes.py": "settings and logs in a temporary folder, removed when the run ends",
    "system/private.py": "a setting of the kernel under /proc, which is no file",
    "server/export/export.py": "the whole folder is written under another name, then renamed",
    "server/export/monai_bundle.py": "part of the folder that `export.py` renames when it is whole",
}
"""File -> why it may write in place."""


def is_replacing(node: ast.expr) -> bool:
    """Whether this is `replacing(…)`."""
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "replacing"


def is_entered(node: ast.expr) -> bool:
    """Whether this is `STACK.enter_context(replacing(…))`, a temporary file of `replacing`."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "enter_context"
        and is_replacing(node.args[0])
    )


def direct_writes(source: str) -> Iterator[str]:
    """Calls that write a file in place: `write_text`, `write_bytes`, and `open` for writing, but
    for those on the temporary file of `replacing`."""
    tree = ast.parse(source)
    temporary = {
        item.optional_vars.id
        for node in ast.walk(tree)
        if isinstance(node, ast.With)
        for item in node.items
        if is_replacing(item.context_expr) and isinstance(item.optional_vars, ast.Name)
    } | {
        node.targets[0].id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and is_entered(node.value)
        and isinstance(node.targets[0], ast.Name)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Attribute) and is_entered(called.value):
            continue
        if isinstance(called, ast.Attribute):
            name, owner = called.attr, ast.unparse(called.value)
        else:
            name, owner = ast.unparse(called), ""
        if owner in temporary:
            continue
        given = [*node.args, *(k.value for k in node.keywords if k.arg == "mode")]
        modes = [a.value for a in given if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        writes = name == "open" and any(
            set(mode) <= set("rwaxbt+") and set(mode) & set("wax+") for mode in modes
        )
        if writes or name in ("write_text", "write_bytes"):
            yield f"line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize(
    ("source", "number"),
    [
        ("path.write_text('x')", 1),
        ("(a / 'b').write_bytes(b'')", 1),
        ("with path.open('w') as file: pass", 1),
        ("open(path, mode='ab')", 1),
        ("open('a.txt', 'x')", 1),
        ("with path.open('rb') as file: pass\nopen('a.txt').read_text()", 0),
        ("with replacing(path) as new, new.open('wb') as file: pass", 0),
        ("with replacing(path) as new: path.write_text('x')", 1),
        ("new = stack.enter_context(replacing(path))\nnew.write_text('x')", 0),
        ("new = stack.enter_context(path)\nnew.write_text('x')", 1),
        ("stack.enter_context(replacing(path)).write_bytes(b'')", 0),
    ],
)
def test_a_direct_write_is_recognised(source, number):
    assert len(list(direct_writes(source))) == number


@pytest.mark.parametrize("room", ROOMS)
def test_no_file_is_written_in_place_but_where_a_reason_is_named(room):
    written = {
        str(file.relative_to(REPOSITORY)): calls
        for file in (REPOSITORY / room).rglob("*.py")
        if (calls := list(direct_writes(file.read_text())))
    }
    named = {file for file in NAMED if file.startswith(f"{room}/")}
    assert {file: calls for file, calls in written.items() if file not in named} == {}
    assert named <= set(written), "a reason for a file that no longer writes in place"
