// The lists of regions and suggestions.

import { colourOf, show } from "./colours.js";
import { by, make, option, reconcile } from "./dom.js";
import { inkOn, letter, suggestedOn } from "./overlay.js";

const KINDS = [["hot", "hot"], ["cold", "cold"], ["roi", "region"]];
const LEAST = -0.9;
const MOST = 5;

const planesOf = ([first, last]) => (first === last ? `plane ${first + 1}` : `planes ${first + 1} to ${last + 1}`);

/** Events: "choose" (id), "mark" (id of a suggestion pointed at, or null). */
export class Lists extends EventTarget {
  chosen = null;
  #session;
  #asked = new Set(); // ids of what is on its way out
  #ticked = []; // ids, in the order of ticking

  constructor(session) {
    super();
    this.#session = session;
    by("accept-all").addEventListener("click", () => session.edit({ op: "accept_all" }, "All suggestions accepted"));
    for (const button of by("combine").querySelectorAll("button")) {
      button.addEventListener("click", () => {
        const regions = [...this.#ticked];
        this.#ticked = [];
        session.edit({ op: "combine", regions, how: button.dataset.how }, `Regions combined: ${button.dataset.how}`);
      });
    }
    by("which").addEventListener("change", () => this.ideas());
    by("preset-add").addEventListener("click", () => {
      const name = by("preset").value;
      if (name) session.edit({ op: "preset", name, plane: session.plane }, `Preset ${name} added`);
    });
    by("upload").addEventListener("click", () => by("file").click());
    by("file").addEventListener("change", () => this.#upload());
  }

  get regions() {
    return this.#session.state?.regions ?? [];
  }

  get region() {
    return this.regions.find((region) => region.id === this.chosen) ?? null;
  }

  choose(id) {
    this.chosen = id;
    this.update(this.#session.state);
    by("regions").querySelector(`[data-key="${id}"]`)?.scrollIntoView({ block: "nearest" });
    this.dispatchEvent(new CustomEvent("choose", { detail: id }));
  }

  async #upload() {
    const [file] = by("file").files;
    by("file").value = "";
    if (!file) return;
    const { send } = await import("./api.js");
    const path = `${this.#session.path}/upload?name=${encodeURIComponent(file.name)}`;
    this.#session.queue(() => send(path, file), `Regions of ${file.name} added`);
  }

  /** Accepts the suggestion pointed at, else the first of this plane, else the first; gives it. */
  acceptNext() {
    const { state, plane } = this.#session;
    const free = ({ id }) => !this.#asked.has(id);
    const marked = state.suggestions.find((one) => one.id === this.marked && free(one));
    const next = marked ?? suggestedOn(state, plane).find(free) ?? state.suggestions.find(free);
    if (next) this.#accept(next);
    return next;
  }

  #accept(suggestion) {
    this.#show(suggestion);
    this.#once(suggestion.id, { op: "accept", suggestion: suggestion.id }, `Accepted ${suggestion.name}`);
  }

  /** An edit after which `id` is gone: asked for once, however fast the keys are. */
  async #once(id, body, words) {
    if (this.#asked.has(id)) return;
    this.#asked.add(id);
    await this.#session.edit(body, words);
    this.#asked.delete(id);
  }

  #show({ planes: [first, last] }) {
    if (this.#session.plane < first || this.#session.plane > last) this.#session.turn(Math.floor((first + last) / 2));
  }

  /** Changes the strength of the chosen region by steps of 0.1. */
  strengthen(steps) {
    const row = by("regions").querySelector(`[data-key="${this.chosen}"]`);
    if (!row) return false;
    const number = row.querySelector("input[type=number]");
    this.#strength(row, this.chosen, Number(number.value) + 0.1 * steps);
    return true;
  }

  remove() {
    const region = this.region;
    if (region) this.#once(region.id, { op: "delete", region: region.id }, `Deleted ${region.name}`);
    return Boolean(region);
  }

  #strength(row, id, value) {
    const wanted = Math.round(100 * Math.min(Math.max(value, LEAST), MOST)) / 100;
    if (!Number.isFinite(wanted)) return this.update(this.#session.state);
    row.querySelector("input[type=number]").value = wanted;
    row.querySelector("input[type=range]").value = wanted;
    const name = row.querySelector(".name").value;
    const body = { op: "strength", region: id, value: wanted };
    return this.#session.edit(body, `Strength of ${name}: ${wanted}`, `strength ${id}`);
  }

  update(state) {
    const alive = new Set(state.regions.map((region) => region.id));
    this.#ticked = this.#ticked.filter((id) => alive.has(id));
    if (!alive.has(this.chosen)) this.chosen = state.regions.at(-1)?.id ?? null;
    by("none").hidden = state.regions.length > 0;
    by("count").textContent = state.regions.length ? `${state.regions.length}, in ${state.image.unit}` : "";
    by("combine").hidden = this.#ticked.length < 2;
    reconcile(by("regions"), state.regions, (one) => this.#row(one), (...all) => this.#fill(...all));
    this.ideas();
  }

  /** The list of suggestions, of this plane or all. */
  ideas() {
    const { state, plane } = this.#session;
    const here = suggestedOn(state, plane);
    const all = state.suggestions.length;
    const [ours, every] = by("which").options;
    ours.textContent = `this plane (${here.length})`;
    every.textContent = `all planes (${all})`;
    const shown = by("which").value === "all" ? state.suggestions : here;
    by("no-suggestions").hidden = shown.length > 0;
    by("no-suggestions").textContent = all ? "Nothing suggested on this plane." : "Nothing left to suggest.";
    by("accept-all").disabled = !all;
    by("accept-all").textContent = all ? `Accept all ${all}` : "Accept all";
    const fill = (row, one) => fillIdea(row, one, here.indexOf(one), state.image.unit);
    reconcile(by("suggestions"), shown, (one) => this.#idea(one), fill);
  }

  #row({ id }) {
    const edit = (op, value, words) => this.#session.edit({ op, region: id, value }, words);
    const choose = (event) => {
      // a control is chosen by its focus, which comes before it changes; a click on it would come in between
      if (event.type === "click" && event.target.closest("input, select, button")) return;
      if (this.chosen !== id && !event.target.closest(".icon")) this.choose(id);
    };
    const row = make("li", { class: "region", onclick: choose, onfocusin: choose });
    const number = make("input", { type: "number", min: LEAST, max: MOST, step: 0.1, "aria-label": "Strength" });
    const range = make("input", { type: "range", min: LEAST, max: MOST, step: 0.1, "aria-label": "Strength" });
    range.addEventListener("input", () => (number.value = range.value));
    for (const control of [range, number]) {
      control.addEventListener("change", () => this.#strength(row, id, control.valueAsNumber));
    }
    const tick = make("input", { type: "checkbox", class: "tick", title: "Tick two or more to combine them" });
    tick.addEventListener("change", () => {
      this.#ticked = this.#ticked.filter((other) => other !== id).concat(tick.checked ? [id] : []);
      by("combine").hidden = this.#ticked.length < 2;
    });
    const name = make("input", { class: "name", "aria-label": "Name", maxLength: 60, spellcheck: false });
    name.addEventListener("change", () => edit("rename", name.value.trim(), `Renamed to ${name.value.trim()}`));
    name.addEventListener("keydown", (event) => event.key === "Enter" && name.blur());
    const kinds = KINDS.map(([value, text]) => option(value, text));
    const kind = make("select", { class: "kind", "aria-label": "Kind" }, ...kinds);
    kind.addEventListener("change", () => edit("kind", kind.value, `Kind: ${kind.value}`));
    const badge = make("button", { type: "button", class: "badge", "data-action": "badge" });
    badge.addEventListener("click", () => {
      this.choose(id);
      this.#show(this.region);
    });
    const cross = { type: "button", class: "icon", title: "Delete (Del)", "data-action": "delete" };
    const gone = make("button", cross, "×");
    gone.addEventListener("click", () => this.#once(id, { op: "delete", region: id }, `Deleted ${name.value}`));
    row.append(
      make("div", { class: "line" }, badge, name, kind, tick, gone),
      make("div", { class: "line" }, make("span", { class: "quiet" }, "Strength"), range, number),
      make("div", { class: "facts" }),
    );
    return row;
  }

  #fill(row, region, index) {
    const chosen = region.id === this.chosen;
    row.classList.toggle("chosen", chosen);
    const set = (selector, value) => {
      const control = row.querySelector(selector);
      if (document.activeElement !== control || control.tagName === "SELECT") control.value = value;
      return control;
    };
    const badge = row.querySelector(".badge");
    badge.textContent = index + 1;
    badge.style.background = colourOf(region.id);
    badge.style.color = inkOn(colourOf(region.id));
    badge.setAttribute("aria-label", `Select region ${index + 1}, ${region.name}, and show its plane`);
    badge.setAttribute("aria-pressed", String(chosen));
    row.querySelector(".icon").setAttribute("aria-label", `Delete ${region.name}`);
    const tick = row.querySelector(".tick");
    tick.checked = this.#ticked.includes(region.id);
    tick.setAttribute("aria-label", `Tick ${region.name} to combine it`);
    set(".name", region.name);
    set(".kind", region.kind);
    if (!this.#session.waits(`strength ${region.id}`)) {
      row.querySelector("input[type=range]").value = region.strength;
      row.querySelector("input[type=number]").value = region.strength;
    }
    const { mean, max, peak } = region.uptake;
    row.querySelector(".facts").textContent =
      `mean ${show(mean)} · max ${show(max)} · peak ${show(peak)} · ${show(region.volume_ml, 2)} mL · ` +
      planesOf(region.planes);
    row.title = region.why || region.source;
  }

  #idea(suggestion) {
    const { id, name } = suggestion;
    const mark = (value) => () => {
      this.marked = value;
      this.dispatchEvent(new CustomEvent("mark", { detail: value }));
    };
    const button = (action, text, words) =>
      make("button", { type: "button", "data-action": action, "aria-label": `${words} ${name}` }, text);
    const yes = button("accept", "Accept", "Accept");
    yes.addEventListener("click", () => this.#accept(suggestion));
    const no = button("dismiss", "Dismiss", "Dismiss");
    no.addEventListener("click", () => this.#once(id, { op: "dismiss", suggestion: id }, `Dismissed ${name}`));
    const badge = make("button", { type: "button", class: "badge hollow", "aria-label": `Show ${name}` });
    badge.addEventListener("click", () => this.#show(suggestion));
    return make(
      "li",
      {
        class: "idea",
        onpointerenter: mark(id),
        onpointerleave: mark(null),
        onfocusin: mark(id),
        onfocusout: mark(null),
      },
      make("div", { class: "line" }, badge, make("b", { title: name }, name), yes, no),
      make("div", { class: "facts" }),
      make("details", { class: "why" }, make("summary", { title: suggestion.why }, suggestion.why)),
    );
  }
}

function fillIdea(row, suggestion, index, unit) {
  row.querySelector(".badge").textContent = index < 0 ? "·" : letter(index);
  const { mean, max } = suggestion.uptake;
  const size = `${show(suggestion.volume_ml, 2)} mL`;
  const facts = [suggestion.kind, `mean ${show(mean)}`, `max ${show(max)} ${unit}`, size, planesOf(suggestion.planes)];
  row.querySelector(".facts").textContent = facts.join(" · ");
}
