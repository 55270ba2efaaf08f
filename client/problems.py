"""Errors of a site: one word for the coordinator, the details for the site itself."""

from fedrad.exchange.reasons import Reason
from fedrad.system.errors import UserError


class SiteProblem(UserError):
    """A problem at the site.

    Only `reason` leaves the site. The text may contain paths and rows of the cohort table: it goes
    only to the site's log and screen.
    """

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason: Reason = reason
