"""`fedrad status`: how far an experiment is, from its records, while it runs and afterwards."""

import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fedrad.exchange.experiment import read_experiment
from fedrad.server.federation.records import Record, Records
from fedrad.server.rounds.run_state import RunState
from fedrad.system.terminal import PlainConsole

REFRESH_SECONDS = 2.0
LAST_ROUNDS = 5
"""Number of rounds whose median duration gives the time left."""
BARS = 12
"""Number of bars of a curve; the table then fits 80 columns."""
_BARS = "▁▂▃▄▅▆▇█"


def watch(folder: Path, *, once: bool) -> None:
    """Show the state of an experiment; live until no run is at work on it, unless `once`.

    Raises FileNotFoundError if the folder holds no experiment.
    """
    if not (folder / "records.sqlite").is_file():
        raise FileNotFoundError(folder)
    console = PlainConsole()
    running = RunState(folder / "checkpoint").is_running
    if once or not running():
        console.print(state(folder))
        return
    with Live(state(folder), console=console, auto_refresh=False) as live:
        while running():
            time.sleep(REFRESH_SECONDS)
            live.update(state(folder), refresh=True)


def state(folder: Path) -> RenderableType:
    """A page for the terminal: how far the experiment is, and a table of its sites."""
    experiment, _ = read_experiment(folder / "experiment.toml")
    records = Records(folder / "records.sqlite")
    try:
        rows = records.all()
    finally:
        records.close()
    run = RunState(folder / "checkpoint")
    rounds = experiment.federation.rounds
    finished = _latest(rows, "seconds", site="")
    began = _latest(rows, "began", site="")
    lines = [Text.assemble((experiment.name, "bold"), f": {_standing(run)}")]
    if began:
        number = max(began)
        stage = began[number].text
        lines.append(Text(f"Round {number} of {rounds}, stage {stage}{_left(rows, rounds)}"))
    waiting = [r for r in rows if r.metric == "waiting"]
    if waiting and run.is_running() and waiting[-1].id > max(r.id for r in finished.values()):
        lines.append(Text.assemble(("Waiting", "yellow"), f": {waiting[-1].text}"))
    table = Table()
    monitored = experiment.task.monitored
    for column in (
        "site",
        "last answer",
        "round",
        "seconds",
        "loss",
        f"validation {monitored.name}",
    ):
        table.add_column(column, justify="right" if column in ("round", "seconds") else "left")
    metrics = [f"validation_{monitored.key}/{outcome}" for outcome in experiment.outcomes]
    low, high = monitored.limits or (None, None)
    for site in sorted({r.site for r in rows if r.site}):
        answers = [r for r in rows if r.site == site and r.metric == "status"]
        status = [r for r in answers if r.round] or answers  # of a round, if there was one
        seconds = _latest(rows, "seconds", site=site)
        table.add_row(
            site,
            Text(status[-1].text or "", overflow="fold") if status else "",
            str(status[-1].round or "") if status else "",
            f"{seconds[max(seconds)].value:.0f}" if seconds else "",
            _curve(_values(rows, "loss", site)),
            "\n".join(_curve(_values(rows, m, site), low=low, high=high) for m in metrics),
        )
    return Group(*lines, table)


def _standing(run: RunState) -> str:
    if run.is_running():
        return "running"
    standing = run.progress_head()
    if standing is None:
        return "ended before its first checkpoint; `fedrad resume` goes on"
    if standing.status == "completed":
        return "completed"
    done = len(standing.rounds)
    return f"not running, {done} rounds are done; `fedrad resume` goes on ({standing.why})"


def _left(rows: Sequence[Record], rounds: int) -> str:
    """Time left for training, from the median duration of the last rounds; "" before the first."""
    finished = _latest(rows, "seconds", site="")
    if not finished or len(finished) >= rounds:
        return ""
    last = [finished[n].value or 0.0 for n in sorted(finished)[-LAST_ROUNDS:]]
    left = timedelta(seconds=round(median(last) * (rounds - len(finished))))
    ends = datetime.now() + left
    return (
        f"; about {left} to the end of training ({ends:%a %H:%M}), by the last {len(last)} rounds"
    )


def _latest(rows: Sequence[Record], metric: str, site: str) -> dict[int, Record]:
    """The last record of a metric by round."""
    return {r.round: r for r in rows if r.metric == metric and r.site == site}


def _values(rows: Sequence[Record], metric: str, site: str) -> list[float | None]:
    of_round: dict[int, float | None] = defaultdict(lambda: None)
    of_round |= {number: r.value for number, r in _latest(rows, metric, site).items()}
    return [of_round[number] for number in range(1, max(of_round, default=0) + 1)]


def _curve(
    values: Sequence[float | None], low: float | None = None, high: float | None = None
) -> str:
    """The last value, and the values of all rounds as bars; a blank for a round without a value.

    Parameters
    ----------
    values
        One value for each round.
    low, high
        Range of the bars; default: the smallest and the largest value.
    """
    known = [v for v in values if v is not None]
    if not known:
        return ""
    low = min(known) if low is None else min(low, *known)
    high = max(known) if high is None else max(high, *known)
    span = (high - low) or 1.0
    bars = "".join(
        " " if v is None else _BARS[round((v - low) / span * (len(_BARS) - 1))] for v in values
    )
    return f"{known[-1]:.3f} {bars[-BARS:]}"
