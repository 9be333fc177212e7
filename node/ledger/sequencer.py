"""The ledger's one writer: takes operations in order, and answers only for what is durable and signed for.

Whatever waits while a commit runs becomes the next batch, so one fsync serves many without anybody waiting for company.
A ledger that begins takes its genesis entry the same way. A commit that fails ends the writer for good: only a new
process, which reads what the database really holds, may go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from node.events import Events, unheard
from node.ledger.published import Published
from node.ledger.rows import Batch
from node.ledger.signers import SignersAhead, processes_here
from node.ledger.store import NoRoomError, Store
from node.ledger.timekeeper import Timekeeper
from node.ledger.working_copy import FAUCET_REFERENCE, Recovered, WorkingCopy, recover, sessions_of
from node.ports import Clock
from protocol.errors import ConfigurationError, JoulemeshError, LocalError, MalformedError, PeerError, RuleError
from protocol.identity.ids import Address, SessionId, checksum_address
from protocol.identity.signing import SigningKey
from protocol.log.checkpoint import operator_line
from protocol.log.note import NoteKey
from protocol.settlement import Change, Outcome, Rules, apply, ledger_domain, rules_of
from protocol.settlement.operations import Deposit, Genesis, SignedOp, sign_op
from protocol.units import format_micro

__all__ = ["WEEK_S", "Sequencer", "check_rules"]

WEEK_S = 7 * 24 * 3600
_MAX_BATCH = 512
_MAX_WAITING = 4096
_PORTION = 16
"""Operations whose signatures another process checks at a time: a millisecond of work or more."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Submission:
    """An operation that waits. It is made when its turn comes: the faucet's depends on what came before."""

    make: Callable[[], SignedOp]
    done: asyncio.Future[int]
    sessions: Sequence[SessionId] = ()
    """Those that it names."""
    signed: SignedOp | None = None
    """Where it is known before its turn."""


class Sequencer:
    """Use `open`, then run `serve` in a task of its own. Readers look at `published` alone."""

    def __init__(
        self,
        store: Store,
        key: NoteKey,
        operator: SigningKey,
        recovered: Recovered | None,
        keeper: Timekeeper,
        processes: int | None = None,
        published: Published | None = None,
    ) -> None:
        self.domain = ledger_domain(str(key.verifier))
        self.published = Published(store) if published is None else published
        """What is durable, for all to see."""
        self._store = store
        self._key = key
        self._operator = operator
        self._keeper = keeper
        self._copy = WorkingCopy() if recovered is None else recovered.copy
        self._now = self._copy.last_time
        if recovered is not None:
            self.published.replace(recovered.durable)
        self._signers = SignersAhead(
            str(key.verifier), processes_here() if processes is None else processes, portion=_PORTION
        )
        self._waiting: asyncio.Queue[_Submission | None] = asyncio.Queue()
        self._stopped: LocalError | None = None

    @classmethod
    async def open(
        cls,
        store: Store,
        key: NoteKey,
        operator: SigningKey,
        clock: Clock,
        *,
        grace_s: int,
        faucet_limit: int,
        fee: int,
        unbonding_s: int = WEEK_S,
        notice_s: int = WEEK_S,
        bond_multiple: int = 0,
        steady: Callable[[], float] | None = None,
        accept_clock: bool = False,
        events: Events = unheard,
        processes: int | None = None,
        published: Published | None = None,
    ) -> Sequencer:
        """Recover the ledger that `store` holds, or begin one with a genesis entry.

        Args:
            processes: how many check signatures under load, this one counted; by default as there are cores.
            published: what has shown the ledger until now, and goes on to.

        Raises:
            ConfigurationError: the ledger was begun by another operator, with another log key, or under other rules.
            LocalError: the database contradicts itself or its checkpoint.
        """
        recovered = await recover(store, key)
        last = 0 if recovered is None else recovered.copy.last_time
        keeper = Timekeeper(clock, last, steady=steady, accept=accept_clock, events=events)
        sequencer = cls(store, key, operator, recovered, keeper, processes, published)
        genesis = Genesis(
            actor=operator.address,
            nonce=1,
            verifier_key=str(key.verifier),
            grace=grace_s,
            faucet_limit=faucet_limit,
            fee=fee,
            unbonding=unbonding_s,
            notice=notice_s,
            bond_multiple=bond_multiple,
        )
        if recovered is None:
            signed = sign_op(sequencer.domain, operator, genesis)
            submission = _Submission(lambda: signed, asyncio.get_running_loop().create_future())
            await sequencer._sequence([submission])
            await submission.done
        check_rules(rules_of(genesis), sequencer.rules, sequencer._copy.begun or sequencer.rules)
        return sequencer

    @property
    def rules(self) -> Rules:
        """Those that hold, with what was announced, as of the last entry that was asked for."""
        return self._copy.rules.at(self._now)

    def look_at_clock(self) -> None:
        """Tell of a clock that cannot be believed, also where nobody asks for anything."""
        with contextlib.suppress(LocalError):
            self._keeper.now()

    # Taking operations

    async def submit(self, signed: SignedOp) -> int:
        """Take an operation; the index of its entry, once a signed checkpoint covers it durably and is published.

        Raises what `protocol.settlement.apply` raises, and LocalError when the ledger is overloaded or has stopped.
        """
        return await self._enqueue(lambda: signed, sessions_of(signed), signed)

    async def faucet(self, account: Address, amount: int) -> int:
        """Credit play money to `account`, up to the ledger's limit for each. Raises RuleError, and as `submit` does."""
        return await self._enqueue(lambda: self._faucet_deposit(account, amount))

    def _faucet_deposit(self, account: Address, amount: int) -> SignedOp:
        left = self.rules.faucet_limit - self._copy.fauceted.get(account, 0)
        if amount > left:
            raise RuleError(f"the faucet has {format_micro(left)} left for this account", code="faucet")
        deposit = Deposit(
            actor=self._operator.address,
            nonce=self._copy.books.account(self._operator.address).nonce + 1,
            account=account,
            amount=amount,
            reference=FAUCET_REFERENCE,
        )
        return sign_op(self.domain, self._operator, deposit)

    async def _enqueue(
        self, make: Callable[[], SignedOp], sessions: Sequence[SessionId] = (), signed: SignedOp | None = None
    ) -> int:
        if self._stopped is not None:
            raise self._stopped
        if self._waiting.qsize() >= _MAX_WAITING:
            raise LocalError("the ledger is overloaded", code="busy", hint="try again in a moment")
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait(_Submission(make, done, sessions, signed))
        if signed is not None:
            self._signers.expect((signed,))
        return await done

    # The writer

    async def serve(self) -> None:
        """Take operations until `stop`. Raises LocalError when a commit fails; the ledger has then stopped."""
        batch: list[_Submission] = []
        reason = _stopped("the ledger has stopped")
        try:
            stopping = False
            while not stopping:
                batch = []
                stopping = not self._collect(batch, await self._waiting.get())
                await self._sequence(batch)
        except Exception as error:
            # The edge of the task, and any failure is final: what is in memory may be ahead of what is durable.
            reason = _stopped(f"the ledger has stopped: {error}")
            raise reason from error
        finally:
            self._give_up(reason, batch)
            await self._signers.close()

    def stop(self) -> None:
        """Let `serve` finish what waits, and return. Nothing is taken from here on."""
        if self._stopped is None:
            self._stopped = _stopped("the ledger is stopping")
            self._waiting.put_nowait(None)

    def _collect(self, batch: list[_Submission], first: _Submission | None) -> bool:
        """Move what waits into `batch`; False when a stop was asked for."""
        submission = first
        while submission is not None:
            batch.append(submission)
            if len(batch) == _MAX_BATCH or self._waiting.empty():
                return True
            submission = self._waiting.get_nowait()
        return False

    def _give_up(self, reason: LocalError, batch: Sequence[_Submission]) -> None:
        self._stopped = reason
        unanswered = list(batch)
        while not self._waiting.empty():
            self._collect(unanswered, self._waiting.get_nowait())
        for submission in unanswered:
            _answer(submission, reason)

    async def _sequence(self, batch: Sequence[_Submission]) -> None:
        """Apply a batch, make it durable under a signed checkpoint, then answer."""
        batch = await self._fetch(batch)
        try:
            now = self._keeper.now()
        except LocalError as error:
            for submission in batch:
                _answer(submission, error)
            return
        self._now = now
        results = [(submission, await self._apply(submission, now)) for submission in batch]
        taken = [outcome for _, outcome in results if isinstance(outcome, Outcome)]
        index = self._copy.appender.size
        if taken:
            self._copy.last_time = now
            self._keeper.dated(now)
            appended = self._with_own_line(self._copy.append(taken, self._key))
            try:
                await self._store.commit(appended)
            except NoRoomError as error:
                await self._take_back(batch, error)
                return
            self.published.take(appended)
        self._copy.forget()
        for submission, result in results:
            if isinstance(result, Outcome):
                _answer(submission, index)
                index += 1
            else:
                _answer(submission, result)

    def _with_own_line(self, batch: Batch) -> Batch:
        """With the operator's signature on the checkpoint, beside the log's."""
        line = operator_line(self.domain, batch.checkpoint, self._operator)
        return replace(batch, note=batch.note + str(line).encode())

    async def _fetch(self, batch: Sequence[_Submission]) -> Sequence[_Submission]:
        """Have the sessions at hand that the batch names: all before this batch is durable, so the database knows.

        Returns what can be applied. Where the database does not answer, the rest is refused, and nothing is lost.
        """
        lacking = self._copy.lacks(identity for submission in batch for identity in submission.sessions)
        if not lacking:
            return batch
        try:
            self._copy.hold(await self._store.sessions(lacking))
        except LocalError as error:
            for submission in batch:
                if not lacking.isdisjoint(submission.sessions):
                    _answer(submission, error)
            return [submission for submission in batch if lacking.isdisjoint(submission.sessions)]
        return batch

    async def _take_back(self, batch: Sequence[_Submission], error: NoRoomError) -> None:
        """Go on from what the database holds, which the working copy is ahead of: as a new process would."""
        _log.warning("%s", error.message)
        recovered = await recover(self._store, self._key)
        if recovered is None:
            raise error
        self._copy = recovered.copy
        for submission in batch:
            _answer(submission, error)

    async def _apply(self, submission: _Submission, now: int) -> Outcome | JoulemeshError:
        if submission.signed is not None:
            await self._signers.need(submission.signed)
        try:
            outcome = apply(self._copy.books, self.domain, submission.make(), now, self._signers.recover)
        except (PeerError, RuleError, LocalError) as error:
            return error
        except Exception:  # noqa: BLE001
            # One hostile operation that finds a fault in the rules must not stop the ledger for everybody, and
            # nothing has changed yet.
            _log.exception("an operation made the rules fail")
            return MalformedError("the ledger could not process this operation", code="internal")
        self._copy.record(outcome)
        return outcome


def _answer(submission: _Submission, answer: int | JoulemeshError) -> None:
    if submission.done.done():  # the asker has gone
        return
    if isinstance(answer, int):
        submission.done.set_result(answer)
    else:
        submission.done.set_exception(answer)


def _stopped(message: str) -> LocalError:
    return LocalError(message, code="ledger-stopped", hint="start it again")


def check_rules(wanted: Rules, found: Rules, begun: Rules) -> None:
    """That a ledger is started as it was begun; what a notice changes may be said as it was, is, or will be.

    Raises ConfigurationError.
    """
    for what, is_now, was in (
        ("operator", checksum_address(wanted.operator), checksum_address(found.operator)),
        ("log key", wanted.verifier_key, found.verifier_key),
        ("grace", f"{wanted.grace_s} s", f"{found.grace_s} s"),
        ("wait of stakes", f"{wanted.unbonding_s} s", f"{found.unbonding_s} s"),
        ("notice of changes", f"{wanted.notice_s} s", f"{found.notice_s} s"),
    ):
        if is_now != was:
            raise ConfigurationError(
                f"this ledger was begun with the {what} {was}, not {is_now}",
                code="ledger-rules",
                hint="these rules never change: start it as before, or begin another in a new folder",
            )
    known: list[Rules | Change] = [begun, found, *([] if found.coming is None else [found.coming])]
    for what, is_now, was_ever in (
        ("faucet limit", format_micro(wanted.faucet_limit), [format_micro(each.faucet_limit) for each in known]),
        ("fee", format_micro(wanted.fee), [format_micro(each.fee) for each in known]),
        ("multiple of bonds", str(wanted.bond_multiple), [str(each.bond_multiple) for each in known]),
    ):
        if is_now not in was_ever:
            raise ConfigurationError(
                f"this ledger has the {what} {was_ever[1]}, not {is_now}",
                code="ledger-rules",
                hint="start it as before; this rule changes by an announcement: joule ledger notice",
            )
