"""What a command prints, and its status, for the errors that a function raises."""

import pytest
import typer
from typer.testing import CliRunner

from fedrad.deploy.refused import ArgumentFault, Refused
from fedrad.server.federation.failure import ExperimentFailed
from fedrad.system.commands import CommandGroup


@pytest.mark.parametrize(
    ("error", "status", "printed"),
    [
        (ExperimentFailed("no quorum"), 1, "The experiment failed: no quorum\n"),
        (Refused("the experiment had not begun"), 2, "the experiment had not begun\n"),
        (
            Refused("federation.quorum = 3", ArgumentFault("out x: is a file")),
            2,
            "federation.quorum = 3\n--out x: is a file\n",
        ),
    ],
)
def test_an_error_is_printed_and_gives_the_status(error, status, printed):
    app = typer.Typer(cls=CommandGroup)

    @app.callback()
    def group() -> None:
        pass

    @app.command()
    def command() -> None:
        raise error

    result = CliRunner().invoke(app, ["command"])
    assert (result.exit_code, result.stderr) == (status, printed)
