"The headline and the small multiples of the two published tables."

import re

import pandas as pd
import pytest

from tests.figures.pictures import marks, svg, texts
from transfer_study.core import UserError
from transfer_study.figures.headline import headline, per_dataset


@pytest.mark.parametrize("width", [700, 340])
def test_headline_shows_every_network_once(foundation, width):
    chart = headline(foundation, width=width)
    picture = svg(chart)
    n = len(foundation.networks)
    assert n == 41 and marks(picture, "point") == n and marks(picture, "rule mark") == n
    assert "r = 0.93" in chart.description and "41 networks" in chart.description
    assert "80%" in texts(picture) and "ImageNet top-1 accuracy" in texts(picture)
    assert 560 < float(re.search(r'width="([\d.]+)"', picture).group(1)) < 740 or width == 340


def test_headline_has_a_panel_for_each_protocol(fine_tuned):
    both = [t.assign(protocol=p) for t in (fine_tuned.networks,) for p in ("linear", "finetune")]
    chart = headline(fine_tuned, networks=pd.concat(both))
    assert [panel.title.text for panel in chart.concat] == ["Fixed features", "Fine-tuned"]


def test_small_multiples_share_what_is_pointed_at(foundation):
    chart = per_dataset(foundation)
    specification = chart.to_dict()
    picture = svg(chart)
    assert len(chart.concat) == 12 and marks(picture, "point") == 12 * 41
    assert any(text.startswith("r = 0.6") for text in texts(picture))
    # Three rows of four panels: a title beside each row and below each column says what every axis shows.
    assert (texts(picture).count("transfer accuracy"), texts(picture).count("ImageNet accuracy")) == (3, 4)
    hover = [param for param in specification["params"] if param["name"] == "hover"]
    assert len(hover) == 1 and sorted(hover[0]["views"]) == sorted(f"panel_{i}" for i in range(12))


def test_small_multiples_need_one_protocol(fine_tuned):
    rows = pd.concat([fine_tuned.rows, fine_tuned.rows.assign(protocol="linear")])
    with pytest.raises(UserError, match="finetune, linear; choose one with protocol="):
        per_dataset(fine_tuned, rows=rows)
    with pytest.raises(UserError, match="no rows of protocol 'knn'; the table holds finetune, linear"):
        per_dataset(fine_tuned, "knn", rows=rows)
    chart = per_dataset(fine_tuned, "linear", rows=rows)
    assert chart.description.startswith("Fixed features")


def test_a_table_in_place_of_an_analysis_is_a_clear_error(fine_tuned):
    with pytest.raises(UserError, match="got a data frame; pass what `analyze` returns, or tables by keyword: networks=…"):
        headline(fine_tuned.networks)
    with pytest.raises(UserError, match="headline: got a str; pass what `analyze` returns"):
        headline("results.csv")
    with pytest.raises(UserError, match="headline: got no analysis; .* by keyword: lines=…$"):
        headline(networks=fine_tuned.networks, correlations=fine_tuned.correlations)
    tables = {name: getattr(fine_tuned, name) for name in ("networks", "lines", "correlations")}
    assert headline(**tables).to_dict() == headline(fine_tuned).to_dict()
