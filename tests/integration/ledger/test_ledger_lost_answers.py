"""An operation whose answer is lost on its way is sent to the next front end, and is taken once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from ledger_world import CLIENT, MILLION, OPERATOR, HandClock, ledger_settings, withdraw

from node.ledger import LedgerClient, RunningLedger, run_ledger, verify_url
from protocol.encoding.codec import encode
from protocol.errors import LocalError, RuleError, SignatureError, UnreachableError
from protocol.settlement import Account
from protocol.settlement.operations import Withdraw, sign_op

Between = Callable[[str, bytes], Awaitable[None]]


@asynccontextmanager
async def dropping(real: str, between: Between) -> AsyncIterator[str]:
    """The address of a front end that goes away instead of answering a POST; `between` is done with what was sent."""

    async def relay(request: web.Request) -> web.Response:
        if request.method == "POST":
            await between(request.path_qs, await request.read())
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        async with session.get(real + request.path_qs) as answer:
            return web.Response(body=await answer.read(), status=answer.status)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", relay)
    runner = web.AppRunner(app, access_log=None)
    async with aiohttp.ClientSession() as session:
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


@pytest_asyncio.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[RunningLedger]:
    async with run_ledger(ledger_settings(tmp_path), OPERATOR, HandClock()) as ledger:
        async with LedgerClient(ledger.url) as client:
            await client.faucet(CLIENT.address, MILLION)
        yield ledger


def passing_on(ledger: RunningLedger) -> Between:
    async def pass_on(path: str, body: bytes) -> None:
        async with aiohttp.ClientSession() as http, http.post(ledger.url + path, data=body) as answer:
            assert answer.status == 200

    return pass_on


async def keep(_path: str, _body: bytes) -> None:
    """It went away before it took anything."""


@pytest.mark.asyncio
@pytest.mark.parametrize("is_taken", [True, False])
async def test_an_operation_is_taken_once_whether_it_had_arrived_or_not(ledger: RunningLedger, is_taken: bool) -> None:
    async with (
        dropping(ledger.url, passing_on(ledger) if is_taken else keep) as gone,
        LedgerClient(f"{gone},{ledger.url}") as client,
    ):
        proven = await client.submit(withdraw(5), CLIENT)
        assert (proven.index, proven.entry.op.read().nonce) == (2, 1)
        assert (await client.submit(withdraw(5), CLIENT)).index == 3
        assert await client.account(CLIENT.address) == Account(MILLION - 12, 2)


@pytest.mark.asyncio
@pytest.mark.parametrize("others", [0, 300])
async def test_it_is_found_behind_what_others_did_meanwhile(ledger: RunningLedger, others: int) -> None:
    """Its actor's account was changed since, and the log has grown by more than a bundle."""
    pass_on = passing_on(ledger)

    async def meanwhile(path: str, body: bytes) -> None:
        await pass_on(path, body)
        async with LedgerClient(ledger.url) as other:
            await asyncio.gather(*(other.faucet(CLIENT.address, 1) for _ in range(others)))

    async with dropping(ledger.url, meanwhile) as gone, LedgerClient(f"{gone},{ledger.url}") as client:
        assert (await client.submit(withdraw(5), CLIENT)).index == 2
        assert await client.account(CLIENT.address) == Account(MILLION - 6 + others, 1)


@pytest.mark.asyncio
async def test_a_nonce_that_somebody_else_used_is_not_taken_for_ones_own(ledger: RunningLedger) -> None:
    async def other_is_quicker(_path: str, _body: bytes) -> None:
        async with LedgerClient(ledger.url) as other:
            await other.submit(withdraw(7), CLIENT)

    async with dropping(ledger.url, other_is_quicker) as gone:
        async with LedgerClient(f"{gone},{ledger.url}") as client:
            proven = await client.submit(withdraw(5), CLIENT)
            action = proven.entry.op.read()
            assert isinstance(action, Withdraw)
            assert (proven.index, action.amount, action.nonce) == (3, 5, 2)
        async with LedgerClient(f"{gone},{ledger.url}") as client:  # nor sent anew where only this nonce will do
            with pytest.raises(RuleError) as refused:
                await client.submit(withdraw(5), CLIENT, after=2)
            assert refused.value.code == "nonce"
    assert (await verify_url(ledger.url)).entries == 5


@pytest.mark.asyncio
async def test_what_has_no_nonce_of_its_own_is_not_sent_again(ledger: RunningLedger) -> None:
    async with dropping(ledger.url, passing_on(ledger)) as gone:
        async with LedgerClient(f"{gone},{ledger.url}") as client:
            with pytest.raises(UnreachableError):
                await client.faucet(CLIENT.address, 3)
            assert (await client.account(CLIENT.address)).free == MILLION + 3
        async with LedgerClient(gone) as client:  # and where there is no other front end nothing is
            with pytest.raises(UnreachableError):
                await client.submit(withdraw(5), CLIENT)
            assert (await client.account(CLIENT.address)).nonce == 1


@pytest.mark.asyncio
async def test_an_address_where_nobody_is_costs_nothing(ledger: RunningLedger) -> None:
    nobody = "http://127.0.0.1:9"
    async with LedgerClient(f"{nobody},{ledger.url}") as client:
        await client.faucet(CLIENT.address, 3)  # it has not arrived there
        assert (await client.submit(withdraw(1), CLIENT)).index == 3
    async with LedgerClient(f"{nobody},{nobody}1") as client:
        with pytest.raises(LocalError, match="does not answer"):
            await client.connect()


@pytest.mark.asyncio
async def test_another_ledger_behind_an_address_is_no_front_end(ledger: RunningLedger, tmp_path: Path) -> None:
    """It is one log with one key: what another one takes is not believed, and what it shows is not either."""
    async with run_ledger(ledger_settings(tmp_path / "other"), OPERATOR, HandClock()) as other:
        async with dropping(ledger.url, keep) as gone, LedgerClient(f"{gone},{other.url}") as client:
            await client.connect()
            with pytest.raises(SignatureError):
                await client.submit(withdraw(1), CLIENT)
            signed = sign_op(client.domain, CLIENT, Withdraw(actor=CLIENT.address, nonce=1, amount=1, reference=""))
        async with aiohttp.ClientSession() as http, http.post(f"{other.url}/ops", data=encode(signed)) as answer:
            assert answer.status == 400  # signed for another venue
