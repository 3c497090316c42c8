"""The verdict over cases whose figures leave no doubt about what it has to say."""

from dataclasses import replace

import pytest

from secateurs.evaluation.units import count, percent, size
from secateurs.evaluation.verdict import Facts, Speed, advice, verdict

LARGE = Facts(
    parameters=(1_540_000_000, 1_280_000_000),
    weight_bytes=(3_090_000_000, 2_560_000_000),
    macs_per_token=(1_540_000_000, 1_280_000_000),
    perplexity=1.05,
    worst=("news", 1.08),
    accuracy=(-0.01, 0.006),
)
SMALL = replace(
    LARGE,
    parameters=(134_515_008, 112_949_568),
    weight_bytes=(538_090_408, 451_828_648),
    macs_per_token=(134_479_872, 112_914_432),
    perplexity=1.4467,
    worst=("reviews", 1.7525),
    accuracy=(-0.0875, 0.0541),
    quantised="Q4_1",
)


def test_the_default_run_is_called_a_demonstration_in_one_sentence():
    assert verdict(SMALL) == (
        "16% smaller, 16% fewer multiply-adds a token, perplexity +45%, accuracy within noise "
        "(-8.8 ± 5.4 points): a demonstration on 135M."
    )


@pytest.mark.parametrize(
    ("changes", "conclusion"),
    [
        ({}, "worth a trial on your own task."),
        ({"perplexity": 1.18}, "recover it before it ships."),
        ({"perplexity": 1.18, "recovered": True}, "what is lost shows."),
        ({"accuracy": (-0.02, 0.006)}, "recover it before it ships."),
        ({"accuracy": (0.02, 0.006)}, "worth a trial on your own task."),
        ({"perplexity": 1.6}, "too much is lost to ship it."),
        ({"perplexity": None, "accuracy": None}, "nothing says yet how good it is."),
    ],
)
def test_figures_decide_the_conclusion(changes, conclusion):
    assert verdict(replace(LARGE, **changes)).endswith(f": {conclusion}")


def test_a_range_that_holds_one_shows_no_difference_of_speed():
    text = verdict(replace(LARGE, prefill=Speed(0.82, 0.79, 1.02), decode=Speed(0.894, 0.88, 0.93)))
    assert "prefill as fast within noise, decode in 11% less time" in text


def test_what_grew_is_said_to_have_grown():
    text = verdict(replace(LARGE, weight_bytes=(1000, 1030), decode=Speed(1.2, 1.1, 1.3)))
    assert text.startswith("3.0% larger, 17% fewer multiply-adds a token, decode takes 20% more time")


def test_advice_names_the_remedy_the_domain_and_the_missing_items():
    found = advice(SMALL)
    assert found[0].startswith("Recover it")
    assert found[1] == "Reviews loses most (perplexity +75%): weigh it more if it is your use."
    assert found[2] == "The tasks have too few items to show a change of less than 11 points: score more."
    assert "dequantised from Q4_1; at 4 bits the dense model takes about 75.7 MB, against 452 MB" in found[3]


def test_a_good_model_is_only_compared_with_four_bits():
    (only,) = advice(LARGE)
    # 4.5 bits a weight, 18 bytes for 32.
    assert (
        "at 4 bits the dense model takes about 866 MB, against 2.56 GB here, and the pruned one about 720 MB"
        in only
    )


def test_a_recovered_model_is_not_told_to_recover():
    assert advice(replace(LARGE, perplexity=1.2, recovered=True))[0].startswith("Train it longer")


@pytest.mark.parametrize(
    ("number", "text"),
    [(720, "720 B"), (999_499, "999 kB"), (999_500, "1.00 MB"), (451_828_648, "452 MB"), (3.09e9, "3.09 GB")],
)
def test_bytes_have_three_digits_and_a_unit(number, text):
    assert size(number) == text


def test_counts_and_changes_are_short():
    assert [count(112_949_568), count(1_540_000_000), count(48_200)] == ["113 M", "1.54 B", "48.2 k"]
    assert [percent(1.4467), percent(0.9), percent(1.0041), percent(1.0)] == ["+45%", "-10%", "+0.4%", "0%"]
