"""The example jobs of the specification hold, and each thing that breaks a clause is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from taken import take_voucher

from protocol.encoding.codec import decode, encode
from protocol.errors import PeerError
from protocol.identity.eip712 import recover_typed
from protocol.identity.ids import ModelManifest, checksum_address, keccak256
from protocol.identity.peer_id import peer_id_of
from protocol.identity.signing import SigningKey, open_envelope
from protocol.log.merkle import root_of
from protocol.log.note import VerifierKey
from protocol.market.offer import Offer, check_offer
from protocol.models.activations import from_wire
from protocol.receipts.bundle import verify_bundle
from protocol.receipts.bundle_file import load_bundle
from protocol.session.claim import Claim
from protocol.session.draws import check_nonce, window_seed
from protocol.session.fingerprint import SKETCH_BYTES, sketch
from protocol.session.frames import CLIENT_FRAMES, LEG_FRAMES, PEER_FRAMES, Discharged
from protocol.session.messages import Session, SignedReceipt, SignedVoucher, check_discharge, check_voucher, session_id
from protocol.session.metering import owed, stints, work_of
from protocol.session.order import JobOrder, check_acceptance, check_offer_of, check_order
from protocol.session.receipt import bytes_hash, check_receipt
from protocol.session.terms import Terms, open_reroutes, route_at, terms_hash
from protocol.settlement import ledger_domain
from protocol.settlement.evidence import check_opened

ROOT = Path(__file__).resolve().parents[2]
Json = dict[str, Any]
VECTORS: Json = json.loads((ROOT / "tests/vectors/job.json").read_text())
VERIFIER = VerifierKey.parse(VECTORS["ledger"]["verifier_key"])
DOMAIN = ledger_domain(str(VERIFIER))
MANIFEST = decode(bytes.fromhex(VECTORS["model"]["bytes"]), ModelManifest)
PROVIDERS = [bytes.fromhex(each["public_key"]) for each in VECTORS["parties"]["legs"]]
JOBS: list[Json] = VECTORS["jobs"]


def raw(text: str) -> bytes:
    return bytes.fromhex(text)


def parts(job: Json) -> tuple[Terms, Session]:
    return decode(raw(job["terms"]["bytes"]), Terms), decode(raw(job["session"]["bytes"]), Session)


def test_the_file_is_what_the_generator_writes() -> None:
    command = [sys.executable, "-m", "scripts.vectors.job", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_parties_have_the_names_that_follow_from_their_secrets() -> None:
    parties = VECTORS["parties"]
    for each in (parties["operator"], parties["client"], parties["stranger"], *parties["legs"]):
        key = SigningKey(raw(each["secret"]))
        assert (key.public_key.hex(), checksum_address(key.address)) == (each["public_key"], each["address"])
        assert peer_id_of(key.public_key) == each["peer_id"]
    assert DOMAIN.separator.hex() == VECTORS["ledger"]["domain_separator"]
    assert MANIFEST.root.hex() == VECTORS["model"]["root"]


@pytest.fixture(params=JOBS, ids=[job["name"] for job in JOBS])
def job(request: pytest.FixtureRequest) -> Json:
    found: Json = request.param
    return found


def test_what_was_agreed_has_its_names(job: Json) -> None:
    terms, session = parts(job)
    assert terms_hash(terms).hex() == job["terms"]["hash"] == session.terms.hex()
    assert session_id(session).hex() == job["session"]["id"]
    assert [keccak256(raw(each["sealed"])).hex() for each in job["offers"]] == [leg.offer.hex() for leg in terms.legs]


def test_every_voucher_pays_what_its_work_costs(job: Json) -> None:
    terms, session = parts(job)
    for each in job["vouchers"]:
        signed = decode(raw(each["bytes"]), SignedVoucher)
        check_voucher(DOMAIN, session, signed)
        for leg, (stint, said) in enumerate(zip(stints(terms, ()), each["work"], strict=True)):
            work = work_of(terms.plan, stint, each["positions"], late=said["late"])
            assert (work.tokens_in, work.tokens_out) == (said["tokens_in"], said["tokens_out"])
            assert owed(terms.legs[leg].rates, work) == signed.voucher.amounts[leg]


def test_the_windows_are_signed_over_the_bytes_that_the_file_shows(job: Json) -> None:
    terms, session = parts(job)
    for window in job["windows"]:
        receipts = [decode(raw(each["bytes"]), SignedReceipt) for each in window["receipts"]]
        received = [window["token_ids_in"], *window["rows_out"][:-1]]
        for signed, entered, left in zip(receipts, received, window["rows_out"], strict=True):
            check_receipt(DOMAIN, session, signed)
            assert signed.receipt.input == bytes_hash(raw(entered))
            assert signed.receipt.output == bytes_hash(raw(left))
        drawn = raw(window["token_ids_drawn"]), raw(window["log_probabilities"])
        assert receipts[-1].receipt.tokens == bytes_hash(*drawn)
        assert recover_typed(DOMAIN, receipts[0].receipt, receipts[0].signature) == session.legs[0].provider
        nonces = [signed.receipt.nonce for signed in receipts]
        client = raw(job["nonces"]["client"]["nonces"][window["index"]])
        check_nonce(terms.nonces, client, steps=window["index"] + 1)
        seed = window_seed(session_id(session), window["index"], client, nonces)
        assert seed.hex() == window["seed"]
        for leg, shown in enumerate(window["sketches"]):
            sent = from_wire(terms.activations, raw(window["rows_out"][leg]), MANIFEST.hidden_size)
            assert raw(shown)[SKETCH_BYTES:] == sketch(sent, seed)


def test_the_last_voucher_names_every_receipt(job: Json) -> None:
    rows = [*(window["receipts"] for window in job["windows"]), job["closing"]]
    leaves = [raw(each["leaf"]) for row in rows for each in row]
    assert root_of(leaves).hex() == job["receipts_root"] == job["vouchers"][-1]["fields"]["receipts"]


def test_every_frame_can_be_read(job: Json) -> None:
    for frame in job["frames"]:
        header = decode(raw(frame["header"]), *CLIENT_FRAMES, *PEER_FRAMES, *LEG_FRAMES)
        assert type(header).kind == frame["kind"]
        assert encode(header).hex() == frame["header"]


def test_the_bundle_verifies(job: Json) -> None:
    found = verify_bundle(load_bundle(job["bundle"].encode()))
    assert found.complete
    assert [seed.hex() for seed in found.seeds] == [window["seed"] for window in job["windows"]]
    assert list(found.amounts) == job["vouchers"][-1]["fields"]["amounts"]
    shown = json.loads(job["bundle"]) | job["withheld"]
    bare = verify_bundle(load_bundle(json.dumps(shown).encode()))
    assert replace(bare, withheld=False) == found


def test_reroutes_say_who_serves_what_and_what_each_has_earned() -> None:
    said = VECTORS["reroutes"]
    terms, session = decode(raw(said["terms"]), Terms), decode(raw(said["session"]), Session)
    found = open_reroutes([raw(each) for each in said["sealed"]], terms, session, blocks=MANIFEST.blocks)
    served = stints(terms, found)
    assert [{"joined": each.joined, "left": each.left} for each in served] == said["stints"]
    for each in said["routes"]:
        route = route_at(terms, found, each["position"])
        assert [[seat.leg, seat.span.start, seat.span.end] for seat in route] == each["route"]
    for each in said["amounts"]:
        work = [work_of(terms.plan, stint, each["positions"]) for stint in served]
        assert [owed(leg.rates, part) for leg, part in zip(terms.legs, work, strict=True)] == each["amounts"]


# What is refused


@pytest.mark.parametrize("wrong", VECTORS["reroutes"]["invalid"], ids=lambda wrong: wrong["name"])
def test_a_reroute_that_breaks_a_rule_is_refused(wrong: Json) -> None:
    said = VECTORS["reroutes"]
    terms, session = decode(raw(said["terms"]), Terms), decode(raw(said["session"]), Session)
    with pytest.raises(PeerError):
        open_reroutes([raw(each) for each in wrong["sealed"]], terms, session, blocks=MANIFEST.blocks)


def offer_check(said: Json) -> None:
    offer, signer = open_envelope(raw(said["sealed"]), Offer)
    check_offer(offer, signer, said["now"])


def order_check(said: Json) -> None:
    order, signer = open_envelope(raw(said["sealed"]), JobOrder)
    me = PROVIDERS[said["leg"]]
    check_order(order, signer, me=me, domain=DOMAIN, manifest=MANIFEST, now=said["now"])
    check_opened(order.opened, order.session, VERIFIER)
    limits = check_offer_of(order.terms.legs[order.leg], order.offer, order.terms, now=said["now"]).limits
    plan, credit = order.terms.plan, order.terms.credit
    if plan.window > limits.window or plan.chunk > limits.chunk or credit > limits.credit:
        raise PeerError("O10: what a node owes beside the rules that need no offer")


def acceptance_check(said: Json) -> None:
    terms, session = parts(JOBS[0])
    check_acceptance(raw(said["sealed"]), session, terms, said["leg"])


def voucher_check(said: Json) -> None:
    terms, session = parts(JOBS[0])
    claim = Claim(DOMAIN, session, terms, said["leg"], decode(raw(said["before"]), SignedVoucher))
    take_voucher(claim, decode(raw(said["bytes"]), SignedVoucher))


def discharge_check(said: Json) -> None:
    check_discharge(DOMAIN, parts(JOBS[0])[1], decode(raw(said["bytes"]), Discharged).signed)


def bundle_check(said: Json) -> None:
    value = json.loads(JOBS[0]["bundle"]) | said["edits"]
    for key in said.get("without", ()):
        del value[key]
    verify_bundle(load_bundle(json.dumps(value).encode()))


CHECKS: dict[str, Callable[[Json], None]] = {
    "offer": offer_check,
    "order": order_check,
    "acceptance": acceptance_check,
    "voucher": voucher_check,
    "discharge": discharge_check,
    "bundle": bundle_check,
}
VALID: list[Json] = [
    {"check": "offer", "sealed": JOBS[0]["offers"][0]["sealed"], "now": VECTORS["now"]},
    {"check": "order", "leg": 0, "sealed": JOBS[0]["orders"][0], "now": VECTORS["now"]},
    {"check": "acceptance", "leg": 0, "sealed": JOBS[0]["acceptances"][0]["sealed"]},
    {"check": "voucher", "leg": 1, "before": JOBS[0]["vouchers"][1]["bytes"], "bytes": JOBS[0]["vouchers"][2]["bytes"]},
    {"check": "discharge", "bytes": JOBS[0]["discharges"][0]["bytes"]},
    {"check": "bundle", "edits": {}},
]


@pytest.mark.parametrize("said", VALID, ids=[said["check"] for said in VALID])
def test_the_valid_neighbour_is_taken(said: Json) -> None:
    CHECKS[said["check"]](said)


@pytest.mark.parametrize(
    "said", VECTORS["invalid"], ids=[f"{said['clause']} {said['name']}" for said in VECTORS["invalid"]]
)
def test_what_breaks_a_clause_is_refused(said: Json) -> None:
    with pytest.raises(PeerError):
        CHECKS[said["check"]](said)


def test_every_clause_that_needs_no_more_than_bytes_has_an_example() -> None:
    found = {said["clause"] for said in VECTORS["invalid"]}
    wanted = {f"M{n}" for n in range(1, 5)} | {f"N{n}" for n in range(1, 6)} | {f"V{n}" for n in range(1, 6)}
    wanted |= {f"O{n}" for n in (*range(1, 4), *range(5, 11))} | {f"R{n}" for n in (1, 2, 3, *range(5, 13))} | {"V7"}
    assert wanted <= found
