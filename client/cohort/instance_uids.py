"""Finds the files of rows that name a SOP Instance UID instead of a file."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site
from fedrad.system.text import visible

from .table import CohortTable

InstanceUids = Callable[[Sequence[Path]], list[str]]
"""Returns the SOP Instance UID of each file, "" if a file has none."""


def find_by_uid(table: CohortTable, site: Site, instance_uids: InstanceUids) -> CohortTable:
    """Find the files of rows that name only a SOP Instance UID.

    Parameters
    ----------
    table
        The table as it was read.
    site
        The site, whose folder is searched.
    instance_uids
        Returns the SOP Instance UID of each file, "" if a file has none. Called with all files in
        the site's folder.

    Returns
    -------
    CohortTable
        The table with these files.

    Raises
    ------
    SiteProblem
        If two files have the UID of a row, or no row has a file.
    """
    if all(row.file or not row.values.get("instance_uid") for row in table.rows):
        return table
    by_uid = files_by_uid(site, instance_uids)
    rows = []
    for row in table.rows:
        uid = row.values.get("instance_uid", "")
        matches = by_uid.get(uid, []) if uid and row.file is None else []
        if len(matches) > 1:
            root = site.folder.resolve()
            names = ", ".join(visible(str(file.relative_to(root))) for file in matches)
            raise SiteProblem(
                "cohort",
                f"{table.path}, line {row.line}: {len(matches)} files have this SOP "
                f"Instance UID: {names}; keep one",
            )
        rows.append(replace(row, file=matches[0]) if matches else row)
    if not any(row.file for row in rows):
        raise SiteProblem("cohort", f"{table.path}: no file has a SOP Instance UID of the table")
    return replace(table, rows=rows)


def files_by_uid(site: Site, instance_uids: InstanceUids) -> dict[str, list[Path]]:
    """SOP Instance UID -> files of the site's folder; "" for files without one."""
    state, cohort = site.state.resolve(), site.cohort.resolve()
    files = sorted(
        file
        for folder, names in _folders(site.folder.resolve())
        if not folder.resolve().is_relative_to(state)
        for name in names
        if (file := folder / name).is_file() and file.resolve() != cohort
    )
    by_uid: dict[str, list[Path]] = {}
    for file, uid in zip(files, instance_uids(files), strict=True):
        by_uid.setdefault(uid, []).append(file)
    return by_uid


def _folders(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """The folders below a folder with the names in them. Links to folders are followed, each folder
    once."""
    seen = set[tuple[int, int]]()
    for folder, below, names in os.walk(root, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            below.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        below.sort()
        yield Path(folder), names
