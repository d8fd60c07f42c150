// The charts: one for each metric, in groups by prefix. A chart exists only while it is near the screen.

const X_NAMES = { step: "step", epoch: "epoch", wall: "wall time", relative: "relative time" };
const HEIGHT = 220;
const MOST_NAMED = 12; // runs beside the cursor
const charts = new Map(); // card → Chart, of the cards near the screen

class Chart {
  constructor(card, metric) {
    Object.assign(this, { card, metric, plot: null, lines: [], size: null });
    this.body = card.querySelector(".plot");
    this.readout = card.querySelector(".readout");
  }

  async show() {
    this.curves = await loadCurves(this.metric);
    if (charts.get(this.card) === this) this.draw();
  }

  draw() {
    if (!this.curves) return;
    const shown = drawnRuns();
    const curves = this.curves.filter(({ run, isCut }) => shown.has(run) && (!isCut || state.cut));
    const hasX = state.x !== "step" || curves.some(({ step }) => step && step.some((each) => !Number.isNaN(each)));
    this.x = hasX ? state.x : "relative";
    this.lines = curves.map((curve) => line(curve, this.x)).filter((each) => each.x.length);
    this.plot?.destroy();
    this.plot = null;
    this.body.replaceChildren();
    this.readout.textContent = "";
    this.card.classList.toggle("empty", !this.lines.length);
    if (this.lines.length) this.make();
    else fill(this.body, h("p", { className: "note" }, this.emptyText(curves)));
  }

  emptyText(curves) {
    if (!curves.length) return drawnRuns().size ? "none of the drawn runs has this metric" : "no run is drawn";
    return this.x === "epoch" ? "logged without epochs" : "no points to draw on these axes";
  }

  make() {
    const style = getComputedStyle(document.documentElement);
    const [ink, grid] = ["--muted", "--grid"].map((name) => style.getPropertyValue(name).trim());
    const series = [null];
    const data = [null];
    const facets = [{ scale: "x", auto: false }, { scale: "y", auto: false }];
    const push = (x, y, stroke, width, extra = {}) => {
      series.push({ facets, stroke, width, paths: uPlot.paths.linear(), points: { show: false }, ...extra });
      data.push([x, y]);
    };
    const smoothed = this.lines.map((each) => (state.smooth && !each.isCut ? smooth(each.y, state.smooth) : null));
    this.lines.forEach((each, index) => {
      each.shown = smoothed[index] ?? each.y;
      const color = runColor(each.run);
      if (smoothed[index]) push(each.x, each.y, color, 1, { alpha: this.lines.length > 3 ? 0.12 : 0.25 });
      else if (each.isCut) push(each.x, each.y, color, 1, { alpha: 0.5, dash: [4, 4] });
    });
    const [width, alpha] = this.lines.length > 10 ? [1, 0.75] : [1.5, 1];
    this.lines.forEach((each) => each.isCut || push(each.x, each.shown, runColor(each.run), width, { alpha }));
    const axis = { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { show: false }, font: "11px system-ui" };
    const isTime = this.x === "wall";
    const isLogX = state.logx && !isTime;
    this.plot = new uPlot(
      {
        mode: 2,
        width: Math.max(160, this.body.clientWidth),
        height: HEIGHT,
        legend: { show: false },
        padding: [8, 20, 0, 0],
        cursor: { y: false, points: { show: false }, drag: { x: true, y: false, setScale: false } },
        scales: {
          x: { time: isTime, distr: isLogX ? 3 : 1, range: () => this.rangeX() },
          y: { distr: state.logy ? 3 : 1, range: () => this.rangeY() },
        },
        axes: [
          {
            ...axis, ...(isLogX ? logAxis(60) : this.x === "relative" ? { incrs: DURATIONS } : {}), size: 28, space: 60,
            values: (u, ticks, axis, space, gap) => ticks.map((each) => this.tick(each, gap)),
          },
          {
            ...axis, ...(state.logy ? logAxis(30) : {}), size: widthOf,
            values: (u, ticks, axis, space, gap) => ticks.map((each) => number(each, state.logy ? 6 : digitsOf(each, gap))),
          },
        ],
        series,
        hooks: {
          draw: [(u) => this.drawMarks(u)],
          setCursor: [(u) => this.onCursor(u)],
          setSelect: [(u) => this.onSelect(u)],
        },
      },
      data,
      this.body,
    );
    this.plot.over.addEventListener("dblclick", () => set({ zoom: null }));
    this.plot.over.addEventListener("mouseleave", hideTip);
  }

  tick(value, gap) {
    if (this.x === "wall") return clock(value, gap);
    if (this.x === "relative") return value < 60 ? `${number(value, digitsOf(value, gap))} s` : duration(value);
    return number(value, digitsOf(value, gap));
  }

  rangeX() {
    let [low, high] = [Infinity, -Infinity];
    for (const { x } of this.lines) {
      low = Math.min(low, x[0]);
      high = Math.max(high, x[x.length - 1]);
    }
    if (state.zoom && this.x === state.x) {
      const [from, to] = state.zoom;
      if (!state.logx || this.x === "wall" || from > 0) return state.zoom;
      if (to > low) return [low, to];
    }
    if (low < high) return [low, high];
    return state.logx ? [low / 2, low * 2] : [low - 1, low + 1];
  }

  rangeY() {
    const [from, to] = this.rangeX();
    let [low, high] = [Infinity, -Infinity];
    for (const { x, y, shown, isCut } of this.lines) {
      if (isCut) continue;
      for (let index = Math.max(0, after(x, from) - 1); index < x.length && x[index] <= to; index += 1) {
        if (y[index] === null || x[index] < from) continue;
        low = Math.min(low, y[index], shown[index]);
        high = Math.max(high, y[index], shown[index]);
      }
    }
    if (low > high) return state.logy ? [0.1, 1] : [0, 1];
    if (state.logy) return [Math.max(Number.MIN_VALUE, low / 1.1), Math.min(Number.MAX_VALUE, high * 1.1)];
    if (low === high) return low < 0 ? [1.05 * low, 0] : [0, 1.05 * low || 1];
    const room = 0.05 * (high - low);
    return [low - room, high + room];
  }

  // What happened to a run, values that are no numbers, and points that no line joins
  drawMarks(u) {
    const { ctx } = u;
    const ratio = devicePixelRatio;
    const { left, top, width, height } = u.bbox;
    ctx.save();
    ctx.beginPath();
    ctx.rect(left - 3 * ratio, top, width + 6 * ratio, height + 5 * ratio);
    ctx.clip();
    for (const each of this.lines) {
      ctx.fillStyle = ctx.strokeStyle = runColor(each.run);
      let marked = -Infinity; // the place of the last mark of a value that is no number
      each.x.forEach((x, index) => {
        const value = each.shown[index];
        const isAlone = each.shown[index - 1] == null && each.shown[index + 1] == null;
        if (value === null && each.isMissing(index)) {
          const at = u.valToPos(x, "x", true);
          if (at - marked < 4 * ratio) return;
          marked = at;
          ctx.fillRect(at - ratio, top + height + ratio, 2 * ratio, 4 * ratio);
        } else if (value !== null && isAlone) {
          ctx.beginPath();
          ctx.arc(u.valToPos(x, "x", true), u.valToPos(value, "y", true), 2.5 * ratio, 0, 2 * Math.PI);
          ctx.fill();
        }
      });
      if (!each.isCut) this.drawEvents(u, each, ratio);
    }
    ctx.restore();
  }

  drawEvents(u, line, ratio) {
    const { ctx } = u;
    const { top, height } = u.bbox;
    ctx.textAlign = "center";
    const signs = new Map(); // place → how many stand there
    for (const [kind, time, step] of manifest.runs[line.run].marks) {
      const { sign, isEnd } = MARKS[kind];
      const last = line.x.length - 1;
      const at = u.valToPos(isEnd ? line.x[last] : placeOf(line, time, step, this.x), "x", true);
      if (!Number.isFinite(at)) continue;
      if (isEnd) {
        ctx.font = `bold ${13 * ratio}px system-ui`;
        ctx.fillText(sign, at, line.shown[last] === null ? top + height : u.valToPos(line.shown[last], "y", true) + 5 * ratio);
        continue;
      }
      ctx.globalAlpha = 0.7;
      ctx.lineWidth = ratio;
      ctx.setLineDash([2 * ratio, 3 * ratio]);
      ctx.beginPath();
      const below = 12 * (signs.get(at) ?? 0);
      signs.set(at, (signs.get(at) ?? 0) + 1);
      ctx.moveTo(at, top + (below + 11) * ratio);
      ctx.lineTo(at, top + height);
      ctx.stroke();
      ctx.setLineDash([]);
      ctx.globalAlpha = 1;
      ctx.font = `${11 * ratio}px system-ui`;
      ctx.fillText(sign, at, top + (below + 9) * ratio);
    }
  }

  onSelect(u) {
    const { left, width } = u.select;
    if (width > 3 && this.x === state.x) {
      set({ zoom: [u.posToVal(left, "x"), u.posToVal(left + width, "x")] });
    }
    if (width) u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  }

  onCursor(u) {
    const { left, top } = u.cursor;
    const isInside = left >= 0;
    const x = isInside ? u.posToVal(left, "x") : null;
    const near = isInside ? this.valuesAt(x) : [];
    if (!followed) {
      followed = true;
      for (const other of charts.values()) {
        if (other === this || !other.plot || other.x !== this.x) continue;
        const place = isInside ? other.plot.valToPos(x, "x") : -10;
        other.plot.setCursor({ left: place <= other.plot.over.clientWidth ? place : -10, top: isInside ? 10 : -10 });
      }
      followed = false;
      const y = u.posToVal(top, "y");
      near.sort((one, other) => Math.abs(one.value - y) - Math.abs(other.value - y));
      const labels = state.smooth ? [this.xText(near[0]?.x), " · smoothed, as logged"] : this.xText(near[0]?.x);
      if (near.length > 1) showTip(u, near, labels);
      else hideTip();
    }
    this.readout.textContent = near.length === 1 ? `${valueText(near[0])} · ${this.xText(near[0].x)}` : "";
  }

  xText(x) {
    if (this.x === "wall") return when(x);
    return this.x === "relative" ? duration(x) : `${this.x} ${number(x)}`;
  }

  valuesAt(x) {
    const found = [];
    for (const line of this.lines) {
      if (line.isCut) continue;
      let index = after(line.x, x);
      if (index > 0 && (index === line.x.length || x - line.x[index - 1] < line.x[index] - x)) index -= 1;
      const isNear = x >= line.x[0] && x <= line.x[line.x.length - 1];
      if (isNear && line.shown[index] !== null) found.push({ run: line.run, x: line.x[index], value: line.shown[index], logged: line.y[index] });
    }
    return found;
  }

  resize() {
    const width = Math.max(160, this.body.clientWidth);
    if (this.plot && width !== this.plot.width) this.plot.setSize({ width, height: HEIGHT });
  }

  zoomed() {
    const [min, max] = this.rangeX();
    this.plot?.setScale("x", { min, max });
  }

  destroy() {
    this.plot?.destroy();
    this.body.replaceChildren();
  }
}

const MARKS = {
  resumed: { sign: "↻" },
  rewound: { sign: "↶" },
  crashed: { sign: "✕", isEnd: true },
  failed: { sign: "✕", isEnd: true },
  aborted: { sign: "■", isEnd: true },
};
let followed = false; // whether cursors are being moved to that of another chart

// The marks of a logarithmic axis. Those of uPlot never end between some limits, because of rounding.
const logAxis = (space) => ({
  incrs: (u, axis, low, high) => [Math.max(5, high - low)], // any that fits; unused
  splits: (u, axis, low, high) => logMarks(low, high, (axis ? u.over.clientHeight || HEIGHT : u.over.clientWidth || u.width) / space),
  filter: (u, marks) => marks,
});

// Seconds between the marks of an axis of relative time: whole minutes, hours and days
const decades = (from, to) => Array.from({ length: to - from }, (_, index) => [1, 2, 5].map((digit) => Number(`${digit}e${from + index}`))).flat();
const DURATIONS = [
  ...decades(-6, 0), 1, 2, 5, 10, 15, 30, ...[1, 2, 5, 10, 15, 30].map((each) => 60 * each),
  ...[1, 2, 3, 6, 12].map((each) => 3600 * each), ...decades(0, 6).map((each) => 86400 * each),
];

// 1, 2 and 5 of each decade, or only 1 of every n-th one; even marks if these are fewer than two.
function logMarks(low, high, most) {
  const [first, last] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const each = Math.ceil((last - first) / Math.max(1, most));
  const marks = [];
  for (let exponent = Math.ceil(first / each) * each; exponent <= last; exponent += each) {
    for (const digit of 3 * (last - first) <= most ? [1, 2, 5] : [1]) marks.push(Number(`${digit}e${exponent}`));
  }
  const shown = marks.filter((mark) => mark >= low && mark <= high);
  return shown.length > 1 ? shown : evenMarks(low, high, Math.min(5, most));
}

function evenMarks(low, high, most) {
  const exponent = Math.floor(Math.log10((high - low) / most));
  const sizes = [1, 2, 5, 10, 20].map((digits) => Number(`${digits}e${exponent}`));
  const size = sizes.find((each) => each * most >= high - low);
  const first = Math.ceil(low / size);
  return Array.from({ length: Math.floor(high / size) - first + 1 }, (_, index) => Number(((first + index) * size).toPrecision(12)));
}

// How many digits tell a label from those beside it
const digitsOf = (value, gap) => Math.min(15, Math.max(4, 2 + Math.floor(Math.log10(Math.abs(value) || 1)) - Math.floor(Math.log10(gap))));

// The width of the y-axis, so that its longest label fits
function widthOf(u, labels) {
  u.ctx.save();
  u.ctx.font = `${11 * devicePixelRatio}px system-ui`;
  const widths = (labels ?? []).map((each) => u.ctx.measureText(each).width / devicePixelRatio);
  u.ctx.restore();
  return Math.max(40, Math.ceil(Math.max(0, ...widths)) + 14);
}

// A curve on the chosen axis: x ascending, and y with null where nothing is drawn.
function line(curve, axis) {
  const { started, params } = manifest.runs[curve.run];
  const isCopied = (index) => axis === "relative" && "forked_from/run" in params && curve.time[index] < 0;
  const column = { step: curve.step, epoch: curve.epoch, relative: curve.time, wall: curve.time }[axis];
  const shift = axis === "wall" ? started : 0;
  const points = [];
  if (column) {
    for (let index = 0; index < column.length; index += 1) {
      const x = column[index] + shift;
      if (Number.isFinite(x) && !isCopied(index) && !(state.logx && axis !== "wall" && x <= 0)) points.push(index);
    }
    const isSorted = points.every((each, index) => !index || column[points[index - 1]] <= column[each]);
    if (!isSorted) points.sort((one, other) => column[one] - column[other] || one - other);
  }
  const y = points.map((index) => {
    const value = curve.value[index];
    return Number.isFinite(value) && !(state.logy && value <= 0) ? value : null;
  });
  return {
    run: curve.run,
    isCut: curve.isCut,
    x: points.map((index) => column[index] + shift),
    y,
    time: points.map((index) => curve.time[index]),
    isMissing: (index) => !Number.isFinite(curve.value[points[index]]),
  };
}

// An exponential moving average without the bias of its beginning, as in TensorBoard.
function smooth(values, weight) {
  let [sum, count] = [0, 0];
  return values.map((value) => {
    if (value === null) return null;
    sum = sum * weight + (1 - weight) * value;
    count += 1;
    return sum / (1 - weight ** count);
  });
}

// The index of the first element above a value.
function after(ascending, value) {
  let [low, high] = [0, ascending.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ascending[middle] > value) high = middle;
    else low = middle + 1;
  }
  return low;
}

function placeOf(line, time, step, axis) {
  const { started } = manifest.runs[line.run];
  if (axis === "wall") return time;
  if (axis === "relative") return time - started;
  if (axis === "step" && step !== null) return step;
  let last = null; // the last point before it in time
  line.time.forEach((each, index) => {
    if (each <= time - started && (last === null || each >= line.time[last])) last = index;
  });
  return last === null ? NaN : line.x[last];
}

const tip = h("div", { className: "tip", hidden: true });

const valueText = ({ value, logged }) => (state.smooth ? `${number(value)} smoothed, ${number(logged)} logged` : number(value));

function showTip(u, near, xText) {
  const rows = near.slice(0, MOST_NAMED).map(({ run, value, logged }) =>
    h("div", {}, swatch(run), h("b", {}, number(value)), state.smooth ? `, ${number(logged)}` : "", " ", named(cut(manifest.runs[run].name, 40))),
  );
  const more = near.length > MOST_NAMED ? h("div", { className: "note" }, `and ${near.length - MOST_NAMED} more`) : null;
  fill(tip, h("div", { className: "note" }, xText), rows, more);
  tip.hidden = false;
  const { left, top } = u.over.getBoundingClientRect();
  const x = left + u.cursor.left + 14;
  const isRight = x + tip.offsetWidth > document.documentElement.clientWidth - 8;
  tip.style.left = `${Math.max(4, isRight ? x - tip.offsetWidth - 28 : x)}px`;
  tip.style.top = `${Math.max(4, Math.min(top + 4, innerHeight - tip.offsetHeight - 8))}px`;
}

function hideTip() {
  tip.hidden = true;
}

const nearScreen = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting && !charts.has(target)) {
        const chart = new Chart(target, target.metric);
        charts.set(target, chart);
        chart.show();
      } else if (!isIntersecting && charts.has(target)) {
        charts.get(target).destroy();
        charts.delete(target);
      }
    }
  },
  { rootMargin: "400px" },
);

const resized = new ResizeObserver(() => charts.forEach((chart) => chart.resize()));

const isSystem = (name) => name.startsWith("system/");
const groupOf = (name) => name.match(/^system\/node\d+(?=\/)/)?.[0] ?? (name.includes("/") ? name.slice(0, name.indexOf("/")) : "");

// Metrics of the machine come after those of training, whichever were measured first.
function systemLast(metrics) {
  return [...metrics.filter(([name]) => !isSystem(name)), ...metrics.filter(([name]) => isSystem(name))];
}

const grid = h("div", { className: "groups" });

function showCharts() {
  for (const card of charts.keys()) charts.get(card).destroy();
  charts.clear();
  nearScreen.disconnect();
  const wanted = pattern(state.q);
  const groups = new Map();
  systemLast(manifest.metrics.map(([name], metric) => [name, metric])).forEach(([name, metric]) => {
    if (wanted && !wanted.test(name)) return;
    const group = groupOf(name);
    if (!groups.has(group)) groups.set(group, []);
    groups.get(group).push(metric);
  });
  const text = manifest.metrics.length ? "No metric matches the search." : "No metrics were logged.";
  fill(grid, groups.size ? [...groups].map(([group, metrics]) => cardGroup(group, group || "metrics", metrics, (metric) => chartCard(metric, group))) : h("p", { className: "note" }, text));
}

// A group that can be closed; its cards are made when it is open.
function cardGroup(name, title, items, makeCard) {
  const cards = h("div", { className: "cards" });
  const details = h("details", { className: "group", open: !state.closed.includes(name) },
    h("summary", {}, named(title), h("span", { className: "count" }, items.length)), cards);
  const show = () => details.open && !cards.childElementCount && add(cards, items.map(makeCard));
  show();
  details.addEventListener("toggle", () => {
    if (!details.isConnected) return; // replaced since
    show();
    const closed = state.closed.filter((each) => each !== name);
    set({ closed: details.open ? closed : [...closed, name] });
  });
  return details;
}

function chartCard(metric, group) {
  const name = manifest.metrics[metric][0];
  const isWide = state.wide.includes(name);
  const card = h("article", { className: "card chart", "aria-label": visible(name) },
    h("header", {},
      h("h3", {}, named(group ? name.slice(group.length + 1) : name, { title: visible(name) })),
      h("output", { className: "readout" }),
      h("button", {
        type: "button", className: "icon", title: "Use the whole width", "aria-label": "Use the whole width",
        "aria-pressed": String(isWide), on: { click: ({ currentTarget }) => widen(card, name, currentTarget) },
      }, "⤢")),
    h("div", { className: "plot" }));
  card.classList.toggle("wide", isWide);
  card.metric = metric;
  nearScreen.observe(card);
  return card;
}

function widen(card, name, button) {
  const isWide = card.classList.toggle("wide");
  button.setAttribute("aria-pressed", String(isWide));
  const others = state.wide.filter((each) => each !== name);
  set({ wide: isWide ? [...others, name] : others });
  charts.get(card)?.resize();
}

const redraw = () => charts.forEach((chart) => chart.draw());
