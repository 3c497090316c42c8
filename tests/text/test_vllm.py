"""Text that vLLM writes, held against our own loop: greedy texts, frequencies, ends, errors."""

import os
import stat
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from scipy.stats import chisquare
from transformers import LlamaForCausalLM

from secateurs.errors import InputError, SettingError
from secateurs.settings.groups import Sample
from secateurs.text.agreement import agreement, check_agreement
from secateurs.text.generated import generate
from secateurs.text.sampling import Draw, Lots, Writer, go_on
from secateurs.text.turns import from_json
from secateurs.text.vllm_installed import Installed, find_vllm
from secateurs.text.vllm_writer import VllmWriter, vllm_writer
from tests.project import read_yaml
from tests.text.test_dialogues import chat_tokenizer
from tests.tiny import make_tiny_model

needs_vllm = pytest.mark.vllm
PROMPTS = [[5, 9, 40], [8], [30, 31]]
# vLLM's builds for accelerators compute on nothing else; our own loop stays on the CPU.
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def model_of_vllm() -> LlamaForCausalLM:
    # Its attention takes heads of 32 numbers at least.
    return make_tiny_model(hidden_size=128).requires_grad_(False)


@pytest.fixture(scope="module")
def written_by_vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmWriter]:
    if "VLLM_PYTHON" not in os.environ:
        pytest.skip("VLLM_PYTHON names no Python that has vLLM (`make vllm`)")
    directory = tmp_path_factory.mktemp("model")
    model_of_vllm().save_pretrained(directory)
    with vllm_writer(find_vllm(os.environ["VLLM_PYTHON"]), directory, "float32", DEVICE, 64) as writer:
        yield writer


@needs_vllm
def test_greedy_texts_are_those_of_our_loop(written_by_vllm: VllmWriter) -> None:
    draw, lots = Draw(0.0), Lots("k", 3)
    assert written_by_vllm(PROMPTS, 40, draw, lots) == go_on(model_of_vllm(), PROMPTS, 40, draw, lots)


@needs_vllm
def test_a_greedy_text_ends_with_the_first_of_the_ends_and_with_no_other_token(
    written_by_vllm: VllmWriter,
) -> None:
    model, draw, lots = model_of_vllm(), Draw(0.0), Lots("k", 3)
    (whole,) = go_on(model, PROMPTS[:1], 40, draw, lots)
    ends = frozenset({whole[7], whole[20]})
    found = written_by_vllm(PROMPTS, 40, draw, lots, ends=ends)
    assert found == go_on(model, PROMPTS, 40, draw, lots, ends=ends)
    assert found[0][-1] in ends
    # The config's own end token is a token like any other, unless it is asked for.
    hot = written_by_vllm([[5]] * 400, 40, Draw(2.0), lots)
    assert {len(ids) for ids in hot} == {40}
    assert any(1 in ids[:-1] for ids in hot)


def expected(prompt: list[int], temperature: float, min_p: float) -> torch.Tensor:
    with torch.no_grad():
        logits = model_of_vllm()(torch.tensor([prompt])).logits[0, -1].double() / temperature
    odds = logits.softmax(-1)
    odds = torch.where(odds >= min_p * odds.max(), odds, 0.0)
    return odds / odds.sum()


def p_value(tokens: list[int], odds: torch.Tensor) -> float:
    """Of the chi-square test of drawn tokens; those expected fewer than five times are one class."""
    counts, wanted = Counter(tokens), odds * len(tokens)
    assert all(odds[token] > 0 for token in counts)
    often = [token for token in range(len(odds)) if wanted[token] >= 5]
    seen, due = [counts[token] for token in often], [float(wanted[token]) for token in often]
    rest = len(tokens) - sum(due)
    if rest > 1:
        seen, due = [*seen, len(tokens) - sum(seen)], [*due, rest]
    assert len(seen) > 3
    return float(chisquare(seen, due).pvalue)


@needs_vllm
@pytest.mark.parametrize(("temperature", "min_p"), [(1.0, 0.0), (0.6, 0.0), (1.0, 0.1), (1.7, 0.05)])
def test_first_tokens_have_the_frequencies_of_the_distribution_that_ours_have(
    temperature: float, min_p: float, written_by_vllm: VllmWriter
) -> None:
    odds, draw, lots = expected(PROMPTS[0], temperature, min_p), Draw(temperature, min_p), Lots("k", 3000)
    for writer in (written_by_vllm, partial(go_on, model_of_vllm())):
        first = [ids[0] for ids in writer([PROMPTS[0]] * 3000, 1, draw, lots)]
        assert p_value(first, odds) > 0.001


@needs_vllm
def test_the_opening_and_what_follows_have_the_frequencies_of_their_own_temperatures(
    written_by_vllm: VllmWriter,
) -> None:
    draw, prompt = Draw(0.7, 0.05, (1, 1.6)), PROMPTS[0]
    found = written_by_vllm([prompt] * 3000, 2, draw, Lots("k", 64))
    assert p_value([first for first, _ in found], expected(prompt, 1.6, 0.05)) > 0.001
    likeliest = Counter(first for first, _ in found).most_common(1)[0][0]
    after = [second for first, second in found if first == likeliest]
    assert p_value(after, expected([*prompt, likeliest], 0.7, 0.05)) > 0.001


@needs_vllm
def test_a_text_that_ends_in_its_opening_is_not_gone_on_with(written_by_vllm: VllmWriter) -> None:
    ends = frozenset(range(0, 258, 3))
    found = written_by_vllm([[5]] * 60, 8, Draw(1.0, 0.0, (4, 2.0)), Lots("k", 64), ends=ends)
    for ids in found:
        assert not ends & {*ids[:-1]}
        assert len(ids) == 8 or ids[-1] in ends
    assert {len(ids) for ids in found} >= {1, 2, 3, 4, 5, 8}


@needs_vllm
def test_a_key_and_a_place_give_the_same_text_in_any_company(written_by_vllm: VllmWriter) -> None:
    draw, lots = Draw(1.0, 0.02, (2, 1.5)), Lots("k", 64)
    whole = written_by_vllm([[5], [9, 8], [7]], 20, draw, lots)
    assert written_by_vllm([[5], [9, 8]], 20, draw, lots) == whole[:2]
    assert written_by_vllm([[5], [9, 8], [7]], 20, draw, Lots("other", 64)) != whole
    assert written_by_vllm([], 20, draw, lots) == []


@needs_vllm
def test_texts_and_dialogues_have_the_shape_of_ours_and_are_of_the_model(written_by_vllm: VllmWriter) -> None:
    fields = read_yaml()["sample"]
    fields["dialogues"] |= {"count": 80, "question": {"tokens": 90, "temperature": 1.0, "min_p": 0.02}}
    fields["dialogues"] |= {"answer": {"tokens": 40, "temperature": 0.8, "min_p": 0.05}}
    settings = Sample.model_validate(fields | {"documents": 9, "tokens": 30})
    written_by_vllm.drawn.clear()

    def texts(writer: Writer) -> dict[str, list[str]]:
        found = generate(writer, chat_tokenizer(), settings, ["self", "dialogues"], Path("data/model"))
        assert [one.document for one in found["self"]] == [f"sample-{number}" for number in range(9)]
        assert all(one.chat for one in found["dialogues"])
        assert all(len(from_json(one.text).answer) <= 40 for one in found["dialogues"])
        return {domain: [one.text for one in documents] for domain, documents in found.items()}

    theirs, ours = texts(written_by_vllm), texts(partial(go_on, model_of_vllm()))
    assert len(theirs["dialogues"]) > 10 < len(ours["dialogues"])
    # Sixteen of the questions and answers, and all nine texts.
    assert len(written_by_vllm.drawn) == 9 + 16 + 16
    seen = agreement(model_of_vllm(), written_by_vllm.drawn)
    check_agreement(seen, "vLLM")
    assert abs(seen.found - seen.expected) < 4 * seen.error


@needs_vllm
def test_what_vllm_refuses_is_said_in_its_words(written_by_vllm: VllmWriter, tmp_path: Path) -> None:
    found = find_vllm(os.environ["VLLM_PYTHON"])
    with (
        pytest.raises(InputError, match=r"sample.engine: vllm: \w+: .*"),
        vllm_writer(found, tmp_path / "gone", "float32", DEVICE, 8),
    ):
        pass
    with (
        pytest.raises(InputError, match=r"RuntimeError: this vLLM computes on cpu, not on mps"),
        vllm_writer(found, tmp_path, "float32", torch.device("mps"), 8),
    ):
        pass


def test_a_python_without_vllm_is_refused_with_the_remedy() -> None:
    with pytest.raises(
        SettingError, match=r"sample.engine: vllm: \S+ has no vLLM; `python -m pip install vllm`"
    ):
        find_vllm(None)


def test_a_python_that_is_not_there_is_refused_by_its_key() -> None:
    message = r"compute.vllm_python: /gone/python: cannot be run \(No such file or directory\); `python"
    with pytest.raises(SettingError, match=message):
        find_vllm("/gone/python")


def test_a_program_that_is_no_python_is_refused() -> None:
    with pytest.raises(
        SettingError, match=r"compute.vllm_python: /bin/echo: not a Python of 3.10 or later; "
    ):
        find_vllm("/bin/echo")


def test_a_process_that_ends_by_itself_is_told_with_its_last_words(tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('no memory')\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    with (
        pytest.raises(InputError, match=r"sample.engine: vllm: its process ended with status 1: no memory"),
        vllm_writer(Installed(str(program), "1"), tmp_path, "float32", DEVICE, 8),
    ):
        pass
