"""Faults of this program: each ends what it is of, guesses, a session or a link, never the node or other sessions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import pytest
from drafted_ring import drafting, expected_tokens, following
from oracle_drafter import OracleDrafter
from small_market import SlowWorker, SmallMarket, SmallNode

from node.pipeline.serving.compute import FAULTY_PASSES
from node.pipeline.serving.leg import LegJob
from node.pipeline.serving.onward import MOST_DRAFTS, Onward
from node.ports import DraftAsk, StepInput, StepOutput
from protocol.drafting.speculation import Pacer
from protocol.encoding.codec import encode
from protocol.models.activations import ActivationType
from protocol.session.frames import MAX_ITEMS, StepItem

pytestmark = pytest.mark.asyncio

PROMPT = (3, 1, 4, 1, 5)


async def require_alive(market: SmallMarket) -> None:
    """Nothing that a node's tasks failed with has come to whoever watches them."""
    for node in market.nodes:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await node.tasks.watch()


def logged(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


class Faulty(OracleDrafter):
    """Fails in one of its calls, from a certain one on; for sessions that begin with a certain token alone, if said."""

    def __init__(self, call: str, *, after: int = 3, token: int | None = None, instant: bool = True) -> None:
        super().__init__(following, 0.8, instant=instant)
        self.call, self.after, self.token = call, after, token

    def _fail(self, call: str, session: bytes) -> None:
        if call != self.call or (self.token is not None and self.sequences.get(session, [None])[:1] != [self.token]):
            return
        self.after -= 1
        if self.after < 0:
            raise ZeroDivisionError("a fault")

    def begin(self, session: bytes, **rest) -> None:
        super().begin(session, **rest)
        self._fail("begin", session)

    def extend(self, session: bytes, tokens: Sequence[int]) -> None:
        super().extend(session, tokens)
        self._fail("extend", session)

    def propose(self, asks: Sequence[DraftAsk]) -> list[tuple[int, ...]]:
        for ask in asks:
            self._fail("propose", ask.session)
        found = super().propose(asks)
        return [("nonsense",)] * len(asks) if self.call == "nonsense" else found  # type: ignore[list-item]

    def end(self, session: bytes) -> None:
        super().end(session)
        self._fail("end", session)


@pytest.mark.parametrize("instant", [True, False])
@pytest.mark.parametrize(
    ("call", "after"), [("begin", 0), ("extend", 3), ("propose", 0), ("propose", 3), ("nonsense", 0), ("end", 0)]
)
async def test_a_drafter_that_fails_ends_the_guesses_and_not_the_answer(tmp_path, caplog, call, after, instant) -> None:
    async with drafting(SmallMarket(tmp_path), Faulty(call, after=after, instant=instant)) as market:
        came, result = await market.run(market.deal(PROMPT, 40, window=5, chunk=4))
        await asyncio.sleep(3)
        assert (result.error, came) == (None, expected_tokens(PROMPT, 40))
        assert result.tab.complete
        assert len(logged(caplog)) == 1
        assert "drafter" in logged(caplog)[0]
        await require_alive(market)
        assert (await market.run(market.deal(PROMPT, 12)))[0] == expected_tokens(PROMPT, 12)


@pytest.mark.parametrize("call", ["extend", "propose"])
async def test_sessions_beside_one_that_a_drafter_fails_over_guess_on(tmp_path, caplog, call) -> None:
    drafter = Faulty(call, after=0, token=2, instant=False)
    async with drafting(SmallMarket(tmp_path), drafter) as market:
        prompts = [(each, 7, each) for each in (1, 2, 3, 4)]
        found = await asyncio.gather(*(market.run(market.deal(each, 30)) for each in prompts))
        for prompt, (came, result) in zip(prompts, found, strict=True):
            assert (result.error, came) == (None, expected_tokens(prompt, 30))
        windows = [result.tab.book.windows[-1].receipts[0].signed.receipt for _, result in found]
        assert [each.rows > 32 for each in windows] == [True, False, True, True]  # what was guessed in vain counts
        assert len(logged(caplog)) == 1
        await require_alive(market)


@pytest.mark.parametrize("part", ["next_pace", "came", "learned"])
async def test_a_choice_of_guesses_that_fails_ends_the_guesses_alone(tmp_path, caplog, monkeypatch, part) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr(Pacer, part, fail)
    async with drafting(SmallMarket(tmp_path), OracleDrafter(following, 0.9)) as market:
        came, result = await market.run(market.deal(PROMPT, 30, window=5))
        assert (result.error, came) == (None, expected_tokens(PROMPT, 30))
        await asyncio.sleep(3)
        assert len(logged(caplog)) == 1
        await require_alive(market)


# The engine


class Fragile:
    """An engine that fails as a whole over the rows of some sessions."""

    def __init__(self, node: SmallNode, token: int) -> None:
        self.engine, self.token = node.engine, token
        self.forward_well, node.engine.forward = node.engine.forward, self.forward  # type: ignore[method-assign]
        self.over: set[bytes] = set()

    def forward(self, items: Sequence[StepInput]) -> list[StepOutput | Exception]:
        self.over |= {item.session for item in items if not item.position and item.data[0] == self.token}
        if any(item.session in self.over for item in items):
            raise RuntimeError("an operator has no such kernel")
        return self.forward_well(items)


async def test_an_engine_that_fails_over_one_session_fails_no_other(tmp_path, caplog) -> None:
    async with SmallMarket(tmp_path) as market:
        Fragile(market.nodes[0], 2)
        prompts = [(each, 7, each) for each in (1, 2, 3)]
        found = await asyncio.gather(*(market.run(market.deal(each, 20)) for each in prompts))
        assert [result.error is None for _, result in found] == [True, False, True]
        assert found[1][1].error.code == "internal"
        for prompt, (came, _) in zip(prompts[::2], found[::2], strict=True):
            assert came == expected_tokens(prompt, 20)
        assert len(logged(caplog)) == 1
        await require_alive(market)
        assert market.nodes[0].engine.sessions == 2  # kept warm; what failed is gone


async def test_an_engine_of_which_nothing_comes_any_more_ends_its_node(tmp_path) -> None:
    async with SmallMarket(tmp_path) as market:
        Fragile(market.nodes[0], 2)
        for _ in range(FAULTY_PASSES - 1):
            await market.run(market.deal((2, 7), 10))
        await require_alive(market)
        await market.run(market.deal((1, 7), 4))  # one that goes well in between
        for _ in range(FAULTY_PASSES - 1):
            await market.run(market.deal((2, 7), 10))
        await require_alive(market)
        await market.run(market.deal((2, 7), 10))
        with pytest.raises(BaseExceptionGroup, match="TaskGroup"):
            await market.nodes[0].tasks.watch()


# A job, a link, a dial


@pytest.mark.parametrize("part", ["arrive", "next_receipt", "next_piece", "complete", "ready_rows", "check_voucher"])
@pytest.mark.parametrize("leg", [0, 1, 2])
async def test_a_fault_over_one_session_ends_no_other(tmp_path, caplog, monkeypatch, part, leg) -> None:
    well = getattr(LegJob, part)

    def fails(job: LegJob, *rest: object, **named: object) -> object:
        if job.plan.most == 21 and job.leg == leg and job.processed > 6:
            raise ZeroDivisionError("a fault")
        return well.fget(job) if isinstance(well, property) else well(job, *rest, **named)

    monkeypatch.setattr(LegJob, part, property(fails) if isinstance(well, property) else fails)
    async with SmallMarket(tmp_path) as market:
        (came, result), (_, failed) = await asyncio.gather(
            market.run(market.deal(PROMPT, 20)), market.run(market.deal(PROMPT, 21))
        )
        assert (result.error, came) == (None, expected_tokens(PROMPT, 20))
        assert failed.error is not None
        assert "a session has ended by a fault of this program" in logged(caplog)
        await asyncio.sleep(3)
        await require_alive(market)
        assert [node.provider.active for node in market.nodes] == [0, 0, 0]


@pytest.mark.parametrize("looks", ["by itself", "for an offer"])
async def test_a_job_of_which_nobody_can_say_what_it_waits_for_ends_alone(tmp_path, caplog, monkeypatch, looks) -> None:
    well = LegJob.waits_for

    def fails(job: LegJob) -> object:
        if job.plan.most == 21 and job.leg == 1 and job.processed > 6:
            raise ZeroDivisionError("a fault")
        return well.fget(job)  # type: ignore[attr-defined]

    monkeypatch.setattr(LegJob, "waits_for", property(fails))
    market = SmallMarket(tmp_path)
    for node in market.nodes:
        node.compute = SlowWorker(0.05)
    async with market:
        both = asyncio.gather(market.run(market.deal(PROMPT, 20)), market.run(market.deal(PROMPT, 21)))
        while looks == "for an offer" and not both.done():
            assert market.nodes[1].provider.free <= 32
            await asyncio.sleep(0.01)
        (came, result), (_, failed) = await both
        assert (result.error, came) == (None, expected_tokens(PROMPT, 20))
        assert failed.error is not None
        assert logged(caplog) == ["a session has ended by a fault of this program"]
        await require_alive(market)


async def test_an_address_that_nobody_can_dial_ends_one_order(tmp_path, caplog) -> None:
    async with SmallMarket(tmp_path) as market:

        def fails(*_: object) -> None:
            raise UnicodeError("label too long")

        market.nodes[0].provider._neighbours._connect = fails  # type: ignore[assignment]
        _, result = await market.run(market.deal(PROMPT, 6))
        assert result.error is not None
        await require_alive(market)
        assert len(logged(caplog)) >= 1


async def test_what_a_pass_sends_fits_its_frames() -> None:
    def item(drafts: int) -> StepItem:
        return StepItem(
            session=bytes(32), position=1 << 20, length=1, certain=1, route=8, flight=1, drafts=bytes(drafts)
        )

    for count, drafts in ((3 * MAX_ITEMS, 0), (MAX_ITEMS, 4096), (1, 4096), (MAX_ITEMS, MOST_DRAFTS // MAX_ITEMS)):
        onward = Onward()
        onward.rows[None, ActivationType.FP32] = [(item(drafts), b"%8d" % each) for each in range(count)]  # type: ignore[index]
        frames = [(frame, payload) for _, frame, payload in onward.frames()]
        assert all(len(encode(frame)) <= 48 * 1024 + 4096 for frame, _ in frames)
        assert b"".join(payload for _, payload in frames) == b"".join(b"%8d" % each for each in range(count))
        assert len(frames) == max(count // MAX_ITEMS, -(-count * drafts // MOST_DRAFTS), 1)
