"""An answer that broke off, as a file: what is written is what is read, and nothing else is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from market_offers import key_of

from node.app.buying.continuing import Earlier
from node.app.buying.grammars import held_to_text, of_schema
from node.app.buying.unfinished import Unfinished, dump_unfinished, keep_unfinished, load_unfinished
from protocol.errors import ConfigurationError, LocalError
from protocol.identity.ids import BlockSpan
from protocol.session.grammar import grammar_of
from protocol.session.shaping import Shaping, TokenBias
from protocol.session.terms import SamplingTerms

LEGS = ((key_of(0).public_key, BlockSpan(start=0, end=2)), (key_of(1).public_key, BlockSpan(start=2, end=4)))
UNFINISHED = Unfinished(
    model=b"\x01" * 32,
    question="Why? 🙂",
    prompt=(1, 2, 3),
    answer=(4, 5),
    most=10,
    sampling=SamplingTerms(
        temperature_milli=700,
        seed=2**63 - 1,
        shaping=Shaping(frequency=2500, biases=(TokenBias(token=3, lift=1), TokenBias(token=9, lift=200_000))),
    ),
    earlier=Earlier(session=b"\x05" * 32, tokens=(1, 2, 3, 4, 5), proven=4, legs=LEGS),
)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    file = tmp_path / "x.json"
    keep_unfinished(UNFINISHED, file)
    return file


def test_what_is_written_is_read(kept: Path, tmp_path: Path) -> None:
    assert load_unfinished(kept.read_bytes()) == UNFINISHED
    with pytest.raises(LocalError, match="cannot write"):
        keep_unfinished(UNFINISHED, tmp_path / "no" / "such")


def test_what_is_still_wanted() -> None:
    request = UNFINISHED.request()
    assert request.prompt == (1, 2, 3, 4, 5)
    assert (request.most, request.model) == (8, "01" * 32)
    shaping = UNFINISHED.sampling.shaping
    assert shaping is not None
    assert request.sampling == UNFINISHED.sampling.replace(shaping=shaping.replace(answered=2))
    assert request.earlier is not None
    continued = request.earlier.continued_by(request.prompt)
    assert continued is not None
    assert continued.positions == 4


@pytest.mark.parametrize(
    "change",
    [
        {"format": "joulemesh-unfinished/2"},
        {"model": "01" * 31},
        {"model": ("01" * 32).upper().replace("01", "0A")},
        {"question": 5},
        {"prompt": []},
        {"prompt": [1, "2"]},
        {"prompt": [1, 2**32]},
        {"prompt": [1, True]},
        {"answer": []},
        {"answer": None},
        {"most": 2},
        {"most": "10"},
        {"temperature_milli": 10**7},
        {"temperature_milli": "1"},
        {"shaping": []},
        {"shaping": [1000, 2000, 5000, []]},
        {"shaping": [1000, 2000, 2500, [[1, 2, 3]]]},
        {"shaping": [1000, 2000, 2500, [[1, "2"]]]},
        {"seed": 7},
        {"seed": "-1"},
        {"seed": "9223372036854775808"},
        {"session": None},
        {"legs": []},
        {"legs": [["02" * 33, 0, 0]]},
        {"legs": [["02" * 33, 1, 2]]},
        {"legs": [["02" * 33, 0, 2], ["03" * 33, 3, 4]]},
        {"legs": [["02" * 33, 0, 2**40]]},
        {"legs": [["02" * 33, 0]]},
        {"legs": [["02" * 33, 0, 1]] * 17},
        {"proven": 6},
        {"proven": "4"},
        {"more": 1},
    ],
    ids=str,
)
def test_nothing_else_is(kept: Path, change: dict[str, Any]) -> None:
    value = json.loads(kept.read_bytes()) | change
    with pytest.raises(ConfigurationError) as refused:
        load_unfinished(json.dumps(value).encode())
    assert refused.value.code == "unfinished"
    assert "--resume" in refused.value.hint


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", b"[" * 10_000])
def test_no_file_of_ours(data: bytes) -> None:
    with pytest.raises(ConfigurationError):
        load_unfinished(data)


def test_an_answer_that_broke_off_keeps_its_grammar() -> None:
    text = of_schema({"type": "object"})
    sampling = UNFINISHED.sampling
    unfinished = replace(UNFINISHED, sampling=held_to_text(sampling, text), grammar=text)
    again = load_unfinished(dump_unfinished(unfinished))
    assert (again.grammar, again.sampling) == (text, sampling)
    assert again.request() == unfinished.request()
    shaping = again.request().sampling.shaping  # type: ignore[union-attr]
    assert shaping is not None
    assert (shaping.grammar, shaping.answered) == (grammar_of(text), 2)
