// The page: opens a session and ties its parts together. The server holds the truth; every part redraws from its state.

import * as api from "./api.js";
import { assignColours, show } from "./colours.js";
import { by, make, option } from "./dom.js";
import { ImagePane } from "./image.js";
import { keysOf } from "./keys.js";
import { Lists } from "./lists.js";
import { Overlay, SHOWN } from "./overlay.js";
import { Session } from "./session.js";
import { Sinograms } from "./sinograms.js";
import { Task } from "./task.js";
import { Tools } from "./tools.js";
import { openViewer } from "./viewer.js";

const session = new Session();
const lists = new Lists(session);
const task = new Task(session);
const sinograms = new Sinograms(document.querySelectorAll("figure[data-of]"));

function tell(words, ms = null) {
  by("error").textContent = "";
  const time = ms < 10_000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
  by("status").textContent = ms === null ? words : `${words} · ${time}`;
}

function complain(words) {
  by("status").textContent = "";
  // a file name that comes first stays as it is
  by("error").textContent = /^\S*[.:/]/.test(words) ? words : words.charAt(0).toUpperCase() + words.slice(1);
}

function factsOf({ scan, image }) {
  const share = scan.dose_fraction;
  return [
    [scan.tracer, scan.region].filter(Boolean).join(", "),
    `${scan.planes} ${scan.planes === 1 ? "plane" : "planes"}`,
    `${scan.views} × ${scan.bins} lines`,
    `${image.size} × ${image.size} px of ${show(image.pixel_mm)} mm`,
    share && share < 1 ? `dose ${show(100 * share, 2)} %` : "",
    scan.duration_s ? `${show(scan.duration_s / 60, 2)} min` : "",
    scan.calibrated ? "" : "not calibrated",
  ].filter(Boolean).join(" · ");
}

function dress() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.classList.toggle("dark", dark);
  by("theme").textContent = dark ? "Light" : "Dark";
  sinograms.draw();
  dispatchEvent(new Event("dressed"));
}

function bindTop(open) {
  const root = document.documentElement;
  root.dataset.theme = localStorage.getItem("allpet-theme") ?? "";
  by("theme").addEventListener("click", () => {
    root.dataset.theme = root.classList.contains("dark") ? "light" : "dark";
    localStorage.setItem("allpet-theme", root.dataset.theme);
    dress();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", dress);
  by("undo").addEventListener("click", () => actions.undo());
  by("redo").addEventListener("click", () => actions.redo());
  by("save").addEventListener("click", () => actions.save());
  by("help").addEventListener("click", () => actions.help());
  by("name-it").addEventListener("close", () => {
    const name = by("name-as").value.trim();
    if (by("name-it").returnValue === "save" && name) actions.save(name);
    by("name-it").returnValue = "";
    by("stage").focus({ preventScroll: true });
  });
  by("keys").addEventListener("close", () => by("stage").focus({ preventScroll: true }));
  const leaveFor = async (options) => {
    if (await mayLeave()) return open(options);
    by("scan").value = session.state.scan.name; // what is shown still
    return undefined;
  };
  by("scan").addEventListener("change", () => leaveFor({ scan: by("scan").value }));
  by("afresh").addEventListener("click", () => leaveFor({ scan: session.state.scan.name, fresh: true }));
  addEventListener("beforeunload", (event) => unsaved() && event.preventDefault());
  const menu = by("export");
  for (const button of menu.querySelectorAll("button")) {
    button.addEventListener("click", () => {
      menu.open = false;
      const name = button.dataset.export;
      // in its turn: what is exported holds the edits made before
      session.queue(() => api.download(`${session.path}/export/${name}`, name).then(() => null), `${name} exported`);
    });
  }
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    menu.open = false;
    menu.querySelector("summary").focus();
    event.stopPropagation();
  });
  document.addEventListener("pointerdown", (event) => menu.contains(event.target) || (menu.open = false));
}

let savedAs = null; // name under which this session saves, where the usual one is taken

const actions = {
  undo: () => session.state?.undo !== false && session.edit({ op: "undo" }, "Undone"),
  redo: () => session.state?.redo !== false && session.edit({ op: "redo" }, "Redone"),
  help: () => by("keys").showModal(),
  save: (name = savedAs) =>
    session.queue(
      async () => {
        by("save").textContent = "Saving…"; // until the next state, which comes in any case
        const saved = await api.post(`${session.path}/save`, name ? { name } : {}).catch((error) => {
          if (error.status === 409) askName(error.message);
          throw error;
        });
        savedAs = name;
        return { ...(await api.get(session.path)), folder: saved.folder, files: saved.files };
      },
      (given) => `Saved ${given.files.length} files in ${given.folder}`,
    ),
};

/** Work of somebody else lies where this would be saved: another name is needed. */
function askName(reason) {
  by("name-why").textContent = reason;
  if (!by("name-it").open) by("name-it").showModal();
}

const unsaved = () => session.pending || (session.state !== null && !session.state.saved);

/** Whether the session may end: unsaved work is saved, or given up, by its person first. */
async function mayLeave() {
  const dialog = by("leave");
  await session.settled(); // edits under way count
  if (dialog.open) return false; // it is being asked already
  if (!unsaved()) return true;
  by("leave-what").textContent = `Changes to the regions of ${session.state.scan.name} would be lost.`;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    const closed = async () => {
      if (dialog.returnValue === "save") resolve((await actions.save()) !== null);
      else resolve(dialog.returnValue === "drop");
    };
    dialog.addEventListener("close", closed, { once: true });
  });
}

async function main() {
  const info = await api.get("/api/info");
  const host = make("div", { class: "view" });
  const glass = make("canvas", { class: "glass" });
  by("stage").prepend(host, glass);
  const [viewer, note] = await openViewer(host);
  const overlay = new Overlay(glass, viewer);
  const image = new ImagePane(session, viewer);
  const tools = new Tools(by("stage"), viewer, overlay, session, lists);
  viewer.onchange = () => overlay.draw();
  by("stage").dataset.viewer = viewer.name;
  by("note").textContent = note;
  by("note").hidden = !note;
  session.covers = info.covers === true;
  task.setup(info);
  by("scan").replaceChildren(...info.scans.map((name) => option(name)));
  by("scan").disabled = info.scans.length < 2;

  const redraw = () => session.layers && overlay.set(session.layers, lists.chosen, lists.marked);
  let ids = new Set();
  session.addEventListener("state", ({ detail: state }) => {
    assignColours(state.regions);
    const fresh = state.regions.filter(({ id }) => !ids.has(id));
    if (ids.size + 1 === state.regions.length || fresh.length === 1) lists.chosen = fresh.at(-1)?.id ?? lists.chosen;
    ids = new Set(state.regions.map(({ id }) => id));
    lists.update(state);
    task.update(state);
    by("undo").disabled = !state.undo;
    by("redo").disabled = !state.redo;
    by("save").classList.toggle("unsaved", !state.saved);
    by("save").textContent = state.saved ? "Saved" : "Save";
    by("facts").textContent = by("facts").title = factsOf(state);
    by("erasing").textContent = lists.region ? `from ${lists.region.name}` : "select a region first";
    document.body.dataset.version = state.version;
    document.body.dataset.session = state.session;
  });
  session.addEventListener("planes", ({ detail: layers }) => {
    sinograms.set(layers);
    redraw();
    const { session: of, version } = layers.state; // versions alone begin anew with each session
    document.body.dataset.drawn = `${of}.${version}.${layers.plane}`;
  });
  session.addEventListener("plane", () => {
    image.turned();
    lists.ideas();
  });
  session.addEventListener("done", ({ detail }) => tell(detail.words, detail.ms));
  session.addEventListener("failed", ({ detail }) => complain(detail));
  lists.addEventListener("choose", () => {
    redraw();
    by("erasing").textContent = `from ${lists.region?.name ?? "…"}`;
  });
  lists.addEventListener("mark", redraw);
  task.addEventListener("result", ({ detail }) => image.result(detail));
  sinograms.addEventListener("line", ({ detail }) => {
    overlay.line = detail;
    overlay.draw();
  });
  tools.addEventListener("point", ({ detail: point }) => {
    sinograms.follow(point);
    by("readout").replaceChildren(...image.read(point).map((text) => make("div", {}, text)));
  });
  tools.addEventListener("hint", ({ detail }) => tell(detail));
  tools.addEventListener("window", ({ detail }) => image.stretch(-detail));
  tools.addEventListener("zoom", ({ detail }) => image.zoom(detail.steps, detail.at));
  tools.addEventListener("pick", ({ detail: [x, y] }) => {
    const found = session.regionAt(x, y);
    if (found) lists.choose(found.id);
  });
  const outlines = () => {
    overlay.shown = SHOWN[(SHOWN.indexOf(overlay.shown) + 1) % SHOWN.length];
    by("outlines").textContent = overlay.shown;
    overlay.draw();
  };
  by("outlines").addEventListener("click", outlines);
  addEventListener("dressed", () => image.dressed());

  const open = async (options) => {
    try {
      await session.open(options);
    } catch (error) {
      if (session.state) by("scan").value = session.state.scan.name; // what is shown still
      return complain(error.message);
    }
    const { state } = session;
    savedAs = null;
    by("scan").value = state.scan.name;
    const presets = state.presets ?? info.presets;
    by("preset").replaceChildren(option("", "Preset …"), ...presets.map((name) => option(name)));
    by("width").value ||= Math.round(2 * state.image.pixel_mm);
    by("reopened").hidden = !state.reopened;
    task.reset();
    await image.open(state);
    const greeting = state.note ?? (state.reopened ? "Your saved work on this scan is open." : "Ready.");
    tell(greeting);
    document.body.dataset.ready = "true";
    task.restore(state.last);
    return undefined;
  };
  bindTop(open);
  keysOf({ session, lists, tools, image, actions: { ...actions, outlines } });
  dress();
  await open();
}

main().catch((error) => complain(error.message));
