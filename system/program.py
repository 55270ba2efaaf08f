"""What surrounds the commands of a program: its streams, and how it ends.

No command ends in a traceback for what a person can write, name or mount. What nobody foresaw is
one sentence, and the rest is in a file for this user alone: an error may name patients.
"""

import os
import re
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from .errors import UserError
from .files import write_whole
from .folders import make_folder, state_home
from .resources import limit_threads
from .terminal import is_closed_pipe, open_standard_streams, written_out
from .text import visible

CLOSED_PIPE = 141
"""Status of a command whose reader went away, as of Unix tools that end by SIGPIPE (128 + 13)."""
FOLDER_GONE = "the current folder is not there any more: change to another one, and try again"
DEBUG = "FEDRAD_DEBUG"
"""Environment variable: if set, what nobody foresaw is shown whole."""
_UNMAPPED = re.compile("failed to map segment|[Cc]annot allocate memory")
"""In the error of a library that found no memory when it was loaded, which is an ImportError."""
LAST_ERROR = "last-error.txt"
"""File in the user's state folder."""


def run_program(commands: Callable[[], object]) -> NoReturn:
    """Run the commands of a program, and end this process with their status.

    Parameters
    ----------
    commands
        Reads the command line and does what it asks; ends by SystemExit, or by returning.
    """
    _use_utf8()
    open_standard_streams()
    limit_threads()
    if not _current_folder_is_there():  # some libraries end the process there, without an error
        _say(FOLDER_GONE)
        sys.exit(2)
    status: object = 0
    fault: Exception | None = None
    try:
        commands()
    except SystemExit as ended:
        status = ended.code
    except UserError as error:
        _say(error.for_command())
        status = error.status
    except Exception as error:
        fault = error
    fault = written_out(sys.stdout) or fault
    if fault is not None and not is_closed_pipe(fault):
        _report(fault)
        status = 2
    if is_closed_pipe(fault) or is_closed_pipe(written_out(sys.stderr)):
        status = CLOSED_PIPE
    sys.exit(status)  # type: ignore[arg-type]


def _use_utf8() -> None:
    """Start Python again in its UTF-8 mode, unless file names are UTF-8 already.

    In a locale of another encoding, a name in a table with a character outside it could not be
    looked up. The encoding of the terminal stays that of the locale.
    """
    children = {"PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8:backslashreplace"}
    if sys.getfilesystemencoding() == "utf-8" or not sys.executable:
        os.environ.update(children)
        return
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    os.environ["PYTHONIOENCODING"] = encoding
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def _report(fault: BaseException) -> None:
    """Say in a sentence what was not foreseen, and where the rest is."""
    if os.environ.get(DEBUG):
        traceback.print_exception(fault)
    elif isinstance(fault, MemoryError) or _UNMAPPED.search(str(fault)):
        _say("there is not enough memory for this; free some, or raise the limit of the container")
    elif isinstance(fault, OSError) and fault.strerror:
        _say(_of_the_system(fault))
    else:
        kind = type(fault).__name__
        _say(f"fedrad failed in a way that nobody foresaw ({kind}). {_kept(fault)}")


def _of_the_system(fault: OSError) -> str:
    """What the operating system refused, and where."""
    if not _current_folder_is_there():
        return FOLDER_GONE
    name = fault.filename
    where = f"{os.fsdecode(name)}: " if isinstance(name, str | bytes | os.PathLike) else ""
    return f"{where}{fault.strerror}"


def _current_folder_is_there() -> bool:
    """Whether the current folder still exists; a shell can stay in one that was deleted."""
    try:
        os.getcwd()
    except OSError:
        return False
    return True


def _kept(fault: BaseException) -> str:
    """Keep all that is known of an error in the user's state folder; returns where it is."""
    try:
        file = Path(state_home() / LAST_ERROR)
        make_folder(file.parent)
        write_whole(file, "".join(traceback.format_exception(fault)))
    except (OSError, UserError):
        return f"Set {DEBUG}=1 and try again to see all of it; it may name patients"
    return (
        f"All that is known of it is in {file}, for you alone: it may name files and patients, so "
        "look at it before you pass it on"
    )


def _say(text: str) -> None:
    """Print a sentence about a fault, if there is anybody to read it."""
    with suppress(OSError):
        print(visible(text, lines=True), file=sys.stderr, flush=True)
