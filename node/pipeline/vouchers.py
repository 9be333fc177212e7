"""The best voucher of every session, on disk before it counts: a crash loses no money that was promised.

One small file a session (`node.slots`), written in place: a voucher that is not whole leaves the one before it. An
attacker who can write here can at worst make a node settle an older voucher; one who can read learns what its clients
paid.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

from node.ports import T, Worker
from node.slots import Slots, newest_of
from protocol.encoding.codec import Count, Message, decode, encode, message
from protocol.errors import LocalError, MalformedError
from protocol.identity.ids import U40
from protocol.routing.routes import MAX_LEGS
from protocol.session.messages import LegNumber, Session, SignedDischarge, SignedVoucher

__all__ = ["StoredVoucher", "VoucherStore", "on_disk", "stored_voucher"]

_OF_THE_WHOLE_PROCESS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""What keeps every file from being read, for now."""


async def on_disk(worker: Worker, call: Callable[[], T]) -> T:
    """What a call returns that reads or writes files. Raises LocalError where the disk, or the process's table of open
    files, does not let it: full, broken, or read-only.
    """
    try:
        return await worker.run(call)
    except OSError as error:
        raise LocalError(
            f"what was promised cannot be kept on disk: {error.strerror or error}",
            code="disk",
            hint="see that the data directory has room and can be written to, and raise the limit of open files",
        ) from error


@message("stored-voucher/2")
class StoredVoucher(Message):
    """What it takes to redeem a session later, or to have back what it still holds."""

    session: Session
    """Its expiry says for how long this matters."""
    opened_at: U40
    """Unix seconds."""
    leg: LegNumber | None
    """Index of the leg that this provider serves; None in a client's journal."""
    pay: SignedVoucher | None
    """The voucher to redeem; None for a session whose order was refused, and in a journal before the first."""
    discharges: Annotated[tuple[SignedDischarge, ...], Count(0, MAX_LEGS)]
    """In a client's journal: the legs' words that are still to be shown to the ledger."""


def stored_voucher(content: bytes) -> StoredVoucher:
    """What a voucher's file holds, a node's own or one for a watchtower, which has no slots.

    Raises MalformedError, ValueError.
    """
    newest = newest_of(content)
    return decode(content if newest is None else newest, StoredVoucher)


class VoucherStore:
    """A directory of `StoredVoucher` files. A session has one writer; several processes may share the directory.

    All changes go through one worker, in the order of the calls, also where a caller is cancelled while it waits: an
    older voucher never replaces a newer one. Every method that waits raises LocalError where the disk does not do it.
    """

    def __init__(self, directory: Path, worker: Worker) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory = directory
        self._worker = worker
        self._slots: dict[bytes, Slots] = {}
        """Of sessions that were put since this began; the worker's."""

    async def put(self, session: bytes, stored: StoredVoucher) -> None:
        """Durable when this returns."""
        await on_disk(self._worker, partial(self._write, session, stored))

    async def remove(self, session: bytes) -> None:
        """Forget a session that the ledger has closed, or that nothing was promised in."""
        await on_disk(self._worker, partial(self._remove, session))

    async def all(self) -> dict[bytes, StoredVoucher]:
        """Every session that is not yet done with, by its id. Files that do not decode are set aside as ``.bad``."""
        return await on_disk(self._worker, self._read_all)

    def knows(self, session: bytes) -> bool:
        """Whether this session was ever accepted or refused here, as far as the store still remembers."""
        return self._path(session).exists()

    def _write(self, session: bytes, stored: StoredVoucher) -> None:
        # A crash may leave the older voucher; the peer has had no answer to the newer one.
        slots = self._slots.get(session) or Slots(self._path(session))
        slots.write(encode(stored))
        self._slots[session] = slots

    def _remove(self, session: bytes) -> None:
        self._slots.pop(session, None)
        self._path(session).unlink(missing_ok=True)

    def _read_all(self) -> dict[bytes, StoredVoucher]:
        found = {}
        for path in sorted(self._directory.glob("*.voucher")):
            try:
                found[bytes.fromhex(path.stem)] = stored_voucher(path.read_bytes())
            except FileNotFoundError:
                continue  # another process has just done with it
            except OSError as error:
                if error.errno in _OF_THE_WHOLE_PROCESS:
                    raise
                continue  # this one file cannot be read: the others can be redeemed
            except (MalformedError, ValueError):
                with contextlib.suppress(OSError):
                    path.rename(path.with_suffix(".bad"))
        return found

    def _path(self, session: bytes) -> Path:
        return self._directory / f"{session.hex()}.voucher"
