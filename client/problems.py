"""What goes wrong at a site: one word for the coordinator, the whole story for the site."""

from fedrad.exchange.reasons import Reason
from fedrad.system.errors import UserError


class SiteProblem(UserError):
    """A problem at the site.

    `reason` is all that leaves the site. The text may hold paths and rows of the cohort table:
    it goes to the site's log and screen only.
    """

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason: Reason = reason
