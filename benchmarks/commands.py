"""Processor time and memory of commands that should answer at once.

    python benchmarks/commands.py [--other OTHER_BIN] [--runs 5]

Runs each command in a fresh process, the installations in turn, and prints the median of user and
system seconds together and the largest resident memory, as a Markdown table. `--other`: folder of
the programs of another installation (an earlier version, say) to set beside this one.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sysconfig
import tempfile
from pathlib import Path

SITE, EMPTY, NOWHERE = "SITE", "EMPTY", "NOWHERE"
COMMANDS = (
    ("fedrad", "--help"),
    ("fedrad", "status", EMPTY),
    ("fedrad", "sites", "--coordinator", EMPTY),
    ("fedrad", "stop", EMPTY),
    ("fedrad", "simulate", f"{NOWHERE}.toml", "--site", f"a={SITE}", "--out", NOWHERE),
    ("fedrad", "run", f"{NOWHERE}.toml", "--out", NOWHERE),
    ("fedrad", "report", NOWHERE),
    ("fedrad-site", "--help"),
    ("fedrad-site", "ledger", SITE),
    ("fedrad-site", "approve", SITE),
    ("fedrad-site", "stop", SITE),
)


def measure(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Processor seconds (user and system) and peak memory (MiB) of one run of a command."""
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) < 0:
        raise SystemExit(f"{command}: was killed")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--other", type=Path, help="folder of another installation's programs")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    installations = [Path(sysconfig.get_path("scripts"))]
    installations += [arguments.other] if arguments.other else []
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print(f"Load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, {arguments.runs} runs each\n")
    heads = ["command", *(f"{i.parent.parent.name}: s | MiB" for i in installations)]
    print("| " + " | ".join(heads) + " |")
    print("| --- |" + " --- | --- |" * len(installations))
    with tempfile.TemporaryDirectory() as root:
        places = {
            SITE: Path(root) / "site",
            EMPTY: Path(root) / "empty",
            NOWHERE: Path(root) / "nowhere",
        }
        places[SITE].mkdir()
        places[EMPTY].mkdir()
        (places[SITE] / "site.toml").write_text('name = "a"\n')
        environment = os.environ | {"XDG_STATE_HOME": root, "OMP_NUM_THREADS": "1"}
        for installation in installations:
            subprocess.run([installation / "fedrad", "--help"], check=True, capture_output=True)
        for command in COMMANDS:
            given = list(command)
            for word, place in places.items():
                given = [part.replace(word, str(place)) for part in given]
            figures: list[list[tuple[float, float]]] = [[] for _ in installations]
            for _ in range(arguments.runs + 1):  # the first run warms the caches of the system
                for installation, of_one in zip(installations, figures, strict=True):
                    program = str(installation / given[0])
                    of_one.append(measure([program, *given[1:]], environment))
            cells = []
            for of_one in figures:
                seconds, memory = zip(*of_one[1:], strict=True)
                cells += [f"{statistics.median(seconds):.2f}", f"{max(memory):.0f}"]
            print("| `" + " ".join(command) + "` | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
