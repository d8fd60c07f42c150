// The page: its controls, tabs and keys.

let manifest;

const TABS = { charts: "Charts", runs: "Runs", media: "Media", details: "Details" };

const KEYS = [
  ["1 2 3 4", "charts, runs, media, details"],
  ["/", "search metrics and media"],
  ["f", "filter runs"],
  ["x", "next x-axis"],
  ["l", "logarithmic y-axis"],
  ["k", "logarithmic x-axis"],
  ["s  S", "smooth more, less"],
  ["r", "reset zoom; so does a double click"],
  ["c", "close or open all groups"],
  ["a", "draw all runs, or the newest ones"],
  ["n", "next run in the details"],
  ["d", "dark or light"],
  ["?", "this list"],
  ["Esc", "close, or leave a field"],
];

const field = (label, input) => h("label", { className: "field" }, h("span", {}, label), input);

// A field for regular expressions, which says so while what it contains is none.
function searchField(label, key, placeholder, partsOf) {
  const note = h("span", { className: "note warning", role: "status" });
  controls[key] = h("input", { type: "search", placeholder, value: state[key], spellcheck: false, autocomplete: "off", on: { input: ({ target }) => set({ [key]: target.value }) } });
  const check = () => {
    const isInvalid = !partsOf(state[key]).every(pattern);
    controls[key].setAttribute("aria-invalid", String(isInvalid));
    note.textContent = isInvalid ? "invalid expression" : "";
  };
  onChange([key], check);
  check();
  return h("div", { className: "search" }, field(label, controls[key]), note);
}

const toggle = (key, label, title) =>
  h("button", { type: "button", className: "toggle", title, on: { click: () => set({ [key]: !state[key] }) } }, label);

const select = (key, options) =>
  h("select", { on: { change: ({ target }) => set({ [key]: target.value, ...(key === "x" ? { zoom: null } : {}) }) } },
    Object.entries(options).map(([value, text]) => h("option", { value }, text)));

const controls = {};

function build() {
  controls.tabs = Object.fromEntries(Object.entries(TABS).map(([tab, label]) => [tab,
    h("button", { type: "button", role: "tab", id: `tab-${tab}`, "aria-controls": "panel", on: { click: () => set({ tab }) } }, label)]));
  controls.x = select("x", X_NAMES);
  controls.stat = select("stat", STATS);
  controls.smooth = h("input", { type: "range", min: 0, max: 0.99, step: 0.01, on: { input: ({ target }) => set({ smooth: Number(target.value) }) } });
  controls.smoothText = h("output", {});
  controls.logx = toggle("logx", "log x", "Logarithmic x-axis");
  controls.logy = toggle("logy", "log y", "Logarithmic y-axis");
  controls.cut = toggle("cut", "rewound", "Also draw what rewinds have superseded");
  controls.reset = h("button", { type: "button", on: { click: () => set({ zoom: null }) } }, "Reset zoom");
  controls.groups = h("button", { type: "button", on: { click: closeGroups } }, "Close groups");
  controls.panel = h("main", { id: "panel", role: "tabpanel", tabIndex: -1 });
  const iconButton = (label, sign, click) => h("button", { type: "button", className: "icon", title: label, "aria-label": label, on: { click } }, sign);
  controls.runs = h("details", { className: "runs", open: innerWidth > 800 },
    h("summary", {}, "Runs ", listCount),
    h("div", { className: "buttons" }, h("button", { type: "button", on: { click: chooseAll } }, "all"), h("button", { type: "button", on: { click: () => set({ runs: [] }) } }, "none")),
    list);
  document.body.prepend(
    h("header", { className: "top" },
      h("h1", {}, named(document.title)),
      h("div", { role: "tablist", className: "tabs", "aria-label": "views" }, Object.values(controls.tabs)),
      manifest.live ? liveState : null,
      iconButton("Dark or light", "◐", switchTheme),
      iconButton("Keyboard shortcuts", "?", () => help.showModal())),
    h("div", { className: "bar", role: "toolbar", "aria-label": "controls" },
      searchField("Search", "q", "loss|accuracy", (text) => [text]),
      searchField("Filter runs", "filter", "name, tag, lr=0.1", wordsOf),
      h("span", { className: "for-charts" },
        field("X-axis", controls.x),
        field("Smoothing", h("span", { className: "slider" }, controls.smooth, controls.smoothText)),
        controls.logx, controls.logy, manifest.runs.some(({ marks }) => marks.some(([kind]) => kind === "rewound")) ? controls.cut : null,
        controls.reset, controls.groups),
      h("span", { className: "for-runs" }, field("Value", controls.stat), h("button", { type: "button", on: { click: chooseAll } }, "Draw all"), h("button", { type: "button", on: { click: () => set({ runs: [] }) } }, "Draw none"))),
    h("div", { className: "body" }, controls.runs, controls.panel),
    h("footer", { className: "note" }, manifest.live ? null : `Written by rankzero ${when(manifest.made)}.`, isThinned() ? ` ${THINNED}` : null),
    tip, help, viewer);
}

const THINNED = "Long curves have fewer points here: of each part the first, smallest, largest and last one.";
const isThinned = () => manifest.runs.some(({ summary }) => Object.values(summary).some(([count]) => count > manifest.points));

const help = h("dialog", { className: "help", "aria-label": "keyboard shortcuts" },
  h("h2", {}, "Keyboard shortcuts"),
  h("dl", {}, KEYS.map(([key, text]) => [h("dt", {}, key.split(" ").filter(Boolean).map((each) => h("kbd", {}, each))), h("dd", {}, text)])),
  h("p", { className: "note" }, "Drag across a chart to zoom in all charts; a double click resets."),
  h("form", { method: "dialog" }, h("button", {}, "Close")));

function showTab() {
  for (const [tab, button] of Object.entries(controls.tabs)) button.setAttribute("aria-selected", String(tab === state.tab));
  controls.panel.setAttribute("aria-labelledby", `tab-${state.tab}`);
  document.body.dataset.tab = state.tab;
  hideTip();
  controls.panel.replaceChildren({ charts: grid, runs: table, media: mediaPanel, details: detailsPanel }[state.tab]);
  refresh();
}

const SHOW = { charts: showCharts, runs: showTable, media: showMedia, details: showDetails };

const refresh = () => SHOW[state.tab]();

function showControls() {
  for (const key of ["x", "stat", "smooth", "q", "filter"]) {
    if (controls[key] !== document.activeElement || controls[key].tagName === "SELECT") controls[key].value = state[key];
  }
  for (const key of ["logx", "logy", "cut"]) controls[key].setAttribute("aria-pressed", String(state[key]));
  controls.smoothText.textContent = state.smooth ? state.smooth.toFixed(2) : "off";
  controls.reset.disabled = !state.zoom;
  controls.groups.textContent = state.closed.length ? "Open groups" : "Close groups";
}

function closeGroups() {
  const metrics = manifest.metrics.map(([name]) => groupOf(name));
  set({ closed: state.closed.length ? [] : [...new Set(metrics)] });
  showCharts();
}

const systemIsDark = matchMedia("(prefers-color-scheme: dark)");

function showTheme() {
  document.documentElement.dataset.theme = state.theme || (systemIsDark.matches ? "dark" : "light");
  if (manifest && controls.panel) {
    showList();
    if (state.tab === "charts") redraw();
    else refresh();
  }
}

function switchTheme() {
  set({ theme: document.documentElement.dataset.theme === "dark" ? "light" : "dark" });
}

const nextOf = (options, now) => options[(options.indexOf(now) + 1) % options.length];

function smoother(change) {
  set({ smooth: Math.round(100 * Math.min(0.99, Math.max(0, state.smooth + change))) / 100 });
}

// The details have no fields: they are about one run.
function find(field) {
  if (state.tab === "details") set({ tab: "charts" });
  field.focus();
}

const ACTIONS = {
  "/": () => find(controls.q),
  f: () => find(controls.filter),
  x: () => set({ x: nextOf(Object.keys(X_NAMES), state.x), zoom: null }),
  l: () => set({ logy: !state.logy }),
  k: () => set({ logx: !state.logx }),
  s: () => smoother(0.1),
  S: () => smoother(-0.1),
  r: () => set({ zoom: null }),
  c: closeGroups,
  a: () => (state.runs?.length === manifest.runs.length ? set({ runs: null }) : chooseAll()),
  n: () => set({ tab: "details", run: (detailedRun() + 1) % manifest.runs.length }),
  d: switchTheme,
  "?": () => help.showModal(),
};
Object.keys(TABS).forEach((tab, index) => (ACTIONS[index + 1] = () => set({ tab })));

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const isField = event.target.matches?.("input:not([type=checkbox]):not([type=range]), select, textarea");
  if (event.key === "Escape" && isField) event.target.blur();
  if (isField || help.open || viewer.open || !(event.key in ACTIONS)) return;
  event.preventDefault();
  ACTIONS[event.key]();
}

function listen() {
  onChange(["tab"], showTab);
  onChange(["q"], refresh);
  onChange(["filter", "runs"], () => {
    showList();
    if (state.tab === "charts") redraw();
    else if (state.tab !== "details") refresh();
  });
  onChange(["x", "smooth", "logx", "logy", "cut"], redraw);
  onChange(["zoom"], () => charts.forEach((chart) => chart.zoomed()));
  onChange(["sort", "stat"], () => state.tab === "runs" && showTable());
  onChange(["steps"], showSteps);
  onChange(["run"], () => state.tab === "details" && showDetails());
  onChange(["theme"], showTheme);
  onChange(Object.keys(DEFAULTS), showControls);
}

async function start() {
  readHash();
  manifest = json(await inflate(await block("manifest")));
  showTheme();
  build();
  listen();
  showControls();
  showList();
  showTab();
  resized.observe(controls.panel);
  addEventListener("keydown", onKey);
  addEventListener("hashchange", readHash);
  addEventListener("scroll", hideTip, { passive: true });
  systemIsDark.addEventListener("change", showTheme);
  if (manifest.live) follow();
  document.body.dataset.ready = "yes";
}

start();
