"""Names and values as text that every terminal and file can hold, whatever is in them.

A file name is any bytes, and a cell of a table any characters.
"""

import codecs

ESCAPED = "fedrad.escaped"
"""Handler of encoding errors: what an encoding lacks is escaped. Bytes of a file name that are no
UTF-8 (surrogates, PEP 383) are written as bytes: `caf\\xe9.dcm`."""


def visible(text: str, *, lines: bool = False) -> str:
    """A text in which what cannot be seen is escaped: control characters, odd bytes, odd blanks.

    Parameters
    ----------
    text
        Any text, such as a file name.
    lines
        Whether ends of lines stay as they are, in a text that has several.
    """
    return "".join(c if c.isprintable() or (lines and c == "\n") else _escape(c) for c in text)


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def _escape_error(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_escape, error.object[error.start : error.end])), error.end


codecs.register_error(ESCAPED, _escape_error)
