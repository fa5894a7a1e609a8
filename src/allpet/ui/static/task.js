// The task panel: what to run, on which planes, how far it is, and what came out for every region.

import * as api from "./api.js";
import { colourOf, show } from "./colours.js";
import { by, make, option } from "./dom.js";
import { inkOn } from "./overlay.js";

const WORDS = {
  "low-dose": "Low dose to full dose",
  attenuation: "Attenuation without CT",
  delayed: "Later frame",
  convert: "Another tracer",
  separate: "Two tracers apart",
};
const OPTIONS = {
  dose_fraction: ["Dose", { type: "number", min: 0.1, max: 100, step: "any" }, "% of the full dose"],
  to: ["To", null, ""],
  delay_minutes: ["Later by", { type: "number", min: 1, max: 600, step: "any" }, "min"],
  prompt: ["Prompt", { type: "text", placeholder: "as in the scan's header" }, ""],
  samples: ["Draws", { type: "number", min: 0, max: 64, step: 1, placeholder: "default" }, "for the error bar"],
  seed: ["Seed", { type: "number", min: 0, step: 1, value: 0 }, ""],
};
const MORE = ["prompt", "samples", "seed"];
const POLL_MS = 250;
const NUMBERS = ["mean", "max", "peak"];

/** Events: "result" ({path, result} or null). */
export class Task extends EventTarget {
  #session;
  #tasks = [];
  #job = null; // path of the one that runs
  #result = null;
  #measure = "mean";

  constructor(session) {
    super();
    this.#session = session;
    by("task").addEventListener("change", () => this.#options());
    by("task-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#start();
    });
    by("cancel").addEventListener("click", () => this.#cancel());
    this.#empty();
  }

  setup(info) {
    this.#tasks = info.tasks;
    this.tracers = info.tracers;
    by("task").replaceChildren(...info.tasks.map(({ name }) => option(name, WORDS[name] ?? name)));
    this.#options();
  }

  /** Forgets results: another scan is shown. */
  reset() {
    this.#job = this.#result = null;
    this.#busy(false);
    this.#empty();
    this.#options();
    this.dispatchEvent(new CustomEvent("result", { detail: null }));
  }

  #empty() {
    const text = "Nothing run yet. A task compares every region before, without and with attention.";
    by("result").replaceChildren(make("p", { class: "empty" }, text));
  }

  #options() {
    const task = this.#tasks.find(({ name }) => name === by("task").value);
    const names = (task?.options ?? []).map((one) => one.name ?? one).filter((name) => name in OPTIONS);
    const { scan } = this.#session.state ?? {};
    const field = (name) => {
      const [words, properties, unit] = OPTIONS[name];
      const id = `option-${name}`;
      let input;
      if (properties) input = make("input", { id, ...properties });
      else input = make("select", { id }, ...(this.tracers ?? []).map((tracer) => option(tracer)));
      const dose = name === "dose_fraction" && scan?.dose_fraction;
      if (dose) input.value = Number((100 * dose).toPrecision(4));
      if (name === "delay_minutes") input.placeholder = "usual";
      input.dataset.option = name;
      return make("label", { for: id, class: `field ${name}` }, `${words} `, input, unit ? ` ${unit}` : "");
    };
    const more = names.filter((name) => MORE.includes(name));
    by("task-options").replaceChildren(
      ...names.filter((name) => !MORE.includes(name)).map(field),
      ...(more.length ? [make("details", {}, make("summary", {}, "More"), ...more.map(field))] : []),
    );
  }

  #chosen() {
    const options = {};
    for (const input of by("task-options").querySelectorAll("[data-option]")) {
      const { option: name } = input.dataset;
      if (input.value === "") continue;
      const number = input.type === "number";
      options[name] = number ? Number(input.value) : input.value;
      if (name === "dose_fraction") options[name] = Number((options[name] / 100).toPrecision(6));
    }
    return options;
  }

  #busy(busy) {
    by("start").hidden = busy;
    by("cancel").hidden = !busy;
    by("working").hidden = !busy;
    by("task").disabled = by("task-planes").disabled = busy;
  }

  async #start() {
    const { plane, state } = this.#session;
    const planes = by("task-planes").value === "all" ? [0, state.scan.planes - 1] : [plane, plane];
    const body = { task: by("task").value, planes, options: this.#chosen() };
    this.#busy(true);
    by("cancel").disabled = false;
    this.#progress({ done: 0, total: 0, seconds: 0 });
    // in its turn after the edits before it: it runs on what is on the screen
    let job = null;
    const started = await this.#session.queue(async () => {
      ({ job } = await api.post(`${this.#session.path}/jobs`, body));
    }, `${WORDS[body.task] ?? body.task} started`);
    if (!started) return this.#busy(false);
    return this.#follow(`${this.#session.path}/jobs/${job}`, this.#session.state.version);
  }

  /** Shows again what the server knows of: a job from before a reload, or the numbers that were saved. */
  async restore(last) {
    if (!last) return;
    if (last.job) {
      this.#busy(true);
      by("cancel").disabled = false;
      await this.#follow(`${this.#session.path}/jobs/${last.job}`, last.version);
      return;
    }
    const notes = [...(last.result.notes ?? []), "numbers as saved; run again for the images"];
    this.#result = { ...last.result, notes, version: last.version };
    this.#table();
  }

  async #follow(path, version) {
    this.#job = path;
    if (by("cancel").disabled) this.#cancel(); // asked for before the job had a name
    try {
      await this.#watch(path, version);
    } catch (error) {
      this.#session.fail(error);
    }
    if (this.#job !== path) return undefined; // another scan was opened meanwhile
    this.#job = null;
    const back = document.activeElement === by("cancel");
    this.#busy(false);
    if (back) by("start").focus();
    return undefined;
  }

  async #watch(path, version) {
    for (;;) {
      const found = await api.get(path);
      if (this.#job !== path) return;
      this.#progress(found);
      if (found.state === "done") {
        this.#result = { ...found.result, version };
        this.#table();
        this.dispatchEvent(new CustomEvent("result", { detail: { path, result: found.result } }));
        this.#tell(`${WORDS[found.result.task] ?? found.result.task} done`, found.result.seconds);
        return;
      }
      if (found.state === "failed") throw new Error(found.error ?? "The task failed.");
      if (found.state === "cancelled") {
        this.#tell("Cancelled", found.seconds);
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  #tell(words, seconds) {
    this.#session.dispatchEvent(new CustomEvent("done", { detail: { words, ms: 1000 * seconds } }));
  }

  #progress({ done, total, seconds }) {
    const bar = by("progress");
    if (done > 0) bar.value = done / Math.max(total, 1);
    else bar.removeAttribute("value");
    if (by("cancel").disabled) return;
    by("progress-is").textContent = `${done} of ${total || "…"} · ${seconds.toFixed(0)} s`;
  }

  async #cancel() {
    by("cancel").disabled = true;
    by("progress-is").textContent = "cancelling …";
    if (this.#job) await api.remove(this.#job).catch((error) => this.#session.fail(error));
  }

  /** Notes when regions have changed since the result. */
  update(state) {
    const stale = by("result").querySelector(".stale");
    if (stale) stale.hidden = state.version === this.#result?.version;
  }

  #table() {
    const { regions, unit, notes, planes, seconds, seed, model_hash: hash, version, task } = this.#result;
    const measure = make("select", { "aria-label": "Value compared" }, ...NUMBERS.map((name) => option(name)));
    measure.value = this.#measure;
    measure.addEventListener("change", () => {
      this.#measure = measure.value;
      this.#table();
      by("result").querySelector("select").focus();
    });
    const where = planes[0] === planes[1] ? `plane ${planes[0] + 1}` : `planes ${planes[0] + 1} to ${planes[1] + 1}`;
    const stale = make("p", { class: "stale", hidden: this.#session.state.version === version });
    stale.textContent = "Regions have changed since this run; run it again to compare them.";
    const facts = `${show(seconds, 2)} s, seed ${seed ?? 0}, model ${String(hash ?? "").slice(0, 8)}`;
    const title = make("span", {}, make("b", {}, WORDS[task] ?? task), `, ${where}:`);
    const parts = [make("div", { class: "line" }, title, measure, unit)];
    if (regions.length) parts.push(this.#rows(regions));
    else parts.push(make("p", { class: "empty" }, "No region lies on these planes: the task ran without attention."));
    parts.push(stale, make("p", { class: "quiet notes" }, [...(notes ?? []), facts].join(" · ")));
    by("result").replaceChildren(...parts);
  }

  #rows(regions) {
    const truth = regions.some((region) => region.truth);
    const bars = this.#measure === "mean";
    const last = truth ? ["Truth", "Bias %"] : ["Gain %"];
    const head = ["Region", "Before", "Without", bars ? "With ± σ" : "With", ...last];
    const titles = {
      Before: "in the image of the scan",
      Without: "the task's result without attention",
      "With ± σ": "with attention, and one standard deviation",
      "Bias %": "of the result with attention against the truth; in brackets without attention",
      "Gain %": "with against without attention",
    };
    const rows = regions.map((region) => {
      const value = (of) => region[of]?.[this.#measure];
      const bar = bars && Number.isFinite(region.std) ? ` ± ${show(region.std, 2)}` : "";
      const colour = colourOf(region.id);
      const number = this.#session.state.regions.findIndex(({ id }) => id === region.id) + 1;
      const badge = make("span", { class: "badge" }, number ? String(number) : "–");
      badge.style.background = number ? colour : "";
      badge.style.color = number ? inkOn(colour) : "";
      const cells = [show(value("before")), show(value("without")), show(value("after")) + bar];
      if (truth) {
        const bias = (of) => (value("truth") ? percent(value(of) / value("truth") - 1) : "n/a");
        cells.push(show(value("truth")), `${bias("after")} (${bias("without")})`);
      } else cells.push(value("without") ? percent(value("after") / value("without") - 1) : "n/a");
      const name = make("th", { scope: "row", title: region.name }, badge, ` ${region.name}`);
      return make("tr", {}, name, ...cells.map((text) => make("td", {}, text)));
    });
    const columns = head.map((text) => make("th", { scope: "col", title: titles[text] ?? "" }, text));
    return make(
      "table",
      {},
      make("thead", {}, make("tr", {}, ...columns)),
      make("tbody", {}, ...rows),
    );
  }
}

function percent(share) {
  const value = 100 * share;
  return `${value >= 0 ? "+" : "−"}${Math.abs(value).toFixed(Math.abs(value) < 9.95 ? 1 : 0)}`;
}
