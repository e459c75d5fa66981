"The choice of pairs to show."

import numpy as np
import pandas as pd

from transfer_study.duplicates.figures import spread_over_clusters


def test_the_figure_takes_one_pair_of_each_cluster():
    pairs = pd.DataFrame({"similarity": np.linspace(1, 0.9, 30), "cluster": np.repeat(np.arange(10), 3)})
    spread = spread_over_clusters(pairs, 4)
    assert spread["cluster"].tolist() == [0, 3, 6, 9] and spread["similarity"].iloc[-1] == pairs["similarity"].min()
