"""Ctrl-C while a program is still importing its modules ends it without a traceback."""

import sys
from types import TracebackType


def end_quietly() -> None:
    """Let an interrupt that nothing catches end this process in silence.

    The commands catch their own. Python ends by SIGINT in either case, so that a shell knows.
    """
    shown = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            shown(kind, error, trace)

    sys.excepthook = hook
