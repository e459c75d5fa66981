"""Time to a distance from the minimum along a path of λ, beside other solvers: `python benchmarks/bench_path.py [--shapes …]`.

Every solver fits the same path from strong to weak λ with warm starts, on the same features in single precision, with one thread,
in this process, at a series of tolerances from loose to tight. The distance of a solution is its objective, in double precision,
over the minimum, less 1; the minimum is ours with a certified duality gap. *To 1e-4* is the CPU time of the whole path at the
first tolerance at which the median distance over λ is at most 1e-4. A solver that does not get there, or not within `--limit`
seconds for one path, has no time. The defaults of scikit-learn and of this package are a case of their own. *Accuracy* is the
best over λ on held-out samples, at that tolerance. The solvers: scikit-learn's lbfgs, newton-cg and newton-cholesky (where its
Hessian fits into memory), PyTorch's L-BFGS with strong Wolfe conditions, and cuML's where it is installed.

The largest shapes take hours and run only when asked for: `--shapes 50000x2048x397 20000x1024x1000 --values 9 --limit 3600`.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec

import numpy as np
import torch
from bench_logistic import features, objective
from measured import measurement, parser, report
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from transfer_study.classifiers.logistic import LogisticPath

SHAPES = ("500x512x5", "800x2048x20", "2000x512x10", "3000x1024x20")  # samples × features × classes
DISTANCES = (1e-2, 1e-4, 1e-6)
MEMORY = 2 << 30  # bytes that a Hessian may take
Solution = tuple[np.ndarray, np.ndarray]  # weights (k, d) and biases (k,)


class OutOfTime(Exception):
    "A path took more than the limit."


def ours(X: np.ndarray, y: np.ndarray, l2: np.ndarray, tol: float) -> Iterator[Solution]:
    path = LogisticPath(l2, tol).fit(X, y)
    for i in range(len(l2)):
        yield path.coefficients(i)


def scikit_learn(solver: str, X: np.ndarray, y: np.ndarray, l2: np.ndarray, tol: float) -> Iterator[Solution]:
    model = LogisticRegression(solver=solver, warm_start=True, tol=tol, max_iter=20_000)
    for value in l2:
        model.C = 1 / value
        model.fit(X, y)
        coef, intercept = model.coef_, model.intercept_
        if len(coef) == 1:  # two classes
            coef, intercept = np.concatenate([-coef, coef]) / 2, np.concatenate([-intercept, intercept]) / 2
        yield coef.copy(), intercept.copy()


def torch_lbfgs(X: np.ndarray, y: np.ndarray, l2: np.ndarray, tol: float) -> Iterator[Solution]:
    "torch.optim.LBFGS on the mean loss; `tol` is the largest entry of its gradient."
    data, labels = torch.from_numpy(X), torch.from_numpy(y)
    W, b = torch.zeros(int(y.max()) + 1, X.shape[1], requires_grad=True), torch.zeros(int(y.max()) + 1, requires_grad=True)
    for value in map(float, l2):
        optimizer = torch.optim.LBFGS(
            [W, b], max_iter=5_000, max_eval=10_000, tolerance_grad=tol, tolerance_change=0, line_search_fn="strong_wolfe"
        )

        def closure(value=value, optimizer=optimizer) -> torch.Tensor:
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(data @ W.T + b, labels) + value / (2 * len(X)) * W.square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        yield W.detach().double().numpy().copy(), b.detach().double().numpy().copy()


def cuml(X: np.ndarray, y: np.ndarray, l2: np.ndarray, tol: float) -> Iterator[Solution]:
    from cuml.linear_model import LogisticRegression as OnGPU

    for value in l2:
        model = OnGPU(C=1 / value, tol=tol, max_iter=20_000).fit(X, y)
        yield np.asarray(model.coef_), np.asarray(model.intercept_)


def solvers(shape: tuple[int, int, int]) -> dict[str, tuple[Callable, tuple[float, ...]]]:
    "Each solver with its tolerances, from loose to tight."
    _, d, k = shape
    found: dict[str, tuple[Callable, tuple[float, ...]]] = {}
    hessian = 8 * (k * (d + 1)) ** 2
    for name in ("lbfgs", "newton-cg", "newton-cholesky"):
        if name == "newton-cholesky" and hessian > MEMORY:
            print(f"newton-cholesky is left out: its Hessian takes {hessian / 2**30:.1f} GiB")
            continue
        found[f"scikit-learn {name}"] = (lambda *data, name=name: scikit_learn(name, *data), (1e-2, 1e-4, 1e-6, 1e-8))
    found["PyTorch L-BFGS"] = (torch_lbfgs, (1e-3, 1e-4, 1e-5, 1e-6, 1e-7))
    if find_spec("cuml"):
        found["cuML"] = (cuml, (1e-2, 1e-4, 1e-6))
    return found


class Problem:
    "Data with half of the samples again for testing, the values of λ, and the minimum for each."

    def __init__(self, shape: tuple[int, int, int], n_values: int, limit: float):
        n, d, k = shape
        X, y = features(n + n // 2, d, k)
        held_out = np.random.default_rng(0).permutation(len(X)) < n // 2
        self.X, self.y, self.X_test, self.y_test = X[~held_out], y[~held_out], X[held_out], y[held_out]
        self.l2, self.limit = np.logspace(5, -6, n_values), limit
        self.minimum = LogisticPath(self.l2, 1e-10, certify=True).fit(self.X, self.y).objective_

    def path(self, solver: Callable, tol: float) -> dict:
        "Seconds of the path, distances and accuracies for each λ; raises `OutOfTime`."
        seconds, distances, accuracies = 0.0, [], []
        solutions, started = solver(self.X, self.y, self.l2, tol), time.process_time()
        for i, (coef, intercept) in enumerate(solutions):
            seconds += time.process_time() - started
            if seconds > self.limit:
                raise OutOfTime(f"more than {self.limit:.0f} s")
            distances.append(objective(coef, intercept, self.X, self.y, self.l2[i]) / self.minimum[i] - 1)
            accuracies.append(float((np.argmax(self.X_test @ coef.T + intercept, axis=1) == self.y_test).mean()))
            started = time.process_time()
        return {"seconds": seconds, "median": np.median(distances), "worst": max(distances), "accuracy": max(accuracies)}


def times_to(problem: Problem, solver: Callable, tolerances: tuple[float, ...]) -> dict[float, dict]:
    "For each distance, the path at the first tolerance whose median distance is at most that."
    reached: dict[float, dict] = {}
    for tol in tolerances:
        if len(reached) == len(DISTANCES):
            break
        try:
            path = problem.path(solver, tol)
        except OutOfTime:
            break
        for distance in DISTANCES:
            if path["median"] <= distance:
                reached.setdefault(distance, path)
    return reached


def compare(shape: tuple[int, int, int], n_values: int, limit: float) -> list[dict]:
    problem, text, rows = Problem(shape, n_values, limit), "{} × {} × {}".format(*shape), []
    problem.path(ours, 1e-2)  # first calls are not what is timed
    mine = times_to(problem, ours, (1e-2, 1e-4, 1e-6, 1e-8))

    def add(what: str, of: dict, reference: dict | None) -> None:
        columns = {"accuracy_ours": of["accuracy"], "median_distance_ours": of["median"]}
        if reference:
            columns |= {"accuracy_reference": reference["accuracy"], "median_distance_reference": reference["median"]}
        seconds = reference["seconds"] if reference else float("nan")
        rows.append(measurement("path", f"{text}, {n_values} λ, {what}", of["seconds"], seconds, **columns))
        print(rows[-1]["case"], f"ratio {rows[-1]['ratio']:.2f}", flush=True)

    for name, (solver, tolerances) in solvers(shape).items():
        theirs = times_to(problem, solver, tolerances)
        for distance in filter(mine.get, DISTANCES):
            add(f"to {distance:g}, {name}", mine[distance], theirs.get(distance))
        if name == "scikit-learn lbfgs":
            add(f"our default against that of {name}", problem.path(ours, 1e-6), problem.path(solver, 1e-4))
    return rows


def main(given: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")  # scikit-learn's, of its line search and its number of iterations
    rows = []
    with threadpool_limits(1):
        for text in given.shapes:
            n, d, k = map(int, text.split("x"))
            rows += compare((n, d, k), given.values, given.limit)
    report(rows, given.out, threads=1)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--shapes", nargs="+", default=SHAPES, help="samples x features x classes")
    options.add_argument("--values", type=int, default=15, help="values of λ, from 1e5 to 1e-6")
    options.add_argument("--limit", type=float, default=120, help="seconds that one path may take")
    main(options.parse_args())
