"""A pull request's review on a real repository with two branches, and the comment through the real client."""

import json
import os
import shutil
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from stages.report import main
from tests.project import ROOT, commit_all, invoke, read_yaml, run

pytestmark = pytest.mark.usefixtures("quick_dvc")
STAGES = """\
stages:
  prepare:
    cmd: cp text.txt data/prepared.txt
    deps: [text.txt]
    outs: [data/prepared.txt]
  report:
    cmd: python report.py
    deps: [report.py, data/prepared.txt]
    params: [prune.sparsity]
    metrics: [data/metrics.json: {cache: false}]
    plots: [data/plots: {cache: false}]
"""
# Stands for the pipeline: metrics and a figure that depend on a setting.
PROGRAM = """\
import json, pathlib, re
text = pathlib.Path("params.yaml").read_text()
sparsity = float(re.search(r"sparsity: (.+)", text)[1])
def model(factor):
    return {
        "perplexity": {"geometric_mean": 20.0 * factor, "code": 10.0 * factor},
        "accuracy": {"mean": round(0.5 / factor, 4), "mean_stderr": 0.05},
        "decoder_parameters": round(1000 / factor),
        "macs_per_token": round(1400 / factor),
        "decode_ms_per_token": 10.0 * factor,
    }
dense, pruned = model(1.0), model(1 + sparsity)
perplexity = {"geometric_mean": 1 + sparsity, "code": 1 + sparsity}
ratio = {"perplexity": perplexity, "decode_ms_per_token": 0.9 + sparsity}
pathlib.Path("data/plots").mkdir(parents=True)
pathlib.Path("data/metrics.json").write_text(json.dumps({"dense": dense, "pruned": pruned, "ratio": ratio}))
pathlib.Path("data/plots/loss.png").write_text(f"figure of {sparsity}")
pathlib.Path("data/plots/same.png").write_text("figure")
"""


class Repository:
    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def run(self, *command: str, status: int = 0, **environment: str) -> str:
        return run(self.directory, *command, status=status, **environment)

    def git(self, *arguments: str) -> str:
        return self.run("git", *arguments).strip()

    def set(self, sparsity: float) -> None:
        (self.directory / "params.yaml").write_text(
            f"# how much\nprune:\n  sparsity: {sparsity}\n", encoding="utf-8"
        )

    def reproduce_and_commit(self, message: str) -> None:
        self.run("dvc", "repro", "--quiet")
        commit_all(self.directory, message)

    def review(self, base: str, status: int = 0) -> str:
        return self.run(".ci/review", base, "https://example.org/raw/{commit}", status=status)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`main` prunes 20%, `more` prunes 30%; `more` is checked out, without cache or remote."""
    directory = tmp_path_factory.mktemp("repository")
    repository = Repository(directory)
    shutil.copytree(ROOT / ".ci", directory / ".ci")
    (directory / "dvc.yaml").write_text(STAGES, encoding="utf-8")
    (directory / "report.py").write_text(PROGRAM, encoding="utf-8")
    (directory / "text.txt").write_text("text", encoding="utf-8")
    (directory / "data").mkdir()
    repository.run("git", "init", "--quiet", "--initial-branch", "main")
    repository.run("dvc", "init", "--quiet")
    (directory / ".gitignore").write_text("/data/compare/\n", encoding="utf-8")
    repository.set(0.2)
    repository.reproduce_and_commit("Prune 20%")
    repository.git("checkout", "--quiet", "-b", "more")
    repository.set(0.3)
    repository.reproduce_and_commit("Prune 30%")
    # As a fresh clone has it: neither data nor cache.
    shutil.rmtree(directory / ".dvc/cache")
    (directory / "data/prepared.txt").unlink()
    return directory


@pytest.fixture
def repository(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    directory = shutil.copytree(template, tmp_path / "repository")
    monkeypatch.chdir(directory)
    return Repository(directory)


def compare(repository: Repository, *arguments: str, status: int = 0) -> str:
    return invoke(main, "--compare", *arguments, status=status)


def row(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(f"| `{name}`"))


def test_changed_params_stand_beside_each_other(repository: Repository) -> None:
    assert "| `prune.sparsity` | `0.2` | `0.3` |" in compare(repository, "main")


def test_regressions_are_marked_by_their_direction(repository: Repository) -> None:
    text = compare(repository, "main")
    assert row(text, "perplexity.code") == (
        "| `perplexity.code` | 10.0 | 12.0 → 13.0 | 1.2 → 1.3 | +8.3% | **worse** |"
    )
    assert row(text, "decoder_parameters").endswith("833 → 769 |  | -7.7% | better |")
    assert row(text, "accuracy.mean").endswith("| -7.7% | within the standard error |")
    assert row(text, "macs_per_token").endswith("1,167 → 1,077 |  | -7.7% | better |")
    # Older commits have times in their metrics: noise is no verdict.
    assert "decode_ms" not in text
    assert "2 measures worse, 2 better: `perplexity.geometric_mean`, `perplexity.code`." in text


def test_the_other_way_round_it_is_an_improvement(repository: Repository) -> None:
    repository.git("checkout", "--quiet", "main")
    text = compare(repository, "more")
    assert row(text, "perplexity.code").endswith("| -7.7% | better |")
    # Noise is no gain either.
    assert row(text, "accuracy.mean").endswith("| +8.3% | within the standard error |")


def test_a_figure_that_changed_is_shown_on_both_sides(repository: Repository) -> None:
    text = compare(repository, "main")
    before = text.split("| ![loss.png](")[1].split(")")[0]
    assert (repository.directory / before).read_text(encoding="utf-8") == "figure of 0.2"
    assert "![loss.png](data/plots/loss.png)" in text
    assert "The same on both sides: [same.png](data/plots/same.png)" in text


def test_figures_can_be_linked_at_both_commits(repository: Repository) -> None:
    text = compare(repository, "main", "--figures-at", "https://example.org/raw/{commit}")
    for revision in ("main", "more"):
        commit = repository.git("rev-parse", revision)
        assert f"![loss.png](https://example.org/raw/{commit}/data/plots/loss.png)" in text
    assert not (repository.directory / "data/compare").exists()


def test_what_is_not_committed_yet_is_compared_too(repository: Repository) -> None:
    repository.set(0.5)
    assert "| `prune.sparsity` | `0.3` | `0.5` |" in compare(repository, "HEAD")


def test_dvcs_own_diff_agrees(repository: Repository) -> None:
    table = repository.run("dvc", "metrics", "diff", "--md", "main").splitlines()
    line = next(line for line in table if "pruned.perplexity.code" in line)
    assert [cell.strip() for cell in line.split("|")[3:5]] == ["12.0", "13.0"]


def test_nothing_changed_says_so(repository: Repository) -> None:
    text = compare(repository, "more")
    assert "No setting changed." in text
    assert "No measure got better or worse." in text


LAUGHS = "x: &a0 [0, 0]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))


@pytest.mark.parametrize(
    ("params", "shown"),
    [
        (LAUGHS, "`a59`"),
        ("a: &a [1, *a]\n", "(cannot be shown)"),
        ("a: [{? [b, c] : 1}]\n", "`[{}]`"),
        ("a: &a {b: *a}\n", "(cannot be shown)"),
    ],
)
def test_params_that_hold_more_than_a_memory_are_shown_by_their_beginning(
    repository: Repository, params: str, shown: str
) -> None:
    with (repository.directory / "params.yaml").open("a", encoding="utf-8") as file:
        file.write(params)
    repository.git("commit", "--quiet", "--all", "--message", "Strange")
    assert shown in compare(repository, "main")


@pytest.mark.parametrize("key", ["difference", "dense", "pruned", "ratio"])
def test_a_number_in_place_of_a_group_of_metrics_stops_nothing(repository: Repository, key: str) -> None:
    path = repository.directory / "data/metrics.json"
    metrics = json.loads(path.read_text(encoding="utf-8"))
    metrics["pruned"]["accuracy"] = {"mean": 0.123}
    path.write_text(json.dumps(metrics | {key: 3}), encoding="utf-8")
    repository.git("commit", "--quiet", "--all", "--message", "Strange")
    assert "### Metrics" in compare(repository, "main")


def test_a_side_without_results_is_no_error(repository: Repository) -> None:
    repository.git("rm", "--quiet", "-r", "data")
    text = compare(repository, "main")
    assert (
        row(text, "perplexity.code") == "| `perplexity.code` | 10.0 → none | 12.0 → none | 1.2 → none |  |  |"
    )
    assert "| not there |" in text


def test_a_revision_that_is_not_there_is_one_message(repository: Repository) -> None:
    text = compare(repository, "nowhere", status=1)
    assert text == "Error: --compare: nowhere: not a commit, branch or tag of this repository\n"


def test_the_review_says_that_the_lock_agrees(repository: Repository) -> None:
    text = repository.review("main")
    assert text.startswith("<!-- secateurs: review -->\n")
    assert "| `prune.sparsity` | `0.2` | `0.3` |" in text
    assert "dvc.lock agrees with code and params." in text


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        # What `report` reads is not here, and cannot be made in a dry run.
        ("params.yaml", ("0.3", "0.4"), "- `report`"),
        ("text.txt", ("text", "other"), "- `prepare`"),
        ("dvc.yaml", ("stages:", "stages: ["), "is invalid"),
    ],
)
def test_the_review_fails_when_the_lock_is_stale(
    repository: Repository, file: str, change: tuple[str, str], said: str
) -> None:
    path = repository.directory / file
    path.write_text(path.read_text(encoding="utf-8").replace(*change), encoding="utf-8")
    text = repository.review("main", status=1)
    assert "**dvc.lock is stale**" in text
    assert said in text


BOT = "github-actions[bot]"


class Comments(BaseHTTPRequestHandler):
    """As much of the comments' interface as a comment needs, in memory."""

    store: list[dict[str, Any]]

    def do_GET(self) -> None:
        self.answer(self.store)

    def do_POST(self) -> None:
        self.store.append({"id": 100 + len(self.store), "body": self.body(), "user": {"login": BOT}})
        self.answer(self.store[-1])

    def do_PATCH(self) -> None:
        comment = next(one for one in self.store if str(one["id"]) == self.path.rsplit("/", 1)[1])
        comment["body"] = self.body()
        self.answer(comment)

    def body(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))["body"]

    def answer(self, data: Any) -> None:
        content = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests need no line on the terminal."""

    def address_string(self) -> str:
        return "socket"


@pytest.fixture
def comments(tmp_path: Path) -> Iterator[tuple[list[dict[str, Any]], Path]]:
    """A server on a socket file that the real `gh` is told to use, and what is on the pull request."""
    # Anybody can begin a comment with the line that marks ours.
    store: list[dict[str, Any]] = [
        {"id": 7, "body": "<!-- secateurs: review -->\nLooks good to me.", "user": {"login": "somebody"}}
    ]
    handler = type("Handler", (Comments,), {"store": store})
    with socketserver.ThreadingUnixStreamServer(str(tmp_path / "socket"), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (tmp_path / "config.yml").write_text(f"http_unix_socket: {tmp_path / 'socket'}\n", encoding="utf-8")
        yield store, tmp_path
        server.shutdown()


@pytest.mark.skipif(shutil.which("gh") is None, reason="gh, which CI's machines have, is not installed")
def test_a_second_review_updates_the_comment(comments: tuple[list[dict[str, Any]], Path]) -> None:
    store, directory = comments
    for text in ("first", "second"):
        (directory / "review.md").write_text(f"<!-- secateurs: review -->\n{text}\n", encoding="utf-8")
        subprocess.run(
            [ROOT / ".ci/comment", "you/project", "3", directory / "review.md"],
            env=os.environ | {"GH_CONFIG_DIR": str(directory), "GH_TOKEN": "none"},
            check=True,
        )
    assert [comment["body"] for comment in store] == [
        "<!-- secateurs: review -->\nLooks good to me.",
        "<!-- secateurs: review -->\nsecond\n",
    ]


def test_the_token_is_in_one_step_alone() -> None:
    """Beside it, what runs is the pull request's own code."""
    workflow = read_yaml(ROOT / ".github/workflows/review.yml")
    (job,) = workflow["jobs"].values()
    assert "token" not in str(job["env"]).lower()
    with_token = [step.get("name") for step in job["steps"] if "token" in str(step).lower()]
    assert with_token == ["Comment"]
    (checkout,) = [step for step in job["steps"] if "checkout" in step.get("uses", "")]
    assert checkout["with"]["persist-credentials"] is False
