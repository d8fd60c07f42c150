// The table of runs, the list of runs beside the charts, and which runs are drawn.

const DRAWN_AT_FIRST = 50;
const MOST_COLUMNS = 40; // of metrics
const STATS = { last: "last", min: "min", max: "max", best: "best", all: "all" };

// Hues and differences in lightness: blue, orange, green, red, purple, cyan, pink, olive, brown
const COLORS = [[255, 0], [62, 0.1], [150, 0.02], [25, -0.02], [305, -0.04], [205, 0.1], [350, 0.12], [108, 0.08], [48, -0.14]];

// A color that a run keeps whichever others are drawn
function runColor(run) {
  const isDark = document.documentElement.dataset.theme === "dark";
  const [hue, lift] = COLORS[run % COLORS.length];
  const round = Math.floor(run / COLORS.length) % 3;
  const light = isDark ? 0.74 + lift / 2 : 0.56 + lift;
  return `oklch(${light + [0, -0.11, 0.08][round]} 0.15 ${hue + 14 * round})`;
}

const swatch = (run) => h("span", { className: "swatch", color: runColor(run), "aria-hidden": "true" });

// Whether the filter keeps a run. Each word of it must fit: name=value, name<value, or a regular expression on all texts.
const matches = (run) => wordsOf(state.filter).every((word) => fits(run, word));

const wordsOf = (text) => text.replace(/\s*([<>]=?|=)\s*/g, "$1").split(/\s+/).filter(Boolean);

const COMPARED = {
  "<": (one, other) => one < other, "<=": (one, other) => one <= other,
  ">": (one, other) => one > other, ">=": (one, other) => one >= other,
};

function fits(run, word) {
  const [, name, sign, text] = word.match(/^([^=<>]+)([<>]=?|=)(.*)$/) ?? [];
  const values = name ? valuesOf(run, name) : [];
  if (sign in COMPARED) return values.some((value) => typeof value === "number" && COMPARED[sign](value, Number(text)));
  if (!values.length) return pattern(word)?.test(searchText(run)) ?? true;
  const whole = pattern(`^(?:${text})$`);
  return values.some((value) => (typeof value === "number" && text && value === Number(text)) || !whole || whole.test(String(value)));
}

// What a run has under a name: parameters, with or without what stands before the last slash, the last value of a
// metric, and status, group, …
function valuesOf(run, name) {
  const byName = (values) => Object.entries(values).filter(([key]) => key === name || key.endsWith(`/${name}`));
  const fixed = { name: [run.name], status: [run.status], group: [run.group ?? ""], project: [run.project], tag: run.tags };
  const last = byName(run.summary).map(([, summary]) => toNumber(summary[STAT_PLACES.last]));
  return [...byName(run.params).map(([, value]) => value), ...last, ...(Object.hasOwn(fixed, name) ? fixed[name] : [])];
}

const searchText = ({ name, id, project, group, status, tags, params }) =>
  [name, id, project, group ?? "", status, ...tags, ...Object.entries(params).map(([key, value]) => `${key}=${value}`)].join("\n");

const firstRuns = () => manifest.runs.map((_, run) => run).slice(-DRAWN_AT_FIRST);

const chosenRuns = () => new Set(state.runs ?? firstRuns());

const drawnRuns = () => new Set([...chosenRuns()].filter((run) => run in manifest.runs && matches(manifest.runs[run])));

function choose(run, isDrawn) {
  const chosen = chosenRuns();
  if (isDrawn) chosen.add(run);
  else chosen.delete(run);
  set({ runs: [...chosen].sort((one, other) => one - other) });
}

const chooseAll = () => set({ runs: manifest.runs.map((_, run) => run) });

const checkbox = (run, isDrawn) =>
  h("input", {
    type: "checkbox", checked: isDrawn, "aria-label": `draw ${visible(cut(manifest.runs[run].name, 80))}`,
    on: { change: ({ target }) => choose(run, target.checked) },
  });

const statusBadge = (status) => h("span", { className: `status ${/^[a-z]+$/.test(status) ? status : ""}` }, status);

const openRun = (run) => set({ tab: "details", run });

const runLink = (run, length = 80) =>
  h("button", { type: "button", className: "link", on: { click: () => openRun(run) } },
    named(cut(manifest.runs[run].name, length), { title: visible(manifest.runs[run].name) }));

const list = h("ul", { className: "list" });
const listCount = h("span", { className: "count" });

function showList() {
  const drawn = drawnRuns();
  listCount.textContent = `${drawn.size} of ${manifest.runs.length} drawn`;
  fill(list, manifest.runs.map((run, index) => [run, index]).filter(([run]) => matches(run)).reverse().map(([run, index]) =>
    h("li", {},
      h("label", {}, checkbox(index, drawn.has(index)), swatch(index)),
      runLink(index),
      run.status === "success" ? null : statusBadge(run.status),
      h("button", {
        type: "button", className: "only", title: "Draw only this run", on: { click: () => set({ runs: [index] }) },
      }, "only"))));
}

// Columns: heading, the value to sort by, and what stands in the cell

function columns() {
  const fixed = [
    { key: "name", head: "run", value: (run) => run.name, cell: (run, index) => runLink(index, 60) },
    { key: "status", head: "status", value: (run) => run.status, cell: (run) => statusBadge(run.status) },
    { key: "started", head: "started", value: (run) => run.started, cell: (run) => when(run.started) },
    { key: "took", head: "duration", value: (run) => run.took, cell: (run) => duration(run.took) },
  ];
  const later = ["tags", "group", "project"].map((key) => ({
    key, head: key, value: (run) => String(run[key] ?? ""), cell: (run) => named(cut([run[key] ?? ""].flat().join(", "), 60)),
  }));
  const metrics = metricColumns();
  return [
    ...fixed, ...paramColumns(true), ...metrics.filter(({ head }) => !isSystem(head)), ...later.filter(isUsed),
    ...paramColumns(false), ...metrics.filter(({ head }) => isSystem(head)),
  ];
}

const isUsed = ({ value }) => manifest.runs.some((run) => value(run));

function paramColumns(differ) {
  const names = new Set(manifest.runs.flatMap((run) => Object.keys(run.params)));
  const isDifferent = (name) => new Set(manifest.runs.map((run) => JSON.stringify(run.params[name]))).size > 1;
  return [...names].filter((name) => manifest.runs.length === 1 ? differ : isDifferent(name) === differ).map((name) => ({
    key: `p:${name}`, head: name, kind: "param",
    value: (run) => run.params[name],
    cell: ({ params: { [name]: value } }) => value === undefined ? "" : typeof value === "number" ? number(value, 6) : named(cut(String(value), 60)),
  }));
}

// A summary is [count, last, its step, min, its step, max, its step].
const STAT_PLACES = { last: 1, min: 3, max: 5 };

function metricColumns() {
  const wanted = pattern(state.q);
  const found = [];
  systemLast(manifest.metrics).forEach(([name, goal]) => {
    if (state.q && wanted && !wanted.test(name)) return;
    const best = goal ? { minimize: "min", maximize: "max" }[goal] : null;
    const stats = state.stat === "all" ? ["last", "min", "max"] : state.stat === "best" ? [best].filter(Boolean) : [state.stat];
    for (const stat of stats) {
      const place = STAT_PLACES[stat];
      found.push({
        key: `m:${stat}:${name}`, head: name, kind: "metric", stat: stat === best ? `${stat}, best` : stat,
        value: ({ summary: { [name]: summary } }) => summary?.[place] === undefined ? undefined : toNumber(summary[place]),
        cell: ({ summary: { [name]: summary } }) => summary?.[place] === undefined ? "" : h("span", { title: atStep(summary, place) }, number(summary[place])),
        best: stat === best ? best : null,
      });
    }
  });
  return found.slice(0, MOST_COLUMNS);
}

const atStep = (summary, place) => {
  const step = toNumber(summary[place + 1]);
  return `${summary[place]}${Number.isNaN(step) ? "" : ` at step ${step}`}, of ${counted(summary[0], "point")}`;
};

// Numbers before texts before nothing
function compare(one, other) {
  const rank = (value) => (value === undefined || value === null || value === "" || Number.isNaN(value) ? 2 : typeof value === "number" ? 0 : 1);
  return rank(one) - rank(other) || (typeof one === "number" ? one - other : String(one).localeCompare(String(other)));
}

const table = h("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": "table of runs" });

function showTable() {
  const all = columns();
  const [isDown, key] = [state.sort.startsWith("-"), state.sort.replace(/^-/, "")];
  const sorted = all.find((each) => each.key === key);
  const rows = manifest.runs.map((run, index) => [run, index]).filter(([run]) => matches(run)).reverse();
  if (sorted) {
    const known = rows.filter(([run]) => compare(sorted.value(run), "") < 0 || sorted.value(run) === 0);
    known.sort(([one], [other]) => (isDown ? -1 : 1) * compare(sorted.value(one), sorted.value(other)));
    rows.splice(0, rows.length, ...known, ...rows.filter((row) => !known.includes(row)));
  }
  const drawn = drawnRuns();
  const best = new Map(all.filter((each) => each.best).map((each) => [each.key, bestOf(each, rows)]));
  const head = (each) =>
    h("th", { scope: "col", "aria-sort": each !== sorted ? "none" : isDown ? "descending" : "ascending", className: each.kind ?? "", on: { click: () => sortBy(each, sorted, isDown) } },
      h("button", { type: "button" },
        named(cut(each.head, 40), { title: visible(each.head) }),
        each === sorted ? (isDown ? " ↓" : " ↑") : null,
        each.stat ? h("small", {}, each.stat) : null));
  const cell = (each, run, index) =>
    h(each.key === "name" ? "th" : "td", { className: `${typeof each.value(run) === "number" ? "number" : ""} ${best.get(each.key) === run ? "best" : ""}`, ...(each.key === "name" ? { scope: "row" } : {}) }, each.cell(run, index));
  fill(table, h("table", {},
    h("thead", {}, h("tr", {}, h("td", {}), all.map(head))),
    h("tbody", {}, rows.map(([run, index]) =>
      h("tr", {}, h("td", {}, h("label", {}, checkbox(index, drawn.has(index)), swatch(index))), all.map((each) => cell(each, run, index)))))));
}

function bestOf({ best, value }, rows) {
  const finite = rows.map(([run]) => run).filter((run) => Number.isFinite(value(run)));
  finite.sort((one, other) => (best === "min" ? 1 : -1) * (value(one) - value(other)));
  return finite.length > 1 ? finite[0] : null;
}

function sortBy(column, sorted, isDown) {
  if (column !== sorted) set({ sort: column.key });
  else set({ sort: isDown ? "" : `-${column.key}` });
}
