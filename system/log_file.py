"""Log files for the user who runs fedrad alone."""

import os
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler

from .files import PRIVATE_FILE


class PrivateLogHandler(RotatingFileHandler):
    """A log file for this user alone, whatever the umask of the process. It takes the parameters of
    `RotatingFileHandler`; without `maxBytes` it never rotates."""

    def _open(self) -> TextIOWrapper:
        """Open the file, which is made with mode 600."""
        os.close(os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, PRIVATE_FILE))
        return super()._open()
