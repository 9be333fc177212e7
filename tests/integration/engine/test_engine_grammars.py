"""Answers of real models held to a schema: valid whatever is drawn, the same however it is computed, and audited."""

from __future__ import annotations

import json
import resource
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from checkpoints import write_tokenizer
from engine_ring import ok
from spot_checks import MODEL, seat, tolerance
from tokenizers import Tokenizer

from node.app.buying.grammars import held_to_text, of_schema
from node.engine import masks as made_by
from node.engine.audit import Replayed, Window, replay
from node.engine.engine import Engine
from node.engine.masks import Holder, find_masks, try_grammar
from node.model_directory import model_facts
from node.ports import StepInput
from protocol.errors import RefusedError
from protocol.receipts.audit import Observation, Verdict, judge
from protocol.session.grammar import MASKS, grammar_of
from protocol.session.shaping import LookBack, look_back, shaping_of
from protocol.session.terms import SamplingTerms

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "maxItems": 2, "items": {"enum": ["red", "kite", "drum"]}},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
TEXT = of_schema(SCHEMA)
PROMPT = [5, 9, 200, 31, 9, 77]
MOST = 120
PENALTIES = shaping_of(repetition_milli=1200, frequency_milli=300, presence_milli=0, biases=((12, 1500),))


def sampling(seed: int, **more: object) -> SamplingTerms:
    warm = {"temperature_milli": 1200 if seed else 0, "seed": seed}
    return held_to_text(SamplingTerms(**(warm | more)), TEXT)  # type: ignore[arg-type]


def served(
    engine: Engine, terms: SamplingTerms, *, text: bytes = TEXT, right: Sequence[int] = (), chunk: int = 512
) -> list[int]:
    """An answer; with the right tokens, or others, as drafts of four at a time where they are given."""
    engine.open(b"s", max_tokens=len(PROMPT) + MOST + 8, sampling=terms)
    seen, tokens, fed = look_back(terms.shaping, PROMPT, text), list(PROMPT), 0
    stops = engine.facts.stop_tokens
    while len(tokens) == len(PROMPT) or (len(tokens) < len(PROMPT) + MOST and tokens[-1] not in stops):
        while len(tokens) - fed > chunk:
            part = tokens[fed : fed + chunk]
            ok(engine.forward([StepInput(session=b"s", position=fed, length=chunk, data=part, draws=0)])[0])
            fed += chunk
        sure = list(right)[len(tokens) - len(PROMPT) :][: 4 if fed else 0]
        guesses = [each if at % 3 else (each + 1) % 300 for at, each in enumerate(sure, len(tokens))]
        data = [*tokens[fed:], *guesses]
        before = seen.with_more(tokens[len(PROMPT) :])
        item = StepInput(session=b"s", position=fed, length=len(data), data=data, draws=1 + len(sure), before=before)
        drawn = ok(engine.forward([item])[0]).tokens
        same = next((at for at, each in enumerate(guesses) if each != drawn[at]), len(guesses))
        new = list(drawn[: same + 1])
        ended = next((at + 1 for at, each in enumerate(new) if each in stops), len(new))
        tokens.extend(new[:ended])
        fed = len(tokens) - 1
    engine.close(b"s")
    return tokens[len(PROMPT) :][:MOST]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load(MODEL, 0, 6, kv_tokens=512)


def check(directory: Path, tokens: Sequence[int]) -> None:
    value = json.loads(Tokenizer.from_file(str(directory / "tokenizer.json")).decode(list(tokens)))
    assert list(value) == ["name", "age", "tags"]
    assert len(value["name"]) <= 8
    assert type(value["age"]) is int
    assert 0 <= value["age"] <= 120
    assert len(value["tags"]) <= 2
    assert set(value["tags"]) <= {"red", "kite", "drum"}


def test_the_demo_model_writes_json_by_the_schema(engine: Engine) -> None:
    assert engine.masks == MASKS
    cuts = ({}, {"top_k": 3}, {"top_p_ppm": 500_000}, {"shaping": PENALTIES})
    for seed in range(5):
        tokens = served(engine, sampling(seed, **cuts[seed % 4]))
        assert tokens[-1] in engine.facts.stop_tokens
        check(MODEL, tokens)


def test_a_random_model_does_so_too(checkpoint, tmp_path: Path) -> None:
    """Nothing but the mask keeps this one to anything."""
    source: Path = checkpoint("llama")
    for file in source.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "tokenizer.json").unlink(missing_ok=True)
    (tmp_path / "tokenizer_config.json").unlink(missing_ok=True)
    random = Engine.load(source, 0, 4, kv_tokens=512)
    write_tokenizer(tmp_path, random.facts.vocabulary)
    random = Engine.load(tmp_path, 0, 4, kv_tokens=512)
    assert random.facts.stop_tokens
    for seed in range(6):
        tokens = served(random, sampling(seed))
        if tokens[-1] in random.facts.stop_tokens:  # else it is cut off
            check(tmp_path, tokens)
        else:
            assert len(tokens) == MOST


def test_drafts_and_chunks_change_nothing(engine: Engine) -> None:
    terms = sampling(3, shaping=PENALTIES)
    tokens = served(engine, terms)
    assert served(engine, terms, right=tokens) == tokens
    assert served(engine, terms, chunk=2) == tokens


def test_a_mask_is_a_function_of_the_answer(engine: Engine) -> None:
    """Whatever a matcher has seen before, taken back, or come to the end of."""
    found = find_masks(MODEL, engine.facts)
    assert found is not None
    terms = sampling(1)
    assert terms.shaping is not None
    assert terms.shaping.grammar is not None
    ends = [served(engine, sampling(seed))[:-1] for seed in (1, 2, 4)]
    holder, chance = Holder(found, terms.shaping.grammar), np.random.default_rng(5)
    for _ in range(40):
        of = ends[int(chance.integers(len(ends)))]
        before = LookBack(np.zeros(0, dtype=np.int64), tuple(of[: int(chance.integers(len(of) + 1))]), TEXT)
        fresh = Holder(found, terms.shaping.grammar).allowed(before)
        assert (holder.allowed(before) == fresh).all()
        assert len(before.answer) == len(of) or fresh[of[len(before.answer)]]
    whole = LookBack(np.zeros(0, dtype=np.int64), tuple(ends[0]), TEXT)
    assert np.flatnonzero(holder.allowed(whole)).tolist() == list(engine.facts.stop_tokens)
    assert holder.allowed(whole.with_more(engine.facts.stop_tokens)).all(), "what is drawn after the end counts no more"
    with pytest.raises(RefusedError):
        holder.allowed(whole.with_more([PROMPT[0]]))


def audited(tokens: Sequence[int], terms: SamplingTerms, text: bytes = TEXT) -> tuple[Replayed, Verdict]:
    """The window with all of the answer, drawn again and judged; its rows are those of an honest leg."""
    whole, start = [*PROMPT, *tokens], len(PROMPT) - 1
    windows = [Window(0, start, bytes(32)), Window(start, len(whole) - 1, bytes(32))]
    again = replay(MODEL, [6], whole, windows, sampling=terms, prompt=len(PROMPT), grammar=text)
    seen = []
    for (made,) in again:
        margin = round(1e6 * max((each.margin or 0.0 for each in made.drawn), default=0.0))
        seen.append([Observation(seat(0), 0, margin, redrawn=made.redrawn)])
    return again[1][0], judge(seen, tolerance()).verdict


def test_an_audit_draws_the_same_and_convicts_who_kept_to_nothing(engine: Engine) -> None:
    for seed, cut in ((0, {}), (7, {"top_k": 5})):
        terms = sampling(seed, **cut)
        tokens = served(engine, terms)
        made, verdict = audited(tokens, terms)
        assert (verdict, [each.token for each in made.drawn]) == (Verdict.MATCH, tokens)
        lied = [*tokens[:9], tokens[9] + 1, *tokens[10:]]
        assert audited(lied, terms)[1] is Verdict.MISMATCH
        plain = served(engine, terms.replace(shaping=None), text=b"")
        assert audited(plain, terms)[1] is Verdict.MISMATCH


def test_who_has_other_masks_convicts_nobody(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    terms = sampling(6)
    assert terms.shaping is not None
    assert terms.shaping.grammar is not None
    other = terms.shaping.grammar.replace(masks="llguidance/1.9.0")
    tokens = served(engine, terms)
    lied = [*tokens[:9], tokens[9] + 1, *tokens[10:]]
    for said in (tokens, lied):
        made, verdict = audited(said, terms.replace(shaping=terms.shaping.replace(grammar=other)))
        assert (verdict, made.drawn, made.redrawn) == (Verdict.INCONCLUSIVE, (), False)
    monkeypatch.setattr(made_by, "masks_here", lambda: "")
    assert audited(tokens, terms)[1] is Verdict.INCONCLUSIVE
    bare = Engine.load(MODEL, 0, 6, kv_tokens=512)
    assert bare.masks == ""
    with pytest.raises(RefusedError, match="here"):
        bare.prepare(terms.shaping.grammar, look_back(terms.shaping, PROMPT, TEXT))


def test_what_makes_masks_is_there_in_this_version() -> None:
    assert made_by.masks_here() == MASKS
    facts = model_facts(MODEL)
    assert find_masks(MODEL.parent, facts) is None, "without a tokenizer"


HOSTILE = {
    "minutes of processor time": {"type": "string", "allOf": [{"pattern": f".*a.{{{i}}}b.*"} for i in range(60)]},
    "choices without end": {
        "allOf": [{"anyOf": [{"properties": {f"a{i}_{j}": {"type": "integer"}}} for j in range(8)]} for i in range(8)]
    },
}


@pytest.mark.parametrize("schema", HOSTILE.values(), ids=HOSTILE)
def test_hostile_schemas_are_refused_within_bounds(engine: Engine, schema: dict) -> None:
    text, before = of_schema(schema), resource.getrusage(resource.RUSAGE_CHILDREN)
    own = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    with pytest.raises(RefusedError, match="grammar"):
        engine.prepare(grammar_of(text), LookBack(np.zeros(0, dtype=np.int64), (), text))
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before.ru_utime < 4
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - own < 2


def test_deep_schemas_are_refused() -> None:
    deep: object = {"type": "integer"}
    for _ in range(300):
        deep = {"type": "array", "items": deep}
    with pytest.raises(RefusedError):
        try_grammar(of_schema(deep))
