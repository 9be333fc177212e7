"""The receipt verifier in JavaScript says what the one in Python says: of the vectors, and in a browser."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from served_page import served_page
from web_driver import browser, has_browser

from node.page.view import CheckpointView, ClientView, NetworkView, PageState
from protocol.chain.chain_evidence import ChainProof, Inclusion, check_chain_proof
from protocol.chain.contract import Contract
from protocol.chain.rlp import rlp
from protocol.chain.trie import trie_proof, trie_root
from protocol.encoding.codec import decode, encode
from protocol.errors import PeerError
from protocol.identity.ids import keccak256
from protocol.session.messages import session_id

ROOT = Path(__file__).resolve().parents[3]
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="no Node.js here")
Json = dict[str, Any]
JOBS: Json = json.loads((ROOT / "tests/vectors/job.json").read_text())
CHAIN: Json = json.loads((ROOT / "tests/vectors/chain.json").read_text())
SESSIONS: Json = json.loads((ROOT / "tests/vectors/sessions.json").read_text())
WITHIN = {**{f"N{number}": "R1" for number in range(1, 6)}, "N6": "R2", "N7": "R5", "O6": "R2", "O9": "R2", "V2": "R9"}
"""The clause of a receipt that asks for those of others."""
TOGETHER = {"R5", "R6", "R7", "R8"}
"""Looked at window by window: what breaks one may be told by another."""
CLAUSES_THAT_HOLD = "document.querySelectorAll('.clauses .ok')"


async def nothing() -> PageState:
    """What a page shows that knows of nothing."""
    newest = CheckpointView(origin="joulemesh/d3878a7bfe1a", size=1, root=b"\xfe" * 32)
    network = NetworkView(venue="", error="", checkpoint=newest, witnesses=0, models=(), places=(), offers=(), heard=0)
    client = ClientView(address=None, free=None, markets=(), spent=0, receipts=(), kept=0)
    return PageState(at=0, network=network, nodes=(), client=client)


def verdicts(bundles: list[str]) -> list[Json]:
    """What the page's verifier says of each."""
    assert NODE is not None
    done = subprocess.run(
        [NODE, str(ROOT / "tests/support/verify_receipts.mjs")],
        input=json.dumps(bundles), capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: list[Json] = json.loads(done.stdout)
    return found


def edited(bundle: str, said: Json) -> str:
    value = json.loads(bundle) | said["edits"]
    for key in said.get("without", ()):
        del value[key]
    return json.dumps(value)


def broken(verdict: Json) -> str:
    return next((each["clause"] for each in verdict["clauses"] if each["holds"] is False), "")


@needs_node
def test_every_vector_is_judged_as_in_python() -> None:
    """In one process, for starting one is most of the work."""
    cases = SESSIONS["cases"]
    valid = [job["bundle"] for job in (*JOBS["jobs"], *cases)]
    valid += [json.dumps(json.loads(job["bundle"]) | job["withheld"]) for job in JOBS["jobs"]]
    wrong = [(JOBS["jobs"][0]["bundle"], said) for said in JOBS["invalid"] if said["check"] == "bundle"]
    wrong += [(case["bundle"], said) for case in cases for said in case["invalid"]]
    found = verdicts([*valid, *(edited(*each) for each in wrong)])
    for verdict in found[: len(valid)]:
        assert verdict["verified"], verdict
        assert all(each["holds"] for each in verdict["clauses"])
    for (_, said), verdict in zip(wrong, found[len(valid) :], strict=True):
        assert not verdict["verified"], said["name"]
        clause = said["clause"]
        among = TOGETHER if clause in TOGETHER else {WITHIN.get(clause, clause)}
        assert broken(verdict) in among, (said["name"], verdict)
        after = [each["holds"] for each in verdict["clauses"]]
        assert after[after.index(False) + 1 :].count(True) == 0  # what comes later was not looked at
    assert [verdict["proven"]["withheld"] for verdict in found[: len(valid)]] == [
        json.loads(each)["tokens"] is None for each in valid
    ]
    paid = JOBS["jobs"][0]["vouchers"][-1]["fields"]["amounts"]
    assert found[0]["proven"]["amounts"] == [str(each) for each in paid]


@needs_node
def test_files_that_are_none_are_refused_and_nothing_worse() -> None:
    good = JOBS["jobs"][0]["bundle"]
    deep = "[" * 100_000
    files = [
        "", "null", "[]", "{}", deep, '{"format": "joulemesh-receipt/3"}', good[:-40], good + "x",
        good.replace('"format"', '"format": "joulemesh-receipt/3",\n "format"', 1),
        good.replace('"about": "', '"about": "\\ud800', 1),
        good.replace('"tokens": [', '"tokens": [1.5,', 1), good.replace('"tokens": [', '"tokens": [-1,', 1),
        good.replace('"tokens": [', '"tokens": [9007199254740993,', 1), good.replace("joulemesh-receipt/3", "\x00", 1),
    ]  # fmt: skip
    for text, verdict in zip(files, verdicts(files), strict=True):
        assert broken(verdict) == "R12", text[:80]


# Of a contract


def shown(pieces: list[bytes]) -> list[Json]:
    """What the page's verifier says of evidence from the contract of the vectors."""
    assert NODE is not None
    done = subprocess.run(
        [NODE, str(ROOT / "tests/support/check_evidence.mjs")],
        input=json.dumps({"contract": CHAIN["contract"], "pieces": [each.hex() for each in pieces]}),
        capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: list[Json] = json.loads(done.stdout)
    return found


def included(evidence: bytes, place: int, beside: int, **changes: Any) -> bytes:
    """The same, in a block of so many others, with a receipt that says that it was taken."""
    proof = decode(evidence, ChainProof)
    receipts = [b"\x02" + rlp([b"\x01" if at != place else changes.get("status", b"\x01"), at + 1, b"\0" * 64, []])
                for at in range(beside + 1)]  # fmt: skip
    others = [b"\x02" + bytes([at % 250]) * 40 for at in range(beside + 1)]
    others[place] = proof.transaction
    fields = [bytes(32)] * 16
    fields[4], fields[5] = trie_root(others), trie_root(receipts)
    fields[8], fields[11] = (n.to_bytes(8, "big").lstrip(b"\0") for n in (proof.block, proof.time))
    header = rlp(fields)
    inclusion = Inclusion(
        header=header,
        number=changes.get("number", place),
        transactions=trie_proof(others, changes.get("shown", place)),
        receipts=trie_proof(receipts, place),
    )
    block_hash = changes.get("block_hash", keccak256(header))
    return encode(proof.replace(block_hash=block_hash, block=changes.get("block", proof.block), inclusion=inclusion))


@needs_node
def test_evidence_from_a_contract_is_read_as_in_python() -> None:
    """With a block that holds it and without, in one process."""
    cases = [(bytes.fromhex(each["evidence"]), "error" not in each) for each in CHAIN["cases"]]
    opened = cases[0][0]
    cases += [
        (included(opened, *where), True) for where in ((0, 0), (0, 3), (1, 1), (127, 200), (128, 200), (200, 300))
    ]
    cases += [
        (included(opened, 3, 9, **wrong), False)
        for wrong in ({"status": b""}, {"number": 4}, {"shown": 4}, {"block": 6}, {"block_hash": bytes(32)})
    ]
    whole = decode(included(opened, 5, 200), ChainProof)
    assert whole.inclusion is not None
    nodes = whole.inclusion.transactions
    for other in (nodes[:-1], (*nodes, nodes[-1]), nodes[::-1]):
        cases.append((encode(whole.replace(inclusion=whole.inclusion.replace(transactions=other))), False))
    found = shown([piece for piece, _ in cases])
    contract = Contract.parse(CHAIN["contract"])
    for (piece, holds), said in zip(cases, found, strict=True):
        try:
            call = check_chain_proof(decode(piece, ChainProof), contract).call
        except PeerError:
            assert not holds
            assert "refused" in said, said
            continue
        assert holds
        after = [(session_id(each.session).hex(), *map(_texts, (each.settled, each.ceilings))) for each in call.after]
        assert [(each["session"], each["settled"], each["ceilings"]) for each in said["sessions"]] == after
        assert (said["action"], said["actor"]) == (type(call.action).__name__, call.action.actor.hex())


def _texts(numbers: tuple[int, ...]) -> list[str]:
    return [*map(str, numbers)]


@needs_node
def test_a_contract_has_its_own_domain_and_evidence() -> None:
    """A ledger's receipt is none of a contract's, nor of what only looks like one."""
    bundle = json.loads(JOBS["jobs"][0]["bundle"])
    for name in (f"evm:1:0x{'00' * 20}", "evm:01:0x" + "00" * 20, "evm:1:0x" + "aB" * 20, "evm:"):
        (verdict,) = verdicts([json.dumps(bundle | {"verifier_key": name})])
        assert broken(verdict) == "R1"


@pytest.mark.long
@needs_node
def test_every_forgery_of_other_tests_is_judged_as_in_python(tmp_path: Path) -> None:
    """All receipts that the tests of the rules ask about, whatever is wrong with them."""
    told = tmp_path / "verdicts.jsonl"
    files = sorted((ROOT / "tests/unit/protocol").glob("test_forged_*.py"))
    files += [ROOT / "tests/unit/protocol" / name for name in ("test_bundle.py", "test_bundle_law.py")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "told_verdicts", *map(str, files)]
    paths = os.pathsep.join((str(ROOT), str(ROOT / "tests/support")))
    subprocess.run(command, cwd=ROOT, env={**os.environ, "VERDICTS": str(told), "PYTHONPATH": paths}, check=True)
    asked = [json.loads(line) for line in told.read_text().splitlines()]
    found = verdicts([each["bundle"] for each in asked])
    for each, verdict in zip(asked, found, strict=True):
        assert verdict["verified"] is each["taken"], (each["why"], broken(verdict))
    assert sum(not each["taken"] for each in asked) > 100


@pytest.mark.skipif(not has_browser(), reason="no browser (Debian: apt-get install chromium chromium-driver)")
@pytest.mark.asyncio
async def test_in_a_browser_a_receipt_is_looked_at_clause_by_clause(tmp_path: Path) -> None:
    job = JOBS["jobs"][0]
    good, bad = tmp_path / "good.json", tmp_path / "<b>bad.json"
    good.write_text(job["bundle"])
    bad.write_text(json.dumps(json.loads(job["bundle"]) | {"text": {"prompt": "<img src=x>", "answer": ""}}))
    async with served_page(nothing) as url, browser(tmp_path / "profile") as window:
        await window.be(360, 740)
        await window.open(url)
        await window.until("document.querySelector('.mono')")
        assert await window.run("return document.documentElement.scrollWidth") == 360, "nothing sticks out on a phone"
        await window.open(f"{url}#verify")
        await window.give_file("#receipt", good)
        assert await window.until("document.getElementById('said')?.textContent") == "All of it holds."
        held = await window.run(
            "return [...document.querySelectorAll('.clauses .ok')].map((each) => each.dataset.clause)"
        )
        assert held == ["R12", *(f"R{number}" for number in range(1, 12))]
        await window.give_file("#receipt", bad)
        broken_one = "document.querySelector('.clauses .fail')"
        assert "R11: does not hold" in await window.until(f"{broken_one}?.textContent")
        # Its name is a stranger's word, and the page still asks nobody else.
        assert await window.run("return document.querySelector('#verdict h3').textContent") == bad.name
        asked = await window.run(
            "return performance.getEntriesByType('resource').map((each) => new URL(each.name).origin)"
        )
        assert {*asked} <= {url.rstrip("/")}
