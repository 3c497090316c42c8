r"""How text is cut before a byte-level BPE merges it: the rules that llama.cpp knows, by name.

A rule is a sequence of steps, each of which cuts the pieces of the step before: ByteLevel is the pattern of
GPT-2, Digits cuts out every single digit, and anything else is a regular expression whose matches are pieces,
as is what lies between them. The patterns are those of the published tokenizer.json of the models that a name
stands for; llama.cpp spells some of them in another way, because its expressions have no (?i:).
"""

from typing import Any

from tokenizers import Regex, pre_tokenizers

Steps = tuple[str, ...]

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_REST = rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"
_CAPITALS, _SMALL = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_HEAD = r"[^\r\n\p{L}\p{N}]?"
_SLASHED_REST = rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"

GPT2: Steps = ("ByteLevel",)
DIGITS: Steps = ("Digits", "ByteLevel")
ONE_DIGIT: Steps = (_WORDS + r"\p{N}" + _REST,)
THREE_DIGITS: Steps = (_WORDS + r"\p{N}{1,3}" + _REST,)
MARKS: Steps = (
    rf"{_CONTRACTIONS}|{_HEAD}[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}",
)
TEKKEN: Steps = (rf"{_HEAD}{_CAPITALS}*{_SMALL}+|{_HEAD}{_CAPITALS}+{_SMALL}*|\p{{N}}{_SLASHED_REST}",)
GPT_4O: Steps = (
    rf"{_HEAD}{_CAPITALS}*{_SMALL}+{_CONTRACTIONS}?|{_HEAD}{_CAPITALS}+{_SMALL}*{_CONTRACTIONS}?"
    rf"|\p{{N}}{{1,3}}{_SLASHED_REST}",
)
# By the file's tokenizer.ggml.pre. The first name of a rule is the one that is written.
RULES: dict[str, Steps] = {
    **dict.fromkeys(("gpt-2", "phi-2", "mpt", "olmo", "exaone4", "granite-docling", "trillion"), GPT2),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell", "minerva-7b"), DIGITS),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "megrez", "hunyuan", "grok-2"), ONE_DIGIT),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral"), THREE_DIGITS),
    **dict.fromkeys(("midm-2.0", "lfm2", "dbrx", "smaug-bpe", "glm4", "chatglm-bpe"), THREE_DIGITS),
    "qwen35": MARKS,
    "tekken": TEKKEN,
    **dict.fromkeys(("gpt-4o", "llama4", "kanana2"), GPT_4O),
}
# With these, llama.cpp takes a piece that is a token as a whole, whatever the merges would make of it, and
# begins a text with the first token where the file does not say otherwise.
WHOLE_WORDS = frozenset(
    {"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "tekken"}
)
# The published tokenizers of these compose letters and accents first, which llama.cpp does not.
COMPOSED = frozenset({"qwen2", "qwen35"})


def name_of(steps: Steps, whole_words: bool) -> str | None:
    """What llama.cpp calls a rule with this treatment of whole words; None where it knows none."""
    return next(
        (name for name, rule in RULES.items() if rule == steps and whole_words == (name in WHOLE_WORDS)), None
    )


def pre_tokenizer(steps: Steps) -> pre_tokenizers.PreTokenizer:
    """The steps of a rule, and the spelling of bytes as characters, as tokenizers runs them."""
    made = [_made(step) for step in steps]
    if steps[-1] != "ByteLevel":
        made.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    return pre_tokenizers.Sequence(made)


def _made(step: str) -> pre_tokenizers.PreTokenizer:
    if step == "ByteLevel":
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    if step == "Digits":
        return pre_tokenizers.Digits(individual_digits=True)
    return pre_tokenizers.Split(Regex(step), behavior="isolated")


def steps_of(spec: dict[str, Any] | None) -> Steps:
    """The steps of a pre-tokenizer as tokenizer.json has it; those of no rule are named in words."""
    spec = spec or {"type": "none"}
    steps = spec["pretokenizers"] if spec["type"] == "Sequence" else [spec]
    # The byte-level step after a pattern only spells bytes out.
    return tuple(step for step in map(_step, steps) if step != "ByteLevel without its own pattern")


def _step(step: dict[str, Any]) -> str:
    kind: str = step["type"]
    if kind == "Split" and step["behavior"] == "Isolated" and not step["invert"]:
        pattern: str = step["pattern"].get("Regex", kind)
        return pattern
    if kind == "ByteLevel" and step["add_prefix_space"]:
        return "ByteLevel with a space in front"
    if kind == "ByteLevel" and not step["use_regex"]:
        return "ByteLevel without its own pattern"
    if kind == "Digits" and not step["individual_digits"]:
        return "Digits in runs"
    return kind
