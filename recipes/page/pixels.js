// From a file to the pixels that the model reads: as Pillow scales them, bit for bit, and not as the browser would.

// Refuse what a browser would show only in part, or what Python refuses: the reason as a sentence, or null.
function refusal(bytes) {
  const text = (from, to) => String.fromCharCode(...bytes.subarray(from, to));
  if (bytes.length === 0) return "The file is empty. Copy or download it again.";
  if (text(1, 4) === "PNG") {
    if (bytes[24] === 16) return "This PNG has 16 bits a channel, and a browser reads 8 of them. Convert it to 8 bits.";
    if (chunks(bytes).includes("acTL")) return "This PNG holds several pictures. Save one of them and choose that.";
  }
  if (text(0, 3) === "GIF" && frames(bytes) > 1) return "This GIF holds several pictures. Save one of them and choose that.";
  if (text(8, 12) === "WEBP" && text(12, 16) === "VP8X" && bytes[20] & 2) return "This WebP holds several pictures. Save one of them and choose that.";
  if (["II*\0", "MM\0*"].includes(text(0, 4))) return "A browser reads no TIFF. Convert it to PNG or JPEG.";
  return null;
}

function chunks(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset), names = [];
  for (let at = 8; at + 8 <= bytes.length; at += 12 + view.getUint32(at)) names.push(String.fromCharCode(...bytes.subarray(at + 4, at + 8)));
  return names;
}

function frames(bytes) {  // of a GIF: walk over its blocks and count the pictures
  const table = (flags) => (flags & 128 ? 3 * 2 ** ((flags & 7) + 1) : 0);
  let at = 13 + table(bytes[10]), count = 0;
  const skip = () => { while (bytes[at]) at += bytes[at] + 1; at++; };
  while (at < bytes.length && bytes[at] !== 0x3b)
    if (bytes[at] === 0x21) { at += 2; skip(); }
    else if (bytes[at] === 0x2c) { count++; at += 10 + table(bytes[at + 9]) + 1; skip(); }
    else break;
  return count;
}

// RGBA of a canvas → RGB, transparency over white; wholly transparent is an error.
function overWhite(rgba) {
  const rgb = new Uint8Array(rgba.length / 4 * 3);
  let seen = false;
  for (let i = 0, j = 0; i < rgba.length; i += 4) {
    const alpha = rgba[i + 3];
    if (alpha) seen = true;
    for (let c = 0; c < 3; c++) rgb[j++] = Math.round((rgba[i + c] * alpha + 255 * (255 - alpha)) / 255);
  }
  if (!seen) throw new Error("The whole picture is transparent: there is nothing to see. Save it without transparency.");
  return rgb;
}

// How much each pixel of a line adds to each pixel of the shorter or longer line (bicubic, a = -0.5), in units of 2^-22.
function contributions(from, to) {
  const scale = from / to, stretch = Math.max(scale, 1), support = 2 * stretch;
  const bicubic = (x) => (x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0);
  return Array.from({ length: to }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - support + 0.5), 0), last = Math.min(Math.trunc(centre + support + 0.5), from);
    const weights = [];
    for (let x = first; x < last; x++) weights.push(bicubic(Math.abs((x - centre + 0.5) / stretch)));
    const sum = weights.reduce((a, b) => a + b, 0);
    return { first, weights: weights.map((w) => Math.trunc((w / sum) * 2 ** 22 + Math.sign(w) * 0.5)) };
  });
}

// One pass along one axis; Pillow rounds to 8 bits after each of its two.
function scaleAxis(rgb, width, height, to, along) {
  const across = along === "x", lines = contributions(across ? width : height, to);
  const [w, h] = across ? [to, height] : [width, to], result = new Uint8ClampedArray(w * h * 3);
  for (let y = 0; y < h; y++)
    for (let x = 0; x < w; x++) {
      const { first, weights } = lines[across ? x : y];
      for (let c = 0; c < 3; c++) {
        let sum = 2 ** 21;
        for (let k = 0; k < weights.length; k++)
          sum += weights[k] * rgb[(across ? y * width + first + k : (first + k) * width + x) * 3 + c];
        result[(y * w + x) * 3 + c] = Math.floor(sum / 2 ** 22);
      }
    }
  return result;
}

// RGB [H, W, 3] of any size → RGB [S, S, 3], squashed to a square. Rounding after each pass makes their order count:
// Pillow 13 begins with the columns where they lose more than twice as many pixels as the rows (found by trying it).
function squash(rgb, width, height, side) {
  const pass = {
    x: () => { if (width !== side) rgb = scaleAxis(rgb, width, height, side, "x"); width = side; },
    y: () => { if (height !== side) rgb = scaleAxis(rgb, width, height, side, "y"); height = side; },
  };
  for (const axis of height - side > 2 * Math.max(width - side, 0) ? ["y", "x"] : ["x", "y"]) pass[axis]();
  return rgb;
}

// RGB [S, S, 3] → [3, S, S] in -1 ... 1
function toModel(rgb, side) {
  const pixels = new Float32Array(3 * side * side);
  for (let i = 0; i < side * side; i++) for (let c = 0; c < 3; c++) pixels[c * side * side + i] = (rgb[3 * i + c] / 255 - 0.5) / 0.5;
  return pixels;
}
