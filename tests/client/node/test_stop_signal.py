"""A node that is told to stop twice at once says it once."""

import logging
import signal
from pathlib import Path

from fedrad.client.node import service


class Node:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.ended: list[int] = []

    def end(self, number: int) -> None:
        self.ended.append(number)


def test_a_second_signal_while_the_first_is_logged_does_not_log_within_the_log(tmp_path: Path):
    """As `timeout` sends it; Python cannot write to a stream within a write to it."""
    said: list[str] = []

    class Stream(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())
            if len(said) < 3:
                signal.raise_signal(signal.SIGTERM)

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    node, handler = Node(), Stream()
    service.log.addHandler(handler)
    level = service.log.level
    service.log.setLevel(logging.INFO)
    try:
        stop = service._Stop(node, tmp_path / "running")  # type: ignore[arg-type]
        signal.raise_signal(signal.SIGTERM)
    finally:
        service.log.removeHandler(handler)
        service.log.setLevel(level)
        for number, action in before.items():
            signal.signal(number, action)
    assert stop.is_wanted()
    assert said == ["stopping; a round in hand is finished first"]
    assert node.ended == [signal.SIGTERM, signal.SIGTERM]
