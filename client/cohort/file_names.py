"""Finds the files that a table names, also where the disk spells a name in another way."""

import os
import stat
import unicodedata
from dataclasses import dataclass
from os.path import normpath
from pathlib import Path, PureWindowsPath

from fedrad.client.problems import SiteProblem
from fedrad.system.text import visible

OLD_ENCODINGS = ("cp1252", "cp850", "mac_roman")
"""Encodings of names that are not UTF-8, from old archives, DOS and Macs."""


@dataclass(frozen=True)
class NamedFile:
    """A file as a table names it.

    Attributes
    ----------
    name
        Path within the site's folder, as the table spells it.
    file
        The file; None if it cannot be used.
    why
        Why `file` is None; "" otherwise.
    spelled
        How the disk spells the name and what differs; "" if it does not differ.
    """

    name: str
    file: Path | None
    why: str = ""
    spelled: str = ""


class SiteFiles:
    """The files of a site's folder. What a folder holds is read once."""

    def __init__(self, folder: Path) -> None:
        self._given, self._root = normpath(folder.absolute()), folder.resolve()
        self._names: dict[str, dict[str, list[tuple[str, str]]]] = {}
        self._stems: dict[str, dict[str, list[str]]] = {}

    def find(self, reference: str, what: str) -> NamedFile:
        """The file of a reference: relative to the folder, or absolute within it.

        A link in the folder is followed, also out of it: the site has put it there. If no file has
        this name, the one file is taken whose name is the same in another Unicode form, another
        encoding, or another case.

        Parameters
        ----------
        reference
            Path as the table gives it.
        what
            Row of the table, for the message.

        Raises
        ------
        SiteProblem
            "cohort", if the path leads out of the folder or is one of a Windows drive.
        """
        if PureWindowsPath(reference).drive:
            raise SiteProblem(
                "cohort",
                f"{what}: {reference} is a path of a Windows drive; write it relative to "
                "the site's folder",
            )
        if "\\" in reference and _kind(self._root / reference) is None:
            reference = reference.replace("\\", "/")
        name = self._within(reference)
        if name is None:
            raise SiteProblem("cohort", f"{what}: {reference} lies outside the site's folder")
        file = self._root / name
        if (kind := _kind(file)) == "file":
            return NamedFile(name, file)
        if kind is not None:
            return NamedFile(name, None, f"is a {kind}, not a file")
        why = _why_missing(self._root, name)
        if why == "no such file":
            spelled = self._spelled_otherwise(name)
            if len(spelled) == 1:
                file = self._root / spelled[0][0]
                if _kind(file) == "file":
                    return NamedFile(name, file, spelled=spelled[0][1])
            elif spelled:
                why += f"; {len(spelled)} files have nearly this name: " + ", ".join(
                    visible(one) for one, _ in spelled
                )
            elif near := self._of_other_extension(name):
                why += f"; {', '.join(map(visible, near))} is there: write its whole name"
        return NamedFile(name, None, why)

    def _within(self, reference: str) -> str | None:
        """The path within the folder, without `.` and `..`; None if it leads out."""
        if not os.path.isabs(reference):
            name = normpath(reference)
            return None if name.split("/")[0] == ".." else name
        path = normpath(reference)
        for root in (self._given, str(self._root)):
            if path.startswith(root.rstrip("/") + "/"):
                return path[len(root.rstrip("/")) + 1 :]
        return None

    def _spelled_otherwise(self, name: str) -> list[tuple[str, str]]:
        """The paths that have this name in another spelling, and what differs."""
        found = [("", "")]
        for part in name.split("/"):
            found = [
                (os.path.join(folder, one), differs or other)
                for folder, differs in found
                for one, other in self._alike(folder, part)
            ]
        return found

    def _of_other_extension(self, name: str) -> list[str]:
        """Names in the same folder that differ only in their extension, or in having one."""
        folder, part = os.path.split(name)
        if folder not in self._stems:
            self._stems[folder] = {}
            for names in _by_key(self._root / folder).values():
                for one, _ in names:
                    self._stems[folder].setdefault(Path(one).stem, []).append(one)
        stems = self._stems[folder]
        return sorted({*stems.get(part, []), *stems.get(Path(part).stem, [])})

    def _alike(self, folder: str, part: str) -> list[tuple[str, str]]:
        """Names in a folder that are a name in another spelling; the name itself, if it is there,
        alone."""
        if folder not in self._names:
            self._names[folder] = _by_key(self._root / folder)
        alike = self._names[folder].get(_key(part), [])
        same = [(one, "") for one, _ in alike if one == part]
        if same:
            return same
        composed = unicodedata.normalize("NFC", part)
        near = [(one, text) for one, text in alike if text == composed] or alike
        return [
            (one, f"{visible(one)}, in another {_difference(one, text, part)}")
            for one, text in near
        ]


def _difference(on_disk: str, text: str, named: str) -> str:
    if text != unicodedata.normalize("NFC", named):
        return "case"
    return "encoding" if visible(on_disk) != on_disk else "Unicode form"


def _kind(file: Path) -> str | None:
    """`file`, `folder` or `device`; None if there is nothing that can be reached."""
    try:
        mode = file.stat().st_mode
    except (OSError, ValueError):  # ValueError: characters that no name on this machine can have
        return None
    return "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else "device"


def _why_missing(root: Path, name: str) -> str:
    """Why nothing can be reached under a name in a folder."""
    try:
        (root / name).stat()
    except FileNotFoundError:
        pass
    except PermissionError:
        return "may not be read (permission denied)"
    except OSError as error:
        return f"cannot be reached ({error.strerror})"
    except ValueError:
        return "no such file; the name has characters that no file name on this machine can have"
    part = root
    for one in Path(name).parts:
        part /= one
        if part.is_symlink() and not part.exists():
            target = visible(str(part.readlink()))
            return (
                f"no such file; {part.relative_to(root)} is a link to {target}, which is not "
                "there: mount that disk, or mend the link"
            )
    return "no such file"


def _by_key(folder: Path) -> dict[str, list[tuple[str, str]]]:
    """Key -> names in a folder, with the text that each name is."""
    names: dict[str, list[tuple[str, str]]] = {}
    try:
        entries = sorted(os.listdir(folder))
    except OSError:
        return {}
    for name in entries:
        texts = {unicodedata.normalize("NFC", text) for text in _texts(name)}
        for key, text in {_key(text): text for text in sorted(texts)}.items():
            names.setdefault(key, []).append((name, text))
    return names


def _texts(name: str) -> list[str]:
    """The texts that a name may be: itself, or in an old encoding if its bytes are not UTF-8."""
    raw = os.fsencode(name)
    try:
        return [raw.decode("utf-8")]
    except UnicodeDecodeError:
        return [raw.decode(codec, "replace") for codec in OLD_ENCODINGS]


def _key(text: str) -> str:
    """Equal for names that differ only in Unicode form and case."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
