"""What the client for Python programs refuses before it asks anybody."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.api import Client, WaitingClient
from node.keystore import LIGHT, Keystore, generate
from protocol.errors import ConfigurationError, KeystoreError


def test_a_setting_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no setting 'colour'"):
        Client(key=generate(), data_dir=tmp_path, colour="green")
    with pytest.raises(ConfigurationError, match="max-price-out"):
        Client(key=generate(), data_dir=tmp_path, max_price_out="much")


def test_a_key_is_given_by_name_or_as_it_is(tmp_path: Path) -> None:
    made = Keystore(tmp_path / "keys").create("mine", generate(), "open", work_factor=LIGHT)
    assert Client(key="mine", passphrase="open", data_dir=tmp_path).address == made.address
    other = generate()
    assert Client(key=other, data_dir=tmp_path).address == other.address
    with pytest.raises(KeystoreError, match="none"):
        Client(key="none", passphrase="open", data_dir=tmp_path)


def test_a_client_that_was_not_entered_says_so(tmp_path: Path) -> None:
    client = WaitingClient(key=generate(), data_dir=tmp_path)
    with pytest.raises(RuntimeError, match="enter the client first"):
        client.balance()
