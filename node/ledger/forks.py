"""Proofs against a ledger's operator, kept on disk: as long as one is there, nothing new is begun with that ledger.

A proof stands under the ledger's key, not its address: it holds for whoever shows this key, wherever. A person who has
looked into it sets it aside (`set_aside`), and the same two histories do not stop the ledger's users again.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from node.durable import replace_file
from node.ledger.log_source import HttpLog, LogReader
from node.ledger.trust import ContradictionError, Signed, Trust
from protocol.errors import ConfigurationError, DishonestError, ForkedError, LocalError, PeerError
from protocol.log.fork import MAX_FORK_BYTES, ForkProof, check_fork, dump_fork, load_fork
from protocol.log.note import VerifierKey

__all__ = ["Fork", "ForkWatch", "Forks", "read_fork", "set_aside"]

_HELD, _REVIEWED = ".fork.json", ".reviewed.json"


@dataclass(frozen=True, slots=True)
class Fork:
    """A proof that holds, and where it is kept; None where nothing is kept."""

    proof: ForkProof
    path: Path | None

    def __str__(self) -> str:
        older, newer = check_fork(self.proof)
        return f"it signed {older}, and {newer}, which is of another history"


def read_fork(path: Path) -> ForkProof:
    """The proof in a file, unverified. Raises ConfigurationError where the file cannot be read, MalformedError."""
    try:
        with path.open("rb") as file:
            return load_fork(file.read(MAX_FORK_BYTES + 1))
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error


def set_aside(path: Path) -> Path:
    """Trade again with the ledger that this kept proof is against: a person has reviewed it. The file's new name.

    Raises ConfigurationError: it is none that was kept here, or cannot be renamed.
    """
    if not path.name.endswith(_HELD):
        raise ConfigurationError(
            f"{path} is not a proof that stops anything", hint=f"those stand in the data directory, as *{_HELD}"
        )
    reviewed = path.with_name(path.name.removesuffix(_HELD) + _REVIEWED)
    try:
        return path.replace(reviewed)
    except OSError as error:
        raise ConfigurationError(f"cannot rename {path}: {error.strerror}") from error


class Forks:
    """What is kept against one ledger.

    Args:
        folder: where; None keeps proofs for this run alone.
    """

    def __init__(self, folder: Path | None, verifier: VerifierKey) -> None:
        name = f"{quote(verifier.name, safe='')}+{verifier.key_id.hex()}"
        self._verifier = verifier
        self._path = None if folder is None else folder / (name + _HELD)
        self._reviewed = None if folder is None else self._load(folder / (name + _REVIEWED))

    def held(self) -> Fork | None:
        """The proof that was kept before. Raises ConfigurationError where the file is none any more."""
        proof = None if self._path is None else self._load(self._path)
        return None if proof is None else Fork(proof, self._path)

    def keep(self, proof: ForkProof) -> Fork | None:
        """Keep a proof that `check_fork` has accepted; None where a person has set aside just these histories.

        Where it cannot be written it counts all the same, for this run.
        """
        if self._reviewed is not None and self._is_reviewed(proof):
            return None
        if self._path is not None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                replace_file(self._path, dump_fork(proof).encode())
            except OSError:
                return Fork(proof, None)
        return Fork(proof, self._path)

    def _is_reviewed(self, proof: ForkProof) -> bool:
        """Whether one of the two checkpoints was in the reviewed proof: that history is known to be the false one."""
        reviewed = check_fork(self._reviewed) if self._reviewed else ()
        return any(each in reviewed for each in check_fork(proof))

    def _load(self, path: Path) -> ForkProof | None:
        if not path.exists():
            return None
        try:
            proof = read_fork(path)
            if proof.verifier_key != str(self._verifier):
                raise ConfigurationError("it is against another ledger")
            check_fork(proof)
        except (PeerError, ConfigurationError) as error:
            raise ConfigurationError(
                f"the proof against the ledger in {path} cannot be read: {error.message}",
                hint="remove the file only if you trust the ledger again",
            ) from error
        return proof


class ForkWatch:
    """Whether the ledger at hand is known to have signed two histories; turns contradictions into proofs.

    Args:
        folder: where proofs are kept.
    """

    def __init__(self, log: HttpLog, trust: Trust, folder: Path | None) -> None:
        self._log = log
        self._trust = trust
        self._folder = folder
        self._forks: Forks | None = None
        self._known: Fork | None = None
        self._found = asyncio.Event()

    @property
    def known(self) -> Fork | None:
        """The proof, where there is one."""
        return self._known

    async def found(self) -> Fork:
        """Waits until there is a proof."""
        await self._found.wait()
        if self._known is None:
            raise RuntimeError("a proof that was told of is kept")
        return self._known

    def load(self) -> Forks:
        """Look for a proof that was kept before, once the ledger's key is known. Raises ConfigurationError."""
        if self._forks is None:
            self._forks = Forks(self._folder, self._trust.verifier)
            self._take(self._forks.held())
        return self._forks

    def require_none(self) -> None:
        """Called before something new is begun with the ledger. Raises ForkedError."""
        if self._known is not None:
            where = "" if self._known.path is None else f"; the proof is in {self._known.path}"
            raise ForkedError(
                f"the ledger at {self._log.url} contradicts itself, so nothing new begins there: {self._known}{where}",
                hint="show the proof to others; to trade there again after a review: joule ledger clear-fork FILE",
            )

    async def convict(self, error: ContradictionError) -> DishonestError:
        """Have a contradiction proven to others, where that can be; what is to be raised for it."""
        if error.proof is None and error.older is not None and error.newer is not None:
            error.proof = await self._prove(error.older, error.newer)
        return self.hold(error)

    def hold(self, error: ContradictionError) -> DishonestError:
        """Keep the proof that comes with a contradiction, if one does; what is to be raised for it."""
        if error.proof is None:
            return error
        self._take(self.load().keep(error.proof))
        try:
            self.require_none()
        except ForkedError as forked:
            return forked
        return error

    def _take(self, fork: Fork | None) -> None:
        if fork is not None and self._known is None:
            self._known = fork
            self._found.set()

    async def _prove(self, older: Signed, newer: Signed) -> ForkProof | None:
        """What the newer checkpoint's log shows of the older one's size: the ledger itself serves it, or does not."""
        old, new, log = older.checkpoint.size, newer.checkpoint.size, LogReader(self._log)
        if not 1 <= old < new:
            return None
        try:
            proof = ForkProof(
                verifier_key=str(self._trust.verifier),
                older=older.note,
                newer=newer.note,
                root=await log.root(old, new),
                consistency=await log.consistency(old, new),
            )
            check_fork(proof)
        except (PeerError, LocalError):
            return None
        return proof
