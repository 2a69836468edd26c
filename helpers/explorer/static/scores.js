// A table of scores: each cell a number over a bar. With `press`, a row's name is a button that selects it.

function element(tag, attributes = {}, parent = null) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined) continue;
    if (name === "text") node.textContent = value;
    else node.setAttribute(name, value);
  }
  parent?.append(node);
  return node;
}

// Where a bar begins and ends, in percent: from the left for "bar", from zero in the middle for "change".
function bar({ kind, low, high }, value) {
  const share = (x) => Math.min(1, Math.max(0, (x - low) / (high - low)));
  if (kind !== "change") return { left: 0, width: 100 * share(value), side: "cc-now" };
  const [zero, end] = [share(0), share(value)];
  return {
    left: 100 * Math.min(zero, end),
    width: 100 * Math.abs(end - zero),
    side: value >= 0 ? "cc-up" : "cc-down",
  };
}

function render({ model, el }) {
  const root = element("div", { class: "cc-scores" }, el);

  function draw() {
    const focused = root.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    const [columns, rows, press] = [model.get("columns"), model.get("rows"), model.get("press")];
    const table = element("table");
    element("caption", { text: model.get("caption") }, table);
    if (!rows.length) {
      root.replaceChildren(table, element("p", { class: "cc-hint", text: model.get("empty") }));
      return;
    }
    const head = element("thead", {}, table);
    if (model.get("groups").length) {
      const line = element("tr", {}, head);
      element("td", {}, line);
      for (const { title, span } of model.get("groups"))
        element("th", { scope: "colgroup", colspan: span, text: title }, line);
    }
    const titles = element("tr", {}, head);
    element("td", {}, titles);
    for (const { title, help } of columns) element("th", { scope: "col", text: title, title: help }, titles);
    const body = element("tbody", {}, table);
    for (const row of rows) {
      const line = element("tr", { "data-key": row.key }, body);
      const name = element("th", { scope: "row" }, line);
      if (row.mark !== null && row.mark !== undefined) {
        const meaning = row.mark ? "true of this cell" : "not true of this cell";
        element("span", { class: "cc-truth", role: "img", text: row.mark ? "●" : "○", "aria-label": meaning, title: meaning }, name);
      }
      if (press) {
        const chosen = row.key === model.get("selected");
        line.classList.toggle("cc-chosen", chosen);
        const button = element(
          "button",
          { type: "button", "data-key": row.key, "aria-pressed": chosen, text: row.label, title: press },
          name,
        );
        button.addEventListener("click", () => {
          model.set("selected", row.key);
          model.save_changes();
        });
      } else element("span", { text: row.label }, name);
      row.cells.forEach((cell, k) => {
        const node = element("td", { title: cell.title }, line);
        if (cell.value !== null) {
          const { left, width, side } = bar(columns[k], cell.value);
          const strip = element("i", { class: side }, element("b", { class: "cc-track" }, node));
          strip.style.left = `${left}%`;
          strip.style.width = `${width}%`;
        }
        element("span", { text: cell.text }, node);
      });
    }
    root.replaceChildren(table);
    if (focused !== null) root.querySelector(`button[data-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  }

  const names = ["rows", "selected", "caption", "columns", "groups", "empty", "press"];
  const events = names.map((name) => `change:${name}`).join(" ");
  model.on(events, draw);
  draw();
  return () => model.off(events, draw);
}

export default { render };
