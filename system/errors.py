"""Errors that are written for the person at the terminal."""


class UserError(Exception):
    """What was asked for cannot be done, and the person who asked can change that.

    The text says what is wrong, where, and what to do. Commands show it without a traceback. A
    class of such errors derives from this one.
    """

    status = 2
    """Status with which a command ends."""

    def for_command(self) -> str:
        """What a command prints."""
        return str(self)
