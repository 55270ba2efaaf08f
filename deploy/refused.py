"""The error of a command that cannot start."""

from fedrad.system.errors import UserError


class Refused(UserError):
    """A run, or a change of the coordinator's settings, that cannot start; the text names every
    fault."""
