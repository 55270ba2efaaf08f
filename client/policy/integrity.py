"""A node that runs at a hospital: whether everything that protects it is in place.

What is missing, unreadable or changed closes the site. It is never replaced by a default.
"""

import os
import stat
from pathlib import Path

from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site, check_settings_file
from fedrad.system.mounts import LOCAL_DISK, sharing_fault
from fedrad.system.private import privacy_fault

from .ledger import LEDGER, check_ledger_is_there
from .ledger_heads import Head, check_last_head, write_head
from .ledger_lines import LedgerError
from .membership import Membership, read_membership
from .officer_key import pinned_key
from .pinned_policy import check_pin, pin_policy, valid_pin

PRIVATE_FILES = ("node.key", "salt", "split.key", LEDGER)
"""Files of the state folder that nobody else may read or write."""


def check_site(site: Site) -> None:
    """Check, before anything else is done for a visit, that a site is as it was left.

    Parameters
    ----------
    site
        The site of a node that a hospital runs; not of a simulation.

    Raises
    ------
    SiteProblem
        "policy", if the membership cannot be read, the state folder or its private files are open
        to other users, site.toml is missing or was changed, or the ledger was removed, shortened or
        rewritten. The text says what to do.
    """
    try:
        _check_membership(site)
        check_modes(site.state)
        check_settings_file(site.folder)
        check_ledger_is_there(site.state)
        check_last_head(site.state)
        check_pin(site)
    except LedgerError as error:
        raise SiteProblem("policy", str(error)) from error
    except OSError as error:
        raise SiteProblem(
            "policy", f"{error.filename}: cannot be read: {error.strerror}"
        ) from error


def prepare_start(site: Site, by: str) -> tuple[Membership, Head]:
    """Check a site before its node starts; the first time, accept its policy.

    Parameters
    ----------
    site
        The site.
    by
        Name of the person, or of the account, that starts it.

    Returns
    -------
    tuple of Membership and Head
        How the site reaches its coordinator; the head of its ledger, now in `heads.txt` too.

    Raises
    ------
    SiteProblem, LedgerError
        As `check_site`, and if an officer's key is set up and the policy was not accepted with it.
    """
    membership = read_membership(site.state)
    check_state_folder(site)
    check_ledger_is_there(site.state)
    if valid_pin(site) is None:
        if pinned_key(site.state) is not None:
            raise SiteProblem(
                "policy",
                "an officer's key is set up, and the policy is not accepted yet: "
                "`fedrad-site policy accept FOLDER --key FILE`",
            )
        check_settings_file(site.folder)
        pin_policy(site, by)
    check_site(site)
    return membership, write_head(site.name, site.state)


def check_modes(state: Path) -> None:
    """Raise SiteProblem("policy") unless the state folder and its private files are this user's
    alone."""
    for path in (state, *(state / name for name in PRIVATE_FILES)):
        if not path.exists():
            continue
        found = path.stat()
        if found.st_uid != os.geteuid():
            raise SiteProblem(
                "policy",
                f"{path}: belongs to another user than the one who runs the node; "
                "give it to that user (chown)",
            )
        if stat.S_IMODE(found.st_mode) & 0o077:
            mode = "700" if path.is_dir() else "600"
            raise SiteProblem(
                "policy",
                f"{path}: other users of this machine can read or change it. Look whether they "
                f"did; then: chmod {mode} {path}",
            )


def check_state_folder(site: Site) -> None:
    """Raise SiteProblem("policy") if other users of this machine can reach what a site stores, and
    SiteProblem("storage") if it is on a file system on which locks do not hold.

    It is looked at before a command writes there; `check_site` looks again at each visit.
    """
    try:
        fault = privacy_fault(
            site.state, entries=True, above=True, advice=" (`state` in site.toml, or --state)"
        )
    except OSError as error:
        fault = f"{error.filename}: cannot be read: {error.strerror}"
    if fault is not None:
        raise SiteProblem("policy", fault)
    if unshared := sharing_fault(site.state):
        raise SiteProblem("storage", f"{site.state}: {unshared}. {LOCAL_DISK}")


def _check_membership(site: Site) -> None:
    try:
        membership = read_membership(site.state)
    except SiteProblem as problem:
        raise SiteProblem("policy", str(problem)) from problem
    if membership.site != site.name:
        raise SiteProblem(
            "policy",
            f"{site.state}: the membership is that of {membership.site!r}, and the site's name is "
            f"{site.name!r}: set the name in site.toml, or join with an invitation for it",
        )
