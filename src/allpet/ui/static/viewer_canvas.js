// Our own drawing of a plane, on a 2-D canvas. See viewer.js for what a viewer is.

import { lowest, picture } from "./colours.js";

export class CanvasViewer {
  name = "canvas";
  onchange = () => {};
  #volume = null;
  #plane = 0;
  #window = [0, 1];
  #colours = "grey inverted";
  #field = 1;
  #zoom = { zoom: 1, x: 0, y: 0 };

  constructor(host) {
    this.host = host;
    this.canvas = host.appendChild(document.createElement("canvas"));
    new ResizeObserver(() => this.#draw()).observe(host);
  }

  async open(volume) {
    this.#volume = volume;
    this.#plane = Math.min(this.#plane, volume.planes - 1);
    this.#draw();
  }

  setPlane(plane) {
    this.#plane = plane;
    this.#draw();
  }

  setWindow(low, high) {
    this.#window = [low, high];
    this.#draw();
  }

  setColours(name) {
    this.#colours = name;
    this.#draw();
  }

  setField(side) {
    this.#field = side;
    this.#draw();
  }

  setZoom(zoom, x, y) {
    this.#zoom = { zoom, x, y };
    this.#draw();
  }

  get #scale() {
    const { clientWidth, clientHeight } = this.host;
    return (Math.min(clientWidth, clientHeight) / this.#field) * this.#zoom.zoom;
  }

  toCanvas(x, y) {
    const scale = this.#scale;
    return [
      this.host.clientWidth / 2 + (x - this.#zoom.x) * scale,
      this.host.clientHeight / 2 - (y - this.#zoom.y) * scale,
    ];
  }

  toMm(px, py) {
    const scale = this.#scale;
    return [
      (px - this.host.clientWidth / 2) / scale + this.#zoom.x,
      (this.host.clientHeight / 2 - py) / scale + this.#zoom.y,
    ];
  }

  #draw() {
    const ratio = devicePixelRatio || 1;
    const { clientWidth, clientHeight } = this.host;
    this.canvas.width = Math.round(clientWidth * ratio);
    this.canvas.height = Math.round(clientHeight * ratio);
    if (this.#volume) {
      const { data, size, pixel } = this.#volume;
      const plane = data.subarray(this.#plane * size * size, (this.#plane + 1) * size * size);
      const context = this.canvas.getContext("2d");
      context.scale(ratio, ratio);
      context.fillStyle = `rgb(${lowest(this.#colours, this.#window)})`;
      context.fillRect(0, 0, clientWidth, clientHeight);
      context.imageSmoothingQuality = "high";
      const half = (size * pixel) / 2;
      const [left, top] = this.toCanvas(-half, half);
      const [right, bottom] = this.toCanvas(half, -half);
      const shown = picture(plane, size, size, ...this.#window, this.#colours);
      context.drawImage(shown, left, top, right - left, bottom - top);
    }
    this.onchange();
  }
}
