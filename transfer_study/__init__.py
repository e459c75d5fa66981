"""Do better ImageNet models transfer better? Measure it on your own images.

`import transfer_study as ts` gives the names in `__all__` and the sub-packages. Each is loaded on first use, so the import itself
loads neither torch nor pandas.
"""

# nbdev_export writes this line from settings.ini; the rest of this file is written by hand.
__version__ = "0.1.0"

from importlib import import_module as _import_module
from typing import TYPE_CHECKING

_MODULE_OF = {
    # Tables of results
    "read_table": "results",
    "analyze": "statistics.analysis",
    "compare_runs": "statistics.paired_tests",
    "data_path": "core",
    # Figures and the report
    "headline": "figures.headline",
    "per_dataset": "figures.headline",
    "protocol_gains": "figures.comparison",
    "size_curves": "figures.comparison",
    "convergence": "figures.comparison",
    "interactive": "figures.theme",
    "write_report": "figures.report",
    # Studies
    "Study": "study.study",
    "report_runs": "study.report",
    # Images and networks
    "known_datasets": "images.official",
    "open_dataset": "images.catalog",
    "known_networks": "networks.table",
    "Network": "networks.networks",
    "build_network": "networks.networks",
    # Features and classifiers
    "extract_features": "features.extraction",
    "LogisticPath": "classifiers.logistic",
    "LogisticPathClassifier": "classifiers.linear_probe",
    # Near-duplicates
    "find_overlap": "duplicates.search",
    "scores_without": "duplicates.scores",
    # The classifier that is kept
    "load_classifier": "selection.classifier",
    # A recommendation
    "recommend": "selection.recommend",
    # Errors
    "UserError": "core",
}
__all__ = [*_MODULE_OF]

if TYPE_CHECKING:  # the same names for type checkers and editors
    from transfer_study.classifiers.linear_probe import LogisticPathClassifier as LogisticPathClassifier
    from transfer_study.classifiers.logistic import LogisticPath as LogisticPath
    from transfer_study.core import UserError as UserError
    from transfer_study.core import data_path as data_path
    from transfer_study.duplicates.scores import scores_without as scores_without
    from transfer_study.duplicates.search import find_overlap as find_overlap
    from transfer_study.features.extraction import extract_features as extract_features
    from transfer_study.figures.comparison import convergence as convergence
    from transfer_study.figures.comparison import protocol_gains as protocol_gains
    from transfer_study.figures.comparison import size_curves as size_curves
    from transfer_study.figures.headline import headline as headline
    from transfer_study.figures.headline import per_dataset as per_dataset
    from transfer_study.figures.report import write_report as write_report
    from transfer_study.figures.theme import interactive as interactive
    from transfer_study.images.catalog import open_dataset as open_dataset
    from transfer_study.images.official import known_datasets as known_datasets
    from transfer_study.networks.networks import Network as Network
    from transfer_study.networks.networks import build_network as build_network
    from transfer_study.networks.table import known_networks as known_networks
    from transfer_study.results import read_table as read_table
    from transfer_study.selection.classifier import load_classifier as load_classifier
    from transfer_study.selection.recommend import recommend as recommend
    from transfer_study.statistics.analysis import analyze as analyze
    from transfer_study.statistics.paired_tests import compare_runs as compare_runs
    from transfer_study.study.report import report_runs as report_runs
    from transfer_study.study.study import Study as Study


def __getattr__(name: str) -> object:
    "A name of the face, or a sub-package, imported on first use."
    if name in _MODULE_OF:
        value = getattr(_import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        globals()[name] = value
        return value
    if not name.startswith("_"):
        try:
            return _import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"{__name__}.{name}":
                raise
    raise _unknown(name)


def _unknown(name: str) -> AttributeError:
    "The error for a name that does not exist, with the nearest one that does."
    from difflib import get_close_matches
    from pkgutil import iter_modules

    known = [*__all__, *(module.name for module in iter_modules(__path__))]
    by_lower = {known_name.lower(): known_name for known_name in reversed(known)}
    near = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    hint = f". Did you mean: {by_lower[near[0]]!r}?" if near else "; dir(transfer_study) lists the names"
    # obj=None: with the module there, Python would add its own suggestion to the one in the message.
    return AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}", name=name, obj=None)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
