"""The command on a tiny project: every baseline pruned in a process of its own, scored, and kept."""

import csv
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import save_file
from transformers import PreTrainedModel

from lab.baselines.__main__ import main
from lab.baselines.biases import compensate
from lab.baselines.catalogue import BASELINES
from lab.baselines.loading import OWN, STOCK, try_loading
from lab.baselines.programs.handover import CHECKPOINT, LOGITS, Request, hand_over
from lab.baselines.records import find, keep, read_records
from lab.baselines.running import run
from lab.baselines.selection import baseline_sites
from lab.baselines.table import COLUMNS, csv_rows, markdown
from lab.baselines.width import METHODS
from secateurs.checkpoints.loading import load_model
from secateurs.checkpoints.saving import save_model
from secateurs.errors import InputError
from secateurs.kinds.sites import cut
from stages.common.artifacts import write_sequences
from tests.project import random_sequences, read_yaml, write_dense_round, write_params
from tests.tiny import make_tiny_model, make_tiny_tokenizer

DOMAINS = ("code", "news")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """params.yaml, a dense model of SmolLM2's shape in small, and text of two domains."""
    directory = tmp_path_factory.mktemp("project")
    data = read_yaml()
    domain = data["domains"]["news"]
    data |= {
        "domains": dict.fromkeys(DOMAINS, domain),
        "mixture": {"code": 1.0, "news": 1.0, "self": 0.0, "dialogues": 0.0},
        "benchmarks": {},
        "compute": {"device": "cpu", "dtype": "float32", "launch": "python"},
    }
    data["corpus"]["calibration_sequences"] = 4
    data["surgery"] |= {"sequences": 3, "choice_sequences": 1}
    data["capture"]["sequences"] = 2
    data["prune"]["width_multiple"] = 4
    data["evaluate"] |= {"prompt_tokens": 8, "decode_tokens": 2, "repeats": 1}
    write_params(directory, data)
    sizes = {"hidden_size": 36, "num_attention_heads": 9, "num_key_value_heads": 3, "num_hidden_layers": 8}
    # Answers are written up to half of the context: tests need none of 256 tokens.
    model = make_tiny_model(**sizes, max_position_embeddings=128)
    model.save_pretrained(directory / "data/model")
    make_tiny_tokenizer().save_pretrained(directory / "data/model")
    write_dense_round(directory, model)
    generator = torch.Generator().manual_seed(0)
    for split, domains in (("calibration", (*DOMAINS, "self")), ("heldout", DOMAINS)):
        rows = random_sequences(domains, 16, generator, lowest=2)
        write_sequences(directory / f"data/corpus/{split}.parquet", rows, {})
    return directory


@pytest.fixture
def inside(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = shutil.copytree(project, tmp_path / "project")
    monkeypatch.chdir(directory)
    return directory


def compare(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["--python", "nowhere/python", "--share", "0.2", *arguments])


def record(baseline: str, share: float, perplexity: float, **others: object) -> dict[str, object]:
    domains = {name: {"perplexity": perplexity} for name in DOMAINS}
    return {
        "baseline": baseline,
        "share": share,
        "settings": {},
        "version": "re-implemented",
        "seconds": 12.3,
        "peak_bytes": 2**31,
        "loads": STOCK,
        "perplexity": {"geometric_mean": perplexity, "domains": domains},
        "accuracy": {"piqa": {"acc": 0.5, "acc_stderr": 0.1, "items": 10}},
        "cost": {"decoder_parameters": round(1000 * (1 - share)), "parameters": round(2000 - 1000 * share)},
        "latency": {"prefill_ms": 0.75, "decode_ms_per_token": 0.5},
        **others,
    }


def test_a_failed_baseline_is_a_row_that_says_why_and_the_others_run(inside: Path) -> None:
    first = compare("--baseline", "magnitude", "--baseline", "optipfair-static")
    assert first.exit_code == 1
    assert "Error: 1 failed:" in first.output
    assert "optipfair, static at 20%:" in first.output
    assert "cannot be started: No such file" in first.output
    with (inside / "data/baselines/baselines.csv").open(encoding="utf-8") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"magnitude", "optipfair, static"}
    assert rows["optipfair, static"]["loads in transformers"].startswith("failed: ")
    assert rows["magnitude"]["loads in transformers"] == STOCK
    assert float(rows["magnitude"]["decoder removed"].rstrip("%")) == pytest.approx(20, abs=1.5)
    assert 0.05 < float(rows["magnitude"]["peak GiB"]) < 8
    assert float(rows["magnitude"]["perplexity / dense"]) > 0
    # The second time nothing is run: what is there stays as it was.
    before = read_records(inside / "data/baselines/baselines.json")
    assert compare("--baseline", "magnitude").exit_code == 0
    assert read_records(inside / "data/baselines/baselines.json") == before
    # Another evaluation makes other rows: none of these may stand in one table with them.
    params = (inside / "params.yaml").read_text(encoding="utf-8")
    (inside / "params.yaml").write_text(params.replace("decode_tokens: 2", "decode_tokens: 3"))
    assert compare("--baseline", "optipfair-static").exit_code == 1
    after = read_records(inside / "data/baselines/baselines.json")
    assert [one["baseline"] for one in after] == ["dense", "optipfair-static"]


@pytest.mark.slow
def test_our_own_row_is_made_by_the_stages_themselves(inside: Path) -> None:
    result = compare("--baseline", "secateurs")
    assert result.exit_code == 0, result.output
    (own,) = [
        one for one in json.loads((inside / "data/baselines/baselines.json").read_text()) if one["share"]
    ]
    assert own["loads"] == STOCK
    assert own["setting"] == "taylor, 3 rounds, uniform, mlp"
    # The project's own params and outputs are left alone.
    assert not (inside / "data/pruned").exists()


@pytest.mark.usefixtures("quick_programs")
@pytest.mark.parametrize(
    ("name", "share", "where"), [("wanda-sp", 0.4, STOCK), ("flap", 0.4, OWN), ("gisp", 0.4, OWN)]
)
def test_what_a_method_leaves_loads_where_it_is_said_to(
    project: Path, tmp_path: Path, name: str, share: float, where: str
) -> None:
    model = load_model(project / "data/model", "float32")
    ids = torch.randint(2, 258, (6, 16), generator=torch.Generator().manual_seed(1))
    METHODS[name](model, {"news": ids}, share)
    check = _handed_over(model, ids, tmp_path)
    assert try_loading(tmp_path / CHECKPOINT, check, tmp_path / LOGITS, "float32") == where
    assert where != STOCK or not (tmp_path / CHECKPOINT / "modeling_pruned.py").exists()


@pytest.mark.usefixtures("quick_programs")
def test_equal_widths_with_flaps_biases_load_in_the_stock_class(project: Path, tmp_path: Path) -> None:
    model = load_model(project / "data/model", "float32")
    sites = [site for site in baseline_sites(model) if site.kind.name == "mlp"]
    masks = {site.name: torch.arange(site.units) >= 8 for site in sites}
    compensate(model, {site.name: torch.ones(site.features) for site in sites}, masks)
    cut(model, masks)
    check = _handed_over(model, torch.arange(2, 18)[None], tmp_path)
    assert try_loading(tmp_path / CHECKPOINT, check, tmp_path / LOGITS, "float32") == STOCK


@pytest.mark.usefixtures("quick_programs")
def test_a_checkpoint_that_computes_something_else_is_found(project: Path, tmp_path: Path) -> None:
    model = load_model(project / "data/model", "float32")
    check = _handed_over(model, torch.arange(2, 18)[None], tmp_path)
    other = make_tiny_model(seed=1, hidden_size=36, num_attention_heads=9, num_key_value_heads=3)
    other.save_pretrained(tmp_path / CHECKPOINT)
    with pytest.raises(InputError, match="computes something else than the model in memory"):
        try_loading(tmp_path / CHECKPOINT, check, tmp_path / LOGITS, "float32")


def _handed_over(model: PreTrainedModel, ids: torch.Tensor, out: Path) -> Path:
    check = out / "check.safetensors"
    save_file({"input_ids": ids[:2].contiguous()}, check)
    request = Request("x", "", 0.2, "", "", str(check), str(out), "", "cpu", "float32")
    hand_over(request, model, "1", "", save_model)
    return check


def test_time_and_memory_are_those_of_the_whole_program(tmp_path: Path) -> None:
    program = "import time; held = bytearray(2**28); time.sleep(0.5)"
    cost = run([sys.executable, "-c", program], tmp_path, {})
    assert 0.5 <= cost.seconds < 10
    assert 2**28 <= cost.peak_bytes < 2**30


def test_the_last_line_of_a_program_that_fails_is_its_reason(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^ZeroDivisionError: division by zero$"):
        run([sys.executable, "-c", "1 / 0"], tmp_path, {})


def test_a_failed_row_takes_the_place_of_an_older_one_and_is_made_again() -> None:
    records = keep([], {"baseline": "flap", "share": 0.2})
    assert find(records, "flap", 0.2) is not None
    assert find(records, "flap", 0.4) is None
    failed = {"baseline": "flap", "share": 0.2, "failed": "no"}
    records = keep(records, failed)
    assert records == [failed]
    assert find(records, "flap", 0.2) is None


def test_rows_stand_by_share_in_the_catalogues_order_beside_the_dense_model() -> None:
    dense = record("dense", 0.0, 10.0)
    records = [record("flap", 0.4, 2e4), record("flap", 0.2, 20.0), dense, record("secateurs", 0.2, 15.0)]
    columns, *rows = csv_rows(records)
    assert columns == ("share", *COLUMNS, "setting", *DOMAINS)
    titles = [BASELINES[name].title for name in ("secateurs", "flap", "flap")]
    assert [row[:2] for row in rows] == list(zip(("0.2", "0.2", "0.4"), titles, strict=True))
    expected = ("20.0%", "10.0%", "1.50", "0.500 ± 0.100", "0.75", "0.50", "12", "2.0", STOCK)
    assert rows[0][3:] == (*expected, "", "1.50", "1.50")
    assert rows[2][5] == "2000"


def test_the_page_has_a_table_for_each_share_and_one_of_domains() -> None:
    failed = {"baseline": "flap", "share": 0.4, "failed": "a|b"}
    page = markdown([record("dense", 0.0, 10.0), record("gisp", 0.2, 15.0), failed])
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## 20% of the decoder's parameters",
        "## 40% of the decoder's parameters",
        "## Perplexity / dense by domain",
    ]
    assert "| GISP | 20% | 1.50 | 1.50 |" in page
    assert "failed: a/b |" in page
