"""What a client has verified of one ledger's log: its key, its newest checkpoint, and that all others agree with it.

The newest checkpoint known only ever moves to one that is proven to continue it. A checkpoint that comes another way,
by gossip or in somebody's evidence, waits as a *doubt* until an answer proves that it is of the same history.
No I/O but the file behind `Memory`. docs/spec/ledger.md, clauses C1 and C8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from node.ledger.recent import Recent
from node.ledger.remembered import Memory
from node.ledger.wire import MAX_KNOWN, Answer
from protocol.errors import ConfigurationError, DishonestError, PeerError
from protocol.identity.eip712 import Domain
from protocol.log.checkpoint import (
    Checkpoint,
    Operator,
    check_operator_line,
    open_checkpoint,
    own_note,
    parse_checkpoint,
)
from protocol.log.fork import ForkProof
from protocol.log.merkle import verify_consistency
from protocol.log.note import VerifierKey, parse_note
from protocol.settlement import ledger_domain

__all__ = ["ContradictionError", "Question", "Signed", "Trust"]

_JUDGED = 4_096
_DOUBTS = 64
_NOTES = 64


class ContradictionError(DishonestError):
    """Two checkpoints of one ledger that are not of one history; both with its signature alone.

    `proof` convinces others, where there is one yet: what the log of the newer one shows may make another.
    """

    default_hint = "keep the remembered checkpoint: both together are evidence against the ledger's operator"

    def __init__(self, message: str, *, older: Signed | None, newer: Signed | None, proof: ForkProof | None) -> None:
        super().__init__(message)
        self.older = older
        self.newer = newer
        self.proof = proof


@dataclass(frozen=True, slots=True)
class Signed:
    """A checkpoint, and its note with the log's own signature alone."""

    checkpoint: Checkpoint
    note: bytes


@dataclass(frozen=True, slots=True)
class Question:
    """What an answer has to prove beside its own: that its checkpoint continues these."""

    asked: tuple[Checkpoint, ...]
    newest: Checkpoint | None
    """The newest checkpoint known when it was asked."""

    @property
    def query(self) -> str:
        """The same for the ledger, as the end of a path."""
        return "?" + "&".join(f"known={checkpoint.size}" for checkpoint in self.asked) if self.asked else ""


class Trust:
    """See the module.

    Args:
        verifier_key: the ledger's key, where it is known from elsewhere.
        url: for what people are told.

    Raises ConfigurationError when the given key is not the remembered one.
    """

    def __init__(self, memory: Memory, verifier_key: str | None, url: str) -> None:
        self._memory = memory
        self._url = url
        self._newest = memory.checkpoint
        self._operator: Operator | None = None
        """Who signs beside the log's key, once the rules are known."""
        self._opened: Recent[bytes, Checkpoint] = Recent(_NOTES)
        """Notes whose signature was verified."""
        self._unanswered: Recent[bytes, None] = Recent(_NOTES)
        """Those of them that the operator has not signed."""
        self._notes: Recent[Checkpoint, bytes] = Recent(_JUDGED)
        """Each verified checkpoint's note, without what others have put on it."""
        self._judged: Recent[Checkpoint, bool] = Recent(_JUDGED)
        """Whether each checkpoint is of this history."""
        self._roots: Recent[int, bytes] = Recent(_JUDGED)
        """Roots by size, of those that are."""
        self._doubts: Recent[Checkpoint, None] = Recent(_DOUBTS)
        self._beyond: Recent[Checkpoint, None] = Recent(_DOUBTS)
        """Checkpoints of more entries than the ledger shows: told of, and doubted again when it has as many."""
        if verifier_key is not None:
            self._pin(VerifierKey.parse(verifier_key))
        if self._newest is not None and memory.note is not None:
            self._accept(self.open(memory.note))

    # The key

    @property
    def verifier(self) -> VerifierKey:
        """The pinned key. RuntimeError before one is."""
        if self._memory.verifier is None:
            raise RuntimeError("connect to the ledger before signing for it")
        return self._memory.verifier

    @property
    def domain(self) -> Domain:
        """What typed signatures for this ledger carry. RuntimeError as `verifier`."""
        return ledger_domain(str(self.verifier))

    def _pin(self, given: VerifierKey) -> None:
        if self._memory.verifier not in (None, given):
            raise ConfigurationError(
                f"the ledger's key was given as {given}, but {self._memory.verifier} is remembered",
                hint="one of the two is for another ledger",
            )
        self._memory.verifier = given

    def meet(self, said: str) -> None:
        """Pin the key that the ledger says is its own, or hold it against the one known. Raises DishonestError."""
        found, known = VerifierKey.parse(said), self._memory.verifier
        if known is None:
            self._memory.verifier = found
        elif known != found:
            way_out = "" if self._memory.path is None else f"; to begin with another ledger, remove {self._memory.path}"
            raise DishonestError(
                f"the ledger at {self._url} is {found}, but {known} is the one you know",
                hint=f"it is another ledger, or somebody poses as yours{way_out}",
            )

    @property
    def operator(self) -> Operator | None:
        """Who signs beside the log's key; None until the rules are known."""
        return self._operator

    def know(self, operator: Operator, note: bytes) -> None:
        """From here on answers have to bear an operator's line, as the note by which he became known has to.

        Raises DishonestError, SignatureError.
        """
        if self._operator is None:
            self._operator = operator
            self._opened.pop(note)
        self._require_answered_for(note)
        if self.open(note) == self._newest:
            self._memory.remember(self._own(note))

    def _require_answered_for(self, note: bytes) -> None:
        """So that his stake answers for every history that anybody is shown (docs/spec/ledger.md, clause C12)."""
        self.open(note)
        if note in self._unanswered:
            raise DishonestError(
                f"the ledger at {self._url} shows a checkpoint that its operator has not signed with its account's key",
                hint="nobody's stake answers for it: use another ledger",
            )

    # Checkpoints

    @property
    def newest(self) -> Checkpoint | None:
        """The newest checkpoint known to be of this history."""
        return self._newest

    @property
    def note(self) -> bytes | None:
        """The same, as its signed note."""
        return self._memory.note

    def open(self, note: bytes) -> Checkpoint:
        """The checkpoint in a note that the ledger has signed. Raises a PeerError; DishonestError if it signed two."""
        found = self._opened.get(note)
        if found is None:
            found = open_checkpoint(note, self.verifier)
            if self._operator is not None and check_operator_line(note, self._operator) is None:
                self._unanswered.put(note, None)
            self._opened.put(note, found)
            self._notes.put(found, self._own(note))
        self._require_one_root(found)
        return found

    def _own(self, note: bytes) -> bytes:
        """Without what others have put on it: what is gossiped, and what convicts."""
        return own_note(note, self.verifier, self._operator)

    def _require_one_root(self, found: Checkpoint) -> None:
        known = self._roots.get(found.size)
        if known is not None and known != found.root:
            self._judged.put(found, False)
            other = Checkpoint(found.origin, found.size, known)
            raise self._contradiction(found, other, "two roots for one size")

    def is_news(self, note: bytes) -> bool:
        """Whether a note's text was not judged yet, whoever has put a signature on it. Raises MalformedError."""
        return not self.has_judged(parse_checkpoint(parse_note(note).text))

    def has_judged(self, found: Checkpoint) -> bool:
        """Whether it is known if a checkpoint is of this history."""
        return found in self._judged

    def doubt(self, note: bytes) -> None:
        """Have a signed checkpoint proven by one of the next answers. Raises DishonestError where it is a known lie."""
        found = self.open(note)
        judged = self._judged.get(found)
        if judged is False:
            raise self._contradiction(found, self._newest, "it was found out before")
        if judged is None:
            self._doubts.put(found, None)

    def question(self, *also: Checkpoint) -> Question:
        """What the next question asks proofs from: the newest first, where there is one."""
        known = () if self._newest is None else (self._newest,)
        return Question(tuple(dict.fromkeys((*known, *also, *self._doubts)))[:MAX_KNOWN], self._newest)

    def follow(self, question: Question, answer: Answer) -> bool:
        """Take an answer's checkpoint in, which must continue every one that was asked about.

        Returns whether all of them are judged now. If not, the newest one has moved on in between, and the answer's has
        to be joined to it by another question. Raises DishonestError where they are of different histories.
        """
        found = self.open(answer.note)
        self._require_answered_for(answer.note)
        for earlier in question.asked:
            self._require_continues(earlier, found, answer.consistency.get(earlier.size))
        if found not in self._judged and self._newest != question.newest:
            return False
        for each in (*question.asked, found):
            self._accept(each)
        if self._newest is None or self._newest.size < found.size:
            self._newest = found
            self._memory.remember(self._own(answer.note))
            for each in [beyond for beyond in self._beyond if beyond.size <= found.size]:
                self._beyond.pop(each)
                self._judged.pop(each)
                self._doubts.put(each, None)
        return True

    def _accept(self, checkpoint: Checkpoint) -> None:
        self._judged.put(checkpoint, True)
        self._roots.put(checkpoint.size, checkpoint.root)
        self._doubts.pop(checkpoint)

    def _require_continues(self, old: Checkpoint, new: Checkpoint, proof: Sequence[bytes] | None) -> None:
        try:
            if new.size < old.size:
                raise DishonestError("entries are gone")
            if proof is None:
                raise DishonestError("it shows no proof")
            verify_consistency(old.size, new.size, old.root, new.root, proof)
        except PeerError as error:
            if old != self._newest:
                self._judged.put(old, False)
                self._doubts.pop(old)
                if new.size < old.size:
                    self._beyond.put(old, None)
            raise self._contradiction(old, new, error.message) from error

    def _contradiction(self, old: Checkpoint, new: Checkpoint | None, why: str) -> ContradictionError:
        older, newer = self._signed(old), None if new is None else self._signed(new)
        proof = None
        if older is not None and newer is not None and old.size == newer.checkpoint.size and old != new:
            proof = ForkProof(
                verifier_key=str(self.verifier),
                older=older.note,
                newer=newer.note,
                root=newer.checkpoint.root,
                consistency=(),
            )
        return ContradictionError(
            f"the ledger at {self._url} contradicts itself: it signed {old}, and now {new} ({why})",
            older=older,
            newer=newer,
            proof=proof,
        )

    def _signed(self, checkpoint: Checkpoint) -> Signed | None:
        note = self._notes.get(checkpoint)
        return None if note is None else Signed(checkpoint, note)
