// Colour maps, colour bars, and the colours of regions (Okabe and Ito, told apart by colour-blind people, too).

export const PALETTE = ["#e69f00", "#0072b2", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#f0e442"];

const MAPS = {
  "grey inverted": "ffffff000000",
  grey: "000000ffffff",
  viridis:
    "44015448186a472d7b4240863b528b33638d2c728e26828e21918c1fa08828ae803fbc735ec96284d44baddc30d8e219fde725",
  cividis:
    "00224e002e6a1a386f32436d434e6c535a6d61656f6f70737d7c788c88789b9476aba072bcae6ccdbb63dec958f0d846fee838",
  change: "08306b2166ac4393c392c5defdfdfdf4b183e08214b35806663000",
};
export const CHOICES = ["grey inverted", "grey", "viridis", "cividis"];

function table(text) {
  const stops = text.match(/.{6}/g).map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  const out = new Uint8Array(256 * 3);
  for (let i = 0; i < 256; i++) {
    const at = (i / 255) * (stops.length - 1);
    const low = Math.min(Math.floor(at), stops.length - 2);
    for (let c = 0; c < 3; c++) out[3 * i + c] = stops[low][c] + (at - low) * (stops[low + 1][c] - stops[low][c]);
  }
  return out;
}

/** Name to 256 RGB triples. */
export const TABLES = Object.fromEntries(Object.entries(MAPS).map(([name, text]) => [name, table(text)]));

/** RGB of the value 0, which is what lies outside of an image. */
export function lowest(name, [low, high]) {
  const index = 3 * Math.max(0, Math.min(255, Math.round((-low / (high - low || 1)) * 255)));
  return [...TABLES[name].slice(index, index + 3)];
}

/** Values to RGBA: `low` takes the first colour, `high` the last. */
export function paint(values, low, high, name, pixels) {
  const colours = TABLES[name];
  const scale = 255 / (high - low || 1);
  for (let i = 0; i < values.length; i++) {
    const index = 3 * Math.max(0, Math.min(255, Math.round((values[i] - low) * scale)));
    pixels[4 * i] = colours[index];
    pixels[4 * i + 1] = colours[index + 1];
    pixels[4 * i + 2] = colours[index + 2];
    pixels[4 * i + 3] = 255;
  }
}

/** A canvas of `width` x `height` values. */
export function picture(values, width, height, low, high, name) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  paint(values, low, high, name, image.data);
  context.putImageData(image, 0, 0);
  return canvas;
}

/** A ramp of a map, from its low end: left to right, or bottom to top; `from`..`to` is the part of it that is shown. */
export function ramp(name, upright = false, from = 0, to = 1) {
  const values = Float32Array.from({ length: 256 }, (_, i) => from + ((to - from) * i) / 255);
  return upright ? picture(values.reverse(), 1, 256, 0, 1, name) : picture(values, 256, 1, 0, 1, name);
}

const given = new Map();

/** The colour of a region, kept while it lives. */
export function colourOf(id) {
  return given.get(id) ?? PALETTE[0];
}

export function assignColours(regions) {
  const alive = new Set(regions.map((region) => region.id));
  for (const id of given.keys()) if (!alive.has(id)) given.delete(id);
  for (const { id } of regions) {
    if (given.has(id)) continue;
    const uses = PALETTE.map((colour) => [...given.values()].filter((other) => other === colour).length);
    given.set(id, PALETTE[uses.indexOf(Math.min(...uses))]);
  }
}

/** A number in at most `digits` significant digits, never in powers of ten where that reads badly. */
export function show(value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "n/a";
  if (value === 0) return "0";
  const size = Math.abs(value);
  const sign = value < 0 ? "−" : "";
  if (size >= 1e5 || size < 1e-3) return sign + size.toExponential(Math.max(digits - 2, 1)).replace("e+", "e");
  return sign + size.toFixed(Math.max(0, digits - 1 - Math.floor(Math.log10(size))));
}
