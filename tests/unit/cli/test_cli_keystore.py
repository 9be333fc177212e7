"""The keystore: its files, and what other wallets make of them."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from brevity import at_length
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.keystore import LIGHT, Keystore, encrypt, generate, parse_keyfile
from protocol.errors import KeystoreError
from protocol.identity.ids import checksum_address
from protocol.identity.signing import SigningKey

# The scrypt and PBKDF2 vectors of the Web3 Secret Storage definition.
VECTOR_SECRET = bytes.fromhex("7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d")
VECTOR_PASSPHRASE = "testpassword"
SCRYPT_VECTOR = {
    "crypto": {
        "cipher": "aes-128-ctr",
        "cipherparams": {"iv": "83dbcc02d8ccb40e466191a123791e0e"},
        "ciphertext": "d172bf743a674da9cdad04534d56926ef8358534d458fffccd4e6ad2fbde479c",
        "kdf": "scrypt",
        "kdfparams": {
            "dklen": 32,
            "n": 262144,
            "p": 8,
            "r": 1,
            "salt": "ab0c7876052600dd703518d6fc3fe8984592145b591fc8fb5c6d43190334ba19",
        },
        "mac": "2103ac29920d71da29f15d75b4a16dbe95cfd7ff8faea1056c33131d846e3097",
    },
    "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
    "version": 3,
}
PBKDF2_VECTOR = {
    "crypto": {
        "cipher": "aes-128-ctr",
        "cipherparams": {"iv": "6087dab2f9fdbbfaddc31a909735c1e6"},
        "ciphertext": "5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46",
        "kdf": "pbkdf2",
        "kdfparams": {
            "c": 262144,
            "dklen": 32,
            "prf": "hmac-sha256",
            "salt": "ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd",
        },
        "mac": "517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2",
    },
    "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
    "version": 3,
}


@pytest.fixture
def store(tmp_path: Path) -> Keystore:
    return Keystore(tmp_path / "keys")


@pytest.mark.parametrize("vector", [SCRYPT_VECTOR, PBKDF2_VECTOR], ids=["scrypt", "pbkdf2"])
def test_the_vectors_of_the_definition_open(vector: dict[str, object]) -> None:
    assert parse_keyfile(json.dumps(vector).encode(), "vector").unlock(VECTOR_PASSPHRASE).secret == VECTOR_SECRET


def test_a_vector_with_another_passphrase_does_not_open() -> None:
    with pytest.raises(KeystoreError, match="wrong passphrase"):
        parse_keyfile(json.dumps(PBKDF2_VECTOR).encode(), "vector").unlock("testpasswort")


def test_a_kept_key_is_found_and_opened(store: Keystore) -> None:
    key = generate()
    kept = store.create("alice", key, "correct horse", work_factor=LIGHT)
    assert (kept.address, kept.public_key) == (key.address, key.public_key)
    assert store.find("alice").unlock("correct horse").secret == key.secret
    assert store.find(str(kept.path)).unlock("correct horse").secret == key.secret
    assert [each.name for each in store.list()] == ["alice"]


def test_the_wrong_passphrase_is_a_keystore_error(store: Keystore) -> None:
    store.create("alice", generate(), "correct horse", work_factor=LIGHT)
    with pytest.raises(KeystoreError, match="wrong passphrase") as caught:
        store.find("alice").unlock("battery staple")
    assert caught.value.code == "passphrase"


def test_only_the_owner_can_read(store: Keystore) -> None:
    kept = store.create("alice", generate(), "x", work_factor=LIGHT)
    assert kept.path is not None
    assert stat.S_IMODE(kept.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    kept.path.chmod(0o640)
    with pytest.raises(KeystoreError, match="others may read"):
        store.find("alice")


def test_a_key_is_never_overwritten(store: Keystore) -> None:
    first = store.create("alice", generate(), "x", work_factor=LIGHT)
    with pytest.raises(KeystoreError, match="already") as caught:
        store.create("alice", generate(), "x", work_factor=LIGHT)
    assert caught.value.code == "key-exists"
    assert store.find("alice").address == first.address
    assert [path.name for path in store.folder.iterdir()] == ["alice.json"], "no draft is left behind"


def test_a_key_that_appears_meanwhile_is_not_overwritten(store: Keystore, monkeypatch: pytest.MonkeyPatch) -> None:
    first = store.create("alice", generate(), "x", work_factor=LIGHT)
    monkeypatch.setattr(Path, "exists", lambda _: False)
    with pytest.raises(KeystoreError, match="already"):
        store.create("alice", generate(), "x", work_factor=LIGHT)
    assert store.find("alice").address == first.address


@pytest.mark.parametrize("name", ["", "../escape", "a/b", ".hidden", "x" * 65, "line\nbreak", "a.json"])
def test_a_name_that_is_no_file_name_is_refused(store: Keystore, name: str) -> None:
    with pytest.raises(KeystoreError, match="cannot be a key's name"):
        store.create(name, generate(), "x", work_factor=LIGHT)


def test_a_missing_key_says_how_to_make_one(store: Keystore) -> None:
    with pytest.raises(KeystoreError, match="no key 'bob'") as caught:
        store.find("bob")
    assert "joule key new --name bob" in caught.value.hint


def test_an_empty_passphrase_is_refused(store: Keystore) -> None:
    with pytest.raises(KeystoreError, match="empty"):
        store.create("alice", generate(), "", work_factor=LIGHT)


def test_a_passphrase_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(KeystoreError, match="UTF-8"):
        encrypt(generate(), "\udcff", LIGHT)


def test_an_unwritable_folder_is_a_keystore_error(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("a file")
    with pytest.raises(KeystoreError, match="cannot write"):
        Keystore(tmp_path / "keys").create("alice", generate(), "x", work_factor=LIGHT)


def test_eth_account_opens_what_is_exported(store: Keystore) -> None:
    from eth_account import Account

    key = generate()
    exported = store.create("alice", key, "correct horse", work_factor=LIGHT).exported()
    assert "public_key" not in json.loads(exported)
    assert bytes(Account.decrypt(exported, "correct horse")) == key.secret
    assert Account.from_key(key.secret).address == checksum_address(key.address)


@pytest.mark.parametrize("kdf", ["scrypt", "pbkdf2"])
def test_what_eth_account_writes_opens_here(kdf: str) -> None:
    from eth_account import Account

    account = Account.create()
    document = Account.encrypt(account.key, "correct horse", kdf=kdf, iterations=LIGHT)
    key = parse_keyfile(json.dumps(document).encode(), "theirs").unlock("correct horse")
    assert (key.secret, checksum_address(key.address)) == (bytes(account.key), account.address)


def _damaged(**changes: object) -> bytes:
    document = encrypt(SigningKey(VECTOR_SECRET), "x", LIGHT)
    crypto = {**document["crypto"], **{name: value for name, value in changes.items() if name in document["crypto"]}}
    rest = {name: value for name, value in changes.items() if name not in document["crypto"]}
    return json.dumps({**document, "crypto": crypto, **rest}).encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a keystore file"),
        (b"[]", "not a keystore file"),
        (b"{}", "it lacks 'version'"),
        (b'{"version": 3}', "it lacks 'crypto'"),
        (b'{"version": 3, "crypto": null}', "not a keystore file"),
        (b"[" * 10_000, "not a keystore file"),
        (b" " * 20_000, "too large"),
        (_damaged(version=4), "version 4"),
        (_damaged(kdf="argon2"), "neither scrypt nor pbkdf2"),
        (_damaged(kdfparams={"n": 2**40, "r": 8, "p": 1, "dklen": 32, "salt": ""}), "too much memory"),
        (_damaged(kdfparams={"n": 2, "r": 1, "p": 2**30, "dklen": 32, "salt": ""}), "too much memory"),
        (_damaged(kdf="pbkdf2", kdfparams={"c": 10**12, "prf": "hmac-sha256", "dklen": 32, "salt": ""}), "too much"),
        (_damaged(address="00" * 20), "public key is not that of its address"),
        (_damaged(address="00" * 19), "not an address"),
        (_damaged(public_key="zz"), "not a keystore file"),
    ],
)
def test_a_file_that_is_no_keystore_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(KeystoreError, match=message):
        parse_keyfile(data, "bad")


@pytest.mark.parametrize(
    "changes",
    [
        {"cipherparams": {}},
        {"ciphertext": 5},
        {"ciphertext": "zz"},
        {"mac": None},
        {"kdfparams": {"n": 4096, "r": 8, "p": 1, "dklen": 32}},
        {"kdfparams": {"n": 4095, "r": 8, "p": 1, "dklen": 32, "salt": "00"}},
        {"kdf": "pbkdf2", "kdfparams": {"c": 2, "dklen": 32, "salt": "00", "prf": "md5"}},
    ],
)
def test_a_damaged_file_does_not_open_and_does_not_crash(changes: dict[str, object]) -> None:
    with pytest.raises(KeystoreError):
        parse_keyfile(_damaged(**changes), "bad").unlock("x")


def test_a_file_that_names_another_address_does_not_open() -> None:
    other = encrypt(generate(), "x", LIGHT)
    data = _damaged(address=other["address"], public_key=other["public_key"])
    with pytest.raises(KeystoreError, match="not the key of the address"):
        parse_keyfile(data, "swapped").unlock("x")


@settings(max_examples=at_length(20), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    secret=st.integers(1, 2**255).map(lambda n: n.to_bytes(32, "big")),
    passphrase=st.text(st.characters(codec="utf-8"), min_size=1, max_size=40),
)
def test_any_secret_comes_back_under_any_passphrase(secret: bytes, passphrase: str) -> None:
    document = encrypt(SigningKey(secret), passphrase, 2)
    assert parse_keyfile(json.dumps(document).encode(), "any").unlock(passphrase).secret == secret


@pytest.mark.parametrize("params", [{"dklen": 2**33}, {"N": 2**30}, {"n": float("inf")}, {"dklen": "32"}, {"P": 65}])
def test_no_spelling_of_a_costly_derivation_passes(params: dict[str, object]) -> None:
    document = encrypt(generate(), "passphrase", LIGHT)
    document["crypto"]["kdfparams"].update(params)
    with pytest.raises(KeystoreError, match="not a keystore file"):
        parse_keyfile(json.dumps(document).encode(), "costly")
