"""The rows of the table of quantisation: measured once, and not again with other settings."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from datafree.benchmarks.quantization.cases import CASES, NOTHING, RANDOM, REAL, Case
from datafree.benchmarks.quantization.measuring import Bench, MeasuredRow, measure_row
from datafree.files import read_json, write_json
from datafree.methods import METHODS
from datafree.runs.reading.described import settings_in
from datafree.teachers import create
from datafree.types import InputError

TINY = Case(
    title="tiny",
    network="convnet_w16",
    data="digits",
    table=None,
    sources={"procedural": replace(METHODS["procedural"], batch_size=32)},
    images=32,
    test_images=64,
    recovered=(),
    bits=("w8a8",),
    observer="minmax",
)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    torch.manual_seed(0)
    network = create("convnet_w16", classes=tuple("0123456789"), shape=(1, 8, 8)).eval()
    return Bench(TINY, network, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("row", [NOTHING, RANDOM, "procedural", REAL])
def test_a_row_is_measured_once(bench: Bench, row: str):
    assert row in TINY.rows
    found = measure_row(bench, row, 0)
    assert list(found) == ["w8a8"]
    assert 0.5 < found["w8a8"]["agreement"] <= 1
    assert found["w8a8"]["form"] == ("dynamic" if row == NOTHING else found["w8a8"]["form"])
    assert (
        measure_row(Bench(TINY, bench.classifier, bench.folder), row, 0)
        == read_json(bench.folder / row / "seed-0.json")["results"]
    )


def test_rows_of_other_settings_are_refused(bench: Bench):
    stored = MeasuredRow({"w8a8": repr(TINY.quantization("procedural", "w8a8"))}, {"w8a8": {"agreement": 0.5}})
    (bench.folder / "procedural").mkdir()
    write_json(bench.folder / "procedural" / "seed-0.json", asdict(stored))
    assert measure_row(bench, "procedural", 0) == {"w8a8": {"agreement": 0.5}}
    drawn = {"procedural": replace(METHODS["procedural"], batch_size=32, leaves=0.0)}
    for case in (replace(TINY, images=16), replace(TINY, sources=drawn), replace(TINY, bits=("w8a8", "w4a8"))):
        with pytest.raises(InputError, match=r"seed-0\.json was measured with other settings; remove it or give"):
            measure_row(Bench(case, bench.classifier, bench.folder), "procedural", 0)


@pytest.mark.parametrize("name", CASES)
def test_stored_settings_are_read_again(name: str):
    case = CASES[name]
    for row in case.rows:
        for bits in case.bits:
            settings = case.quantization(row, bits)
            assert settings_in(repr(settings)) == settings
            assert bool(settings.settings.recovery_steps) == row.endswith("recovered")
            assert (settings.method is None) == (row in (NOTHING, RANDOM, REAL))
