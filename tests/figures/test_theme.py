"Families, labels and files."

import gzip
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from transfer_study.core import UserError
from transfer_study.figures import theme
from transfer_study.figures.headline import headline
from transfer_study.figures.labels import place_labels


def test_at_most_eight_families_with_distinct_marks(foundation):
    names = pd.Series(
        [*foundation.rows["network"], "resnet50", "densenet121", "mobilenetv2", "swin_b", "convnext_t", "nasnet"]
    )
    shown = theme.families(names)
    assert len(shown) <= 8 and list(shown)[-1] == "other"
    assert len({mark for mark in shown.values()}) == len(shown)
    assert set(theme.with_family(pd.DataFrame({"network": names}))["family"]) == set(shown)


def boxes(placed: pd.DataFrame) -> list[tuple[float, float, float, float]]:
    "Left, top, right and bottom of labels of 11 pixels, as wide as system fonts draw them."
    width = 5.8 * placed["label"].str.len()
    left = placed["x"] + placed["dx"] - width * placed["align"].map({"left": 0, "center": 0.5, "right": 1})
    baseline = placed["y"] + placed["dy"]
    return list(zip(left, baseline - 9, left + width, baseline + 2, strict=True))


def test_labels_do_not_collide_at_48_points():
    rng = np.random.default_rng(1)
    points = pd.DataFrame(
        {"x": rng.uniform(0, 640, 48), "y": rng.uniform(0, 400, 48), "label": "some-network-base-patch16"}
    )
    placed = boxes(place_labels(points, 640, 400))
    assert 5 <= len(placed) < 48
    for i, (left, top, right, bottom) in enumerate(placed):
        assert left >= 0 and right <= 640
        assert all(right < a or c < left or bottom < b or d < top for a, b, c, d in placed[:i])
        assert not any(left < x < right and top < y < bottom for x, y in zip(points.x, points.y, strict=True))


def test_save_writes_each_kind_and_refuses_others(fine_tuned, tmp_path):
    chart = headline(fine_tuned, width=340)
    assert theme.save(chart, tmp_path / "a.svg").read_text().startswith("<svg")
    assert theme.save(chart, tmp_path / "a.png", dark=True).read_bytes().startswith(b"\x89PNG")
    assert "vegaEmbed" in theme.save(chart, tmp_path / "a.html").read_text()
    with pytest.raises(UserError, match=r"saved as \.svg, \.png or \.html, not as \.pdf"):
        theme.save(chart, tmp_path / "a.pdf")
    assert chart.to_dict().get("config", {}).get("background") is None  # saving leaves the chart as it was


def test_drawing_imports_no_torch_and_no_model_of_statsmodels_that_it_does_not_fit():
    absent = ("torch", "fastai", "timm", "statsmodels.api", "statsmodels.tsa", "statsmodels.discrete", "vl_convert")
    code = f"import sys, transfer_study.figures.report; print([m for m in {absent} if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_the_drawing_script_is_kept_and_made_again_where_it_is_damaged(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = {}
    for kept in ("nothing", "whole", "damaged"):
        theme.vega_bundle.cache_clear()
        made[kept] = theme.vega_bundle()
        (path,) = (tmp_path / "transfer_study").iterdir()
        assert gzip.decompress(path.read_bytes()).decode() == made[kept]
        path.write_bytes(path.read_bytes() if kept == "nothing" else b"damaged")
    assert len(set(made.values())) == 1 and "vegaEmbed" in made["nothing"]
