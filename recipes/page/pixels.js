// From a file to the pixels that the model reads: as Pillow scales them, bit for bit, and not as the browser would.

const MOST_PIXELS = 89478485;  // Pillow's limit

// Refuse what a browser would show only in part, what it would show in other colours, and what Python refuses: the reason
// as a sentence, or null.
function refusal(bytes) {
  const text = (from, to) => String.fromCharCode(...bytes.subarray(from, to)), view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const SEVERAL = "The file holds several pictures. Save one of them and choose that.";
  const CUT = "The file is damaged or cut off. Copy or download it again.";
  const SIXTEEN = "The picture has more than 8 bits a channel, and a browser reads 8 of them. Convert it to 8 bits.";
  if (bytes.length === 0) return "The file is empty. Copy or download it again.";
  if (text(0, 8) === "\x89PNG\r\n\x1a\n") {
    const names = pngChunks(bytes, view);
    if (!names) return CUT;
    if (bytes[24] === 16) return SIXTEEN;
    return names.includes("acTL") ? SEVERAL : null;
  }
  if (text(0, 2) === "\xff\xd8") {
    const frame = jpegFrame(bytes, view);
    if (!frame) return CUT;
    if (frame.bits !== 8) return SIXTEEN;
    return frame.channels === 4 ? "The JPEG is in the colours of a printer (CMYK), which a browser mixes in its own way. Save it in RGB." : null;
  }
  if (text(0, 4) === "RIFF" && text(8, 12) === "WEBP") {
    if (view.getUint32(4, true) + 8 > bytes.length) return CUT;
    return text(12, 16) === "VP8X" && bytes[20] & 2 ? SEVERAL : null;
  }
  if (text(0, 4) === "GIF8") {
    const count = frames(bytes);
    return count === null ? CUT : count > 1 ? SEVERAL : null;
  }
  if (text(0, 2) === "BM") return bytes.length < 6 || view.getUint32(2, true) > bytes.length ? CUT : null;
  return "The page reads PNG, JPEG, GIF, WebP and BMP. Convert the picture to PNG or JPEG.";
}

// The names of a PNG's chunks; null if the file ends before its end or a sum of what makes the pixels is wrong.
function pngChunks(bytes, view) {
  const names = [];
  for (let at = 8; at + 12 <= bytes.length;) {
    const length = view.getUint32(at), end = at + 12 + length, name = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (end > bytes.length) return null;
    const pixels = /^[A-Z]|tRNS|acTL|fcTL|fdAT/.test(name);
    if (pixels && crc32(bytes.subarray(at + 4, end - 4)) !== view.getUint32(end - 4)) return null;
    names.push(name);
    if (name === "IEND") return names;
    at = end;
  }
  return null;
}

function crc32(bytes) {
  let sum = -1;
  for (const byte of bytes) {
    sum ^= byte;
    for (let k = 0; k < 8; k++) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return ~sum >>> 0;
}

// Bits and channels of a JPEG, from the segment that begins its picture; null if the end mark is missing.
function jpegFrame(bytes, view) {
  let frame = null;
  for (let at = 2; at + 4 <= bytes.length;) {
    if (bytes[at] !== 0xff) return null;
    const mark = bytes[at + 1];
    if (mark === 0xff) { at++; continue; }  // filling
    if (mark >= 0xc0 && mark <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(mark)) frame = { bits: bytes[at + 4], channels: bytes[at + 9] };
    if (mark === 0xda) {  // the pixels: the end mark must follow somewhere
      for (let k = at; k + 1 < bytes.length; k++) if (bytes[k] === 0xff && bytes[k + 1] === 0xd9) return frame;
      return null;
    }
    at += 2 + view.getUint16(at + 2);
  }
  return null;
}

// How many pictures a GIF holds, counted by a walk over its blocks; null if it ends before its end mark.
function frames(bytes) {
  const table = (flags) => (flags & 128 ? 3 * 2 ** ((flags & 7) + 1) : 0);
  let at = 13 + table(bytes[10]), count = 0;
  const skip = () => { while (bytes[at]) at += bytes[at] + 1; at++; };
  while (at < bytes.length && bytes[at] !== 0x3b)
    if (bytes[at] === 0x21) { at += 2; skip(); }
    else if (bytes[at] === 0x2c) { count++; at += 10 + table(bytes[at + 9]) + 1; skip(); }
    else return null;
  return bytes[at] === 0x3b ? count : null;
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
