"""Shows the ledger: a table with a summary of each message, CSV and JSON."""

import csv
import io
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from fedrad.client.problems import SiteProblem
from fedrad.system.files import write_whole

from .ledger import LedgerContent
from .ledger_lines import LedgerEntry

KINDS = {
    "readiness": "who this site is: versions, device, how many patients it has of each class and "
    "part of the split (none for small classes), how many files were set aside",
    "round": "one round: the trained weights, how many patients and images trained them, mean "
    "loss, and the AUROC of the received model on the validation patients (of a generator: "
    "the loss alone)",
    "baseline": "that the local-only model was trained, or why not; the model itself only if "
    "weights are listed",
    "validation": "AUROC of mixtures of two models on the validation patients",
    "scored": "that a model was scored, or why not; the scores stayed",
    "release": "the figures about validation or test patients: AUROC, calibration, histograms of "
    "at least the minimum number of patients per bin",
    "refusal": "one word of a fixed list: why this site did not do what it was asked",
    "error": "a sentence of a fixed list: that the visit could not be run at all",
    "decision": "nothing left: a person approved an experiment, or took that back",
    "policy": "nothing left: a person accepted the settings that decide what leaves; --export and "
    "--json list them",
    "officer key": "nothing left: from here on, decisions count only if this key has signed them",
    "membership": "nothing left: this site joined a coordinator, or joined again",
    "withdrawal": "nothing left: patients were withdrawn; they are in nothing that follows",
}
"""Explanation of each kind of message."""


def filter_by_experiment(record: LedgerContent, name: str | None) -> LedgerContent:
    """The entries of one experiment; all entries if `name` is None."""
    if name is None:
        return record
    return replace(record, entries=[e for e in record.entries if e["experiment"] == name])


def print_ledger(record: LedgerContent, console: Console) -> None:
    """Print the entries, an explanation of each kind of message, and the state of the chain."""
    rows = [("time (UTC)", "experiment", "message", "bytes", "SHA-256", "what")]
    rows += [
        (
            entry["time"].removesuffix("+00:00").replace("T", " "),
            entry["experiment"],
            entry["message"]["kind"],
            f"{_bytes(entry):,}",
            entry.get("sha256", "")[:12],
            summarise(entry),
        )
        for entry in record.entries
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for *row, last in rows:
        cells = (text.ljust(width) for text, width in zip(row, widths, strict=True))
        console.print("  ".join([*cells, last]), soft_wrap=True)
    console.print()
    kinds = Counter(entry["message"]["kind"] for entry in record.entries)
    for kind, number in kinds.items():
        console.print(f"{kind} ({number}): {KINDS.get(kind, 'unknown to this version')}")
    if record.cut_off:
        console.print(
            f"The last line was cut off while it was written ({record.cut_off} bytes are left): a "
            "message is sent after its line is on disk, so that one did not leave."
        )
    total = sum(map(_bytes, record.entries))
    console.print(
        f"{len(record.entries)} entries, {total:,} bytes; the chain is whole. Last hash: "
        f"{record.head}. If somebody outside this site keeps it (`fedrad-site ledger --head`), it "
        "shows later that no line was removed."
    )


def summarise(entry: LedgerEntry) -> str:
    """A summary of an entry in a few words."""
    message, asked = entry["message"], entry.get("asked") or {}
    summary = []
    if "round" in asked:
        summary.append(f"round {asked['round'] + 1}")
    summary += [str(asked[key]) for key in ("part", "model") if key in asked]
    if "models" in asked:
        summary.append(" ".join(asked["models"]))
    manifest = message.get("manifest")
    if manifest:
        summary.append(f"{len(manifest['names'])} tensors of stage {manifest['stage']}")
    if message.get("patients"):
        summary.append(f"{message['patients']} patients, {message['images']} images")
    summary += [str(message[key]) for key in ("reason", "missing", "sentence") if key in message]
    summary += [_decided(message)] if "by" in message else []
    if message["kind"] == "membership":
        summary.append(message["coordinator"])
    if entry.get("number") is not None:
        summary.append(f"question {entry['number']}")
    if "signature" in entry:
        summary.append("signed")
    if "cut_off" in entry:
        summary.append("(the line before was cut off by a crash)")
    return ", ".join(summary)


def _decided(message: LedgerEntry) -> str:
    """Who decided what."""
    words = {"policy": "accepted", "officer key": "set up"}
    what = message.get("decision") or words.get(message["kind"], message["kind"])
    limits = [f"until {message['until']}"] if "until" in message else []
    if "runs" in message:
        limits.append(f"for {message['runs']} run{'s' if message['runs'] != 1 else ''}")
    return " ".join([f"{what} by {message['by']}", *limits])


def ledger_as_json(record: LedgerContent) -> str:
    """All entries as JSON, unchanged."""
    return json.dumps(
        {"format": 1, "head": record.head, "cut_off": record.cut_off, "entries": record.entries},
        indent=1,
    )


def ledger_as_csv(record: LedgerContent) -> str:
    """The entries as CSV, one row each."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(
        [
            "time",
            "experiment",
            "kind",
            "what",
            "tensors",
            "message_bytes",
            "tensor_bytes",
            "seconds",
            "identity",
            "number",
            "received",
            "sha256",
            "hash",
        ]
    )
    for entry in record.entries:
        names = (entry["message"].get("manifest") or {}).get("names", [])
        table.writerow(
            [
                entry["time"],
                entry["experiment"],
                entry["message"]["kind"],
                summarise(entry),
                " ".join(names),
                entry.get("message_bytes", 0),
                entry["tensor_bytes"],
                entry.get("seconds", 0),
                entry.get("identity") or entry["message"].get("identity", ""),
                "" if entry.get("number") is None else entry["number"],
                entry.get("received") or "",
                entry.get("sha256", ""),
                entry["hash"],
            ]
        )
    return text.getvalue()


def write_ledger(record: LedgerContent, file: Path) -> None:
    """Write the entries to a file as CSV or JSON, by its suffix. Raises SiteProblem for another."""
    forms = {".csv": ledger_as_csv, ".json": ledger_as_json}
    if file.suffix not in forms:
        raise SiteProblem("internal", f"{file}: .csv or .json")
    write_whole(file, forms[file.suffix](record))


def _bytes(entry: LedgerEntry) -> int:
    return int(entry.get("message_bytes", 0)) + int(entry["tensor_bytes"])
