// Gestures on the image, by pointer and by keys. A finished one becomes an edit; nothing is kept here.

import { by } from "./dom.js";

export const TOOLS = { v: "look", p: "pen", e: "ellipse", r: "rectangle", x: "eraser", g: "grow" };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
const OWN_ARROWS = "input, select, textarea, summary, [role=radiogroup], .scroll"; // these need arrows themselves
const HALF_MM = 12; // of a shape placed by keys

/** Events: "point" ([x, y] or null), "tool" (name), "pick" ([x, y]), "window" (share of the stage dragged), "hint". */
export class Tools extends EventTarget {
  tool = "look";
  #stage;
  #viewer;
  #overlay;
  #session;
  #lists;
  #drag = null; // {tool, points, add}
  #draft = null; // shape placed by keys
  #stroke = null; // points of a stroke by keys

  constructor(stage, viewer, overlay, session, lists) {
    super();
    [this.#stage, this.#viewer, this.#overlay, this.#session, this.#lists] = [stage, viewer, overlay, session, lists];
    stage.addEventListener("pointerdown", (event) => this.#down(event));
    stage.addEventListener("pointermove", (event) => this.#move(event));
    stage.addEventListener("pointerup", (event) => this.#up(event));
    stage.addEventListener("pointercancel", () => this.drop());
    stage.addEventListener("pointerleave", () => !this.#drag && this.#say("point", this.#overlay.cross));
    stage.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    stage.addEventListener("contextmenu", (event) => event.preventDefault());
    stage.addEventListener("blur", () => this.#pending || this.#crossAt(null));
    for (const button of document.querySelectorAll("[data-tool]")) {
      button.addEventListener("click", () => this.use(button.dataset.tool, false));
    }
    this.use("look", false);
  }

  get #pending() {
    return Boolean(this.#draft || this.#stroke);
  }

  /** Where the crosshair or the pointer is, or null. */
  point = null;

  #say(name, detail) {
    if (name === "point") this.point = detail;
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  use(tool, focus = true) {
    this.drop();
    this.tool = tool;
    for (const button of document.querySelectorAll("[data-tool]")) {
      button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
    }
    for (const part of document.querySelectorAll("[data-for]")) {
      part.hidden = !part.dataset.for.split(" ").includes(tool);
    }
    this.#stage.dataset.tool = tool;
    if (focus) this.#stage.focus({ preventScroll: true });
    if (tool === "look") this.#crossAt(null);
    else if (focus) this.#crossAt(this.#overlay.cross ?? [0, 0]);
    this.#say("tool", tool);
  }

  /** Ends what is being drawn without keeping it; whether there was something. */
  drop() {
    const some = Boolean(this.#drag || this.#pending);
    this.#drag = this.#draft = this.#stroke = null;
    this.#overlay.preview = null;
    this.#overlay.draw();
    return some;
  }

  #crossAt(point) {
    this.#overlay.cross = point;
    this.#overlay.draw();
    this.#say("point", point);
  }

  #at(event) {
    const box = this.#stage.getBoundingClientRect();
    return this.#viewer.toMm(event.clientX - box.left, event.clientY - box.top);
  }

  #down(event) {
    if (event.button !== 0 || !this.#session.state || event.target.closest("button")) return;
    this.#stage.focus({ preventScroll: true });
    this.drop();
    this.#stage.setPointerCapture(event.pointerId);
    this.#drag = { points: [this.#at(event)], add: event.shiftKey, y: event.clientY, moved: false };
    this.#preview();
  }

  #move(event) {
    if (!this.#session.state) return;
    const point = this.#at(event);
    this.#overlay.cross = null;
    this.#say("point", point);
    const drag = this.#drag;
    if (!drag) return this.#overlay.draw();
    const least = this.#session.state.image.pixel_mm / 4;
    const last = drag.points.at(-1);
    if (Math.hypot(point[0] - last[0], point[1] - last[1]) >= least) {
      drag.points.push(point);
      drag.moved = true;
    }
    if (this.tool === "look" && drag.moved) {
      this.#say("window", (drag.y - event.clientY) / this.#stage.clientHeight);
      drag.y = event.clientY;
    }
    this.#preview();
  }

  #up(event) {
    const drag = this.#drag;
    if (!drag) return;
    const shape = this.#shape(drag.points);
    this.drop();
    if (this.tool === "look") return drag.moved || this.#say("pick", this.#at(event));
    if (this.tool === "grow") return this.#grow(this.#at(event), drag.add);
    if (shape) this.#finish(shape, drag.add);
  }

  #wheel(event) {
    event.preventDefault();
    if (event.ctrlKey) return this.#say("zoom", { steps: -Math.sign(event.deltaY), at: this.#at(event) });
    this.#session.turn(this.#session.plane + Math.sign(event.deltaY));
  }

  /** The shape of a drag, or null where it is too small to be meant. */
  #shape(points) {
    const width = Number(by("width").value) || 8;
    const pen = this.tool === "pen" || this.tool === "eraser";
    if (pen) {
      if (this.tool === "pen" && by("fill").checked && points.length > 2) return { type: "polygon", points_mm: points };
      return { type: "pen", points_mm: points.slice(0, 10_000), width_mm: width };
    }
    if (this.tool !== "ellipse" && this.tool !== "rectangle") return null;
    const [first, last] = [points[0], points.at(-1)];
    const axes = [0, 1].map((axis) => Math.abs(last[axis] - first[axis]) / 2);
    const least = this.#session.state.image.pixel_mm / 4;
    if (Math.min(...axes) < least) return null;
    return { type: this.tool, centre_mm: [0, 1].map((axis) => (first[axis] + last[axis]) / 2), axes_mm: axes };
  }

  #preview() {
    const points = this.#drag?.points ?? this.#stroke;
    const shape = this.#draft ?? (points ? this.#shape(points) : null);
    this.#overlay.preview = shape && { ...shape, erase: this.tool === "eraser" };
    this.#overlay.draw();
  }

  get #planes() {
    const { planes } = this.#session.state.scan;
    const wanted = by("reach").value;
    if (wanted === "all") return [0, planes - 1];
    const around = Number(wanted);
    return [Math.max(this.#session.plane - around, 0), Math.min(this.#session.plane + around, planes - 1)];
  }

  #target(add) {
    return (add || by("add").checked) && this.#lists.region ? { region: this.#lists.region.id } : {};
  }

  #finish(shape, add = false) {
    if (this.tool === "eraser") {
      const { region } = this.#lists;
      if (!region) return this.#say("hint", "Select the region to erase from first.");
      const body = { op: "erase", shape, planes: this.#planes, region: region.id };
      return this.#session.edit(body, `Erased from ${region.name}`);
    }
    const words = { pen: "Pen stroke", polygon: "Outline", ellipse: "Ellipse", rectangle: "Box" };
    const body = { op: "draw", shape, planes: this.#planes, ...this.#target(add) };
    this.#session.edit(body, `${words[shape.type]} drawn`);
  }

  #grow([x, y], add) {
    const share = Math.min(Math.max(Number(by("share").value) || 41, 5), 95) / 100;
    const through = by("reach").value !== "0";
    const body = { op: "grow", plane: this.#session.plane, x_mm: x, y_mm: y, share, through, ...this.#target(add) };
    this.#session.edit(body, "Region grown");
  }

  /** A key pressed on the page; whether it was used. */
  key(event) {
    const arrow = ARROWS[event.key];
    const active = document.activeElement;
    const onStage = active === this.#stage || active === document.body;
    const free = arrow && !active?.closest(OWN_ARROWS);
    if (!(onStage || free) || event.ctrlKey || event.metaKey || event.altKey) return false;
    if (this.tool === "look") {
      if (!arrow || !arrow[1]) return false;
      this.#session.turn(this.#session.plane - arrow[1]);
      return true;
    }
    if (event.key === "Escape") return this.drop();
    if (arrow) return this.#arrow(arrow, event.shiftKey);
    return event.key === "Enter" && this.#enter();
  }

  #arrow([right, up], size) {
    const { image } = this.#session.state;
    const step = image.pixel_mm;
    if (size && this.#draft) {
      const [a, b] = this.#draft.axes_mm;
      this.#draft.axes_mm = [Math.max(a + right * step, step / 2), Math.max(b + up * step, step / 2)];
    } else {
      const half = (image.size * step) / 2;
      const [x, y] = this.#overlay.cross ?? [0, 0];
      const clamp = (value) => Math.min(Math.max(value, -half), half);
      const point = [clamp(x + right * step), clamp(y + up * step)];
      if (this.#draft) this.#draft.centre_mm = point;
      this.#stroke?.push(point);
      this.#crossAt(point);
    }
    this.#preview();
    return true;
  }

  #enter() {
    const point = this.#overlay.cross;
    if (!point) {
      this.#crossAt([0, 0]);
      return true;
    }
    if (this.tool === "grow") this.#grow(point, false);
    else if (this.tool === "ellipse" || this.tool === "rectangle") {
      const draft = this.#draft;
      this.#draft = draft ? null : { type: this.tool, centre_mm: point, axes_mm: [HALF_MM, HALF_MM] };
      if (draft) this.#finish(draft);
      else this.#say("hint", "Shift + arrows change the size, arrows move it, Enter confirms, Escape drops it.");
    } else if (this.#stroke) {
      const shape = this.#shape(this.#stroke);
      this.#stroke = null;
      this.#finish(shape);
    } else {
      this.#stroke = [point];
      this.#say("hint", "Arrows draw, Enter ends the stroke, Escape drops it.");
    }
    this.#preview();
    return true;
  }
}
