"""Where the pipeline's files are, relative to the project's root, as dvc.yaml has them under `outs`."""

from pathlib import Path

DATA = Path("data")

MODEL = DATA / "model"
SOURCES = DATA / "sources"
BENCHMARKS = DATA / "benchmarks"
CALIBRATION = DATA / "corpus/calibration.parquet"
HELDOUT = DATA / "corpus/heldout.parquet"
KINDS = DATA / "kinds.json"
VOCABULARY = DATA / "vocabulary.json"
ROUNDS = DATA / "rounds"
PRUNED = DATA / "pruned"
HEALING = DATA / "healing.json"
EVALUATIONS = DATA / "evaluations"
METRICS = DATA / "metrics.json"
PLOTS = DATA / "plots"
FIGURE_DATA = DATA / "figures"
REPORT_MARKDOWN = DATA / "report.md"
REPORT_HTML = DATA / "report.html"
PUBLISHED = DATA / "published"
# Of this machine, for nobody else: git ignores it.
TIMINGS = DATA / "timings.json"
TIMES = DATA / ".times"

# Of the optional pipelines.
OWN_TEXT = DATA / "own"
RECOVERY_TEXT = DATA / "corpus/recovery.parquet"
RECOVERED = DATA / "recovered"
RECOVERED_METRICS = DATA / "recovered.json"
EXPORT = DATA / "export/model.gguf"

# Of the tools that compare.
STUDY = DATA / "study"
BASELINES = DATA / "baselines"
BENCH = DATA / "bench"
