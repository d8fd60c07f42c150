// What the user has chosen. It stands behind the # of the address, so that a reload or a link keeps it.

const DEFAULTS = {
  tab: "charts", // charts, runs, media, details
  x: "step", // step, epoch, wall, relative
  smooth: 0,
  logx: false,
  logy: false,
  zoom: null, // [from, to] on the x-axis
  q: "", // search of metrics and media, a regular expression
  filter: "", // of runs
  runs: null, // numbers of the drawn runs; null for the first ones
  sort: "", // a column of the table, with a minus for descending
  stat: "last", // last, min, max, best, all
  closed: [], // groups
  steps: {}, // kind:key of media → the step that is shown, unless it is the last one
  wide: [], // metrics whose charts have the whole width
  cut: false, // whether rewound points are drawn
  run: null, // in the details; null for the newest one
  theme: "", // light, dark, or that of the system
};

const state = { ...DEFAULTS };
const listeners = [];
const onChange = (keys, listener) => listeners.push([keys, listener]);

function set(changes) {
  const changed = Object.keys(changes).filter((key) => JSON.stringify(changes[key]) !== JSON.stringify(state[key]));
  if (!changed.length) return;
  Object.assign(state, changes);
  writeHash();
  notify(changed);
}

const notify = (changed) =>
  listeners.forEach(([keys, listener]) => keys.some((key) => changed.includes(key)) && listener());

function writeHash() {
  const parts = new URLSearchParams();
  for (const [key, value] of Object.entries(state)) {
    if (JSON.stringify(value) !== JSON.stringify(DEFAULTS[key])) {
      parts.set(key, typeof value === "string" ? value : JSON.stringify(value));
    }
  }
  try {
    history.replaceState(null, "", `#${parts}`);
  } catch {
    // a frame in a notebook has no address
  }
}

const VALID = {
  tab: (value) => ["charts", "runs", "media", "details"].includes(value),
  x: (value) => ["step", "epoch", "wall", "relative"].includes(value),
  stat: (value) => ["last", "min", "max", "best", "all"].includes(value),
  theme: (value) => ["", "light", "dark"].includes(value),
  smooth: (value) => value >= 0 && value < 1,
  zoom: (value) => value === null || (value.length === 2 && value[0] < value[1]),
  runs: (value) => value === null || value.every(Number.isInteger),
  run: (value) => value === null || (Number.isInteger(value) && value >= 0),
  closed: (value) => value.every((each) => typeof each === "string"),
  steps: (value) => value !== null && Object.values(value).every(Number.isInteger),
  wide: (value) => value.every((each) => typeof each === "string"),
};

function readHash() {
  const chosen = { ...DEFAULTS };
  for (const [key, text] of new URLSearchParams(location.hash.slice(1))) {
    if (!(key in DEFAULTS)) continue;
    try {
      const value = typeof DEFAULTS[key] === "string" ? text : JSON.parse(text);
      const fits = key in VALID ? VALID[key](value) : typeof value === typeof DEFAULTS[key];
      if (fits) chosen[key] = value;
    } catch {
      // someone has written the address by hand
    }
  }
  const changed = Object.keys(chosen).filter((key) => JSON.stringify(chosen[key]) !== JSON.stringify(state[key]));
  Object.assign(state, chosen);
  notify(changed);
}
