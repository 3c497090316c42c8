"""The committed grids make valid experiments; any file of axes is checked before something runs."""

import re
import shutil
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides

from lab.study.duration import EXPERIMENT_SECONDS, runs_of, seconds
from lab.study.grid import Grid, grid
from lab.study.settings import changed, overrides
from secateurs.errors import InputError
from stages.params.file import Params, read_params
from stages.planning.architecture import read_shapes
from tests.project import ROOT, read_yaml

PARAMS = read_yaml()
GRIDS = {name: grid(name, PARAMS) for name in ("small", "large")}


def axes(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "axes.yaml"
    file.write_text(
        "grids: {small: {about: Some., settings: {}, seeds: [0]}}\naxes:\n" + text, encoding="utf-8"
    )
    return file


@pytest.mark.parametrize("name", GRIDS)
def test_dvc_makes_of_params_yaml_what_each_experiment_says(name: str, tmp_path: Path) -> None:
    before = (ROOT / "params.yaml").read_text(encoding="utf-8")
    file = tmp_path / "params.yaml"
    # Draws differ in corpus.seed alone, which the small grid's two other draws have.
    shown = [one for one in GRIDS[name].experiments() if name == "small" or one.name.endswith("-s0")]
    for one in shown:
        file.write_text(before, encoding="utf-8")
        if one.settings:
            apply_overrides(file, list(one.settings))
        assert read_params(file) == one.checked, one.name


@pytest.mark.parametrize("name", GRIDS)
def test_names_are_unique_stable_and_what_git_takes(name: str) -> None:
    names = [one.name for one in GRIDS[name].experiments()]
    assert len(set(names)) == len(names)
    assert names == [one.name for one in grid(name, PARAMS).experiments()]
    assert all(re.fullmatch(r"study-[a-z0-9-]+-s\d", one) for one in names)


def test_a_point_of_several_axes_is_one_experiment() -> None:
    points = {(axis.name, point.label): point for axis in GRIDS["small"].axes for point in axis.points}
    default = points["draw", "default"].experiments[0]
    assert default.settings == ()
    assert {name for (name, _), point in points.items() if point.experiments[0] is default} == {
        *("draw", "metric", "sparsity", "widths", "sites", "healing", "reconstruction", "ridge", "tokens"),
    }


def test_an_axis_alone_keeps_the_names_of_what_it_shares() -> None:
    (alone,) = grid("small", PARAMS, axis="metric").axes
    assert alone == next(axis for axis in GRIDS["small"].axes if axis.name == "metric")
    shared = {point.label: point.experiments[0].name for point in alone.points}[PARAMS["mask"]["metric"]]
    assert shared == "study-small-draw-default-s0"


def test_metrics_sizes_rounds_and_domains_are_all_there() -> None:
    labels = {axis.name: [point.label for point in axis.points] for axis in GRIDS["large"].axes}
    assert labels["metric"] == ["fisher", "taylor", "wanda", "fluctuation", "magnitude", "random"]
    assert sorted(labels["sparsity"]) == ["10%", "20%", "30%", "40%", "50%", "60%"]
    assert [label.split()[0] for label in labels["rounds"]] == ["1", "2", "4", "8"]
    assert labels["domain"][1:] == labels["without"][1:] == list(PARAMS["domains"])


def test_one_domain_alone_has_as_many_tokens_as_the_mix() -> None:
    for made in GRIDS.values():
        mix, *alone = next(axis for axis in made.axes if axis.name == "domain").points
        assert len({tokens(point.experiments[0].checked) for point in [mix, *alone]}) == 1


def tokens(params: Params) -> tuple[int, int]:
    """Sequences that count in all captures, and in healing."""
    counting = sum(weight > 0 for weight in params.mixture.values())
    captured = counting * params.capture.sequences * len(params.rounds)
    return captured, counting * params.surgery.sequences


def test_more_rounds_read_no_more_text() -> None:
    for made in GRIDS.values():
        points = next(axis for axis in made.axes if axis.name == "rounds").points
        assert len({tokens(point.experiments[0].checked) for point in points}) == 1


def test_rounds_and_a_domain_alone_have_short_forms() -> None:
    made = changed(PARAMS, {"rounds": 2, "mixture.self": 0.0, "capture.sequences": 2, "only": "news"})
    assert made["rounds"] == {
        "r1": {"after": "dense", "progress": 0.5},
        "r2": {"after": "r1", "progress": 1.0},
    }
    assert made["surgery"]["after"] == "r2"
    assert made["capture"]["sequences"] == 2 * 7
    assert {name for name, weight in made["mixture"].items() if weight} == {"news"}
    assert PARAMS["surgery"]["after"] == "r3"


def test_a_target_takes_the_place_of_the_one_there_is() -> None:
    made = changed(PARAMS, {"prune.parameters": 110_000_000})
    assert overrides(PARAMS, made) == ["~prune.sparsity", "+prune.parameters=110000000"]
    assert changed(made, {"prune.sparsity": 0.2}) == PARAMS


def test_settings_are_written_as_dvc_takes_them() -> None:
    before = {"a": {"b": 1, "c": [1], "d": "x"}, "e": True}
    after = {"a": {"b": 0.5, "c": ["p", "q"], "f": {"after": "r1", "progress": 1.0}}, "e": False}
    assert overrides(before, after) == [
        "a.b=0.5",
        "a.c=[p,q]",
        "~a.d",
        "+a.f={after: r1, progress: 1.0}",
        "e=false",
    ]
    with pytest.raises(InputError, match="a study sets numbers, names"):
        overrides({"a": "x"}, {"a": "two words"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "  a: {question: Q, show: choice, points: {p: {prune.speed: 1}}}",
            "axes.a: p: prune.speed: not a key",
        ),
        (
            "  a: {question: Q, show: choice, points: {p: {prune.sparsity: 2.0}}}",
            "axes.a: p:\n.*prune.sparsity: 2.0",
        ),
        (
            "  a: {question: Q, show: choice, points: {p: {only: poetry}}}",
            "axes.a: p: only: poetry: no such domain",
        ),
        ("  a: {question: Q, show: bars, points: {}}", "axes.yaml: axes.a.show: 'bars'"),
        ("  a: {show: choice}", "axes.yaml: axes.a.question: missing"),
        (
            "  a: {question: Q, show: choice, points: {p: {}, P: {mask.seed: 1}}}",
            "another point has the name study-small-a-p-s0",
        ),
    ],
)
def test_what_makes_no_experiment_is_refused_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=f"(?s){message}"):
        grid("small", PARAMS, axes(tmp_path, text))


def test_a_grid_that_names_all_points_orders_them(tmp_path: Path) -> None:
    points = "points: {b: {}, d: {mask.seed: 1}}"
    ordered = "grids: {small: {points: {a: {mask.seed: 2}, b: {}, c: {mask.seed: 3}, d: {}}}}"
    longer = "grids: {small: {points: {a: {mask.seed: 2}}}}"
    for own, labels in ((ordered, "abcd"), (longer, "bda")):
        file = axes(tmp_path, f"  x: {{question: Q, show: choice, {points}, {own}}}")
        assert [point.label for point in grid("small", PARAMS, file).axes[0].points] == list(labels)


def test_an_axis_of_another_grid_is_left_out_and_refused_when_asked_for() -> None:
    names = {name: [axis.name for axis in GRIDS[name].axes] for name in GRIDS}
    assert set(names["large"]) - set(names["small"]) == {"reconstruction-at-40", "without-trained"}
    with pytest.raises(InputError, match="axes: reconstruction-at-40: has no points in the small grid"):
        grid("small", PARAMS, axis="reconstruction-at-40")


def test_a_file_without_points_is_refused(tmp_path: Path) -> None:
    file = axes(tmp_path, "  a: {question: Q, show: choice, points: {}}")
    with pytest.raises(InputError, match="axes: has no points in the small grid"):
        grid("small", PARAMS, file)


def test_unknown_grids_and_axes_are_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match="huge: no such grid; grids are small, large"):
        grid("huge", PARAMS)
    with pytest.raises(InputError, match="speed: no such axis; axes are draw, metric"):
        grid("small", PARAMS, axis="speed")


def test_the_estimate_counts_a_shared_stage_once(tmp_path: Path, dense_dir: Path) -> None:
    shutil.copytree(dense_dir, tmp_path / "model")
    model = read_shapes(tmp_path / "model")
    one = made_by(tmp_path, "p: {}")
    # Healing alone: sample, dense evaluation, captures and masks are shared.
    two = made_by(tmp_path, "p: {}, q: {surgery.alpha: 0.1}")
    stages = [run.stage for run in runs_of(two.experiments()[1].checked, model)]
    assert stages.count("capture") == stages.count("mask") == 3
    speed = 1e18  # so fast that only starts count
    started = seconds(two.experiments(), model, speed) - seconds(one.experiments(), model, speed)
    assert started == pytest.approx(2 * 8 + EXPERIMENT_SECONDS, rel=1e-3)


def made_by(tmp_path: Path, points: str) -> Grid:
    return grid("small", PARAMS, axes(tmp_path, f"  a: {{question: Q, show: choice, points: {{{points}}}}}"))
