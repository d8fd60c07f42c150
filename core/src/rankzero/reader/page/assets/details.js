// One run in full: parameters, environment, deliveries, files and the end of its console output.

const detailsPanel = h("div", { className: "details" });

const detailedRun = () => (state.run in manifest.runs ? state.run : manifest.runs.length - 1);

async function showDetails() {
  const number = detailedRun();
  const run = manifest.runs[number];
  if (!run) return;
  const found = await loadDetails(number);
  if (number !== detailedRun()) return;
  const select = h("select", { "aria-label": "run", on: { change: ({ target }) => set({ run: Number(target.value) }) } },
    manifest.runs.map((each, index) => h("option", { value: index, selected: index === number }, cut(each.name, 60))).reverse());
  fill(detailsPanel,
    manifest.runs.length > 1 ? h("label", { className: "pick" }, "Run ", select) : null,
    heading(run, number),
    h("div", { className: "columns" },
      section("Parameters", pairs(Object.entries(run.params))),
      section("Environment", pairs(found.environment)),
      section("Deliveries", deliveries(run)),
      section("Problems", problems(found)),
      section("Checkpoints", rows(["step", "score", "aliases", "path"], found.checkpoints.map(([step, score, aliases, path]) => [step ?? "–", score === null ? "–" : score, aliases.join(", "), path]))),
      section("Artifacts", rows(["name", "kind", "path"], found.artifacts))),
    section("Console", consoleTail(found)));
}

function heading(run, index) {
  const labels = [
    `project ${run.project}`, run.group && `group ${run.group}`, run.parent && `part of ${nameOf(run.parent)}`,
    run.tags.length && `${run.tags.length > 1 ? "tags" : "tag"} ${run.tags.join(", ")}`,
  ].filter(Boolean);
  return h("header", { className: "run" },
    h("h2", {}, swatch(index), named(run.name), " ", statusBadge(run.status)),
    h("p", { className: "note" }, labels.map((each) => [named(cut(each, 80)), " · "]), `${when(run.started)} · ${duration(run.took)}`),
    pastOf(run).map((each) => h("p", { className: "note" }, each)),
    run.error ? h("p", { className: "warning" }, named(cut(run.error, 1000), { title: "" })) : null,
    h("p", { className: "note" }, named(run.dir), " · ", named(run.id)),
    run.notes ? h("p", {}, named(run.notes)) : null);
}

// What happened to a run, besides its end
function pastOf({ params, marks }) {
  const source = params["forked_from/run"];
  return [
    source && `forked from ${nameOf(source)} at step ${number(params["forked_from/step"])}`,
    ...marks.map(([kind, time, step]) => kind in HISTORY && `${kind} ${when(time)}${step === null ? "" : ` to step ${number(step)}`}`),
  ].filter(Boolean);
}

const HISTORY = { resumed: true, rewound: true };

const nameOf = (id) => manifest.runs.find((run) => run.id === id)?.name ?? id;

const section = (title, content) => (content ? h("section", { className: "card" }, h("h3", {}, title), content) : null);

function pairs(entries) {
  if (!entries.length) return null;
  return h("dl", {}, entries.map(([name, value]) => [h("dt", {}, named(cut(name, 200))), h("dd", {}, named(String(value), { title: "" }))]));
}

function rows(heads, found) {
  return found.length ? textTable({ columns: heads, rows: found }) : null;
}

function deliveries(run) {
  if (!run.deliveries.length) return null;
  return h("ul", { className: "plain" }, run.deliveries.map(({ logger, status, behind, rejected, problem, view }) =>
    h("li", {},
      h("span", { className: `status ${status}` }, status), " ", named(logger),
      behind ? ` ${counted(behind, "event")} behind` : null,
      rejected ? ` ${counted(rejected, "event")} rejected` : null,
      problem ? h("div", { className: "note" }, named(cut(problem, 400))) : null,
      view ? h("div", { className: "note" }, h("code", {}, named(view))) : null)));
}

function problems({ losses, alerts, damaged }) {
  const lines = [
    ...losses.map(([count, since, reason]) => `${counted(count, "log call")} lost at ${when(since)}: ${reason}`),
    ...alerts.map(([level, time, title, text]) => `${level} ${when(time)} ${title}${text ? `: ${text}` : ""}`),
    ...(damaged ? [`${counted(damaged, "line")} of the journal damaged`] : []),
  ];
  return lines.length ? h("ul", { className: "plain" }, lines.map((each) => h("li", {}, named(each, { title: "" })))) : null;
}

function consoleTail({ console: lines, console_left_out: leftOut }) {
  if (!lines.length) return null;
  const output = h("pre", { tabIndex: 0, role: "log", "aria-label": "console output" },
    lines.map(([stream, text]) => h("span", { className: stream === "stderr" ? "stderr" : "" }, named(text, { title: "" }), "\n")));
  requestAnimationFrame(() => (output.scrollTop = output.scrollHeight));
  return [leftOut ? h("p", { className: "note" }, `the last of ${counted(lines.length + leftOut, "line")}`) : null, output];
}
