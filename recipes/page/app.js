// The page: pictures, phrases, and what the worker answers about them.

const $ = (selector) => document.querySelector(selector);
const PAGE = JSON.parse($("#page-data").textContent);
const NAMES = Object.keys(PAGE.models);
const TITLE = PAGE.titles;
const HUES = ["#0072b2", "#d55e00"];  // told apart with any colour vision
const MOST = 8;  // phrases side by side

// --- the worker, asked with promises --------------------------------------------------------------------------------

const worker = new Worker(URL.createObjectURL(new Blob([$("#engine").textContent], { type: "text/javascript" })));
const waiting = new Map();
let questions = 0;
worker.onmessage = ({ data: { id, answer, problem } }) => {
  const { resolve, reject } = waiting.get(id);
  waiting.delete(id);
  problem === undefined ? resolve(answer) : reject(new Error(problem));
};
function ask(kind, question, transfer = []) {
  const id = questions++;
  return new Promise((resolve, reject) => {
    waiting.set(id, { resolve, reject });
    worker.postMessage({ id, kind, ...question }, transfer);
  });
}

// --- state ------------------------------------------------------------------------------------------------------------

const state = { image: null, phrases: [...PAGE.first], results: {}, shown: null, box: null, models: [NAMES[0]] };
let grid = 14, turn = 0;

function say(text, wrong = false) {
  $("#status").textContent = text;
  $("#status").classList.toggle("wrong", wrong);
}

// --- pictures -----------------------------------------------------------------------------------------------------------

async function useFile(file, title, button) {
  try {
    say("Looking at the picture …");
    const bytes = new Uint8Array(await file.arrayBuffer()), reason = refusal(bytes);
    if (reason) throw new Error(reason);
    let bitmap;
    try {
      bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
    } catch {
      throw new Error("The browser cannot read this file as a picture. Convert it to PNG or JPEG.");
    }
    if (bitmap.width * bitmap.height > MOST_PIXELS) throw new Error(`The picture has more than ${Math.round(MOST_PIXELS / 1e6)} megapixels. Make it smaller, or cut it into tiles.`);
    await usePicture(bitmap, title ?? file.name, button);
  } catch (error) {
    say(`${file.name}: ${error.message}`, true);
  }
}

async function usePicture(bitmap, name, button) {
  const mine = ++turn;
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height), context = canvas.getContext("2d", { colorSpace: "srgb" });
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  await ask("picture", { rgba: data, width: bitmap.width, height: bitmap.height }, [data.buffer]);
  if (mine !== turn) return;  // another picture was chosen meanwhile
  Object.assign(state, { image: bitmap, results: {}, box: null, fits: null, differences: null, shown: null });
  $("#picture-name").textContent = name;
  press(button);
  await askAll(mine);
}

async function useShipped(entry, button) {
  const bytes = Uint8Array.from(atob(entry.data), (c) => c.charCodeAt(0));
  await useFile(new File([bytes], entry.name, { type: entry.type }), `${entry.kind} ${entry.title}`, button);
}

function press(button) {
  document.querySelectorAll("#pictures button").forEach((other) => other.setAttribute("aria-pressed", other === button));
}

// --- phrases ------------------------------------------------------------------------------------------------------------

async function askAll(mine = turn) {
  for (const text of state.phrases)
    for (const name of state.models) {
      const key = `${name} ${text}`;
      if (state.results[key] || !state.image) continue;
      try {
        const result = await ask("phrase", { text, name });
        if (mine !== turn) return;
        state.results[key] = result;
      } catch (error) {
        state.phrases = state.phrases.filter((other) => other !== text);
        say(error.message, true);
        draw();
        return;
      }
    }
  if (!state.phrases.includes(state.shown?.text)) state.shown = state.phrases.length ? { text: state.phrases[0], word: null } : null;
  draw();  // the answers first, the comparisons after them
  await askBox(mine);
  await askDifference(mine);
  if (mine !== turn) return;
  if (!$("#status").classList.contains("wrong")) say("");
  draw();
}

async function askDifference(mine = turn) {
  if (state.models.length < 2 || !state.image) return;
  const phrases = [...new Set([...state.phrases, ...PAGE.probes, ...PAGE.bank])];
  const found = await ask("differ", { names: state.models, phrases });
  if (mine === turn) state.differences = found;
}

async function addPhrase(text) {
  text = text.trim();
  if (!text) return;
  say("");
  try {
    for (const name of NAMES) await ask("tokenize", { text, name });
  } catch (error) {
    return say(error.message, true);
  }
  const all = [text, ...state.phrases.filter((other) => other !== text)];
  state.phrases = all.slice(0, MOST);
  state.shown = { text, word: null };
  if (all.length > MOST) say(`${MOST} phrases stand side by side; “${all[MOST]}” was taken away.`, true);
  await askAll();
}

async function askBox(mine = turn) {
  if (!state.box || !state.image) return;
  const { left, top, right, bottom } = state.box, phrases = [...new Set([...state.phrases, ...PAGE.bank])];
  const fits = {};
  for (const name of state.models)
    fits[name] = await ask("box", { name, phrases, rows: [top, bottom], columns: [left, right] });
  if (mine === turn) state.fits = fits;
}

// --- drawing ------------------------------------------------------------------------------------------------------------

// Viridis, in nine steps with straight lines between them.
const VIRIDIS = [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37]];
function viridis(value) {
  const at = Math.min(Math.max(value, 0), 1) * (VIRIDIS.length - 1), low = Math.min(Math.floor(at), VIRIDIS.length - 2);
  return VIRIDIS[low].map((v, c) => v + (VIRIDIS[low + 1][c] - v) * (at - low));
}

const fixed = (value) => value.toFixed(2).replace(/^-(?=.*[1-9])/, "−").replace("-", "");  // a true minus, and none before 0.00
const resultOf = (name, text) => state.results[`${name} ${text}`];

function currentMap(name) {
  const result = state.shown && resultOf(name, state.shown.text);
  if (!result) return null;
  return state.shown.word === null ? result.map : result.words[state.shown.word]?.map ?? result.map;
}

// The lowest and the highest cosine of a map; or, with one scale for all, of all maps of the model that are drawn.
function ends(name, map) {
  const maps = $("#shared").checked ? [map, ...state.phrases.map((text) => resultOf(name, text)?.map).filter(Boolean)] : [map];
  return [Math.min(...maps.map((one) => Math.min(...one))), Math.max(...maps.map((one) => Math.max(...one)))];
}

// A map of any grid, drawn in colours over a canvas.
function paint(context, map, colour, opacity) {
  const side = Math.sqrt(map.length), small = new OffscreenCanvas(side, side), pixels = new ImageData(side, side);
  map.forEach((value, p) => pixels.data.set([...colour(value), 255], 4 * p));
  small.getContext("2d").putImageData(pixels, 0, 0);
  context.globalAlpha = opacity;
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, context.canvas.width, context.canvas.height);
  context.globalAlpha = 1;
}

function paintMap(context, name, map) {
  const [low, high] = ends(name, map);
  paint(context, map, (value) => viridis((value - low) / (high - low || 1)), Number($("#overlay").value) / 100);
}

function shownText() {
  if (state.shown.word === null) return `“${state.shown.text}”`;
  return `“${resultOf(state.models[0], state.shown.text)?.words[state.shown.word]?.text}” in “${state.shown.text}”`;
}

function drawPicture(name) {
  const figure = document.querySelector(`figure[data-model="${name}"]`), canvas = figure.querySelector("canvas");
  const side = canvas.width, cell = side / grid, context = canvas.getContext("2d"), map = currentMap(name);
  context.clearRect(0, 0, side, side);
  if (!state.image) return;
  context.imageSmoothingEnabled = true;
  context.drawImage(state.image, 0, 0, side, side);
  const caption = figure.querySelector("figcaption"), scale = figure.querySelector(".scale");
  scale.hidden = !map;
  if (map) {
    const [low, high] = ends(name, map), best = map.indexOf(Math.max(...map)), row = Math.floor(best / grid), column = best % grid;
    paintMap(context, name, map);
    context.lineWidth = 3;
    context.strokeStyle = "#fff";
    context.strokeRect(column * cell + 1.5, row * cell + 1.5, cell - 3, cell - 3);
    caption.textContent = `${TITLE[name]}: map of ${shownText()}. Framed in white is the best patch, row ${row + 1}, column ${column + 1}, cosine ${fixed(map[best])}.`;
    scale.firstChild.textContent = fixed(low);
    scale.lastChild.textContent = fixed(high);
  } else caption.textContent = TITLE[name];
  canvas.setAttribute("aria-label", caption.textContent);
  if (state.box) {
    const { left, top, right, bottom } = state.box;
    [["#fff", 4], ["#000", 1.5]].forEach(([colour, width]) => {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.strokeRect(left * cell, top * cell, (right - left) * cell, (bottom - top) * cell);
    });
  }
}

// The places of the numbers in their order, 0 the lowest and 1 the highest.
function ranks(map) {
  const order = [...map.keys()].sort((a, b) => map[a] - map[b]), places = new Float32Array(map.length);
  order.forEach((patch, place) => { places[patch] = place / (map.length - 1); });
  return places;
}

// Which patches one model ranks higher than the other does, for the phrase that is shown.
function drawDifference() {
  const section = $("#differ");
  section.hidden = state.models.length < 2 || !state.image;
  if (section.hidden) return;
  const [a, b] = state.models, canvas = $("#difference canvas"), context = canvas.getContext("2d"), maps = [a, b].map(currentMap);
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (maps[0] && maps[1]) {
    const [one, other] = maps.map(ranks), mix = (hue, share) => hue.map((v) => 247 + (v - 247) * share);
    const gap = one.map((place, p) => place - other[p]), most = gap.reduce((at, v, p) => (Math.abs(v) > Math.abs(gap[at]) ? p : at), 0);
    context.filter = "grayscale(1)";
    context.drawImage(state.image, 0, 0, canvas.width, canvas.height);
    context.filter = "none";
    paint(context, gap, (v) => mix(v > 0 ? [0, 114, 178] : [213, 94, 0], Math.min(Math.abs(v), 1)), 0.75);
    const caption = `Blue: ${TITLE[a]} ranks the patch higher for ${shownText()}. Orange: ${TITLE[b]} does. Grey: both alike. The largest difference is in row ${Math.floor(most / grid) + 1}, column ${most % grid + 1}.`;
    $("#difference figcaption").textContent = caption;
    canvas.setAttribute("aria-label", caption);
  }
  const rows = (state.differences ?? []).slice(0, 10).map(({ text, sigmoids, agreement }) => element("tr", {}, element("td", {}, phraseButton(text, "differ")),
    ...sigmoids.map((value) => element("td", { textContent: value.toFixed(2) })), element("td", { textContent: fixed(agreement) })));
  const head = ["phrase", ...state.models.map((name) => TITLE[name]), "maps agree"].map((textContent) => element("th", { textContent, scope: "col" }));
  $("#differ-table").replaceChildren(element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows)));
}

function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

// A button that asks a phrase; `place` tells the buttons of one phrase apart.
function phraseButton(text, place) {
  const button = element("button", { textContent: text, title: "ask this phrase", onclick: () => addPhrase(text) });
  button.dataset.key = `${place} ${text}`;
  return button;
}

function pressable(label, text, word, properties = {}) {
  const button = element("button", { textContent: label, onclick: () => show(text, word), ...properties });
  button.setAttribute("aria-pressed", state.shown?.text === text && state.shown.word === word);
  button.dataset.key = `map ${text} ${word}`;
  return button;
}

function drawPhrases() {
  $("#phrases").replaceChildren(...state.phrases.map((text) => {
    const item = element("li", { className: state.shown?.text === text ? "shown" : "" });
    const away = element("button", { textContent: "×", title: "take this phrase away", onclick: () => { say(""); state.phrases = state.phrases.filter((other) => other !== text); askAll(); } });
    away.setAttribute("aria-label", `take “${text}” away`);
    away.dataset.key = `away ${text}`;
    item.append(element("div", { className: "line" }, pressable(text, text, null, { className: "phrase", title: "show the map of the whole phrase" }), away));
    state.models.forEach((name) => {
      const result = resultOf(name, text);
      if (!result) return;
      const canvas = element("canvas", { width: 112, height: 112 }), context = canvas.getContext("2d");
      canvas.setAttribute("aria-hidden", true);
      context.drawImage(state.image, 0, 0, 112, 112);
      paintMap(context, name, result.map);
      const bar = element("span", { className: "bar" }, element("span", {}));
      bar.firstChild.style.width = `${100 * result.sigmoid}%`;
      bar.firstChild.style.background = HUES[NAMES.indexOf(name)];
      const notes = (result.unknown ? " · holds a sign that the model does not know" : "") + (result.truncated ? " · cut off at 77 pieces" : "");
      item.append(element("div", { className: "model" }, canvas, element("div", {}, TITLE[name], bar, `sigmoid\u00a0${result.sigmoid.toFixed(2)}, cosine\u00a0${fixed(result.cosine)}${notes}`)));
    });
    const words = resultOf(state.models[0], text)?.words ?? [];
    if (words.length > 1) item.append(element("div", { className: "words" }, ...words.map((word, k) => pressable(word.text, text, k, { title: "show the map of this word" }))));
    return item;
  }));
}

function drawBox() {
  $("#box").hidden = !state.box;
  if (!state.box || !state.fits) return;
  const { left, top, right, bottom } = state.box;
  $("#box-place").textContent = `Rows ${top + 1} to ${bottom}, columns ${left + 1} to ${right}.`;
  $("#box-tables").replaceChildren(...state.models.map((name) => {
    const rows = (state.fits[name] ?? []).slice(0, 8).map(({ text, cosine }) =>
      element("tr", {}, element("td", {}, phraseButton(text, `box ${name}`)), element("td", { textContent: fixed(cosine) })));
    return element("table", {}, element("caption", { textContent: TITLE[name] }),
      element("thead", {}, element("tr", {}, element("th", { textContent: "phrase", scope: "col" }), element("th", { textContent: "cosine", scope: "col" }))), element("tbody", {}, ...rows));
  }));
}

function draw() {
  const focused = document.activeElement?.dataset?.key;
  document.querySelectorAll("figure[data-model]").forEach((figure) => { figure.hidden = !state.models.includes(figure.dataset.model); });
  state.models.forEach(drawPicture);
  drawPhrases();
  drawBox();
  drawDifference();
  // The buttons were made anew: whoever goes by keyboard stays at the same one.
  if (focused && document.activeElement === document.body)
    ([...document.querySelectorAll("[data-key]")].find((node) => node.dataset.key === focused) ?? $("#text")).focus({ preventScroll: true });
}

function show(text, word) {
  state.shown = { text, word };
  draw();
}

// --- the box: by pointer, or by the arrow keys ---------------------------------------------------------------------------

function listen(canvas) {
  let start = null, before = null;
  const place = (event) => {
    const { left, top, width, height } = canvas.getBoundingClientRect();
    return [(event.clientX - left) / width, (event.clientY - top) / height].map((v) => Math.min(Math.max(v, 0), 0.9999) * grid);
  };
  const between = ([x, y], [u, v]) => ({
    left: Math.floor(Math.min(x, u)), top: Math.floor(Math.min(y, v)), right: Math.floor(Math.max(x, u)) + 1, bottom: Math.floor(Math.max(y, v)) + 1,
  });
  canvas.onpointerdown = (event) => { start = place(event); before = state.box; canvas.setPointerCapture(event.pointerId); };
  canvas.onpointermove = (event) => { if (start) { state.box = between(start, place(event)); state.models.forEach(drawPicture); } };
  canvas.onpointerup = async (event) => { if (start) { state.box = between(start, place(event)); start = null; await askBox(); draw(); } };
  canvas.onpointercancel = () => { start = null; state.box = before; draw(); };  // the browser moves the page instead
  canvas.onkeydown = async (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Escape") state.box = null;
    else if (!step) return;
    else if (!state.image) return;
    else {
      event.preventDefault();
      const box = state.box ?? { left: 5, top: 5, right: 9, bottom: 9 }, [x, y] = state.box ? step : [0, 0];
      const moved = event.shiftKey ? { ...box, right: box.right + x, bottom: box.bottom + y }
        : { left: box.left + x, right: box.right + x, top: box.top + y, bottom: box.bottom + y };
      if (moved.left >= 0 && moved.top >= 0 && moved.right <= grid && moved.bottom <= grid && moved.right > moved.left && moved.bottom > moved.top) state.box = moved;
      else if (!state.box) state.box = box;
    }
    await askBox();
    draw();
  };
}

// --- start ----------------------------------------------------------------------------------------------------------------

async function start() {
  for (const name of NAMES) {
    const holder = document.querySelector(`script[data-weights="${name}"]`);
    const { grid: patches } = await ask("load", { name, base64: holder.textContent.trim(), config: PAGE.models[name], pieces: PAGE.pieces[name] });
    grid = patches;
    holder.remove();  // the worker has them now
    const canvas = element("canvas", { width: 448, height: 448, tabIndex: 0 });
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", TITLE[name]);
    const scale = element("div", { className: "scale", hidden: true }, element("span"), element("i"), element("span"));
    const figure = element("figure", {}, canvas, scale, element("figcaption"));
    figure.dataset.model = name;
    figure.hidden = !state.models.includes(name);
    $("#figures").append(figure);
    listen(canvas);
  }
  if (NAMES.length > 1) {
    const choices = [...NAMES.map((name) => [TITLE[name], [name]]), ["both, side by side", NAMES]];
    $("#models").append(...choices.map(([label, models], k) => {
      const input = element("input", { type: "radio", name: "models", checked: k === 0, onchange: () => { say("Looking at the picture …"); state.models = models; askAll(); } });
      return element("label", {}, input, ` ${label}`);
    }));
    $("#models").hidden = false;
  }
  const kinds = [...new Set(PAGE.pictures.map(({ kind }) => kind))];
  $("#pictures").append(...kinds.map((kind) => element("div", {}, element("h3", { textContent: `${kind} cells` }), ...PAGE.pictures.filter((entry) => entry.kind === kind).map((entry) => {
    const button = element("button", {}, element("img", { src: `data:${entry.type};base64,${entry.data}`, alt: `${entry.kind} cell:`, width: 64, height: 64 }), entry.title);
    button.onclick = () => useShipped(entry, button);
    button.setAttribute("aria-pressed", false);
    return button;
  }))));
  $("#file").onchange = async (event) => { if (event.target.files[0]) await useFile(event.target.files[0]); event.target.value = ""; };
  document.ondragover = (event) => { event.preventDefault(); document.body.classList.add("over"); };
  document.ondragleave = (event) => { if (!event.relatedTarget) document.body.classList.remove("over"); };
  document.ondrop = (event) => { event.preventDefault(); document.body.classList.remove("over"); if (event.dataTransfer.files[0]) useFile(event.dataTransfer.files[0]); };
  $("#ask").onsubmit = (event) => { event.preventDefault(); addPhrase($("#text").value); $("#text").value = ""; };
  $("#overlay").oninput = $("#shared").onchange = draw;
  $("#box-away").onclick = () => { state.box = null; draw(); };
  const first = $("#pictures button");
  await useShipped(PAGE.pictures[0], first);
  document.body.dataset.ready = "yes";
}

start().catch((error) => say(error.message, true));
