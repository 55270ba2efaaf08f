"""Flower's own SuperLink, node and `flwr run`, over a port of loopback, as Flower has them.

For bundles that hold code, which fedrad's SuperLink refuses: of a hostile coordinator, and of the
apps that fedrad is compared with.
"""

import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fedrad.flower.bundles import BUNDLE
from fedrad.flower.control import FlowerError, FlowerSettings
from fedrad.flower.processes import FlowerProcesses, flat_toml
from fedrad.system.ports import free_port

STOCK_SUPERNODE = ("flower-supernode",)
"""Command of Flower's own node."""


class StockFlower(FlowerProcesses):
    """A SuperLink without TLS that runs any bundle."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        super().__init__(folder, environment)
        self.address = f"127.0.0.1:{free_port()}"

    def start_superlink(self, *options: str) -> "subprocess.Popen[bytes]":
        host, port = self.address.split(":")
        superlink = self.start(
            ["flower-superlink"],
            "superlink",
            "--insecure",
            "--disable-runtime-dependency-installation",
            "--host",
            host,
            "--port",
            port,
            *options,
        )
        self.wait_for(superlink, lambda: answers(f"http://{self.address}/health"))
        return superlink

    def start_supernode(
        self, name: str, node_config: Mapping[str, str], command: Sequence[str]
    ) -> "subprocess.Popen[bytes]":
        return self.start(
            command,
            name,
            "--insecure",
            "--superlink",
            self.address,
            "--port",
            str(free_port()),
            "--node-config",
            flat_toml(node_config, " "),
        )

    def run_bundle(self, run_config: FlowerSettings, bundle: Path = BUNDLE.parent) -> Iterator[str]:
        """Run a bundle in a folder until it has ended. Yields the lines of the run's log."""
        home = self.folder / "run"
        app = home / "app"
        shutil.rmtree(app, ignore_errors=True)
        shutil.copytree(bundle, app)
        (home / "run.toml").write_text(flat_toml(run_config), encoding="utf-8")
        (home / "config.toml").write_text(
            '[superlink]\ndefault = "own"\n[superlink.own]\n'
            + flat_toml({"address": self.address, "insecure": True}),
            encoding="utf-8",
        )
        command = [str(app), "own", "--stream", "--run-config", str(home / "run.toml")]
        process = self.start(["flwr", "run"], "run", *command)
        with (self.folder / "run.log").open(encoding="utf-8", errors="replace") as log:
            ended, partial = False, ""
            while True:
                partial += log.readline()
                if partial.endswith("\n"):
                    yield partial.rstrip("\n")
                    partial = ""
                elif ended:
                    break
                else:
                    ended = process.poll() is not None
                    time.sleep(0 if ended else 0.2)
        if process.returncode != 0:
            raise FlowerError(f"`flwr run` failed:\n{self.last_lines('run')}")


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
