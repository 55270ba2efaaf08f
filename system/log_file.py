"""Log files for the user who runs fedrad alone."""

import os
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from .files import PRIVATE_FILE
from .text import ESCAPED


class PrivateLogHandler(RotatingFileHandler):
    """A log file for this user alone, whatever the umask of the process. It takes the parameters of
    `RotatingFileHandler`; without `maxBytes` it never rotates. It is UTF-8, and odd bytes of file
    names are escaped."""

    def __init__(self, file: Path, **options: Any) -> None:
        super().__init__(file, encoding="utf-8", errors=ESCAPED, **options)

    def _open(self) -> TextIOWrapper:
        """Open the file, which is made with mode 600."""
        os.close(os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, PRIVATE_FILE))
        return super()._open()
