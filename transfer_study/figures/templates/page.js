"use strict";
function unpack(id) {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), c => c.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip")));
}
const dark = matchMedia("(prefers-color-scheme: dark)"), narrow = matchMedia("(max-width: 740px)");
const views = new Map();
let page, turn = 0, sharing = false;
function rows(table) {  // a table comes as a list for each column, because that is shorter
  if (Array.isArray(table) || typeof table === "string") return structuredClone(table);
  const columns = Object.entries(table);
  return columns[0][1].map((_, i) => Object.fromEntries(columns.map(([name, values]) => [name, values[i]])));
}
async function draw() {
  const mine = ++turn;
  for (const element of document.querySelectorAll("[data-chart]")) {
    const chart = page.charts[element.dataset.chart], scheme = dark.matches ? "dark" : "light";
    const spec = { ...chart[narrow.matches ? "narrow" : "wide"],
      datasets: Object.fromEntries(chart.tables.map(name => [name, rows(page.tables[name])])) };
    const drawn = await vegaEmbed(element, spec,
      { actions: false, renderer: chart.renderer, config: page.themes[scheme], tooltip: { theme: scheme } });
    if (mine !== turn) return drawn.finalize();
    views.get(element)?.finalize();
    views.set(element, drawn);
    try { drawn.view.addDataListener("hover_store", (_, chosen) => share(chosen, drawn.view)); } catch { /* nothing to point at */ }
  }
  document.documentElement.dataset.drawn = views.size;
}
function share(chosen, from) {
  if (sharing) return;
  sharing = true;
  for (const { view } of views.values()) if (view !== from) {
    try { view.data("hover_store", chosen.map(entry => ({ ...entry }))).run(); } catch { /* nothing to point at */ }
  }
  sharing = false;
}

function save(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
async function saveFigure(button) {
  const element = button.closest("figure").querySelector("[data-chart]"), { view } = views.get(element);
  const background = view.background();
  view.background(getComputedStyle(document.body).backgroundColor);
  const name = element.dataset.chart + "." + button.dataset.save;
  if (button.dataset.save === "svg") save(new Blob([await view.toSVG()], { type: "image/svg+xml" }), name);
  else (await view.toCanvas(2)).toBlob(blob => save(blob, name));
  view.background(background).run();
}
function sort(button) {
  const head = button.closest("th"), body = head.closest("table").tBodies[0], k = head.cellIndex;
  const down = head.getAttribute("aria-sort") === "ascending";
  const value = row => { const cell = row.cells[k], text = cell.dataset.value;
    return text === undefined ? cell.textContent : Number.isNaN(parseFloat(text)) ? -Infinity : parseFloat(text); };
  const order = (a, b) => { const x = value(a), y = value(b); return typeof x === "string" ? x.localeCompare(y) : x - y; };
  body.append(...[...body.rows].sort((a, b) => down ? order(b, a) : order(a, b)));
  head.parentNode.querySelectorAll("th").forEach(other => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
}
document.addEventListener("click", event => {
  const button = event.target.closest("button");
  if (button?.dataset.save) saveFigure(button);
  else if (button?.dataset.csv) save(new Blob([page.csv[button.dataset.csv]], { type: "text/csv" }), button.dataset.csv);
  else if (button?.closest("th")) sort(button);
});
document.querySelector(".find")?.addEventListener("submit", event => event.preventDefault());
document.getElementById("find")?.addEventListener("input", event =>
  share(event.target.value ? [{ unit: "", fields: [{ type: "E", field: "network" }], values: [event.target.value] }] : []));
// A link to a folded section opens it; what is printed is open.
const reveal = () => { const part = document.getElementById(location.hash.slice(1))?.querySelector(":scope > details");
  if (part) part.open = true; };
addEventListener("hashchange", reveal);
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(part => { part.open = true; }));
reveal();
unpack("payload").json().then(async content => {
  page = content;
  if (document.querySelector("[data-chart]"))  // Vega, which draws the figures
    document.head.append(Object.assign(document.createElement("script"), { textContent: await unpack("bundle").text() }));
  await draw();
  dark.addEventListener("change", draw); narrow.addEventListener("change", draw); });
