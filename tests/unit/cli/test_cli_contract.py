"""`joule contract` says what is wrong with what it is given, before it asks a chain."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from joule_command import Outcome

ADDRESS = "0x5FbDB2315678afecb367f032d93F642f64180aa3"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("status", "foo"), "'foo' names no settlement contract"),
        (("status", f"evm:1:{ADDRESS}@ftp://x"), "names no settlement contract"),
        (("verify", "evm:1:0x12@http://127.0.0.1:1"), "'0x12' is not an address"),
        (("deploy", "--rpc", "http://127.0.0.1:1", "--token", "0x12"), "'0x12' is not an address"),
    ],
)
def test_what_is_no_contract_is_told_in_a_line(
    joule: Callable[..., Outcome], given: tuple[str, ...], said: str
) -> None:
    told = joule("contract", *given)
    assert told.status == 1
    assert told.err.startswith("error: ")
    assert said in told.err
    assert "defect" not in told.err
