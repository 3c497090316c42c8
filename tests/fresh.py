"""Fresh Python processes without the seconds in which each imports libraries.

A server has imported torch, transformers and the others, and nothing of this project. For each program it
forks: the child runs the program itself, with its own arguments, environment, directory and files, and ends.
"""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

# Every connection is a program: its three standard files, and a line of JSON that says how to start it. The
# answer is its exit status.
SERVER = """
import gc, json, os, runpy, signal, socket, sys
import dvc.cli.parser, dvc.repo.experiments.executor.local, dvc.repo.experiments.queue.celery
import dvc.repo.reproduce, scmrepo.git
import click, datasets, huggingface_hub, lm_eval.evaluator, lm_eval.tasks, matplotlib.pyplot, pandas, psutil
import pyarrow.parquet, pydantic, requests, ruamel.yaml, safetensors.torch, torch, tqdm, transformers, yaml
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaForCausalLM
from transformers import dynamic_module_utils

python = sys.argv[1]
gc.freeze()
# Those that wait for a program are reaped by the system.
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
with socket.socket(socket.AF_UNIX) as server:
    server.bind("server")
    server.listen()
    print("ready", flush=True)
    while True:
        client = server.accept()[0]
        if not os.fork():
            break
        client.close()
signal.signal(signal.SIGCHLD, signal.SIG_DFL)
files = socket.recv_fds(client, 1, 3)[1]
asked = json.loads(client.makefile().readline())
program = os.fork()
if program:
    # A reader of what the program prints must see its end.
    for file in (*files, 0, 1, 2):
        os.close(file)
    client.sendall(str(os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])).encode())
    os._exit(0)
client.close()
for number, file in enumerate(files):
    os.dup2(file, number)
    os.close(file)
os.chdir(asked["cwd"])
os.environ.clear()
os.environ.update(asked["env"])
# Read from the environment when transformers is imported.
if "HF_MODULES_CACHE" in os.environ:
    dynamic_module_utils.HF_MODULES_CACHE = os.environ["HF_MODULES_CACHE"]
# The programs that this one starts fork, too.
sys.executable = python
options, (kind, what, *sys.argv[1:]) = asked["options"], asked["arguments"]
paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
sys.path[:0] = [*([] if "-P" in options else [asked["cwd"]]), *filter(None, paths)]
sys.argv[0] = kind
if kind == "-m":
    runpy.run_module(what, run_name="__main__", alter_sys=True)
else:
    exec(what, {"__name__": "__main__"})
"""
# The command `python` of a project: modules and programs are asked of the server, and all else runs as ever.
PYTHON = """\
#!{python} -IS
import json, os, signal, socket, sys
from itertools import takewhile
options = [*takewhile(lambda one: one in ("-P", "-u"), sys.argv[1:])]
arguments = sys.argv[1 + len(options):]
if arguments[:1] not in (["-m"], ["-c"]):
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
# Whoever interrupts the program that this one stands for means that one, whose end it then tells.
signal.signal(signal.SIGINT, signal.SIG_IGN)
asked = {{"options": options, "arguments": arguments, "cwd": os.getcwd(), "env": dict(os.environ)}}
# A socket's path may have some 100 characters, so it is named from its own folder.
os.chdir({folder!r})
with socket.socket(socket.AF_UNIX) as server:
    server.connect("server")
    socket.send_fds(server, [b"."], [0, 1, 2])
    server.sendall(json.dumps(asked).encode() + b"\\n")
    status = int(server.makefile().read())
# A signal that ended the program ends this one.
if status < 0:
    os.kill(os.getpid(), -status)
sys.exit(status)
"""


class FreshProcesses:
    """A server, and the commands that ask it, `python` and `dvc` in a folder of their own."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.python = folder / "bin/python"
        self.python.parent.mkdir()
        self.python.write_text(PYTHON.format(python=sys.executable, folder=str(folder)), encoding="utf-8")
        dvc = self.python.with_name("dvc")
        dvc.write_text(f'#!/bin/sh\nexec {self.python} -m dvc "$@"\n', encoding="utf-8")
        for command in (self.python, dvc):
            command.chmod(0o755)
        offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
        self.server = subprocess.Popen(
            [sys.executable, "-P", "-c", SERVER, str(self.python)],
            cwd=folder,
            env={**environment, **offline, "HF_MODULES_CACHE": str(folder), "PYTHONPATH": ""},
            stdout=subprocess.PIPE,
        )
        assert self.server.stdout
        assert self.server.stdout.readline() == b"ready\n"

    def end(self) -> None:
        self.server.terminate()
        self.server.communicate()
