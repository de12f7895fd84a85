from typing import Any

import pytest

from dfdm_ray.io.images import read_png
from dfdm_ray.jobs.ablate.job import by_seed, draw_seeds, mean_and_spread, seeds_table
from dfdm_ray.jobs.evaluate.report import markdown_table


def run(accuracy: float, **qualities: float) -> dict[str, Any]:
    rows = [{"crf": int(name.removeprefix("crf")), "accuracy": value} for name, value in qualities.items()]
    return {"accuracy": accuracy, "qualities": rows}


def test_seeds_become_mean_and_standard_deviation_by_quality() -> None:
    spread = by_seed([run(0.8, crf10=0.9, crf23=0.7), run(0.6, crf10=0.7, crf23=0.5)])
    assert (spread["all"]["mean"], spread["all"]["sd"]) == pytest.approx((0.7, 0.02**0.5))
    assert spread["all"]["values"] == [0.8, 0.6]
    assert [row["crf"] for row in spread["qualities"]] == [10, 23]
    assert spread["qualities"][1]["mean"] == pytest.approx(0.6)
    assert mean_and_spread(spread["all"]) == "70.0 ± 14.1%"


def test_one_seed_has_no_spread() -> None:
    spread = by_seed([run(0.8, crf10=0.9)])
    assert spread["all"]["sd"] is None
    assert mean_and_spread(spread["all"]) == "80.0%"


def test_the_table_has_a_row_a_variant_and_says_what_it_rests_on() -> None:
    variants = {name: by_seed([run(0.8, crf10=0.9), run(0.6, crf10=0.7)]) for name in ("default", "paper")}
    table = seeds_table(variants, num_videos=85, num_groups=6, groups="scenes")
    assert table.headings == ("variant", "crf 10", "all")
    assert table.rows[0] == ("default", "80.0 ± 14.1%", "70.0 ± 14.1%")
    assert "2 seeds, on 85 test videos in 6 groups of the same target, source" in markdown_table(table)
    table = seeds_table(variants, num_videos=85, num_groups=6, groups="networks")
    assert "in 6 groups of one network" in markdown_table(table)


def test_the_picture_is_one_with_a_column_for_each_variant() -> None:
    one, two = (
        read_png(draw_seeds({name: by_seed([run(0.8, crf10=0.9)]) for name in names}, chance=0.2))
        for names in (("default",), ("default", "paper"))
    )
    assert one.std() > 0
    assert two.shape[1] > one.shape[1]
