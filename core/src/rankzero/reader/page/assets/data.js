// The data of the page: blocks in base64, decoded when they are first needed.


async function inflate(data) {
  const stream = new Blob([data]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function fromBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const binary = atob(text);
  const data = new Uint8Array(binary.length);
  for (let index = 0; index < binary.length; index += 1) data[index] = binary.charCodeAt(index);
  return data;
}

async function block(name) {
  const element = document.getElementById(`block-${name}`);
  return element ? fromBase64(element.textContent) : new Uint8Array();
}

const json = (data) => JSON.parse(new TextDecoder().decode(data));

const loaded = new Map();

function once(key, load) {
  if (!loaded.has(key)) loaded.set(key, load());
  return loaded.get(key);
}

const loadDetails = (run) => once(`r${run}`, async () => json(await part(`r${run}`, `details/${run}`)));

const loadCurves = (metric) =>
  once(`m${metric}`, async () => unpack(await part(`m${metric}`, `curves?name=${encodeURIComponent(manifest.metrics[metric][0])}`)));

// A block of the page, or what the server of a live page answers.
async function part(name, path) {
  if (!manifest.live) return inflate(await block(name));
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return new Uint8Array(await answer.arrayBuffer());
}


// The address of a file: an object of this page, or on the server that a live page came from.
const fileUrl = async ({ file, url }, type) =>
  url ?? once(file, async () => URL.createObjectURL(new Blob([await block(file)], { type: type || "application/octet-stream" })));

// Curves are columns one after another; each column has first all lowest bytes of its numbers, then all second ones, …
function unpack(data) {
  const size = new DataView(data.buffer).getUint32(0, true);
  let offset = 4 + size;
  const column = (kind, length) => {
    if (!kind) return null;
    const width = kind === "d" ? 8 : 4;
    const ordered = new Uint8Array(length * width);
    for (let place = 0; place < width; place += 1, offset += length) {
      for (let index = 0; index < length; index += 1) ordered[index * width + place] = data[offset + index];
    }
    if (kind === "f") return new Float32Array(ordered.buffer);
    if (kind === "d") return new Float64Array(ordered.buffer);
    let sum = 0;
    return Float64Array.from(new Int32Array(ordered.buffer), (difference) => (sum += difference));
  };
  return json(data.subarray(4, offset)).map(([run, isCut, length, kinds, lines]) => {
    const [step, time, epoch, value] = kinds.map((kind) => column(kind, length));
    return { run, isCut, lines, step, time: time.map((each) => each / 1000), epoch, value };
  });
}
