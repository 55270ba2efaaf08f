"""The error of a command that cannot start."""

from fedrad.system.errors import UserError


class ArgumentFault(str):
    """A fault of an argument, whose name it begins with, as in `out results: is a file`."""

    __slots__ = ()


class Refused(UserError):
    """A run, or a change of the coordinator's settings, that cannot start; the text names every
    fault.

    In Python the text names arguments of functions; a command prints them as its options.
    """

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults

    def for_command(self) -> str:
        """The faults, with `--` before the name of an argument."""
        return "\n".join(f"--{f}" if isinstance(f, ArgumentFault) else f for f in self.faults)
