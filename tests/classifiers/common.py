"""Features for the tests of transferability scores."""

import numpy as np


def toy(sizes=(20, 30, 25), d=6, seed=0, distance=1.0):
    "Features (n, d) of Gaussian classes and their labels (n,)."
    random = np.random.default_rng(seed)
    y = np.repeat(np.arange(len(sizes)), sizes)
    return random.normal(size=(len(y), d)) + distance * random.normal(size=(len(sizes), d))[y], y
