"""Vouchers of a node that is away are settled by somebody else, and by its operator by hand, on a real ledger."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest
from bank import Bank, open_bank
from ledger_world import CLIENT, FEE, MILLION, NOW, PROVIDERS, STRANGER, close, make_session, stake, voucher_of

from node.app.daemons.watching import Watchtower
from node.app.settlement.earnings import journal_file
from node.app.settlement.settling import (
    HeldSession,
    export_vouchers,
    held_sessions,
    read_vouchers,
    settle_now,
    vouchers_folder,
)
from node.earnings import JournalTables
from node.events import (
    Event,
    SettledForOthers,
    VoucherNotRedeemable,
    VoucherRedeemed,
    VoucherSetAside,
    Watching,
    unheard,
)
from node.pipeline.vouchers import StoredVoucher, VoucherStore
from node.worker import InlineWorker
from protocol.encoding.codec import encode
from protocol.errors import RuleError
from protocol.session.messages import Session, SignedVoucher, session_id
from protocol.settlement.operations import MAX_SETTLED

pytestmark = pytest.mark.asyncio

NODE, TOWER = PROVIDERS[0], STRANGER
GRACE_S = 3600


def stored(session: Session, pay: SignedVoucher | None) -> StoredVoucher:
    return StoredVoucher(session=session, opened_at=NOW, leg=0, pay=pay, discharges=())


async def promise(bank: Bank, home: Path, *amounts: int, salt: int = 0, expiry: int = NOW + 600) -> Session:
    """A session on the ledger, and its voucher on the disk of `NODE`."""
    session = make_session(salt=salt, cap=100_000, expiry=expiry)
    await bank.client.open(session, CLIENT)
    store = VoucherStore(vouchers_folder(home, NODE.address), InlineWorker())
    await store.put(session_id(session), stored(session, voucher_of(bank.client.domain, session, *amounts)))
    return session


async def held(bank: Bank, home: Path) -> list[HeldSession]:
    return await held_sessions(bank.client, await read_vouchers(vouchers_folder(home, NODE.address)))


async def exported(bank: Bank, home: Path, folder: Path) -> int:
    found = await read_vouchers(vouchers_folder(home, NODE.address))
    return export_vouchers(found, await held_sessions(bank.client, found), folder)


def tower_of(bank: Bank, *paths: Path, events: list[Event] | None = None, lead_s: int = 0) -> Watchtower:
    tell = unheard if events is None else events.append
    return Watchtower(bank.client, paths, TOWER, bank.clock, tell, lead_s=lead_s)


# A watchtower


@pytest.mark.parametrize(
    ("at", "lead_s", "settles"),
    [(-1, 0, False), (0, 0, True), (GRACE_S, 0, True), (GRACE_S + 1, 0, False), (-60, 59, False), (-60, 60, True)],
)
async def test_a_voucher_is_settled_when_its_session_expires_and_no_earlier(
    bank: Bank, tmp_path: Path, at: int, lead_s: int, settles: bool
) -> None:
    session = await promise(bank, tmp_path, 10, 20, 30)
    assert await exported(bank, tmp_path, tmp_path / "copies") == 1
    events: list[Event] = []
    bank.clock.now = session.expiry + at
    seen = await tower_of(bank, tmp_path / "copies", events=events, lead_s=lead_s).look()
    assert (seen.settled, seen.amount, seen.fees) == ((1, 60, FEE) if settles else (0, 0, 0))
    # Each provider has its own, and the watchtower nothing but the fee.
    paid = [await bank.free(key.address) for key in PROVIDERS]
    assert paid == ([10 * MILLION + 10, 20, 30] if settles else [10 * MILLION, 0, 0])
    assert await bank.free(TOWER.address) == 10 * MILLION - (FEE if settles else 0)
    assert bool([each for each in events if isinstance(each, SettledForOthers)]) is settles
    assert bool([each for each in events if isinstance(each, VoucherSetAside)]) is (at > GRACE_S)


async def test_many_are_settled_together_and_once(bank: Bank, tmp_path: Path) -> None:
    for salt in range(MAX_SETTLED + 2):
        await promise(bank, tmp_path, 10, 0, 0, salt=salt)
    await exported(bank, tmp_path, tmp_path / "copies")
    events: list[Event] = []
    tower = tower_of(bank, tmp_path / "copies", events=events)
    before = await tower.look()
    assert (before.vouchers, before.worth, before.settled) == (10, 100, 0)
    bank.clock.now += 600
    size = await bank.size()
    done = await tower.look()
    assert (done.vouchers, done.settled, done.amount, done.fees) == (0, 10, 100, 2 * FEE)
    assert await bank.size() == size + 2
    again = await tower.look()
    assert (again.settled, again.fees) == (0, 0)
    assert [each.vouchers for each in events if isinstance(each, Watching)] == [10, 0]


async def test_what_its_owner_has_redeemed_meanwhile_costs_nothing(bank: Bank, tmp_path: Path) -> None:
    session = await promise(bank, tmp_path, 10, 0, 0)
    await exported(bank, tmp_path, tmp_path / "copies")
    tower = tower_of(bank, tmp_path / "copies")
    await tower.look()
    await bank.client.settle([voucher_of(bank.client.domain, session, 10, 0, 0)], NODE)
    bank.clock.now += 600
    assert (await tower.look()).settled == 0
    assert await bank.free(TOWER.address) == 10 * MILLION


async def test_nothing_in_a_file_is_believed(bank: Bank, tmp_path: Path) -> None:
    """Junk, a stranger's signature, a voucher of a session that is not open, of one that is closed: each is passed
    over, and the good ones among them are settled; one that is worth no more than a fee goes along with others.
    """
    domain, folder = bank.client.domain, tmp_path / "copies"
    good = await promise(bank, tmp_path, 10, 20, 0)
    forged = await promise(bank, tmp_path / "a", 0, 0, 0, salt=1)
    poor = await promise(bank, tmp_path / "b", FEE, 0, 0, salt=2, expiry=NOW + 500)
    never = make_session(salt=3)
    over = await promise(bank, tmp_path / "c", 10, 0, 0, salt=4, expiry=NOW + 10)
    folder.mkdir()
    files = {
        "good": stored(good, voucher_of(domain, good, 10, 20, 0)),
        "late": stored(good, voucher_of(domain, good, 15, 10, 0)),  # promises another leg more
        "forged": stored(forged, voucher_of(domain, forged, 90_000, 0, 0, key=TOWER)),
        "poor": stored(poor, voucher_of(domain, poor, FEE, 0, 0)),
        "never": stored(never, voucher_of(domain, never, 10, 0, 0)),
        "over": stored(over, voucher_of(domain, over, 10, 0, 0)),
        "long": stored(good, voucher_of(domain, good, 10, 20, 0, 5)),
        "empty": stored(good, None),
        # What it says of the session is not the voucher's: times and legs are the ledger's.
        "liar": stored(good.replace(expiry=NOW + 9_000_000), voucher_of(domain, good, 12, 20, 0)),
    }
    for name, content in files.items():
        (folder / f"{name}.voucher").write_bytes(encode(content))
    (folder / "junk.voucher").write_bytes(b"\xc1" * 99)
    (folder / "huge.voucher").write_bytes(b"\x00" * 100_000)
    os.mkfifo(folder / "pipe.voucher")  # whoever opened it would wait
    bank.clock.now = over.expiry + GRACE_S + 1
    await bank.client.submit(close(over), CLIENT)
    events: list[Event] = []
    tower = tower_of(bank, folder, folder / "gone.voucher", events=events)
    settled = [(await tower.look()).amount for _ in range(3)]
    assert settled == [12 + 20 + FEE, 15 - 12, 0]
    assert await bank.free(TOWER.address) == 10 * MILLION - 2 * FEE
    set_aside = {Path(each.file).stem for each in events if isinstance(each, VoucherSetAside)}
    assert set_aside == {"forged", "long", "junk", "huge", "empty", "pipe"}
    assert len([each for each in events if isinstance(each, VoucherSetAside)]) == 6


@pytest.mark.parametrize("opened_s", [0, 590])
async def test_a_session_that_the_ledger_does_not_know_yet_is_looked_at_when_it_is_due(
    bank: Bank, tmp_path: Path, opened_s: int
) -> None:
    """An hour later it would be too late where graces are short."""
    session, events = make_session(cap=100_000), list[Event]()
    (tmp_path / "one.voucher").write_bytes(encode(stored(session, voucher_of(bank.client.domain, session, 10, 0, 0))))
    tower = tower_of(bank, tmp_path, events=events)
    await tower.look()
    bank.clock.now += opened_s
    await bank.client.open(session, CLIENT)
    bank.clock.now = session.expiry
    assert (await tower.look()).settled == 1
    assert not [each for each in events if isinstance(each, VoucherSetAside)]


@pytest.mark.parametrize(("asked", "at"), [("session", 0), ("settle", 0), ("session", GRACE_S), ("settle", GRACE_S)])
async def test_no_word_of_the_ledger_costs_a_voucher_that_may_be_good(
    bank: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, at: int
) -> None:
    async def wrong(*_: object) -> None:
        if asked == "settle":
            raise RuleError("the session's grace has ended", code="expired")

    session, events = await promise(bank, tmp_path, 10, 0, 0), list[Event]()
    await exported(bank, tmp_path, tmp_path / "copies")
    tower = tower_of(bank, tmp_path / "copies", events=events)
    bank.clock.now = session.expiry
    with monkeypatch.context() as behind:
        behind.setattr(bank.client, asked, wrong)
        for bank.clock.now in range(session.expiry, session.expiry + at + 1, 60):
            assert (await tower.look()).settled == 0
    assert not [each for each in events if isinstance(each, VoucherSetAside)]
    assert len([each for each in events if isinstance(each, VoucherNotRedeemable)]) == (asked == "settle")
    bank.clock.now = session.expiry + min(at + 360, GRACE_S)
    assert (await tower.look()).settled == (at < GRACE_S)
    bank.clock.now = session.expiry + GRACE_S + 3600
    await tower.look()
    assert len([each for each in events if isinstance(each, VoucherSetAside)]) == (at == GRACE_S)


async def test_a_grown_voucher_replaces_the_older_one(bank: Bank, tmp_path: Path) -> None:
    session = await promise(bank, tmp_path, 10, 0, 0)
    await exported(bank, tmp_path, tmp_path / "copies")
    tower = tower_of(bank, tmp_path / "copies")
    assert (await tower.look()).worth == 10
    store = VoucherStore(vouchers_folder(tmp_path, NODE.address), InlineWorker())
    grown = voucher_of(bank.client.domain, session, 5_000, 0, 0)
    await store.put(session_id(session), stored(session, grown))
    assert await exported(bank, tmp_path, tmp_path / "copies") == 1
    assert (await tower.look()).worth == 5_000
    bank.clock.now += 600
    assert (await tower.look()).amount == 5_000


# The operator, by hand


async def test_sessions_are_listed_with_what_they_are_worth(bank: Bank, tmp_path: Path) -> None:
    late = await promise(bank, tmp_path, 10, 0, 0, salt=1, expiry=NOW + 900)
    soon = await promise(bank, tmp_path, 70, 0, 0, salt=2)
    await bank.client.settle([voucher_of(bank.client.domain, soon, 30, 5, 0)], CLIENT)
    first, second = await held(bank, tmp_path)
    assert (first.session, first.client, first.leg) == (session_id(soon), CLIENT.address, 0)
    assert (first.promised, first.settled, first.worth, first.redeemed) == (70, 30, 40, False)
    assert (first.reserved, first.expires_at, first.redeem_by) == (99_970, NOW + 600, NOW + 600 + GRACE_S)
    assert (second.session, second.worth, second.settled) == (session_id(late), 10, 0)
    await bank.client.settle([voucher_of(bank.client.domain, soon, 70, 0, 0)], CLIENT)
    assert [each.redeemed for each in await held(bank, tmp_path)] == [True, False]


@pytest.mark.parametrize(("share_ppm", "everything", "redeems"), [(50_000, False, False), (50_000, True, True),
                                                                  (100_000, False, True)])  # fmt: skip
async def test_settling_by_hand_keeps_to_the_share_and_is_in_the_books(
    bank: Bank, tmp_path: Path, share_ppm: int, everything: bool, redeems: bool
) -> None:
    session = await promise(bank, tmp_path, 10, 0, 0)
    events: list[Event] = []
    done = await settle_now(
        bank.client, tmp_path, NODE, share_ppm=share_ppm, last=everything, clock=bank.clock, events=events.append
    )
    assert (done.vouchers, done.amount, done.fees) == ((1, 10, FEE) if redeems else (0, 0, 0))
    assert (done.held_back, done.held_back_worth) == ((0, 0) if redeems else (1, 10))
    assert await bank.free(NODE.address) == 10 * MILLION + done.amount - done.fees
    assert len([each for each in events if isinstance(each, VoucherRedeemed)]) == done.vouchers
    # The voucher stays: a node that runs clears up itself.
    assert set(await read_vouchers(vouchers_folder(tmp_path, NODE.address))) == {session_id(session)}
    again = await settle_now(
        bank.client, tmp_path, NODE, share_ppm=share_ppm, last=everything, clock=bank.clock, events=unheard
    )
    assert again.vouchers == 0
    assert JournalTables(journal_file(tmp_path, NODE.address)).read().jobs == ()


async def test_what_a_bond_does_not_allow_yet_is_settled_later(tmp_path: Path) -> None:
    """By hand, and by a watchtower: the rest of a voucher is neither lost nor called bad."""
    async with open_bank(tmp_path, bond_multiple=1, unbonding_s=300) as bank:
        await bank.client.submit(stake(100), NODE)
        await promise(bank, tmp_path, 250, 0, 0)
        events: list[Event] = []
        settle = partial(
            settle_now, bank.client, tmp_path, NODE, share_ppm=50_000, last=True, clock=bank.clock, events=events.append
        )
        first = await settle()
        assert (first.vouchers, first.amount, first.held_back_worth) == (1, 100, 150)
        assert (await settle()).amount == 0
        bank.clock.now += 300
        assert (await settle()).amount == 100
        await exported(bank, tmp_path, tmp_path / "copies")
        tower = tower_of(bank, tmp_path / "copies", events=events)
        bank.clock.now += 300
        assert (await tower.look()).amount == 50
        assert (await held(bank, tmp_path))[0].redeemed
        assert not [each for each in events if isinstance(each, VoucherNotRedeemable | VoucherSetAside)]


async def test_settling_without_vouchers_asks_for_nothing(bank: Bank, tmp_path: Path) -> None:
    done = await settle_now(bank.client, tmp_path, NODE, share_ppm=1, last=True, clock=bank.clock, events=unheard)
    assert (done.vouchers, done.operations, done.held_back) == (0, 0, 0)
    assert not journal_file(tmp_path, NODE.address).exists()


async def test_a_stranger_s_nonce_does_not_move_money(bank: Bank) -> None:
    """What payouts rest on: one state of an account, one operation."""
    seen = await bank.client.account(TOWER.address)
    await bank.client.withdraw(5, "here", TOWER, seen=seen)
    with pytest.raises(RuleError) as again:
        await bank.client.withdraw(5, "here", TOWER, seen=seen)
    assert again.value.code == "nonce"
    assert await bank.free(TOWER.address) == 10 * MILLION - 5 - FEE
