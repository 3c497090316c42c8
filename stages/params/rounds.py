"""The rounds of params.yaml as the chain that they must be."""

from collections.abc import Mapping

from secateurs.settings.pruning import Round

DENSE = "dense"


def chain(rounds: Mapping[str, Round], last: str) -> list[str]:
    """The rounds from the first to `last`; stops where a cycle would begin."""
    names: list[str] = []
    name = last
    while name != DENSE and name not in names:
        names.append(name)
        name = rounds[name].after
    return names[::-1]


def round_problems(rounds: Mapping[str, Round], last: str) -> list[str]:
    """What keeps the rounds from leading from the dense model to `last`, a line each."""
    if DENSE in rounds:
        return [f"rounds.{DENSE}: the name stands for the unpruned model; use another"]
    problems = []
    for name, item in rounds.items():
        if item.after == name:
            problems.append(f"rounds.{name}.after: {name}: a round cannot follow itself")
        elif item.after != DENSE and item.after not in rounds:
            choices = ", ".join([DENSE, *rounds])
            problems.append(f"rounds.{name}.after: {item.after}: no such round; choose among {choices}")
    if last not in rounds:
        problems.append(f"surgery.after: {last}: no such round; rounds are {', '.join(rounds)}")
    if problems:
        return problems
    names = chain(rounds, last)
    if rounds[names[0]].after != DENSE:
        return [f"rounds: {' -> '.join([*names, names[0]])}: a cycle; one round must follow {DENSE}"]
    unused = [name for name in rounds if name not in names]
    if unused:
        problems.append(
            f"rounds: {', '.join(unused)} not on the way from {DENSE} to surgery.after: "
            f"{last}; every round must follow another and lead to it"
        )
        return problems
    before = 0.0
    for name in names:
        progress = rounds[name].progress
        if progress <= before:
            problems.append(
                f"rounds.{name}.progress: {progress}: must be more than the {before} of the round before"
            )
        before = progress
    if before != 1.0:
        problems.append(f"rounds.{names[-1]}.progress: {before}: the last round must reach 1.0")
    return problems
