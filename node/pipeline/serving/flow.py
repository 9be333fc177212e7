"""The rows of one session on their way through one leg: what has arrived, what may run next, and what stands.

Rows are computed as they come. Those of drafted tokens stand once they are certain; until then they may be taken back
(docs/spec/session.md, clause H9). Only what stands goes into windows, and into the trail that a replay is made from.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from node.pipeline.serving.catching_up import Fed
from node.pipeline.serving.looking_back import LookingBack
from node.pipeline.serving.rows import Arrived, Known, Onward, Share, Waiting
from node.pipeline.serving.saying import Saying
from node.pipeline.serving.trail import MOST_OF_SESSION, REPLAY_BYTES, Trail
from node.pipeline.serving.windows import Passed, Windows
from node.ports import StepInput, StepOutput
from protocol.drafting.drafts import ID_BYTES, Verifying
from protocol.errors import MalformedError, RefusedError
from protocol.models.activations import ActivationType, to_wire
from protocol.session.frames import ANEW, Joining
from protocol.session.metering import last_position, served, window_end
from protocol.session.receipt import token_bytes
from protocol.session.terms import Plan, Speculation

__all__ = ["Ends", "Flow", "ShowIds"]

NOTHING_KNOWN = Known()
ShowIds = Callable[[Arrived], tuple[int, ...]]
"""The ids of the tokens of those rows that are not certain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """Which ends of the model this leg has."""

    first: bool
    """Token ids, not rows, enter."""
    last: bool
    """Tokens, not rows, leave."""


class Flow:
    """See above. It is told how far the rows are paid, and where the sequence is taken up.

    Args:
        windows: take the rows that stand.
        trail: keeps what is sent on.
        speculation: what the terms allow.
        show_ids: unmasks what the last leg verifies.
        stop_tokens: ids that end the answer.
        looking_back: what draws depend on besides the rows.
        logprobs: how many of the likeliest tokens are named beside each that is drawn; None for nothing of that.
    """

    def __init__(
        self,
        plan: Plan,
        session: bytes,
        windows: Windows,
        trail: Trail,
        ends: Ends,
        *,
        activations: ActivationType,
        speculation: Speculation,
        show_ids: ShowIds,
        stop_tokens: Sequence[int],
        looking_back: LookingBack,
        logprobs: int | None = None,
    ) -> None:
        self.ends = ends
        self.kv = Share()
        self.joining = ANEW
        self.fed_until = plan.prompt
        """See `LegJob`."""
        self.running = False
        """True while a piece of this session is in the engine."""
        self.ended = False
        """True once no further position can come: a stop token, the last allowed one, or the client's word."""
        self.processed = 0
        """Positions of the session that stand, and that this leg is paid for."""
        self.computed = 0
        """Positions that the KV holds."""
        self.fed: Fed | None = None
        """What it is fed again, where that is to be shown."""
        self._plan = plan
        self._last = last_position(plan)
        self._session = session
        self._windows = windows
        self._trail = trail
        self._activations = activations
        self._depth = speculation.depth
        self._verifies = bool(self._depth) and ends.last
        self._tentative_most = speculation.depth * speculation.flights
        """Rows that are not certain, at most."""
        self._show_ids = show_ids
        self._verifying = Verifying()
        self._stop_tokens = frozenset(stop_tokens)
        self._looking_back = looking_back
        self._saying = Saying(plan, logprobs)
        self._waiting = Waiting()
        self._in_engine: Arrived | None = None
        self._void_from: int | None = None
        """Rows in the engine from this position on were taken back meanwhile."""
        self._certain = 0
        """Rows below are of tokens that stand."""
        self._tentative: deque[Passed] = deque()
        """Computed, and not certain yet, or behind a window that waits for its receipt."""
        self._known = NOTHING_KNOWN

    @property
    def held(self) -> int:
        """Positions in the KV that are of tokens which stand."""
        return 0 if self.kv.gone else min(self.computed, self._certain)

    @property
    def holds(self) -> int:
        """Positions that are in the KV."""
        return 0 if self.kv.gone else self.computed

    def take_over(self, trail: Trail, held: int) -> None:
        """The KV and the trail are those of an earlier session, as far as its first `held` positions."""
        self._trail = trail
        self.computed = self._certain = held

    @property
    def arrived(self) -> int:
        """Positions that have come in."""
        return self._waiting.arrived

    @property
    def idle(self) -> bool:
        """Whether nothing that came is yet to be computed."""
        return not self.running and self._waiting.first is None

    @property
    def catches_up(self) -> bool:
        """Whether it has yet to compute what others hold already."""
        return self.computed < self.joining.base

    def arrive(self, rows: Arrived) -> None:
        """Take in what comes next. Raises MalformedError for another position, or beyond what was ordered."""
        if not len(rows.data):
            raise MalformedError("no rows at all")
        if self._verifies and self._verifying.refuted and rows.position > self.arrived:
            return  # they follow from a draft that was not taken
        if rows.position < self.arrived:
            self._take_back(rows.position)
        if rows.position != self.arrived:
            raise MalformedError(f"position {rows.position} where {self.arrived} is next", code="out-of-order")
        if rows.end > self._last:
            raise MalformedError("rows beyond the ordered number of tokens")
        waits = 0 if self.ends.first else (rows.end - self.computed) * self._trail.row_bytes
        if rows.position < self.joining.base and waits > MOST_OF_SESSION:
            raise MalformedError("more rows to be computed again than are kept for one session")
        self._certain = self._certain_with(rows)
        self._waiting.put(rows)
        if self._verifies:
            self._drop_refuted()
        if self._tentative:
            self.settle()

    def _certain_with(self, rows: Arrived) -> int:
        """Where rows of tokens that stand end, with these.

        Raises MalformedError: more drafts than were agreed, none where one is due, or a lie about what stands.
        """
        drafts, may_stand = rows.end - rows.first_draft, self._may_stand
        if len(rows.drafts) != ID_BYTES * drafts:
            raise MalformedError("not one id for each drafted token")
        ahead = rows.end - max(self._certain, min(rows.certain, rows.end)) if drafts else 0
        if drafts > self._depth or ahead > self._tentative_most:
            raise MalformedError("more drafted tokens than were agreed")
        if rows.first_draft > may_stand and rows.first_draft > rows.position:
            raise MalformedError("a token that was not drawn yet is said to stand")
        return max(self._certain, min(rows.certain, rows.end, may_stand))

    @property
    def _may_stand(self) -> int:
        """Tokens below may stand: whoever draws them knows those that it was given, and the last one that it drew."""
        if not self._verifies:
            return self._last
        return max(self._known_from + len(self._known.tokens), self.computed + 1)

    def _drop_refuted(self) -> None:
        """At the last leg: what begins with another token than the one that was drawn is not worth running."""
        first = self._waiting.first
        if self.running or first is None or first.position != self.computed:
            return
        given = first.first_draft - first.position
        if not self._verifying.admits(first.position, given, self._show_ids(first)):
            self._waiting.cut(first.position)

    def certify(self, position: int) -> None:
        """At the first leg: tokens below stand, though nothing is sent because of it."""
        self._certain = max(self._certain, min(position, self.arrived))
        self.settle()

    def _take_back(self, position: int) -> None:
        """A draft was not taken: forget what follows from it. Raises MalformedError for what stands."""
        if not self._depth or self._verifies or position < self._certain:
            raise MalformedError(f"position {position} where {self.arrived} is next", code="out-of-order")
        self._forget(position)

    def _forget(self, position: int) -> None:
        self._waiting.cut(position)
        self.computed = min(self.computed, position)
        if self.running:
            self._void_from = position if self._void_from is None else min(self._void_from, position)
        while self._tentative and self._tentative[-1].end > position:
            last = self._tentative.pop()
            if last.position < position:
                self._tentative.append(last.part(last.position, position))

    def ready_rows(self, may_process: int) -> int:
        """Rows that can run now, in one piece: those that may, as far as there are pages for them."""
        end, first = self.may_run(may_process), self._waiting.first
        if first is None or end <= first.position:
            return 0
        return max(0, min(end, self.kv.paged) - first.position)

    def may_run(self, may_process: int) -> int:
        """One past the last row that may run now, in one piece: arrived, paid, and without drafts not across a
        window's end; 0 for none.

        Nothing runs while a receipt is held up: so few windows' rows are all that is ever kept.
        """
        first = self._waiting.first
        if self.running or first is None or self._windows.blocked or not self._looking_back.ready:
            return 0
        # Drafts may run ahead of what is paid, by as many as can be under way; the token that they follow may not.
        given_paid = first.certain <= first.position or first.first_draft <= may_process
        drafts_too = given_paid and first.first_draft < first.end
        paid = may_process + self._tentative_most if drafts_too else may_process
        end = first.end if first.end <= paid else paid
        if first.position < self.joining.base:
            end = min(end, self.joining.base)
        elif not self._depth:
            end = min(end, self._windows.end)
        elif first.position < self._plan.prompt:  # a neighbour takes no more rows of a session in one frame
            end = min(end, window_end(self._plan, first.position))
        return end if end > first.position else 0

    def take(self, rows: int) -> StepInput:
        """So many of the rows that may run now, for the engine."""
        self.running = True
        piece = self._in_engine = self._waiting.take(rows)
        draws = self._draws(piece)
        before = self._looking_back.before(piece.end - draws + 1) if draws else None
        return StepInput(
            session=self._session, position=piece.position, length=rows, data=piece.data, draws=draws, before=before
        )

    def _draws(self, piece: Arrived) -> int:
        """Rows of a piece after which this leg draws: those that yield a token which nobody knows yet."""
        if not self.ends.last:
            return 0
        known = self._known_from + len(self._known.tokens)
        return max(0, piece.end - max(piece.position, self._plan.prompt - 1, known - 1))

    @property
    def _known_from(self) -> int:
        """Position of the first of the tokens that stand; what is before, the client sends as a prompt."""
        return max(self.joining.base, self._plan.prompt)

    def complete(self, piece: StepInput, output: StepOutput, *, now_us: int) -> Onward | None:
        """Book what a forward pass did; what is to be sent, None where it was all taken back meanwhile."""
        arrived, void, self._in_engine, self._void_from = self._in_engine, self._void_from, None, None
        self.running = False
        end = piece.position + piece.length if void is None else min(void, piece.position + piece.length)
        if arrived is None or end <= piece.position:
            return None
        if self._verifies:
            end = min(end, self._verified(arrived, output))
        entered = token_bytes(piece.data) if self.ends.first else to_wire(self._activations, piece.data)  # type: ignore[arg-type]
        raw = to_wire(self._activations, output.hidden)
        last, tokens, said = piece.position + piece.length, output.tokens, output.said
        count = max(0, len(tokens) - (last - end))
        drawn, its_said = tokens[:count], said[:count]
        if self.ends.last:
            self._note_drawn(last - len(tokens) + 1, drawn, its_said, end)
            known = piece.position + 1 - self._known_from  # of the tokens that a reroute has brought
            stand = slice(max(0, known), max(0, known + piece.length))
            tokens, said = (*self._known.tokens[stand], *tokens), (*self._known.said[stand], *said)
        took_us = now_us - arrived.at_us
        passed = Passed(piece.position, last, entered, raw, tokens, took_us, said).part(piece.position, end)
        self.computed = end
        self._tentative.append(passed)
        if self._verifies:
            self._drop_refuted()
        self.settle()
        return self._onward(arrived, passed, drawn, its_said)

    def _note_drawn(self, first: int, drawn: tuple[int, ...], said: tuple[bytes, ...], end: int) -> None:
        """At the last leg: these tokens stand from a position on, and may end the answer."""
        self._looking_back.drawn(first, drawn)
        self._saying.drawn(first, said)
        if not self._stop_tokens.isdisjoint(drawn) or served(self._plan, end)[1] == self._plan.most:
            self.end()

    def _verified(self, arrived: Arrived, output: StepOutput) -> int:
        """One past the last row that stands, at the last leg: it follows from the tokens drawn, and none ends them."""
        given = arrived.first_draft - arrived.position
        end = arrived.position + self._verifying.judge(given, self._show_ids(arrived), output.tokens)
        first = arrived.end - len(output.tokens)  # the first row that a token was drawn after
        ends = (at for at, token in enumerate(output.tokens, first + 1) if token in self._stop_tokens)
        end = min(end, next(ends, end))
        if end < arrived.end:
            self._waiting.cut(end)
        self._certain = max(self._certain, end)
        return end

    def _onward(self, arrived: Arrived, passed: Passed, drawn: tuple[int, ...], said: tuple[bytes, ...]) -> Onward:
        end, at = passed.end, max(passed.position, self.joining.onward)
        if self.ends.last or at >= end:
            return Onward(end, b"", 0, end, 0, b"", drawn, said)
        part, came = passed.part(at, end), arrived.part(at, end)
        certain = min(max(came.certain, self._certain), came.first_draft)
        return Onward(at, part.sent, end - at, certain, came.flight if came.drafts else 0, came.drafts, ())

    def settle(self) -> None:
        """What is certain, and not behind a receipt that waits, stands from now on."""
        base = self.joining.base
        while self._tentative and not self._windows.blocked:
            first = self._tentative.popleft()
            bound, came = base if first.position < base else self._windows.end, first.end
            end = min(came, self._certain, bound)
            if end < came:
                self._tentative.appendleft(first.part(max(end, first.position), came))
            if end <= first.position:
                return
            self._book(first.part(first.position, end))

    def _book(self, passed: Passed) -> None:
        if not self.ends.last:
            self._trail.append(passed.position, passed.sent)
        end = passed.end
        if end <= self.joining.base:
            if self.fed is not None:
                self.fed.add(passed)
            return
        self._windows.add(passed, generated=max(0, end - max(passed.position, self._plan.prompt - 1)))
        self.processed = end

    def end(self) -> None:
        """Nothing more is wanted: what waits is dropped, drafts that go on from the last token too."""
        self.ended = True
        self._waiting.clear()

    def wind_up(self, seen: int) -> None:
        """After the client's last word: rows of drafts stand as far as it has seen tokens of them, `seen` in all."""
        if self._depth:
            self._certain = max(self._certain, min(self.computed, self._plan.prompt - 1 + seen))
            self._forget(max(self._certain, self.processed))
        self.settle()
        if not self._tentative and not self._windows.blocked:
            self._windows.close_open()

    # Taking up a sequence in its middle (clauses H3 to H5)

    def join(self, joining: Joining, ends: Ends, known: Known = NOTHING_KNOWN, *, joins: bool = False) -> None:
        """Go on as it says. Raises PeerError: a leg that was on the route before, and does not join, said another thing
        of these tokens than the client tells.
        """
        self._forget(joining.start)
        self.joining, self.ends, self._known = joining, ends, known
        self.fed_until = max(self._plan.prompt, joining.base)
        if ends.last:
            self._saying.take_up(self._known_from, known, joins=joins)
        self._verifies = bool(self._depth) and ends.last
        self._waiting = Waiting(joining.start)
        self._tentative.clear()
        self.computed = self._certain = joining.start
        self._trail.cut(joining.start)
        self._verifying = Verifying(due=joining.start)
        self.kv.gone = self.kv.aside = False
        self.ended = False

    def known_rows(self, now_us: int) -> Arrived | None:
        """At the first leg, once all before them is there: the rows of the tokens that stand, once."""
        if not self._known.tokens or not self.ends.first or self.arrived != (at := self._known_from):
            return None
        known = self._known.tokens[: self._last - at]
        if not self.ends.last:
            self._known = NOTHING_KNOWN
        return Arrived.of(at, known, at + len(known), 0, b"", now_us) if known else None

    def replay(self) -> Iterator[Onward]:
        """What the next leg needs of what was sent before, in few pieces.

        Raises RefusedError: it is not kept any more.
        """
        joining, most = self.joining, max(1, REPLAY_BYTES // self._trail.row_bytes)
        for at in range(joining.onward, joining.start, most):
            end = min(at + most, joining.start)
            raw = self._trail.rows(at, end)
            if raw is None:
                raise RefusedError("what was sent before is not kept any more", code="no-trail")
            yield Onward(at, raw, end - at, end, 0, b"", ())
