"""What can be known to be wrong before anything is fetched, sampled or computed.

The plan makes all of these checks; the model stage, which a plain `dvc repro` runs first, makes them too, and
the stages that read a changed setting repeat what concerns them. They refuse, and compute nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from secateurs.checkpoints.folder import check_file, check_folder
from secateurs.errors import InputError, SettingError
from secateurs.files.local_files import find_files, located
from secateurs.settings.sources import (
    DIALOGUE_DOMAIN,
    SELF_DOMAIN,
    PackageBenchmark,
    PathBenchmark,
    PathDomain,
    PathModel,
)
from secateurs.text.benchmark_items import read_local_items
from secateurs.text.domains import no_text
from secateurs.text.readers import check_documents
from secateurs.text.task_items import check_task
from secateurs.text.vllm_installed import find_vllm
from stages.common.paths import DATA
from stages.params.file import PARAMS_FILE, Params, in_file

# For their types alone: what params.yaml shows by itself is said before these libraries are here.
if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase


def check_early(params: Params) -> None:
    """Raise InputError, a line a problem, for what params.yaml and the files that it names show already.

    That is a `data` that is a link, files of text or of a model that are missing or cannot be read, tasks
    without an adapter, items that their task cannot read, and a vLLM that is asked for and not there.
    """
    problems: list[str] = []
    for check in (_check_data, _check_model, _check_domains, _check_benchmarks, _check_engine):
        try:
            check(params)
        except InputError as error:
            problems.append(in_file(error))
    if problems:
        raise InputError("\n".join(problems))


def _check_data(params: Params) -> None:
    if DATA.is_symlink():
        raise InputError(
            f"{DATA}: a link to {DATA.resolve()}, and DVC refuses outputs outside of the project; make it a "
            "folder, and put DVC's cache on the other disk: `dvc cache dir PATH` and `dvc config cache.type "
            "symlink`"
        )


def _check_model(params: Params) -> None:
    source = params.model
    if isinstance(source, PathModel):
        path = located(source.path, "model.path")
        if not path.exists():
            raise InputError(f"{PARAMS_FILE}: model.path: {source.path}: no such file or directory")
        try:
            (check_file if path.is_file() else check_folder)(path)
        except (InputError, OSError) as error:
            raise InputError(f"{PARAMS_FILE}: model.path: {source.path}: {error}") from None


def _check_domains(params: Params) -> None:
    for name, domain in params.domains.items():
        if isinstance(domain, PathDomain):
            key = f"domains.{name}.path"
            files = find_files(domain.path, key)
            try:
                found = check_documents(files, domain.reader)
            except InputError as error:
                raise SettingError(f"{key}: {error}") from None
            if not found:
                raise no_text(name)


def _check_benchmarks(params: Params) -> None:
    for task, benchmark in params.benchmarks.items():
        if isinstance(benchmark, PathBenchmark):
            read_local_items(task, benchmark)
        elif isinstance(benchmark, PackageBenchmark):
            check_task(task)


def _check_engine(params: Params) -> None:
    if params.sample.engine == "vllm":
        find_vllm(params.compute.vllm_python)


def check_context(config: PretrainedConfig, params: Params) -> None:
    """Raise InputError, a line a problem, where params.yaml asks for longer text than the model can read."""
    most = context_of(config)
    wanted = {
        f"corpus.sequence_length: {params.corpus.sequence_length}": params.corpus.sequence_length,
        f"evaluate.prompt_tokens: {params.evaluate.prompt_tokens}: with evaluate.decode_tokens: "
        f"{params.evaluate.decode_tokens}": params.evaluate.prompt_tokens + params.evaluate.decode_tokens,
    }
    if params.mixture[SELF_DOMAIN]:
        # One more, because the model is given a token to start from.
        wanted[f"sample.tokens: {params.sample.tokens}"] = params.sample.tokens + 1
    _check_lengths(wanted, most)
    if params.mixture[DIALOGUE_DOMAIN]:
        check_dialogues(config, params)


def check_dialogues(config: PretrainedConfig, params: Params) -> None:
    """Raise InputError where the dialogues that the model writes are longer than it can read."""
    question, answer = params.sample.dialogues.question.tokens, params.sample.dialogues.answer.tokens
    setting = f"sample.dialogues.question.tokens: {question}: with sample.dialogues.answer.tokens: {answer}"
    _check_lengths({setting: question + answer}, context_of(config))


def _check_lengths(wanted: Mapping[str, int], most: int | None) -> None:
    problems = [
        f"{PARAMS_FILE}: {setting}: more than the {most} tokens that the model can read "
        "(max_position_embeddings); lower it"
        for setting, tokens in wanted.items()
        if most is not None and tokens > most
    ]
    if problems:
        raise InputError("\n".join(problems))


def context_of(config: PretrainedConfig) -> int | None:
    """The tokens that a model can read, stretched as its rotary angles are; None where its config says none.

    A config that tells the context before it was stretched (Llama 3, YaRN) may count the longer one already.
    """
    most = getattr(config, "max_position_embeddings", None)
    if not isinstance(most, int):
        return None
    return round(max(most, *_stretched(getattr(config, "rope_parameters", None), most)))


def _stretched(parameters: Any, most: int) -> list[float]:
    """How far rotary angles reach by what is said of them; kinds of layer may have their own."""
    if not isinstance(parameters, Mapping):
        return [most]
    nested = [
        reach
        for value in parameters.values()
        if isinstance(value, Mapping)
        for reach in _stretched(value, most)
    ]
    factor = parameters.get("factor")
    before = parameters.get("original_max_position_embeddings", most)
    known = isinstance(factor, int | float) and isinstance(before, int)
    return [*nested, before * factor if known else most]


def check_own_context(config: PretrainedConfig, params: Params) -> None:
    """Raise InputError where what a recovery has the model write or tell is more than it can."""
    own, answers, asked = params.recover.own, params.recover.on_policy, params.recover.abilities
    question = params.sample.dialogues.question.tokens
    wanted = {f"recover.own.tokens: {own.tokens}": own.tokens + 1} if own.plain else {}
    for key, most, wanted_at_all in (
        ("on_policy", answers.tokens, answers.share),
        ("abilities", asked.tokens, asked.questions),
    ):
        if wanted_at_all:
            setting = f"recover.{key}.tokens: {most}: with sample.dialogues.question.tokens: {question}"
            wanted[setting] = question + most
    _check_lengths(wanted, context_of(config))
    most, count = config.get_text_config(decoder=True).vocab_size, params.recover.cached.likeliest
    if params.recover.teacher == "cached" and count > most:
        raise InputError(
            f"{PARAMS_FILE}: recover.cached.likeliest: {count}: the vocabulary has {most} tokens; at most "
            "as many"
        )
    if own.dialogues:
        check_dialogues(config, params)


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, rows: int, where: str) -> None:
    """Raise InputError where a tokenizer has ids without a row among the `rows` of the embedding.

    Tokens that were added to it and never stand in text (padding) may lie beyond; the corpus stage refuses
    text that has them.
    """
    added = tokenizer.get_added_vocab()
    ids = [index for token, index in tokenizer.get_vocab().items() if token not in added]
    ids += [index for index in (tokenizer.bos_token_id, tokenizer.eos_token_id) if isinstance(index, int)]
    if max(ids, default=0) >= rows:
        raise InputError(
            f"{where}: its tokenizer has ids up to {max(ids)}, and its embedding {rows} rows; put the "
            "tokenizer there that the model was trained with"
        )


def check_template(tokenizer: PreTrainedTokenizerBase, params: Params) -> None:
    """Raise InputError where tasks go through a chat template that the model does not have."""
    if params.evaluate.chat_template and params.benchmarks and not tokenizer.chat_template:
        raise InputError(
            f"{PARAMS_FILE}: evaluate.chat_template: true: {params.model.name} has no chat template; set it "
            "to false, or take an instruct model"
        )


def check_ids(
    rows: Iterable[tuple[int, ...]], most: int, tokenizer: PreTrainedTokenizerBase, where: str
) -> None:
    """Raise InputError where one of some texts' ids is `most` or more, which the embedding has no row for."""
    highest = max((max(ids) for ids in rows), default=0)
    if highest >= most:
        raise InputError(
            f"{where}: its tokenizer makes {tokenizer.convert_ids_to_tokens(highest)!r} of this text, id "
            f"{highest}, and its embedding has {most} rows; put the tokenizer there that the model was "
            "trained with"
        )
