"""Receipt files that break one clause each: what to put in the place of which keys of the valid one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from protocol.encoding.codec import decode, encode
from protocol.identity.eip712 import sign_typed
from protocol.identity.signing import SigningKey, open_envelope, seal
from protocol.log.checkpoint import Checkpoint, sign_checkpoint
from protocol.log.merkle import inclusion_proof, leaf_hash
from protocol.log.note import NoteKey
from protocol.receipts.bundle import Bundle
from protocol.receipts.bundle_file import dump_bundle
from protocol.session.fingerprint import SKETCH_BYTES, sketch
from protocol.session.logprobs import LogProb, pack_said, unpack_said
from protocol.session.messages import SignedReceipt, sign_voucher
from protocol.session.metering import served
from protocol.session.order import Acceptance
from protocol.session.receipt import drawn_hash, sketches_hash, yielded_by
from protocol.settlement.evidence import LogProof
from protocol.settlement.operations import Settle
from scripts.vectors.log import Log, new_log, proof_of
from scripts.vectors.parties import CLIENT, DOMAIN, LOG_KEY, NOW, PROVIDERS, STRANGER, VOCABULARY
from scripts.vectors.talk import rows_of

if TYPE_CHECKING:
    from scripts.vectors.job import ExampleJob

__all__ = ["wrong_bundles"]

Json = dict[str, Any]
OTHER = b"\x99" * 32


def wrong_bundles(job: ExampleJob) -> Iterator[Json]:
    """Each with its `edits`: keys of the JSON object, and what they hold instead; `without`: keys that are gone."""
    valid = json.loads(dump_bundle(job.bundle))

    def one(name: str, clause: str, bundle: Bundle) -> Json:
        other = json.loads(dump_bundle(bundle))
        edits = {key: value for key, value in other.items() if value != valid[key]}
        return {"name": name, "clause": clause, "check": "bundle", "edits": edits}

    from scripts.vectors.job import two_legs

    yield one("the last leg was told of another prompt", "R7", two_legs(told=(3, 1, 4, 1, 6)).bundle)
    for clause, name, change in _CHANGES:
        yield one(name, clause, change(job))
    yield {"name": "a key more", "clause": "R12", "check": "bundle", "edits": {"answer": "yes"}}
    yield {"name": "a key less", "clause": "R12", "check": "bundle", "edits": {}, "without": ["transcript"]}
    odd = valid["nonce"][:-1].rstrip("=") if valid["nonce"].endswith("=") else valid["nonce"] + "="
    yield {"name": "base64 in another spelling", "clause": "R12", "check": "bundle", "edits": {"nonce": odd}}
    for name, value in (("no log probabilities", None), ("those of a part of a token", valid["logprobs"][:-4])):
        yield {"name": name, "clause": "R12", "check": "bundle", "edits": {"logprobs": value}}
    yield {"name": "another format", "clause": "R12", "check": "bundle", "edits": {"format": "joulemesh-receipt/1"}}


# Terms, offers, answers


def _other_terms(job: ExampleJob) -> Bundle:
    sampling = job.terms.sampling.replace(temperature_milli=0)
    return replace(job.bundle, terms=job.terms.replace(sampling=sampling))


def _other_manifest(job: ExampleJob) -> Bundle:
    return replace(job.bundle, manifest=job.bundle.manifest.replace(name="other"))


def _other_offer(job: ExampleJob) -> Bundle:
    return replace(job.bundle, offers=(job.offers[1], job.offers[0]))


def _no_acceptance(job: ExampleJob) -> Bundle:
    return replace(job.bundle, acceptances=(b"", job.bundle.acceptances[1]))


def _acceptance_by_another(job: ExampleJob) -> Bundle:
    acceptance, _ = open_envelope(job.bundle.acceptances[0], Acceptance)
    return replace(job.bundle, acceptances=(seal(acceptance, STRANGER), job.bundle.acceptances[1]))


# The log


def _proof_bent(job: ExampleJob) -> Bundle:
    proof = decode(job.bundle.settled, LogProof)
    bent = (OTHER, *proof.proof[1:])
    return replace(job.bundle, settled=encode(proof_of(proof.entry, proof.index, bent, proof.checkpoint)))


def _checkpoint_by_another(job: ExampleJob) -> Bundle:
    key = NoteKey(LOG_KEY.verifier.name, b"\x07" * 32)
    return replace(job.bundle, settled=job.log.prove(job.settled, key=key))


def _two_logs(job: ExampleJob) -> Bundle:
    """The settling entry in another log of the same ledger, of the same size as the one that the release is in."""
    log, other = job.log, new_log()
    for taken in log.taken[2:]:
        other.do(CLIENT, taken.action, now=taken.entry.time + 1)
    size = len(log.taken)
    leaf = leaf_hash(encode(other.taken[job.opened.index].entry))
    other.nodes[0, job.opened.index] = leaf
    return replace(job.bundle, opened=_prove_at(other, job.opened.index, size))


def _prove_at(log: Log, index: int, size: int) -> bytes:
    proof = inclusion_proof(index, size, lambda level, at: log.nodes[level, at])
    note = sign_checkpoint(Checkpoint(LOG_KEY.verifier.name, size, log.tree.root), LOG_KEY)
    return encode(proof_of(encode(log.taken[index].entry), index, proof, note))


def _settled_before_opened(job: ExampleJob) -> Bundle:
    return replace(job.bundle, opened=job.bundle.settled, settled=job.bundle.opened)


def _settled_too_little(job: ExampleJob) -> Bundle:
    """An earlier voucher was settled than the one in the file."""
    log = new_log()
    log.do(CLIENT, job.opened.action, now=NOW)
    settle = Settle(actor=CLIENT.address, nonce=log.next_nonce(CLIENT), vouchers=(job.talk.vouchers[-3],))
    taken = log.do(CLIENT, settle, now=NOW + 20)
    return replace(job.bundle, opened=log.prove(log.taken[2]), settled=log.prove(taken), released=None)


# Receipts

Change = Callable[[SignedReceipt, bytes], tuple[SignedReceipt, bytes]]


def _at(job: ExampleJob, window: int, leg: int, change: Change) -> Bundle:
    rows = [list(row) for row in job.bundle.windows]
    rows[window][leg] = change(*rows[window][leg])
    return replace(job.bundle, windows=tuple(map(tuple, rows)))


def _saying(key: SigningKey, **changes: object) -> Change:
    def change(signed: SignedReceipt, sketches: bytes) -> tuple[SignedReceipt, bytes]:
        receipt = signed.receipt.replace(**changes)
        return SignedReceipt(receipt=receipt, signature=sign_typed(DOMAIN, receipt, key)), sketches

    return change


def _bent_sketches(signed: SignedReceipt, sketches: bytes) -> tuple[SignedReceipt, bytes]:
    return signed, bytes([sketches[0] ^ 1]) + sketches[1:]


def _another_seed(job: ExampleJob) -> Bundle:
    """All legs are honest, and were given a seed that the client made up."""
    window, tokens = job.talk.tab.book.windows[1], job.talk.tab.tokens
    row = []
    for leg, (signed, shown) in enumerate(job.bundle.windows[2]):
        entered = bytes(SKETCH_BYTES) if leg == 0 else sketch(rows_of(leg - 1, tokens, window.start, window.end), OTHER)
        shown = entered + sketch(rows_of(leg, tokens, window.start, window.end), OTHER)
        row.append(_saying(PROVIDERS[leg], sketches=sketches_hash([(OTHER, shown)]))(signed, shown))
    rows = job.bundle.windows
    return replace(job.bundle, windows=(*rows[:2], tuple(row), *rows[3:]))


def _without_receipt(job: ExampleJob) -> Bundle:
    rows = job.bundle.windows
    return replace(job.bundle, windows=(rows[0][:1], *rows[1:]))


def _without_window(job: ExampleJob) -> Bundle:
    rows = job.bundle.windows
    return replace(job.bundle, windows=(*rows[:1], *rows[2:]))


def _another_answer(job: ExampleJob) -> Bundle:
    tokens = list(job.bundle.tokens)
    tokens[-2] += 1
    return replace(job.bundle, tokens=tuple(tokens))


def _longer_answer(job: ExampleJob) -> Bundle:
    return replace(job.bundle, tokens=(*job.bundle.tokens, 1))


def _other_said(job: ExampleJob, change: Callable[[list[LogProb]], list[LogProb]], *, signed: bool = False) -> Bundle:
    """Of the last token that its window yields something else is said, and signed for by the leg where that is so."""
    index, window = 2, job.talk.tab.book.windows[2]
    said, plan = list(job.bundle.said), job.terms.plan
    first, last = (served(plan, at)[1] for at in (window.start, window.end))
    said[last - 1] = pack_said(change(list(unpack_said(said[last - 1]))))
    other = replace(job, bundle=replace(job.bundle, said=tuple(said)))
    drawn = yielded_by(plan, job.bundle.tokens, window.start, window.end)
    return _at(other, index, 1, _saying(_LEG1, tokens=drawn_hash(drawn, said[first:last]))) if signed else other.bundle


def _less_likely(said: list[LogProb]) -> list[LogProb]:
    return [said[0], said[1]._replace(millionths=said[1].millionths - 1), *said[2:]]


def _of_a_token_less(job: ExampleJob) -> Bundle:
    return replace(job.bundle, said=job.bundle.said[:-1])


def _another_nonce(job: ExampleJob) -> Bundle:
    return replace(job.bundle, nonce=OTHER)


# The voucher and the text


def _voucher(job: ExampleJob, key: SigningKey = CLIENT, **changes: object) -> Bundle:
    voucher = job.bundle.pay.voucher.replace(**changes)
    return replace(job.bundle, pay=sign_voucher(DOMAIN, voucher, key))


def _more_tokens(job: ExampleJob) -> Bundle:
    return _voucher(job, tokens_out=job.terms.plan.most)


def _overpaid(job: ExampleJob) -> Bundle:
    amounts = job.bundle.pay.voucher.amounts
    return _voucher(job, amounts=(amounts[0] + 1, *amounts[1:]))


def _another_text(job: ExampleJob) -> Bundle:
    return replace(job.bundle, text=("3 1 4 1 5", "an answer that nobody gave"))


def _text_alone(job: ExampleJob) -> Bundle:
    return replace(job.bundle, transcript=None)


_LEG0, _LEG1 = PROVIDERS[:2]
_CHANGES: tuple[tuple[str, str, Callable[[ExampleJob], Bundle]], ...] = (
    ("N1", "other terms", _other_terms),
    ("R1", "the manifest of another model", _other_manifest),
    ("O6", "offers in another order", _other_offer),
    ("R2", "a leg that accepted nothing", _no_acceptance),
    ("O9", "an acceptance by another node", _acceptance_by_another),
    ("R3", "a proof that leads elsewhere", _proof_bent),
    ("R3", "a checkpoint by another key", _checkpoint_by_another),
    ("R3", "two logs of one size", _two_logs),
    ("R3", "entries out of order", _settled_before_opened),
    ("R5", "a window without the receipt of a leg", _without_receipt),
    ("R5", "a window that is left out", _without_window),
    ("R5", "a receipt signed by another leg", lambda job: _at(job, 1, 1, _saying(_LEG0))),
    ("R6", "a token too many", lambda job: _at(job, 1, 1, _saying(_LEG1, tokens_out=2))),
    ("R6", "energy that falls", lambda job: _at(job, 2, 0, _saying(_LEG0, millijoules=1))),
    ("R6", "energy without a source", lambda job: _at(job, 0, 1, _saying(_LEG1, millijoules=5))),
    ("R7", "neighbours that do not meet", lambda job: _at(job, 1, 1, _saying(_LEG1, input=OTHER))),
    ("R7", "tokens drawn by the first leg", lambda job: _at(job, 1, 0, _saying(_LEG0, tokens=OTHER))),
    ("R7", "another answer", _another_answer),
    ("R7", "a longer answer", _longer_answer),
    ("R7", "other log probabilities than were signed for", lambda job: _other_said(job, _less_likely)),
    ("R7", "the log probabilities of a token less", _of_a_token_less),
    ("R7", "likeliest out of order", lambda job: _other_said(job, lambda it: it[:1] + it[:0:-1], signed=True)),
    ("R7", "a token that is named twice", lambda job: _other_said(job, lambda it: [*it[:2], it[1]], signed=True)),
    (
        "R7",
        "a token that there is not, and its log probability",
        lambda job: _other_said(job, lambda it: [*it[:2], it[2]._replace(token=VOCABULARY)], signed=True),
    ),
    (
        "R7",
        "the log probabilities of another token",
        lambda job: _other_said(job, lambda it: [it[0]._replace(token=0), *it[1:]], signed=True),
    ),
    ("R8", "other sketches than were signed", lambda job: _at(job, 2, 1, _bent_sketches)),
    ("R8", "sketches under a seed that the client made up", _another_seed),
    ("R8", "a nonce that was not committed to", lambda job: _at(job, 1, 0, _saying(_LEG0, nonce=OTHER))),
    ("R8", "a client's nonce that was not committed to", _another_nonce),
    ("V2", "a voucher signed by somebody else", lambda job: _voucher(job, STRANGER)),
    ("R9", "a voucher over other receipts", lambda job: _voucher(job, receipts=OTHER)),
    ("R9", "a voucher that pays more than was earned", _overpaid),
    ("R9", "a voucher for tokens at the price of fewer", _more_tokens),
    ("R10", "less settled than the voucher says", _settled_too_little),
    ("R11", "another text", _another_text),
    ("R11", "a text without its client's word", _text_alone),
    ("R11", "the text of tokens that are withheld", lambda job: replace(job.bundle, tokens=None, said=())),
)
