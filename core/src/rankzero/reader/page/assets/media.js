// Images, figures, audio, video, tables, texts and histograms: a card for each key, with a slider over the steps.

const KINDS = {
  image: "Images", figure: "Figures", video: "Videos", audio: "Audio", table: "Tables", text: "Texts",
  histogram: "Histograms", pointcloud: "Point clouds", graph: "Model graphs",
};
const MOST_RUNS = 24; // beside each other in one card

const mediaPanel = h("div", { className: "groups media" });

function showMedia() {
  const wanted = pattern(state.q);
  const groups = new Map(); // kind → key → runs
  const drawn = drawnRuns();
  for (const run of [...drawn].sort((one, other) => one - other)) {
    for (const [kind, keys] of Object.entries(manifest.runs[run].media)) {
      if (!groups.has(kind)) groups.set(kind, new Map());
      for (const key of keys.filter((each) => !wanted || wanted.test(each))) {
        const found = groups.get(kind);
        found.set(key, [...(found.get(key) ?? []), run]);
      }
    }
  }
  const filled = Object.keys(KINDS).filter((kind) => groups.get(kind)?.size);
  fill(mediaPanel, leftOutNote(), filled.map((kind) => cardGroup(`media:${kind}`, KINDS[kind], [...groups.get(kind)], ([key, runs]) => mediaCard(kind, key, runs))),
    filled.length ? null : h("p", { className: "note" }, "The drawn runs have no media that match the search."));
}

function leftOutNote() {
  const [files, size] = manifest.left_out;
  return files ? h("p", { className: "note warning" }, `${counted(files, "file")} (${bytes(size)}) left out of this page: the oldest of each key. Write it with a larger --max-media to have them.`) : null;
}

function mediaCard(kind, key, runs) {
  const shown = h("div", { className: "items" });
  const at = h("output", { className: "readout" });
  const name = `${kind}:${key}`;
  const slider = h("input", { type: "range", min: 0, max: 0, step: 1, value: 0, "aria-label": `step of ${visible(cut(key, 80))}` });
  const controls = h("div", { className: "slider" }, slider, at);
  const card = h("article", { className: `card ${kind}`, "aria-label": visible(cut(key, 200)) }, h("header", {}, h("h3", {}, named(key))), controls, shown);
  let [logged, steps, drawn] = [[], [], ""];
  card.load = async () => {
    logged = await Promise.all(runs.slice(0, MOST_RUNS).map((run) => itemsOf(run, kind, key)));
    steps = [...new Set(logged.flatMap(({ items }) => items.map(({ step }) => step)))].sort((one, other) => one - other);
    slider.max = Math.max(0, steps.length - 1);
    controls.hidden = steps.length < 2;
    card.showStep();
  };
  card.showStep = () => {
    const wanted = name in state.steps ? steps.indexOf(state.steps[name]) : -1;
    slider.value = wanted < 0 ? slider.max : wanted;
    const step = steps[slider.value];
    const wantedItems = JSON.stringify([step, logged.map(({ items }) => until(items, step).length)]);
    if (!logged.length || wantedItems === drawn) return; // a video plays on
    drawn = wantedItems;
    at.textContent = step === null ? "without step" : `step ${number(step)}`;
    slider.setAttribute("aria-valuetext", at.textContent);
    fill(shown, logged.map(({ run, items, leftOut }) => runItems(run, items, step, manifest.runs.length > 1, leftOut)),
      runs.length > MOST_RUNS ? h("p", { className: "note" }, `and ${counted(runs.length - MOST_RUNS, "more run")}: draw fewer runs to see them`) : null);
  };
  card.update = (changed) => logged.some(({ run }) => changed.has(run)) && card.load();
  slider.addEventListener("input", () => {
    const { [name]: _, ...others } = state.steps;
    const step = steps[slider.value];
    set({ steps: slider.value === slider.max || step === null ? others : { ...others, [name]: step } });
    card.showStep();
  });
  visibleFirst.observe(card);
  return card;
}

const showSteps = () => mediaPanel.querySelectorAll(".card").forEach((card) => card.showStep());

// Show what runs have logged since to the cards that are there.
const updateMedia = (changed) => mediaPanel.querySelectorAll(".card").forEach((card) => card.update(changed));

const visibleFirst = new IntersectionObserver(
  (entries) => entries.forEach(({ target, isIntersecting }) => {
    if (!isIntersecting) return;
    visibleFirst.unobserve(target);
    target.load();
  }),
  { rootMargin: "300px" },
);

async function itemsOf(run, kind, key) {
  const { media } = await loadDetails(run);
  const found = media.find((each) => each.kind === kind && each.key === key);
  return { run, items: found?.items ?? [], leftOut: found?.left_out ?? 0 };
}

const until = (items, step) => items.filter((each) => each.step === null || each.step <= step);

// The items of a run at a step, or at the last one before it.
function runItems(run, items, step, hasName, leftOut) {
  const before = until(items, step);
  const last = before.length ? before[before.length - 1].step : undefined;
  const now = before.filter((each) => each.step === last);
  if (!now.length) return null;
  const name = h("div", { className: "of" }, swatch(run), named(cut(manifest.runs[run].name, 60)), last === step ? null : h("small", {}, `step ${number(last)}`));
  return h("section", {}, hasName ? name : null, h("div", { className: "row" }, now.map(mediaItem)),
    leftOut ? h("p", { className: "note" }, `${leftOut} of ${items.length + leftOut} steps left out`) : null);
}

function mediaItem(item) {
  if (item.show === "histogram") return histogram(item);
  if (item.show === "table" && item.rows) return textTable(item);
  const caption = item.caption ? h("figcaption", {}, named(cut(item.caption, 2000))) : null;
  return h("figure", {}, fileElement(item), caption);
}

function fileElement(item) {
  if (item.missing) return h("p", { className: "note" }, "the file is missing, perhaps deleted by rankzero clean: ", named(item.name));
  if (!item.file && !item.url) return h("p", { className: "note" }, "left out: ", named(item.name), ` (${bytes(item.size)})`);
  const tag = { image: "img", audio: "audio", video: "video" }[item.show];
  if (!tag) return saveButton(item);
  const element = h(tag, tag === "img" ? { alt: visible(item.caption ?? item.name), decoding: "async" } : { controls: true, preload: "metadata" });
  fileUrl(item, item.type).then((url) => (element.src = url));
  element.addEventListener("error", () => element.replaceWith(h("p", { className: "note" }, "cannot be shown: ", named(item.name), saveButton(item))));
  if (tag === "img") {
    element.addEventListener("load", () => element.classList.toggle("pixels", element.naturalWidth < 128));
    element.addEventListener("click", () => zoomImage(element));
  }
  return element;
}

// A file that no browser shows, or that could run scripts, is only saved.
function saveButton(item) {
  const save = async () => {
    const link = h("a", { href: await fileUrl(item, ""), download: visible(item.name) });
    link.click();
  };
  return h("button", { type: "button", on: { click: save } }, "Save ", named(cut(item.name, 40)), ` (${bytes(item.size)})`);
}

const viewer = h("dialog", { className: "viewer", "aria-label": "image", on: { click: () => viewer.close() } });

function zoomImage(image) {
  fill(viewer, h("img", { src: image.src, alt: image.alt, className: image.className }));
  viewer.showModal();
}

function textTable({ columns, rows, left_out: leftOut }) {
  const cell = (value) => {
    if (value !== null && typeof value === "object") return h("td", {}, fileElement(value));
    return h("td", { className: typeof value === "number" ? "number" : /\n/.test(value) ? "lines" : "" }, typeof value === "string" ? named(value, { title: "" }) : typeof value === "number" ? number(value, 6) : String(value ?? ""));
  };
  return h("div", { className: "scroll", tabIndex: 0 },
    h("table", {}, h("thead", {}, h("tr", {}, columns.map((each) => h("th", { scope: "col" }, named(each))))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map(cell))))),
    leftOut ? h("p", { className: "note" }, `and ${counted(leftOut, "more row")}`) : null);
}

function histogram({ counts, edges, non_finite: other }) {
  const heights = counts.map(toNumber);
  const [width, height] = [440, 130];
  const canvas = h("canvas", { width: 2 * width, height: 2 * height, role: "img", "aria-label": `histogram of ${number(heights.reduce((sum, each) => sum + each, 0))} values from ${number(edges[0])} to ${number(edges[edges.length - 1])}` });
  const context = canvas.getContext("2d");
  const style = getComputedStyle(document.documentElement);
  context.scale(2, 2);
  context.fillStyle = style.getPropertyValue("--accent");
  const [low, high] = [toNumber(edges[0]), toNumber(edges[edges.length - 1])];
  const place = (edge) => (high > low ? ((toNumber(edge) - low) / (high - low)) * width : width / 2);
  // The area of a bar is its count, as bins may differ in width.
  const densities = heights.map((each, index) => each / Math.max(1e-9, place(edges[index + 1]) - place(edges[index])));
  const highest = Math.max(...densities, 1e-9);
  densities.forEach((each, index) => {
    const [from, to] = [place(edges[index]), place(edges[index + 1])];
    const size = (each / highest) * (height - 20);
    context.fillRect(from, height - 16 - size, Math.max(1, to - from - 0.5), size);
  });
  context.fillStyle = style.getPropertyValue("--muted");
  context.font = "11px system-ui";
  context.fillText(number(low), 0, height - 3);
  context.textAlign = "right";
  context.fillText(number(high), width, height - 3);
  return h("figure", {}, canvas, other ? h("figcaption", {}, `${counted(other, "value")} not finite`) : null);
}
