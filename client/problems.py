"""Errors of a site: one word for the coordinator, the details for the site itself."""

from collections.abc import Iterator
from contextlib import contextmanager

from fedrad.exchange.reasons import Reason
from fedrad.system.errors import UserError
from fedrad.system.files import UnreadableFileError


class SiteProblem(UserError):
    """A problem at the site.

    Only `reason` leaves the site. The text may contain paths and rows of the cohort table: it goes
    only to the site's log and screen.
    """

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason: Reason = reason


@contextmanager
def needed_record(what: str) -> Iterator[None]:
    """Turn the error of a record about patients that cannot be read or written into
    SiteProblem("cohort"). `what`: what the record says, in the advice to restore it."""
    try:
        yield
    except UnreadableFileError as error:
        raise SiteProblem("cohort", f"{error}; restore it from a backup: it {what}") from error
    except OSError as error:
        raise SiteProblem(
            "cohort", f"{error.filename}: cannot be written ({error.strerror})"
        ) from error
