"""The axes of a study, from their file: what each asks, and the experiments that answer it."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from lab.study.settings import Tree, changed, overrides
from secateurs.errors import InputError
from secateurs.settings.base import Group, Name, Seed
from secateurs.settings.problems import lines_of
from stages.params.file import Params
from stages.params.yaml_file import read_yaml

AXES_FILE = Path(__file__).with_name("grid.yaml")

Show = Literal["choice", "curve", "transfer"]
Settings = dict[str, Any]


class _Part(Group):
    """What a grid adds to an axis, or replaces in it."""

    settings: Settings = Field(default_factory=dict)
    seeds: list[Seed] | None = None
    points: dict[str, Settings] = Field(default_factory=dict)


class _Axis(_Part):
    question: str
    show: Show
    grids: dict[Name, _Part] = Field(default_factory=dict)


class _Grid(Group):
    about: str
    settings: Settings
    seeds: list[Seed]


class _File(Group):
    grids: dict[Name, _Grid]
    axes: dict[Name, _Axis]


@dataclass(frozen=True)
class Experiment:
    """One run of the pipeline: its name, all its params, and what `-S` makes them of params.yaml."""

    name: str
    params: Tree
    settings: tuple[str, ...]

    @property
    def digest(self) -> str:
        """A short hash of the params."""
        return hashlib.blake2b(_text(self.params).encode(), digest_size=6).hexdigest()

    @property
    def checked(self) -> Params:
        """The params as types, which grid() has checked."""
        return Params.model_validate(self.params)


@dataclass(frozen=True)
class Point:
    """A place on an axis: its label and an experiment for each draw of the text."""

    label: str
    experiments: tuple[Experiment, ...]


@dataclass(frozen=True)
class Axis:
    """A question and the points that answer it.

    show: choice, of which the best is marked; curve, drawn against parameters; or transfer, whose first point
    has every domain that the others leave out.
    """

    name: str
    question: str
    show: Show
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Grid:
    """A study: what it is for, and its axes. Points with the same params have one experiment in common."""

    name: str
    about: str
    axes: tuple[Axis, ...]

    def experiments(self) -> list[Experiment]:
        """Each once, in the order of the axes."""
        points = [point for axis in self.axes for point in axis.points]
        return list({one.name: one for point in points for one in point.experiments}.values())


def grid(name: str, params: Tree, file: Path = AXES_FILE, axis: str | None = None) -> Grid:
    """The grid `name` of a file of axes, made of the params; `axis` leaves out the others.

    Raises InputError for a file, a name or settings that make no valid params.
    """
    read = _read(file)
    if name not in read.grids:
        raise InputError(f"{file}: grids: {name}: no such grid; grids are {', '.join(read.grids)}")
    if axis is not None and axis not in read.axes:
        raise InputError(f"{file}: axes: {axis}: no such axis; axes are {', '.join(read.axes)}")
    # All axes are made, because an experiment is named after the first axis that has it.
    maker = _Maker(file, name, params)
    axes = [maker.axis(key, value, read.grids[name]) for key, value in read.axes.items()]
    asked = tuple(one for one in axes if one.points and axis in {None, one.name})
    if not asked:
        where = "axes" if axis is None else f"axes: {axis}"
        raise InputError(f"{file}: {where}: has no points in the {name} grid")
    return Grid(name, read.grids[name].about, asked)


def _read(file: Path) -> _File:
    try:
        return _File.model_validate(read_yaml(file))
    except ValidationError as error:
        raise InputError("\n".join(f"{file}: {line}" for line in lines_of(error))) from None


class _Maker:
    """Names experiments: points with the same params get the name of the first of them."""

    def __init__(self, file: Path, grid: str, params: Tree) -> None:
        self.file, self.grid, self.params = file, grid, params
        self.known: dict[str, Experiment] = {}

    def axis(self, name: str, axis: _Axis, grid: _Grid) -> Axis:
        own = axis.grids.get(self.grid, _Part())
        seeds = next(one for one in (own.seeds, axis.seeds, grid.seeds) if one is not None)
        common = grid.settings | axis.settings | own.settings
        extra = [label for label in own.points if label not in axis.points]
        ordered = own.points if own.points.keys() >= axis.points.keys() else [*axis.points, *extra]
        points = {
            label: _in_order(common | axis.points.get(label, {}) | own.points.get(label, {}))
            for label in ordered
        }
        made = [
            Point(label, tuple(self._experiments(name, label, settings, seeds)))
            for label, settings in points.items()
        ]
        return Axis(name, axis.question, axis.show, tuple(made))

    def _experiments(
        self, axis: str, label: str, settings: Settings, seeds: list[int]
    ) -> Iterator[Experiment]:
        for seed in seeds:
            where = f"{self.file}: axes.{axis}: {label}"
            # The seed decides which documents calibrate and which are held out, and what is taken of each;
            # the other seeds of params.yaml only move the model's own text and the random control.
            try:
                tree = changed(self.params, settings | {"corpus.seed": self.params["corpus"]["seed"] + seed})
                Params.model_validate(tree)
            except InputError as error:
                raise InputError(f"{where}: {error}") from None
            except ValidationError as error:
                raise InputError(
                    f"{where}:\n" + "\n".join(f"{self.file}: {line}" for line in lines_of(error))
                ) from None
            key = _text(tree)
            if key not in self.known:
                name = f"study-{self.grid}-{axis}-{_slug(label)}-s{seed}"
                if any(one.name == name for one in self.known.values()):
                    raise InputError(f"{where}: another point has the name {name}; change its label")
                self.known[key] = Experiment(name, tree, tuple(overrides(self.params, tree)))
            yield self.known[key]


def _in_order(settings: Settings) -> Settings:
    # `only` multiplies the sequences and looks at the mixture: what sets those comes before it.
    return dict(sorted(settings.items(), key=lambda item: item[0] == "only"))


def _text(params: Tree) -> str:
    return json.dumps(params, sort_keys=True)


def _slug(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")
