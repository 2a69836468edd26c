// BERT's uncased WordPiece, as the `tokenizers` library does it: ids, and the characters that each piece stands for.

class WordPiece {
  // pieces: the vocabulary in the order of its ids
  constructor(pieces, maximum = 77) {
    this.pieces = pieces;
    this.ids = new Map(pieces.map((piece, id) => [piece, id]));
    this.special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
    this.maximum = maximum;
  }

  // text → { ids, pieces, offsets: [start, end) in characters (code points), truncated }; [CLS] and [SEP] stand around
  encode(text) {
    for (const token of this.special)
      if (text.includes(token)) throw new Error(`“${text}” holds ${token}, which is a command to the tokenizer: leave it out.`);
    const found = [];
    for (const word of this.words(normalise(text))) found.push(...this.split(word));
    if (!found.length) throw new Error("There is no visible character: write a phrase.");
    const kept = found.slice(0, this.maximum - 2);
    const all = [{ piece: "[CLS]", start: 0, end: 0 }, ...kept, { piece: "[SEP]", start: 0, end: 0 }];
    return {
      ids: all.map(({ piece }) => this.ids.get(piece)), pieces: all.map(({ piece }) => piece),
      offsets: all.map(({ start, end }) => [start, end]), truncated: kept.length < found.length,
    };
  }

  // Normalised characters → words: split at spaces, and every punctuation sign is a word of its own.
  words(characters) {
    const words = [];
    let word = [];
    const close = () => { if (word.length) words.push(word); word = []; };
    for (const character of characters)
      if (character.text === " ") close();
      else if (isPunctuation(character.text)) { close(); words.push([character]); }
      else word.push(character);
    close();
    return words;
  }

  // A word → the longest piece that the vocabulary has, then the longest that continues it, and so on.
  split(word) {
    const span = (from, to) => ({ start: word[from].at, end: word[to - 1].at + 1 });
    const unknown = [{ piece: "[UNK]", ...span(0, word.length) }];
    if (word.length > 100) return unknown;
    const found = [];
    for (let from = 0; from < word.length;) {
      let to = word.length, piece;
      for (; to > from; to--) {
        piece = (from ? "##" : "") + word.slice(from, to).map(({ text }) => text).join("");
        if (this.ids.has(piece)) break;
      }
      if (to === from) return unknown;
      found.push({ piece, ...span(from, to) });
      from = to;
    }
    return found;
  }
}

// Clean, put spaces around Chinese characters, take accents away, lower case. Each result remembers its place in the text.
function normalise(text) {
  const result = [];
  [...text].forEach((character, at) => {
    const code = character.codePointAt(0);
    if (code === 0 || code === 0xfffd || isControl(character)) return;
    if (/^[\s\u0085]$/u.test(character) && character !== "\ufeff") return result.push({ text: " ", at });
    const chinese = isChinese(code);
    if (chinese) result.push({ text: " ", at });
    for (const part of character.normalize("NFD"))
      if (!/\p{Mn}/u.test(part)) for (const lower of part.toLowerCase()) result.push({ text: lower, at });
    if (chinese) result.push({ text: " ", at });
  });
  return result;
}

const isControl = (c) => c !== "\t" && c !== "\n" && c !== "\r" && /[\p{Cc}\p{Cf}\p{Cn}\p{Co}\p{Cs}]/u.test(c);
const isPunctuation = (c) => /[\p{P}!-/:-@[-`{-~]/u.test(c);
const isChinese = (c) =>
  (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) || (c >= 0x20000 && c <= 0x2a6df) || (c >= 0x2a700 && c <= 0x2b73f) ||
  (c >= 0x2b740 && c <= 0x2b81f) || (c >= 0x2b820 && c <= 0x2ceaf) || (c >= 0xf900 && c <= 0xfaff) || (c >= 0x2f800 && c <= 0x2fa1f);
