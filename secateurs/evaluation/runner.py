"""lm-eval's requests, answered by a loaded model in batches by tokens."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from secateurs.errors import InputError, SettingError
from secateurs.evaluation.generation import generate
from secateurs.families.boundaries import beginning
from secateurs.families.decoder import context_length
from secateurs.families.tokenizing import encode
from secateurs.inference.likelihood import Continuation, Ids, likelihoods
from secateurs.text.chat_template import TemplateRefusalError, render_chat

# What lm-eval generates at most where a task does not say.
USUAL_TOKENS = 256


class Runner(TemplateLM):  # type: ignore[misc]
    """What lm-eval asks of a model: likelihoods of choices, greedy text, prompts as a chat."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int) -> None:
        super().__init__()
        self.model, self.tokenizer, self.batch_size = model, tokenizer, batch_size
        self._beginning = beginning(tokenizer)

    @property
    def eot_token_id(self) -> int:
        """The id of the tokenizer's end token."""
        end = self.tokenizer.eos_token_id
        if not isinstance(end, int):
            raise InputError("the model's tokenizer has no end token, from which an empty prompt would start")
        return end

    @property
    def prefix_token_id(self) -> int:
        """The id that stands for an empty prompt."""
        begin = self.tokenizer.bos_token_id
        return begin if isinstance(begin, int) else self.eot_token_id

    @property
    def tokenizer_name(self) -> str:
        """What lm-eval would call a cache of requests."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """The ids of one text."""
        (ids,) = self._encode([string], add_special_tokens)
        return list(ids)

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A conversation as text, up to where the model's answer begins. InputError without a template."""
        try:
            return render_chat(
                self.tokenizer,
                chat_history,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
        except TemplateRefusalError as error:
            raise SettingError(
                f"evaluate.chat_template: true: the tokenizer's template does not apply: {error}"
            ) from None

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(log probability, whether it is the likeliest text) of each (context, choice)."""
        for request in requests:
            if not request.args[1].strip():
                raise _refused(request, "is empty, and there is no likelihood of nothing")
        continuations = self._continuations([request.args for request in requests])
        longest = context_length(self.model.config)
        for request, one in zip(requests, continuations, strict=True):
            if not one.asked:
                raise _refused(request, f"{request.args[1]!r:.40}: is no token in the model's tokenizer")
            if len(one.asked) > longest:
                size = f"{len(one.asked):,} tokens, more than the {longest:,} that the model can read"
                raise _refused(request, f"has {size}")
        found = likelihoods(self.model, continuations, self.batch_size)
        if any(math.isnan(one.log) for one in found):
            raise InputError(
                "zero-shot tasks: the model gives no number as a likelihood; with compute.dtype: float16 use "
                "bfloat16 or float32, otherwise the checkpoint is broken"
            )
        return [(one.log, one.greedy) for one in found]

    def _continuations(self, pairs: Sequence[tuple[str, str]]) -> list[Continuation]:
        """What is read and what is asked of each (context, choice).

        Spaces between context and choice belong to the choice, and both are encoded as one text, as lm-eval
        has it. Where the context is not encoded alike in it (its last token and the choice merge), the choice
        is encoded alone: otherwise a part of it would be asked, or nothing.
        """
        split = []
        for context, choice in pairs:
            bare = context.rstrip() if context else ""
            split.append((bare, context[len(bare) :] + choice))
        contexts = list(dict.fromkeys(context for context, _ in split if context))
        encoded = dict(zip(contexts, self._encode(contexts), strict=True))
        whole = self._encode([context + choice for context, choice in split])
        alone = self._encode([choice for _, choice in split], False)
        found = []
        for (context, _), ids, choice_ids in zip(split, whole, alone, strict=True):
            if not context:
                starts = choice_ids[:1] == (self.prefix_token_id,) and len(choice_ids) > 1
                found.append(
                    Continuation(choice_ids[:1], choice_ids[1:])
                    if starts
                    else Continuation((self.prefix_token_id,), choice_ids)
                )
                continue
            read = encoded[context]
            joined = ids[: len(read)] == read and len(ids) > len(read)
            found.append(Continuation(read, ids[len(read) :] if joined else choice_ids))
        return found

    def _encode(self, texts: Sequence[str], special: bool | None = None) -> list[Ids]:
        """Ids of texts that go on, after what the tokenizer puts before a text, where it is not there yet."""
        if not texts:
            return []
        begin = str(self.tokenizer.decode([self.prefix_token_id]))
        encoded = encode(self.tokenizer, texts)
        return [
            tuple(ids) if special is False or text.startswith(begin) else (*self._beginning, *ids)
            for text, ids in zip(texts, encoded, strict=True)
        ]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """What the model writes after each prompt, greedily."""
        groups: dict[tuple[tuple[str, ...], int], list[int]] = {}
        for number, request in enumerate(requests):
            groups.setdefault(_settings(request.args[1]), []).append(number)
        texts = [""] * len(requests)
        for (until, tokens), numbers in groups.items():
            prompts = self._encode([requests[number].args[0] for number in numbers])
            new = generate(self.model, self.tokenizer, prompts, until, tokens, self.batch_size)
            for number, text in zip(numbers, new, strict=True):
                texts[number] = text
        return texts

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Not answered: InputError."""
        raise SettingError("benchmarks: perplexity of whole texts is no task; held-out text has it")

    def _loglikelihood_tokens(self, requests: Iterable[Any], **_: Any) -> list[tuple[float, bool]]:
        raise NotImplementedError  # `loglikelihood` above does without


def _refused(request: Instance, why: str) -> SettingError:
    return SettingError(
        f"benchmarks.{request.task_name}: item {request.doc_id}: choice {request.idx} {why}; correct the "
        "item, or choose another task"
    )


def _settings(wanted: dict[str, Any]) -> tuple[tuple[str, ...], int]:
    """The strings that end a text, and how many tokens it may have at most."""
    until = wanted.get("until") or []
    stops = (until,) if isinstance(until, str) else tuple(until)
    tokens = wanted.get("max_gen_toks") or wanted.get("max_new_tokens") or USUAL_TOKENS
    return stops, int(tokens)
