"""The course of the learning rate."""

from stages.pruning.optimizer import share_of_peak


def test_the_learning_rate_rises_to_its_peak_and_falls() -> None:
    shares = [share_of_peak(step, 10, warmup=0.2) for step in range(10)]
    assert shares[:3] == [0.5, 1.0, 1.0]
    assert sorted(shares[2:], reverse=True) == shares[2:]
    assert 0 < shares[-1] < 0.05


def test_without_warm_up_the_first_step_is_at_the_peak() -> None:
    assert share_of_peak(0, 10, warmup=0.0) == 1.0
    assert share_of_peak(0, 1, warmup=0.15) == 1.0
