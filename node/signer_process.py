"""A process that finds who signed operations, for a ledger or a replay that has more than one core to itself.

    python -m node.signer_process VERIFIER_KEY

It reads frames from standard input and writes one to standard output for each, until there are no more: so it ends with
whoever started it, however that ends. A frame is its length in four bytes, and bytes: operations, or for each of their
signatures in turn the address that made it. It knows no state, and loads little.
"""

from __future__ import annotations

import signal
import struct
import sys
from collections.abc import Sequence
from typing import BinaryIO

import msgpack

from protocol.errors import MalformedError
from protocol.settlement import ledger_domain
from protocol.settlement.operations import SignedOp
from protocol.settlement.signatures import signers_of

__all__ = ["LENGTH", "operations_frame"]

LENGTH = struct.Struct(">I")


def operations_frame(operations: Sequence[SignedOp]) -> bytes:
    """What the process is asked with."""
    body: bytes = msgpack.packb([part for each in operations for part in (each.action, each.signature)])
    return LENGTH.pack(len(body)) + body


def _operations(body: bytes) -> list[SignedOp]:
    parts = iter(msgpack.unpackb(body))
    return [SignedOp(action=action, signature=signature) for action, signature in zip(parts, parts, strict=True)]


def _frame(source: BinaryIO) -> bytes | None:
    head = source.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    body = source.read(length)
    return body if len(body) == length else None


def _serve(verifier_key: str, source: BinaryIO, sink: BinaryIO) -> None:
    domain = ledger_domain(verifier_key)
    while (body := _frame(source)) is not None:
        found = []
        for signed in _operations(body):
            try:
                found += signers_of(domain, signed)
            except MalformedError:
                continue  # it carries no signatures, for whoever asked as for this process
        answer = b"".join(found)
        sink.write(LENGTH.pack(len(answer)) + answer)
        sink.flush()


def main() -> None:
    """Serve whoever started this."""
    # A terminal's Ctrl-C is for the one that this works for: it says by ending when there is no more to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _serve(sys.argv[1], sys.stdin.buffer, sys.stdout.buffer)
    except BrokenPipeError:
        sys.stderr.close()


if __name__ == "__main__":
    main()
