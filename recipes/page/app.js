// The page: pictures, phrases, and what the worker answers about them.

const $ = (selector) => document.querySelector(selector);
const PAGE = JSON.parse($("#page-data").textContent);
const NAMES = Object.keys(PAGE.models);
const HUES = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];  // told apart with any colour vision

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

async function useFile(file) {
  try {
    const bytes = new Uint8Array(await file.arrayBuffer()), reason = refusal(bytes);
    if (reason) throw new Error(reason);
    let bitmap;
    try {
      bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
    } catch {
      throw new Error("The browser cannot read this file as a picture. Convert it to PNG or JPEG.");
    }
    await usePicture(bitmap, file.name ?? "your picture");
  } catch (error) {
    say(`${file.name ?? "The picture"}: ${error.message}`, true);
  }
}

async function usePicture(bitmap, name) {
  const mine = ++turn;
  say("Looking at the picture …");
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height), context = canvas.getContext("2d", { colorSpace: "srgb" });
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  await ask("picture", { rgba: data, width: bitmap.width, height: bitmap.height }, [data.buffer]);
  if (mine !== turn) return;  // another picture was chosen meanwhile
  Object.assign(state, { image: bitmap, results: {}, box: null, shown: null });
  $("#picture-name").textContent = name;
  await askAll(mine);
}

async function useShipped(entry, button) {
  document.querySelectorAll("#pictures button").forEach((other) => other.setAttribute("aria-pressed", other === button));
  const response = Uint8Array.from(atob(entry.data), (c) => c.charCodeAt(0));
  const file = new File([response], entry.name, { type: entry.type });
  await useFile(file);
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
  if (!state.shown || !state.phrases.includes(state.shown.text)) state.shown = { text: state.phrases[0], word: null };
  if (!$("#status").classList.contains("wrong")) say("");
  await askBox(mine);
  draw();
}

async function addPhrase(text) {
  text = text.trim();
  if (!text) return;
  say("");
  try {
    await ask("tokenize", { text });
  } catch (error) {
    return say(error.message, true);
  }
  state.phrases = [text, ...state.phrases.filter((other) => other !== text)].slice(0, 8);
  state.shown = { text, word: null };
  await askAll();
}

async function askBox(mine = turn) {
  if (!state.box || !state.image) return;
  const { left, top, right, bottom } = state.box, phrases = [...new Set([...state.phrases, ...PAGE.bank])];
  state.fits = {};
  for (const name of state.models)
    state.fits[name] = await ask("box", { name, phrases, rows: [top, bottom], columns: [left, right] });
  if (mine !== turn) return;
}

// --- drawing ------------------------------------------------------------------------------------------------------------

// Viridis, in nine steps with straight lines between them.
const VIRIDIS = [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37]];
function viridis(value) {
  const at = Math.min(Math.max(value, 0), 1) * (VIRIDIS.length - 1), low = Math.min(Math.floor(at), VIRIDIS.length - 2);
  return VIRIDIS[low].map((v, c) => v + (VIRIDIS[low + 1][c] - v) * (at - low));
}

function currentMap(name) {
  const result = state.shown && state.results[`${name} ${state.shown.text}`];
  if (!result) return null;
  return state.shown.word === null ? result.map : result.words[state.shown.word]?.map ?? result.map;
}

function drawPicture(name) {
  const figure = document.querySelector(`figure[data-model="${name}"]`), canvas = figure.querySelector("canvas");
  const side = canvas.width, context = canvas.getContext("2d");
  context.clearRect(0, 0, side, side);
  if (!state.image) return;
  context.drawImage(state.image, 0, 0, side, side);
  const map = currentMap(name), overlay = Number($("#overlay").value) / 100;
  const caption = figure.querySelector("figcaption");
  if (map) {
    const small = new OffscreenCanvas(grid, grid), pixels = new ImageData(grid, grid);
    const low = Math.min(...map), high = Math.max(...map);
    map.forEach((value, p) => pixels.data.set([...viridis((value - low) / (high - low || 1)), 255], 4 * p));
    small.getContext("2d").putImageData(pixels, 0, 0);
    context.globalAlpha = overlay;
    context.imageSmoothingEnabled = false;
    context.drawImage(small, 0, 0, side, side);
    context.globalAlpha = 1;
    const best = map.indexOf(high), cell = side / grid;
    context.lineWidth = 2;
    context.strokeStyle = "#fff";
    context.strokeRect((best % grid) * cell + 1, Math.floor(best / grid) * cell + 1, cell - 2, cell - 2);
    const what = state.shown.word === null ? state.shown.text : state.results[`${name} ${state.shown.text}`].words[state.shown.word].text;
    caption.textContent = `${name}: map of “${what}”, cosine ${low.toFixed(2)} (dark) to ${high.toFixed(2)} (yellow); the best patch is row ${Math.floor(best / grid) + 1}, column ${best % grid + 1}.`;
    canvas.setAttribute("aria-label", caption.textContent);
  } else caption.textContent = name;
  if (state.box) {
    const { left, top, right, bottom } = state.box, cell = side / grid;
    context.strokeStyle = "#fff";
    context.lineWidth = 4;
    context.strokeRect(left * cell, top * cell, (right - left) * cell, (bottom - top) * cell);
    context.strokeStyle = "#000";
    context.lineWidth = 1.5;
    context.strokeRect(left * cell, top * cell, (right - left) * cell, (bottom - top) * cell);
  }
}

function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

function drawPhrases() {
  $("#phrases").replaceChildren(...state.phrases.map((text) => {
    const item = element("li", { className: state.shown?.text === text ? "shown" : "" });
    const whole = element("button", { textContent: text, className: "phrase", title: "map of the whole phrase", onclick: () => show(text, null) });
    whole.setAttribute("aria-pressed", state.shown?.text === text && state.shown.word === null);
    const away = element("button", { textContent: "×", className: "away", onclick: () => { state.phrases = state.phrases.filter((other) => other !== text); askAll(); } });
    away.setAttribute("aria-label", `remove ${text}`);
    item.append(element("div", { className: "line" }, whole, away));
    state.models.forEach((name) => {
      const result = state.results[`${name} ${text}`];
      if (!result) return;
      const percent = 100 * result.sigmoid, bar = element("span", { className: "bar" }, element("span", {}));
      bar.firstChild.style.width = `${percent}%`;
      bar.firstChild.style.background = HUES[NAMES.indexOf(name)];
      const notes = (result.unknown ? " · holds a sign that the model does not know" : "") + (result.truncated ? " · cut off at 77 pieces" : "");
      item.append(element("div", { className: "score" }, element("span", { className: "model", textContent: name }), bar,
        element("span", { textContent: `${result.sigmoid.toFixed(2)} (cosine ${result.cosine.toFixed(2)})${notes}` })));
    });
    const words = state.results[`${state.models[0]} ${text}`]?.words ?? [];
    if (words.length > 1)
      item.append(element("div", { className: "words" }, ...words.map((word, k) => {
        const button = element("button", { textContent: word.text, onclick: () => show(text, k) });
        button.setAttribute("aria-pressed", state.shown?.text === text && state.shown.word === k);
        return button;
      })));
    return item;
  }));
}

function drawBox() {
  $("#box").hidden = !state.box;
  if (!state.box || !state.fits) return;
  const { left, top, right, bottom } = state.box;
  $("#box-place").textContent = `rows ${top + 1} to ${bottom}, columns ${left + 1} to ${right}`;
  $("#box-tables").replaceChildren(...state.models.map((name) => {
    const rows = (state.fits[name] ?? []).slice(0, 8).map(({ text, cosine }) =>
      element("tr", {}, element("td", {}, element("button", { textContent: text, onclick: () => addPhrase(text) })), element("td", { textContent: cosine.toFixed(2) })));
    return element("table", {}, element("caption", { textContent: name }),
      element("thead", {}, element("tr", {}, element("th", { textContent: "phrase" }), element("th", { textContent: "cosine" }))), element("tbody", {}, ...rows));
  }));
}

function draw() {
  document.querySelectorAll("figure[data-model]").forEach((figure) => { figure.hidden = !state.models.includes(figure.dataset.model); });
  state.models.forEach(drawPicture);
  drawPhrases();
  drawBox();
}

function show(text, word) {
  state.shown = { text, word };
  draw();
}

// --- the box: by pointer, or by the arrow keys ---------------------------------------------------------------------------

function listen(canvas) {
  let start = null;
  const place = (event) => {
    const { left, top, width, height } = canvas.getBoundingClientRect();
    return [(event.clientX - left) / width, (event.clientY - top) / height].map((v) => Math.min(Math.max(v, 0), 0.9999) * grid);
  };
  const between = ([x, y], [u, v]) => ({
    left: Math.floor(Math.min(x, u)), top: Math.floor(Math.min(y, v)), right: Math.floor(Math.max(x, u)) + 1, bottom: Math.floor(Math.max(y, v)) + 1,
  });
  canvas.onpointerdown = (event) => { start = place(event); canvas.setPointerCapture(event.pointerId); };
  canvas.onpointermove = (event) => { if (start) { state.box = between(start, place(event)); state.models.forEach(drawPicture); } };
  canvas.onpointerup = async (event) => { if (start) { state.box = between(start, place(event)); start = null; await askBox(); draw(); } };
  canvas.onpointercancel = () => { start = null; };
  canvas.onkeydown = async (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Escape") state.box = null;
    else if (!step) return;
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
    const { grid: patches } = await ask("load", { name, base64: holder.textContent.trim(), config: PAGE.models[name], pieces: PAGE.pieces });
    grid = patches;
    holder.remove();  // the worker has them now
    const canvas = element("canvas", { width: 448, height: 448, tabIndex: 0 });
    canvas.setAttribute("role", "img");
    const figure = element("figure", {}, canvas, element("figcaption"));
    figure.dataset.model = name;
    $("#figures").append(figure);
    listen(canvas);
  }
  if (NAMES.length > 1) {
    const choices = [...NAMES.map((name) => [name, [name]]), ["side by side", NAMES]];
    $("#models").append(...choices.map(([label, models], k) => {
      const input = element("input", { type: "radio", name: "models", checked: k === 0, onchange: () => { state.models = models; askAll(); } });
      return element("label", {}, input, ` ${label}`);
    }));
    $("#models").hidden = false;
  }
  $("#pictures").append(...PAGE.pictures.map((entry) => {
    const button = element("button", { title: entry.title }, element("img", { src: `data:${entry.type};base64,${entry.data}`, alt: entry.title, width: 64, height: 64 }));
    button.onclick = () => useShipped(entry, button);
    button.setAttribute("aria-pressed", false);
    return button;
  }));
  $("#file").onchange = (event) => { if (event.target.files[0]) useFile(event.target.files[0]); };
  document.ondragover = (event) => event.preventDefault();
  document.ondrop = (event) => { event.preventDefault(); if (event.dataTransfer.files[0]) useFile(event.dataTransfer.files[0]); };
  $("#ask").onsubmit = (event) => { event.preventDefault(); addPhrase($("#text").value); $("#text").value = ""; };
  $("#overlay").oninput = () => state.models.forEach(drawPicture);
  const first = $("#pictures button");
  await useShipped(PAGE.pictures[0], first);
  document.body.dataset.ready = "yes";
}

start().catch((error) => say(error.message, true));
