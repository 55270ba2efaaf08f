"""A site that has joined a coordinator, without a coordinator."""

import json

from fedrad.client.policy.ledger import LEDGER, Ledger
from fedrad.client.policy.pinned_policy import pin_policy
from fedrad.client.settings import Site, open_site
from fedrad.system.files import write_whole
from fedrad.system.folders import make_folder

ADDRESS = "fedrad.example.org:8000"


def join(site: Site, *, address: str = ADDRESS, accepted: bool = True) -> Site:
    """Put the files of a membership into the state folder of a site, begin its ledger, and accept
    its policy as `fedrad-site start` does. A site that names no columns gets some."""
    if site.settings.policy.columns is None:
        site = _with_columns(site)
    make_folder(site.state)
    for name in ("coordinator-ca.crt", "node.key"):
        (site.state / name).touch(mode=0o600)
    membership = {"site": site.name, "address": address, "invitation": "0" * 32}
    write_whole(site.state / "membership.json", json.dumps(membership))
    Ledger(site.state / LEDGER).note({"kind": "membership", "coordinator": address}, first=True)
    if accepted:
        pin_policy(site, "engineer")
    return site


def _with_columns(site: Site) -> Site:
    file, line = site.folder / "site.toml", 'columns = ["label", "death", "sex"]\n'
    text = file.read_text() if file.exists() else f'name = "{site.name}"\n'
    if "[policy]\n" in text:
        text = text.replace("[policy]\n", f"[policy]\n{line}")
    else:
        text += f"[policy]\n{line}"
    file.write_text(text)
    return open_site(site.folder, name=site.name, state=site.state)
