"""Guessing ahead at the first leg: what each session's tokens may be, and when it pays to send rows of them on.

Nothing here can change an answer: guesses that turn out wrong are taken back, and the last leg draws as it would
without them. `protocol.drafting.drafts` counts what is under way, `protocol.drafting.speculation` chooses how much of
it there should be. All fields belong to the event loop; a drafter that takes its time runs in a worker, for all
sessions that ask at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from node.pipeline.loop_clock import loop_s, loop_us
from node.pipeline.serving.compute import ComputeLoop
from node.pipeline.serving.leg import LegJob
from node.pipeline.serving.places import Places, Served
from node.ports import GREEDY, DraftAsk, Drafter, Worker
from protocol.drafting.drafts import Guessing
from protocol.drafting.speculation import NONE, Pace, Pacer, Prior
from protocol.errors import PeerError
from protocol.session.metering import last_position
from protocol.session.terms import SamplingTerms

__all__ = ["Drafting"]

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


class _Sent(NamedTuple):
    """One launch that is not back."""

    end: int
    """One past the position of its last row."""
    rows: int
    at_s: float
    clear: bool
    """Whether it could run at once: what has waited for a payment says nothing about the ring."""


@dataclass(slots=True)
class _Ask:
    """For guesses, made in the worker."""

    served: Served
    draft: _Draft
    version: int
    """Of the draft when it asked."""
    begin: int
    """Position of the first guess."""
    stand: int
    """So many of the draft's tokens stood."""
    ask: DraftAsk


@dataclass(slots=True)
class _Draft:
    """One session in which this node guesses ahead."""

    guessing: Guessing
    pacer: Pacer
    tokens: list[int] = field(default_factory=list)
    """All that stand, from `begins` on."""
    begins: int = 0
    """Position of the first of them."""
    untold: int = 0
    """The drafter knows of so many of them."""
    known: tuple[int, tuple[int, ...]] = (0, ())
    """After a reroute: tokens that stand, and the position of the first, until those before them are there."""
    pace: Pace = NONE
    paced: bool = False
    """Whether `pace` was chosen for what is launched next."""
    dry: bool = False
    """The drafter has nothing to say about how this goes on."""
    version: int = 0
    """Changes when guesses are refuted."""
    asks: bool = False
    right: int = 0
    """Guesses in a row that were right."""
    silent: deque[int] = field(default_factory=deque)
    """Guesses that are not sent: what they would be worth, while it does not pay to send any."""
    sent: deque[_Sent] = field(default_factory=deque)
    in_pass: _Sent | None = None
    """The launch that is in this leg's own blocks, or waits for them."""

    def ids(self, position: int, count: int) -> tuple[int, ...]:
        at = position - self.begins
        return tuple(self.tokens[at : at + count])


class Drafting:
    """Guesses ahead in the sessions whose first leg this node is.

    Args:
        drafter: None where this node does not guess.
        worker: the one that the drafter belongs to, where it is not instant.
        vocabulary: token ids are below this.
    """

    def __init__(
        self, drafter: Drafter | None, worker: Worker | None, compute: ComputeLoop, places: Places, vocabulary: int
    ) -> None:
        self._guesses = drafter is not None
        self._drafter: Drafter = _Silent() if drafter is None else drafter
        self._worker = worker
        self._compute = compute
        self._places = places
        self._vocabulary = vocabulary
        self._drafts: dict[bytes, _Draft] = {}
        self._prior = Prior()
        self._asked: dict[bytes, _Ask] = {}
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
        self._drafts[job.session] = _Draft(Guessing(most.depth, most.flights), pacer)

    def forget_ended(self) -> None:
        """Free what sessions held that are over."""
        for session in [each for each in self._drafts if self._places.get(each) is None]:
            self.end(session)

    def _end(self, session: bytes) -> None:
        draft = self._drafts.pop(session, None)
        if draft is None:
            return
        self._prior = draft.pacer.learned()
        if not draft.untold and not draft.asks:
            return
        if self._drafter.instant:
            self._drafter.end(session)
        else:
            self._over.append(session)
            self._wake.set()

    def end(self, session: bytes) -> None:
        """A session is over."""
        self._asked.pop(session, None)
        self._end(session)

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

    def _give_known(self, draft: _Draft) -> None:
        at, known = draft.known
        if known and at == draft.begins + len(draft.tokens):
            draft.known = (0, ())
            self._stand(draft, at, known)

    def _stand(self, draft: _Draft, position: int, ids: Sequence[int]) -> None:
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
                draft.pacer.passes.note(draft.in_pass.rows, loop_s() - draft.in_pass.at_s)
            draft.in_pass = None
        self._launch(served, draft)

    def _note(self, draft: _Draft, position: int, refuted: bool, guessed: bool) -> None:
        """What became of a guess, and how long the launch took that brought this token."""
        self._note_worth(draft, refuted, guessed)
        while draft.sent and draft.sent[0].end < position:
            draft.sent.popleft()
        if draft.sent and (refuted or draft.sent[0].end == position):
            back = draft.sent.popleft()
            if back.clear:
                draft.pacer.trips.note(back.rows, loop_s() - back.at_s)
        if refuted:
            draft.sent.clear()

    def _note_worth(self, draft: _Draft, refuted: bool, guessed: bool) -> None:
        if draft.silent and not guessed:
            guessed, refuted = True, draft.silent.popleft() != draft.tokens[-1]
        if guessed:
            draft.pacer.worth.note(draft.right, not refuted)
        if refuted or not guessed:
            draft.silent.clear()
        draft.right = draft.right + 1 if guessed and not refuted else 0

    # Launches

    def _launch(self, served: Served, draft: _Draft) -> None:
        job, guessing = served.job, draft.guessing
        if draft.asks or job.ended or not (guessing.must_launch or (guessing.under_way and job.idle)):
            return
        if guessing.must_launch and not draft.paced:
            draft.paced = True
            draft.pace = draft.pacer.next_pace(sharing=len(self._drafts))
        begin = max(guessing.launched, guessing.certain)
        wanted = 0 if draft.dry else min(guessing.room(*draft.pace), last_position(job.plan) - begin)
        if wanted > 0:
            self._ask(served, draft, begin, wanted)
        elif guessing.must_launch:
            self._put(served, draft, ())
            self._guess_silently(served, draft)

    def _guess_silently(self, served: Served, draft: _Draft) -> None:
        """What costs next to nothing is guessed all the same, and compared with what comes."""
        if self._drafter.instant and not draft.silent:
            ask = DraftAsk(served.job.session, (), SILENT)
            self._tell(_Ask(served, draft, draft.version, draft.guessing.certain, len(draft.tokens), ask))
            draft.silent.extend(self._drafter.propose([ask])[0])

    def _ask(self, served: Served, draft: _Draft, begin: int, wanted: int) -> None:
        session = served.job.session
        wants = DraftAsk(session, draft.guessing.guesses, wanted)
        ask = _Ask(served, draft, draft.version, begin, len(draft.tokens), wants)
        if self._drafter.instant:
            began = loop_s()
            self._tell(ask)
            found = self._drafter.propose([ask.ask])[0]
            draft.pacer.guesses.note(max(1, len(found)), loop_s() - began)
            self._found(ask, found)
        else:
            draft.asks = True
            self._asked[session] = ask
            self._wake.set()

    def _tell(self, ask: _Ask) -> None:
        """The drafter of the tokens that stand and that it does not know of."""
        draft, job, drafter = ask.draft, ask.served.job, self._drafter
        if not draft.untold:
            prompt, most = job.plan.prompt, job.plan.most
            told = max(0, prompt - draft.begins)
            drafter.begin(job.session, max_tokens=prompt + most, prompt=told, sampling=job.terms.sampling)
        drafter.extend(job.session, draft.tokens[draft.untold : ask.stand])
        draft.untold = ask.stand

    def _found(self, ask: _Ask, found: Sequence[int]) -> None:
        """Guesses for an ask: launched, where they still follow from what is known by now."""
        served, draft = ask.served, ask.draft
        if self._drafts.get(served.job.session) is not draft or served.job.ended:
            return
        draft.asks = False
        guessing = draft.guessing
        valid = [*found[: ask.ask.wanted]]
        for at, token in enumerate(valid):
            if not 0 <= token < self._vocabulary:
                del valid[at:]
                break
        came = max(0, guessing.certain - ask.begin)  # tokens that came meanwhile where guesses were to stand
        if draft.version != ask.version or tuple(valid[:came]) != draft.ids(ask.begin, came):
            self._launch(served, draft)
            return
        guesses = valid[came:]
        draft.dry = not guesses
        if guesses or guessing.must_launch:
            self._put(served, draft, guesses)

    def _put(self, served: Served, draft: _Draft, guesses: Sequence[int]) -> None:
        job, guessing = served.job, draft.guessing
        launch = guessing.launch(guesses)
        job.launch(launch, draft.ids(launch.position, launch.given), guessing.certain, now_us=loop_us())
        clear = job.ready_rows >= launch.length
        sent = _Sent(launch.position + launch.length, launch.length, loop_s(), clear)
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
                if guesses:
                    ask.draft.pacer.guesses.note(len(guesses), loop_s() - began)
                with contextlib.suppress(PeerError):  # of a session that has moved on: it will ask again
                    self._found(ask, guesses)

    def _work(self, over: Sequence[bytes], asks: Sequence[_Ask]) -> list[tuple[int, ...]]:
        for session in over:
            self._drafter.end(session)
        for ask in asks:
            self._tell(ask)
        return self._drafter.propose([ask.ask for ask in asks]) if asks else []
