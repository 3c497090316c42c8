"""Values of params.yaml that YAML itself takes for something else, or for nothing: one message with the line."""

from pathlib import Path

import pytest

from stages import plan
from tests.bad_inputs.local import local_params, make_project, said
from tests.project import change

KEY = "params.yaml: prune.sparsity: "
NUMBER = "Input should be a valid number"
TAGS = "tags are not read; write the value alone, and text that looks like a number in quotes"
READ = "correct it, or put text in quotes"
# A few lines that hold 10**8 values, by aliases of aliases.
MANY = "\n".join(
    ["  a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    + [f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 8)]
)

# What stands in place of the sparsity's line, and what is said; LINE is that line's place.
CASES = {
    "an integer of 5,000 digits": (f"sparsity: {'9' * 5000}", f"params.yaml:LINE: '{'9' * 119}…: cannot be read: "
        f"Exceeds the limit (4300 digits) for integer string conversion: value has 5000 digits; {READ}"),
    "an integer of 4,000 digits": (f"sparsity: {'9' * 4000}", f"{KEY}an integer of 13288 bits: {NUMBER}"),
    "as many digits to the base of 16": (f"sparsity: 0x{'f' * 5000}", f"{KEY}an integer of 20000 bits: {NUMBER}"),
    "no month 13": ("sparsity: 2026-13-01",
        f"params.yaml:LINE: '2026-13-01': cannot be read: month must be in 1..12; {READ}"),
    "no day 30 of February": ("sparsity: 2026-02-30",
        f"params.yaml:LINE: '2026-02-30': cannot be read: day is out of range for month; {READ}"),
    "no hour 25": ("sparsity: 2026-02-03T25:00:00",
        f"params.yaml:LINE: '2026-02-03T25:00:00': cannot be read: hour must be in 0..23; {READ}"),
    "a date": ("sparsity: 2026-12-01", f"{KEY}2026-12-01 (a date; put text in quotes): {NUMBER}"),
    "an integer that is none": ("sparsity: !!int abc", f"params.yaml:LINE: !!int: {TAGS}"),
    "a number that is none": ("sparsity: !!float abc", f"params.yaml:LINE: !!float: {TAGS}"),
    "a truth that is none": ("sparsity: !!bool abc", f"params.yaml:LINE: !!bool: {TAGS}"),
    "a tag of Python": ("sparsity: !!python/object/apply:os.getcwd []",
        f"params.yaml:LINE: !!python/object/apply:os.getcwd: {TAGS}"),
    "a tag of nobody": ("sparsity: !mine 0.2", f"params.yaml:LINE: !mine: {TAGS}"),
    "a tagged mapping": ("sparsity: !!set {a, b}", f"params.yaml:LINE: !!set: {TAGS}"),
    "a key twice": ("sparsity: 0.2\n  sparsity: 0.2", "params.yaml:NEXT: not valid YAML: found duplicate key "
        "\"sparsity\" with value \"0.2\" (original value: \"0.2\"); correct the line"),
    "an alias of nothing": ("sparsity: *gone",
        "params.yaml:LINE: not valid YAML: found undefined alias 'gone'; correct the line"),
    "a tab": ("\tsparsity: 0.2", "params.yaml:LINE: not valid YAML: found character '\\t' that cannot start any token; "
        "correct the line"),
    "an open bracket": ("sparsity: [0.2", "params.yaml:NEXT: not valid YAML: expected ',' or ']', but got ':'; "
        "correct the line"),
    "a list that holds itself": ("sparsity: &a [*a]", f"{KEY}[[[…]]]: {NUMBER}"),
    "a list of lists of lists": (f"sparsity: 0.2\n{MANY}\n  floors: *a7", "params.yaml: prune.a0: unknown key\n"
        + "".join(f"params.yaml: prune.a{n}: unknown key\n" for n in range(1, 8))
        + "params.yaml: prune.floors: unknown key"),
    "the same as a value": (f"sparsity: *a7\n{MANY}",
        "params.yaml:LINE: not valid YAML: found undefined alias 'a7'; correct the line"),
    "a key that paints the terminal": ('sparsity: 0.2\n  "\\e[31mred": 1',
        "params.yaml: prune.\N{REPLACEMENT CHARACTER}[31mred: unknown key"),
    "a value that paints the terminal": ('sparsity: "\\e[31mred"', f"{KEY}'\\x1b[31mred': {NUMBER}"),
    "a value of two lines": ('sparsity: "a\\nb"', f"{KEY}'a\\nb': {NUMBER}"),
    "a long text": (f"sparsity: {'much ' * 100}more", f"{KEY}'{('much ' * 30)[:119]}…: {NUMBER}"),
    "a mapping of much": ("sparsity: {a: {b: {c: {d: 1}}}}", f"{KEY}{{'a': {{'b': {{'c': …}}}}}}: {NUMBER}"),
    "a share of nothing": ("sparsity: 1e-300",
        f"{KEY}1e-300: not one of the decoder's 23,232 parameters would go; raise it"),
    "parameters beyond all": ("parameters: 9223372036854775808", "params.yaml: prune.parameters: "
        "9223372036854775808: Input should be less than or equal to 9223372036854775807"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_it_is_one_message(case: str, here: Path, dense_dir: Path) -> None:
    written, message = CASES[case]
    make_project(here, local_params(dense_dir, prune__sparsity=0.25))
    path = Path("params.yaml")
    before, after = path.read_text(encoding="utf-8").split("sparsity: 0.25", 1)
    line = before.count("\n") + 1
    path.write_text(before + written + after, encoding="utf-8")
    expected = message.replace("LINE", str(line)).replace("NEXT", str(line + 1))
    *first, last = expected.split("\n")
    assert said(plan.main, "--check", before=first) == last


@pytest.mark.parametrize("option", [[], ["--rounds", "3"]])
def test_rounds_are_not_rewritten_in_a_file_that_cannot_be_read(
    option: list[str], here: Path, dense_dir: Path
) -> None:
    make_project(here, local_params(dense_dir))
    Path("params.yaml").write_text("rounds: !!int abc\n", encoding="utf-8")
    assert said(plan.main, *option) == f"params.yaml:1: !!int: {TAGS}"


def test_rounds_are_not_rewritten_where_there_are_none(here: Path, dense_dir: Path) -> None:
    make_project(here, change(local_params(dense_dir), {"rounds": 3}))
    message = "params.yaml: rounds: no such group; fetch the file again"
    assert said(plan.main, "--rounds", "3") == message
