// One session: the state that the server holds, edits in the order in which they were made, and the planes' arrays.

import * as api from "./api.js";

const KEY = "allpet-session";
const emit = (target, name, detail) => target.dispatchEvent(new CustomEvent(name, { detail }));

/** Events: "state" (new state), "planes" (arrays of the plane shown), "done" (words, ms), "failed" (message). */
export class Session extends EventTarget {
  state = null;
  plane = 0;
  covers = false; // whether the server gives a map of every region, or one of all
  layers = null; // of the plane shown: labels, suggested, scan, attention, emphasised
  #queue = [];
  #busy = false;
  #pumping = Promise.resolve();
  #loading = null;
  #scan = new Map(); // sinograms of the scan never change

  get path() {
    return `/api/sessions/${this.state.session}`;
  }

  /** Goes on with the session of this tab, else opens one. */
  async open(options = null) {
    let state = null;
    const known = options ? null : sessionStorage.getItem(KEY);
    if (known) state = await api.get(`/api/sessions/${known}`).catch(() => null);
    state ??= await api.post("/api/sessions", options ?? {});
    this.#loading?.abort(); // nothing more is asked of a session that ends
    if (options && this.state) api.remove(this.path).catch(() => {});
    sessionStorage.setItem(KEY, state.session);
    this.#scan.clear();
    this.plane = Math.floor((state.scan.planes - 1) / 2);
    this.#take(state);
  }

  #take(state) {
    this.state = state;
    emit(this, "state", state);
    this.load();
  }

  turn(plane) {
    const next = Math.min(Math.max(plane, 0), this.state.scan.planes - 1);
    if (next === this.plane) return;
    this.plane = next;
    emit(this, "plane", next);
    this.load();
  }

  /** Edits go to the server one after another; a waiting one with the same `key` is replaced by its successor. */
  edit(body, words, key = null) {
    return this.queue(() => api.post(`${this.path}/edits`, body), words, key);
  }

  /** Runs something that gives a state (or nothing) in its turn; resolves to what it gave, or to null if refused. */
  queue(work, words, key = null) {
    const last = this.#queue.at(-1);
    if (key && last?.key === key) {
      last.work = work;
      last.words = words;
      return last.promise;
    }
    const one = { work, words, key, of: this.state?.session };
    one.promise = new Promise((resolve) => (one.resolve = resolve));
    this.#queue.push(one);
    if (!this.#busy) this.#pumping = this.#pump();
    return one.promise;
  }

  /** Whether something is under way whose outcome the state does not hold yet. */
  get pending() {
    return this.#busy;
  }

  /** Resolves once it is not any more. */
  settled() {
    return this.#pumping;
  }

  /** Whether an edit with this key has not been sent yet. */
  waits(key) {
    return this.#queue.some((one) => one.key === key);
  }

  async #pump() {
    this.#busy = true;
    while (this.#queue.length) {
      const one = this.#queue.shift();
      const mine = () => one.of === this.state?.session;
      if (!mine()) {
        one.resolve(null); // meant for a session that has ended
        continue;
      }
      const start = performance.now();
      try {
        const given = await one.work();
        if (given?.session && mine()) this.#take(given);
        const words = typeof one.words === "function" ? one.words(given) : one.words;
        emit(this, "done", { words, ms: performance.now() - start });
        one.resolve(given ?? {});
      } catch (error) {
        this.fail(error);
        if (this.state) emit(this, "state", this.state); // controls go back to what holds
        one.resolve(null);
      }
    }
    this.#busy = false;
  }

  fail(error) {
    if (error.name === "AbortError") return;
    const lost = error.status === 404 && /session/.test(error.message);
    emit(this, "failed", lost ? `${error.message}; reload the page to go on` : error.message);
  }

  /** The region at a point of the plane shown, the last one where several lie, or null. */
  regionAt(x, y) {
    const { size, pixel_mm: pixel } = this.state.image;
    const [column, row] = [x / pixel + (size - 1) / 2, (size - 1) / 2 - y / pixel].map(Math.round);
    if (!this.layers || Math.min(column, row) < 0 || Math.max(column, row) >= size) return null;
    const { covers, labels, state } = this.layers;
    const at = row * size + column;
    if (!covers) return state.regions[labels[at] - 1] ?? null;
    return state.regions.findLast((_, index) => labels[index * size * size + at]) ?? null;
  }

  /** Fetches the arrays of the plane shown; a newer call ends an older one. */
  async load() {
    this.#loading?.abort();
    const { signal } = (this.#loading = new AbortController());
    const { plane, state } = this;
    const at = `${this.path}/planes/${plane}`;
    const sinogram = async (of) => new Float32Array(await api.bytes(`${at}/sinogram?of=${of}`, signal));
    const what = this.covers ? "covers" : "labels";
    const labels = async (query) => new Uint8Array(await api.bytes(`${at}/${what}${query}`, signal));
    try {
      const known = this.#scan.get(plane);
      const [own, suggested, attention, emphasised, scan] = await Promise.all([
        labels(""), labels("?of=suggestions"), sinogram("attention"), sinogram("emphasised"), known ?? sinogram("scan"),
      ]);
      if (signal.aborted) return;
      this.#scan.set(plane, scan);
      const { covers } = this;
      this.layers = { plane, state, covers, labels: own, suggested, scan, attention, emphasised };
      emit(this, "planes", this.layers);
    } catch (error) {
      if (!signal.aborted) this.fail(error);
    }
  }
}
