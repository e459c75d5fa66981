"""Batches: shared pixels, their order, and images that cannot be decoded."""

from dataclasses import replace

import numpy as np
import torch

from tests.features.conftest import alone, build, close
from transfer_study.features.extraction import extract_features
from transfer_study.features.loading import load_batches, network_view
from transfer_study.networks.penultimate import input_transform


def test_networks_of_other_normalisation_share_their_pixels(models):
    other = build("test_resnet")
    other.pretrained_cfg = other.pretrained_cfg | {"mean": (0.1, 0.2, 0.3)}
    assert network_view(models[0])[0].key == network_view(other)[0].key
    assert not torch.equal(network_view(models[0])[1][0], network_view(other)[1][0])


def test_a_transform_of_another_form_is_used_as_it_is(models, squares, monkeypatch):
    model = build("test_resnet")
    transform = input_transform(model)
    monkeypatch.setattr("transfer_study.features.loading.input_transform", lambda model: lambda image: transform(image))
    assert network_view(model)[1] is None
    assert close(extract_features([model], squares)[0].X, alone(model, squares))


def test_batches_keep_order_and_name_bad_images(squares, models):
    view = network_view(models[0])[0]
    broken = replace(squares, reader=lambda row: b"" if row == 3 else squares.read(row))
    batches = list(load_batches(broken, np.array([5, 3, 0]), [view], batch_size=2))
    assert [batch.rows.tolist() for batch in batches] == [[5], [0]] and batches[0].bad == [(3, "empty file")]
    assert batches[0].images[0].dtype == torch.uint8 and [batch.n_images for batch in batches] == [2, 1]
