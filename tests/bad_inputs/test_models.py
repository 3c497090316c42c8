"""Models that cannot be pruned as they are: each is refused by one line that names file, cause and remedy."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click import Command
from safetensors.torch import load_file, save_file

from stages import capture, chat, corpus, cost, mask, model, sample, surgery
from tests.bad_inputs.local import local_params, make_project, said
from tests.bad_inputs.test_texts import POINTER
from tests.project import change_json
from tests.tiny import make_tiny_model

START = "params.yaml: model.path: model: "
WEIGHTS, CONFIG, INDEX = "model.safetensors", "config.json", "model.safetensors.index.json"
UP = "model.layers.0.mlp.up_proj.weight"
NO_FLOATS = (
    "no floating-point numbers, as in quantised weights, which cannot be cut; give the checkpoint in bfloat16, "
    "float16 or float32"
)
PART = "model-00001-of-00006.safetensors"
ADAPTER = json.dumps({"peft_type": "LORA", "base_model_name_or_path": "some/base"}).encode()
BIN = (
    "cannot be loaded: a .bin file of it is damaged, or holds more than weights, which is not read because it "
    "could run code; fetch it again, or convert it to safetensors"
)


def config(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: change_json(folder / CONFIG, **changes)


def files(**contents: bytes | None) -> Callable[[Path], None]:
    """Write or, for None, remove files; `__` in a name stands for its dot."""

    def change(folder: Path) -> None:
        for key, data in contents.items():
            path = folder / key.replace("__", ".")
            path.unlink(missing_ok=True)
            if data is not None:
                path.write_bytes(data)

    return change


def half_the_weights(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])


def parts(change: Callable[[Path], object]) -> Callable[[Path], None]:
    """Save the weights in several files, and change something among them."""

    def save(folder: Path) -> None:
        (folder / WEIGHTS).unlink()
        make_tiny_model().save_pretrained(folder, max_shard_size="20KB")
        change(folder)

    return save


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Change tensors of the weights, by name."""

    def save(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    return save


def as_kind(dtype: torch.dtype) -> Callable[[Path], None]:
    return changed(lambda tensors: tensors.update({UP: tensors[UP].to(dtype)}))


def one_weight(value: float) -> Callable[[Path], None]:
    return changed(lambda tensors: tensors[UP].view(-1)[3].fill_(value))


def one_more(name: str) -> Callable[[Path], None]:
    return changed(lambda tensors: tensors.update({name: torch.ones(1)}))


def says_twice(folder: Path) -> None:
    text = (folder / CONFIG).read_text(encoding="utf-8")
    again = text.replace('"hidden_size": 32', '"hidden_size": 32,\n  "hidden_size": 64')
    (folder / CONFIG).write_text(again, encoding="utf-8")


def pickled(name: str = "pytorch_model.bin", **changes: Any) -> Callable[[Path], None]:
    """Put the weights of a tiny model beside those that are there, as torch saves them."""
    return lambda folder: torch.save(make_tiny_model(**changes).state_dict(), folder / name)


def pickled_parts(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    weights = make_tiny_model().state_dict()
    torch.save(weights, folder / "pytorch_model-00001-of-00001.bin")
    names = dict.fromkeys(weights, "pytorch_model-00001-of-00001.bin")
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": names}), encoding="utf-8")


def after(*changes: Callable[[Path], object]) -> Callable[[Path], None]:
    """One change after the other."""

    def change(folder: Path) -> None:
        for one in changes:
            one(folder)

    return change


def unknown_part_of_the_tokenizer(folder: Path) -> None:
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(
        json.dumps(
            {"post_processor": {"type": "Mystery"}}
            | {key: value for key, value in tokenizer.items() if key != "post_processor"}
        ),
        encoding="utf-8",
    )


def tokenizer_that_is_no_model(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(b"junk")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}', encoding="utf-8")


def index_that_names(part: str) -> Callable[[Path], None]:
    """Weights in several files, of which the index says that all are in another one."""

    def change(folder: Path) -> None:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        index["weight_map"] = dict.fromkeys(index["weight_map"], part)
        (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")

    return parts(change)


def tokenizer_config(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: change_json(folder / "tokenizer_config.json", **changes)


def pipe(name: str) -> Callable[[Path], None]:
    """Put a pipe in the place of a file: who reads it waits for ever."""

    def change(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return change


TOKENS = "no text would end there: the model has the tokens 0 to 257; write the right one, or null for none"
PIPE = "a pipe, not a file; write what it gives to a file, and name that"
OUT = "leads out of the model's folder; put the file there"
FLOATS = "must be one of float64, float32, bfloat16, float16"


def quantised(method: str) -> str:
    return (
        f"config.json: quantization_config: {method}: channels of quantised weights cannot be cut; give the "
        "checkpoint in bfloat16, float16 or float32"
    )


# What is wrong with a folder that is a checkpoint otherwise, and what is said.
CASES: dict[str, tuple[Callable[[Path], None], str]] = {
    "no config": (files(config__json=None), "there is no config.json in it; give the folder that transformers saved"),
    "a config cut short": (files(config__json=b"{"),
        "config.json: not valid JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1); "
        "correct or remove it"),
    "a config nested too deeply": (files(config__json=b"[" * 100_000 + b"]" * 100_000),
        "config.json: JSON nested too deeply to be read; flatten it"),
    "a config that is a list": (files(config__json=b"[]"),
        "config.json: a list, not a JSON object; fetch it again"),
    "a config in latin-1": (files(config__json=b'{"a": "\xe9"}'),
        "config.json:1: not UTF-8 text: invalid continuation byte; save the file as UTF-8"),
    "no weights": (files(model__safetensors=None), "it holds no weights; put model.safetensors beside the config"),
    "no tokenizer": (files(tokenizer__json=None),
        "it holds no tokenizer; put tokenizer.json, or tokenizer.model, beside the weights"),
    "weights cut short": (half_the_weights,
        "model.safetensors: damaged (Error while deserializing header: incomplete metadata, file not fully covered); "
        "fetch it again"),
    "weights of no length": (files(model__safetensors=b""),
        "model.safetensors: damaged (Error while deserializing header: header too small); fetch it again"),
    "a header longer than its file": (files(model__safetensors=b"\x00\x00\x00\x00\x00\x01\x00\x00{}"),
        "model.safetensors: damaged (Error while deserializing header: header too large); fetch it again"),
    "a header of no JSON": (files(model__safetensors=b"\x05" + bytes(7) + b"[[[[["),
        "model.safetensors: damaged (Error while deserializing header: invalid JSON in header: invalid type: sequence, "
        "expected struct HashMetadata at line 1 column 0); fetch it again"),
    "integers for weights": (as_kind(torch.int8), f"model.safetensors: {UP}: I8, {NO_FLOATS}"),
    "truths for weights": (as_kind(torch.bool), f"model.safetensors: {UP}: BOOL, {NO_FLOATS}"),
    "complex weights": (as_kind(torch.complex64), f"model.safetensors: {UP}: C64, {NO_FLOATS}"),
    "a weight that is no number": (one_weight(float("nan")), f"weights are not finite: {UP}"),
    "an infinite weight": (one_weight(float("inf")), f"weights are not finite: {UP}"),
    "a scale beside a weight": (one_more("model.layers.0.mlp.up_proj.weight_scale"),
        "its config does not tell of weights in its files: model.layers.0.mlp.up_proj.weight_scale; without them it "
        "would be another model"),
    "a folder for weights": (after(files(model__safetensors=None), lambda folder: (folder / WEIGHTS).mkdir()),
        "it holds no weights; put model.safetensors beside the config"),
    "a config that leads to itself": (
        after(files(config__json=None), lambda folder: (folder / CONFIG).symlink_to(CONFIG)),
        "config.json: a link to nothing; fetch it again, or remove it"),
    "weights that a cache has lost": (
        after(files(model__safetensors=None), lambda folder: (folder / WEIGHTS).symlink_to("../blobs/gone")),
        "model.safetensors: a link to nothing; fetch it again, or remove it"),
    "a folder for a tokenizer": (
        after(files(tokenizer__json=None), lambda folder: (folder / "tokenizer.json").mkdir()),
        "it holds no tokenizer; put tokenizer.json, or tokenizer.model, beside the weights"),
    "a config that says a size twice": (says_twice,
        "config.json: key 'hidden_size' stands twice in one object; remove one of them"),
    "a mapping for a dtype": (config(dtype={"": "float32"}), f"config.json: dtype: {{'': 'float32'}}: {FLOATS}"),
    "a dtype of safetensors": (config(dtype="F32"), f"config.json: dtype: 'F32': {FLOATS}"),
    "a list for a family": (config(model_type=["llama"]),
        "config.json: model_type: ['llama']: must be the name of a family; fetch it again"),
    "a number for a family": (config(model_type=5), "config.json: model_type: 5: must be the name of a family; fetch it again"),
    "a length in words": (tokenizer_config(model_max_length="many"),
        "tokenizer_config.json: model_max_length: 'many': must be a number; correct it"),
    "a number for a template": (tokenizer_config(chat_template=3),
        "tokenizer_config.json: chat_template: 3: must be a template; correct it"),
    "a list for a class": (tokenizer_config(tokenizer_class=["a"]),
        "tokenizer_config.json: tokenizer_class: ['a']: must be the name of a class; correct it"),
    "a list of added tokens": (tokenizer_config(added_tokens_decoder=[1]),
        "tokenizer_config.json: added_tokens_decoder: [1]: must be a mapping of tokens; correct it"),
    "a number among templates": (tokenizer_config(chat_template=[{"name": "default", "template": 5}]),
        "tokenizer_config.json: chat_template: {'name': 'default', 'template': 5}: must have a name and a template; "
        "correct it"),
    "a template without a name": (tokenizer_config(chat_template=["{{ messages }}"]),
        "tokenizer_config.json: chat_template: '{{ messages }}': must have a name and a template; correct it"),
    "padding above": (tokenizer_config(padding_side="up"),
        "tokenizer_config.json: padding_side: 'up': must be right or left; correct it"),
    "cutting at both sides": (tokenizer_config(truncation_side=["left", "right"]),
        "tokenizer_config.json: truncation_side: ['left', 'right']: must be right or left; correct it"),
    "a template in latin-1": (lambda folder: (folder / "chat_template.jinja").write_bytes(b"d\xe9j\xe0"),
        "chat_template.jinja:1: not UTF-8 text: invalid continuation byte; save the file as UTF-8"),
    "heads of no size": (config(head_dim=0), "config.json: head_dim: 0: must be 1 or more; correct it"),
    "no context": (config(max_position_embeddings=0),
        "config.json: max_position_embeddings: 0: must be 1 or more; correct it"),
    "an epsilon in words": (config(rms_norm_eps="1e-6"),
        "cannot be loaded: config.json: TypeError: Field 'rms_norm_eps' expected float, got str (value: '1e-6')"),
    "layers by halves": (config(num_hidden_layers=3.0),
        "cannot be loaded: config.json: TypeError: Field 'num_hidden_layers' expected int, got float (value: 3.0)"),
    "heads that do not divide": (config(num_attention_heads=5),
        "cannot be loaded: config.json: ValueError: The hidden size (32) is not a multiple of the number of attention "
        "heads (5)."),
    "a base of angles in words": (config(rope_parameters={"rope_type": "default", "rope_theta": "1e4"}),
        "config.json: rope_parameters.rope_theta: '1e4': must be a number above 0; fetch it again"),
    "an unknown rope": (config(rope_parameters={"rope_type": "mystery", "rope_theta": 1e4}),
        "config.json: model_type: llama: a small model of it does not run: 'mystery'"),
    "a pointer for weights": (files(model__safetensors=POINTER),
        "model.safetensors: a pointer of Git LFS, not the file itself; run `git lfs pull` in its repository"),
    "a pointer for a tokenizer": (files(tokenizer__json=POINTER),
        "tokenizer.json: a pointer of Git LFS, not the file itself; run `git lfs pull` in its repository"),
    "garbage for a pickle": (files(model__safetensors=None, pytorch_model__bin=b"no pickle" * 20), BIN),
    "a pickle with code": (files(model__safetensors=None, pytorch_model__bin=pickle.dumps({"a": print})), BIN),
    "an adapter": (files(config__json=None, model__safetensors=None, adapter_config__json=ADAPTER),
        "adapter_config.json: this is a LoRA adapter of some/base, not a model; merge it into that one (peft's "
        "`merge_and_unload`) and give the folder of the result"),
    "an adapter beside": (files(adapter_config__json=ADAPTER),
        "adapter_config.json: a LoRA adapter of some/base lies beside the model and would be left out; merge it "
        "(peft's `merge_and_unload`), or take its files away"),
    "fp8": (config(quantization_config={"quant_method": "fp8"}), quantised("fp8")),
    "four bits": (config(quantization_config={"quant_method": "gptq", "bits": 4}), quantised("gptq")),
    "a result of unequal layers": (config(per_layer_config={"0": {"intermediate_size": 40}}),
        "config.json: per_layer_config: its layers differ in size, so it was pruned with `prune.widths: per_layer` "
        "and cannot be pruned again; start from the dense model, or from one pruned with `widths: uniform`"),
    "two sets of weights": (parts(lambda folder: make_tiny_model(seed=5).save_pretrained(folder)),
        "model.safetensors and model.safetensors.index.json are both there, two sets of weights, of which only "
        "the first would be read; take one away"),
    "weights that no index names": (parts(lambda folder: shutil.copy(folder / PART, folder / "more.safetensors")),
        "more.safetensors: would not be read, because transformers reads model.safetensors, or the files that "
        "model.safetensors.index.json names; name it there, or take it away"),
    "a part that is gone": (parts(lambda folder: (folder / PART).unlink()),
        f"model.safetensors.index.json: names {PART}, which is not there; fetch it again"),
    "an index without names": (parts(lambda folder: (folder / INDEX).write_text("{}")),
        "model.safetensors.index.json: no weight_map of names and files; fetch it again"),
    "parts without an index": (parts(lambda folder: (folder / INDEX).unlink()),
        f"{PART}: would not be read, because transformers reads model.safetensors, or the files that "
        "model.safetensors.index.json names; name it there, or take it away"),
    "other weights in a pickle": (pickled(seed=5),
        "pytorch_model.bin: holds another model.embed_tokens.weight than model.safetensors: two sets of weights, "
        "of which only the safetensors would be read; take one away"),
    "other weights in a pickle's part": (
        after(pickled("pytorch_model-00001-of-00002.bin"), pickled("pytorch_model-00002-of-00002.bin", seed=5)),
        "pytorch_model-00001-of-00002.bin, pytorch_model-00002-of-00002.bin: holds another model.embed_tokens.weight than "
        "model.safetensors: two sets of weights, of which only the safetensors would be read; take one away"),
    "a smaller model in a pickle": (pickled(vocab_size=250),
        "pytorch_model.bin: holds another model.embed_tokens.weight than model.safetensors: two sets of weights, of which only "
        "the safetensors would be read; take one away"),
    "two sets of pickles": (after(pickled_parts, pickled()),
        "pytorch_model.bin and pytorch_model.bin.index.json are both there, two sets of weights, of which only the "
        "first would be read; take one away"),
    "a pickle that no index names": (after(pickled_parts, pickled("pytorch_model-00002-of-00002.bin")),
        "pytorch_model-00002-of-00002.bin: would not be read, because transformers reads pytorch_model.bin, or the "
        "files that pytorch_model.bin.index.json names; name it there, or take it away"),
    "a pickle that is gone": (
        after(pickled_parts, lambda folder: (folder / "pytorch_model-00001-of-00001.bin").unlink()),
        "pytorch_model.bin.index.json: names pytorch_model-00001-of-00001.bin, which is not there; fetch it again"),
    "a pointer for a pickle": (files(model__safetensors=None, pytorch_model__bin=POINTER),
        "pytorch_model.bin: a pointer of Git LFS, not the file itself; run `git lfs pull` in its repository"),
    "a pickle of something else alone": (files(model__safetensors=None, training_args__bin=b"x"),
        "it holds no weights; put model.safetensors beside the config"),
    "Mistral's form alone": (lambda folder: (folder / WEIGHTS).rename(folder / "consolidated.safetensors"),
        "it holds no weights; put model.safetensors beside the config"),
    "a name for the weights that is gone": (config(transformers_weights="cut.safetensors"),
        "config.json: transformers_weights: cut.safetensors: not there; fetch it again"),
    "another name for the weights": (
        after(config(transformers_weights="cut.safetensors"),
            lambda folder: shutil.copy(folder / WEIGHTS, folder / "cut.safetensors")),
        "model.safetensors: would not be read, because transformers reads cut.safetensors, or the files that "
        "model.safetensors.index.json names; name it there, or take it away"),
    "another shape": (changed(lambda tensors: tensors.update({UP: torch.ones(40, 32)})),
        "weights have other shapes than its config tells: model.layers.0.mlp.up_proj.weight [40, 32], not [48, 32]"),
    "no number for an epsilon": (config(rms_norm_eps=float("nan")),
        "config.json: rms_norm_eps: not a finite number; correct it"),
    "a size as text": (config(intermediate_size="48"),
        "cannot be loaded: config.json: TypeError: Field 'intermediate_size' expected int, got str (value: '48')"),
    "no heads": (config(num_attention_heads=0), "config.json: num_attention_heads: 0: must be 1 or more; correct it"),
    "a tie that is null": (config(tie_word_embeddings=None),
        "cannot be loaded: config.json: TypeError: Field 'tie_word_embeddings' expected bool, got NoneType "
        "(value: None)"),
    "an unknown activation": (config(hidden_act="mystery"),
        "config.json: model_type: llama: a small model of it does not run: 'mystery'"),
    "padding beyond the embedding": (config(pad_token_id=999),
        "cannot be loaded: config.json: pad_token_id: beyond the vocabulary, which the embeddings of this family do not take; "
        "write the right one, or null for none"),
    "an end beyond the vocabulary": (config(eos_token_id=258), f"config.json: eos_token_id: 258: {TOKENS}"),
    "one end of two beyond it": (config(eos_token_id=[1, 999]), f"config.json: eos_token_id: 999: {TOKENS}"),
    "an end below the vocabulary": (config(eos_token_id=-1), f"config.json: eos_token_id: -1: {TOKENS}"),
    "an end of too many digits": (config(eos_token_id=10**40),
        f"config.json: eos_token_id: a number of more than 30 digits: {TOKENS}"),
    "an end in words": (config(eos_token_id="</s>"), f"config.json: eos_token_id: '</s>': {TOKENS}"),
    "an end that is a truth": (config(eos_token_id=True), f"config.json: eos_token_id: True: {TOKENS}"),
    "an end of answers beyond the vocabulary": (files(generation_config__json=b'{"eos_token_id": [1, 128009]}'),
        f"generation_config.json: eos_token_id: 128009: {TOKENS}"),
    "a pipe for a config": (pipe(CONFIG), f"config.json: {PIPE}"),
    "a pipe for weights": (pipe(WEIGHTS), f"model.safetensors: {PIPE}"),
    "a pipe for a tokenizer": (pipe("tokenizer.json"), f"tokenizer.json: {PIPE}"),
    "a list for the tokenizer's config": (files(tokenizer_config__json=b"[]"),
        "tokenizer_config.json: a list, not a JSON object; fetch it again"),
    "an empty tokenizer": (files(tokenizer__json=b""),
        "tokenizer.json: not valid JSON: Expecting value: line 1 column 1 (char 0); correct or remove it"),
    "zeros for a tokenizer": (files(tokenizer__json=bytes(90)),
        "tokenizer.json: not UTF-8 text: 90 of its 90 bytes are zero, as in UTF-16 and in files that are no text; save "
        "the file as UTF-8"),
    "a list of special tokens": (files(special_tokens_map__json=b"[]"),
        "special_tokens_map.json: a list, not a JSON object; fetch it again"),
    "a number for added tokens": (files(added_tokens__json=b"3"),
        "added_tokens.json: a int, not a JSON object; fetch it again"),
    # transformers takes its defaults then, in silence.
    "a generation config cut short": (files(generation_config__json=b"{"),
        "generation_config.json: not valid JSON: Expecting property name enclosed in double quotes: line 1 column 2 "
        "(char 1); correct or remove it"),
    "a list for the generation config": (files(generation_config__json=b"[1]"),
        "generation_config.json: a list, not a JSON object; fetch it again"),
    "many answers at once": (files(generation_config__json=b'{"num_return_sequences": 4}'),
        "generation_config.json: transformers does not read it: Greedy methods (do_sample != True) without beam search do "
        "not support `num_return_sequences` different than 1 (got 4); correct it, or take the file away"),
    "settings of a compiler": (files(generation_config__json=b'{"compile_config": {"mode": "x"}}'),
        "generation_config.json: transformers does not read it: You provided `compile_config` as an instance of <class "
        "'dict'>, but it must be an instance of `CompileConfig`; correct it, or take the file away"),
    "nothing for the generation config": (files(generation_config__json=b"null"),
        "generation_config.json: a NoneType, not a JSON object; fetch it again"),
    "a config with a mark": (lambda folder: (folder / CONFIG).write_bytes(b"\xef\xbb\xbf" + (folder / CONFIG).read_bytes()),
        "config.json: begins with a byte order mark, which transformers cannot read; save it without"),
    "no layers": (config(num_hidden_layers=0),
        "config.json: num_hidden_layers: 0: must be 1 or more; correct it"),
    "a smaller vocabulary": (config(vocab_size=100),
        "weights have other shapes than its config tells: model.embed_tokens.weight [258, 32], not [100, 32]"),
    "a tokenizer.json of another version": (unknown_part_of_the_tokenizer,
        "cannot be loaded: tokenizer.json: data did not match any variant of untagged enum PostProcessorWrapper at "
        "line 1 column 38"),
    "a tokenizer.model of no kind": (tokenizer_that_is_no_model,
        "cannot be loaded: its tokenizer.model is damaged, or of no known kind; fetch it again"),
    "weights above the folder": (index_that_names("../model.safetensors"),
        f"{INDEX}: weight_map: '../model.safetensors': {OUT}"),
    "weights at a path of the machine": (index_that_names("/tmp/model.safetensors"),
        f"{INDEX}: weight_map: '/tmp/model.safetensors': {OUT}"),
    "weights out of a folder of the folder": (index_that_names("a/../../model.safetensors"),
        f"{INDEX}: weight_map: 'a/../../model.safetensors': {OUT}"),
    "all weights above the folder": (config(transformers_weights="../model.safetensors"),
        f"config.json: transformers_weights: '../model.safetensors': {OUT}"),
    "a config above the folder": (config(configuration_files=["config.4.0.0.json", "../config.4.1.0.json"]),
        f"config.json: configuration_files: '../config.4.1.0.json': {OUT}"),
    "a tokenizer above the folder": (tokenizer_config(fast_tokenizer_files=["../tokenizer.4.0.0.json"]),
        f"tokenizer_config.json: fast_tokenizer_files: '../tokenizer.4.0.0.json': {OUT}"),
    "too many layers": (config(num_hidden_layers=10**9),
        "config.json: num_hidden_layers: 1000000000: no model has over 10,000; correct it"),
    "more layers than tensors": (config(num_hidden_layers=9_999),
        "config.json: num_hidden_layers: 9999: the weights have 29 tensors, less than one a layer; correct it"),
    "more layers inside than tensors": (config(text_config={"num_hidden_layers": 64}),
        "config.json: text_config.num_hidden_layers: 64: the weights have 29 tensors, less than one a layer; correct it"),
    "too many experts": (config(text_config={"num_local_experts": 10**9}),
        "config.json: text_config.num_local_experts: 1000000000: no model has over 10,000; correct it"),
    "layers beyond numbers": (config(num_hidden_layers=10**40),
        "config.json: num_hidden_layers: a number of more than 30 digits: no model has over 10,000; correct it"),
    "too wide": (config(intermediate_size=10**15),
        "config.json: intermediate_size: 1000000000000000: no model has over 2,147,483,647; correct it"),
    "too large heads": (config(head_dim=10**15),
        "config.json: head_dim: 1000000000000000: no model has over 2,147,483,647; correct it"),
    "fewer than no heads": (config(num_attention_heads=-4), "config.json: num_attention_heads: -4: must be 1 or more; correct it"),
    "no groups": (config(num_key_value_heads=0), "config.json: num_key_value_heads: 0: must be 1 or more; correct it"),
    "a rope that turns backwards": (config(rope_scaling={"rope_type": "linear", "factor": -2.0}),
        "config.json: rope_scaling.factor: -2.0: must be a number above 0; fetch it again"),
    "a rope of no base": (config(rope_parameters={"rope_theta": 0}),
        "config.json: rope_parameters.rope_theta: 0: must be a number above 0; fetch it again"),
    "a function for a dtype": (config(dtype="save"), f"config.json: dtype: 'save': {FLOATS}"),
    "an older function for a dtype": (config(torch_dtype="torch.save"), f"config.json: torch_dtype: 'torch.save': {FLOATS}"),
    "whole numbers for weights": (config(dtype="int8"), f"config.json: dtype: 'int8': {FLOATS}"),
    "a number for a dtype": (config(dtype=5), f"config.json: dtype: 5: {FLOATS}"),
    "colours in a family": (config(model_type="\x1b[31mllama"),
        "config.json: 'model_type': '\\x1b[31mllama': has control characters; fetch it again"),
    "colours deep in a config": (config(rope_parameters={"rope_type": "\x1b[31mx", "rope_theta": 1e4}),
        "config.json: 'rope_parameters.rope_type': '\\x1b[31mx': has control characters; fetch it again"),
    "colours in a key": (config(**{"\x1b[31mkey": 1}),
        "config.json: '\\x1b[31mkey': 1: has control characters; fetch it again"),
    "its own code": (config(auto_map={"AutoModelForCausalLM": "x.X"}, model_type="mystery"),
        "config.json: model_type: mystery: not known to transformers, and code that comes with a model is not run; "
        "choose a model whose family transformers has"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_bad_model_is_refused(case: str, here: Path, dense_dir: Path) -> None:
    make_project(here, local_params(Path("model")))
    change, message = CASES[case]
    change(Path(shutil.copytree(dense_dir, here / "model")))
    assert said(model.main) == START + message
    assert not (here / "data/model").exists()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("gone", None, "gone: no such file or directory"),
        (
            "m.gguf",
            b"nonsense",
            "m.gguf: not a GGUF file; of other formats give the folder that holds config.json",
        ),
        (
            "m.gguf",
            POINTER,
            "m.gguf: a pointer of Git LFS, not the file itself; run `git lfs pull` in its repository",
        ),
    ],
)
def test_a_bad_file_of_a_model_is_refused(name: str, data: bytes | None, message: str, here: Path) -> None:
    make_project(here, local_params(Path(name)))
    if data is not None:
        Path(name).write_bytes(data)
    assert said(model.main) == f"params.yaml: model.path: {message}"


MODEL = "data/model: no checkpoint there; run `dvc repro model`"


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        (sample.main, (), MODEL),
        (corpus.main, (), MODEL),
        (cost.main, ("dense", "--checkpoint", "data/model"), MODEL),
        (
            cost.main,
            ("pruned", "--checkpoint", "data/pruned"),
            "data/pruned: no checkpoint there; run `dvc repro surgery`",
        ),
        (capture.main, ("r1",), MODEL),
        (mask.main, ("r1",), MODEL),
        (surgery.main, (), MODEL),
        (
            chat.main,
            ("elsewhere",),
            "elsewhere: no checkpoint there; `make repro` leaves the pruned model in data/pruned",
        ),
    ],
)
def test_a_stage_without_its_model_says_what_makes_it(
    command: Command, arguments: tuple[str, ...], message: str, here: Path, dense_dir: Path
) -> None:
    make_project(here, local_params(dense_dir))
    assert said(command, *arguments) == message


def test_a_tensor_larger_than_the_memory_is_said_to_be(here: Path, dense_dir: Path) -> None:
    make_project(here, local_params(Path("model")))
    config(vocab_size=2**31 - 1, hidden_size=2**20)(Path(shutil.copytree(dense_dir, here / "model")))
    assert said(model.main) == (
        "params.yaml: model.path: model: cannot be loaded: a tensor that its config asks for has "
        "9,007,199,250,546,688 bytes, more than the memory that is free; correct config.json, or use a larger machine"
    )
