from datafree.quantization.results import Measured
from datafree.quantization.sensitivity import layers_in_float, sensitivities

LOSS = {"a": 0.1, "b": 0.5, "c": 0.0}


def measure(in_float: tuple[str, ...]) -> Measured:
    """Return a network whose layers lose independently."""
    left = sum(loss for name, loss in LOSS.items() if name not in in_float)
    return Measured(agreement=1 - left / 10, divergence=left, images=100)


def test_the_most_sensitive_layer_comes_first():
    found = sensitivities(list(LOSS), measure(()), measure)
    assert [each.layer for each in found] == ["b", "a", "c"]
    assert abs(found[0].saved - 0.5) < 1e-9


def test_as_few_layers_stay_in_float_as_keep_the_predictions():
    chosen, measured, found = layers_in_float(list(LOSS), measure(()), measure, most=3, tolerance=1.01)
    assert chosen == ("b",) and abs(measured.loss - 1.0) < 1e-6 and len(found) == 3
    assert layers_in_float(list(LOSS), measure(()), measure, most=3, tolerance=0.1)[0] == ("b", "a")
    assert layers_in_float(list(LOSS), measure(()), measure, most=1, tolerance=0.1)[0] == ("b",)


def test_nothing_is_measured_where_nothing_is_lost():
    def refuse(in_float: tuple[str, ...]) -> Measured:
        raise AssertionError(in_float)

    good = Measured(agreement=1.0, divergence=0.0, images=100)
    assert layers_in_float(["a"], good, refuse, most=2, tolerance=0.5) == ((), good, [])
    bad = Measured(agreement=0.5, divergence=1.0, images=100)
    assert layers_in_float(["a"], bad, refuse, most=0, tolerance=0.5) == ((), bad, [])


def test_layers_that_do_not_help_stay_quantised():
    bad = Measured(agreement=0.5, divergence=1.0, images=100)
    chosen, measured, found = layers_in_float(["a", "b"], bad, lambda in_float: bad, most=2, tolerance=0.5)
    assert chosen == () and measured is bad and [each.saved for each in found] == [0.0, 0.0]
