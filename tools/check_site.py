"""Checks the documentation site as it was built: `tools/check_site.py _docs`.

- Every link and every anchor leads somewhere, no page has lost words of its notebook, and none shows the marks of Markdown.
- In headless Chromium, at the width of a desk and of a telephone, no element is wider than its column, nothing goes to the
  console, and nothing is fetched from elsewhere. What is wider scrolls within itself.
- Twelve pages are photographed, as pictures to look at, into the folder of `--pictures`.

Without Chromium the first part still runs.
"""

import argparse
import base64
import functools
import http.server
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import ProxyHandler, build_opener

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT / "nbs"
WIDTHS = {1280: 900, 400: 800}  # pixels, with the height of the window
PHOTOGRAPHED = [
    "index", "tutorials/five_minutes", "tutorials/fixed_features", "howto/own_table", "howto/questions", "paper/headline",
    "paper/settings", "explanations/why_log_odds", "explanations/glossary", "api/index", "api/study/study", "api/command_line",
]  # fmt: skip
# Elements beyond the right edge of the window or of their column, unless something around them scrolls.
WIDE = """(() => {
  const root = document.documentElement, width = root.clientWidth;
  const scrolling = ["auto", "scroll"];
  const scrolls = e => { for (let p = e; p && p !== document.body; p = p.parentElement)
    if (scrolling.includes(getComputedStyle(p).overflowX)) return true;
    return false; };
  const main = document.querySelector("main") || document.body, edge = Math.min(main.getBoundingClientRect().right, width);
  const wide = [...main.querySelectorAll("*")].filter(e => { const box = e.getBoundingClientRect();
    const within = e.closest("pre *, svg *, math *");  // these are judged as a whole: spaces at the end of a line hang over
    const isWide = box.right > edge + 1 || (e.tagName === "PRE" && e.scrollWidth > e.clientWidth + 1);
    return box.width > 0 && isWide && !within && !scrolls(e.tagName === "PRE" ? e : e.parentElement); });
  const name = e => e.tagName.toLowerCase() + (e.getAttribute("class") ? "." + e.getAttribute("class") : "");
  const page = root.scrollWidth > width + 1 ? ["the page scrolls sideways"] : [];
  return [...page, ...wide.map(e => name(e) + ": " + e.textContent.trim().slice(0, 40))].slice(0, 3);
})()"""


# What a reader sees where Pandoc did not understand the Markdown: fences, headings, lists of definitions, links, attributes.
MARKS = re.compile(r":::|```|^#{1,6} |^:   |\]\([\w./#]|\{[.#=][\w-]+", re.M)


class Page(HTMLParser):
    "Links, anchors and visible words of an HTML page."

    def __init__(self, text: str):
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.repeated: set[str] = set()  # anchors that stand twice, so that a link finds only the first
        self.texts: list[str] = []
        self.prose: list[str] = []  # the texts outside code and pictures
        self._hidden = 0
        self._goes_on = False  # whether the text goes on the one before: between them, a line may break
        self._code = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self._goes_on = tag == "wbr"
        self._hidden += tag in ("script", "style")
        self._code += tag in ("pre", "code", "svg", "math")
        self.repeated |= {value for value in [values.get("id")] if value in self.anchors and tag != "link"}
        self.anchors |= {value for name in ("id", "name") if (value := values.get(name))}
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])

    def handle_endtag(self, tag: str) -> None:
        self._goes_on = False
        self._hidden -= tag in ("script", "style")
        self._code -= tag in ("pre", "code", "svg", "math")

    def handle_data(self, data: str) -> None:
        if not self._hidden and self._goes_on and self.texts:
            self.texts[-1] += data
        elif not self._hidden:
            self.texts.append(data)
            self.prose += [] if self._code else [data]


def broken_links(site: Path) -> list[str]:
    "Links between the pages of a site that lead nowhere, and anchors that do not exist or stand twice, as `page: link`."
    pages = {path.relative_to(site).as_posix(): Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    broken = []
    for name, page in pages.items():
        broken += [f"{name}: #{anchor} stands twice" for anchor in sorted(page.repeated)]
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or link.startswith("javascript:"):
                continue
            path = unquote(parts.path)
            base = site if path.startswith("/") else (site / name).parent
            target = (base / path.lstrip("/")).resolve() if path else site / name
            target = target / "index.html" if target.is_dir() else target
            anchor = unquote(parts.fragment)
            if not target.exists():
                broken.append(f"{name}: {link} leads nowhere")
            elif anchor and (known := pages.get(target.relative_to(site.resolve()).as_posix() if target.is_absolute() else name)):
                broken += [] if anchor in known.anchors else [f"{name}: {link}: no such anchor"]
    return broken


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


def page_of(notebook: Path, nbs: Path) -> str:
    "Where Quarto puts the page of a notebook."
    folder, name = notebook.parent.relative_to(nbs).as_posix(), notebook.stem
    return f"{folder}/{re.sub(r'^[0-9]+_', '', name) if folder.split('/')[0] == 'api' else name}.html".removeprefix("./")


def lost_words(site: Path, nbs: Path = NBS) -> list[str]:
    "Pages that lack words of their notebook's Markdown, as `page: words`."
    lost = []
    for notebook in sorted(p for p in nbs.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts):
        page = site / page_of(notebook, nbs)
        if not page.is_file():
            lost.append(f"{page_of(notebook, nbs)}: not built")
            continue
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
        # A heading whose section is private is not shown.
        text = "\n".join(text for text in texts if not re.fullmatch(r"\s*#+ [^\n]+\s*", text))
        text = re.sub(r"\$[^$\n]+\$|\$\$.*?\$\$|\]\([^)]*\)|\{[#.][^}\n]*\}|<[^>]+>|```+\{?\.?\w*|@\w+", " ", text, flags=re.S)
        shown = words(" ".join(Page(page.read_text(encoding="utf-8")).texts))
        if missing := sorted(words(unescape(text)) - shown):
            lost.append(f"{page_of(notebook, nbs)}: {', '.join(missing[:8])}")
    return lost


def marks_shown(site: Path) -> list[str]:
    "Marks of Markdown that a reader sees as text outside code, as `page: where`."
    found = []
    for path in sorted(site.rglob("*.html")):
        for text in Page(path.read_text(encoding="utf-8")).prose:
            if mark := MARKS.search(text):
                around = " ".join(text[max(mark.start() - 20, 0) : mark.end() + 20].split())
                found.append(f"{path.relative_to(site).as_posix()}: Markdown is shown as text: {around}")
    return found


@contextmanager
def served(folder: Path) -> Iterator[str]:
    "The address at which a folder is served."

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


class Browser:
    "A headless Chromium, spoken to by its debugging protocol."

    def __init__(self, program: str):
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        options = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--remote-debugging-port=0",
            "--no-first-run",
        ]
        options += ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-allow-origins=*"]
        command = [program, *options, f"--user-data-dir={self._folder.name}", "about:blank"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            self._connect()
        except BaseException:  # a browser whose folder is gone would run on for ever
            self._process.kill()
            raise

    def _connect(self) -> None:
        "Waits until the browser listens, and opens a channel to its page."
        import websocket

        port_file, waited = Path(self._folder.name) / "DevToolsActivePort", time.monotonic()
        while not port_file.is_file() or not port_file.read_text().strip():
            if self._process.poll() is not None or time.monotonic() - waited > 60:
                raise RuntimeError("Chromium did not start")
            time.sleep(0.1)
        port = port_file.read_text().splitlines()[0]
        with build_opener(ProxyHandler({})).open(f"http://127.0.0.1:{port}/json/list") as answer:  # no proxy knows this address
            page = next(target for target in json.load(answer) if target["type"] == "page")
        channel = socket.create_connection(("127.0.0.1", int(port)), timeout=60)
        self._socket = websocket.create_connection(page["webSocketDebuggerUrl"], timeout=60, socket=channel)
        self._number, self.events = 0, []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: object) -> dict:
        "The answer to a command; events that come before it are kept."
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == self._number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return message["result"]
            self.events.append(message)

    def visit(self, address: str, width: int, height: int) -> None:
        "Opens a page in a window of that size and waits until it is loaded and drawn."
        self.events.clear()
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Page.navigate", url=address)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(json.loads(self._socket.recv()))
        self.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done, 150)))")

    def evaluate(self, expression: str) -> object:
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        return result["result"].get("value")

    def picture(self) -> bytes:
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def close(self) -> None:
        self._socket.close()
        self._process.terminate()
        self._process.wait()
        self._folder.cleanup()


def complaints(events: list[dict], home: str) -> list[str]:
    "What a page wrote to the console as an error, and what it fetched from elsewhere."
    found = []
    for event in events:
        parameters = event.get("params", {})
        if event["method"] == "Network.requestWillBeSent":
            address = parameters["request"]["url"]
            if not address.startswith((home, "data:", "blob:")):
                found.append(f"fetches {address}")
        elif event["method"] == "Runtime.exceptionThrown":
            found.append(f"console: {parameters['exceptionDetails'].get('text', 'error')}")
        elif event["method"] == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            found.append(f"console: {parameters['entry']['text']}")
        elif event["method"] == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "assert"):
            found.append(f"console: {parameters['args'][0].get('value', '') if parameters['args'] else ''}")
    return found


def seen_in_browser(site: Path, program: str, pictures: Path | None = None, only: list[str] | None = None) -> list[str]:
    "What is wrong with the pages of a site in a browser, as `page (width): what`."
    names = only or [path.relative_to(site).as_posix() for path in sorted(site.rglob("*.html"))]
    found, browser = [], Browser(program)
    try:
        with served(site) as home:
            for name in names:
                for width, height in WIDTHS.items():
                    browser.visit(f"{home}/{name}", width, height)
                    wide = browser.evaluate(WIDE) or []
                    problems = [*complaints(browser.events, home), *(f"too wide: {what}" for what in wide)]
                    found += [f"{name} ({width} px): {problem}" for problem in problems]
                    if pictures and name.removesuffix(".html") in PHOTOGRAPHED:
                        pictures.mkdir(parents=True, exist_ok=True)
                        file = f"{name.removesuffix('.html').replace('/', '_')}_{width}.png"
                        (pictures / file).write_bytes(browser.picture())
    finally:
        browser.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Check the documentation site as it was built.")
    parser.add_argument("site", type=Path)
    parser.add_argument("--pictures", type=Path, help="directory for pictures of twelve pages")
    arguments = parser.parse_args()
    if not any(arguments.site.rglob("*.html")):
        sys.exit(f"{arguments.site}: no HTML pages there; build the site first, with make docs")
    found = [*broken_links(arguments.site), *lost_words(arguments.site), *marks_shown(arguments.site)]
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program:
        found += seen_in_browser(arguments.site, program, arguments.pictures)
    else:
        print("no Chromium on this machine: the pages were not opened", file=sys.stderr)
    for line in found:
        print(line)
    if found:
        sys.exit(f"{len(found)} problem(s) in {arguments.site}")
    print(f"{arguments.site}: links, words{' and looks' if program else ''} are as they should be")


if __name__ == "__main__":
    main()
