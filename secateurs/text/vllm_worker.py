"""A program for a Python that has vLLM: it writes texts for vllm_writer, which starts it.

It imports nothing of this project, which that Python need not have. The first line of stdin is a JSON object
that says which model to load, each later one what to write; each answer is a line of JSON on stdout. Where
something fails, the answer has the key `error` and the program ends.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any, TextIO

# Of the memory that is free when it starts, how much vLLM takes: of an accelerator for all, of host memory
# for keys and values.
ACCELERATOR_SHARE, HOST_SHARE = 0.9, 0.25


def main() -> None:
    """Answer the lines of stdin until there are none."""
    # What vLLM prints must not stand between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    # The modules beside this file have names that libraries have too.
    here = str(Path(__file__).parent)
    sys.path[:] = [entry for entry in sys.path if entry != here]
    try:
        engine = _engine(json.loads(sys.stdin.readline()))
        _say(answers, {"ready": True})
        for line in sys.stdin:
            _say(answers, {"ids": _written(engine, json.loads(line), answers)})
    # Whatever fails in there is told to who started this.
    except Exception as error:
        _say(answers, {"error": f"{type(error).__name__}: {error}"})
        raise


def _engine(asked: dict[str, Any]) -> Any:
    from vllm import LLM
    from vllm.platforms import current_platform

    found, wanted = current_platform.device_type, asked["device"]
    if found != wanted:
        raise RuntimeError(f"this vLLM computes on {found or 'no device of this machine'}, not on {wanted}")
    return LLM(
        model=asked["model"],
        dtype=asked["dtype"],
        seed=asked["seed"],
        max_num_seqs=asked["batch_size"],
        max_num_batched_tokens=max(8192, asked["batch_size"]),
        # As long as the model can read and the memory holds.
        max_model_len=-1,
        # Texts come and go as token ids, and end where they are told to.
        skip_tokenizer_init=True,
        generation_config="vllm",
        disable_log_stats=True,
        # Compiling takes minutes on a CPU.
        enforce_eager=wanted == "cpu",
        **_memory(wanted),
    )


def _memory(device: str) -> dict[str, Any]:
    if device == "cpu":
        import psutil

        return {"kv_cache_memory_bytes": int(HOST_SHARE * psutil.virtual_memory().available)}
    import torch

    free, whole = torch.cuda.mem_get_info()
    return {"gpu_memory_utilization": ACCELERATOR_SHARE * free / whole}


def _written(engine: Any, asked: dict[str, Any], answers: TextIO) -> list[list[int]]:
    from vllm import SamplingParams

    how = [
        SamplingParams(
            max_tokens=asked["tokens"],
            temperature=asked["temperature"],
            min_p=asked["min_p"],
            seed=seed,
            stop_token_ids=asked["ends"],
            # The model's own end token ends a text only where it is one of those.
            ignore_eos=True,
            detokenize=False,
        )
        for seed in asked["seeds"]
    ]
    prompts = [{"prompt_token_ids": ids} for ids in asked["prompts"]]

    def bar(items: Any = None, **_: Any) -> Any:
        # It has two: of prompts on their way in, and of texts that have ended.
        return _Bar(answers) if items is None else items

    outputs = engine.generate(prompts, how, use_tqdm=bar)
    return [list(output.outputs[0].token_ids) for output in outputs]


class _Bar:
    """What vLLM takes for a progress bar: it tells of each text that has ended."""

    def __init__(self, answers: TextIO):
        self.n, self.postfix, self.format_dict, self._answers = 0, "", {"elapsed": 1.0}, answers

    def update(self, count: int) -> None:
        self.n += count
        _say(self._answers, {"ended": count})

    def refresh(self) -> None:
        """Nothing is drawn here."""

    def close(self) -> None:
        """Nothing is drawn here."""


def _say(answers: TextIO, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
