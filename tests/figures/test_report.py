"The report: one file, all text escaped, no request, no console error, at most 1.5 MB for 1,500 networks."

import base64
import gzip
import json
import re
from functools import partial
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from transfer_study.core import UserError
from transfer_study.figures.comparison import convergence
from transfer_study.figures.report import answer, reference_table, write_report
from transfer_study.results import read_table, tidy
from transfer_study.statistics.analysis import analyze

EVIL = "<script>alert(1)</script>"
EVIL_DATASET = "\"><img src=x onerror=alert(2)>'</script>"
EVIL_TEXT = "<b onmouseover=alert(3)>&amp; {{ 7 * 7 }}"


def drawn_table(n_networks: int, datasets: list[str], noise: float = 0.3) -> pd.DataFrame:
    "A results table in which log-odds of transfer are those of the source, plus the dataset, plus noise."
    rng = np.random.default_rng(0)
    skill = np.linspace(-0.5, 2, n_networks)
    rows = [
        {
            "network": f"resnet{i}",
            "dataset": d,
            "source_accuracy": expit(s),
            "score": expit(s + 0.5 * k + rng.normal(0, noise)),
        }
        for i, s in enumerate(skill)
        for k, d in enumerate(datasets)
    ]
    return tidy(pd.DataFrame(rows))


class Elements(HTMLParser):
    "Every element with its attributes, and the text outside scripts."

    def __init__(self, page: str):
        super().__init__()
        self.elements, self.text, self._inside = [], "", ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside not in ("script", "style"):
            self.text += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    "Path of a report in which everything that a user can name is hostile."
    rows = drawn_table(9, ["dtd", "food101", EVIL_DATASET, "sun397"])
    rows["network"] = rows["network"].replace("resnet8", EVIL)
    history = pd.DataFrame({"network": EVIL, "dataset": "dtd", "protocol": EVIL_TEXT, "step": [1, 10], "score": [0.1, 0.5]})
    extra = [
        (
            "Skipped images " + EVIL_TEXT,
            ["1 file could not be read " + EVIL_TEXT, pd.DataFrame({"file " + EVIL: [EVIL + ".jpg"]})],
        ),
        ("Convergence", partial(convergence, history)),
    ]
    path = tmp_path_factory.mktemp("report") / "report.html"
    return write_report(
        analyze(rows, n_bootstrap=200), path, title="A title " + EVIL_TEXT, extra_sections=extra, command=EVIL_TEXT
    )


@pytest.fixture(scope="module")
def in_chromium(page, chromium):
    "The page's document after its scripts ran, with a network looked for, what went to the console, and addresses asked for."
    probe = """<script>setInterval(() => { const box = document.getElementById("find");
      if (document.documentElement.dataset.drawn && !box.value) {
        box.value = document.querySelector("datalist option").value;
        box.dispatchEvent(new Event("input")); } }, 50)</script>"""
    probed, log = page.with_name("probed.html"), page.with_name("net.json")
    before, end, after = page.read_text(encoding="utf-8").rpartition("</body>")  # the last: Vega's script has one too
    probed.write_text(before + probe + end + after, encoding="utf-8")
    document, console = chromium(probed.as_uri(), f"--log-net-log={log}")
    return document, console, set(re.findall(r'"url":"([^"]+)"', log.read_text())) if log.is_file() else set()


def test_nothing_hostile_becomes_markup(page):
    text = page.read_text(encoding="utf-8")
    elements = Elements(text)
    assert elements.count("script") == 3  # data, Vega, the page's own
    assert elements.count("img") == 0 and elements.count("b") == 0
    assert not [a for _, a in elements.elements if any(name.startswith("on") for name in a)]
    assert EVIL in elements.text and EVIL_TEXT in elements.text and EVIL_DATASET in elements.text
    assert "49" not in re.search(r"<h1>.*?</h1>", text).group()  # not a template


def test_no_reference_leaves_the_file(page):
    elements = Elements(page.read_text(encoding="utf-8")).elements
    references = [a[name] for _, a in elements for name in ("src", "href", "action", "data") if a.get(name)]
    assert references and all(reference.startswith(("#", "data:")) for reference in references)
    policy = [a["content"] for tag, a in elements if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    assert policy and policy[0].startswith("default-src 'none'") and "http" not in policy[0]


def test_contents_lead_to_sections(page):
    elements = Elements(page.read_text(encoding="utf-8")).elements
    ids = [a["id"] for _, a in elements if "id" in a]
    links = [a["href"][1:] for tag, a in elements if tag == "a"]
    sections = [a["id"] for tag, a in elements if tag == "section"]
    assert len(ids) == len(set(ids)) and set(links) <= set(ids) and set(sections) <= set(links)
    assert {"answer", "datasets", "networks", "extra-1", "extra-2", "again"} <= set(sections)


def test_every_figure_is_drawn_without_a_word_on_the_console(in_chromium):
    document, console, _ = in_chromium
    n = len(re.findall(r"data-chart=", document))
    assert console == []
    assert n >= 3 and f'data-drawn="{n}"' in document
    assert len(re.findall(r'<svg[^>]*class="marks"', document)) == n
    assert len(re.findall(r'role="graphics-document"[^>]*aria-label="[^"]{20}', document)) == n


def test_hostile_names_are_text_in_the_charts(in_chromium):
    document, _, _ = in_chromium
    charts = "".join(re.findall(r'<svg[^>]*class="marks".*?</svg>', document, re.S))
    assert "&lt;img src=x onerror=alert(2)&gt;" in charts  # a panel's title
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in charts
    assert "<img" not in charts and "<script" not in charts and "<b " not in charts


def test_a_network_looked_for_is_named_in_every_panel(in_chromium, page):
    document, _, _ = in_chromium
    chart = re.search(r'data-chart="datasets-linear".*?</svg>', document, re.S).group()
    first = Elements(page.read_text(encoding="utf-8")).elements
    name = next(a["value"] for tag, a in first if tag == "option").replace("<", "&lt;").replace(">", "&gt;")
    assert len(re.findall(rf"<text[^>]*>[^<]*{re.escape(name[:12])}[^<]*</text>", chart)) == 4


def test_no_request_leaves_the_machine(in_chromium):
    _, _, urls = in_chromium
    own = re.compile(r"https?://[\w.-]*\.(google|googleapis|gvt1)\.com/")  # the browser's: clock and updates
    assert urls and not [url for url in urls if url.startswith("http") and not own.match(url)]


def test_figures_that_have_nothing_to_show_have_no_section(tmp_path):
    path = write_report(analyze(drawn_table(4, ["dtd", "food101"]), n_bootstrap=200), tmp_path / "report.html")
    sections = [a["id"] for tag, a in Elements(path.read_text(encoding="utf-8")).elements if tag == "section"]
    assert "settings" not in sections and "sizes" not in sections and "excluded" not in sections and "answer" in sections


@pytest.mark.parametrize("n_networks", [1500])
def test_at_most_1_5_mb(n_networks, tmp_path):
    datasets = ["food101", "cifar10", "cifar100", "birdsnap", "sun397", "stanford_cars", "fgvc_aircraft", "voc2007",
                "dtd", "oxford_pets", "caltech101", "oxford_flowers"]  # fmt: skip
    path = write_report(analyze(drawn_table(n_networks, datasets), n_bootstrap=200), tmp_path / "report.html")
    text = path.read_text(encoding="utf-8")
    assert path.stat().st_size <= 1.5e6
    assert 'data-chart="datasets-linear"' in text and "has too many points" not in text


def test_a_report_is_the_same_twice(tmp_path):
    rows = drawn_table(5, ["dtd", "food101"])
    first, second = (write_report(analyze(rows, n_bootstrap=200), tmp_path / name).read_bytes() for name in ("a.html", "b.html"))
    assert first == second


def test_the_interval_decides_the_answer():
    row = {"protocol": "linear", "dataset": "mean", "method": "pearson", "estimate": 0.7, "n_networks": 9}
    cases = {(0.6, 0.9): "Yes. Over", (0.1, 0.9): "Yes, but", (-0.1, 0.9): "Undecided", (np.nan, np.nan): "Too few",
             (-0.9, -0.2): "No, "}  # fmt: skip
    for (low, high), start in cases.items():
        text = answer(None, "linear", correlations=pd.DataFrame([row | {"low": low, "high": high}]))
        assert text.startswith(start) and "9 networks" in text and "0.99 over 16" in text


@pytest.mark.parametrize("n_networks", [3, 4])
def test_below_five_networks_there_is_no_plain_yes(n_networks):
    row = {"protocol": "linear", "dataset": "mean", "method": "pearson", "estimate": 0.99, "low": 0.9, "high": 1.0}
    text = answer(None, "linear", correlations=pd.DataFrame([row | {"n_networks": n_networks}]))
    assert text.startswith(f"It looks so, but {n_networks} networks are few. Over")


def test_the_answer_says_what_each_interval_is_for():
    row = {"protocol": "linear", "dataset": "mean", "method": "pearson", "estimate": 0.93, "low": 0.86, "high": 0.97,
           "low_datasets": 0.82, "high_datasets": 0.98, "n_networks": 41}  # fmt: skip
    text = answer(None, "linear", correlations=pd.DataFrame([row]))
    assert "0.86 to 0.97 for other networks on these datasets, 0.82 to 0.98 for other networks on other datasets" in text
    assert "r = 0.9 " in answer(None, "linear", correlations=pd.DataFrame([row | {"n_networks": 11}]))


def test_each_protocol_stands_beside_its_own_number_of_the_paper():
    rows = drawn_table(6, ["dtd", "food101"])
    both = pd.concat([rows.assign(protocol=name) for name in ("scratch", "linear", "finetune", "knn")], ignore_index=True)
    table = reference_table(analyze(both, n_bootstrap=200)).set_index("protocol")["r in the paper"]
    assert table["Fixed features"] == 0.99 and table["Fine-tuned"] == 0.96 and table["Trained from scratch"] == 0.55
    assert np.isnan(table["Nearest neighbours"])


def test_the_table_to_download_gives_the_same_analysis(tmp_path):
    rows = drawn_table(6, ["dtd", "food101"])
    payload = re.search(r'id="payload">([^<]*)<', write_report(analyze(rows, 200), tmp_path / "a.html").read_text()).group(1)
    (tmp_path / "results.csv").write_text(json.loads(gzip.decompress(base64.b64decode(payload)))["csv"]["results.csv"])
    again = analyze(read_table(tmp_path / "results.csv"), 200)
    pd.testing.assert_frame_equal(again.correlations, analyze(rows, 200).correlations, rtol=1e-5)


def test_payload_holds_the_tables_to_download(page):
    payload = re.search(r'id="payload">([^<]*)<', page.read_text(encoding="utf-8")).group(1)
    content = json.loads(gzip.decompress(base64.b64decode(payload)))
    assert {"results.csv", "networks.csv", "correlations.csv"} <= set(content["csv"])
    assert content["csv"]["results.csv"].count("\n") == 37  # 9 networks × 4 datasets, and the head
    assert all(set(chart["tables"]) <= set(content["tables"]) for chart in content["charts"].values())


def test_a_protocol_has_one_name_and_long_parts_are_folded(tmp_path):
    rows = drawn_table(6, ["dtd", "food101"])
    both = pd.concat([rows, rows.assign(protocol="finetune", score=rows["score"] * 0.98)])
    text = write_report(analyze(both, n_bootstrap=200), tmp_path / "report.html").read_text(encoding="utf-8")
    findings = re.search(r'<section id="answer".*?</ul>', text, re.S).group(0)
    assert "<li>Fixed features: r = " in findings and "Fine-tuned beats Fixed features in " in findings
    assert not re.search(r"<li>(linear|finetune)\b|beats linear", findings)
    opened = re.findall(r'<section id="([\w-]+)"[^>]*>\s*<(h2|details)', text)
    assert [key for key, tag in opened if tag == "h2"] == ["answer", "datasets", "again"] and len(opened) > 5


def test_the_report_is_an_html_file_in_the_place_that_was_meant(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    analysis = analyze(drawn_table(4, ["dtd", "food101"]), n_bootstrap=200)
    assert write_report(analysis, "~/report.html") == tmp_path / "report.html"
    for path, message in (
        (tmp_path, "a directory; expected a name such as report.html"),
        (tmp_path / "report.pdf", "the report is HTML"),
    ):
        with pytest.raises(UserError, match=message):
            write_report(analysis, path)
