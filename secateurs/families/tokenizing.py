"""Text to token ids, and what is said where the library below the tokenizer gives up."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from secateurs.errors import InputError


def encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """The ids of texts, without special tokens around them.

    Raises InputError with the beginning of a text at which the tokenizer's pattern gives up: a pattern that
    tries too many ways to cut a text does, after some time.
    """
    if not texts:
        return []
    try:
        return _encoded(tokenizer, texts)
    except BaseException as error:
        if not is_panic(error):
            raise
    for text in texts:
        try:
            _encoded(tokenizer, [text])
        except BaseException as error:
            if not is_panic(error):
                raise
            raise InputError(
                f"the model's tokenizer gives up on a text that begins {text[:40]!r}: {error}; take the text "
                "out, or use another model"
            ) from None
    raise InputError("the model's tokenizer gives up on some texts together; use another model")


def is_panic(error: BaseException) -> bool:
    """Whether an error is a panic of a library in Rust, which is no Exception to Python."""
    return type(error).__name__ == "PanicException"


def _encoded(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    return ids
