"""What goes wrong, with real processes: a clear message, a status that is not 0, no traceback, and the money right."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from local_network import Finished, LocalNetwork, voucher_beyond

from node.ledger import LedgerClient
from node.pipeline.vouchers import StoredVoucher
from protocol.identity.ids import parse_address
from protocol.session.messages import session_id
from protocol.settlement import SessionRecord

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

GRACE_S = 2
LONG = ("--max-tokens", "1500")
"""A job that lasts for seconds: something can happen in the middle of it."""
ROOM = ("--kv-tokens", "8192")
"""For more than one of them: an offer made during one job says what room there was then."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def net(tmp_path_factory: pytest.TempPathFactory, endless: Path) -> AsyncIterator[LocalNetwork]:
    """A ledger and three nodes, the middle one in another country; the client has money, the pauper has not."""
    async with LocalNetwork(tmp_path_factory.mktemp("net")) as network:
        await network.start_ledger(grace_s=GRACE_S)
        abroad = ("--jurisdiction", "US")
        await network.start_nodes(endless, "0:2", "2:4", "4:6", node0=ROOM, node1=(*ROOM, *abroad), node2=ROOM)
        assert (await network.joule("faucet", "2")).status == 0
        yield network


def told(done: Finished, *phrases: str) -> None:
    """One message on stderr, a status of 1, nothing on stdout but what a service was doing, no traceback."""
    assert done.status == 1, done
    assert "Traceback" not in done.err
    assert done.err.startswith("error: "), done.err
    assert all(" starting: " in line for line in done.out.splitlines()), done.out
    for phrase in phrases:
        assert phrase in done.err, done.err


def told_json(done: Finished, code: str) -> dict[str, Any]:
    assert done.status == 1, done
    assert done.err == ""
    found: dict[str, Any] = done.json()
    assert found["code"] == code
    return found


async def serves(network: LocalNetwork, *more: str) -> dict[str, Any]:
    """The network still does a whole job; its report."""
    done = await network.joule("run", "hello", "--max-tokens", "20", "--json", *more)
    assert done.status == 0, done
    report: dict[str, Any] = done.json()
    assert (report["tokens_out"], report["verified"], report["held_micro"]) == (20, True, 0)
    return report


def newest(network: LocalNetwork, name: str) -> StoredVoucher:
    return max(network.sessions(name), key=lambda stored: (stored.opened_at, stored.session.expiry))


async def free(ledger: LedgerClient, network: LocalNetwork, *names: str) -> list[int]:
    return [(await ledger.account(parse_address(network.addresses[name]))).free for name in names]


async def redeemed(network: LocalNetwork, session: bytes) -> None:
    """Wait until one of the nodes says that it has settled a voucher of this session."""
    telling = [
        asyncio.create_task(network.nodes[name].event("voucher redeemed", timeout_s=200, session=session.hex()))
        for name in NODES
    ]
    first, others = await asyncio.wait(telling, return_when=asyncio.FIRST_COMPLETED)
    for each in others:
        each.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    for each in first:
        each.result()


NODES = ("node0", "node1", "node2")


# Before a job


async def test_what_stands_against_a_job_is_told_before_it_costs_anything(net: LocalNetwork) -> None:
    unknown, gap, gap_json, poor, wrong, refused = await asyncio.gather(
        net.joule("run", "hi", "--model", "nothing"),
        net.joule("run", "hi", "--deny", "US", "--max-tokens", "5"),
        net.joule("run", "hi", "--deny", "US", "--max-tokens", "5", "--json"),
        net.joule("run", "hi", "--max-tokens", "5", name="pauper"),
        net.joule("run", "hi", "--max-tokens", "5", JOULE_PASSPHRASE="battery staple"),
        net.joule("run", "hi", "--window", "64", "--max-tokens", "5", "--json"),
    )
    told(unknown, "nobody offers the model 'nothing'", "on offer: ")
    told(gap, "no usable offer serves blocks 2:4 of 6", f"{net.addresses['node1']} (US, blocks 2:4): ", "US")
    found = told_json(gap_json, "gap")
    assert [(each["provider"], each["code"]) for each in found["reasons"]] == [
        (net.addresses["node1"], "jurisdiction-denied")
    ]
    told(poor, "balance too low", "0.000000 is free", " is missing", "joule faucet")
    told(wrong, "wrong passphrase for the key 'default'")
    told_json(refused, "all-excluded")


async def test_offers_that_the_policy_excludes_are_named_with_their_reasons(net: LocalNetwork) -> None:
    dear, dear_json, there, late = await asyncio.gather(
        net.joule("run", "hi", "--max-price-out", "0.01"),
        net.joule("run", "hi", "--max-price-out", "0.01", "--json"),
        net.joule("run", "hi", "--allow", "FR", "--json"),
        net.joule("run", "hi", "--receipt", str(net.home / "nowhere" / "receipt.json")),
    )
    told(dear, "none of the 3 offers of this model can be used", "more than the 0.010000 you pay for a route")
    reasons = told_json(dear_json, "all-excluded")["reasons"]
    assert {each["provider"] for each in reasons} == {net.addresses[name] for name in NODES}
    assert {each["code"] for each in reasons} == {"price-cap"}
    reasons = told_json(there, "all-excluded")["reasons"]
    assert {(each["jurisdiction"], each["code"]) for each in reasons} == {
        ("DE", "jurisdiction-not-allowed"),
        ("US", "jurisdiction-not-allowed"),
    }
    told(late, "cannot write", "give --receipt another place")


async def test_who_sees_what_is_told_and_who_may_not_is_named(net: LocalNetwork) -> None:
    first, last = ((f"--trusted-end={net.addresses[name]}") for name in ("node0", "node2"))
    untrusted, shown, shown_json, two = await asyncio.gather(
        net.joule("run", "hi", "--json", first),
        net.joule("run", "--explain-privacy", first, last),
        net.joule("run", "hi", "--explain-privacy", first, last, "--json", name="pauper"),
        net.joule("run", "--explain-privacy", "--input", "prompts.jsonl"),
    )
    reasons = told_json(untrusted, "untrusted")["reasons"]
    assert [(each["provider"], each["code"]) for each in reasons] == [(net.addresses["node2"], "untrusted")]
    assert shown.status == 0
    assert "only " + net.addresses["node0"] in shown.out
    assert "not measured" in shown.out
    legs = shown_json.json()["legs"]
    assert [(leg["trusted"], leg["prompt"], leg["answer"], leg["cut"]) for leg in legs] == [
        (True, "token ids", "token ids", None),
        (False, "rows", "rows", 2),
        (True, "rows", "token ids", 4),
    ]
    assert "exclude each other" in two.err


async def test_a_node_that_cannot_start_says_why(net: LocalNetwork, endless: Path, tmp_path: Path) -> None:
    half, odd = tmp_path / "half", tmp_path / "odd"
    shutil.copytree(endless, half)
    with (half / "model.safetensors").open("r+b") as file:
        file.truncate(10_000)
    shutil.copytree(endless, odd)
    config = json.loads((odd / "config.json").read_text())
    (odd / "config.json").write_text(json.dumps({**config, "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}))
    host, data_port = _place(await net.nodes["node0"].event("node ready"), "data")
    _, libp2p_port = _place(await net.nodes["node0"].event("node ready"), "peer")
    _, http_port = net.url.removeprefix("http://").split(":")
    node = ("node", "run", "--ledger", net.url, "--model")
    missing, cut, unknown, beyond, data, libp2p, http, nobody = await asyncio.gather(
        net.joule(*node, str(tmp_path / "nothing"), name="new0"),
        net.joule(*node, str(half), name="new1"),
        net.joule(*node, str(odd), name="new2"),
        net.joule(*node, str(endless), "--blocks", "4:9", name="new3"),
        net.joule(*node, str(endless), "--blocks", "0:1", "--data-port", data_port, name="new4"),
        net.joule(*node, str(endless), "--blocks", "0:1", "--listen", f"/ip4/{host}/tcp/{libp2p_port}", name="new5"),
        net.joule("ledger", "run", "--port", http_port, name="new6"),
        net.joule("node", "run", "--ledger", "http://127.0.0.1:9", "--model", str(endless), name="new7"),
    )
    told(missing, "there is no model directory")
    told(cut, "half-downloaded", "model.safetensors")
    told(unknown, "architecture is not supported: GPT2LMHeadModel", "LlamaForCausalLM")
    told(beyond, "blocks 4:9 of a model of 6")
    told(data, f"cannot listen on 127.0.0.1 port {data_port}")
    told(libp2p, "cannot listen on")
    told(http, "cannot listen on")
    told(nobody, "the ledger at http://127.0.0.1:9 does not answer", "joule ledger run")


def _place(facts: dict[str, Any], name: str) -> tuple[str, str]:
    parts = facts[name].split("/")
    return parts[2], parts[4]


async def test_a_ledger_that_is_down_is_told_by_every_command(net: LocalNetwork) -> None:
    nowhere = ("--ledger", "http://127.0.0.1:9")
    for done in await asyncio.gather(
        net.joule("run", "hi", *nowhere), net.joule("balance", *nowhere), net.joule("offers", *nowhere)
    ):
        told(done, "the ledger at http://127.0.0.1:9 does not answer", "joule ledger run")


async def test_the_first_bad_entry_of_a_log_that_was_tampered_with_is_named(net: LocalNetwork, tmp_path: Path) -> None:
    await serves(net)
    copy = tmp_path / "copy.sqlite3"
    original = sqlite3.connect(net.home / "ledger" / "ledger" / "ledger.sqlite3")
    database = sqlite3.connect(copy)
    original.backup(database)
    original.close()
    sound = await net.joule("ledger", "verify", str(copy), "--json")
    assert (sound.status, sound.json()["sound"]) == (0, True)
    (entry,) = database.execute("SELECT data FROM entries WHERE position = 2").fetchone()
    touched = bytes(entry[:-3]) + bytes([entry[-3] ^ 1]) + bytes(entry[-2:])
    database.execute("UPDATE entries SET data = ? WHERE position IN (2, 3)", (touched,))
    database.commit()
    database.close()
    told_text, told_as_json = await asyncio.gather(
        net.joule("ledger", "verify", str(copy)), net.joule("ledger", "verify", str(copy), "--json")
    )
    assert (told_text.status, told_text.err) == (1, "")
    assert "NOT SOUND: entry 2: " in told_text.out
    assert told_as_json.json()["fault"]["entry"] == 2


# In mid-stream


async def test_a_client_that_vanishes_is_served_no_further_than_it_has_paid(net: LocalNetwork) -> None:
    async with LedgerClient(net.url) as ledger:
        fee = (await ledger.rules()).fee
        client, *before = await free(ledger, net, "client", *NODES)
        process = await net.spawn("run", "hello", *LONG, "--session-s", "30", "--verbose", "--json")
        await voucher_beyond(process, 100)
        process.kill()
        await process.wait()
        (stored,) = net.sessions("client")
        session = session_id(stored.session)
        failures = await asyncio.gather(*(net.nodes[name].event("job failed", session=session.hex()) for name in NODES))
        assert stored.pay is not None
        promised = stored.pay.voucher
        assert all(60 < failure["tokens_out"] <= promised.tokens_out for failure in failures)

        await redeemed(net, session)
        record = await all_redeemed(net, ledger, session, [failure["paid_micro"] for failure in failures])
        for failure, settled, most in zip(failures, record.settled, promised.amounts, strict=True):
            assert failure["paid_micro"] - fee <= settled <= most
        caps = sum(leg.cap for leg in stored.session.legs)
        await earned_what_was_settled(ledger, net, before, session)
        assert await free(ledger, net, "client") == [client - caps - fee]
        assert record.reserved == caps - sum(record.settled)


async def all_redeemed(network: LocalNetwork, ledger: LedgerClient, session: bytes, least: list[int]) -> SessionRecord:
    """What the ledger has once each node has been paid what was promised to it: a later redemption only adds. Of what
    would cost more than it brings a node lets go.
    """
    record, fee = await record_of(ledger, session), (await ledger.rules()).fee
    for name, paid, wanted in zip(NODES, record.settled, least, strict=True):
        if wanted - paid > fee:
            await network.nodes[name].event("voucher redeemed", session=session.hex())
    return await record_of(ledger, session)


async def earned_what_was_settled(
    ledger: LedgerClient, network: LocalNetwork, before: list[int], session: bytes
) -> None:
    """Not a unit more or less, but for the fee, which whoever redeems pays; all three may have asked at once."""
    fee = (await ledger.rules()).fee
    settled, now = (await record_of(ledger, session)).settled, await free(ledger, network, *NODES)
    assert sum(settled) - (sum(now) - sum(before)) in {0, fee, 2 * fee, 3 * fee}


async def record_of(ledger: LedgerClient, session: bytes) -> SessionRecord:
    found = await ledger.session(session)
    assert found is not None
    return found


async def test_a_node_that_dies_ends_the_job_cleanly_and_what_it_earned_is_paid(
    net: LocalNetwork, endless: Path
) -> None:
    async with LedgerClient(net.url) as ledger:
        client, *before = await free(ledger, net, "client", *NODES)
        earlier = [session_id(each.session) for each in net.sessions("client")]
        left = [await record_of(ledger, session) for session in earlier]
        process = await net.spawn("run", "hello", *LONG, "--session-s", "30", "--verbose", "--json")
        await voucher_beyond(process, 100)
        os.kill(net.nodes["node1"].process.pid, signal.SIGKILL)
        async with asyncio.timeout(120):
            out, err = await process.communicate()
        report = json.loads(out)
        assert process.returncode == 1
        assert b"Traceback" not in err
        assert report["error"]["code"] == "provider-lost"
        assert "leg 1 (blocks 2:4) is gone" in report["error"]["message"]
        assert report["settle_error"] is None
        assert report["tokens_out"] > 60  # vouchers run ahead

        stored = newest(net, "client")
        record = await record_of(ledger, session_id(stored.session))
        paid = [leg["paid_micro"] for leg in report["legs"]]
        assert report["paid_micro"] == sum(paid)
        # Both that live gave up what they had not earned: what the dead one may still claim is held, and what they had
        # computed ahead they may redeem, now or later.
        held = stored.session.legs[1].cap - paid[1]
        assert [leg["held_micro"] for leg in report["legs"]] == [0, held, 0]
        assert report["held_micro"] == held
        claimed = report["claimed_micro"]
        assert record.reserved + sum(record.settled) == sum(paid) + held + claimed
        assert report["held_until"] == stored.session.expiry + GRACE_S
        # What the job before left is had back by this one, where its grace has ended.
        over = [each.reserved for each, session in zip(left, earlier, strict=True) if not await ledger.session(session)]
        back = sum(over) - len(over) * (await ledger.rules()).fee
        assert await free(ledger, net, "client") == [client + back - sum(paid) - report["fees_micro"] - held - claimed]
        await earned_what_was_settled(ledger, net, before, session_id(stored.session))

        # Its offer is still in the books; nobody is sent to it.
        gap = told_json(await net.joule("run", "hi", "--max-tokens", "5", "--json"), "gap")
        assert [(each["blocks"], each["code"]) for each in gap["reasons"]] == [("2:4", "unreachable")]

        await net.start_node("node1", endless, "2:4", *ROOM, "--jurisdiction", "US")
        await net.nodes["node1"].event("node ready")
        assert await what_was_held_comes_back(net, ledger) >= report["held_micro"] > 0


async def test_a_ledger_that_goes_down_in_mid_job_costs_nobody_anything(net: LocalNetwork) -> None:
    """The last test here: it takes the ledger away, and brings it back."""
    async with LedgerClient(net.url) as ledger:
        client, *before = await free(ledger, net, "client", *NODES)
    process = await net.spawn("run", "hello", "--max-tokens", "600", "--session-s", "300", "--verbose", "--json")
    await voucher_beyond(process, 50)
    assert net.ledger is not None
    net.ledger.process.kill()
    async with asyncio.timeout(120):
        out, err = await process.communicate()
    report = json.loads(out)
    assert process.returncode == 1
    assert b"Traceback" not in err
    assert (report["error"], report["tokens_out"]) == (None, 600)
    assert report["settle_error"]["code"] == "unreachable"
    assert report["balance_after_micro"] is None
    stored = newest(net, "client")
    assert stored.pay is not None
    told(await net.joule("balance"), "does not answer")

    await net.start_ledger(grace_s=GRACE_S, port=int(net.url.rpartition(":")[2]))
    await redeemed(net, session_id(stored.session))
    async with LedgerClient(net.url) as ledger:
        record = await record_of(ledger, session_id(stored.session))
        assert record.settled == stored.pay.voucher.amounts
        fee = (await ledger.rules()).fee
        await earned_what_was_settled(ledger, net, before, session_id(stored.session))
        assert await free(ledger, net, "client") == [client - fee - sum(leg.cap for leg in stored.session.legs)]
    sound = await net.joule("ledger", "verify", net.url, "--json")
    assert (sound.status, sound.json()["sound"]) == (0, True)
    assert sound.json()["deposited"] == sound.json()["held"] == 2_000_000


async def what_was_held_comes_back(network: LocalNetwork, ledger: LedgerClient) -> int:
    """The next job takes back what failed ones left in their sessions, once their grace has ended; how much."""
    left = [session_id(each.session) for each in network.sessions("client")]
    before = [await record_of(ledger, session) for session in left]
    (client,) = await free(ledger, network, "client")
    end = max(record.session.expiry for record in before) + GRACE_S + 1
    await asyncio.sleep(max(0.0, end - time.time()))  # the rules go by the clock, and here it is the machine's
    after = [await ledger.session(session) for session in left]  # nobody redeems any more; what is over is forgotten
    report = await serves(network)
    back = [0 if now is None else now.reserved for now in after]
    assert [await ledger.session(session) for session in left] == [None] * len(left)
    fees = (await ledger.rules()).fee * sum(map(bool, back))
    assert report["balance_before_micro"] == client + sum(back) - fees
    spent = report["paid_micro"] + report["fees_micro"]
    assert await free(ledger, network, "client") == [client + sum(back) - fees - spent]
    assert network.sessions("client") == []
    return sum(back)
