"""How a run ends early."""

from fedrad.system.errors import UserError


class ExperimentFailed(UserError):
    """The experiment cannot go on. The text gives the reason and what to do."""

    status = 1

    def for_command(self) -> str:
        """The text, after words that say that the run had begun."""
        return f"The experiment failed: {self}"


class ExperimentStopped(ExperimentFailed):
    """The experiment was stopped on demand, and can go on. The text says how."""

    def for_command(self) -> str:
        """The text alone: nothing has failed."""
        return str(self)


class Stopped(Exception):
    """The coordinator asked the run to stop."""
