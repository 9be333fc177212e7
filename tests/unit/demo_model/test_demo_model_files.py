"""The shipped checkpoint: its size, its files, and that its card says what its records say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors import safe_open
from tokenizers import Tokenizer

from scripts.demo_model.card import card_of
from scripts.demo_model.corpus import TASKS, held_out, known_words
from scripts.demo_model.evaluate import Score, as_table
from scripts.demo_model.tokens import END, END_ID, build_tokenizer

MODEL = Path(__file__).parents[3] / "node" / "demo" / "model"


def record(name: str) -> dict:
    return json.loads((MODEL / name).read_text())


def test_the_directory_holds_the_files_and_at_most_6_mb() -> None:
    names = {path.name for path in MODEL.iterdir()}
    records = {"README.md", "accuracy.json", "leaks.json", "training.json"}
    assert names == records | {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert sum(path.stat().st_size for path in MODEL.iterdir()) <= 6_000_000


def test_the_model_can_be_cut_in_three_and_ends_its_answers() -> None:
    config = record("config.json")
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["num_hidden_layers"] >= 6
    assert config["max_position_embeddings"] >= 256
    assert config["eos_token_id"] == record("generation_config.json")["eos_token_id"] == END_ID


def test_the_weights_are_those_of_the_config() -> None:
    config = record("config.json")
    with safe_open(MODEL / "model.safetensors", framework="numpy") as weights:
        names = set(weights.keys())
        assert weights.get_slice("model.embed_tokens.weight").get_shape() == [
            config["vocab_size"],
            config["hidden_size"],
        ]
        assert weights.get_slice("model.norm.weight").get_dtype() == "BF16"
    blocks = {int(name.split(".")[2]) for name in names if name.startswith("model.layers.")}
    assert blocks == set(range(config["num_hidden_layers"]))


def test_the_shipped_tokenizer_is_the_one_that_the_scripts_build() -> None:
    shipped, built = Tokenizer.from_file(str(MODEL / "tokenizer.json")), build_tokenizer(known_words())
    assert shipped.get_vocab() == built.get_vocab()
    assert shipped.get_vocab_size() == record("config.json")["vocab_size"]
    for task in TASKS:
        for example in held_out(task, 20, 3):
            for text in (example.first.prompt, example.first.completion, example.first.completion + END):
                assert shipped.encode(text).ids == built.encode(text).ids
            assert shipped.decode(shipped.encode(example.first.completion).ids) == example.first.completion


def test_the_card_is_the_one_that_the_records_give() -> None:
    assert (MODEL / "README.md").read_text(encoding="utf-8") == card_of(MODEL)


def test_the_card_states_every_figure_of_the_record() -> None:
    card = (MODEL / "README.md").read_text(encoding="utf-8")
    scores = record("accuracy.json")["scores"]
    assert set(scores) == {*TASKS, "overall"}
    for task, score in scores.items():
        assert f"| {task} | {score['right']} | {score['total']} | {score['accuracy']:.1%} |" in card


def test_the_recorded_figures_agree_with_their_counts() -> None:
    accuracy = record("accuracy.json")
    scores = {task: Score(score["right"], score["total"]) for task, score in accuracy["scores"].items()}
    overall = scores.pop("overall")
    assert {task: score.as_record() for task, score in scores.items()} | {"overall": overall.as_record()} == accuracy[
        "scores"
    ]
    assert overall == Score(sum(s.right for s in scores.values()), sum(s.total for s in scores.values()))
    assert all(score.total == accuracy["size"] >= 200 for score in scores.values())


def test_training_stayed_within_twenty_minutes_of_one_core() -> None:
    assert record("training.json")["cpu_seconds"] <= 1200


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (50, 100, 0.4038, 0.5962)],
)
def test_the_interval_is_wilsons(right: int, total: int, low: float, high: float) -> None:
    assert Score(right, total).interval == pytest.approx((low, high), abs=1e-4)


def test_a_table_has_a_line_per_task() -> None:
    table = as_table({"add": Score(9, 10), "overall": Score(9, 10)})
    assert table.splitlines()[2].startswith("| add | 9 | 10 | 90.0% |")
