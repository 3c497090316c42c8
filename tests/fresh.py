"""Fresh processes for proofs that a checkpoint loads, without the seconds in which each imports libraries.

One process has imported torch and transformers, and nothing of this project. For each proof it forks: the
child runs the proof's own program, with its own arguments, environment and directory, and ends.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.checkpoints.proof import SCRIPT

# Reads a line of JSON for each proof and answers with the exit status of the child.
SERVER = """
import json, os, sys, traceback
import torch, transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaForCausalLM
from transformers import dynamic_module_utils

def prove(asked):
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    # Read from the environment when transformers is imported.
    dynamic_module_utils.HF_MODULES_CACHE = os.environ["HF_MODULES_CACHE"]
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(asked[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = ["-c", *asked["arguments"]]
    try:
        exec(asked["program"], {"__name__": "__main__"})
    except BaseException:
        traceback.print_exc()
        return 1
    return 0

for line in sys.stdin:
    child = os.fork()
    if not child:
        status = 1
        try:
            status = prove(json.loads(line))
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class FreshProcesses:
    """Stands in for `subprocess` where checkpoints are proved."""

    def __init__(self, scratch: Path, environment: Mapping[str, str]) -> None:
        self.scratch = scratch
        self.server = subprocess.Popen(
            [sys.executable, "-P", "-c", SERVER],
            cwd=scratch,
            env={**environment, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(scratch), "PYTHONPATH": ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """As subprocess.run with the command of a proof; other commands are refused."""
        *start, program = command[:4]
        assert (start, program) == ([sys.executable, "-P", "-c"], SCRIPT)
        out, err = self.scratch / "stdout", self.scratch / "stderr"
        asked = {
            "program": program,
            "arguments": command[4:],
            "cwd": options["cwd"],
            "env": options["env"],
            "stdout": str(out),
            "stderr": str(err),
        }
        assert self.server.stdin
        assert self.server.stdout
        self.server.stdin.write(f"{json.dumps(asked)}\n")
        self.server.stdin.flush()
        status = int(self.server.stdout.readline())
        return subprocess.CompletedProcess(command, status, out.read_text("utf-8"), err.read_text("utf-8"))

    def end(self) -> None:
        self.server.communicate()
