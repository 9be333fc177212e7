"""Guessing ahead at the first leg: what each session's tokens may be, and when it pays to send rows of them on.

Nothing here can change an answer: guesses that turn out wrong are taken back, and the last leg draws as it would
without them. Nor can it end one: what fails in guessing, or in choosing how much to guess, ends the guesses of that
session. `protocol.drafting.drafts` counts what is under way, `protocol.drafting.speculation` chooses how much of
it there should be. All fields belong to the event loop; a drafter that takes its time runs in a worker, for all
sessions that ask at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence

from node.pipeline.loop_clock import loop_s, loop_us
from node.pipeline.serving.compute import ComputeLoop
from node.pipeline.serving.draft import Ask, Draft, Sent
from node.pipeline.serving.leg import LegJob
from node.pipeline.serving.places import Places, Served
from node.ports import GREEDY, DraftAsk, Drafter, Worker
from protocol.drafting.drafts import Guessing
from protocol.drafting.speculation import Pace, Pacer, Prior
from protocol.errors import PeerError
from protocol.session.metering import last_position
from protocol.session.terms import SamplingTerms

__all__ = ["Drafting"]

_log = logging.getLogger(__name__)

SILENT = 2
"""Guesses at a time that are not sent."""


class _Silent:
    """Of a node that does not guess."""

    instant = True

    def begin(self, session: bytes, *, max_tokens: int, prompt: int = 0, sampling: SamplingTerms = GREEDY) -> None:
        """See `Drafter`."""

    def extend(self, session: bytes, tokens: Sequence[int]) -> None:
        """See `Drafter`."""

    def propose(self, asks: Sequence[DraftAsk]) -> list[tuple[int, ...]]:
        """See `Drafter`."""
        return [()] * len(asks)

    def end(self, session: bytes) -> None:
        """See `Drafter`."""


class Drafting:
    """Guesses ahead in the sessions whose first leg this node is.

    Args:
        drafter: None where this node does not guess.
        worker: the one that the drafter belongs to, where it is not instant.
        vocabulary: token ids are below this.
        failed: ends a session that fails over what was guessed.
    """

    def __init__(
        self,
        drafter: Drafter | None,
        worker: Worker | None,
        compute: ComputeLoop,
        places: Places,
        vocabulary: int,
        failed: Callable[[Served, Exception], object],
    ) -> None:
        self._guesses = drafter is not None
        self._drafter: Drafter = _Silent() if drafter is None else drafter
        self._worker = worker
        self._compute = compute
        self._places = places
        self._vocabulary = vocabulary
        self._failed = failed
        self._drafts: dict[bytes, Draft] = {}
        self._prior = Prior()
        self._asked: dict[bytes, Ask] = {}
        self._over: list[bytes] = []
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        return len(self._drafts)

    def close(self) -> None:
        """End the worker, after what it is doing."""
        if self._worker is not None:
            self._worker.close()

    # Sessions

    def begin(self, job: LegJob) -> None:
        """A session begins; nothing happens where this leg is not its first, or its terms know no drafts."""
        most = job.terms.speculation
        if not self._guesses or not most.depth or not job.is_first or job.session in self._drafts:
            return
        self.forget_ended()
        pacer = Pacer(Pace(most.depth, most.flights), self._prior)
        self._drafts[job.session] = Draft(Guessing(most.depth, most.flights), pacer)

    def forget_ended(self) -> None:
        """Free what sessions held that are over."""
        for session in [each for each in self._drafts if self._places.get(each) is None]:
            self.end(session)

    def _end(self, session: bytes) -> None:
        draft = self._drafts.pop(session, None)
        if draft is None:
            return
        if not draft.given_up:
            with self._guarded(draft):
                self._prior = draft.pacer.learned()
        if not draft.untold and not draft.asks and not draft.given_up:
            return
        if self._drafter.instant:
            with self._guarded(draft):
                self._drafter.end(session)
        else:
            self._over.append(session)
            self._wake.set()

    def end(self, session: bytes) -> None:
        """A session is over."""
        self._asked.pop(session, None)
        self._end(session)

    @contextlib.contextmanager
    def _guarded(self, draft: Draft) -> Iterator[None]:
        """Guesses in the session end with what fails within, and nothing else does."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - a drafter may fail in any way
            _give_up(draft, error)

    def begin_anew(self, job: LegJob, base: int, known: Sequence[int]) -> None:
        """The route has changed: tokens stand up to the base, and those that the client knows after it."""
        before = self._drafts.get(job.session)
        self.end(job.session)
        self.begin(job)
        draft = self._drafts.get(job.session)
        if draft is None:
            return
        stands = max(base, job.plan.prompt)
        if before is not None and before.tokens and before.begins <= base:
            draft.begins = before.begins
            draft.tokens = before.tokens[: base - before.begins]
        draft.guessing.certain = draft.guessing.launched = draft.begins + len(draft.tokens)
        if known:
            draft.known = (stands, tuple(known))
            self._give_known(draft)

    def give(self, job: LegJob, position: int, ids: Sequence[int]) -> None:
        """Tokens that the client sends: they stand, and are computed already or will be."""
        draft = self._drafts.get(job.session)
        if draft is None:
            return
        self._stand(draft, position, ids)
        self._give_known(draft)

    def _give_known(self, draft: Draft) -> None:
        at, known = draft.known
        if known and at == draft.begins + len(draft.tokens):
            draft.known = (0, ())
            self._stand(draft, at, known)

    def _stand(self, draft: Draft, position: int, ids: Sequence[int]) -> None:
        if not draft.tokens:
            draft.begins = position
        if position == draft.begins + len(draft.tokens):
            draft.tokens.extend(ids)
            draft.guessing.certain = draft.guessing.launched = position + len(ids)

    # Tokens

    def take(self, served: Served, position: int, token: int) -> None:
        """A token came back from the last leg: it is computed next, unless it was guessed. Raises MalformedError."""
        job = served.job
        draft = self._drafts.get(job.session)
        if draft is not None and position != draft.guessing.certain:
            self.end(job.session)  # whether the token is out of order is the job's affair
            draft = None
        if draft is None or job.ended:
            job.arrive(position, (token,), now_us=loop_us())
            self._compute.poke(job)
            return
        guessing = draft.guessing
        guessed = bool(guessing.guesses)
        refuted = guessing.take(position, token)
        draft.tokens.append(token)
        with self._guarded(draft):
            self._note(draft, position, refuted, guessed)
        if refuted:
            draft.version += 1
        if guessing.must_launch:
            draft.paced = draft.dry = False
        # Of a refuted guess the row is on its way still: what stands ends before it.
        served.certify(min(guessing.certain, guessing.launched))
        self._launch(served, draft)

    def go_on(self, served: Served) -> None:
        """A piece of a session has gone through this leg: there may be room for more guesses."""
        draft = self._drafts.get(served.job.session)
        if draft is None:
            return
        if draft.in_pass is not None and served.job.idle:
            if draft.in_pass.clear:
                with self._guarded(draft):
                    draft.pacer.passes.note(draft.in_pass.rows, loop_s() - draft.in_pass.at_s)
            draft.in_pass = None
        self._launch(served, draft)

    def _note(self, draft: Draft, position: int, refuted: bool, guessed: bool) -> None:
        """What became of a guess, and how long the launch took that brought this token."""
        self._note_worth(draft, refuted, guessed)
        while draft.sent and draft.sent[0].end < position:
            draft.sent.popleft()
        if draft.sent and (refuted or draft.sent[0].end == position):
            back = draft.sent.popleft()
            if back.clear and back.first:
                draft.pacer.trips.note(back.rows, loop_s() - back.at_s)
        if refuted:
            draft.sent.clear()

    def _note_worth(self, draft: Draft, refuted: bool, guessed: bool) -> None:
        if draft.silent and not guessed:
            guessed, refuted = True, draft.silent.popleft() != draft.tokens[-1]
        if guessed:
            draft.pacer.worth.note(draft.right, not refuted)
        if refuted or not guessed:
            draft.silent.clear()
        draft.right = draft.right + 1 if guessed and not refuted else 0

    # Launches

    def _launch(self, served: Served, draft: Draft) -> None:
        job, guessing = served.job, draft.guessing
        if draft.asks or job.ended or not (guessing.must_launch or (guessing.under_way and job.idle)):
            return
        if guessing.must_launch and not draft.paced:
            with self._guarded(draft):
                draft.choose(loop_s(), sharing=len(self._drafts))
        begin, silent = max(guessing.launched, guessing.certain), draft.dry or draft.given_up
        wanted = 0 if silent else min(guessing.room(*draft.pace), last_position(job.plan) - begin)
        if wanted > 0:
            self._ask(served, draft, begin, wanted)
        elif guessing.must_launch:
            self._put(served, draft, ())
            self._guess_silently(served, draft)

    def _guess_silently(self, served: Served, draft: Draft) -> None:
        """What costs next to nothing is guessed all the same, and compared with what comes."""
        if not self._drafter.instant or draft.silent or draft.given_up:
            return
        ask = DraftAsk(served.job.session, (), SILENT)
        with self._guarded(draft):
            self._tell(Ask(served, draft, draft.version, draft.guessing.certain, len(draft.tokens), ask))
            draft.silent.extend(self._drafter.propose([ask])[0])

    def _ask(self, served: Served, draft: Draft, begin: int, wanted: int) -> None:
        session = served.job.session
        wants = DraftAsk(session, draft.guessing.guesses, wanted)
        ask = Ask(served, draft, draft.version, begin, len(draft.tokens), wants)
        if self._drafter.instant:
            began = loop_s()
            found: tuple[int, ...] = ()
            with self._guarded(draft):
                self._tell(ask)
                found = self._drafter.propose([ask.ask])[0]
                draft.pacer.guesses.note(max(1, len(found)), loop_s() - began)
            self._found(ask, found)
        else:
            draft.asks = True
            self._asked[session] = ask
            self._wake.set()

    def _tell(self, ask: Ask) -> None:
        """The drafter of the tokens that stand and that it does not know of."""
        draft, job, drafter = ask.draft, ask.served.job, self._drafter
        if not draft.untold:
            prompt, most = job.plan.prompt, job.plan.most
            told = max(0, prompt - draft.begins)
            drafter.begin(job.session, max_tokens=prompt + most, prompt=told, sampling=job.terms.sampling)
        drafter.extend(job.session, draft.tokens[draft.untold : ask.stand])
        draft.untold = ask.stand

    def _found(self, ask: Ask, found: Sequence[int]) -> None:
        """Guesses for an ask: launched, where they still follow from what is known by now."""
        served, draft = ask.served, ask.draft
        if self._drafts.get(served.job.session) is not draft or served.job.ended:
            return
        draft.asks = False
        guessing = draft.guessing
        valid: list[int] = []
        with self._guarded(draft):
            valid = self._valid(found, ask.ask.wanted)
        came = max(0, guessing.certain - ask.begin)  # tokens that came meanwhile where guesses were to stand
        if draft.version != ask.version or tuple(valid[:came]) != draft.ids(ask.begin, came):
            self._launch(served, draft)
            return
        guesses = valid[came:]
        draft.dry = not guesses
        if guesses or guessing.must_launch:
            self._put(served, draft, guesses)

    def _valid(self, found: Sequence[int], wanted: int) -> list[int]:
        valid = [*found[:wanted]]
        for at, token in enumerate(valid):
            if not 0 <= token < self._vocabulary:
                return valid[:at]
        return valid

    def _put(self, served: Served, draft: Draft, guesses: Sequence[int]) -> None:
        job, guessing = served.job, draft.guessing
        launch = guessing.launch(guesses)
        job.launch(launch, draft.ids(launch.position, launch.given), guessing.certain, now_us=loop_us())
        clear = job.ready_rows >= launch.length
        first = guessing.under_way == 1
        sent = Sent(launch.position + launch.length, launch.length, loop_s(), clear, first)
        draft.sent.append(sent)
        draft.in_pass = sent
        self._compute.poke(job)

    # The worker

    async def run(self) -> None:
        """Ask the drafter whenever sessions want guesses, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._worker is None:
                continue
            over, self._over = self._over, []
            asks, self._asked = [*self._asked.values()], {}
            began = loop_s()
            found = await self._worker.run(lambda: self._work(over, asks))  # noqa: B023 - awaited here
            for ask, guesses in zip(asks, found, strict=True):
                self._came(ask, guesses, loop_s() - began)

    def _came(self, ask: Ask, guesses: tuple[int, ...] | Exception, took_s: float) -> None:
        if isinstance(guesses, Exception):
            _give_up(ask.draft, guesses)
            guesses = ()
        if guesses:
            with self._guarded(ask.draft):
                ask.draft.pacer.guesses.note(len(guesses), took_s)
        try:
            self._found(ask, guesses)
        except PeerError:
            return  # of a session that has moved on: it will ask again
        except Exception as error:  # noqa: BLE001 - whatever it is, it is of one session
            self._failed(ask.served, error)

    def _work(self, over: Sequence[bytes], asks: Sequence[Ask]) -> list[tuple[int, ...] | Exception]:
        """In the worker: guesses for each ask, or what failed over it."""
        for session in over:
            try:
                self._drafter.end(session)
            except Exception:  # noqa: BLE001 - a drafter may fail in any way
                _log.exception("a drafter has failed at the end of a session")
        told = [self._told(ask) for ask in asks]
        guesses = iter(self._proposed([ask.ask for ask, error in zip(asks, told, strict=True) if error is None]))
        return [next(guesses) if error is None else error for error in told]

    def _told(self, ask: Ask) -> Exception | None:
        try:
            self._tell(ask)
        except Exception as error:  # noqa: BLE001 - as above
            return error
        return None

    def _proposed(self, asks: Sequence[DraftAsk]) -> list[tuple[int, ...] | Exception]:
        """Of all together; where that fails, of each alone."""
        try:
            return [*self._drafter.propose(asks)] if asks else []
        except Exception as error:  # noqa: BLE001 - as above
            return [error] if len(asks) == 1 else [each for ask in asks for each in self._proposed([ask])]


def _give_up(draft: Draft, error: Exception) -> None:
    if not draft.given_up:
        draft.given_up = True
        _log.error("nothing is guessed in a session any more, whose answer goes on: its drafter failed", exc_info=error)
