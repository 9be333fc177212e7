"""Several markets as one, and a model on this machine beside them."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from counting_engine import VOCABULARY, CountingEngine
from market_offers import MANIFEST
from scripted_market import MODEL, ScriptedMarket
from tokenizers import Tokenizer, models, pre_tokenizers

from node.app.buying import carrier as carrying
from node.app.buying.begun import Begun
from node.app.buying.carrier import CarriedAnswer, Carrier
from node.app.buying.edge import EdgeAnswers
from node.app.buying.markets import KEPT, keep_markets, kept_markets
from node.app.buying.passes import Passes
from node.app.buying.written import write
from node.app.models.obtaining import Text
from node.config import ClientConfig, GatewayConfig, markets_of
from node.events import MarketAway
from node.gateway import Limits, Turn, Wanted
from node.worker import InlineWorker
from protocol.errors import ConfigurationError, JoulemeshError, LostPeerError, RoutingError, UnreachableError
from protocol.session.terms import SamplingTerms

pytestmark = pytest.mark.asyncio
SMALL = 12
HERE_MODEL = MANIFEST.replace(name="tales")


class World:
    """Two markets, and perhaps a machine that answers itself."""

    def __init__(self, folder: Path, *, edge: bool = False, place: str | None = None, falls_back: bool = True) -> None:
        self.near, self.far = ScriptedMarket(folder, "near", 100), ScriptedMarket(folder, "far", 50)
        self.heard: list[Any] = []
        self.engine = CountingEngine(0, MANIFEST.blocks, MANIFEST.blocks)
        self.edge = edge_of(self.engine, place, falls_back=falls_back) if edge else None
        if edge:
            for market in (self.near, self.far):
                market.offered = dataclasses.replace(MODEL, root=HERE_MODEL.root.hex())
        self.carrier = Carrier((self.near, self.far), self.edge, self.heard.append)

    async def ask(self, text: str = "w1 w2", **more: Any) -> tuple[CarriedAnswer, str]:
        """An answer that is over, and its text."""
        answer = await self.plan(text, **more)
        return answer, await read(answer)

    async def plan(self, text: str = "w1 w2", *, most: int | None = 4, **limits: Any) -> CarriedAnswer:
        wanted = Wanted(model="tales", messages=(Turn("user", text),), most=most, limits=Limits(**limits))
        return await self.carrier.plan(wanted, owner="o")


async def read(answer: CarriedAnswer) -> str:
    """All of its text."""
    try:
        return "".join([piece.text async for piece in answer])
    finally:
        await answer.close()


def edge_of(engine: CountingEngine, place: str | None, *, falls_back: bool) -> EdgeAnswers:
    words = {f"w{number}": number for number in range(VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return EdgeAnswers(
        Passes(engine, InlineWorker()),
        HERE_MODEL,
        Text(tokenizer.to_str().encode()),
        sampling=lambda _: SamplingTerms(temperature_milli=0, seed=0),
        place=place,
        most=128,
        small=SMALL,
        falls_back=falls_back,
    )


def asked(*markets: ScriptedMarket) -> list[int]:
    return [len(market.asked) for market in markets]


# Several markets


async def test_the_cheapest_answers_and_the_others_are_let_go(tmp_path: Path) -> None:
    world = World(tmp_path)
    answer, _ = await world.ask()
    assert (answer.made, answer.reserved_micro) == ("far", 100)
    assert world.near.answers[0].forgone
    assert not world.far.answers[0].forgone
    world.near.price = 10
    assert (await world.ask())[0].made == "near"


async def test_who_does_not_suit_the_policy_does_not_count(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.far.refusal = RoutingError("too dear", code="price")
    assert (await world.ask())[0].made == "near"
    world.near.refusal = RoutingError("nobody", code="no-offers")
    with pytest.raises(RoutingError) as error:
        await world.plan()
    assert error.value.code == "price"  # it says more than that nobody is there
    assert not world.heard


async def test_a_market_that_is_away_is_left_alone_for_a_while(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.far.refusal = UnreachableError("gone")
    assert (await world.ask())[0].made == "near"
    world.far.refusal = None
    assert (await world.ask())[0].made == "near"
    assert asked(world.near, world.far) == [2, 0]
    assert world.heard == [MarketAway(market="far", reason="gone")]
    world.near.refusal = RoutingError("none")
    assert (await world.ask())[0].made == "far"  # before nobody answers


async def test_nobody_waits_long_for_a_price(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrying, "PATIENCE_S", 0.0)
    world = World(tmp_path)
    world.far.gate = asyncio.Event()
    assert (await world.ask())[0].made == "near"
    assert [each.market for each in world.heard] == ["far"]
    world.far.gate.set()  # it was only slow: the next question finds it
    await asyncio.wait(world.carrier._late)
    assert world.far.answers[0].forgone
    monkeypatch.setattr(carrying, "PATIENCE_S", 5.0)
    assert (await world.ask())[0].made == "far"
    world.far.gate.clear()
    monkeypatch.setattr(carrying, "PATIENCE_S", 0.0)
    await world.ask()
    await world.carrier.close()
    assert len(world.far.asked) == 2  # what was still under way has ended


@pytest.mark.parametrize("error", [UnreachableError("no ledger"), LostPeerError("no leg")])
async def test_what_fails_before_its_first_token_is_answered_elsewhere(tmp_path: Path, error: JoulemeshError) -> None:
    world = World(tmp_path)
    world.far.words = (error,)
    answer, said = await world.ask()
    assert (answer.made, said) == ("near", "Once upon a time")
    assert world.far.answers[0].closed.is_set()
    assert world.near.asked[-1][1].model == MODEL.root  # whatever else bears the name there


async def test_what_breaks_off_goes_on_elsewhere(tmp_path: Path) -> None:
    """Under the name, and from the place, that its caller was told of when its first token came."""
    world = World(tmp_path)
    world.far.words, world.near.words = ("Once ", LostPeerError("no leg")), ("upon ", "a time")
    answer = await world.plan()
    said = "".join([piece.text async for piece in answer])
    first = world.far.answers[0]
    assert (answer.made, answer.id, said) == ("far", first.id, "Once upon a time")
    assert world.near.begun == [None, first.begun()]  # compared first, then asked for the rest
    assert (await answer.close()).micro == 10 + 2 * 10


async def test_what_nobody_can_go_on_from_or_costs_more_does_not(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.far.words, world.far.tells = ("Once ", LostPeerError("no leg")), False
    with pytest.raises(LostPeerError):
        await world.ask()
    world.far.words, world.far.tells = ("Once ", ConfigurationError("no such token")), True
    with pytest.raises(ConfigurationError):
        await world.ask()
    world.far.words = (LostPeerError("no leg"),)
    answer = await world.plan()
    world.near.price = 101
    with pytest.raises(LostPeerError):  # more was never held for it
        _ = [piece async for piece in answer]
    await answer.close()
    assert world.near.answers[-1].forgone


async def test_what_failed_is_paid_with_what_answers(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.far.words = (LostPeerError("no leg"),)
    answer = await world.plan()
    _ = [piece async for piece in answer]
    world.far.answers[0].tokens_out = 2  # such as an opening charge
    costs = await answer.close()
    assert costs.micro == 4 * 10 + 2 * 10


async def test_one_name_is_one_model(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.far.offered = dataclasses.replace(MODEL, root="cd" * 32)
    with pytest.raises(ConfigurationError) as error:
        await world.plan()
    assert error.value.code == "model"
    assert len(await world.carrier.models()) == 2


async def test_models_are_listed_once_with_where_they_are(tmp_path: Path) -> None:
    world = World(tmp_path, edge=True)
    world.near.offered = dataclasses.replace(world.near.offered, price_in_micro=1)
    (model,) = await world.carrier.models()
    assert (model.market, model.price_in_micro) == ("here", 0)
    assert [each.market for each in model.elsewhere] == ["near", "far"]
    world.near.refusal = world.far.refusal = UnreachableError("gone")
    (model,) = await world.carrier.models()
    assert model.elsewhere == ()
    bare = World(tmp_path)
    bare.near.refusal = bare.far.refusal = UnreachableError("gone")
    with pytest.raises(UnreachableError):
        await bare.carrier.models()


# This machine


async def test_small_requests_are_answered_here(tmp_path: Path) -> None:
    world = World(tmp_path, edge=True)
    answer, said = await world.ask("w1 w2", most=4)
    assert (answer.made, answer.tokens_out, answer.finished) == ("here", 4, "length")
    assert said.split()
    assert asked(world.near, world.far) == [0, 0]
    assert (await answer.close()).micro == 0 == answer.reserved_micro
    assert world.engine.sessions == 0
    large, _ = await world.ask("w1 w2", most=SMALL)
    assert large.made == "far"
    assert world.far.asked[-1][1].model == HERE_MODEL.root.hex()


async def test_answers_here_share_passes(tmp_path: Path) -> None:
    world = World(tmp_path, edge=True)
    alone = [(await world.ask(text))[1] for text in ("w3 w4", "w5")]
    world.engine.passes.clear()
    answers = [await world.plan(text) for text in ("w3 w4", "w5")]
    together = await asyncio.gather(*(read(each) for each in answers))
    assert together == alone
    assert world.engine.passes == [2, 2, 2, 2]


@pytest.mark.parametrize("later", range(5))
async def test_an_answer_that_begins_later_joins_in(tmp_path: Path, later: int) -> None:
    """It does not take turns with the one before, each alone, for as long as both are."""
    world = World(tmp_path, edge=True)
    before, after = [await world.plan(text) for text in ("w3 w4", "w5")]
    reading = asyncio.create_task(read(before))
    for _ in range(later):
        await asyncio.sleep(0)
    await asyncio.gather(reading, read(after))
    alone = (later + 1) // 2
    assert world.engine.passes == [1] * alone + [2] * (4 - alone) + [1] * alone


@pytest.mark.parametrize(
    ("place", "limits", "made"),
    [
        (None, {}, "here"),
        (None, {"edge": "never"}, "far"),
        (None, {"places": ("DE",)}, "far"),
        ("DE-BE", {"places": ("EU",), "deny": ("FR",)}, "here"),
        ("FR", {"places": ("DE",)}, "far"),
        ("DE", {"deny": ("DE-BE",)}, "far"),  # nobody says that it is not there
        (None, {"precision": "bf16"}, "far"),
    ],
)
async def test_the_policy_says_what_may_be_answered_here(
    tmp_path: Path, place: str | None, limits: dict[str, Any], made: str
) -> None:
    world = World(tmp_path, edge=True, place=place)
    assert (await world.ask(**limits))[0].made == made


@pytest.mark.parametrize("limits", [{"latency_class": "device"}, {"edge": "only"}])
async def test_what_only_this_machine_may_answer_never_travels(tmp_path: Path, limits: dict[str, Any]) -> None:
    world = World(tmp_path, edge=True)
    assert (await world.ask(most=SMALL, **limits))[0].made == "here"
    with pytest.raises(ConfigurationError):
        await world.plan(places=("DE",), **limits)
    with pytest.raises(ConfigurationError):
        await World(tmp_path).plan(**limits)
    world.engine.fill()
    with pytest.raises(JoulemeshError) as error:
        await world.plan(**limits)
    assert error.value.code == "no-room"
    assert asked(world.near, world.far) == [0, 0]


async def test_without_room_here_a_small_one_travels(tmp_path: Path) -> None:
    world = World(tmp_path, edge=True)
    world.engine.fill()
    assert (await world.ask())[0].made == "far"


@pytest.mark.parametrize(("falls_back", "edge"), [(True, None), (False, None), (True, "never")])
async def test_this_machine_answers_while_no_market_does(tmp_path: Path, falls_back: bool, edge: str | None) -> None:
    world = World(tmp_path, edge=True, falls_back=falls_back)
    world.near.refusal = world.far.refusal = UnreachableError("gone")
    if falls_back and edge is None:
        assert (await world.ask(most=SMALL))[0].made == "here"
    else:
        with pytest.raises(UnreachableError):
            await world.plan(most=SMALL, edge=edge)


async def test_it_takes_over_from_markets_that_fail(tmp_path: Path) -> None:
    world = World(tmp_path, edge=True)
    world.near.words = world.far.words = (UnreachableError("no ledger"),)
    answer, said = await world.ask(most=SMALL)
    assert (answer.made, len(said.split())) == ("here", SMALL)


@pytest.mark.parametrize("came", [1, SMALL - 1])
async def test_it_goes_on_from_what_a_market_began(tmp_path: Path, came: int) -> None:
    """With the very tokens that it would have drawn itself, and with no more of them."""
    world = World(tmp_path, edge=True)
    whole, said = await world.ask("w3 w4", most=SMALL, edge="only")
    assert world.edge is not None
    text = world.edge._text.again()
    wanted = Wanted(model="tales", messages=(Turn("user", "w3 w4"),), most=SMALL)
    written = await write(wanted, text)
    ids = tuple(written.ids(text))
    pieces = [text.piece(token) for token in whole._answer._tokens[:came]]  # type: ignore[attr-defined]
    begun = Begun(
        id="", prompt=ids, tokens=tuple(whole._answer._tokens[:came]), most=SMALL,  # type: ignore[attr-defined]
        sampling=SamplingTerms(temperature_milli=0, seed=0), grammar=b"", written=written, text=text, said="",
    )  # fmt: skip
    rest = await world.edge.plan(wanted, begun)
    assert "".join([*pieces, *[piece.text async for piece in rest]]) == said
    assert (rest.tokens_in, rest.tokens_out) == (whole.tokens_in, SMALL)
    await rest.close()
    assert world.engine.sessions == 0


async def test_a_question_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path, edge=True)
    words: Sequence[str] = ["w1"] * MANIFEST.max_context
    with pytest.raises(ConfigurationError) as error:
        await world.plan(" ".join(words), edge="only")
    assert error.value.code == "context-length"


async def test_a_reader_that_goes_frees_its_room(tmp_path: Path) -> None:
    world = World(tmp_path, edge=True)
    answer = await world.plan(edge="only", most=50)
    async for _ in answer:
        break
    costs = await answer.close()
    assert (costs.tokens_out, costs.receipts, world.engine.sessions) == (1, (), 0)


# Settings


async def test_markets_differ_in_where_they_are_alone(tmp_path: Path) -> None:
    chain = tmp_path / "chain.toml"
    chain.write_text(f"[network]\nledger = {json.dumps('http://127.0.0.1:1')}\n[chain]\nconfirmations = 5\n")
    config = GatewayConfig(data_dir=tmp_path, markets=(str(chain),), max_price_out_micro=7)
    main, other = markets_of(config).values()
    assert main is config
    assert (other.ledger, other.confirmations, other.max_price_out_micro) == ("http://127.0.0.1:1", 5, 7)
    assert other.data_dir == tmp_path / "markets" / "chain"
    # Whoever only shows what the key has there finds the same, and nothing where it is not to be read.
    keep_markets({"main": main, "chain": other}, tmp_path)
    looking = ClientConfig(data_dir=tmp_path, ledger="http://127.0.0.1:2")
    kept = kept_markets(looking)
    assert {name: (each.ledger, each.confirmations, each.data_dir) for name, each in kept.items()} == {
        name: (each.ledger, each.confirmations, each.data_dir) for name, each in markets_of(config).items()
    }
    file = tmp_path / KEPT / "chain.toml"
    assert file.stat().st_mode & 0o077 == 0
    file.write_text("[network]\nledger = 5\n")
    assert list(kept_markets(looking)) == ["main"]
    keep_markets({"main": main}, tmp_path)
    assert not file.exists()
    for name, said in {
        "policy.toml": "[policy]\nallow = ['DE']\n",  # the policy is the gateway's
        "here.toml": "[network]\nledger = 'http://127.0.0.1:1'\n",
        "bare.toml": "",
        "same.toml": f"[network]\nledger = '{config.ledger}'\n",
    }.items():
        (tmp_path / name).write_text(said)
        with pytest.raises(ConfigurationError):
            markets_of(dataclasses.replace(config, markets=(str(tmp_path / name),)))
