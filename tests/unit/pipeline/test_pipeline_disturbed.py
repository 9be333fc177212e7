"""Hundreds of random jobs among which nodes die, hang and come back: the tokens, the money and the rest hold.

JOULE_DISTURBED_JOBS says how many; each is named by the number that all of it was drawn from.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import pytest
from disturbed_market import DisturbedMarket, Outcome, Trouble, answer, draft, random_spans
from small_market import BLOCKS

from node.app.buying.continuing import Earlier
from node.pipeline.serving import windows
from protocol.identity.eip712 import Domain, sign_typed
from protocol.identity.signing import SigningKey
from protocol.session.messages import Receipt
from protocol.session.receipt import NO_HASH

JOBS = int(os.environ.get("JOULE_DISTURBED_JOBS", "18"))
PROMPT = tuple(range(1, 14))
Spans = tuple[tuple[int, int], ...]

pytestmark = pytest.mark.asyncio


def random_spares(chance: Random, spans: Spans) -> Spans:
    """Up to four: of all blocks, of one leg's, of a part."""
    found = []
    for _ in range(chance.randint(0, 4)):
        start = chance.randrange(BLOCKS)
        part = (start, chance.randint(start + 1, BLOCKS))
        found.append(chance.choice(((0, BLOCKS), (0, BLOCKS), chance.choice(spans), part)))
    return tuple(found)


def random_troubles(chance: Random, route: int, nodes: int, most: int) -> list[Trouble]:
    """Up to three nodes that fail, and what else may happen."""
    found = []
    hurt = chance.sample(range(nodes), min(nodes, chance.randint(0, 3)))
    for node in hurt:
        kind = chance.choice(("kill", "kill", "kill", "mute", "mute", "stick", "cut", "apart", "full", "no place"))
        tokens = chance.choice((0, 0, chance.randint(0, most), chance.randint(0, most)))
        frames = chance.choice((0, 0, chance.randint(0, 12), chance.randint(0, 60)))
        other = chance.randrange(nodes)
        found.append(Trouble(kind=kind, node=node, other=other, tokens=tokens, frames=frames))
        back = {"kill": "revive", "mute": "unmute", "stick": "unstick"}.get(kind)
        if back is not None and chance.random() < 0.3:
            found.append(Trouble(kind=back, node=node, tokens=tokens, frames=chance.randint(1, 40)))
    if chance.random() < 0.12:
        kind = chance.choice(("die", "leave"))
        frames = chance.choice((0, chance.randint(0, 60)))
        found.append(Trouble(kind=kind, tokens=chance.randint(0, most - 1), frames=frames))
    return sorted(found, key=lambda each: each.tokens)


@pytest.fixture(autouse=True)
def honest(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever happens to it, no leg signs two receipts that would convict it: its stake is never in danger."""
    signed: dict[tuple[bytes, int, bytes], Receipt] = {}
    lies: list[Receipt] = []

    def watched(domain: Domain, receipt: Receipt, key: SigningKey) -> bytes:
        if receipt.nonce != NO_HASH:
            before = signed.setdefault((receipt.session, receipt.leg, receipt.nonce), receipt)
            lies.extend([before, receipt] if before != receipt else [])
        return sign_typed(domain, receipt, key)

    monkeypatch.setattr(windows, "sign_typed", watched)
    yield
    assert lies == []


def plan_of(chance: Random) -> dict[str, int]:
    return {
        "window": chance.randint(1, 6),
        "chunk": chance.randint(1, 8),
        "ahead": chance.randint(1, 4),
        "temperature_milli": chance.choice((0, 700)),
    }


def check_tokens(outcome: Outcome, prompt: Sequence[int], most: int) -> None:
    whole = answer(tuple(prompt), most)
    assert outcome.tokens == whole[: len(outcome.tokens)]
    if not outcome.left and outcome.result.error is None:
        assert outcome.tokens == whole


@pytest.mark.parametrize("number", range(JOBS))
async def test_a_disturbed_job(tmp_path: Path, number: int) -> None:
    """And another that goes on from it, however it ended."""
    chance = Random(number)
    spans = random_spans(chance)
    spares = random_spares(chance, spans)
    prompt, most = PROMPT[: chance.randint(1, 13)], chance.randint(1, 30)
    market = DisturbedMarket(tmp_path, chance, spans=spans, spares=spares)
    draft(market, chance)
    async with market:
        troubles = random_troubles(chance, len(spans), len(spans) + len(spares), most)
        outcome = await market.disturbed(market.deal(prompt, most, **plan_of(chance)), troubles)
        result = outcome.result
        check_tokens(outcome, prompt, most)
        if can_be_healed(troubles, spans, spares) and not outcome.left:
            assert result.error is None or result.tab.ended, (result.error, result.failures, spans, spares, troubles)
        market.check_bundle(outcome)
        for each in range(len(market.nodes)):
            await market.mend(each)
        earlier = Earlier.of(result)
        if earlier is not None:
            known = earlier.tokens[: chance.choice((len(earlier.tokens), chance.randint(1, len(earlier.tokens))))]
            prompt, most = (*known, *PROMPT[: chance.randint(1, 5)]), chance.randint(1, 12)
            goes_on = market.deal(prompt, most, **plan_of(chance), earlier=earlier)
            troubles = random_troubles(chance, len(spans), len(spans) + len(spares), most)
            again = await market.disturbed(goes_on, troubles)
            check_tokens(again, prompt, most)
            market.check_bundle(again)
        await market.calm()
        market.check_zero()
        market.check_money()


def can_be_healed(troubles: list[Trouble], spans: Spans, spares: Spans) -> bool:
    """Whether there is for each failure after the first token a spare of all blocks that nothing happened to."""
    hurt = {each.node for each in troubles} | {each.other for each in troubles if each.kind in ("cut", "apart")}
    whole = sum(span == (0, BLOCKS) and number not in hurt for number, span in enumerate(spares, len(spans)))
    return bool(spares) and min((each.tokens for each in troubles), default=1) > 0 and whole >= len(troubles)
