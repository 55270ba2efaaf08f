"""Commands by which a hospital takes part: join once, start, stop."""

import logging
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from fedrad.system.commands import ForOthers, PassphraseDescriptor, fail, open_to_others
from fedrad.system.release import release

from .options import SiteFolder, SiteName, StateFolder, ask_passphrase, open_private_site, this_user


def join(
    invitation: Annotated[Path, typer.Argument(help="Invitation that the coordinator sent.")],
    folder: SiteFolder = Path("."),
    request: Annotated[
        Path | None, typer.Option(help="File to write; default: NAME.request.")
    ] = None,
    fingerprint: Annotated[
        str | None,
        typer.Option(
            help="Fingerprint that the coordinator read out. Without it, the command asks you."
        ),
    ] = None,
    new_key: Annotated[
        bool,
        typer.Option(
            "--new-key",
            help="Replace the key of a site that has joined before; the coordinator must admit it.",
        ),
    ] = False,
    for_others: ForOthers = False,
    name: SiteName = None,
    state: StateFolder = None,
) -> None:
    """Join a federation: make this node's key, which stays here, and write a request.

    A site that has joined before keeps its key, unless --new-key.
    """
    from fedrad.client.policy.membership import join_federation
    from fedrad.exchange.invitation import Invitation

    invited = Invitation.read(invitation)
    shown = invited.fingerprint()
    if fingerprint is None:
        print(
            f"Invitation for {invited.site} to {invited.address}. Ask the coordinator on the "
            f"telephone for:\n\n    {shown}\n"
        )
        if not typer.confirm("Does the coordinator read out the same?"):
            fail("not joined: the file was changed on the way, or is not the coordinator's")
    elif fingerprint.replace(" ", "") != shown.replace(" ", ""):
        fail(f"not joined: the invitation's fingerprint is {shown}")
    site = open_private_site(folder, name=name, state=state)
    file = request or Path(f"{site.name}.request")
    answer = join_federation(site, invited, file, new_key=new_key)
    if for_others:
        open_to_others(file)
    print(
        f"{file} written; it is no secret: the private key stays in {site.state}. Send it to the "
        f"coordinator, and read this out by telephone:\n\n    {answer.fingerprint()}\n\n"
        f"Then: `fedrad-site check {folder}`, and `fedrad-site start {folder}`"
    )


def start(
    folder: SiteFolder = Path("."),
    passphrase_fd: PassphraseDescriptor = None,
    key_fd: Annotated[
        int | None,
        typer.Option(help="File descriptor from which to read the node's key, not from a file."),
    ] = None,
    name: SiteName = None,
    state: StateFolder = None,
) -> None:
    """Take part: connect to the coordinator, and stay until stopped.

    The first start accepts the policy of site.toml as it is; a later change of it needs
    `fedrad-site policy accept`. SIGTERM and `fedrad-site stop` finish a round that has begun;
    Ctrl-C abandons it, and so does the end of the terminal.
    """
    from fedrad.client.node.service import start as run_node
    from fedrad.client.policy.integrity import prepare_start
    from fedrad.client.policy.ledger_heads import HEADS
    from fedrad.client.policy.node_key import PASSPHRASE, openssh, read_key
    from fedrad.system.secrets import passphrase, read_descriptor

    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S"
    )
    site = open_private_site(folder, name=name, state=state)
    log = logging.getLogger("fedrad.site")
    log.info("fedrad %s", release())
    membership, head = prepare_start(site, this_user())
    log.info("head of the ledger, also in %s; give it to the coordinator: %s", HEADS, head)
    if site.settings.policy.columns is None:
        log.warning(
            "policy.columns is not set in site.toml, so that every experiment is refused: "
            "`fedrad-site check %s` proposes it",
            folder,
        )
    content = membership.key.read_bytes() if key_fd is None else read_descriptor(key_fd)
    source = str(membership.key) if key_fd is None else f"file descriptor {key_fd}"
    given = partial(passphrase, PASSPHRASE, "the node's key", passphrase_fd)
    run_node(site, membership, openssh(read_key(content, source, given)))


def passphrase_command(
    folder: SiteFolder = Path("."),
    remove: Annotated[bool, typer.Option("--remove", help="Store the key without one.")] = False,
    name: SiteName = None,
    state: StateFolder = None,
) -> None:
    """Give the node's key a passphrase, change it, or remove it.

    `fedrad-site start` then asks for it, or reads it with --passphrase-fd or from systemd.
    """
    from fedrad.client.policy.node_key import set_passphrase

    site = open_private_site(folder, name=name, state=state)
    new = None if remove else ask_passphrase("New passphrase of the node's key", twice=True)
    set_passphrase(site.state, None if new is None else new.encode())
    print("the node's key is stored without a passphrase" if remove else "the passphrase is set")


def stop(
    folder: SiteFolder = Path("."),
    now: Annotated[
        bool, typer.Option("--now", help="Abandon a round that has begun, instead of finishing it.")
    ] = False,
    name: SiteName = None,
    state: StateFolder = None,
) -> None:
    """Stop whatever speaks for this site on this machine.

    A round that has begun is finished and sent first. If the process that `fedrad-site start` ran
    is gone, what is left of it is ended at once.
    """
    from fedrad.client.node.stopping import stop as stop_node
    from fedrad.client.settings import open_site

    site = open_site(folder, name=name, state=state)
    print("stopping" if now else "stopping, after the round in hand", flush=True)
    try:
        stop_node(site, now=now)
    except KeyboardInterrupt:
        print("it is still stopping; `fedrad-site stop --now` abandons the round", file=sys.stderr)
        raise SystemExit(130) from None
    print("stopped")
