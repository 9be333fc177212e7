"""Settings: files, variables and flags, and what is refused."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.config import ClientConfig, LedgerConfig, NodeConfig, WitnessConfig
from node.settings import declared, load, template
from node.settings.kinds import AUTO, Fixed, Span, Whole
from node.settings.places import Jurisdictions, Multiaddrs
from protocol.energy.tariff import MAX_MARGIN_PPM, MAX_MILLIJOULES_PER_TOKEN, MAX_PRICE, MAX_PUE_MILLI, MAX_TARIFF
from protocol.errors import ConfigurationError
from protocol.market.offer import Evidence
from protocol.policy.policy import LatencyClass
from protocol.routing.candidates import MAX_LATENCY_WEIGHT

WITNESS = "witness.example.org+4109eee4+BP/C4hlu9U89p0XWeYeMM0MT53bnZSj3/htoUtC6lWwb"
LOG = "ledger.example.org/main+7bcc7f72+AaQ9niQCYoLvF+SIyhXxzF9dVkGKS9S3ELVDFFMYA2zy"
CONFIGS = [NodeConfig, LedgerConfig, ClientConfig, WitnessConfig]


def required(cls: type[Any]) -> dict[str, str]:
    return {"model": "m"} if cls is NodeConfig else {}


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "settings.toml"
    file.write_text(text)
    return file


@pytest.mark.parametrize("cls", CONFIGS)
def test_the_template_parses_back_to_the_defaults(cls: type[Any], tmp_path: Path) -> None:
    file = written(tmp_path, template(cls, title="Settings"))
    assert load(cls, file=file, flags=required(cls)) == load(cls, flags=required(cls))


@pytest.mark.parametrize("cls", CONFIGS)
def test_the_template_names_every_setting_once_and_every_example_is_valid(cls: type[Any], tmp_path: Path) -> None:
    lines = template(cls, title="Settings").splitlines()
    for each in declared(cls):
        assert len([line for line in lines if line.removeprefix("# ").startswith(f"{each.name} = ")]) == 1
        document = tomllib.loads(f"value = {each.shown}", parse_float=Decimal)
        each.kind.parse(document["value"])


@pytest.mark.parametrize("cls", CONFIGS)
def test_names_flags_and_variables_are_unique(cls: type[Any]) -> None:
    settings = declared(cls)
    for attribute in ("name", "flag", "variable"):
        assert len({getattr(each, attribute) for each in settings}) == len(settings)
    assert all(each.variable != "JOULE_PASSPHRASE" for each in settings)


def test_a_flag_wins_over_a_variable_over_a_file_over_the_default(tmp_path: Path) -> None:
    file = written(tmp_path, "[ledger]\nport = 1\ngrace_s = 1\nhost = '10.0.0.1'\n")
    config = load(
        LedgerConfig,
        file=file,
        environment={"JOULE_PORT": "2", "JOULE_GRACE_S": "2"},
        flags={"port": "3", "host": None},
    )
    assert (config.port, config.grace_s, config.host, config.faucet_limit_micro) == (3, 2, "10.0.0.1", 0)


def test_an_empty_variable_counts_as_unset() -> None:
    assert load(LedgerConfig, environment={"JOULE_PORT": ""}).port == 8645


def test_decimal_numbers_become_integers_exactly(tmp_path: Path) -> None:
    file = written(
        tmp_path, '[model]\nmodel = "m"\n[energy]\nenergy_price = 0.08\npue = "1.35"\njoules_per_token = 10.8\n'
    )
    config = load(NodeConfig, file=file)
    assert (config.energy_price_micro_per_kwh, config.pue_milli, config.millijoules_per_token) == (
        80_000,
        1_350,
        10_800,
    )


def test_a_relative_path_in_a_file_is_meant_from_its_folder(tmp_path: Path) -> None:
    file = written(tmp_path, '[model]\nmodel = "models/tiny"\n')
    assert load(NodeConfig, file=file).model == Path("models/tiny")  # the name of a model, where there is none such
    (tmp_path / "models/tiny").mkdir(parents=True)
    assert load(NodeConfig, file=file).model == tmp_path / "models/tiny"
    assert load(NodeConfig, file=file, flags={"model": "elsewhere"}).model == Path("elsewhere")


def test_lists_come_from_toml_commas_and_repeated_flags(tmp_path: Path) -> None:
    file = written(tmp_path, '[policy]\nallow = ["de", "FR"]\n')
    assert load(ClientConfig, file=file).allow == ("DE", "FR")
    assert load(ClientConfig, environment={"JOULE_ALLOW": "de, fr"}).allow == ("DE", "FR")
    assert load(ClientConfig, flags={"allow": ("DE,fr", "EU", "DE")}).allow == ("DE", "FR", "EU")


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("[energy]\nenergy_prise = 1\n", r"unknown setting 'energy_prise' in \[energy\]", "did you mean energy_price?"),
        ("[model]\nenergy_price = 1\n", r"'energy_price' in \[model\]", "did you mean energy_price in [energy]?"),
        ("energy_price = 1\n", "'energy_price' at the top of", "did you mean energy_price in [energy]?"),
        ("[energy]\nzzz = 1\n", "unknown setting 'zzz'", "joule node init"),
        ("[enery]\npue = 1\n", r"unknown table \[enery\]", "did you mean [energy]?"),
        ("[zzz]\n", r"unknown table \[zzz\]", "its tables are"),
        ("energy = 1\n", "unknown setting 'energy' at the top", ""),
        ("[energy\n", "is not TOML", "joule node init"),
    ],
)
def test_what_a_file_may_not_hold_is_named(tmp_path: Path, text: str, message: str, hint: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(ConfigurationError, match=message) as caught:
        load(NodeConfig, file=file, flags={"model": "m"})
    assert hint in caught.value.hint
    assert str(file) in caught.value.message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot read"):
        load(LedgerConfig, file=tmp_path / "none.toml")


def test_a_required_setting_that_is_left_out_says_where_to_give_it() -> None:
    with pytest.raises(ConfigurationError, match="model is not set") as caught:
        load(NodeConfig)
    assert "--model DIR" in caught.value.hint
    assert "JOULE_MODEL" in caught.value.hint


CASES: list[tuple[type[Any], str, object, object]] = [
    (NodeConfig, "blocks", "0:2", "2:2"),
    (NodeConfig, "blocks", "3:4", "3"),
    (NodeConfig, "blocks", "0:1", "-1:2"),
    (NodeConfig, "ledger", "http://127.0.0.1:8645", "127.0.0.1:8645"),
    (NodeConfig, "ledger", "https://ledger.example.org", "ftp://ledger.example.org"),
    (NodeConfig, "ledger", "http://[::1]:1", "http://x:99999"),
    (NodeConfig, "peers", "/ip4/127.0.0.1/tcp/1/p2p/16Uiu2", "127.0.0.1:1"),
    (NodeConfig, "listen", "/ip4/0.0.0.0/tcp/4001", "0.0.0.0:4001"),
    (NodeConfig, "data_host", "node-1.example.org", "no spaces here"),
    (NodeConfig, "data_port", 65_535, 65_536),
    (NodeConfig, "data_port", 0, -1),
    (NodeConfig, "data_port", "4002", "4002.0"),
    (NodeConfig, "data_port", 1, True),
    (NodeConfig, "jurisdiction", "de", "EU"),
    (NodeConfig, "jurisdiction", "ZZ", "XX"),
    (NodeConfig, "energy_price", "25", "25.000001"),
    (NodeConfig, "energy_price", "0.000001", "0.0000001"),
    (NodeConfig, "energy_price", "0", "-0.01"),
    (NodeConfig, "energy_price", "1e-2", "nan"),
    (NodeConfig, "energy_price", "0.1", "inf"),
    (NodeConfig, "energy_price", 1, True),
    (NodeConfig, "energy_price", "0.1", [0.1]),
    (NodeConfig, "pue", "1", "0.999"),
    (NodeConfig, "joules_per_token", "0.001", "0"),
    (NodeConfig, "margin", 0, -1),
    (NodeConfig, "margin", 400, 401),
    (NodeConfig, "kv_tokens", 16, 15),
    (NodeConfig, "threads", 1, 0),
    (NodeConfig, "window", 1, 0),
    (NodeConfig, "model", "a", ""),
    (NodeConfig, "model", "a", 5),
    (NodeConfig, "model", "~/a", "~no-such-user/a"),
    (LedgerConfig, "name", "ledger.example.org/main", "two words"),
    (LedgerConfig, "name", "x" * 40, "x" * 41),
    (LedgerConfig, "name", "a", "a+b"),
    (LedgerConfig, "database", "postgresql://u@h/db", "db.sqlite"),
    (LedgerConfig, "grace_s", 0, -1),
    (LedgerConfig, "faucet_limit", "100", "lots"),
    (LedgerConfig, "witnessed_by", f"{WITNESS}@https://w.example", WITNESS),
    (LedgerConfig, "witnessed_by", [f"{WITNESS}@http://[::1]:80/a"], [f"{WITNESS}@ftp://w.example"]),
    (ClientConfig, "witnesses", WITNESS, f"{WITNESS}@https://w.example"),
    (ClientConfig, "witnesses", [WITNESS], [LOG]),
    (ClientConfig, "min_witnesses", 16, 17),
    (ClientConfig, "max_checkpoint_age_s", 0, -1),
    (WitnessConfig, "logs", f"{LOG},{LOG}@https://l.example", WITNESS),
    (WitnessConfig, "logs", LOG, LOG.replace("+", "-")),
    (WitnessConfig, "name", "x" * 64, "x" * 65),
    (ClientConfig, "temperature", "0.7", "10.1"),
    (ClientConfig, "seed", 2**63 - 1, 2**63),
    (ClientConfig, "allow", "EU,us", "EU,XX"),
    (ClientConfig, "deny", ["DE"], ["Germany"]),
    (ClientConfig, "deny", "DE", 5),
    (ClientConfig, "latency_class", "Chat", "slow"),
    (ClientConfig, "min_evidence", "attested", "sworn"),
    (ClientConfig, "key", "berlin", "bad\x00key"),
]


@pytest.mark.parametrize(("cls", "name", "good", "bad"), CASES)
def test_each_valid_value_has_an_invalid_neighbour(cls: type[Any], name: str, good: object, bad: object) -> None:
    load(cls, flags={**required(cls), name: good})
    flag = next(each.flag for each in declared(cls) if each.name == name)
    with pytest.raises(ConfigurationError) as caught:
        load(cls, flags={**required(cls), name: bad})
    assert caught.value.message.startswith(f"{flag}: ")
    assert caught.value.hint.startswith("it takes ")


def test_bounds_are_those_of_the_rules() -> None:
    high = {
        each.name: each.kind.parse(each.kind.high)
        for each in declared(NodeConfig)
        if isinstance(each.kind, (Fixed, Whole))
    }
    assert high["energy_price"] == MAX_TARIFF
    assert high["pue"] == MAX_PUE_MILLI
    assert high["joules_per_token"] == MAX_MILLIJOULES_PER_TOKEN
    assert high["overhead_price"] == high["capital_price"] == MAX_PRICE
    assert high["margin"] * 10_000 == MAX_MARGIN_PPM
    (weight,) = [each.kind for each in declared(ClientConfig) if each.name == "latency_weight"]
    assert weight.parse(weight.high) == MAX_LATENCY_WEIGHT


def test_choices_are_those_of_the_rules() -> None:
    choices = {each.name: getattr(each.kind, "options", ()) for each in declared(ClientConfig)}
    assert choices["latency_class"] == tuple(LatencyClass)
    assert choices["min_evidence"] == tuple(Evidence)


@given(value=st.integers(-(10**15), 10**15), places=st.integers(0, 9))
def test_a_decimal_is_read_back_as_it_was_shown(value: int, places: int) -> None:
    kind = Fixed("$", places, "-1e15", "1e15")
    literal = tomllib.loads(f"value = {kind.show(value)}", parse_float=Decimal)["value"]
    assert kind.parse(literal) == kind.parse(kind.show(value)) == value


@given(raw=st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.text()), st.dates()))
def test_no_value_makes_a_kind_fail_otherwise_than_it_says(raw: Any) -> None:
    for cls in CONFIGS:
        for each in declared(cls):
            try:
                each.kind.parse(raw)
            except ValueError:
                continue


@given(span=st.tuples(st.integers(0, 999), st.integers(1, 1000)).map(lambda pair: (pair[0], pair[0] + pair[1])))
def test_a_span_is_read_back_as_it_was_shown(span: tuple[int, int]) -> None:
    literal = tomllib.loads(f"value = {Span().show(span)}")["value"]
    assert Span().parse(literal) == span


def test_blocks_may_be_left_to_the_market() -> None:
    assert Span().parse(" Auto ") == AUTO
    assert tomllib.loads(f"value = {Span().show(AUTO)}")["value"] == AUTO
    with pytest.raises(ValueError, match="neither START:END nor auto"):
        Span().parse("automatic")


def test_lists_are_read_back_as_they_were_shown() -> None:
    for kind, value in ((Multiaddrs(), ("/ip4/1.2.3.4/tcp/1", "/dns/x/tcp/2")), (Jurisdictions(), ("DE", "EU"))):
        assert kind.parse(tomllib.loads(f"value = {kind.show(value)}")["value"]) == value
