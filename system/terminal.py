"""Standard streams that take every character, and a console that shows texts as they are."""

import io
import os
import sys
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from .text import ESCAPED, visible

NARROWEST, USUAL = 40, 80
"""Columns of a terminal. With fewer than the first, tables would lose cells, and with none
(`COLUMNS=0`) all texts; the usual number is taken then, and the terminal breaks the lines."""
STREAMS = {1: "standard output", 2: "standard error"}


class PlainConsole(Console):
    """A console that shows texts as they are: no marks in brackets, no names of emoji, and control
    characters escaped. Colours are given as `style`, or as a `rich.text.Text`."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)
        if self.width < NARROWEST:
            self.width = USUAL

    def render_str(self, text: str, **options: Any) -> Text:
        """A text for the terminal. Rich calls it for what is printed and for cells of tables."""
        return super().render_str(visible(text, lines=True), **options)

    def on_broken_pipe(self) -> None:
        """Raise BrokenPipeError, of which the program makes its end; rich would end it here."""
        raise  # noqa: PLE0704 - rich calls this while it handles the error


class _StandardStream(io.FileIO):
    """Standard output or error, whose errors say that they are its own (`filename`)."""

    def write(self, data: Any, /) -> int:
        """Write bytes. Raises OSError with the name of the stream."""
        try:
            return super().write(data)
        except OSError as error:
            error.filename = STREAMS[self.fileno()]
            raise


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
    sys.stdout, sys.stderr = _reopened(1, sys.stdout), _reopened(2, sys.stderr)


def _reopened(descriptor: int, stream: TextIO | None) -> TextIO:
    """A standard stream of the same encoding; None: it was closed."""
    if stream is not None:
        written_out(stream)
    raw = _StandardStream(descriptor, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding if stream is not None else "utf-8",
        errors=ESCAPED,
        line_buffering=descriptor == 2 or raw.isatty(),
        write_through=getattr(stream, "write_through", False),
    )


def is_closed_pipe(error: BaseException | None) -> bool:
    """Whether an error says that nobody reads a standard stream any more."""
    return isinstance(error, BrokenPipeError) and error.filename in STREAMS.values()


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
