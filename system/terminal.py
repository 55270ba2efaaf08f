"""Standard streams that take every character, and a console that shows texts as they are."""

import io
import os
import select
import sys
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from .text import ESCAPED, visible


class PlainConsole(Console):
    """A console that shows texts as they are: no marks in brackets, no names of emoji, and control
    characters escaped. Colours are given as `style`, or as a `rich.text.Text`."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """A text for the terminal. Rich calls it for what is printed and for cells of tables."""
        return super().render_str(visible(text, lines=True), **options)


def open_standard_streams() -> None:
    """Let the standard streams be there, and take all characters in any encoding.

    A stream that the caller closed (`>&-`) is opened on /dev/null: otherwise the next file that is
    opened gets its number, and what a library or a child prints would be written into that file.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free is this one
            os.set_inheritable(descriptor, True)
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ESCAPED)


def written_out(stream: TextIO) -> OSError | None:
    """Write out what a stream still holds. If that fails, returns the error, and the rest goes
    nowhere, so that Python does not complain of it when it ends."""
    try:
        stream.flush()
    except OSError as error:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
        return error
    return None


def reader_is_gone() -> bool:
    """Whether standard output or error is a pipe that nobody reads any more."""
    poll = select.poll()
    poll.register(1, 0)
    poll.register(2, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))
