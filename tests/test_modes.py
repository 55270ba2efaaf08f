"""Whatever the order of the commands and the umask: files have mode 600 and folders mode 700."""

import os
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import pytest
from support.hospital import SHORT, write_site
from support.joined import ADDRESS
from typer.testing import CliRunner

from fedrad.client.commands.main import app
from fedrad.client.node import service
from fedrad.client.settings import Site, open_site
from fedrad.deploy.commands.main import app as center
from fedrad.deploy.coordinator.folder import Coordinator
from fedrad.deploy.local.simulation import prepare, simulate
from fedrad.deploy.refused import Refused
from fedrad.server.rounds.spool import Spool

UMASKS = (0o000, 0o022)
EXPERIMENT = SHORT.replace("quorum = 2", "quorum = 1")


@pytest.fixture(params=UMASKS, ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    """Programs set their own; the commands are called here as a notebook would."""
    before = os.umask(request.param)
    yield
    os.umask(before)


def loose(folder: Path) -> dict[str, str]:
    """Path -> mode of all that other users of the machine could read or change."""
    return {
        str(path.relative_to(folder)): oct(path.stat().st_mode & 0o777)
        for path in (folder, *folder.rglob("*"))
        if path.lstat().st_mode & 0o077 and not path.is_symlink()
    }


def run(*arguments: object, of=app, status: tuple[int, ...] = (0,), answer: str = "") -> None:
    ended = CliRunner().invoke(of, [str(a) for a in arguments], input=answer)
    assert ended.exit_code in status, (arguments, ended.output, ended.exception)


class Hospital:
    """A hospital of one engineer, who gives its commands. The node's process is left out."""

    def __init__(self, root: Path) -> None:
        folder = write_site(root / "hospital", 12, seed=1, policy='columns = ["label"]\n')
        settings = folder / "site.toml"
        settings.write_text(f'state = "{root}/state"\n' + settings.read_text())
        self.site: Site = open_site(folder)
        self.root = root
        self.experiment = root / "experiment.toml"
        self.experiment.write_text(EXPERIMENT)

    def check(self) -> None:
        run("check", self.site.folder, status=(0, 1, 2))  # 2: no coordinator answers
        assert (self.site.state / "check.html").is_file()

    def check_for_experiment(self) -> None:
        run("check", self.site.folder, "--experiment", self.experiment, status=(0, 1, 2))

    def join(self) -> None:
        coordinator = Coordinator(self.root / "coordinator")
        if self.site.joined:
            return
        if not coordinator.folder.exists():
            coordinator.set_up(ADDRESS, listen="127.0.0.1", names=[], own=None)
        file = self.root / "hospital.invitation"
        invitation = coordinator.invite("hospital", file, days=1)
        file_of_request = self.root / "hospital.request"
        run(
            "join", file, self.site.folder, "--request", file_of_request,
            "--fingerprint", invitation.fingerprint(),
        )  # fmt: skip

    def start(self) -> None:
        run("start", self.site.folder, status=(0, 2))  # 2: it has not joined

    def approve(self) -> None:
        run("approve", self.site.folder, "--file", self.experiment, "--yes", status=(0, 2))

    def withdraw(self) -> None:
        run("withdraw", self.site.folder, "CANARY-1-0003", "--yes", status=(0, 2))

    def accept(self) -> None:
        run("policy", "accept", self.site.folder, "--yes", status=(0, 2))

    def ledger(self) -> None:
        run("ledger", self.site.folder, "--export", self.root / "ledger.csv", status=(0, 2))


COMMANDS = ("check", "join", "start", "approve", "withdraw", "accept", "ledger")
ORDERS = [
    *permutations(("check", "join", "start")),
    *(
        (*COMMANDS[n:], *COMMANDS[:n], *COMMANDS[n : n + 2]) for n in range(len(COMMANDS))
    ),  # each command once as the first, and after the others
    tuple(reversed(COMMANDS)),
]


@pytest.fixture
def hospital(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hospital:
    def start(site: Site, membership: object, key: bytes | None = None) -> None:
        """What `service.start` writes before and beside the node's process."""
        with service._locked_node(site) as (running, lock):
            service.write_whole(running, "0")
            service._Node(site, membership, lock)._log.emit(
                service.logging.makeLogRecord({"msg": ""})
            )

    monkeypatch.setattr(service, "start", start)
    return Hospital(tmp_path)


@pytest.mark.parametrize(
    ("umask", "order"),
    [(umask, order) for umask in UMASKS for order in ORDERS if umask == 0 or len(order) == 3],
    indirect=["umask"],
    ids=str,
)
@pytest.mark.usefixtures("umask")
def test_every_order_of_a_hospitals_commands_leaves_the_same_modes(hospital, order):
    for command in order:
        getattr(hospital, command)()
        if hospital.site.state.exists():
            assert loose(hospital.site.state) == {}, command
    written = [
        hospital.root / name for name in ("hospital.request", "hospital.invitation", "ledger.csv")
    ]
    assert [loose(file) for file in written if file.exists() and loose(file)] == []


@pytest.mark.usefixtures("umask")
def test_an_order_of_a_hospitals_commands_with_a_loose_folder_is_refused(hospital):
    hospital.check()
    hospital.site.state.chmod(0o755)
    for command in ("check", "join", "start", "withdraw", "accept"):
        ended = CliRunner().invoke(app, words(hospital, command))
        assert ended.exit_code == 2
        assert f"chmod -R go= {hospital.site.state}" in ended.output, command
    hospital.site.state.chmod(0o700)
    (hospital.site.state / "check.html").chmod(0o644)
    ended = CliRunner().invoke(app, ["check", str(hospital.site.folder)])
    assert f"chmod -R go= {hospital.site.state}" in ended.output


def words(hospital: Hospital, command: str) -> list[str]:
    """Arguments of a command, as the engineer types them."""
    folder = str(hospital.site.folder)
    if command == "join":
        coordinator = Coordinator(hospital.root / "coordinator")
        coordinator.set_up(ADDRESS, listen="127.0.0.1", names=[], own=None)
        file = hospital.root / "hospital.invitation"
        invitation = coordinator.invite("hospital", file, days=1)
        return ["join", str(file), folder, "--fingerprint", invitation.fingerprint()]
    more = {"withdraw": ["CANARY-1-0003", "--yes"], "accept": ["--yes"]}.get(command, [])
    return [*(["policy"] if command == "accept" else []), command, folder, *more]


@pytest.mark.usefixtures("umask")
def test_what_a_coordinator_writes_is_for_its_user_alone(tmp_path, sites, experiment_file):
    """Its folder, the raw updates of hospitals, the results, and what is made of them."""
    here = Coordinator(tmp_path / "coordinator")
    with here.serving():
        here.set_up(ADDRESS, listen="127.0.0.1", names=[], own=None)
    run("invite", "a", "--to", tmp_path / "a.invitation", "--coordinator", here.folder, of=center)
    out, spooled = tmp_path / "results" / "first", {}
    write = Spool.add

    def add(spool: Spool, *given: object, **more: object) -> object:
        kept = write(spool, *given, **more)
        spooled.update(loose(spool.folder))
        return kept

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Spool, "add", add)
        simulate(prepare(experiment_file, sites, out))
    run("report", out, of=center)
    run("export", out, "--no-onnx", of=center)
    run("compare", out, out, "--out", tmp_path / "comparison", of=center, status=(0, 1, 2))
    assert spooled == {}
    for written in (here.folder, tmp_path / "results", tmp_path / "a.invitation"):
        assert loose(written) == {}
    model = next((out / "export").glob("*.safetensors"))
    run("export", out, "--no-onnx", "--to", tmp_path / "given", "--for-others", of=center)
    run("report", out, "--for-others", of=center)
    assert (tmp_path / "given" / model.name).stat().st_mode & 0o777 == 0o644
    assert set(loose(out)) == {"report.html", "report.md"}
    out.chmod(0o755)
    ended = CliRunner().invoke(center, ["resume", str(out)])
    assert f"chmod -R go= {out}" in ended.output
    (tmp_path / "state" / "a").mkdir(parents=True)
    (tmp_path / "state" / "a").chmod(0o755)
    with pytest.raises(Refused, match=rf"state {tmp_path}/state/a: .* chmod -R go="):
        prepare(experiment_file, sites, tmp_path / "results", state=tmp_path / "state")


@pytest.mark.usefixtures("umask")
def test_a_coordinators_folder_that_others_can_read_is_refused(tmp_path):
    here = Coordinator(tmp_path / "coordinator")
    here.set_up(ADDRESS, listen="127.0.0.1", names=[], own=None)
    here.folder.chmod(0o755)
    ended = CliRunner().invoke(center, ["serve", "--coordinator", str(here.folder)])
    assert ended.exit_code == 2
    assert f"chmod -R go= {here.folder}" in ended.output
