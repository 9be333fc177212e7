"""Secret keys at rest: Web3 Secret Storage v3 files that other Ethereum wallets read and write.

A keystore is a folder (mode 0700) of files ``NAME.json`` (mode 0600). A file appears whole or not at all, and never
replaces another. What is encrypted is the 32-byte secret, under a passphrase, by scrypt; the address and the public key
stand beside it in clear, so that a key can be shown without its passphrase. This module never asks for one.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import re
import secrets
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from node.durable import create_file
from protocol.errors import InvalidError, KeystoreError, MalformedError
from protocol.identity.ids import Address, keccak256, parse_address
from protocol.identity.signing import SigningKey, address_of_public_key

__all__ = ["LIGHT", "STANDARD", "KeyFile", "Keystore", "generate", "parse_keyfile"]

STANDARD = 2**18
"""scrypt work factor n (r = 8, p = 1): what Ethereum wallets use; 256 MiB and about a second for one guess."""
LIGHT = 2**12
"""For throw-away keys on local networks, and for tests: 4 MiB and some milliseconds."""

MAX_KEYFILE_BYTES = 16 * 1024
_MAX_SCRYPT_BYTES = 2**30
_MAX_SCRYPT_PASSES = 64
_MAX_PBKDF2_ROUNDS = 10_000_000
_DERIVED_BYTES = 32
"""16 bytes encrypt, 16 authenticate; a file that asks for more asks for time and memory without end."""
_AES_BLOCK = 16
_SALT_BYTES = 32
_CIPHER = "aes-128-ctr"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_CLEAR = "public_key"
"""Our one addition to the format; other wallets ignore it, and exports leave it out."""


def generate() -> SigningKey:
    """A new key from the system's randomness."""
    while True:
        with contextlib.suppress(MalformedError):  # zero, or beyond the curve's order: about one in 2**127
            return SigningKey(secrets.token_bytes(32))


@dataclass(frozen=True, slots=True)
class KeyFile:
    """An encrypted key, as its file says; only `unlock` proves that the address is the key's."""

    name: str
    path: Path | None
    """Where it is kept; None while it is not."""
    document: dict[str, Any]
    """The v3 JSON."""
    address: Address | None
    """None where a file does not give it."""
    public_key: bytes | None
    """33 bytes, compressed; None where a file does not give it."""

    def unlock(self, passphrase: str) -> SigningKey:
        """The key. Raises KeystoreError for a wrong passphrase, or a file that is damaged."""
        try:
            key = SigningKey(_decrypted(self.document, _encoded(passphrase)))
        except _WrongPassphraseError:
            raise KeystoreError(
                f"wrong passphrase for the key {self.name!r}", code="passphrase", hint="a lost one cannot be recovered"
            ) from None
        except (ValueError, MemoryError) as error:
            raise KeystoreError(f"the key {self.name!r} cannot be decrypted: {error}") from None
        except (KeyError, TypeError, AttributeError, OverflowError, InvalidError) as error:
            raise KeystoreError(f"the key {self.name!r} is damaged ({type(error).__name__})") from None
        if self.address not in (None, key.address) or self.public_key not in (None, key.public_key):
            raise KeystoreError(f"the key {self.name!r} is not the key of the address that its file names")
        return key

    def exported(self) -> str:
        """The v3 JSON that other wallets import."""
        return json.dumps({name: value for name, value in self.document.items() if name != _CLEAR}, indent=2) + "\n"


def encrypt(key: SigningKey, passphrase: str, work_factor: int = STANDARD) -> dict[str, Any]:
    """The v3 document of a key. Raises KeystoreError for an empty passphrase."""
    if not passphrase:
        raise KeystoreError("the passphrase is empty", hint="choose one that you can keep")
    params = {"dklen": _DERIVED_BYTES, "n": work_factor, "p": 1, "r": 8, "salt": secrets.token_hex(_SALT_BYTES)}
    start = secrets.token_bytes(_AES_BLOCK)
    derived = _derived("scrypt", params, _encoded(passphrase))
    sealed = _aes_ctr(derived, start, key.secret)
    return {
        "version": 3,
        "id": str(uuid.uuid4()),
        "crypto": {
            "cipher": _CIPHER,
            "cipherparams": {"iv": start.hex()},
            "ciphertext": sealed.hex(),
            "kdf": "scrypt",
            "kdfparams": params,
            "mac": _mac(derived, sealed).hex(),
        },
        "address": key.address.hex(),
        _CLEAR: key.public_key.hex(),
    }


class _WrongPassphraseError(Exception):
    """What was derived is not what the key was sealed with."""


def _decrypted(document: dict[str, Any], passphrase: bytes) -> bytes:
    """The secret. Raises KeyError, TypeError, ValueError and the like for a document that is damaged."""
    crypto = _lowered(document["crypto"])
    if crypto["cipher"] != _CIPHER:
        raise ValueError(f"its cipher {crypto['cipher']!r} is not {_CIPHER}")
    derived = _derived(crypto["kdf"], _lowered(crypto["kdfparams"]), passphrase)
    sealed = _unhexed(crypto["ciphertext"])
    if not hmac.compare_digest(_mac(derived, sealed), _unhexed(crypto["mac"])):
        raise _WrongPassphraseError
    return _aes_ctr(derived, _unhexed(_lowered(crypto["cipherparams"])["iv"]), sealed)


def _derived(kdf: str, params: dict[str, Any], passphrase: bytes) -> bytes:
    salt = _unhexed(params["salt"])
    if kdf == "pbkdf2":
        return hashlib.pbkdf2_hmac("sha256", passphrase, salt, params["c"], params["dklen"])
    from Crypto.Protocol.KDF import scrypt  # OpenSSL's takes no n as large as the definition's own vector has

    found = scrypt(passphrase, salt, params["dklen"], N=params["n"], r=params["r"], p=params["p"])  # type: ignore[arg-type]
    return cast(bytes, found)


def _mac(derived: bytes, sealed: bytes) -> bytes:
    return keccak256(derived[_AES_BLOCK:] + sealed)


def _aes_ctr(derived: bytes, start: bytes, data: bytes) -> bytes:
    """Encrypts and decrypts alike."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    cipher = Cipher(algorithms.AES(derived[:_AES_BLOCK]), modes.CTR(start.rjust(_AES_BLOCK, b"\0"))).encryptor()
    return cipher.update(data) + cipher.finalize()


def _lowered(value: dict[str, Any]) -> dict[str, Any]:
    """Keys of any case count, the last one wins: as other wallets read them."""
    return {key.lower(): each for key, each in value.items()}


def _unhexed(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def _encoded(passphrase: str) -> bytes:
    try:
        return passphrase.encode()
    except UnicodeEncodeError:
        raise KeystoreError("the passphrase is not valid UTF-8", code="passphrase") from None


def parse_keyfile(data: bytes, name: str, path: Path | None = None) -> KeyFile:
    """The keystore file in `data`, of any wallet. Raises KeystoreError for anything that is none, or costs too much."""
    try:
        if len(data) > MAX_KEYFILE_BYTES:
            raise ValueError("it is too large")
        document = _lowered(json.loads(data))
        if document["version"] != 3:
            raise ValueError(f"it has version {document['version']!r}, not 3")
        _check_cost(_lowered(document["crypto"]))
        address = parse_address(document["address"]) if "address" in document else None
        public_key = bytes.fromhex(document[_CLEAR]) if _CLEAR in document else None
        if public_key is not None and address_of_public_key(public_key) != address:
            raise ValueError("its public key is not that of its address")
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise KeystoreError(f"{path or name} is not a keystore file: {what}") from None
    except (InvalidError, MalformedError) as error:
        raise KeystoreError(f"{path or name} is not a keystore file: {error.message}") from None
    return KeyFile(name, path, document, address, public_key)


def _check_cost(crypto: dict[str, Any]) -> None:
    """Refuse a file whose key derivation would take the machine's memory or an hour."""
    params = _lowered(crypto["kdfparams"])
    if _whole(params["dklen"]) != _DERIVED_BYTES:
        raise ValueError(f"it derives {params['dklen']} bytes, not {_DERIVED_BYTES}")
    if crypto["kdf"] == "scrypt":
        n, r, p = _whole(params["n"]), _whole(params["r"]), _whole(params["p"])
        cheap = n >= 1 and r >= 1 and 128 * n * r <= _MAX_SCRYPT_BYTES and 1 <= p <= _MAX_SCRYPT_PASSES
    elif crypto["kdf"] == "pbkdf2":
        if params["prf"] != "hmac-sha256":
            raise ValueError(f"its pseudo-random function {params['prf']!r} is not hmac-sha256")
        cheap = 1 <= _whole(params["c"]) <= _MAX_PBKDF2_ROUNDS
    else:
        raise ValueError(f"its key derivation {crypto['kdf']!r} is neither scrypt nor pbkdf2")
    if not cheap:
        raise ValueError("opening it would take too much memory or time")


def _whole(value: object) -> int:
    if type(value) is not int:
        raise ValueError(f"{str(value)[:40]!r} is not a whole number")
    return value


@dataclass(frozen=True, slots=True)
class Keystore:
    """The keys in one folder."""

    folder: Path

    def create(self, name: str, key: SigningKey, passphrase: str, *, work_factor: int = STANDARD) -> KeyFile:
        """Keep a key under a new name; durable once this returns.

        Raises:
            KeystoreError: the name is taken or unusable, the passphrase is empty, or the disk refuses.
        """
        path = self._path(name)
        if path.exists():
            raise _taken(name, path)
        document = encrypt(key, passphrase, work_factor)
        data = (json.dumps(document, indent=2) + "\n").encode()
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder.chmod(0o700)
            if not create_file(path, data):
                raise _taken(name, path)
        except OSError as error:
            raise KeystoreError(f"cannot write {path}: {error.strerror}") from None
        return parse_keyfile(data, name, path)

    def find(self, name: str) -> KeyFile:
        """A key by its name here, or by the path of its file anywhere.

        Raises:
            KeystoreError: there is none, it is no keystore file, or others may read it.
        """
        is_path = "/" in name or name.endswith(".json")
        path = Path(name).expanduser() if is_path else self._path(name)
        try:
            data, mode = path.read_bytes(), path.stat().st_mode
        except FileNotFoundError:
            make = "joule key new" if name == "default" else f"joule key new --name {path.stem}"
            hint = f"make one with `{make}`, or see `joule key list`"
            raise KeystoreError(f"there is no key {name!r} ({path})", code="no-key", hint=hint) from None
        except OSError as error:
            raise KeystoreError(f"cannot read {path}: {error.strerror}") from None
        if mode & 0o077:
            raise KeystoreError(f"others may read the key file {path}", hint=f"chmod 600 {path}")
        return parse_keyfile(data, path.stem, path)

    def list(self) -> tuple[KeyFile, ...]:
        """Every key here, by name. Raises KeystoreError at the first file that is none."""
        return tuple(self.find(str(path.absolute())) for path in sorted(self.folder.glob("*.json")))

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name) or name.endswith(".json"):
            hint = "use letters, digits, dots, dashes and underscores, 64 at most"
            raise KeystoreError(f"{name!r} cannot be a key's name", hint=hint)
        return self.folder / f"{name}.json"


def _taken(name: str, path: Path) -> KeystoreError:
    hint = "choose another with --name; a key file is never overwritten"
    return KeystoreError(f"there is a key {name!r} already ({path})", code="key-exists", hint=hint)
