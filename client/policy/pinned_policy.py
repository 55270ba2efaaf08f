"""The pinned policy: the settings of a site that decide what leaves, as a person accepted them.

They are written in full into the ledger when the node is first started, and whenever a person
accepts a change. A node whose site.toml says something else answers nothing.
"""

import json
from typing import Any

from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site, SiteSettings

from .ledger import LEDGER, Ledger
from .ledger_lines import LedgerEntry
from .officer_key import OfficerKey, check_key, is_signed, pinned_key

KIND = "policy"
Pinned = dict[str, Any]


def settings_to_pin(settings: SiteSettings) -> Pinned:
    """The settings that decide what leaves, with their defaults: name, table, who is a patient,
    columns, policy."""
    decide = {"name", "cohort", "patient_numbers", "unordered", "columns", "policy"}
    return settings.model_dump(mode="json", include=decide)


def last_pin(site: Site) -> LedgerEntry | None:
    """The entry of the ledger by which the policy was last accepted, whether or not it is signed;
    None before the first."""
    return next(Ledger(site.state / LEDGER).newest(KIND), None)


def valid_pin(site: Site) -> LedgerEntry | None:
    """As `last_pin`. Raises SiteProblem if an officer's key is set up and did not sign it."""
    entry = last_pin(site)
    key = pinned_key(site.state)
    if entry is not None and key is not None and not is_signed(entry, key):
        raise SiteProblem(
            "policy",
            f"the policy that was accepted on {entry['time']} is not signed with the officer's "
            "key: `fedrad-site policy accept FOLDER --key FILE`",
        )
    return entry


def pin_policy(site: Site, by: str, *, key: OfficerKey | None = None) -> None:
    """Accept the present settings: the node runs with these, and with no others.

    Parameters
    ----------
    site
        The site, with its settings as they are in site.toml.
    by
        Name of the person who accepts them.
    key
        The officer's key, if one is set up.

    Raises
    ------
    SiteProblem
        If the key is not the one that is set up.
    """
    check_key(site.state, key)
    Ledger(site.state / LEDGER).note(
        {"kind": KIND, "by": by, "settings": settings_to_pin(site.settings)},
        sign=None if key is None else key.sign,
        first=True,
    )


def check_pin(site: Site) -> None:
    """Raise SiteProblem("policy") unless the site's settings are those that were accepted."""
    if (pin := valid_pin(site)) is None:
        raise SiteProblem(
            "policy",
            "nobody has accepted this site's policy yet: `fedrad-site start FOLDER` does so the "
            "first time, `fedrad-site policy accept FOLDER` later",
        )
    changed = differences(pin["message"]["settings"], settings_to_pin(site.settings))
    if changed:
        raise SiteProblem(
            "policy",
            f"{site.folder / 'site.toml'} is not what was accepted on {pin['time']}:\n"
            + "\n".join(f"  {line}" for line in changed)
            + "\nNothing leaves until it is as it was, or `fedrad-site policy accept FOLDER` "
            "accepts it",
        )


def differences(before: Pinned, now: Pinned) -> list[str]:
    """What differs between two pinned settings, one setting a line, in the order of the file."""
    old, new = _flat(before), _flat(now)
    return [
        f"{key}: {_words(key, old.get(key))} before, {_words(key, new.get(key))} now"
        for key in [*new, *(key for key in old if key not in new)]
        if old.get(key) != new.get(key)
    ]


def in_lines(settings: Pinned) -> list[str]:
    """Pinned settings, one a line."""
    return [f"{key}: {_words(key, value)}" for key, value in _flat(settings).items()]


def _flat(settings: Pinned, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _words(key: str, value: object) -> str:
    if value is None:
        return "not set"
    if key == "policy.coordinators" and not value:
        return "any"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)  # as in site.toml
    return str(value)
