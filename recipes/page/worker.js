// What runs beside the page, so that the page never freezes: it keeps the models and the last picture, and answers questions.

const models = {}, tokenizers = {};
let pixels = {}, seen = {}, read = {};

const answers = {
  load({ name, base64, config, pieces }) {
    const text = atob(base64), bytes = Uint8Array.from(text, (c) => c.charCodeAt(0));
    models[name] = new ConceptCLIP(bytes, config);
    tokenizers[name] = new WordPiece(pieces);
    return { grid: models[name].grid, scales: models[name].scales, side: config.vision_config.image_size };
  },

  tokenize: ({ text, name = Object.keys(models)[0] }) => tokenizers[name].encode(text),

  // RGBA of a canvas → the pixels for each side that a model asks for; a model sees them when it is first asked.
  picture({ rgba, width, height }) {
    const rgb = overWhite(rgba), sides = new Set(Object.values(models).map(({ vision }) => vision.image_size));
    pixels = Object.fromEntries([...sides].map((side) => [side, toModel(squash(rgb, width, height, side), side)]));
    seen = {};
  },

  image: ({ name }) => see(name),

  text: ({ text, name }) => readText(name, text).vectors,

  // The score of a phrase, its map, and a map for each of its words.
  phrase({ text, name }) {
    const { vectors, pieces, offsets, truncated } = readText(name, text), cosine = dot(vectors.features, see(name).features);
    return {
      cosine, sigmoid: sigmoid(name, cosine), map: phraseMap(name, text), truncated, unknown: pieces.includes("[UNK]"),
      words: wordsOf(text, offsets).map((word) => ({ ...word, map: mapOf(name, vectors.tokens, word.positions) })),
    };
  },

  // Where two models differ: of each phrase both sigmoids, and how far the orders of the patches in both maps agree.
  differ({ names, phrases }) {
    return phrases.map((text) => {
      const sigmoids = names.map((name) => sigmoid(name, dot(readText(name, text).vectors.features, see(name).features)));
      const [a, b] = names.map((name) => ranks(phraseMap(name, text)));
      return { text, sigmoids, agreement: correlation(a, b) };
    }).sort((a, b) => Math.abs(b.sigmoids[0] - b.sigmoids[1]) - Math.abs(a.sigmoids[0] - a.sigmoids[1]));
  },

  // Which phrases fit a box of patches: the mean over its patches of the cosine with each phrase, largest first.
  box({ name, phrases, rows: [top, bottom], columns: [left, right] }) {
    const { grid } = models[name];
    return phrases.map((text) => {
      const map = phraseMap(name, text);
      let sum = 0;
      for (let y = top; y < bottom; y++) for (let x = left; x < right; x++) sum += map[y * grid + x];
      return { text, cosine: sum / ((bottom - top) * (right - left)) };
    }).sort((a, b) => b.cosine - a.cosine);
  },
};

// What a model makes of the present picture, and of a text; both are kept.
function see(name) {
  if (!seen[name]) {
    const vectors = models[name].encodeImage(pixels[models[name].vision.image_size]), width = models[name].vision.hidden_size;
    const directions = new Float32Array(vectors.tokens.length);  // the patches at unit length
    for (let at = 0; at < directions.length; at += width) directions.set(unit(vectors.tokens.subarray(at, at + width)), at);
    seen[name] = { ...vectors, directions };
  }
  return seen[name];
}

function readText(name, text) {
  const key = `${name} ${text}`;
  if (!read[key]) {
    if (Object.keys(read).length > 500) read = {};
    const encoded = tokenizers[name].encode(text);
    read[key] = { ...encoded, vectors: models[name].encodeText(encoded.ids) };
  }
  return read[key];
}

const sigmoid = (name, cosine) => 1 / (1 + Math.exp(-(models[name].scales.logitScale * cosine + models[name].scales.logitBias)));

function mapOf(name, tokens, positions) {
  const width = models[name].vision.hidden_size;
  return cosines(see(name).directions, unit(mean(tokens, width, positions)), width);
}

// A phrase's map: of the mean of its pieces, without [CLS] and [SEP].
function phraseMap(name, text) {
  const { ids, vectors } = readText(name, text);
  return mapOf(name, vectors.tokens, ids.map((_, t) => t).slice(1, -1));
}

function ranks(map) {
  const order = [...map.keys()].sort((a, b) => map[a] - map[b]), places = new Float32Array(map.length);
  order.forEach((patch, place) => { places[patch] = place / (map.length - 1); });
  return places;
}

function correlation(x, y) {
  const centred = [x, y].map((v) => { const middle = v.reduce((a, b) => a + b, 0) / v.length; return v.map((number) => number - middle); });
  return dot(unit(centred[0]), unit(centred[1]));
}

// The cosine of every patch with one vector, all of unit length.
function cosines(directions, vector, width) {
  const map = new Float32Array(directions.length / width);
  for (let p = 0; p < map.length; p++) for (let i = 0; i < width; i++) map[p] += directions[p * width + i] * vector[i];
  return map;
}

// The words of a phrase, each with the token positions of its pieces.
function wordsOf(text, offsets) {
  const characters = [...text], words = [];
  offsets.forEach(([start, end], t) => {
    if (start === end) return;
    const last = words.at(-1);
    if (last && start <= last.end && !characters.slice(last.end, start).length && /^[\p{L}\p{N}]/u.test(characters[start])  && /[\p{L}\p{N}]$/u.test(characters[last.end - 1])) {
      last.end = end;
      last.positions.push(t);
    } else words.push({ start, end, positions: [t] });
  });
  return words.map(({ start, end, positions }) => ({ text: characters.slice(start, end).join(""), positions }));
}

self.onmessage = ({ data: { id, kind, ...question } }) => {
  try {
    self.postMessage({ id, answer: answers[kind](question) });
  } catch (error) {
    self.postMessage({ id, problem: error.message });
  }
};
