// The whole of ConceptCLIP: weights in, vectors out. Plain JavaScript, float32 arrays, no library.
//
// Names: P patches, T token positions, D the joint width. A table of n rows and d columns is one Float32Array [n * d].

// Read a safetensors file: 8 bytes with the length of a JSON header, the header, then the numbers of all tensors.
function readSafetensors(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const start = 8 + Number(view.getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, start)));
  const tensors = {};
  delete header.__metadata__;
  for (const [name, { dtype, data_offsets: [from, to] }] of Object.entries(header)) {
    const size = dtype === "F32" ? 4 : 2, numbers = new Float32Array((to - from) / size);
    for (let i = 0; i < numbers.length; i++) {
      const at = start + from + i * size;
      numbers[i] = dtype === "F32" ? view.getFloat32(at, true) : fromHalf(view.getUint16(at, true));
    }
    tensors[name] = numbers;
  }
  return tensors;
}

// 16 bits: one sign, five of the exponent, ten of the fraction.
function fromHalf(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  return exponent ? sign * 2 ** (exponent - 15) * (1 + fraction / 1024) : sign * 2 ** -14 * (fraction / 1024);
}

// x W' + b for every row of x. The weights [out, in] lie row by row, so each output is one walk through memory.
function linear(x, weight, bias, width) {
  const rows = x.length / width, out = weight.length / width, y = new Float32Array(rows * out);
  for (let r = 0; r < rows; r++)
    for (let o = 0; o < out; o++) {
      let sum = bias ? bias[o] : 0;
      for (let i = 0, a = r * width, b = o * width; i < width; i++) sum += x[a + i] * weight[b + i];
      y[r * out + o] = sum;
    }
  return y;
}

function layerNorm(x, weight, bias, epsilon) {
  const width = weight.length, y = new Float32Array(x.length);
  for (let r = 0; r < x.length; r += width) {
    let mean = 0, square = 0;
    for (let i = 0; i < width; i++) mean += x[r + i] / width;
    for (let i = 0; i < width; i++) square += (x[r + i] - mean) ** 2 / width;
    const scale = 1 / Math.sqrt(square + epsilon);
    for (let i = 0; i < width; i++) y[r + i] = (x[r + i] - mean) * scale * weight[i] + bias[i];
  }
  return y;
}

// x times the share of a normal distribution below x, exactly (not the tanh approximation that SigLIP uses elsewhere).
const gelu = (x) => x.map((v) => 0.5 * v * erfc(-v / Math.SQRT2));

// The complementary error function by the Chebyshev fit of "Numerical Recipes" (erfcc): wrong by 1.2e-7 at most.
function erfc(x) {
  const t = 1 / (1 + Math.abs(x) / 2);
  const fit = [0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807, -0.18628806, 0.09678418, 0.37409196, 1.00002368, -1.26551223];
  const tail = t * Math.exp(-x * x + fit.reduce((sum, c) => sum * t + c, 0));
  return x < 0 ? 2 - tail : tail;
}

const add = (x, y) => x.map((v, i) => v + y[i]);
const dot = (x, y) => x.reduce((sum, v, i) => sum + v * y[i], 0);
const unit = (x) => { const length = Math.sqrt(dot(x, x)); return x.map((v) => v / length); };

function mean(x, width, rows) {
  const y = new Float32Array(width);
  for (const r of rows) for (let i = 0; i < width; i++) y[i] += x[r * width + i] / rows.length;
  return y;
}

// Each query takes the mean of the values, weighted by how well its part of the vector fits that of each key.
function attention(queries, keys, values, width, heads) {
  const n = queries.length / width, m = keys.length / width, size = width / heads;
  const y = new Float32Array(n * width), weights = new Float64Array(m);
  for (let h = 0; h < width; h += size)
    for (let q = 0; q < n; q++) {
      let largest = -Infinity, sum = 0;
      for (let k = 0; k < m; k++) {
        let fit = 0;
        for (let i = 0, a = q * width + h, b = k * width + h; i < size; i++) fit += queries[a + i] * keys[b + i];
        weights[k] = fit / Math.sqrt(size);
        if (weights[k] > largest) largest = weights[k];
      }
      for (let k = 0; k < m; k++) sum += weights[k] = Math.exp(weights[k] - largest);
      for (let k = 0; k < m; k++)
        for (let i = 0, a = q * width + h, b = k * width + h; i < size; i++) y[a + i] += (weights[k] / sum) * values[b + i];
    }
  return y;
}

class ConceptCLIP {
  constructor(bytes, config) {
    this.weights = readSafetensors(bytes);
    this.vision = config.vision_config;
    this.text = config.text_config;
    this.grid = this.vision.image_size / this.vision.patch_size;
    const w = this.weights;  // the scales are stored as logarithms
    this.scales = {
      logitScale: Math.exp(w.logit_scale[0]), logitBias: w.logit_bias[0],
      conceptLogitScale: Math.exp(w.concept_logit_scale[0]), conceptLogitBias: w.concept_logit_bias[0],
    };
  }

  layer(x, name, width) {
    return linear(x, this.weights[`${name}.weight`], this.weights[`${name}.bias`], width);
  }

  norm(x, name, epsilon) {
    return layerNorm(x, this.weights[`${name}.weight`], this.weights[`${name}.bias`], epsilon);
  }

  project(tokens, name, width) {  // patch tokens or text tokens into the joint space
    return this.layer(gelu(this.layer(tokens, `${name}.0`, width)), `${name}.2`, this.vision.hidden_size);
  }

  // pixels [3, S, S] in -1 ... 1 → { features [D] of unit length, tokens [P, D], projected }
  encodeImage(pixels) {
    const { hidden_size: width, image_size: side, patch_size: patch, num_attention_heads: heads } = this.vision;
    const epsilon = this.vision.layer_norm_eps, grid = this.grid, size = 3 * patch * patch;
    const patches = new Float32Array(grid * grid * size);
    for (let p = 0; p < grid * grid; p++)
      for (let c = 0, i = p * size; c < 3; c++)
        for (let y = 0; y < patch; y++)
          for (let x = 0; x < patch; x++)
            patches[i++] = pixels[(c * side + Math.floor(p / grid) * patch + y) * side + (p % grid) * patch + x];
    let x = this.layer(patches, "vision_model.embeddings.patch_embedding", size);
    x = add(x, this.weights["vision_model.embeddings.position_embedding.weight"]);
    for (let l = 0; l < this.vision.num_hidden_layers; l++) {
      const name = `vision_model.encoder.layers.${l}`;
      let y = this.norm(x, `${name}.layer_norm1`, epsilon);
      const [q, k, v] = ["q", "k", "v"].map((part) => this.layer(y, `${name}.self_attn.${part}_proj`, width));
      x = add(x, this.layer(attention(q, k, v, width, heads), `${name}.self_attn.out_proj`, width));
      y = this.norm(x, `${name}.layer_norm2`, epsilon);
      x = add(x, this.layer(gelu(this.layer(y, `${name}.mlp.fc1`, width)), `${name}.mlp.fc2`, this.vision.intermediate_size));
    }
    const tokens = this.norm(x, "vision_model.post_layernorm", epsilon);
    // One learned query, the probe, asks all patches: the answer stands for the whole picture.
    const head = "vision_model.head", inWeight = this.weights[`${head}.attention.in_proj_weight`], inBias = this.weights[`${head}.attention.in_proj_bias`];
    const [q, k, v] = [this.weights[`${head}.probe`], tokens, tokens].map((from, part) =>
      linear(from, inWeight.subarray(part * width * width, (part + 1) * width * width), inBias.subarray(part * width, (part + 1) * width), width));
    const pooled = this.layer(attention(q, k, v, width, heads), `${head}.attention.out_proj`, width);
    const y = this.norm(pooled, `${head}.layernorm`, epsilon);
    const features = add(pooled, this.layer(gelu(this.layer(y, `${head}.mlp.fc1`, width)), `${head}.mlp.fc2`, this.vision.intermediate_size));
    return { features: unit(features), tokens: this.project(tokens, "image_proj", width) };
  }

  // ids [T], no padding → { features [D] of unit length, tokens [T, D], projected }
  encodeText(ids) {
    const { hidden_size: width, num_attention_heads: heads, layer_norm_eps: epsilon } = this.text;
    const row = (table, r) => this.weights[`text_model.embeddings.${table}.weight`].subarray(r * width, (r + 1) * width);
    let x = new Float32Array(ids.length * width);
    ids.forEach((id, t) => x.set(add(add(row("word_embeddings", id), row("token_type_embeddings", 0)), row("position_embeddings", t)), t * width));
    x = this.norm(x, "text_model.embeddings.LayerNorm", epsilon);
    for (let l = 0; l < this.text.num_hidden_layers; l++) {
      const name = `text_model.encoder.layer.${l}`;
      const [q, k, v] = ["query", "key", "value"].map((part) => this.layer(x, `${name}.attention.self.${part}`, width));
      let y = this.layer(attention(q, k, v, width, heads), `${name}.attention.output.dense`, width);
      x = this.norm(add(x, y), `${name}.attention.output.LayerNorm`, epsilon);
      y = this.layer(gelu(this.layer(x, `${name}.intermediate.dense`, width)), `${name}.output.dense`, this.text.intermediate_size);
      x = this.norm(add(x, y), `${name}.output.LayerNorm`, epsilon);
    }
    const pooled = this.layer(mean(x, width, ids.map((_, t) => t)), "text_projection", width);
    return { features: unit(pooled), tokens: this.project(x, "text_proj", width) };
  }
}
