"""`fedrad-site policy`: the settings of a site that a person has accepted."""

from pathlib import Path

import typer

from fedrad.system.commands import CommandGroup, fail

from .options import (
    DecidedBy,
    KeyFile,
    SiteFolder,
    SiteName,
    StateFolder,
    Yes,
    open_private_site,
    read_key,
    this_user,
)

app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    help="The policy of this site: what a person has accepted, and what site.toml says now.",
)


@app.command()
def show(folder: SiteFolder = Path("."), name: SiteName = None, state: StateFolder = None) -> None:
    """Show the accepted policy, and how site.toml differs from it."""
    from fedrad.client.policy.ledger import check_ledger_is_there
    from fedrad.client.policy.pinned_policy import differences, in_lines, settings_to_pin, valid_pin
    from fedrad.client.settings import open_site

    site = open_site(folder, name=name, state=state)
    check_ledger_is_there(site.state)
    now = settings_to_pin(site.settings)
    pin = valid_pin(site)
    print("\n".join(in_lines(pin["message"]["settings"] if pin else now)))
    if pin is None:
        print(
            "\nsite.toml says this. Nobody has accepted it yet: the first start of the node "
            "does, or with an officer's key `fedrad-site policy accept FOLDER --key FILE`"
        )
        return
    print(f"\naccepted by {pin['message']['by']} on {pin['time']}")
    changed = differences(pin["message"]["settings"], now)
    if changed:
        print("site.toml says something else, so this site answers nothing:")
        print("\n".join(f"  {line}" for line in changed))
        print("`fedrad-site policy accept FOLDER` accepts it")
    else:
        print("site.toml says the same")


@app.command()
def accept(
    folder: SiteFolder = Path("."),
    by: DecidedBy = None,
    key: KeyFile = None,
    yes: Yes = False,
    name: SiteName = None,
    state: StateFolder = None,
) -> None:
    """Show what changed in site.toml since the policy was accepted, and accept it."""
    from fedrad.client.policy.ledger import check_ledger_is_there
    from fedrad.client.policy.ledger_heads import write_head_of
    from fedrad.client.policy.pinned_policy import (
        check_pin,
        differences,
        in_lines,
        last_pin,
        pin_policy,
        settings_to_pin,
    )
    from fedrad.client.problems import SiteProblem
    from fedrad.client.settings import check_settings_file

    site = open_private_site(folder, name=name, state=state)
    check_settings_file(site.folder)
    check_ledger_is_there(site.state)
    try:
        check_pin(site)
        print("site.toml says what was accepted already")
        return
    except SiteProblem:
        pass  # there is something to accept
    now = settings_to_pin(site.settings)
    pin = last_pin(site)
    lines = differences(pin["message"]["settings"], now) if pin else in_lines(now)
    print("\n".join(lines or ["the settings are the same; they are signed anew"]))
    if not yes and not typer.confirm("Accept exactly this?"):
        fail("nothing was accepted")
    pin_policy(site, by or this_user(), key=read_key(key))
    write_head_of(site)
    print("accepted; the ledger has it. A node that runs answers with this policy now")
