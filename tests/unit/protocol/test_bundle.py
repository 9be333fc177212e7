"""A real receipt bundle verifies, and each thing that can be changed in it is found out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from node.pipeline.client import JobResult
from small_market import GRACE_S, LOG_KEY, MANIFEST, OPERATOR, VERIFIER_KEY, SmallMarket

from node.ports import Proven
from protocol.bundle import Bundle, LedgerProof, dump_bundle, load_bundle, verify_bundle, window_bounds
from protocol.checkpoint import Checkpoint, sign_checkpoint
from protocol.codec import encode
from protocol.eip712 import sign_typed
from protocol.errors import DishonestError, MalformedError, PeerError, SignatureError
from protocol.merkle import Frontier, Node, inclusion_proof, leaf_hash
from protocol.messages import Genesis, LogEntry, Open
from protocol.metering import leg_amount
from protocol.note import NoteKey
from protocol.order import JobOrder
from protocol.receipt import SignedReceipt
from protocol.session import ledger_domain
from protocol.signing import SigningKey, open_envelope, seal

PROMPT = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
MOST = 11
Change = Callable[[Bundle], Bundle]


def proof_of(proven: Proven | None) -> LedgerProof:
    assert proven is not None
    return LedgerProof(proven.entry, proven.index, proven.proof, proven.checkpoint)


def bundle_of(result: JobResult) -> Bundle:
    assert result.pay is not None
    return Bundle(
        verifier_key=VERIFIER_KEY,
        manifest=MANIFEST,
        order=result.sealed_orders[0],
        tokens=tuple(result.tab.tokens),
        windows=tuple(result.tab.windows),
        pay=result.pay,
        opened=proof_of(result.opened),
        settled=proof_of(result.settled),
        closed=None if result.closed is None else proof_of(result.closed),
    )


async def run_jobs(folder: Path, count: int) -> list[Bundle]:
    market = SmallMarket(folder)
    try:
        bundles = []
        for _ in range(count):
            order = market.order(len(PROMPT), MOST, window=4, chunk=4)
            result = await market.client.run(order, MANIFEST, PROMPT, lambda token: None)
            assert result.error is result.settle_error is None
            bundles.append(bundle_of(result))
        return bundles
    finally:
        await market.close()


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    """Two jobs of one client on one ledger."""
    return asyncio.run(run_jobs(tmp_path_factory.mktemp("market"), 2))


@pytest.fixture
def bundle(bundles: list[Bundle]) -> Bundle:
    return bundles[0]


def test_an_honest_bundle_verifies(bundle: Bundle) -> None:
    found = verify_bundle(bundle)
    legs = found.order.session.legs
    assert (found.tokens_in, found.tokens_out) == (len(PROMPT), MOST)
    assert found.amounts == tuple(leg_amount(leg, len(PROMPT), MOST) for leg in legs)
    assert found.refunded == sum(leg.cap for leg in legs) - sum(found.amounts) == 0
    assert found.millijoules == (10 * (len(PROMPT) + MOST - 1),) * 3
    assert found.windows == len(window_bounds(found.order, len(PROMPT) + MOST - 1)) == 6
    assert found.proof_bytes == 32 * sum(len(p.proof) for p in (bundle.opened, bundle.settled, bundle.closed) if p)


def test_a_session_that_is_still_open_verifies_too(bundle: Bundle) -> None:
    assert verify_bundle(replace(bundle, closed=None)).refunded is None


def test_the_file_holds_the_whole_bundle(bundle: Bundle) -> None:
    text = dump_bundle(bundle, text=("prompt", "answer"))
    assert load_bundle(text.encode()) == bundle
    assert json.loads(text)["answer"] == "answer"


# Tampering, by clause of docs/spec/receipt.md


def other_order(**changes: Any) -> Change:
    """The client's own order with something else in it, signed anew by the client."""

    def change(bundle: Bundle) -> Bundle:
        order, _ = open_envelope(bundle.order, JobOrder)
        return replace(bundle, order=seal(order.replace(**changes), SigningKey(b"\x77" * 32)))

    return change


def order_by_a_stranger(bundle: Bundle) -> Bundle:
    order, _ = open_envelope(bundle.order, JobOrder)
    return replace(bundle, order=seal(order, SigningKey(b"\x66" * 32)))


def order_of_other_terms(bundle: Bundle) -> Bundle:
    order, _ = open_envelope(bundle.order, JobOrder)
    return other_order(session=order.session.replace(salt=b"\x01" * 32))(bundle)


def laxer_policy(bundle: Bundle) -> Bundle:
    order, _ = open_envelope(bundle.order, JobOrder)
    return other_order(policy=order.policy.replace(deny=("US",)))(bundle)


def proof(name: str, **changes: Any) -> Change:
    return lambda bundle: replace(bundle, **{name: replace(getattr(bundle, name), **changes)})


def richer(name: str) -> Change:
    """An entry that credits somebody with one micro-unit more."""

    def change(bundle: Bundle) -> Bundle:
        entry = getattr(bundle, name).entry
        first, *rest = entry.accounts
        return proof(name, entry=entry.replace(accounts=(first.replace(free=first.free + 1), *rest)))(bundle)

    return change


def own_checkpoint(bundle: Bundle) -> Bundle:
    """A checkpoint over whatever one likes, by a key of one's own under the ledger's name."""
    forger = NoteKey("memory", b"\x0b" * 32)
    note = sign_checkpoint(Checkpoint("memory", 1, bytes(32)), forger)
    return proof("settled", checkpoint=note)(bundle)


def other_ledger(bundle: Bundle) -> Bundle:
    return replace(bundle, verifier_key=str(NoteKey("memory", b"\x0b" * 32).verifier))


def window(
    number: int, place: int, *, sketch: bytes | None = None, signer: int | None = None, **changes: Any
) -> Change:
    """One receipt changed, and signed anew by a provider where `signer` names one."""

    def change(bundle: Bundle) -> Bundle:
        signed, old_sketch = bundle.windows[number][place]
        receipt = signed.receipt.replace(**changes)
        signature = signed.signature
        if signer is not None:
            key = SigningKey(bytes([signer + 1]) * 32)
            signature = sign_typed(ledger_domain(VERIFIER_KEY), receipt, key)
        made = (SignedReceipt(receipt=receipt, signature=signature), sketch or old_sketch)
        windows = [list(each) for each in bundle.windows]
        windows[number][place] = made
        return replace(bundle, windows=tuple(tuple(each) for each in windows))

    return change


def token(index: int) -> Change:
    return lambda b: replace(b, tokens=(*b.tokens[:index], b.tokens[index] + 1, *b.tokens[index + 1 :]))


def voucher(key: SigningKey | None = None, **changes: Any) -> Change:
    def change(bundle: Bundle) -> Bundle:
        made = bundle.pay.voucher.replace(**changes)
        signature = bundle.pay.signature if key is None else sign_typed(ledger_domain(VERIFIER_KEY), made, key)
        return replace(bundle, pay=bundle.pay.replace(voucher=made, signature=signature))

    return change


CLIENT = SigningKey(b"\x77" * 32)
TAMPERED: dict[str, tuple[Change, str]] = {
    "R1 the order is a stranger's": (order_by_a_stranger, "not signed by the session's client"),
    "R1 the order is for another ledger": (other_order(venue=bytes(32)), "for another ledger"),
    "R1 the order has another policy": (laxer_policy, "policy is not the one"),
    "R1 the manifest is another model's": (
        lambda b: replace(b, manifest=b.manifest.replace(max_context=b.manifest.max_context + 1)),
        "manifest is not that",
    ),
    "R2 the checkpoint is another key's": (own_checkpoint, "not signed|does not verify|no signature"),
    "R2 the bundle names another ledger": (other_ledger, ""),
    "R3 an entry credits more": (richer("settled"), "not in the tree"),
    "R3 the opening entry is changed": (richer("opened"), "not in the tree"),
    "R3 an entry stands elsewhere": (proof("settled", index=1), ""),
    "R3 a proof is cut": (proof("settled", proof=()), ""),
    "R3 a proof is longer": (lambda b: proof("opened", proof=(*b.opened.proof, bytes(32)))(b), ""),
    "R4 another session was opened": (order_of_other_terms, "other terms"),
    "R4 the voucher is not what was settled": (voucher(CLIENT, tokens_out=MOST - 1), "voucher that was settled"),
    "R4 the entries are swapped": (lambda b: replace(b, opened=b.settled, settled=b.opened), ""),
    "R5 the voucher is not signed": (
        lambda b: replace(b, pay=b.pay.replace(signature=bytes(64))),
        "",
    ),
    "R5 the voucher is a provider's": (
        lambda b: replace(
            b, pay=b.pay.replace(signature=sign_typed(ledger_domain(VERIFIER_KEY), b.pay.voucher, OPERATOR))
        ),
        "voucher is not the client's",
    ),
    "R6 a receipt is not signed": (window(1, 1, millijoules=1), "receipt of leg 1 is not signed"),
    "R6 a receipt is another leg's": (window(1, 1, leg=2), "leg 2"),
    "R7 a sketch is another one": (window(0, 2, sketch=b"\x01" * 128), "sketch is not the one"),
    "R7 a window is missing": (lambda b: replace(b, windows=b.windows[:-1]), "receipts|windows"),
    "R7 a window is twice there": (lambda b: replace(b, windows=(*b.windows, b.windows[-1])), "windows do not add up"),
    "R7 a leg's receipt is missing": (
        lambda b: replace(b, windows=(b.windows[0][:2], *b.windows[1:])),
        "lacks the receipt of a leg",
    ),
    "R7 there are no windows": (lambda b: replace(b, windows=()), ""),
    "R7 neighbours do not meet": (window(2, 1, signer=1, input=bytes(32)), "leg 0 says it sent"),
    "R7 a leg counts otherwise": (window(2, 1, signer=1, tokens_out=3), "leg 1 counts"),
    "R7 a prompt token is another": (token(3), "leg 0 signed for another prompt"),
    "R7 a generated token is another": (token(len(PROMPT) + MOST - 1), "leg 2 signed for other tokens"),
    "R7 tokens are missing": (lambda b: replace(b, tokens=b.tokens[:-1]), "more tokens than there are"),
    "R8 the voucher names other receipts": (window(5, 0, signer=0, millijoules=1), "voucher names other receipts"),
    "R9 the close is no close": (lambda b: replace(b, closed=b.settled), ""),
}


@pytest.mark.parametrize("what", TAMPERED, ids=str)
def test_tampering_is_found_out(bundle: Bundle, what: str) -> None:
    change, complaint = TAMPERED[what]
    changed = change(bundle)
    assert changed != bundle
    with pytest.raises((DishonestError, MalformedError, SignatureError), match=complaint or None):
        verify_bundle(changed)


@pytest.mark.parametrize("name", ["order", "pay", "opened", "settled", "closed", "windows", "tokens"])
def test_parts_of_two_jobs_do_not_mix(bundles: list[Bundle], name: str) -> None:
    mine, other = bundles
    verify_bundle(other)
    if getattr(mine, name) == getattr(other, name):  # greedy answers to one prompt are the same
        assert name == "tokens"
        return
    with pytest.raises(PeerError):
        verify_bundle(replace(mine, **{name: getattr(other, name)}))


def relogged(bundle: Bundle, **entries: LogEntry) -> Bundle:
    """The same bundle by a ledger operator who signs for whatever is put into his log."""
    names = ("opened", "settled", "closed")
    logged = [entries.get(name, getattr(bundle, name).entry) for name in names]
    leaves = [leaf_hash(encode(entry)) for entry in logged]
    nodes: dict[Node, bytes] = {}
    tree = Frontier()
    for leaf in leaves:
        nodes |= dict(tree.append(leaf))
    note = sign_checkpoint(Checkpoint("memory", len(leaves), tree.root), LOG_KEY)
    proofs = {
        name: LedgerProof(entry, index, inclusion_proof(index, 3, lambda level, at: nodes[level, at]), note)
        for index, (name, entry) in enumerate(zip(names, logged, strict=True))
    }
    return replace(bundle, **proofs)


def test_a_ledger_cannot_say_what_the_client_did_not_sign(bundle: Bundle) -> None:
    verify_bundle(relogged(bundle))
    settled = bundle.settled.entry
    (effect,) = settled.sessions
    for sessions in ((), (effect.replace(session=bytes(32)),), (effect.replace(tokens_out=MOST + 1),)):
        with pytest.raises(DishonestError):
            verify_bundle(relogged(bundle, settled=settled.replace(sessions=sessions)))
        assert bundle.closed is not None
        with pytest.raises(DishonestError):
            verify_bundle(relogged(bundle, closed=bundle.closed.entry.replace(sessions=sessions)))
    genesis = encode(Genesis(verifier_key=VERIFIER_KEY, grace_s=GRACE_S, faucet_limit=0))
    with pytest.raises(MalformedError):
        verify_bundle(relogged(bundle, settled=settled.replace(op=settled.op.replace(action=genesis))))


def reopened(bundle: Bundle, **changes: Any) -> Bundle:
    """The same by a client who orders what no node would take, with a ledger that opens it."""
    order, _ = open_envelope(bundle.order, JobOrder)
    order = order.replace(**changes)
    opened = bundle.opened.entry
    action = encode(Open(session=order.session))
    changed = replace(bundle, order=seal(order, CLIENT))
    return relogged(changed, opened=opened.replace(op=opened.op.replace(action=action)))


def test_a_plan_that_no_window_follows_from_is_refused(bundle: Bundle) -> None:
    order, _ = open_envelope(bundle.order, JobOrder)
    for name in ("chunk", "window", "prompt"):
        with pytest.raises(PeerError):
            verify_bundle(reopened(bundle, plan=order.plan.replace(**{name: 0})))
    no_window = order.session.replace(window=0)
    with pytest.raises(PeerError):
        verify_bundle(reopened(bundle, session=no_window, plan=order.plan.replace(window=0)))
    with pytest.raises(PeerError):
        verify_bundle(reopened(bundle, hops=order.hops[:1]))


def test_receipts_for_endless_tokens_are_refused_at_once(bundle: Bundle) -> None:
    changed = bundle
    for leg in range(3):
        changed = window(5, leg, signer=leg, tokens_out=2**63 - 1)(changed)
    with pytest.raises(DishonestError, match="more tokens than there are"):
        verify_bundle(changed)


BAD_FILES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another format": lambda v: {**v, "format": "joulemesh-receipt/9"},
    "no format": lambda v: {name: value for name, value in v.items() if name != "format"},
    "a list": lambda v: [v],
    "a number": lambda v: 7,
    "null": lambda v: None,
    "no ledger": lambda v: {name: value for name, value in v.items() if name != "ledger"},
    "tokens are text": lambda v: {**v, "tokens": "abc"},
    "a token is a bool": lambda v: {**v, "tokens": [True, *v["tokens"][1:]]},
    "a token is too large": lambda v: {**v, "tokens": [2**32]},
    "a token is below zero": lambda v: {**v, "tokens": [-1]},
    "a token is a fraction": lambda v: {**v, "tokens": [1.0]},
    "windows are missing": lambda v: {**v, "windows": None},
    "a window is a text": lambda v: {**v, "windows": ["x"]},
    "a sketch is short": lambda v: {
        **v,
        "windows": [[{**v["windows"][0][0], "sketch": "AAAA"}, *v["windows"][0][1:]], *v["windows"][1:]],
    },
    "the order is not base64": lambda v: {**v, "order": "not base64!"},
    "the order is a number": lambda v: {**v, "order": 5},
    "the manifest is the order": lambda v: {**v, "manifest": v["order"]},
    "the voucher is cut": lambda v: {**v, "voucher": v["voucher"][:8]},
    "an index is below zero": lambda v: {
        **v,
        "ledger": {**v["ledger"], "opened": {**v["ledger"]["opened"], "index": -1}},
    },
    "an index is true": lambda v: {**v, "ledger": {**v["ledger"], "opened": {**v["ledger"]["opened"], "index": True}}},
    "a checkpoint is a number": lambda v: {
        **v,
        "ledger": {**v["ledger"], "settled": {**v["ledger"]["settled"], "checkpoint": 1}},
    },
    "a checkpoint is half a surrogate": lambda v: {
        **v,
        "ledger": {**v["ledger"], "settled": {**v["ledger"]["settled"], "checkpoint": "\ud800"}},
    },
    "the key is a number": lambda v: {**v, "verifier_key": 5},
    "the key is another text": lambda v: {**v, "verifier_key": "memory"},
}


@pytest.mark.parametrize("what", BAD_FILES, ids=str)
def test_a_file_that_is_no_receipt_is_told_so(bundle: Bundle, what: str) -> None:
    value = json.loads(dump_bundle(bundle, text=("", "")))
    data = json.dumps(BAD_FILES[what](value)).encode()
    with pytest.raises(PeerError):
        verify_bundle(load_bundle(data))


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'[1,"]",' * 50_000, b'{"format": "joulemesh-receipt/1"}']
)
def test_noise_is_no_receipt(data: bytes) -> None:
    with pytest.raises(MalformedError):
        load_bundle(data)
