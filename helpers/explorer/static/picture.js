// A picture with a map over it. Drag a box, or focus the picture and use the arrow keys; drop a file on it.

const SEND_AFTER = 120; // ms without a key before the box is sent: a held key must not flood the kernel

function element(tag, attributes = {}, parent = null) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") node.textContent = value;
    else node.setAttribute(name, value);
  }
  parent?.append(node);
  return node;
}

function source(image, bytes) {
  if (image.src.startsWith("blob:")) URL.revokeObjectURL(image.src);
  const there = bytes && bytes.byteLength > 0;
  image.hidden = !there;
  if (there) image.src = URL.createObjectURL(new Blob([bytes]));
  else image.removeAttribute("src");
}

function place(node, [left, top, right, bottom]) {
  node.style.left = `${100 * left}%`;
  node.style.top = `${100 * top}%`;
  node.style.width = `${100 * (right - left)}%`;
  node.style.height = `${100 * (bottom - top)}%`;
}

const within = (x) => Math.min(1, Math.max(0, x));

// What the file becomes on its way: as it is, or made smaller if it is too large for the connection to the kernel.
async function prepare(file, maxBytes, maxSide) {
  if (file.size <= maxBytes) return { buffer: await file.arrayBuffer(), note: "" };
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, maxSide / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  const note = `made smaller by the browser: ${bitmap.width} × ${bitmap.height} → ${canvas.width} × ${canvas.height} pixels`;
  bitmap.close();
  const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.95));
  return { buffer: await blob.arrayBuffer(), note };
}

function render({ model, el }) {
  const root = element("div", { class: "cc-picture" }, el);
  const hintId = `cc-${Math.random().toString(36).slice(2)}`;
  const stage = element("div", { class: "cc-stage", "aria-describedby": hintId }, root);
  const base = element("img", { alt: "", draggable: "false" }, stage);
  const overlay = element("img", { class: "cc-overlay", alt: "", draggable: "false" }, stage);
  const marks = element("div", {}, stage);
  const frame = element("div", { class: "cc-box", hidden: "" }, stage);
  const status = element("p", { class: "cc-status", role: "status" }, root);
  const problem = element("p", { class: "cc-problem", role: "alert" }, root);
  const hint = element("p", { class: "cc-hint", id: hintId }, root);
  const files = element("label", { class: "cc-file" }, root);
  element("span", { text: "Open a picture of your own, or drop it above: " }, files);
  const input = element("input", { type: "file", accept: "image/*,.tif,.tiff" }, files);

  const draw = {
    data: () => source(base, model.get("data")),
    overlay: () => source(overlay, model.get("overlay")),
    opacity: () => {
      const opacity = model.get("overlay").byteLength ? model.get("opacity") : 0;
      overlay.style.opacity = opacity;
      base.style.filter = `grayscale(${Math.min(1, opacity * 2)})`; // colour on colour would be read as concept
    },
    extent: () => place(overlay, [0, 0, ...model.get("extent")]),
    box: () => show(model.get("box")),
    marks: () => {
      marks.replaceChildren();
      for (const mark of model.get("marks")) {
        const node = element("div", { class: "cc-mark", title: mark.title ?? "" }, marks);
        element("span", { text: mark.text }, node);
        place(node, mark.box);
      }
    },
    description: () => stage.setAttribute("aria-label", model.get("description")),
    hint: () => (hint.textContent = model.get("hint")),
    status: () => (status.textContent = model.get("status")),
    problem: () => (problem.textContent = model.get("problem")),
    files: () => (files.hidden = !model.get("files")),
    boxes: () => {
      const boxes = model.get("boxes");
      stage.setAttribute("role", boxes ? "application" : "img");
      stage.classList.toggle("cc-boxes", boxes);
      if (boxes) stage.tabIndex = 0;
      else stage.removeAttribute("tabindex");
    },
  };
  draw.width = () => base.complete && base.naturalWidth && size();

  function show(box) {
    frame.hidden = box.length !== 4;
    if (box.length === 4) place(frame, box);
  }
  function size() {
    const widest = model.get("width");
    stage.style.width = `${Math.max(24, Math.min(widest, (1.25 * widest * base.naturalWidth) / base.naturalHeight))}px`;
    base.classList.toggle("cc-coarse", base.naturalWidth < 64);
  }
  base.addEventListener("load", size);

  let timer = null;
  function send(box, after = 0) {
    show(box);
    clearTimeout(timer);
    const commit = () => {
      model.set("box", box);
      model.save_changes();
    };
    if (after) timer = setTimeout(commit, after);
    else commit();
    pending = after ? box : null;
  }

  // --- dragging ---
  let start = null;
  const at = (event) => {
    const edge = stage.getBoundingClientRect();
    return [within((event.clientX - edge.left) / edge.width), within((event.clientY - edge.top) / edge.height)];
  };
  const between = ([x0, y0], [x1, y1]) => [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)];
  stage.addEventListener("pointerdown", (event) => {
    if (!model.get("boxes") || event.button !== 0) return;
    event.preventDefault();
    stage.focus({ preventScroll: true });
    stage.setPointerCapture(event.pointerId);
    start = at(event);
  });
  stage.addEventListener("pointermove", (event) => start && show(between(start, at(event))));
  stage.addEventListener("pointerup", (event) => {
    if (!start) return;
    const box = between(start, at(event));
    start = null;
    send(box);
  });
  stage.addEventListener("pointercancel", () => {
    start = null;
    draw.box();
  });

  // --- keys ---
  let pending = null;
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  stage.addEventListener("keydown", (event) => {
    if (!model.get("boxes")) return;
    if (event.key === "Escape") send([]);
    else if (event.key in moves && !event.ctrlKey && !event.metaKey && !event.altKey) {
      const [dx, dy] = model.get("step");
      const [x, y] = moves[event.key];
      const old = pending ?? model.get("box");
      const limit = model.get("extent");
      if (old.length !== 4) {
        const [column, row] = [Math.floor(limit[0] / dx / 2), Math.floor(limit[1] / dy / 2)];
        send([column * dx, row * dy, (column + 1) * dx, (row + 1) * dy], SEND_AFTER);
      } else {
        let [left, top, right, bottom] = old;
        if (event.shiftKey) {
          right = Math.min(limit[0], Math.max(left + dx, right + x * dx));
          bottom = Math.min(limit[1], Math.max(top + dy, bottom + y * dy));
        } else {
          const moveX = Math.min(limit[0] - right, Math.max(-left, x * dx));
          const moveY = Math.min(limit[1] - bottom, Math.max(-top, y * dy));
          [left, right, top, bottom] = [left + moveX, right + moveX, top + moveY, bottom + moveY];
        }
        send([left, top, right, bottom], SEND_AFTER);
      }
    } else return;
    event.preventDefault();
    event.stopPropagation(); // JupyterLab would move to another cell
  });

  // --- files ---
  async function take(file) {
    if (!file) return;
    status.textContent = `Reading ${file.name} …`;
    problem.textContent = "";
    try {
      const { buffer, note } = await prepare(file, model.get("max_bytes"), model.get("max_side"));
      model.send({ kind: "file", name: file.name, note }, undefined, [buffer]);
    } catch (error) {
      const size = (file.size / 1e6).toFixed(0);
      const text =
        `${file.name}: ${size} MB are too much to send, and the browser cannot open it to make it smaller. ` +
        "It may be damaged; else save it as JPEG or PNG, or give its path: ConceptExplorer(model, processor, image=path).";
      model.send({ kind: "problem", text });
    }
  }
  input.addEventListener("change", () => {
    take(input.files[0]);
    input.value = ""; // the same file can be chosen again
  });
  stage.addEventListener("dragover", (event) => {
    if (!model.get("files") || !event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    stage.classList.add("cc-drop");
  });
  stage.addEventListener("dragleave", () => stage.classList.remove("cc-drop"));
  stage.addEventListener("drop", (event) => {
    stage.classList.remove("cc-drop");
    if (!model.get("files") || !event.dataTransfer.files.length) return;
    event.preventDefault();
    event.stopPropagation();
    take(event.dataTransfer.files[0]);
  });

  const listeners = Object.entries(draw).map(([name, function_]) => {
    const listener = () => {
      function_();
      if (name === "overlay") draw.opacity();
    };
    model.on(`change:${name}`, listener);
    function_();
    return [name, listener];
  });
  return () => {
    for (const [name, listener] of listeners) model.off(`change:${name}`, listener);
    clearTimeout(timer);
    source(base, null);
    source(overlay, null);
  };
}

export default { render };
