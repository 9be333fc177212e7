"""Files that a stranger may have written: models, keys, settings, scenarios, and what a client is told to read."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable

from node.app.buying.audit import BUNDLED_MODEL
from node.app.buying.continuing import Earlier
from node.app.buying.unfinished import Unfinished, dump_unfinished, load_unfinished
from node.app.models.chat import find_template
from node.app.models.obtaining import Text
from node.app.models.prompt import Prompt, load_messages
from node.config import AnchorConfig, ClientConfig, GatewayConfig, LedgerConfig, MarketConfig, NodeConfig, WitnessConfig
from node.keystore import LIGHT, KeyFile, encrypt, parse_keyfile
from node.model_directory import (
    HashMemory,
    dump_manifest,
    load_manifest,
    model_facts,
    model_manifest,
    read_header,
    tensor_places,
    weight_files,
)
from node.settings import load, template
from protocol.errors import ConfigurationError, KeystoreError, ModelError, PeerError
from protocol.identity.ids import BlockSpan
from protocol.session.shaping import Shaping, TokenBias
from protocol.session.terms import SamplingTerms
from scripts.fuzzing.files import in_file, in_folder
from scripts.fuzzing.mutators import lines, raw, several
from scripts.fuzzing.samples import VECTORS
from scripts.fuzzing.target import Mutator, Target
from scripts.fuzzing.trees import json_tree, safetensors
from scripts.vectors.parties import CLIENT
from simulator.scenario import BUNDLED, parse_scenario

__all__ = ["targets"]

_JSON: Mutator = several(json_tree(), json_tree(), raw)
_TOML: Mutator = several(lines, lines, raw)
_PASSPHRASE = "passphrase"  # noqa: S105 - of a key that holds nothing


def _model_file(name: str) -> bytes:
    return (BUNDLED_MODEL / name).read_bytes()


@functools.cache
def small_weights() -> bytes:
    """A safetensors file of the two tensors that a model of no blocks at all would have."""
    header = {
        "__metadata__": {"format": "pt"},
        "model.embed_tokens.weight": {"dtype": "F32", "shape": [4, 2], "data_offsets": [0, 32]},
        "model.norm.weight": {"dtype": "BF16", "shape": [2], "data_offsets": [32, 36]},
    }
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(36)


def _config(data: bytes) -> None:
    with in_folder("config", {}, "config.json", data) as folder:
        facts = model_facts(folder)
    assert facts.blocks > 0


def _generation(data: bytes) -> None:
    with in_folder("generation", {"config.json": _model_file("config.json")}, "generation_config.json", data) as folder:
        model_facts(folder)


def _weights(data: bytes) -> None:
    with in_folder("weights", {}, "model.safetensors", data) as folder:
        places = read_header(folder / "model.safetensors")
        assert sum(place.size for place in places.values()) <= len(data) * max(1, len(places))
        tensor_places(folder, places)


def _index(data: bytes) -> None:
    with in_folder("index", {"one.safetensors": small_weights()}, "model.safetensors.index.json", data) as folder:
        weight_files(folder)
        tensor_places(folder, ["model.embed_tokens.weight", "model.norm.weight"])


def _directory(data: bytes) -> None:
    others = {"model.safetensors": small_weights(), "tokenizer.json": b"{}"}
    with in_folder("directory", others, "config.json", data) as folder:
        manifest = model_manifest(folder)
    assert load_manifest(dump_manifest(manifest)) == manifest


def _manifest(data: bytes) -> None:
    manifest = load_manifest(data)
    assert load_manifest(dump_manifest(manifest)) == manifest


def _hashes(data: bytes) -> None:
    with in_file(data, "hashes.json") as path:
        HashMemory(path)


def _tokenizer(data: bytes) -> None:
    text = Text(data)
    for token in text.encode("Where is the ball?\n  été 日本 aaaaaaaaaaaaaaaaaaaaaaaa")[:64]:
        text.piece(token)
    text.decode([0, 1, 2, 2**31])


def _tokenizer_config(data: bytes) -> None:
    find_template(data, None)


def _keyfile(data: bytes) -> None:
    parse_keyfile(data, "name")


def _unlock(data: bytes) -> None:
    parsed: KeyFile = parse_keyfile(data, "name")
    params = parsed.document["crypto"].get("kdfparams", {})
    work = int(params.get("n", 1)) * int(params.get("r", 1)) * int(params.get("p", 1)) + int(params.get("c", 1))
    if work <= 8 * LIGHT:  # a costly one is allowed, and takes its time
        parsed.unlock(_PASSPHRASE)


def _keyfiles() -> list[bytes]:
    from eth_account import Account

    rounds = Account.encrypt(CLIENT.secret, _PASSPHRASE, kdf="pbkdf2", iterations=2)
    cheap = encrypt(CLIENT, _PASSPHRASE, 2)
    return [
        json.dumps(cheap).encode(),
        json.dumps(rounds).encode(),
        (VECTORS / "stored" / "key.json").read_bytes(),
    ]


def _settings(cls: type) -> Callable[[bytes], None]:
    def run(data: bytes) -> None:
        with in_file(data, "settings.toml") as path:
            load(cls, file=path, flags={"model": "model"} if cls is NodeConfig else None)

    return run


_MARKET = b"[network]\nledger = 'http://127.0.0.1:1'\n"


def _written(cls: type) -> Callable[[], list[bytes]]:
    def seeds() -> list[bytes]:
        text = template(cls, title="settings")
        return [text.encode(), text.replace("\n# ", "\n").encode(), b"[local]\nlog_level = 'info'\n", _MARKET]

    return seeds


def _scenario(data: bytes) -> None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return
    parse_scenario(text)


def _messages(data: bytes) -> None:
    assert Prompt(messages=load_messages(data)).shown


def _message_files() -> list[bytes]:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where is Tom?"}]
    return [json.dumps(turns).encode(), json.dumps(turns[1:]).encode()]


def _unfinished(data: bytes) -> None:
    found = load_unfinished(data)
    assert load_unfinished(dump_unfinished(found)) == found
    assert found.request().most


def _unfinished_files() -> list[bytes]:
    legs = ((CLIENT.public_key, BlockSpan(start=0, end=4)),)
    earlier = Earlier(session=bytes(32), tokens=(1, 2, 3), proven=2, legs=legs)
    shaping = Shaping(repetition_milli=1_200, frequency=2_500, biases=(TokenBias(token=3, lift=7),))
    sampling = SamplingTerms(temperature_milli=700, seed=3, shaping=shaping, logprobs=5)
    broken_off = Unfinished(
        model=bytes(32), question="Who?", prompt=(1, 2), answer=(3,), most=9, sampling=sampling, earlier=earlier
    )
    return [dump_unfinished(broken_off)]


def _manifests() -> list[bytes]:
    return [dump_manifest(model_manifest(BUNDLED_MODEL))]


def _indices() -> list[bytes]:
    places = {"model.embed_tokens.weight": "one.safetensors", "model.norm.weight": "one.safetensors"}
    return [json.dumps({"metadata": {"total_size": 36}, "weight_map": places}).encode()]


def _hash_memories() -> list[bytes]:
    key = json.dumps(["/models/a/model.safetensors", 1, 2, 3, 4, 5, ""])
    return [json.dumps({"format": "joulemesh-hashes/2", "hashes": {key: 2 * hashlib.sha256(b"").hexdigest()}}).encode()]


def _models() -> list[Target]:
    model = (ModelError,)
    config = functools.partial(_model_file, "config.json")
    tokenizer = functools.partial(_model_file, "tokenizer.json")
    settings = functools.partial(_model_file, "tokenizer_config.json")
    named = b'{"chat_template": [{"name": "default", "template": "{{ bos_token }}"}], "bos_token": {"content": "<s>"}}'
    return [
        Target(name="model-config", seeds=lambda: [config()], run=_config, errors=model, mutators=(_JSON,)),
        Target(
            name="model-generation",
            seeds=lambda: [_model_file("generation_config.json")],
            run=_generation,
            errors=model,
            mutators=(_JSON,),
            short=500,
        ),
        Target(
            name="model-weights",
            seeds=lambda: [small_weights()],
            run=_weights,
            errors=model,
            mutators=(safetensors,),
        ),
        Target(name="model-index", seeds=_indices, run=_index, errors=model, mutators=(_JSON,)),
        Target(
            name="model-directory",
            seeds=lambda: [config()],
            run=_directory,
            errors=model,
            mutators=(_JSON,),
            short=200,
            long=200_000,
        ),
        Target(name="model-manifest", seeds=_manifests, run=_manifest, errors=model, mutators=(_JSON,), short=500),
        Target(name="model-hashes", seeds=_hash_memories, run=_hashes, errors=(), mutators=(_JSON,)),
        Target(
            name="tokenizer",
            seeds=lambda: [tokenizer()],
            run=_tokenizer,
            errors=(PeerError, ModelError),
            mutators=(_JSON,),
            short=200,
            long=200_000,
            native=True,
        ),
        Target(
            name="tokenizer-config",
            seeds=lambda: [settings(), named],
            run=_tokenizer_config,
            errors=model,
            mutators=(_JSON,),
        ),
    ]


def targets() -> list[Target]:
    """See the module."""
    configuration = (ConfigurationError,)
    return [
        *_models(),
        Target(name="key-file", seeds=_keyfiles, run=_keyfile, errors=(KeystoreError,), mutators=(_JSON,)),
        Target(
            name="key-file-unlocked",
            seeds=lambda: _keyfiles()[:2],
            run=_unlock,
            errors=(KeystoreError,),
            mutators=(_JSON,),
            short=200,
            long=200_000,
        ),
        *(
            Target(
                name=f"settings-{name}",
                seeds=_written(cls),
                run=_settings(cls),
                errors=configuration,
                mutators=(_TOML,),
                short=150,
                long=200_000,
            )
            for name, cls in (
                ("node", NodeConfig),
                ("ledger", LedgerConfig),
                ("client", ClientConfig),
                ("witness", WitnessConfig),
                ("gateway", GatewayConfig),
                ("market", MarketConfig),
                ("anchor", AnchorConfig),
            )
        ),
        Target(
            name="scenario",
            seeds=_scenarios,
            run=_scenario,
            errors=configuration,
            mutators=(_TOML,),
            short=150,
            long=200_000,
        ),
        Target(name="messages-file", seeds=_message_files, run=_messages, errors=configuration, mutators=(_JSON,)),
        Target(name="unfinished", seeds=_unfinished_files, run=_unfinished, errors=configuration, mutators=(_JSON,)),
    ]


def _scenarios() -> list[bytes]:
    return [path.read_bytes() for path in sorted(BUNDLED.glob("*.toml"))]
