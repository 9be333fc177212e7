"""Files with one sealed message each, as people hand them on: base64 on lines, which survive mail and editors."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

from node.durable import replace_file
from protocol.errors import LocalError

__all__ = ["read_signed", "write_signed"]

MAX_FILE_BYTES = 128 * 1024


def read_signed(file: Path) -> bytes:
    """The sealed bytes in a file; who signed what is still to be seen. Raises LocalError."""
    try:
        with file.open("rb") as opened:
            text = opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise LocalError(f"cannot read {file}: {error.strerror}", code="no-file", hint="check the path") from None
    if len(text) > MAX_FILE_BYTES:
        raise LocalError(f"{file} is too large to be a signed file", code="no-file")
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except binascii.Error:
        raise LocalError(f"{file} is not base64", code="no-file", hint="give the file that was signed") from None


def write_signed(file: Path, sealed: bytes) -> None:
    """Write a file, over an older one of its name. Raises LocalError."""
    text = base64.encodebytes(sealed)
    try:
        replace_file(file, text)
    except OSError as error:
        raise LocalError(f"cannot write {file}: {error.strerror}", hint="give another --out FILE") from None
