"""A site that has joined a coordinator, without a coordinator."""

import json

from fedrad.client.policy.ledger import LEDGER, Ledger
from fedrad.client.policy.pinned_policy import pin_policy
from fedrad.client.settings import Site

ADDRESS = "fedrad.example.org:8000"


def join(site: Site, *, address: str = ADDRESS, accepted: bool = True) -> Site:
    """Put the files of a membership into the state folder of a site, begin its ledger, and accept
    its policy as `fedrad-site start` does."""
    site.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    site.state.chmod(0o700)
    for name in ("coordinator-ca.crt", "node.key"):
        (site.state / name).touch(mode=0o600)
    membership = {"site": site.name, "address": address, "invitation": "0" * 32}
    (site.state / "membership.json").write_text(json.dumps(membership))
    Ledger(site.state / LEDGER).note({"kind": "membership", "coordinator": address}, first=True)
    if accepted:
        pin_policy(site, "engineer")
    return site
