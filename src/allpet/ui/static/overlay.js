// What lies over the image: outlines of regions and suggestions, the shape being drawn, the crosshair, a line.

import { colourOf, PALETTE } from "./colours.js";

/** Closed outlines of the pixels that hold `value`, as corners in pixels: [[column, row], ...]. */
export function outlines(labels, size, value) {
  const next = new Map(); // corner -> corners that an edge leads to; the inside is on the right
  const corner = (column, row) => row * (size + 1) + column;
  const add = (from, to) => (next.has(from) ? next.get(from).push(to) : next.set(from, [to]));
  const inside = (column, row) =>
    column >= 0 && row >= 0 && column < size && row < size && labels[row * size + column] === value;
  for (let row = 0; row < size; row++) {
    for (let column = 0; column < size; column++) {
      if (labels[row * size + column] !== value) continue;
      if (!inside(column, row - 1)) add(corner(column, row), corner(column + 1, row));
      if (!inside(column + 1, row)) add(corner(column + 1, row), corner(column + 1, row + 1));
      if (!inside(column, row + 1)) add(corner(column + 1, row + 1), corner(column, row + 1));
      if (!inside(column - 1, row)) add(corner(column, row + 1), corner(column, row));
    }
  }
  const out = [];
  while (next.size) {
    const [start] = next.keys();
    const line = [];
    let at = start;
    do {
      line.push([at % (size + 1), Math.floor(at / (size + 1))]);
      const targets = next.get(at);
      const to = targets.pop();
      if (!targets.length) next.delete(at);
      at = to;
    } while (at !== start);
    out.push(line);
  }
  return out;
}

const DASH = [5, 4];

/** What is outlined, in the order of the button that turns them. */
export const SHOWN = ["all outlines", "regions only", "no outlines"];

export class Overlay {
  shown = SHOWN[0];
  preview = null; // {type, centre_mm, axes_mm} or {type: pen|polygon, points_mm, width_mm}; `erase`: true
  cross = null; // [x, y] in mm
  line = null; // {phi, s}
  #regions = []; // {path, colour, tag, chosen, suggested}
  #waiting = false;

  constructor(canvas, viewer) {
    this.canvas = canvas;
    this.viewer = viewer;
    new ResizeObserver(() => this.draw()).observe(canvas.parentElement);
  }

  /** Takes the labels of a plane. */
  set(layers, chosen, marked) {
    const { state } = layers;
    const { size, pixel_mm: pixel } = state.image;
    const half = (size * pixel) / 2;
    const count = size * size;
    const here = suggestedOn(state, layers.plane);
    const of = (labels, known, suggested) =>
      known.flatMap((region, index) => {
        // one map of all regions, or one for every region
        const whole = layers.covers;
        const own = whole ? labels.subarray(index * count, (index + 1) * count) : labels;
        const lines = outlines(own, size, whole ? 1 : index + 1);
        if (!lines.length) return [];
        const points = lines.map((line) => line.map(([column, row]) => [column * pixel - half, half - row * pixel]));
        const tag = suggested ? letter(here.indexOf(region)) : String(index + 1);
        const colour = suggested ? "#6b4fbb" : colourOf(region.id);
        const strong = suggested ? region.id === marked : region.id === chosen;
        return [{ points, colour, tag, strong, suggested }];
      });
    this.#regions = [...of(layers.suggested, state.suggestions, true), ...of(layers.labels, state.regions, false)];
    this.draw();
  }

  /** Draws in the next frame, however often it is asked. */
  draw() {
    if (this.#waiting) return;
    this.#waiting = true;
    requestAnimationFrame(() => {
      this.#waiting = false;
      this.#now();
    });
  }

  #now() {
    const ratio = devicePixelRatio || 1;
    const { clientWidth: wide, clientHeight: high } = this.canvas.parentElement;
    this.canvas.width = Math.round(wide * ratio);
    this.canvas.height = Math.round(high * ratio);
    const context = this.canvas.getContext("2d");
    context.scale(ratio, ratio);
    context.lineJoin = context.lineCap = "round";
    const frame = this.#frame();
    const hidden = (one) => this.shown === SHOWN[2] || (this.shown === SHOWN[1] && one.suggested);
    for (const region of this.#regions) if (!hidden(region)) this.#region(context, region, frame);
    if (this.line) this.#line(context, this.line, frame);
    if (this.preview) this.#shape(context, this.preview, frame);
    if (this.cross) this.#cross(context, frame(...this.cross));
  }

  /** toCanvas, asked for once a drawing. */
  #frame() {
    const [x0, y0] = this.viewer.toCanvas(0, 0);
    const [x1, y1] = this.viewer.toCanvas(100, 100);
    return (x, y) => [x0 + (x * (x1 - x0)) / 100, y0 + (y * (y1 - y0)) / 100];
  }

  #region(context, { points, colour, tag, strong, suggested }, frame) {
    const path = new Path2D();
    let [top, left] = [Infinity, 0];
    for (const line of points) {
      line.forEach((point, index) => {
        const [x, y] = frame(...point);
        if (index) path.lineTo(x, y);
        else path.moveTo(x, y);
        if (y < top) [top, left] = [y, x];
      });
      path.closePath();
    }
    if (!suggested) {
      context.fillStyle = `${colour}${strong ? "30" : "1f"}`;
      context.fill(path, "evenodd");
    }
    stroke(context, path, colour, strong ? 3 : 1.75, suggested ? DASH : []);
    label(context, tag, left, Math.max(top - 9, 9), colour, suggested);
  }

  #line(context, { phi, s }, frame) {
    const [cos, sin] = [Math.cos(phi), Math.sin(phi)];
    const path = new Path2D();
    path.moveTo(...frame(s * cos - 3000 * sin, s * sin + 3000 * cos));
    path.lineTo(...frame(s * cos + 3000 * sin, s * sin - 3000 * cos));
    stroke(context, path, "#d55e00", 1.5, []);
  }

  #shape(context, shape, frame) {
    const path = new Path2D();
    const scale = Math.abs(frame(1, 0)[0] - frame(0, 0)[0]);
    const colour = shape.erase ? "#d55e00" : PALETTE[1];
    if (shape.points_mm) {
      for (const point of shape.points_mm) path.lineTo(...frame(...point));
      if (shape.points_mm.length === 1) path.lineTo(...frame(...shape.points_mm[0]));
      if (shape.type === "pen") {
        context.globalAlpha = 0.45;
        context.strokeStyle = colour;
        context.lineWidth = Math.max(shape.width_mm * scale, 1);
        context.setLineDash([]);
        context.stroke(path);
        context.globalAlpha = 1;
        return;
      }
      path.closePath();
    } else {
      const [x, y] = frame(...shape.centre_mm);
      const [a, b] = shape.axes_mm.map((axis) => axis * scale);
      if (shape.type === "ellipse") path.ellipse(x, y, a, b, 0, 0, 2 * Math.PI);
      else path.rect(x - a, y - b, 2 * a, 2 * b);
    }
    context.fillStyle = `${colour}33`;
    context.fill(path);
    stroke(context, path, colour, 2, []);
  }

  #cross(context, [x, y]) {
    const path = new Path2D(`M${x - 12} ${y}h8 M${x + 4} ${y}h8 M${x} ${y - 12}v8 M${x} ${y + 4}v8`);
    stroke(context, path, PALETTE[1], 1.75, []);
  }
}

/** The suggestions on a plane; their letters follow this order. */
export function suggestedOn(state, plane) {
  return state.suggestions.filter(({ planes: [first, last] }) => first <= plane && plane <= last);
}

/** Letters of suggestions, A to Z, then A2... */
export function letter(index) {
  return String.fromCharCode(65 + (index % 26)) + (index >= 26 ? Math.floor(index / 26) + 1 : "");
}

function stroke(context, path, colour, width, dash) {
  context.setLineDash([]);
  context.strokeStyle = "#ffffffb0"; // a casing, to be seen on dark and on light
  context.lineWidth = width + 2;
  if (!dash.length) context.stroke(path);
  context.setLineDash(dash);
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.stroke(path);
  context.setLineDash([]);
}

function label(context, text, x, y, colour, hollow) {
  context.font = "600 11px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "middle";
  const wide = Math.max(context.measureText(text).width + 7, 15);
  context.beginPath();
  context.roundRect(x - wide / 2, y - 7.5, wide, 15, 4);
  context.fillStyle = hollow ? "#ffffffe6" : colour;
  context.fill();
  context.lineWidth = 1;
  context.strokeStyle = hollow ? colour : "#ffffffb0";
  context.stroke();
  context.fillStyle = hollow ? colour : inkOn(colour);
  context.fillText(text, x, y + 0.5);
}

/** Black or white, whichever is read better on a colour. */
export function inkOn(colour) {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return 0.299 * red + 0.587 * green + 0.114 * blue > 120 ? "#000000" : "#ffffff";
}
