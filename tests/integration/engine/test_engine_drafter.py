"""Small models that guess for a large one: as good as they are, and bounded whatever they are asked."""

from __future__ import annotations

import shutil

import pytest
from checkpoints import make_checkpoint, write_tokenizer
from engine_ring import Ring, reference_tokens

from node.engine.drafter import ModelDrafter, half_of, load_layers_drafter, load_model_drafter
from node.engine.engine import Engine
from node.model_directory import model_facts
from node.ports import DraftAsk
from protocol.errors import ModelError
from protocol.session.terms import SamplingTerms

PROMPT = [7, 99, 3, 250, 18, 18, 41]


def drafter_of(directory, **settings) -> ModelDrafter:
    blocks = model_facts(directory).blocks
    return ModelDrafter(Engine.load(directory, 0, blocks, **({"kv_tokens": 1024} | settings)))


def began(drafter: ModelDrafter, session: bytes = b"s", **settings) -> ModelDrafter:
    drafter.begin(session, **({"max_tokens": 128, "prompt": len(PROMPT)} | settings))
    drafter.extend(session, PROMPT)
    return drafter


def guessed(drafter: ModelDrafter, count: int, guesses=(), session: bytes = b"s") -> list[int]:
    return list(drafter.propose([DraftAsk(session, tuple(guesses), count)])[0])


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_a_model_that_drafts_for_itself_is_always_right(checkpoint, architecture) -> None:
    directory = checkpoint(architecture)
    expected = reference_tokens(directory, PROMPT, 20)
    drafter = began(drafter_of(directory))
    assert guessed(drafter, 5) == expected[:5]
    assert guessed(drafter, 5, expected[:5]) == expected[5:10]
    drafter.extend(b"s", expected[:10])
    assert guessed(drafter, 10) == expected[10:]


def test_it_draws_with_the_noise_of_the_session(checkpoint) -> None:
    directory = checkpoint("llama")
    ring = Ring(directory, (0, 4))
    ring.open(b"s", sampling=SamplingTerms(temperature_milli=1300, seed=9))
    expected = ring.generate(b"s", PROMPT, 12)
    assert guessed(began(drafter_of(directory), sampling=SamplingTerms(temperature_milli=1300, seed=9)), 12) == expected
    assert guessed(began(drafter_of(directory), sampling=SamplingTerms(temperature_milli=1300, seed=8)), 12) != expected


def test_wrong_guesses_are_taken_back(checkpoint) -> None:
    directory = checkpoint("llama")
    expected = reference_tokens(directory, PROMPT, 12)
    drafter = began(drafter_of(directory))
    wrong = [(token + 1) % 300 for token in expected]
    guessed(drafter, 3, wrong[:4])
    drafter.extend(b"s", expected[:2])
    assert guessed(drafter, 3) == expected[2:5]
    assert guessed(drafter, 3) == expected[2:5]  # asked again, it says the same
    drafter.extend(b"s", expected[2:7])
    assert guessed(drafter, 2, [expected[7]]) == expected[8:10]


def test_sequences_share_a_pass_and_do_not_touch_each_other(checkpoint) -> None:
    directory = checkpoint("llama")
    drafter = drafter_of(directory)
    other = [5, 5, 9]
    began(drafter, b"a")
    drafter.begin(b"b", max_tokens=64)
    drafter.extend(b"b", other)
    asks = [DraftAsk(b"a", (), 4), DraftAsk(b"unknown", (), 2), DraftAsk(b"b", (), 6)]
    found = drafter.propose(asks)
    assert list(found[0]) == reference_tokens(directory, PROMPT, 4)
    assert found[1] == ()
    assert list(found[2]) == reference_tokens(directory, other, 6)


def test_memory_is_bounded_and_given_back(checkpoint) -> None:
    directory = checkpoint("llama")
    drafter = drafter_of(directory, kv_tokens=64)
    began(drafter, b"a", max_tokens=48)
    began(drafter, b"b", max_tokens=48)  # finds no room
    assert guessed(drafter, 3, session=b"b") == []
    assert len(guessed(drafter, 3, session=b"a")) == 3
    drafter.extend(b"a", [1] * (48 - len(PROMPT) - 2))
    assert len(guessed(drafter, 9, session=b"a")) == 2  # its room ends there
    drafter.end(b"a")
    drafter.end(b"a")
    began(drafter, b"b", max_tokens=48)
    assert len(guessed(drafter, 3, session=b"b")) == 3


def test_a_long_text_is_read_in_over_several_calls(checkpoint) -> None:
    directory = checkpoint("llama")
    drafter = ModelDrafter(Engine.load(directory, 0, 4, kv_tokens=1024, max_rows=16))
    drafter.begin(b"s", max_tokens=128)
    prompt = PROMPT * 6
    drafter.extend(b"s", prompt)
    calls = [guessed(drafter, 3) for _ in range(3)]
    assert calls == [[], [], reference_tokens(directory, prompt, 3)]


def test_some_layers_of_a_model_are_a_model(tmp_path) -> None:
    """Of a model whose upper layers see a window only: a layer keeps its kind wherever it stands."""
    directory = tmp_path / "windowed"
    make_checkpoint(directory, "qwen2", sliding_window=8)
    whole = began(load_layers_drafter(directory, (0, 1, 2, 3), kv_tokens=512, dtype="fp32"))
    assert guessed(whole, 12) == reference_tokens(directory, PROMPT, 12)
    for layers in ((0, 3), (2, 3), (1,), None):
        assert len(guessed(began(load_layers_drafter(directory, layers, kv_tokens=512, dtype="fp32")), 4)) == 4


@pytest.mark.parametrize("layers", [(), (0, 4), (2, 1), (1, 1), (-1, 2)])
def test_layers_that_a_model_does_not_have_are_refused(checkpoint, layers) -> None:
    with pytest.raises(ModelError) as raised:
        load_layers_drafter(checkpoint("llama"), layers, kv_tokens=512, dtype="fp32")
    assert "0 to 3" in (raised.value.hint or "")


def test_half_of_the_layers_keeps_the_outermost() -> None:
    assert half_of(6) == (0, 2, 5)
    assert half_of(1) == half_of(2) == half_of(3) == (0,)
    assert half_of(8) == (0, 2, 4, 7)
    for blocks in range(1, 100):
        assert len(set(half_of(blocks))) == max(1, blocks // 2)


def test_a_small_model_with_the_same_tokens_drafts(checkpoint, tmp_path) -> None:
    make_checkpoint(tmp_path / "small", "llama", layers=1, hidden=32)
    drafter = load_model_drafter(tmp_path / "small", checkpoint("llama"), kv_tokens=512, dtype="fp32", threads=1)
    assert guessed(began(drafter), 6) == reference_tokens(tmp_path / "small", PROMPT, 6)


def test_a_small_model_with_other_tokens_is_refused(checkpoint, tmp_path) -> None:
    model = checkpoint("llama")
    make_checkpoint(tmp_path / "fewer", "llama", layers=1, vocab=300)
    shutil.copytree(model, tmp_path / "other")
    write_tokenizer(tmp_path / "other", 321)
    shutil.copytree(model, tmp_path / "none")
    (tmp_path / "none" / "tokenizer.json").unlink()
    for name in ("fewer", "other", "none"):
        with pytest.raises(ModelError):
            load_model_drafter(tmp_path / name, model, kv_tokens=512, dtype="fp32", threads=1)
    same = load_model_drafter(model, model, kv_tokens=512, dtype="fp32", threads=1)
    assert len(guessed(began(same), 2)) == 2
