// NiiVue (vendor/niivue) as a viewer; nothing else of the page knows it. See viewer.js for what a viewer is.

import { lowest, TABLES } from "./colours.js";

const SCRIPT = "/static/vendor/niivue/niivue.umd.js";

function library() {
  return new Promise((resolve, reject) => {
    if (globalThis.niivue) return resolve(globalThis.niivue);
    const script = document.createElement("script");
    script.src = SCRIPT;
    script.onload = () => resolve(globalThis.niivue);
    script.onerror = () => reject(new Error("NiiVue could not be read"));
    document.head.append(script);
  });
}

export class NiivueViewer {
  name = "NiiVue";
  onchange = () => {};
  #volume = null;
  #files = new Map();
  #plane = 0;
  #window = [0, 1];
  #colours = "grey inverted";
  #field = null;
  #zoom = { zoom: 1, x: 0, y: 0 };
  #left = 0;
  #top = 0;

  static async in(host) {
    const { Niivue, SLICE_TYPE } = await library();
    const viewer = new NiivueViewer();
    viewer.host = host;
    viewer.inner = host.appendChild(document.createElement("div")); // larger than the host when zoomed
    viewer.canvas = viewer.inner.appendChild(document.createElement("canvas"));
    const nv = (viewer.nv = new Niivue({
      backColor: [1, 1, 1, 1],
      crosshairWidth: 0,
      dragAndDropEnabled: false,
      interactive: false,
      isColorbar: false,
      isOrientationTextVisible: false,
      isRadiologicalConvention: true, // the patient's right is on the left of the screen
      loadingText: "",
      logLevel: "error",
      show3Dcrosshair: false,
    }));
    for (const [name, table] of Object.entries(TABLES)) {
      const every = Array.from({ length: 256 }, (_, i) => i);
      const channel = (c) => every.map((i) => table[3 * i + c]);
      const map = { R: channel(0), G: channel(1), B: channel(2), A: every.map(() => 255), I: every };
      nv.addColormap(`allpet ${name}`, map);
    }
    await nv.attachToCanvas(viewer.canvas, false);
    nv.setSliceType(SLICE_TYPE.AXIAL);
    viewer.#place();
    new ResizeObserver(() => viewer.#place()).observe(host);
    return viewer;
  }

  async open(volume) {
    const { NVImage } = globalThis.niivue;
    const image = await NVImage.new(volume.file.slice(0), "image.nii", "gray", 1, null, ...this.#window);
    if (this.#volume) this.nv.removeVolume(this.nv.volumes[0]);
    this.#volume = volume;
    image.colormap = `allpet ${this.#colours}`;
    [image.cal_min, image.cal_max] = this.#window;
    this.nv.addVolume(image);
    this.setPlane(Math.min(this.#plane, volume.planes - 1));
    this.#place();
  }

  setPlane(plane) {
    this.#plane = plane;
    if (!this.#volume) return;
    this.nv.scene.crosshairPos = [0.5, 0.5, 1 - (plane + 0.5) / this.#volume.planes];
    this.nv.drawScene();
    this.onchange();
  }

  setWindow(low, high) {
    this.#window = [low, high];
    this.#update();
  }

  setColours(name) {
    this.#colours = name;
    this.#update();
  }

  #update() {
    const image = this.nv.volumes[0];
    if (!image) return;
    image.colormap = `allpet ${this.#colours}`; // puts back the window that the volume was opened with
    [image.cal_min, image.cal_max] = this.#window;
    const ground = lowest(this.#colours, this.#window);
    this.nv.opts.backColor = [...ground.map((value) => value / 255), 1];
    this.host.style.background = `rgb(${ground})`;
    this.nv.updateGLVolume();
  }

  setField(side) {
    this.#field = side;
    this.#place();
  }

  setZoom(zoom, x, y) {
    this.#zoom = { zoom, x, y };
    this.#place();
  }

  /** Lays the canvas out so that the zoomed point is in the middle of the host. NiiVue itself always shows all. */
  #place() {
    const { zoom, x, y } = this.#zoom;
    const { clientWidth: wide, clientHeight: high } = this.host;
    const set = (name, value) => (this.inner.style[name] = `${value}px`);
    // NiiVue fits the volume, and the volume of a result may show more or less than the field
    const times = this.#volume && this.#field ? (zoom * this.#volume.size * this.#volume.pixel) / this.#field : zoom;
    set("width", wide * times);
    set("height", high * times);
    this.nv.resizeListener();
    const { origin, dx, dy } = this.#volume ? this.#frame : { origin: [wide / 2, high / 2], dx: 0, dy: 0 };
    set("left", (this.#left = wide / 2 - origin[0] - x * dx));
    set("top", (this.#top = high / 2 - origin[1] - y * dy));
    this.onchange();
  }

  /** Origin and steps in CSS pixels of the canvas: of a mm to the patient's left and of one to the front. */
  get #frame() {
    const { size, pixel } = this.#volume;
    const ratio = this.canvas.clientWidth / this.canvas.width;
    const z = this.nv.scene.crosshairPos[2];
    const at = (x, y) => {
      // NiiVue's fractions run from the patient's left to the right, from posterior to anterior, from the feet up
      const found = this.nv.frac2canvasPos([0.5 - x / (size * pixel), 0.5 + y / (size * pixel), z]);
      return (found ?? [0, 0]).map((value) => value * ratio);
    };
    const reach = (size * pixel) / 4;
    const [origin, along, up] = [at(0, 0), at(reach, 0), at(0, reach)];
    return { origin, dx: (along[0] - origin[0]) / reach, dy: (up[1] - origin[1]) / reach };
  }

  toCanvas(x, y) {
    if (!this.#volume) return [0, 0];
    const { origin, dx, dy } = this.#frame;
    return [this.#left + origin[0] + x * dx, this.#top + origin[1] + y * dy];
  }

  toMm(px, py) {
    if (!this.#volume) return [0, 0];
    const { origin, dx, dy } = this.#frame;
    return [(px - this.#left - origin[0]) / dx, (py - this.#top - origin[1]) / dy];
  }
}
