// A live page asks its server for what is new: of each run what its journal has grown by.

const EVERY = 2000; // milliseconds
const MOST_APPENDED = 5000; // points of a curve, until it is asked for as a whole, with fewer points

const liveState = h("output", { className: "live note", role: "status" }, "live");

async function follow() {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, EVERY));
    if (document.hidden) continue;
    try {
      const read = Object.fromEntries(manifest.runs.map(({ offset, lines }, run) => [run, [offset, lines]]));
      const answer = await fetch("news", { method: "POST", body: JSON.stringify(read) });
      if (!answer.ok) throw new Error(answer.status);
      await take(await answer.json());
      liveState.textContent = `live, ${new Date().toLocaleTimeString()}`;
      liveState.classList.remove("warning");
    } catch {
      liveState.classList.add("warning");
      liveState.textContent = "rankzero view has ended or cannot be reached; when you start it again, open the new address that it prints";
    }
  }
}

async function take(news) {
  const [metrics, runs] = [manifest.metrics.length, manifest.runs.length];
  const [appended, changed] = [new Set(), new Set()];
  let [isNew, hasNewMedia] = [false, false];
  for (const [number, { points = {}, redraw, goals = {}, summary, ...entry }] of Object.entries(news)) {
    const run = (manifest.runs[number] ??= { summary: {} });
    isNew ||= "params" in entry || entry.status !== run.status;
    if ("params" in entry) {
      loaded.delete(`r${number}`);
      changed.add(Number(number));
      hasNewMedia ||= JSON.stringify(entry.media) !== JSON.stringify(run.media);
    }
    Object.assign(run, entry);
    Object.assign(run.summary, summary);
    for (const name of Object.keys({ ...points, ...summary })) {
      if (!manifest.metrics.some(([each]) => each === name)) manifest.metrics.push([name, goals[name] ?? null]);
    }
    if (redraw) [...loaded.keys()].filter((key) => key.startsWith("m")).forEach((key) => loaded.delete(key));
    for (const [name, rows] of Object.entries(points)) appended.add(await append(name, Number(number), rows));
  }
  if (manifest.metrics.length > metrics || manifest.runs.length > runs) refresh();
  else if (state.tab === "charts") {
    for (const chart of charts.values()) if (appended.has(chart.metric) || !loaded.has(`m${chart.metric}`)) chart.show();
  } else if (state.tab === "runs" || (state.tab === "details" && changed.has(detailedRun())) || (state.tab === "media" && hasNewMedia)) refresh();
  else if (state.tab === "media") updateMedia(changed);
  if (isNew) showList();
}

// Append points, as [line, step, time, epoch, value], to a curve that is loaded.
async function append(name, run, rows) {
  const metric = manifest.metrics.findIndex(([each]) => each === name);
  if (!loaded.has(`m${metric}`)) return metric;
  const curves = await loadCurves(metric);
  const curve = curves.find((each) => each.run === run && !each.isCut);
  const added = rows.filter(([line]) => !curve || line >= curve.lines);
  if (!curve || curve.value.length + added.length > MOST_APPENDED + (curve.first ??= curve.value.length)) {
    loaded.delete(`m${metric}`);
    return metric;
  }
  const { started } = manifest.runs[run];
  const grown = (column, values) => Float64Array.from([...column, ...values]);
  const missing = () => curve.value.map(() => NaN);
  const epochs = added.map(([, , , epoch]) => (epoch === null ? NaN : epoch));
  if (curve.epoch || epochs.some((each) => !Number.isNaN(each))) curve.epoch = grown(curve.epoch ?? missing(), epochs);
  curve.step = grown(curve.step, added.map(([, step]) => (step === null ? NaN : step)));
  curve.time = grown(curve.time, added.map(([, , time]) => time - started));
  curve.value = grown(curve.value, added.map(([, , , , value]) => toNumber(value)));
  return metric;
}
