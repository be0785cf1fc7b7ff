"""A sample of the torture campaign; all of it is `make torture`."""

from pathlib import Path

import pytest
from torture.__main__ import campaign

SAMPLE = {
    "random kills": 1,
    "placed kills": 1,
    "placed faults": 1,
    "corruptions": 4,
    "hostile files": 10,
    "command lines": 15,
    "mutants": 40,
}


@pytest.mark.timeout(300)
def test_a_sample_of_the_campaign_survives(tmp_path: Path):
    results = campaign(tmp_path, SAMPLE)
    assert all(results.values())
    assert [f"{family} {name}: {why}" for family, each in results.items() for name, why in each.items() if why] == []
