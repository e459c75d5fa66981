"Figures of doubt: the matrix of differences, and the curves of Cook's distance."

import io
import json
import warnings

import numpy as np
import pandas as pd

from transfer_study.figures import diagnostics


def test_the_matrix_has_the_best_network_on_top(fine_tuned):
    chart = diagnostics.significance(fine_tuned)
    best_first = fine_tuned.networks.sort_values("effect", ascending=False)["network"].to_list()
    order = chart.to_dict()["encoding"]["y"]["sort"]
    assert order[0] == best_first[0] and order[-1] == best_first[-1]
    cells = pd.read_json(io.StringIO(chart.data.values))
    top = cells[cells["row"] == best_first[0]]
    assert (top["difference"] > 0).all() and set(top["found"]) <= {"row better", "no difference"}


def test_curves_pass_through_the_networks_with_their_cooks_distance(fine_tuned):
    table, n = fine_tuned.influence, len(fine_tuned.influence)

    def distance(rows: pd.DataFrame) -> pd.Series:
        "Cook's distance from leverage and externally studentised residual, two coefficients."
        squared = rows["studentized_residual"] ** 2
        internal = squared * (n - 2) / (n - 3 + squared)
        return internal * rows["leverage"] / (2 * (1 - rows["leverage"]))

    assert np.allclose(distance(table), table["cooks_distance"])  # which statsmodels computed
    tables = [json.loads(rows) for rows in diagnostics.influence_map(fine_tuned).to_dict()["datasets"].values()]
    (curves,) = (pd.DataFrame(rows) for rows in tables if "level" in rows[0])
    assert set(curves["level"]) == {0.5, 1.0} and np.allclose(distance(curves), curves["level"], rtol=0.02)


def test_an_interval_that_ends_at_infinity_is_drawn_without_a_warning():
    row = {
        "protocol": "linear",
        "model": "ols",
        "term": "source_logit",
        "estimate": 1.0,
        "low": -900.0,
        "high": 900.0,
        "p_value": 1.0,
        "note": "",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chart = diagnostics.coefficient_forest(coefficients=pd.DataFrame([row])).to_dict()
    assert "×2.72 [0.00, inf]" in json.dumps(chart, ensure_ascii=False).replace('\\"', '"')
