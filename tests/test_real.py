"""Real images and real ImageNet weights, where they are on this machine."""

import json

import pytest

# Independent first look at the same networks and images: scikit-learn's logistic regression, five values of C, one run.
REFERENCE = {("mobilenetv1_025", "flowers5"): 0.800, ("mobilenetv1_025", "clothing"): 0.605,
             ("mobilenetv1_050", "flowers5"): 0.840, ("mobilenetv1_050", "clothing"): 0.686}  # fmt: skip
NOISE = 0.06  # two to three standard errors of 250 and 306 test images


def test_part_of_the_real_study(real, command, tmp_path):
    networks = "".join(
        f"""
        [[networks]]
        name = "mobilenetv1_{width}"
        architecture = "mobilenets:mobilenetv1_{width}"
        weights = "{real}/weights/mobilenetv1_{width}_{size}_tfq.safetensors"
        source_accuracy = {accuracy}
        """
        for width, size, accuracy in (("025", 128, 0.395), ("050", 160, 0.572))
    )
    (tmp_path / "mobilenets.py").write_bytes((real / "mobilenets.py").read_bytes())
    datasets = [f"{real}/images/flowers5.tar", f"{real}/images/clothing.tar"]
    (tmp_path / "study.toml").write_text(f'name = "part"\ndatasets = {json.dumps(datasets)}\n{networks}')
    code, out, _ = command("run", tmp_path / "study.toml", "--out", tmp_path / "runs", "--json")
    scores = {(row["network"], row["dataset"]): row["score"] for row in json.loads(out)["results"]}
    assert code == 0 and scores.keys() == REFERENCE.keys()
    for pair, reference in REFERENCE.items():
        assert scores[pair] == pytest.approx(reference, abs=NOISE), pair
    assert scores["mobilenetv1_025", "clothing"] < scores["mobilenetv1_050", "clothing"]


def test_a_pretrained_network_beats_random_weights_within_few_steps(real, command, tmp_path):
    (tmp_path / "mobilenets.py").write_bytes((real / "mobilenets.py").read_bytes())
    protocol = "steps = 30\nbatch_size = 32\nn_learning_rates = 1\nlearning_rate_min = 1e-2\nlearning_rate_max = 1e-2"
    (tmp_path / "study.toml").write_text(f"""
        name = "few"
        datasets = ["{real}/images/flowers5.tar"]
        [[networks]]
        name = "mobilenetv1_025"
        architecture = "mobilenets:mobilenetv1_025"
        weights = "{real}/weights/mobilenetv1_025_128_tfq.safetensors"
        source_accuracy = 0.395
        [protocols.finetune]\n{protocol}\nn_weight_decays = 0
        [protocols.scratch]\n{protocol}\nn_weight_decays = 1
    """)
    code, out, _ = command("run", tmp_path / "study.toml", "--out", tmp_path / "runs", "--processes", 1, "--json")
    scores = {row["protocol"]: row["score"] for row in json.loads(out)["results"]}
    assert code == 0 and scores["finetune"] > 0.7 and 0.15 < scores["scratch"] < scores["finetune"] - 0.2
