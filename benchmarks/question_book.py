"""Cost of the question book per visit: entry, stored answer, and the model that is compared.

    python benchmarks/question_book.py

Each visit enters a question, stores an answer with its tensors, and keeps the received model for
the comparison with the next one. Times are medians beside a plain write of the same bytes, in one
run.
"""

import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from fedrad.client.participant.between_rounds import RoundTensors
from fedrad.client.policy.question_book import QuestionBook
from fedrad.client.policy.questions import round_question
from fedrad.client.settings import Site, SiteSettings
from fedrad.exchange.experiment import Experiment
from fedrad.exchange.messages import RoundReply
from fedrad.system.files import write_whole

REPLY = RoundReply(
    manifest=None, patients=100, images=100, loss=None, steps=10, seconds=1.0, monitoring={}
)
REPEATS = 7


def median(action: Callable[[int], None]) -> float:
    times = []
    for number in range(REPEATS):
        began = time.perf_counter()
        action(number)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def measure(megabytes: float, before: int) -> tuple[float, float, float]:
    """Seconds of a plain write, of the book, and of keeping the model, after `before` questions."""
    values = np.random.default_rng(0).integers(0, 256, int(megabytes * 1e6), dtype=np.uint8)
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name)
        experiment = Experiment.model_validate(
            {"name": "cost", "outcomes": ["y"], "federation": {"rounds": 10_000}}
        )
        site = Site(folder, SiteSettings(name="a"), folder)
        book = QuestionBook(site, experiment, folder / "answers", logging.getLogger("cost"))
        with book.visit(round_question(0), "0" * 64, "", run=1) as visit:
            visit.answer = REPLY, None
        content = book._read()
        entry = content.trainings[0][round_question(0)]
        for number in range(1, before):
            content.trainings[0][round_question(number)] = entry.model_copy()
        book._file.write(content)

        def visited(number: int) -> None:
            question = round_question(before + number)
            with book.visit(question, "0" * 64, "", run=1) as visit:
                visit.answer = REPLY, values

        kept = RoundTensors(folder / "kept")
        tensor = {"values": torch.from_numpy(values)}
        return (
            median(lambda number: write_whole(folder / "plain", values.tobytes())),
            median(visited),
            median(lambda number: kept.save(number, tensor)),
        )


def main() -> None:
    print("| update, MB | questions before | plain write, s | book, s | received model kept, s |")
    print("| --- | --- | --- | --- | --- |")
    for megabytes in (0.001, 45, 94):
        for before in (1, 30, 1000):
            plain, book, kept = measure(megabytes, before)
            print(f"| {megabytes:g} | {before} | {plain:.3f} | {book:.3f} | {kept:.3f} |")


if __name__ == "__main__":
    main()
