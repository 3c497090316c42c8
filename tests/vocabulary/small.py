"""Small tokenizers of each kind whose vocabulary can be cut, trained on a few lines."""

import json
from collections.abc import Callable

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast
from transformers.tokenization_utils_base import generate_merges

TEXT = [
    "The quick brown fox jumps over the lazy dog, and the lazier dogs jump over the quickest foxes.",
    "def count(words):\n    counts = {}\n    for word in words:\n        counts[word] = counts.get(word, 0)",
    "Быстрая лиса прыгает через ленивую собаку, и собака ленится. Naïve café, déjà vu.",
    "敏捷的狐狸跳过懒狗。狐狸很敏捷,狗很懒。",
    "Counting counts: 1 12 123 1234; 0.5 + 0.25 = 0.75!",
]  # fmt: skip
SPECIAL = ["<unk>", "<s>", "</s>", "<|pad|>"]


def byte_level() -> PreTrainedTokenizerFast:
    """Byte-level BPE, its end token outside the model of tokenizer.json, as Qwen's are."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=480, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXT, trainer)
    tokenizer.add_special_tokens(["<|end|>", "<|start|>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|end|>", bos_token="<|start|>", chat_template="{{ messages }}"
    )


def byte_fallback(ignore_merges: bool = False) -> PreTrainedTokenizerFast:
    """BPE of characters that falls back to bytes, as Gemma's, with every merge that makes a token."""
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.normalizer = normalizers.Replace(" ", "▁")
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=SPECIAL, show_progress=False)
    trained.train_from_iterator(TEXT * 2, trainer)
    ordered = sorted(trained.get_vocab().items(), key=lambda item: item[1])
    tokens = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += [token for token, _ in ordered if token not in SPECIAL]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=generate_merges(vocabulary, skip_tokens=SPECIAL),
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
            ignore_merges=ignore_merges,
        )
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_special_tokens(SPECIAL)
    return with_beginning(tokenizer)


def unigram(fallback: bool = True) -> PreTrainedTokenizerFast:
    """A unigram tokenizer, with bytes for characters that it does not know or an unknown token."""
    trained = Tokenizer(models.Unigram())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=260, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
    )
    trained.train_from_iterator(TEXT * 2, trainer)
    pieces = [(token, score) for token, score in json.loads(trained.to_str())["model"]["vocab"]]
    bytes_ = [(f"<0x{byte:02X}>", 0.0) for byte in range(256)] if fallback else []
    vocabulary = [*pieces[: len(SPECIAL)], *bytes_, *pieces[len(SPECIAL) :]]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=fallback))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(), decoders.Fuse()])
    tokenizer.add_special_tokens(SPECIAL)
    return with_beginning(tokenizer)


def with_beginning(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """The rest of a tokenizer: <s> goes first, padding, truncation, an added token that is not special."""
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A </s> $B", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    tokenizer.enable_padding(pad_id=3, pad_token="<|pad|>")
    tokenizer.enable_truncation(4096)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<|pad|>"
    )


KINDS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "byte-level": byte_level,
    "byte fallback": byte_fallback,
    "byte fallback, whole words looked up": lambda: byte_fallback(ignore_merges=True),
    "unigram": unigram,
    "unigram without bytes": lambda: unigram(fallback=False),
}
