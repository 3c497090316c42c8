"""Every bad setting is refused with the file, the key, the value and what would be right."""

from pathlib import Path
from typing import Any

import pytest

from secateurs.errors import InputError
from stages.params import file as params
from stages.params.file import read_params
from stages.params.method_settings import method_settings
from tests.project import PARAMS, change, read_yaml, write_params


def test_the_default_file_is_valid() -> None:
    assert read_params(PARAMS).chain() == ["r1", "r2", "r3"]


@pytest.mark.parametrize("given", [{}, {"base_model": ""}, {"base_model": None}])
def test_a_model_of_ones_own_needs_no_model_that_it_comes_from(given: dict[str, Any]) -> None:
    model = {"source": "path", "path": "my-llama", "name": "mine", "licence": "mit", **given}
    checked = params.check_params(read_yaml() | {"model": model}, Path("params.yaml"))
    assert checked.model.base_model is None  # type: ignore[union-attr]


ZERO = {
    f"mixture.{name}": 0.0
    for name in ("encyclopedic", "news", "reviews", "code", "mathematics", "science", "reasoning", "self")
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prune.speed": 3}, "prune.speed: unknown key"),
        ({"prune.sparsity": ...}, "prune: no target; add one of sparsity, parameters, memory, multiply_adds"),
        (
            {"prune.parameters": 110_000_000},
            "prune.sparsity: 0.2, prune.parameters: 110000000: only one target can be given",
        ),
        ({"domains.news.sha256": ...}, "domains.news.sha256: missing"),
        ({"prune.parameters": 0}, "prune.parameters: 0: Input should be greater than or equal to 1"),
        ({"prune.memory": {"bytes": 9, "precision": "int3"}}, "prune.memory.precision: 'int3': Input should"),
        ({"prune.memory": {"bytes": 9}}, "prune.memory.precision: missing"),
        ({"prune.sparsity": "much"}, "prune.sparsity: 'much': "),
        ({"prune.sparsity": 1.2}, "prune.sparsity: 1.2: Input should be less than 1"),
        ({"mask.metric": "best"}, "mask.metric: 'best': Input should be 'fisher', 'taylor'"),
        ({"capture.batch_size": True}, "capture.batch_size: True: "),
        ({"model.package": ["a==1", "b"]}, "model.package.1: 'b': "),
        ({"model.package": []}, "model.package: []: "),
        ({"domains.news.package": "gensim"}, "domains.news.package: 'gensim': "),
        ({"domains.news.sha256": "abc"}, "domains.news.sha256: 'abc': "),
        ({"domains.news.source": "ftp"}, "domains.news: "),
        ({"domains.news.documents": 0}, "domains.news.documents: 0: "),
        ({"domains.news.reader": {"format": "jsonl"}}, "domains.news.reader.field: missing"),
        (ZERO, "mixture: all weights are 0"),
        ({"mixture.news": -1.0}, "mixture.news: -1.0: "),
        ({"mixture.news": float("inf")}, "mixture.news: inf: Input should be a finite number"),
        ({"prune.sparsity": float("nan")}, "prune.sparsity: nan: Input should be a finite number"),
        ({"sample.temperature": float("inf")}, "sample.temperature: inf: Input should be a finite number"),
        ({"rounds.r1.progress": float("nan")}, "rounds.r1.progress: nan: Input should be a finite number"),
        ({"surgery.ridge": float("inf")}, "surgery.ridge: inf: Input should be a finite number"),
        ({"recover.clip": float("inf")}, "recover.clip: inf: Input should be a finite number"),
        ({"mixture.news": 1e308, "mixture.code": 1e308}, "mixture: the sum of the weights is not finite"),
        ({"mask.seed": 2**64}, "mask.seed: 18446744073709551616: Input should be less than 4294967296"),
        ({"mixture.poetry": 1.0}, "mixture.poetry: no such domain"),
        ({"mixture.news": ...}, "mixture: domain news has no weight"),
        ({"rounds.r2.progress": 0.2}, "rounds.r2.progress: 0.2: must be more than the 0.34"),
        ({"rounds.r3.progress": 0.9}, "rounds.r3.progress: 0.9: the last round must reach 1.0"),
        ({"rounds.r2.after": "r9"}, "rounds.r2.after: r9: no such round; choose among dense, r1, r2, r3"),
        ({"rounds.r2.after": "r2"}, "rounds.r2.after: r2: a round cannot follow itself"),
        ({"rounds.r3.after": "r1"}, "rounds: r2 not on the way"),
        ({"surgery.after": "r7"}, "surgery.after: r7: no such round; rounds are r1, r2, r3"),
        ({"capture.gradients": False}, "mask.metric: taylor: needs gradients; set capture.gradients: true"),
        (
            {"capture.layers": "streamed"},
            "capture.layers: streamed: capture.gradients: true makes a backward pass, for which",
        ),
        (
            {"capture.layers": "streamed", "prune.sites": "auto"},
            "capture.layers: streamed: prune.sites: auto: trials have the whole model in memory",
        ),
        ({"capture.layers": "lazy"}, "capture.layers: 'lazy': Input should be 'resident' or 'streamed'"),
        ({"surgery.sequences": 99}, "surgery.sequences: 99: more than corpus.calibration_sequences"),
        ({"prune.sites": ["mlp", "mlp"]}, "a site is named twice"),
        ({"prune.sites": []}, "prune.sites: []: "),
        ({"prune.sites": ["attention", "query_heads"]}, "choose one of the two"),
        (
            {"surgery.heal": "none", "surgery.reconstruct.epochs": 1},
            "surgery.heal: none: reconstruction starts from the residual refit",
        ),
        (
            {"mask.reweight": 1.0},
            "mask.reweight: 1: needs to know what was lost; set mask.left_out, such as 4",
        ),
        (
            {"mask.left_out": 3},
            "mask.left_out: 3: surgery.sequences: 22 leaves 2 of corpus.calibration_sequences: 24",
        ),
        (
            {"mask.left_out": 2, "compute.device": "sharded"},
            "mask.left_out: 2: compute.device: sharded: what was lost is taken on one device",
        ),
        (
            {"surgery.choice_sequences": 3},
            "surgery.choice_sequences: 3: surgery.sequences: 22 leaves 2 of corpus.calibration_sequences: 24",
        ),
        (
            {"surgery.choice_sequences": 3, "surgery.heal": "residual", "surgery.tokens.steps": 9},
            "surgery.choice_sequences: 3: surgery.sequences: 22 leaves 2 of "
            "corpus.calibration_sequences: 24, and surgery.tokens is judged by text that no refit has read",
        ),
        (
            {
                "surgery.tokens.steps": 9,
                "prune.vocabulary": {"rows": 64, "keep": [], "leave": []},
                "compute.device": "sharded",
            },
            "compute.device: sharded: surgery.tokens: 9 steps need one device",
        ),
        ({"surgery.reconstruct.learning_rate": 0.0}, "surgery.reconstruct.learning_rate: 0.0: "),
        ({"recover.steps": -1}, "recover.steps: -1: "),
        ({"recover.learning_rate": 0}, "recover.learning_rate: 0: "),
        ({"recover.warmup": 1.0}, "recover.warmup: 1.0: Input should be less than 1"),
        ({"recover.minutes": 0.0}, "recover.minutes: 0.0: "),
        ({"recover.low_rank.rank": 0}, "recover.low_rank.rank: 0: "),
        (
            {"recover.on_policy.share": 0.01},
            "recover.on_policy.share: 0.01: no sequence of recover.batch",
        ),
        (
            {"recover.on_policy.first_tokens": 600},
            "recover.on_policy.first_tokens: 600: more than recover.on_policy.tokens: 512",
        ),
        (
            {"recover.on_policy.share": 0.5, "recover.mixture.dialogues": 0.0},
            "recover.on_policy.share: 0.5: the questions are those of own dialogues, of which "
            "recover.mixture.dialogues: 0 reads none",
        ),
        (
            {"recover.abilities.questions": 4, "recover.mixture.dialogues": 0.0},
            "recover.abilities.questions: 4: the questions are those of own dialogues, of which "
            "recover.mixture.dialogues: 0 reads none; give it a weight",
        ),
        (
            {"recover.teacher": "cached", "recover.on_policy.share": 0.5},
            "recover.teacher: cached: recover.on_policy.share: 0.5: answers of the model in training are "
            "scored by the dense model itself; set the one to live, or the other to 0",
        ),
        ({"recover.cached.likeliest": 0}, "recover.cached.likeliest: 0: "),
        (
            {"recover.best_by": "agreement"},
            "recover.best_by: agreement: recover.abilities.questions: 0 asks nothing to agree on; ask some, "
            "or set it to divergence",
        ),
        ({"compute.device": "tpu"}, "compute.device: 'tpu': "),
    ],
)
def test_a_bad_setting_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write_params(tmp_path, change(read_yaml(), changes))
    with pytest.raises(InputError) as caught:
        read_params(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("named", [{"surgery.heal": "residual"}, {"surgery.reconstruct.epochs": 1}])
def test_without_a_choice_healing_may_read_all_text(tmp_path: Path, named: dict[str, Any]) -> None:
    params = read_params(write_params(tmp_path, change(read_yaml(), {"surgery.sequences": 24, **named})))
    assert method_settings(params).surgery.method == "residual"


def test_a_target_that_is_not_given_is_not_written() -> None:
    assert set(read_params(PARAMS).model_dump()["prune"]) == set(read_yaml()["prune"])


def test_all_problems_are_listed_at_once(tmp_path: Path) -> None:
    path = write_params(tmp_path, change(read_yaml(), {"prune.sparsity": 2.0, "corpus.ngram": 0}))
    with pytest.raises(InputError) as caught:
        read_params(path)
    assert len(str(caught.value).splitlines()) == 2


def test_a_cycle_of_rounds_is_refused(tmp_path: Path) -> None:
    path = write_params(tmp_path, change(read_yaml(), {"rounds.r1.after": "r3"}))
    with pytest.raises(InputError, match="rounds: r1 -> r2 -> r3 -> r1: a cycle"):
        read_params(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not found; run from the project's root"):
        read_params(tmp_path / "params.yaml")


def test_yaml_that_does_not_parse_is_named(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("prune: [", encoding="utf-8")
    with pytest.raises(InputError, match="not valid YAML"):
        read_params(path)


def test_a_number_too_large_for_yaml_is_not_finite_either(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    text = PARAMS.read_text(encoding="utf-8")
    assert text.count("  news: 1.0\n") == 1
    path.write_text(text.replace("  news: 1.0\n", "  news: 1e400\n"), encoding="utf-8")
    with pytest.raises(InputError, match=r"mixture\.news: inf: Input should be a finite number"):
        read_params(path)


def test_every_number_of_params_is_finite() -> None:
    models, waiting = set(), [params.Group]
    while waiting:
        below = waiting.pop().__subclasses__()
        models |= set(below)
        waiting += below
    assert len(models) > 20
    assert all(one.model_config["allow_inf_nan"] is False for one in models)


@pytest.mark.parametrize("value", [..., None, ""])
def test_a_key_that_may_be_null_may_be_absent_or_empty(value: Any, tmp_path: Path) -> None:
    hub = {
        "source": "hub",
        "id": "a/b",
        "revision": "main",
        "split": "train",
        "field": "text",
        "documents": 9,
    }
    domain = {"domains.news": hub if value is ... else hub | {"config": value}}
    write_params(tmp_path, change(read_yaml(), {"model.base_model": value, **domain}))
    read = read_params(tmp_path / "params.yaml")
    assert (read.model.base_model, read.domains["news"].config) == (None, None)


@pytest.mark.parametrize(
    "target", [{"prune.parameters": 7 * 10**9}, {"prune.memory": {"bytes": 5 * 10**9, "precision": "q4_0"}}]
)
def test_a_target_may_be_that_of_a_large_model(target: dict[str, Any], tmp_path: Path) -> None:
    write_params(tmp_path, change(read_yaml(), {"prune.sparsity": ..., **target}))
    (expected,) = target.values()
    prune = read_params(tmp_path / "params.yaml").prune
    assert expected in prune.model_dump().values()
