"""Names of parties, sessions and models, and how each follows from the bytes behind it."""

from __future__ import annotations

from typing import Annotated, NewType

import sha3

from protocol.encoding.codec import Count, Message, Size, TextSize, Uint, encode, message
from protocol.errors import InvalidError

__all__ = [
    "MAX_BLOCKS",
    "MAX_TOKENS",
    "U32",
    "U40",
    "U64",
    "Address",
    "AddressBytes",
    "BlockNumber",
    "BlockSpan",
    "Bytes32",
    "ModelFile",
    "ModelManifest",
    "ModelRoot",
    "Name",
    "PublicKeyBytes",
    "SessionId",
    "SignatureBytes",
    "TokenId",
    "Tokens",
    "address_of",
    "checksum_address",
    "keccak256",
    "model_root",
    "parse_address",
]

MAX_BLOCKS = 4096
"""Of a model; more than ten times the deepest there is."""
MAX_TOKENS = 1 << 24
"""Of one session, prompt and answer, and so windows, too: more than the longest context of any model."""

U32 = Annotated[int, Uint(32)]
U40 = Annotated[int, Uint(40)]
U64 = Annotated[int, Uint(64)]
BlockNumber = Annotated[int, Uint(32, MAX_BLOCKS)]
Tokens = Annotated[int, Uint(32, MAX_TOKENS)]
"""A number of tokens, positions or windows of one session, or the place of one."""
TokenId = Annotated[int, Uint(32, (1 << 24) - 1)]
Bytes32 = Annotated[bytes, Size(32)]
AddressBytes = Annotated[bytes, Size(20)]
PublicKeyBytes = Annotated[bytes, Size(33)]
SignatureBytes = Annotated[bytes, Size(64)]
Name = Annotated[str, TextSize(96)]

Address = NewType("Address", bytes)
"""20 bytes: the EVM address of a party, which follows from its public key."""

SessionId = NewType("SessionId", bytes)
"""32 bytes: the EIP-712 struct hash of a session's terms."""

ModelRoot = NewType("ModelRoot", bytes)
"""32 bytes: what exactly is sold under a model's name: its files, precision and quantization."""


def keccak256(data: bytes) -> bytes:
    """Keccak-256 as Ethereum uses it (not the later SHA3-256)."""
    digest: bytes = sha3.keccak_256(data).digest()
    return digest


def address_of(uncompressed_public_key: bytes) -> Address:
    """The EVM address of a 65-byte uncompressed secp256k1 public key (Ethereum yellow paper, appendix F)."""
    return Address(keccak256(uncompressed_public_key[1:])[-20:])


def checksum_address(address: bytes) -> str:
    """``0x`` and 40 hex digits with the EIP-55 checksum in their case."""
    digits = address.hex()
    nibbles = keccak256(digits.encode()).hex()
    return "0x" + "".join(d.upper() if int(n, 16) >= 8 else d for d, n in zip(digits, nibbles, strict=False))


def parse_address(text: str) -> Address:
    """The address that `text` writes in hex; mixed case must carry a right EIP-55 checksum. Raises InvalidError."""
    digits = text.removeprefix("0x")
    try:
        address = Address(bytes.fromhex(digits))
    except ValueError:
        raise InvalidError(f"{text!r} is not an address", hint="an address is 0x and 40 hex digits") from None
    if (len(digits), len(address)) != (40, 20):  # fromhex passes over spaces
        raise InvalidError(f"{text!r} is not an address", hint="an address is 0x and 40 hex digits")
    if digits not in (digits.lower(), digits.upper()) and checksum_address(address) != "0x" + digits:
        raise InvalidError(f"{text!r} has a wrong checksum", hint="compare it with where you copied it from")
    return address


@message()
class BlockSpan(Message):
    """The transformer blocks ``[start, end)`` of a model."""

    start: BlockNumber
    """First block of the span."""
    end: BlockNumber
    """One past the last block; above `start`."""

    def __post_init__(self) -> None:
        Message.__post_init__(self)
        if self.start >= self.end:
            raise InvalidError(f"block span {self.start}:{self.end} is empty")

    def __str__(self) -> str:
        return f"{self.start}:{self.end}"

    def __len__(self) -> int:
        return self.end - self.start


@message()
class ModelFile(Message):
    """One file of a model directory."""

    name: Name
    """File name inside the directory, without folders."""
    size: Annotated[int, Uint(64, 1 << 50)]
    """Bytes."""
    sha256: Bytes32
    """SHA-256 of its content."""
    chunks: Bytes32
    """Root of the Merkle tree over its chunks, by which a part of the file is proven without the rest."""

    def __post_init__(self) -> None:
        Message.__post_init__(self)
        if self.name in ("", ".", "..") or "/" in self.name or "\\" in self.name:
            raise InvalidError(f"ModelFile.name: {self.name!r} is not the name of a file in a folder")


@message("model/1")
class ModelManifest(Message):
    """Everything that fixes what a model computes."""

    name: Name
    """A name for people; part of the root, so one root has one name."""
    license: Name = ""
    """The model's licence, an SPDX expression, as stated by whoever made the manifest; empty where it is not stated."""
    precision: Name
    """Number format of weights and activations: ``fp32``, ``bf16``; quantized forms are other products."""
    blocks: BlockNumber
    """Transformer blocks in the whole model."""
    hidden_size: Annotated[int, Uint(32, 1 << 20)]
    """Width of the activations between blocks."""
    vocabulary: Annotated[int, Uint(32, 1 << 24)]
    """Token ids are below this."""
    max_context: Tokens
    """Positions that the model can attend to."""
    stop_tokens: Annotated[tuple[TokenId, ...], Count(0, 16)]
    """Token ids that end an answer."""
    files: Annotated[tuple[ModelFile, ...], Count(1, 256)]
    """Configuration, tokenizer and weights, in ascending order of name, each once."""

    def __post_init__(self) -> None:
        Message.__post_init__(self)
        names = [file.name for file in self.files]
        if names != sorted(set(names)):
            raise InvalidError("ModelManifest.files: not in ascending order of name, each once")

    @property
    def root(self) -> ModelRoot:
        """What sessions and offers name the model by."""
        return model_root(self)


def model_root(manifest: ModelManifest) -> ModelRoot:
    """The hash that names a manifest."""
    return ModelRoot(keccak256(encode(manifest)))
