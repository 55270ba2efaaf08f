"""Commands of a coordinator: serve hospitals, and run experiments over them."""

import logging
import sqlite3
import sys
from pathlib import Path
from typing import Annotated

import typer

from fedrad.system.commands import (
    CommandGroup,
    ForOthers,
    PassphraseDescriptor,
    fail,
    open_to_others,
)
from fedrad.system.release import release

from .terminal import ExperimentFile, ResultsFolder, show_progress

CoordinatorFolder = Annotated[
    Path | None,
    typer.Option(
        "--coordinator",
        help="Folder that `fedrad serve` was given; default: in this user's state folder.",
    ),
]
sites_app = typer.Typer(cls=CommandGroup, help="The sites of this coordinator.")


def serve(
    address: Annotated[
        str | None,
        typer.Option(
            help="HOST:PORT under which hospitals reach this machine. Needed on the first start."
        ),
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(
            help="IP address of this machine at which to listen; default: as before, and all "
            "addresses on the first start."
        ),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            help="A further host name or IP address for the server certificate. Repeat for each."
        ),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(
            help="Server certificate (PEM) to use instead of one of fedrad's; with --key and --ca."
        ),
    ] = None,
    key: Annotated[Path | None, typer.Option(help="Private key of --certificate (PEM).")] = None,
    ca: Annotated[
        Path | None,
        typer.Option(help="Certificate authority (PEM) that signed --certificate."),
    ] = None,
    passphrase_fd: PassphraseDescriptor = None,
    coordinator: CoordinatorFolder = None,
) -> None:
    """Be the coordinator: keep the SuperLink running to which hospitals connect.

    Ctrl-C ends it, and with it an experiment that is running; `fedrad resume` continues that.
    """
    from fedrad.deploy.coordinator.folder import Coordinator, default_folder
    from fedrad.deploy.coordinator.keys import PASSPHRASE, locked_keys
    from fedrad.deploy.coordinator.settings import check_port
    from fedrad.system.secrets import passphrase

    own = [file for file in (certificate, key, ca) if file is not None]
    if len(own) not in {0, 3}:
        fail("--certificate, --key and --ca belong together")
    here = Coordinator(coordinator or default_folder())
    with here.serving():
        if locked_keys(here.folder, key or here.own_key()):
            here.passphrase = passphrase(PASSPHRASE, "the coordinator's keys", passphrase_fd)
        settings = here.set_up(
            address,
            listen=listen,
            names=name or [],
            own=(own[0], own[1], own[2]) if own else None,
            check=check_port,
        )
        show_progress()
        from fedrad.deploy.coordinator.serve import serve as keep_serving

        logging.getLogger("fedrad.server").info("fedrad %s", release())
        try:
            keep_serving(here, settings)
        except KeyboardInterrupt:
            print("ended; hospitals' nodes look for it until it is back", file=sys.stderr)


def passphrase_command(
    remove: Annotated[bool, typer.Option("--remove", help="Store the keys without one.")] = False,
    passphrase_fd: PassphraseDescriptor = None,
    coordinator: CoordinatorFolder = None,
) -> None:
    """Give the authority's and the server's private key a passphrase, change it, or remove it.

    `fedrad serve` then asks for it at each start, or reads it with --passphrase-fd or from systemd.
    --passphrase-fd names the one in use. Before the first `fedrad serve`, the authority is made.
    """
    from fedrad.deploy.coordinator.folder import Coordinator, default_folder
    from fedrad.deploy.coordinator.keys import PASSPHRASE, change_passphrase, locked_keys
    from fedrad.system.secrets import passphrase

    here = Coordinator(coordinator or default_folder())
    with here.serving():
        before = after = None
        if locked_keys(here.folder, None):
            before = passphrase(PASSPHRASE, "the coordinator's keys", passphrase_fd)
        if not remove:
            question = "New passphrase of the coordinator's keys"
            after = typer.prompt(question, hide_input=True, confirmation_prompt=True).encode()
        change_passphrase(here.folder, before, after)
    print("the keys are stored without a passphrase" if remove else "the passphrase is set")
    if not (here.folder / "ca.key").exists():
        print(
            "ca.key is not in the folder, so it is as it was: this holds for the server's key only"
        )


def _check_days(days: float) -> float:
    if not 0 < days <= 365:  # nan is refused too
        raise typer.BadParameter(f"{days:g} is not above 0 and at most 365")
    return days


def invite(
    site: Annotated[str, typer.Argument(help="Name under which the hospital will take part.")],
    to: Annotated[
        Path | None, typer.Option(help="File to write; default: SITE.invitation.")
    ] = None,
    days: Annotated[
        float,
        typer.Option(
            help="Number of days in which the hospital can answer: above 0, at most 365.",
            callback=_check_days,
        ),
    ] = 14.0,
    for_others: ForOthers = False,
    coordinator: CoordinatorFolder = None,
) -> None:
    """Write an invitation for a hospital, to be sent to its engineer."""
    from fedrad.deploy.coordinator.folder import Coordinator, default_folder

    file = to or Path(f"{site}.invitation")
    here = Coordinator(coordinator or default_folder())
    replaces = here.is_invited(site)
    invitation = here.invite(site, file, days=days)
    if for_others:
        open_to_others(file)
    if replaces:
        print(f"The earlier invitation of {site}, which was not answered, is void now.")
    print(
        f"{file} written; it is no secret. Send it, then read this out by telephone:\n\n"
        f"    {invitation.fingerprint()}\n\n"
        f"The hospital runs `fedrad-site join {file.name}` until "
        f"{invitation.expires:%d %B %Y} and sends a request back: `fedrad sites admit`."
    )


@sites_app.callback(invoke_without_command=True)
def sites(context: typer.Context, coordinator: CoordinatorFolder = None) -> None:
    """List the sites: invited, admitted or revoked, and which are connected now."""
    from fedrad.deploy.coordinator.folder import default_folder

    context.obj = coordinator or default_folder()
    if context.invoked_subcommand is None:
        from fedrad.deploy.coordinator.roster import show_members

        show_members(context.obj)


@sites_app.command()
def admit(
    context: typer.Context,
    request: Annotated[Path, typer.Argument(help="Request file that the hospital sent.")],
    fingerprint: Annotated[
        str | None,
        typer.Option(
            help="Fingerprint that the hospital read out. Without it, the command asks you."
        ),
    ] = None,
    coordinator: CoordinatorFolder = None,
) -> None:
    """Admit a hospital that answered its invitation."""
    from fedrad.deploy.coordinator.folder import Coordinator

    here = Coordinator(coordinator or context.obj)
    answered = here.read_request(request)
    shown = answered.fingerprint()
    if fingerprint is None:
        print(f"Request of {answered.site}. The hospital reads out:\n\n    {shown}\n")
        if not typer.confirm("Does the hospital read out the same?"):
            fail("not admitted: the file was changed on the way, or is not the hospital's")
    elif fingerprint.replace(" ", "") != shown.replace(" ", ""):
        fail(f"not admitted: the request's fingerprint is {shown}")
    here.admit(answered)
    print(
        f"{answered.site} is admitted; its node is let in within seconds while `fedrad serve` runs"
    )


@sites_app.command()
def revoke(
    context: typer.Context,
    site: Annotated[str, typer.Argument(help="Name of the site.")],
    coordinator: CoordinatorFolder = None,
) -> None:
    """Turn a hospital's node away from now on, or withdraw an invitation."""
    from fedrad.deploy.coordinator.folder import Coordinator

    was = Coordinator(coordinator or context.obj).revoke(site)
    print(
        f"{site} is revoked; its node is turned away within seconds"
        if was == "admitted"
        else f"the invitation of {site} is revoked"
    )


def run(
    experiment: ExperimentFile,
    out: Annotated[Path, typer.Option(help="New folder for the results.")],
    coordinator: CoordinatorFolder = None,
) -> None:
    """Run an experiment over the hospitals that are connected to this coordinator.

    Ctrl-C leaves it running; `fedrad status` shows it, `fedrad stop` stops it.
    """
    from fedrad.deploy.coordinator.folder import Coordinator, default_folder

    here = Coordinator(coordinator or default_folder())
    here.settings()
    from fedrad.deploy.start.deployed import run_deployed

    from .table import show_results

    show_progress()
    try:
        summary = run_deployed(experiment, out, here.socket, here.members_file)
    except KeyboardInterrupt:
        print(f"The experiment goes on without us: `fedrad status {out}`", file=sys.stderr)
        raise SystemExit(130) from None
    show_results(summary, out)


def status(
    folder: ResultsFolder,
    once: Annotated[
        bool, typer.Option("--once", help="Show it once, instead of until the experiment ends.")
    ] = False,
) -> None:
    """Show how far an experiment is: rounds, sites, curves, time left; live until it ends."""
    from .status import watch

    try:
        watch(folder, once=once)
    except FileNotFoundError:
        fail(f"{folder}: holds no experiment; give the --out of `fedrad run` or `simulate`")
    except sqlite3.DatabaseError as error:
        fail(f"{folder / 'records.sqlite'}: cannot be read ({error}); restore it from a backup")


def stop(folder: ResultsFolder) -> None:
    """Ask a running experiment to stop. It stops between two answers of sites.

    `fedrad resume` continues it.
    """
    from fedrad.server.rounds.run_state import RunState

    run = RunState(folder / "checkpoint")
    if not run.is_running():
        fail(f"{folder}: no run is at work on an experiment here")
    run.stop_file.touch()
    print("asked to stop; what sites have answered is kept")


def resume(folder: ResultsFolder) -> None:
    """Continue an experiment that ended early, from its last checkpoint."""
    from fedrad.deploy.start.notes import was_started
    from fedrad.server.rounds.run_state import RunState

    if not was_started(folder):
        fail(f"{folder}: holds no experiment; give the --out of `fedrad run` or `simulate`")
    RunState(folder / "checkpoint").progress_head()  # a damaged one is refused before Flower starts
    from fedrad.deploy.local.flower_engine import run_flower
    from fedrad.deploy.local.simulation import load_simulation, simulate
    from fedrad.deploy.start.deployed import resume_deployed

    from .table import show_results

    show_progress()
    if simulation := load_simulation(folder):
        summary = (run_flower if simulation[1] == "flower" else simulate)(simulation[0])
    else:
        summary = resume_deployed(folder)
    show_results(summary, folder)
