"""The receipts of a data directory: which there are, and whether each verifies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from protocol.errors import JoulemeshError, LocalError

if TYPE_CHECKING:
    from protocol.receipts.bundle import Bundle

__all__ = ["ListedReceipt", "list_kept", "listed", "read_bundle"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedReceipt:
    """A file among the receipts."""

    file: Path
    """Where it is."""
    time: int
    """Unix seconds of the file's last change: it is written at the end of a job."""
    model: str | None
    """Its name; null where the file is no receipt."""
    tokens_in: int | None
    """Prompt tokens that were paid; null where it does not verify."""
    tokens_out: int | None
    """Generated tokens that were paid; null where it does not verify."""
    paid: int | None
    """Micro-units over all legs; null where it does not verify."""
    verified: bool
    """Whether it verifies offline."""
    error: dict[str, str] | None
    """``code``, ``message`` and ``hint`` where it does not."""


def read_bundle(file: Path) -> Bundle:
    """The bundle in a file. Raises LocalError for a file that cannot be read, MalformedError for another one."""
    from protocol.receipts.bundle_file import load_bundle

    try:
        return load_bundle(file.read_bytes())
    except OSError as error:
        hint = "give the file that `joule run` wrote"
        raise LocalError(f"cannot read {file}: {error.strerror}", code="no-receipt", hint=hint) from None


def list_kept(data_dir: Path) -> list[ListedReceipt]:
    """Those of a data directory, newest first, each verified offline."""
    found = map(listed, (data_dir / "receipts").glob("*.json"))
    return sorted(found, key=lambda each: (each.time, str(each.file)), reverse=True)


def listed(file: Path) -> ListedReceipt:
    """A receipt as it stands in the list, whatever is in the file."""
    from protocol.receipts.bundle import verify_bundle

    written, model = int(file.stat().st_mtime), None
    try:
        bundle = read_bundle(file)
        model = bundle.manifest.name
        verified = verify_bundle(bundle)
    except JoulemeshError as error:
        told = {"code": error.code, "message": error.message, "hint": error.hint}
        return ListedReceipt(
            file=file, time=written, model=model, tokens_in=None, tokens_out=None, paid=None, verified=False, error=told
        )
    return ListedReceipt(
        file=file,
        time=written,
        model=model,
        tokens_in=verified.tokens_in,
        tokens_out=verified.tokens_out,
        paid=sum(verified.amounts),
        verified=True,
        error=None,
    )
