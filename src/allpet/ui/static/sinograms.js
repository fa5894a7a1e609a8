// Three sinograms of the plane with axes: what was measured, how it is weighted, and what comes of it.

import { picture, ramp, show } from "./colours.js";

const LEFT = 42; // room for the axes, in CSS pixels
const RIGHT = 62;
const TOP = 6;
const BOTTOM = 30;
const ACTIVITY = "grey inverted";

export class Sinograms extends EventTarget {
  point = null; // [x, y] in mm under the pointer of the image: its curve is drawn
  #panels;
  #lines = null;
  #unit = "";
  #hover = null; // {view, bin}
  #waiting = false;

  /** Events: "line" ({phi, s} or null). */
  constructor(figures) {
    super();
    this.#panels = [...figures].map((figure) => ({
      of: figure.dataset.of,
      canvas: figure.querySelector("canvas"),
      value: figure.querySelector(".value"),
      name: figure.querySelector("b").textContent,
      data: null,
    }));
    for (const panel of this.#panels) {
      new ResizeObserver(() => this.draw()).observe(panel.canvas.parentElement);
      panel.canvas.addEventListener("pointermove", (event) => this.#move(panel, event));
      panel.canvas.addEventListener("pointerleave", () => this.#leave());
    }
  }

  set(layers) {
    const { state } = layers;
    this.#lines = state.lines;
    this.#unit = state.scan.unit;
    const most = Math.max(quantile(layers.scan, 0.999), 1e-6);
    for (const panel of this.#panels) {
      panel.data = layers[panel.of];
      const weights = panel.of === "attention";
      const [low, high] = weights ? around(panel.data) : [0, most];
      const span = Math.max(high - 1, 1 - low, 1e-6);
      Object.assign(panel, { low, high, colours: weights ? "change" : ACTIVITY, unit: weights ? "" : this.#unit });
      // weights: 1 is the middle of the map, both ways at one scale
      const [first, last] = weights ? [1 - span, 1 + span] : [low, high];
      panel.part = [(low - first) / (last - first), (high - first) / (last - first)];
      const { phi, s } = this.#lines;
      panel.picture = picture(panel.data, s.length, phi.length, first, last, panel.colours);
      panel.canvas.dataset.version = `${state.version}.${layers.plane}`;
    }
    this.draw();
    this.#values();
  }

  draw() {
    if (this.#waiting) return;
    this.#waiting = true;
    requestAnimationFrame(() => {
      this.#waiting = false;
      for (const panel of this.#panels) if (panel.data) this.#panel(panel);
    });
  }

  follow(point) {
    this.point = point;
    this.draw();
    this.#values();
  }

  #panel(panel) {
    const ratio = devicePixelRatio || 1;
    const { clientWidth, clientHeight } = panel.canvas.parentElement;
    panel.canvas.width = Math.round(clientWidth * ratio);
    panel.canvas.height = Math.round(clientHeight * ratio);
    const context = panel.canvas.getContext("2d");
    context.scale(ratio, ratio);
    const box = { x: LEFT, y: TOP, w: clientWidth - LEFT - RIGHT, h: clientHeight - TOP - BOTTOM };
    panel.box = box;
    context.imageSmoothingEnabled = false;
    context.drawImage(panel.picture, box.x, box.y, box.w, box.h);
    const ink = getComputedStyle(panel.canvas).color;
    context.strokeStyle = context.fillStyle = ink;
    context.font = "11px system-ui, sans-serif";
    context.lineWidth = 1;
    context.strokeRect(box.x - 0.5, box.y - 0.5, box.w + 1, box.h + 1);
    this.#axes(context, box);
    this.#bar(context, panel, box);
    context.save();
    context.beginPath();
    context.rect(box.x, box.y, box.w, box.h);
    context.clip();
    const colour = panel.of === "attention" ? "#000000" : "#d55e00"; // seen on the panel's own colours
    if (this.point) this.#curve(context, box, colour);
    if (this.#hover) this.#cross(context, box, colour);
    context.restore();
  }

  #axes(context, box) {
    const { phi, s } = this.#lines;
    context.textAlign = "right";
    context.textBaseline = "middle";
    const turn = ((phi.at(-1) - phi[0]) * phi.length) / Math.max(phi.length - 1, 1);
    for (let degrees = 0; degrees <= 180; degrees += box.h < 110 ? 90 : 45) {
      const at = ((degrees * Math.PI) / 180 - phi[0]) / turn;
      if (at < -0.01 || at > 1.01) continue;
      const y = box.y + at * box.h;
      line(context, box.x - 4, y, box.x, y);
      context.fillText(`${degrees}°`, box.x - 6, Math.min(Math.max(y, box.y + 4), box.y + box.h - 4));
    }
    context.textAlign = "center";
    context.textBaseline = "top";
    const step = tick((s.at(-1) - s[0]) / Math.max(Math.floor(box.w / 42), 1));
    for (let mm = Math.ceil(s[0] / step) * step; mm <= s.at(-1); mm += step) {
      const x = box.x + (this.#binOf(mm) + 0.5) * (box.w / s.length);
      line(context, x, box.y + box.h, x, box.y + box.h + 4);
      context.fillText(String(Math.round(mm)).replace("-", "−"), x, box.y + box.h + 5);
    }
    context.textBaseline = "bottom";
    context.fillText("radial position (mm)", box.x + box.w / 2, box.y + box.h + BOTTOM + 1);
    context.save();
    context.translate(9, box.y + box.h / 2);
    context.rotate(-Math.PI / 2);
    context.textBaseline = "middle";
    context.fillText("view angle", 0, 0);
    context.restore();
  }

  #bar(context, panel, box) {
    const x = box.x + box.w + 10;
    const wide = 10;
    context.imageSmoothingEnabled = true;
    context.drawImage(ramp(panel.colours, true, ...panel.part), x, box.y, wide, box.h);
    context.strokeRect(x - 0.5, box.y - 0.5, wide + 1, box.h + 1);
    context.textAlign = "left";
    context.textBaseline = "middle";
    const { low, high } = panel;
    const step = tick((high - low) / Math.max(Math.floor(box.h / 34), 1));
    for (let value = Math.ceil(low / step - 1e-6) * step; value <= high + step * 1e-6; value += step) {
      const y = box.y + box.h * (1 - (value - low) / (high - low));
      line(context, x + wide, y, x + wide + 3, y);
      const text = Math.abs(value) < step * 1e-6 ? "0" : show(value, 3).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");
      context.fillText(text, x + wide + 6, Math.min(Math.max(y, box.y + 5), box.y + box.h - 5));
    }
  }

  #binOf(mm) {
    const { s } = this.#lines;
    if (mm <= s[0]) return (mm - s[0]) / (s[1] - s[0]);
    let high = s.findIndex((other) => other >= mm);
    if (high < 0) high = s.length - 1;
    return high - 1 + (mm - s[high - 1]) / (s[high] - s[high - 1]);
  }

  #curve(context, box, colour) {
    const { phi, s } = this.#lines;
    const [x, y] = this.point;
    const path = new Path2D();
    phi.forEach((angle, view) => {
      const bin = this.#binOf(x * Math.cos(angle) + y * Math.sin(angle));
      path.lineTo(box.x + (bin + 0.5) * (box.w / s.length), box.y + (view + 0.5) * (box.h / phi.length));
    });
    marked(context, path, colour);
  }

  #cross(context, box, colour) {
    const { phi, s } = this.#lines;
    const x = box.x + (this.#hover.bin + 0.5) * (box.w / s.length);
    const y = box.y + (this.#hover.view + 0.5) * (box.h / phi.length);
    const path = new Path2D(`M${x - 9} ${y}h6M${x + 3} ${y}h6M${x} ${y - 9}v6M${x} ${y + 3}v6`);
    marked(context, path, colour);
  }

  #move(panel, event) {
    if (!panel.box || !panel.data) return;
    const { phi, s } = this.#lines;
    const view = Math.floor(((event.offsetY - panel.box.y) / panel.box.h) * phi.length);
    const bin = Math.floor(((event.offsetX - panel.box.x) / panel.box.w) * s.length);
    if (view < 0 || bin < 0 || view >= phi.length || bin >= s.length) return this.#leave();
    this.#hover = { view, bin };
    this.#values();
    this.draw();
    this.dispatchEvent(new CustomEvent("line", { detail: { phi: phi[view], s: s[bin] } }));
  }

  #leave() {
    this.#hover = null;
    this.#values();
    this.draw();
    this.dispatchEvent(new CustomEvent("line", { detail: null }));
  }

  #values() {
    for (const panel of this.#panels) {
      if (!panel.data) continue;
      if (this.#hover) {
        const { phi, s } = this.#lines;
        const { view, bin } = this.#hover;
        const value = show(panel.data[view * s.length + bin]);
        const where = `${((phi[view] * 180) / Math.PI).toFixed(0)}°, ${s[bin].toFixed(0).replace("-", "−")} mm`;
        panel.value.textContent = `${where}: ${panel.unit ? `${value} ${panel.unit}` : `× ${value}`}`;
      } else {
        panel.value.textContent = panel.unit || "weight, 1 = unchanged";
      }
    }
  }
}

function marked(context, path, colour) {
  context.strokeStyle = "#ffffffb0";
  context.lineWidth = 3.5;
  context.stroke(path);
  context.strokeStyle = colour;
  context.lineWidth = 1.5;
  context.stroke(path);
}

function line(context, x0, y0, x1, y1) {
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(x1, y1);
  context.stroke();
}

/** 1, 2 or 5 times a power of ten, at least `least`. */
function tick(least) {
  const power = 10 ** Math.floor(Math.log10(least || 1));
  return power * ([1, 2, 5, 10].find((times) => times * power >= least * 0.999) ?? 10);
}

function quantile(values, share) {
  const sorted = Float32Array.from(values).sort();
  return sorted[Math.floor(share * (sorted.length - 1))];
}

function around(values) {
  let [low, high] = [1, 1];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (high - low < 1e-6) high = 2; // nothing is weighted: an empty scale from 1 to 2
  return [low, high];
}
