"""The commands of a coordinator: be there for hospitals, and run experiments over them."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from .terminal import Folder, fail, show_progress

CoordinatorFolder = Annotated[
    Path | None,
    typer.Option("--coordinator", help="Folder of `fedrad serve`, where it is not the usual one."),
]
sites_app = typer.Typer(help="The sites of this coordinator.")


def run(
    experiment: Annotated[Path, typer.Argument(help="Experiment file (TOML).")],
    out: Annotated[Path, typer.Option(help="New folder for the results.")],
    superlink: Annotated[
        str | None,
        typer.Option(help="HOST:PORT of another SuperLink on this machine than `fedrad serve`'s."),
    ] = None,
    root_certificates: Annotated[
        Path | None,
        typer.Option(help="Certificate authority of that one; none: no TLS, loopback only."),
    ] = None,
    coordinator: CoordinatorFolder = None,
) -> None:
    """Run an experiment over the hospitals that are connected to this coordinator.

    Ctrl-C leaves it running; `fedrad status` shows it, `fedrad stop` stops it.
    """
    from fedrad.deploy.coordinator.folder import Coordinator, default_folder
    from fedrad.deploy.start.deployed import run_deployed
    from fedrad.deploy.start.preparation import Refused
    from fedrad.flower.processes import Connection

    from .table import show

    show_progress()
    try:
        if superlink is None:
            connection = Coordinator(coordinator or default_folder()).connection()
        else:
            connection = Connection(superlink, root_certificates)
        summary = run_deployed(experiment, out, connection)
    except Refused as refused:
        fail(str(refused))
    except KeyboardInterrupt:
        print(f"The experiment goes on without us: `fedrad status {out}`", file=sys.stderr)
        raise SystemExit(130) from None
    show(summary, out)


def serve(
    address: Annotated[
        str | None,
        typer.Option(help="HOST:PORT as hospitals reach this machine; needed on the first start."),
    ] = None,
    listen: Annotated[str, typer.Option(help="Address of this machine to listen at.")] = "0.0.0.0",
    name: Annotated[
        list[str] | None, typer.Option(help="Further name in the certificate; repeat.")
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(help="Own server certificate (PEM), with --key and --ca.")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="Its private key.")] = None,
    ca: Annotated[Path | None, typer.Option(help="Who signed it.")] = None,
    coordinator: CoordinatorFolder = None,
) -> None:
    """Be the coordinator: keep the SuperLink running that hospitals connect to.

    Ctrl-C ends it, and with it the run of an experiment, which `fedrad resume` goes on with.
    """
    from fedrad.deploy.coordinator.folder import Coordinator, default_folder
    from fedrad.deploy.coordinator.serve import serve as keep_serving
    from fedrad.deploy.start.preparation import Refused

    show_progress()
    own = [file for file in (certificate, key, ca) if file is not None]
    try:
        if len(own) not in {0, 3}:
            raise Refused("--certificate, --key and --ca belong together")
        here = Coordinator(coordinator or default_folder())
        served = here.set_up(
            address,
            listen=listen,
            names=name or [],
            own=(own[0], own[1], own[2]) if own else None,
        )
        keep_serving(here, served)
    except Refused as refused:
        fail(str(refused))
    except KeyboardInterrupt:
        print("ended; hospitals' nodes look for it until it is back", file=sys.stderr)


def invite(
    site: Annotated[str, typer.Argument(help="Name under which the hospital will take part.")],
    to: Annotated[
        Path | None, typer.Option(help="File to write; default: SITE.invitation.")
    ] = None,
    days: Annotated[float, typer.Option(help="For how long it can be answered.")] = 14.0,
    coordinator: CoordinatorFolder = None,
) -> None:
    """Write an invitation for a hospital, to be sent to its engineer."""
    from fedrad.deploy.coordinator.folder import Coordinator, default_folder
    from fedrad.deploy.start.preparation import Refused

    file = to or Path(f"{site}.invitation")
    try:
        invitation = Coordinator(coordinator or default_folder()).invite(site, file, days=days)
    except Refused as refused:
        fail(str(refused))
    print(
        f"{file} written; it is no secret. Send it, then read this out by telephone:\n\n"
        f"    {invitation.fingerprint()}\n\n"
        f"The hospital runs `fedrad-site join {file.name}` until "
        f"{invitation.expires:%d %B %Y} and sends a request back: `fedrad sites admit`."
    )


@sites_app.callback(invoke_without_command=True)
def sites(context: typer.Context, coordinator: CoordinatorFolder = None) -> None:
    """List the sites that were invited, admitted and revoked, and which are connected."""
    from fedrad.deploy.coordinator.folder import default_folder
    from fedrad.deploy.coordinator.roster import show_members
    from fedrad.deploy.start.preparation import Refused

    context.obj = coordinator or default_folder()
    if context.invoked_subcommand is None:
        try:
            show_members(context.obj)
        except Refused as refused:
            fail(str(refused))


@sites_app.command()
def admit(
    context: typer.Context,
    request: Annotated[Path, typer.Argument(help="Request file that the hospital sent.")],
    fingerprint: Annotated[
        str | None, typer.Option(help="What the hospital read out; without it you are asked.")
    ] = None,
    coordinator: CoordinatorFolder = None,
) -> None:
    """Admit a hospital that answered its invitation."""
    from fedrad.deploy.coordinator.folder import Coordinator
    from fedrad.deploy.start.preparation import Refused

    here = Coordinator(coordinator or context.obj)
    try:
        answered = here.examine(request)
        shown = answered.fingerprint()
        if fingerprint is None:
            print(f"Request of {answered.site}. The hospital reads out:\n\n    {shown}\n")
            if not typer.confirm("Does the hospital read out the same?"):
                fail("not admitted: the file was changed on the way, or is not the hospital's")
        elif fingerprint.replace(" ", "") != shown.replace(" ", ""):
            fail(f"not admitted: the request's fingerprint is {shown}")
        here.admit(answered)
    except Refused as refused:
        fail(str(refused))
    print(
        f"{answered.site} is admitted; its node is let in within seconds while `fedrad serve` runs"
    )


@sites_app.command()
def revoke(
    context: typer.Context,
    site: Annotated[str, typer.Argument(help="Name of the site.")],
    coordinator: CoordinatorFolder = None,
) -> None:
    """Turn a hospital's node away from now on, or take an invitation back."""
    from fedrad.deploy.coordinator.folder import Coordinator
    from fedrad.deploy.start.preparation import Refused

    try:
        was = Coordinator(coordinator or context.obj).revoke(site)
    except Refused as refused:
        fail(str(refused))
    print(
        f"{site} is revoked; its node is turned away within seconds"
        if was == "admitted"
        else f"the invitation of {site} is revoked"
    )


def resume(folder: Folder) -> None:
    """Go on with an experiment that ended early, from its last checkpoint."""
    from fedrad.deploy.local.flower_engine import run_flower
    from fedrad.deploy.local.simulation import noted, simulate
    from fedrad.deploy.start.deployed import NOTE, resume_deployed
    from fedrad.deploy.start.preparation import Refused

    from .table import show

    show_progress()
    try:
        if simulation := noted(folder):
            summary = (run_flower if simulation[1] == "flower" else simulate)(simulation[0])
        elif (folder / NOTE).is_file():
            summary = resume_deployed(folder)
        else:
            fail(f"{folder}: holds no experiment; give the --out of `fedrad run` or `simulate`")
    except Refused as refused:
        fail(str(refused))
    show(summary, folder)


def status(
    folder: Folder,
    once: Annotated[bool, typer.Option(help="Show it once, instead of live.")] = False,
) -> None:
    """Show how far an experiment is: rounds, sites, curves, time left; live until it ends."""
    from .status import watch

    try:
        watch(folder, once=once)
    except FileNotFoundError:
        fail(f"{folder}: holds no experiment; give the --out of `fedrad run` or `simulate`")


def stop(folder: Folder) -> None:
    """Stop an experiment at the next moment between two answers; `fedrad resume` goes on."""
    from fedrad.server.rounds.checkpoint import Checkpoint

    checkpoint = Checkpoint(folder / "checkpoint")
    if not checkpoint.is_held():
        fail(f"{folder}: no run is at work on an experiment here")
    checkpoint.stop_file.touch()
    print("asked to stop; what sites have answered is kept")
