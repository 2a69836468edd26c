// Every section's text lies in this page; lunr makes an index of it and ranks the sections that hold the words.
const entries = JSON.parse(document.getElementById("entries").textContent);
const field = document.querySelector(".find input"), said = document.getElementById("said"), found = document.getElementById("found");
lunr.tokenizer.separator = /[^\p{L}\p{N}_]+/u;  // code is searched by its names
const index = lunr(function () {
  this.ref("at");
  this.field("title", { boost: 8 });
  this.field("page", { boost: 3 });
  this.field("text");
  this.metadataWhitelist = ["position"];
  entries.forEach((entry, at) => this.add({ at, ...entry }));
});

function element(tag, text, properties = {}) {
  return Object.assign(document.createElement(tag), { textContent: text }, properties);
}

// The words around the first hit in the text, the hits marked.
function excerpt(text, places) {
  const line = element("p", "");
  const sorted = places.sort((a, b) => a[0] - b[0]), from = Math.max((sorted[0]?.[0] ?? 0) - 60, 0);
  let at = from && text.indexOf(" ", from) + 1;
  const end = at + 220;
  if (at) line.append("… ");
  for (const [start, length] of sorted) {
    if (start < at || start + length > end) continue;
    line.append(text.slice(at, start), element("mark", text.slice(start, start + length)));
    at = start + length;
  }
  line.append(text.slice(at, end), end < text.length ? " …" : "");
  return line;
}

function search() {
  const terms = lunr.tokenizer(field.value).map(String);
  found.replaceChildren();
  if (!terms.length) return;
  const hits = index.query((query) => terms.forEach((term) => {
    query.term(index.pipeline.runString(term), { boost: 10, usePipeline: false });
    query.term(term, { boost: 4, usePipeline: false, wildcard: lunr.Query.wildcard.TRAILING });
    if (term.length > 4) query.term(index.pipeline.runString(term), { usePipeline: false, editDistance: 1 });
  }));
  // The more of the words a section holds, the higher it stands.
  const held = ({ matchData }) => terms.filter((term) => Object.keys(matchData.metadata).some((word) => word.startsWith(term.slice(0, 4)))).length;
  hits.sort((a, b) => held(b) - held(a) || b.score - a.score);
  said.textContent = hits.length ? `${hits.length} ${hits.length === 1 ? "section" : "sections"} for “${field.value}”` : `Nothing for “${field.value}”. Try one word, or its beginning.`;
  found.append(...hits.slice(0, 30).map(({ ref, matchData }) => {
    const entry = entries[ref], places = Object.values(matchData.metadata).flatMap((word) => word.text?.position ?? []);
    const item = element("li", "");
    item.append(element("a", entry.title, { href: entry.href }), element("small", ` ${entry.page}`), excerpt(entry.text, places));
    return item;
  }));
}

field.value = new URLSearchParams(location.search).get("q") ?? "";
field.addEventListener("input", search);
document.querySelector(".find").addEventListener("submit", (event) => { event.preventDefault(); search(); });
search();
