"""The course of the learning rate."""

from secateurs.devices.optimizer import learning_rate_factor


def test_the_learning_rate_rises_to_its_peak_and_falls() -> None:
    factors = [learning_rate_factor(step, 10, warmup=0.2) for step in range(10)]
    assert factors[:3] == [0.5, 1.0, 1.0]
    assert sorted(factors[2:], reverse=True) == factors[2:]
    assert 0 < factors[-1] < 0.05


def test_without_warm_up_the_first_step_is_at_the_peak() -> None:
    assert learning_rate_factor(0, 10, warmup=0.0) == 1.0
    assert learning_rate_factor(0, 1, warmup=0.15) == 1.0
