"""The receipt of a job that was paid for: made from what is left of it, verified, and written to its file."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from node.durable import replace_file
from node.pipeline.buying.job import JobResult
from protocol.errors import LocalError, PeerError
from protocol.identity.ids import ModelManifest
from protocol.identity.signing import SigningKey
from protocol.receipts.bundle import Bundle, Verified, verify_bundle, without_text
from protocol.receipts.bundle_file import dump_bundle
from protocol.receipts.bundle_law import seal_round_trips
from protocol.receipts.bundle_text import seal_transcript
from protocol.session.messages import SignedReceipt
from protocol.session.receipt import Accepted

__all__ = ["Kept", "keep_bundle", "make_bundle", "new_receipt_file", "require_writable"]

_ANOTHER = "give --receipt another place"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What there is to show for a job."""

    bundle: Bundle | None
    """None where nothing was served, or nothing could be settled yet."""
    verified: Verified | None
    """What the bundle proves; None where there is none, or it does not hold."""
    file: Path | None
    """Where it was written."""


def require_writable(path: Path) -> None:
    """Raises LocalError for a place where no new file can be made: before the job is paid, not after."""
    if path.exists() or path.is_symlink():
        hint = "choose another name, or move it away: receipts are never overwritten"
        raise LocalError(f"{path} exists already", code="exists", hint=hint)
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise LocalError(f"cannot write {path}: no such folder, or not yours", hint=_ANOTHER)


def new_receipt_file(folder: Path) -> Path:
    """A place for another receipt, in a folder that is made where it is missing. Raises LocalError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise LocalError(f"cannot make the folder {folder}: {error.strerror}", hint="give --receipt FILE") from None
    return folder / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{time.monotonic_ns() % 10**6:06d}.json"


def make_bundle(
    result: JobResult,
    manifest: ModelManifest,
    *,
    verifier_key: str,
    key: SigningKey,
    text: tuple[str, str] | None = None,
) -> Bundle | None:
    """The evidence of a job; None where there is nothing that it could prove.

    Args:
        key: the client's, to seal what it says of `text`.
        text: prompt and answer for people.
    """
    deal, tab, book = result.deal, result.tab, result.tab.book
    accepted = all(leg in result.acceptances for leg in range(len(deal.terms.route)))
    if not accepted or result.pay is None or result.opened is None or result.settled is None:
        return None
    plan = deal.terms.plan
    covered = book.earned + (1 if book.earned >= plan.prompt else 0)
    rows = [window.receipts for window in book.windows] + ([tab.closing] if tab.closing else [])
    return Bundle(
        verifier_key=verifier_key,
        manifest=manifest,
        terms=deal.terms,
        session=deal.session,
        offers=tuple(chosen.sealed for chosen in deal.legs),
        acceptances=tuple(result.acceptances.get(leg, b"") for leg in range(len(deal.legs))),
        reroutes=tuple(tab.sealed_reroutes),
        tokens=tuple(tab.tokens[:covered]),
        said=tuple(tab.said[: max(0, covered - plan.prompt)]),
        windows=tuple(tuple(map(_signed_and_shown, row)) for row in rows),
        nonce=tab.nonce,
        pay=result.pay,
        opened=result.opened,
        settled=result.settled,
        released=result.released,
        transcript=None if text is None else seal_transcript(deal.session, text, key),
        text=text,
        trust=deal.law.trust,
        lists=tuple(each.sealed for each in deal.law.lists),
        measured=seal_round_trips(deal.session, deal.measured, key),
    )


def _signed_and_shown(accepted: Accepted) -> tuple[SignedReceipt, bytes]:
    return accepted.signed, accepted.sketches


def keep_bundle(bundle: Bundle | None, file: Path | None, *, text: str = "kept") -> Kept:
    """Write a bundle to a file that must not exist yet, and see what it proves. Raises LocalError.

    Args:
        text: ``withheld`` for one without prompt and answer.
    """
    if bundle is None:
        return Kept(bundle=None, verified=None, file=None)
    if text == "withheld":
        bundle = without_text(bundle)
    if file is not None:
        require_writable(file)
        try:
            replace_file(file, dump_bundle(bundle).encode())
        except OSError as error:
            raise LocalError(f"cannot write {file}: {error.strerror}", hint=_ANOTHER) from None
    return Kept(bundle=bundle, verified=_verified(bundle), file=file)


def _verified(bundle: Bundle) -> Verified | None:
    try:
        return verify_bundle(bundle)
    except PeerError:
        return None
