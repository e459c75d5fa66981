"""Pooling of tokens: what each choice computes, where it is impossible, and that it is part of a run only where it is chosen."""

import pytest
import timm
import torch

from transfer_study.core import UserError
from transfer_study.networks.networks import Network, build_network, network_digest, pooled_network, random_network
from transfer_study.networks.penultimate import input_configuration, penultimate_features
from transfer_study.networks.portable import weights_digest
from transfer_study.study.study import Study


def features(model, images):
    with torch.no_grad():
        return penultimate_features(model.eval(), images)


def vit(name="test_vit"):
    torch.manual_seed(0)
    return timm.create_model(name).eval()


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(1))


def test_each_choice_by_hand(images):
    with torch.no_grad():
        tokens = vit().forward_features(images)
    class_token, mean = tokens[:, 0], tokens[:, 1:].mean(dim=1)
    for pooling, expected in {"token": class_token, "avg": mean, "token+avg": torch.cat([class_token, mean], dim=1)}.items():
        model = pooled_network(vit(), pooling, "vit")
        assert torch.allclose(features(model, images), expected, atol=1e-6) and model.num_features == expected.shape[1]
    assert torch.equal(features(vit(), images), features(pooled_network(vit(), "token", "vit"), images)), "its own choice"


def test_the_norm_after_the_pooling_and_registers():
    "test_vit4 has registers and a norm after its mean: its own features are those of avg."
    images = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(1))
    model = vit("test_vit4")
    assert model.num_prefix_tokens > 0 and not isinstance(model.fc_norm, torch.nn.Identity)
    expected = features(model, images)
    assert torch.equal(features(pooled_network(model, "avg", "vit"), images), expected)


@pytest.mark.parametrize(
    ("name", "pooling", "message"),
    [
        ("test_resnet", "avg", "network 'n': pooling = 'avg': the network has no single sequence of tokens"),
        ("test_vit4", "token", "has no class token"),
        ("pit_ti_224", "avg", "not known which"),
        ("test_vit", "max", "unknown pooling 'max'"),
    ],
)
def test_an_impossible_choice_is_one_line(name, pooling, message):
    with pytest.raises(UserError, match=message) as error:
        pooled_network(timm.create_model(name), pooling, "n")
    assert "\n" not in str(error.value)


def test_training_starts_from_a_new_classifier(images):
    model = random_network(Network("n", "test_vit", pooling="token+avg"))
    model.reset_classifier(5)
    model.train()(images).sum().backward()
    assert model.get_classifier().weight.grad.shape == (5, 128)


def test_digests_differ_by_the_pooling_and_weights_do_not(tmp_path):
    from safetensors.torch import save_file

    save_file(vit().state_dict(), tmp_path / "vit.safetensors")
    weights = tmp_path / "vit.safetensors"
    models = [build_network(Network("n", "test_vit", weights, pooling=pooling)) for pooling in ("default", "avg", "token")]
    assert len({network_digest(model) for model in models}) == 3 and len({weights_digest(model) for model in models}) == 1


def test_the_default_is_no_part_of_a_run(study_file, weights):
    text = study_file.read_text()
    before = Study.from_file(study_file).tasks("runs", "cpu").runs
    study_file.write_text(text.replace('name = "test_resnet"', 'name = "test_resnet"\npooling = "default"'))
    after = Study.from_file(study_file).tasks("runs", "cpu").runs
    assert [run.run_id for run in after] == [run.run_id for run in before] and "pooling" not in before[0].specification


def test_a_study_with_a_choice(study_file, tmp_path):
    from safetensors.torch import save_file

    save_file(vit().state_dict(), tmp_path / "vit.safetensors")
    lines = ['name = "p"', 'datasets = ["squares"]']
    for i, pooling in enumerate(("default", "avg", "token+avg")):
        lines += ["[[networks]]", f'name = "{pooling}"', 'architecture = "test_vit"', f'weights = "{tmp_path}/vit.safetensors"']
        lines += [f'pooling = "{pooling}"', f"source_accuracy = 0.{i + 5}"]
    study_file.write_text("\n".join(lines))
    study = Study.from_file(study_file)
    plan = study.tasks(tmp_path / "runs", "cpu")
    assert [network.n_features for network in plan.networks] == [64, 64, 128]
    assert [run.specification.get("pooling") for run in plan.runs] == [None, "avg", "token+avg"]
    assert len(study.run(tmp_path / "runs", "cpu", 1, 0, progress=False)) == 3
    study_file.write_text("\n".join(lines).replace("test_vit", "test_resnet"))
    with pytest.raises(UserError, match="not of this architecture"):
        Study.from_file(study_file).tasks(tmp_path / "runs", "cpu")


def test_image_towers_of_transformers(tmp_path):
    pytest.importorskip("transformers")
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    config = Dinov2Config(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14)
    Dinov2Model(config).save_pretrained(tmp_path / "dino")
    BitImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}).save_pretrained(tmp_path / "dino")
    images = torch.randn(2, 3, 28, 28)
    own = build_network(Network("d", f"transformers:{tmp_path}/dino"))
    assert input_configuration(own)["input_size"] == (3, 28, 28)
    hidden = own.tower(pixel_values=images).last_hidden_state
    both = build_network(Network("d", f"transformers:{tmp_path}/dino", pooling="token+avg"))
    expected = torch.cat([hidden[:, 0], hidden[:, 1:].mean(dim=1)], dim=1)
    assert torch.allclose(features(both, images), expected, atol=1e-5)
