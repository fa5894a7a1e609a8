// The image: which volume is shown, its window and colours, and the result of a task in its place.

import * as api from "./api.js";
import { CHOICES, ramp, show } from "./colours.js";
import { by, option } from "./dom.js";
import { difference, readNifti, valueAt } from "./nifti.js";

const STEPS = 1000;
const ZOOMS = [1, 1.5, 2, 3];

export class ImagePane {
  volume = null; // the one shown
  #viewer;
  #session;
  #before = null;
  #results = new Map(); // view -> volume
  #result = null; // {path, first, last}
  #view = "before";
  #top = 1; // value at the right end of the sliders
  #zoom = 0; // of ZOOMS
  #middle = [0, 0]; // mm in the middle of the stage
  #opened = null;

  constructor(session, viewer) {
    [this.#session, this.#viewer] = [session, viewer];
    by("colours").replaceChildren(...CHOICES.map((name) => option(name)));
    by("colours").addEventListener("change", () => this.#window());
    for (const end of ["low", "high"]) by(end).addEventListener("input", () => this.#slid(end));
    by("plane").addEventListener("input", () => session.turn(Number(by("plane").value)));
    for (const button of by("compare").querySelectorAll("button")) {
      button.addEventListener("click", () => this.view(button.dataset.view));
      button.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (!step) return;
        const all = [...by("compare").children].filter((other) => !other.disabled);
        const next = all[(all.indexOf(button) + step + all.length) % all.length];
        next.focus();
        this.view(next.dataset.view);
      });
    }
    new ResizeObserver(() => this.#bar()).observe(by("bar").parentElement);
  }

  async open(state) {
    this.#before = await readNifti(await api.bytes(`${this.#session.path}/image.nii.gz`));
    const { low, high } = state.image;
    this.#top = Math.max(high, Math.min(this.#before.most, 4 * high)) || 1;
    by("low").value = Math.round((STEPS * low) / this.#top);
    by("high").value = Math.round((STEPS * high) / this.#top);
    this.#viewer.setField(this.#before.size * this.#before.pixel);
    by("plane").max = state.scan.planes - 1;
    by("plane").disabled = state.scan.planes < 2;
    this.#viewer.setZoom(ZOOMS[(this.#zoom = 0)], ...(this.#middle = [0, 0]));
    await this.view("before");
  }

  /** Takes a finished job, or none. */
  async result(found) {
    this.#results = new Map();
    this.#result = found && { path: found.path, first: found.result.planes[0], last: found.result.planes[1] };
    const { regions = [], options = {} } = found?.result ?? {};
    for (const button of by("compare").children) {
      const { view } = button.dataset; // what the task cannot have given is not offered
      const missing = (view === "change" && !regions.length) || (view === "std" && options.samples === 0);
      button.disabled = view !== "before" && (!found || missing);
    }
    await this.view(found ? "image" : "before");
  }

  async view(name) {
    this.#view = name;
    for (const button of by("compare").querySelectorAll("button")) {
      const on = button.dataset.view === name;
      button.setAttribute("aria-checked", String(on));
      button.tabIndex = on ? 0 : -1;
    }
    let volume = this.#before;
    if (name !== "before") {
      try {
        volume = await this.#of(name);
      } catch (error) {
        this.#session.fail(error);
        if (this.#view === name) await this.view("before");
        return;
      }
      if (this.#view !== name) return; // somebody chose another one meanwhile
    }
    this.volume = volume;
    this.turned();
    this.#window();
  }

  async #of(name) {
    const kept = this.#results;
    if (kept.has(name)) return kept.get(name);
    let volume;
    if (name === "less") volume = difference(await this.#of("image"), this.#before, this.#result.first);
    else volume = await readNifti(await api.bytes(`${this.#result.path}/image.nii.gz?of=${name}`));
    kept.set(name, volume);
    return volume;
  }

  /** Whether a difference is shown: it has two sides. */
  get #sided() {
    return (this.#view === "change" || this.#view === "less") && this.plane >= 0;
  }

  /** The plane of the volume shown, or -1 where a result does not cover the plane. */
  get plane() {
    const { plane } = this.#session;
    if (this.#view === "before") return plane;
    return plane >= this.#result.first && plane <= this.#result.last ? plane - this.#result.first : -1;
  }

  /** Shows the plane of the session. */
  turned() {
    const { state, plane } = this.#session;
    by("plane").value = plane;
    by("plane-is").textContent = `${plane + 1} of ${state.scan.planes}`;
    by("plane").setAttribute("aria-valuetext", `plane ${plane + 1} of ${state.scan.planes}`);
    if (!this.#before) return;
    const absent = this.plane < 0;
    by("absent").hidden = !absent;
    const wanted = absent ? this.#before : this.volume;
    if (this.#opened !== wanted) {
      this.#opened = wanted;
      this.#viewer.open(wanted).then(() => this.#viewer.setPlane(absent ? plane : this.plane));
      this.#window();
    } else this.#viewer.setPlane(absent ? plane : this.plane);
  }

  get #ends() {
    const [low, high] = ["low", "high"].map((end) => (Number(by(end).value) / STEPS) * this.#top);
    if (this.#sided) return this.#view === "less" ? [-high / 2, high / 2] : [-high / 4, high / 4];
    if (this.#view === "std" && this.plane >= 0) return [0, Math.max(this.volume.most, 1e-9)];
    return [low, high];
  }

  #slid(end) {
    const [low, high] = [by("low"), by("high")];
    if (Number(high.value) <= Number(low.value)) {
      if (end === "low") high.value = Math.min(Number(low.value) + 1, STEPS);
      if (end === "high" || Number(high.value) <= Number(low.value)) low.value = Number(high.value) - 1;
    }
    this.#window();
  }

  /** Moves the upper end by a share of the slider. */
  stretch(share) {
    by("high").value = Number(by("high").value) - Math.round(share * STEPS);
    this.#slid("high");
  }

  #window() {
    if (!this.volume) return;
    const { unit } = this.#session.state.image;
    const sided = this.#sided;
    for (const end of ["low", "high"]) {
      const value = (Number(by(end).value) / STEPS) * this.#top;
      by(`${end}-is`).textContent = show(value);
      by(end).setAttribute("aria-valuetext", `${show(value)} ${unit}`);
      by(end).disabled = this.#view === "std" || (sided && end === "low");
    }
    by("colours").disabled = sided;
    by("unit").textContent = unit;
    this.#viewer.setWindow(...this.#ends);
    this.#viewer.setColours(this.#map);
    this.#bar();
  }

  get #map() {
    return this.#sided ? "change" : by("colours").value;
  }

  #bar() {
    const canvas = by("bar");
    const { clientWidth: wide, clientHeight: high } = canvas;
    if (!wide || !this.volume) return;
    const ratio = devicePixelRatio || 1;
    canvas.width = wide * ratio;
    canvas.height = high * ratio;
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    const bar = 10;
    context.drawImage(ramp(this.#map), 0, 0, wide, bar);
    context.fillStyle = context.strokeStyle = getComputedStyle(canvas).color;
    context.lineWidth = 1;
    context.strokeRect(0.5, 0.5, wide - 1, bar - 1);
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "top";
    const [low, top] = this.#ends;
    for (const [share, align] of [[0, "left"], [0.5, "center"], [1, "right"]]) {
      context.textAlign = align;
      const value = low + share * (top - low);
      context.fillText(show(value), share * wide, bar + 2);
    }
  }

  /** Colours of the page have changed. */
  dressed() {
    this.#bar();
  }

  /** Between before and after. */
  flip() {
    if (this.#result) this.view(this.#view === "before" ? "image" : "before");
  }

  zoom(steps, [x, y]) {
    const before = ZOOMS[this.#zoom];
    this.#zoom = Math.min(Math.max(this.#zoom + steps, 0), ZOOMS.length - 1);
    const after = ZOOMS[this.#zoom];
    if (before === after) return;
    const stay = (point, middle) => (after === 1 ? 0 : point + ((middle - point) * before) / after);
    this.#middle = [stay(x, this.#middle[0]), stay(y, this.#middle[1])];
    this.#viewer.setZoom(after, ...this.#middle);
  }

  /** Value under a point and where it is, in words. */
  read(point) {
    if (!point || !this.volume) return [];
    const value = this.plane < 0 ? null : valueAt(this.volume, this.plane, ...point);
    const [x, y] = point.map((mm) => Math.round(mm));
    const where = `${Math.abs(x)} mm ${x >= 0 ? "L" : "R"}, ${Math.abs(y)} mm ${y >= 0 ? "A" : "P"}`;
    return value === null ? [where] : [`${show(value)} ${this.#session.state.image.unit}`, where];
  }
}
