// What runs beside the page, so that the page never freezes: it keeps the models and the last picture, and answers questions.

const models = {};
let tokenizer, picture = {};

const answers = {
  load({ name, base64, config, pieces }) {
    const text = atob(base64), bytes = Uint8Array.from(text, (c) => c.charCodeAt(0));
    models[name] = new ConceptCLIP(bytes, config);
    tokenizer = new WordPiece(pieces);
    return { grid: models[name].grid, scales: models[name].scales, side: config.vision_config.image_size };
  },

  tokenize: ({ text }) => tokenizer.encode(text),

  // RGBA of a canvas → what each model makes of it
  picture({ rgba, width, height }) {
    picture = {};
    const rgb = overWhite(rgba);
    for (const [name, model] of Object.entries(models)) {
      const side = model.vision.image_size;
      picture[name] = model.encodeImage(toModel(squash(rgb, width, height, side), side));
    }
    return picture;
  },

  text({ text, name }) {
    return models[name].encodeText(tokenizer.encode(text).ids);
  },

  // The score of a phrase, its map, and a map for each of its words.
  phrase({ text, name }) {
    const model = models[name], width = model.vision.hidden_size, { ids, pieces, offsets, truncated } = tokenizer.encode(text);
    const { features, tokens } = model.encodeText(ids), { logitScale, logitBias } = model.scales;
    const cosine = dot(features, picture[name].features), inner = ids.map((_, t) => t).slice(1, -1);
    const mapOf = (positions) => cosines(picture[name].tokens, mean(tokens, width, positions), width);
    return {
      cosine, sigmoid: 1 / (1 + Math.exp(-(logitScale * cosine + logitBias))), map: mapOf(inner), truncated,
      unknown: pieces.includes("[UNK]"), words: wordsOf(text, offsets).map((word) => ({ ...word, map: mapOf(word.positions) })),
    };
  },

  // Which phrases fit a box of patches: the mean over its patches of the cosine with each phrase, largest first.
  box({ name, phrases, rows: [top, bottom], columns: [left, right] }) {
    const model = models[name], width = model.vision.hidden_size;
    return phrases.map((text) => {
      const { ids } = tokenizer.encode(text), { tokens } = model.encodeText(ids);
      const map = cosines(picture[name].tokens, mean(tokens, width, ids.map((_, t) => t).slice(1, -1)), width);
      let sum = 0;
      for (let y = top; y < bottom; y++) for (let x = left; x < right; x++) sum += map[y * model.grid + x];
      return { text, cosine: sum / ((bottom - top) * (right - left)) };
    }).sort((a, b) => b.cosine - a.cosine);
  },
};

// The cosine of every patch with one vector.
function cosines(tokens, vector, width) {
  const direction = unit(vector), map = new Float32Array(tokens.length / width);
  for (let p = 0; p < map.length; p++) map[p] = dot(unit(tokens.subarray(p * width, (p + 1) * width)), direction);
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
