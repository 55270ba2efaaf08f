"""A coordinator and three hospitals on four hosts: the commands of each, and what is left there."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from support.hospital import EXPERIMENT, write_site
from support.namespaces import Network

from fedrad.exchange.invitation import Invitation, JoinRequest

BIN = Path(sys.executable).parent
PORT = 8000
HOSPITALS = ["hospital-a", "hospital-b", "hospital-c"]
TEXT = (
    EXPERIMENT.replace('name = "test"', 'name = "deployed"')
    .replace(
        "rounds = 2",
        "rounds = 15\nquorum = 2\ndeadline_minutes = 1.5\n"
        'sites = ["hospital-a", "hospital-b", "hospital-c"]',
    )
    .replace("batch_size = 8", "batch_size = 8\nlocal_epochs = 40")
    .replace("minimum_units = 3", "minimum_units = 3\nlocal_baseline = false")
)
TAP = """
import os, ssl
_send = ssl.SSLSocket.send
def send(self, data, flags=0):
    with open(os.environ["FEDRAD_TAP"], "ab") as file:
        file.write(data)
    return _send(self, data, flags)
ssl.SSLSocket.send = send
"""
"""`sitecustomize` of the hospitals' processes: what they send, before it is encrypted."""


class Hosts:
    """The commands that people type at each host, and what is left there."""

    def __init__(self, network: Network, root: Path) -> None:
        self.network, self.root = network, root
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        (root / "tap").mkdir()
        (root / "tap" / "sitecustomize.py").write_text(TAP)
        for number, name in enumerate(HOSPITALS):
            folder = self.home(name) / "CANARY-folder" / name
            write_site(folder, 40, seed=number, policy='columns = ["label"]\n')
        self.home("coordinator").mkdir()

    def home(self, host: str) -> Path:
        return self.root / f"host-{host}"

    def folder(self, hospital: str) -> Path:
        return self.home(hospital) / "CANARY-folder" / hospital

    def state(self, hospital: str) -> Path:
        return self.home(hospital) / "CANARY-state" / "fedrad" / hospital

    def tap(self, hospital: str) -> Path:
        return self.home(hospital) / "sent.bin"

    def environment(self, host: str) -> dict[str, str]:
        state = self.home(host) / ("state" if host == "coordinator" else "CANARY-state")
        own = {"XDG_STATE_HOME": str(state), "HOME": str(self.home(host)), "OMP_NUM_THREADS": "1"}
        if host != "coordinator":
            own |= {"PYTHONPATH": str(self.root / "tap"), "FEDRAD_TAP": str(self.tap(host))}
        return os.environ | own

    def do(self, host: str, *command: str, fails: bool = False) -> str:
        """Run a command to its end. Returns what it printed."""
        ended = subprocess.run(
            self.network.at(host, str(BIN / command[0]), *command[1:]),
            cwd=self.home(host),
            env=self.environment(host),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert (ended.returncode != 0) == fails, ended.stdout + ended.stderr
        return ended.stdout + ended.stderr

    def start(self, what: str, host: str, *command: str) -> None:
        """Start a command that stays."""
        with (self.home(host) / f"{what}.out").open("ab") as out:
            self.running[what] = subprocess.Popen(
                self.network.at(host, str(BIN / command[0]), *command[1:]),
                cwd=self.home(host),
                env=self.environment(host),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def output(self, what: str, host: str) -> str:
        return (self.home(host) / f"{what}.out").read_text()

    def wait_for(self, what: str, host: str, words: str, seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while not re.search(words, self.output(what, host)):
            assert time.monotonic() < end, (
                f"{what} never printed {words!r}:\n{self.output(what, host)}"
            )
            time.sleep(0.3)

    def join(self, hospital: str) -> None:
        """Invite, join, admit: two files, and two fingerprints by telephone."""
        self.do("coordinator", "fedrad", "invite", hospital)
        letter = self.home("coordinator") / f"{hospital}.invitation"
        letter.rename(self.home(hospital) / letter.name)
        spoken = Invitation.read(self.home(hospital) / letter.name).fingerprint()
        self.do(
            hospital,
            "fedrad-site",
            "join",
            letter.name,
            str(self.folder(hospital)),
            "--fingerprint",
            spoken,
        )
        letter = self.home(hospital) / f"{hospital}.request"
        letter.rename(self.home("coordinator") / letter.name)
        spoken = JoinRequest.read(self.home("coordinator") / letter.name).fingerprint()
        self.do("coordinator", "fedrad", "sites", "admit", letter.name, "--fingerprint", spoken)

    def write(self, name: str, text: str, approved_by: list[str]) -> None:
        """An experiment file at the coordinator, which some hospitals got by mail and approved."""
        (self.home("coordinator") / name).write_text(text)
        for hospital in approved_by:
            (self.home(hospital) / name).write_text(text)
            self.do(
                hospital,
                "fedrad-site",
                "approve",
                str(self.folder(hospital)),
                "--file",
                name,
                "--yes",
            )

    def end(self) -> None:
        for process in self.running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for process in self.running.values():
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
