"""The chat on a tiny random model: what it writes is noise, how it takes turns is not."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from stages.chat import main
from tests.families.test_boundaries import ending
from tests.project import ROOT, change_json
from tests.tiny import make_tiny_model, make_tiny_tokenizer

# Shows in the prompt how many turns there were, by the length of what the model is given.
TEMPLATE = "{% for turn in messages %}{{ turn.role[0] }}:{{ turn.content }};{% endfor %}a:"


@pytest.fixture
def instruct_dir(tmp_path: Path) -> Path:
    make_tiny_model(max_position_embeddings=256).save_pretrained(tmp_path)
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def prompts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every prompt that a model is given, as text."""
    seen: list[str] = []
    model_class = type(make_tiny_model())
    generate = model_class.generate

    def recording(self: object, **arguments: object) -> object:
        seen.append(make_tiny_tokenizer().decode(arguments["input_ids"][0]))
        return generate(self, **arguments)

    monkeypatch.setattr(model_class, "generate", recording)
    return seen


def chat(directory: Path, text: str, *options: str) -> Result:
    arguments = [str(directory), "--max-tokens", "4", "--temperature", "0", *options]
    return CliRunner().invoke(main, arguments, input=text)


def test_the_checkpoints_template_is_used_and_turns_are_kept(instruct_dir: Path, prompts: list[str]) -> None:
    assert chat(instruct_dir, "one\ntwo\n").exit_code == 0
    assert prompts[0] == "u:one;a:"
    assert prompts[1].startswith("u:one;a:")
    assert prompts[1].endswith(";u:two;a:")


def test_an_empty_line_starts_afresh(instruct_dir: Path, prompts: list[str]) -> None:
    assert chat(instruct_dir, "one\n\ntwo\n").exit_code == 0
    assert prompts == ["u:one;a:", "u:two;a:"]


def test_a_base_model_goes_on_with_each_line(dense_dir: Path, prompts: list[str]) -> None:
    assert chat(dense_dir, "one\ntwo\n").exit_code == 0
    assert prompts == ["one", "two"]


def test_a_reply_starts_after_the_line_where_the_tokenizer_ends_every_text(
    tmp_path: Path, prompts: list[str]
) -> None:
    make_tiny_model().save_pretrained(tmp_path)
    ending("<s> $A </s>").save_pretrained(tmp_path)
    assert chat(tmp_path, "one\n").exit_code == 0
    assert prompts == ["<s>one"]


@pytest.mark.parametrize(
    "settings",
    [
        {"num_beams": 4},
        {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0},
        {"penalty_alpha": 0.6, "top_k": 4},
        {"do_sample": True, "temperature": 0.0},
        {"max_length": 20, "min_length": 9, "min_new_tokens": 9},
        {"forced_bos_token_id": 5, "forced_eos_token_id": 6},
        {"suppress_tokens": list(range(3, 200)), "begin_suppress_tokens": [12]},
        {"constraints": [1], "force_words_ids": [[3]], "bad_words_ids": [[4]]},
        {"stop_strings": ["e"], "max_time": 0.0001},
        {"cache_implementation": "static", "use_cache": False, "return_dict_in_generate": True},
        {"repetition_penalty": "high", "guidance_scale": 3.0, "prompt_lookup_num_tokens": 3},
        {"num_beams": 4, "num_return_sequences": 4, "length_penalty": -1.0},
        {"num_return_sequences": 2, "do_sample": True},
        {"repetition_penalty": 9.0, "no_repeat_ngram_size": 1, "top_k": 1, "temperature": 0.1},
        {"prompt_lookup_num_tokens": 3},
        {"max_new_tokens": 1, "max_length": 2, "min_new_tokens": 9},
        {"suppress_tokens": list(range(2, 200))},
        {"return_dict_in_generate": True, "output_scores": True},
    ],
)
@pytest.mark.parametrize("temperature", ["0", "0.8"])
def test_of_the_checkpoints_settings_of_generation_only_end_tokens_count(
    settings: dict[str, object], temperature: str, dense_dir: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(dense_dir, tmp_path / "model"))
    plain = chat(dense_dir, "The \n", "--temperature", temperature)
    change_json(folder / "generation_config.json", **settings)
    result = chat(folder, "The \n", "--temperature", temperature)
    assert (result.exit_code, result.stdout) == (0, plain.stdout)


def test_an_end_token_of_the_checkpoints_settings_ends_a_reply(dense_dir: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(dense_dir, tmp_path / "model"))
    reply = chat(dense_dir, "The \n").stdout.rstrip("\n")
    first = make_tiny_tokenizer()(reply)["input_ids"][0]
    change_json(folder / "generation_config.json", eos_token_id=[1, first])
    assert len(chat(folder, "The \n").stdout.rstrip("\n")) <= 1 < len(reply)


def test_the_reply_is_what_the_model_generates(dense_dir: Path) -> None:
    tokenizer = make_tiny_tokenizer()
    given = tokenizer("The ", return_tensors="pt")["input_ids"]
    model = AutoModelForCausalLM.from_pretrained(dense_dir)
    expected = model.generate(given, max_new_tokens=4, do_sample=False, pad_token_id=1)[0, given.shape[1] :]
    assert chat(dense_dir, "The \n").stdout == tokenizer.decode(expected, skip_special_tokens=True) + "\n"


def test_max_tokens_bounds_the_reply(instruct_dir: Path, prompts: list[str]) -> None:
    chat(instruct_dir, "one\ntwo\n", "--max-tokens", "1")
    assert len(prompts[1]) <= len("u:one;a:") + 1 + len(";u:two;a:")


def test_piped_input_gets_replies_only(instruct_dir: Path) -> None:
    result = chat(instruct_dir, "one\n")
    assert ">" not in result.stderr
    assert "chat" not in result.output


def test_old_turns_give_way_where_the_context_ends(instruct_dir: Path, prompts: list[str]) -> None:
    first, second = "x" * 150, "y" * 150
    assert chat(instruct_dir, f"{first}\n{second}\n").exit_code == 0
    assert prompts[1] == f"u:{second};a:"


def test_a_line_over_the_context_is_one_message(instruct_dir: Path) -> None:
    result = chat(instruct_dir, "x" * 300 + "\n")
    assert result.exit_code == 1
    assert "this line and --max-tokens 4 are over the context of 256 tokens" in result.output


def test_a_missing_checkpoint_is_one_message(tmp_path: Path) -> None:
    result = chat(tmp_path / "nothing", "one\n")
    assert result.exit_code == 1
    assert "nothing: no checkpoint there; `make repro`" in result.output


def test_the_readmes_way_to_talk(instruct_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    project = tmp_path_factory.mktemp("project")
    shutil.copytree(instruct_dir, project / "data/pruned")
    echo, command = (
        'echo "Why is the sky blue?"',
        "python -m stages.chat data/pruned --temperature 0 --max-tokens 3",
    )
    question = subprocess.run(shlex.split(echo), capture_output=True, text=True, check=True).stdout
    done = subprocess.run(
        [sys.executable, *shlex.split(command)[1:]],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        input=question,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.endswith("\n")
    # Nothing for anyone to act on, so nothing but the reply.
    assert done.stderr == ""


def test_clear_starts_afresh_and_exit_ends(instruct_dir: Path, prompts: list[str]) -> None:
    result = chat(instruct_dir, "one\n/clear\ntwo\n/exit\nthree\n")
    assert result.exit_code == 0
    assert prompts == ["u:one;a:", "u:two;a:"]


def test_system_is_told_first_and_stays_after_a_clear(instruct_dir: Path, prompts: list[str]) -> None:
    assert chat(instruct_dir, "/system Be brief.\none\n/clear\ntwo\n").exit_code == 0
    assert prompts == ["s:Be brief.;u:one;a:", "s:Be brief.;u:two;a:"]


def test_a_command_that_there_is_not_is_named(instruct_dir: Path, prompts: list[str]) -> None:
    assert "/quit: not a command" in chat(instruct_dir, "/quit\n").output
    assert prompts == []


def test_ctrl_c_stops_the_reply_and_not_the_program(
    instruct_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_class = type(make_tiny_model())
    generate = model_class.generate

    def interrupted(self: object, **arguments: object) -> object:
        generate(self, **arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(model_class, "generate", interrupted)
    result = chat(instruct_dir, "one\ntwo\n")
    assert result.exit_code == 0
    assert result.output.count("(stopped)") == 2


def test_a_checkpoint_is_loaded_in_its_own_dtype(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tiny_model().to(torch.bfloat16).save_pretrained(tmp_path)
    make_tiny_tokenizer().save_pretrained(tmp_path)
    seen: list[torch.dtype] = []
    model_class = type(make_tiny_model())
    generate = model_class.generate

    def recording(self: LlamaForCausalLM, **arguments: object) -> object:
        seen.append(self.dtype)
        return generate(self, **arguments)

    monkeypatch.setattr(model_class, "generate", recording)
    assert chat(tmp_path, "one\n").exit_code == 0
    assert seen == [torch.bfloat16]
