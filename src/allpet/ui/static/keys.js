// Keys of the page, and the table of them.

import { by, make } from "./dom.js";
import { TOOLS } from "./tools.js";

const TABLE = [
  ["↑ ↓  or  [ ]", "plane before or after (arrows: with the look tool)"],
  ["V P E R X G", "look, pen, ellipse, box, eraser, grow"],
  ["arrows, Enter, Esc", "move the crosshair, place or confirm, drop"],
  ["Shift + arrows", "size of the shape placed"],
  ["A", "accept the next suggestion"],
  ["+ −", "strength of the selected region"],
  ["N", "select the next region"],
  ["Delete", "delete the selected region"],
  ["Ctrl+Z, Ctrl+Shift+Z", "undo, redo"],
  ["B", "before and after, where there is a result"],
  ["Z, Shift+Z", "zoom in at the pointer, out (or Ctrl + wheel)"],
  ["O", "outlines: all, regions only, none"],
  ["S", "save"],
  ["?", "this help"],
];

const TYPED = "input:not([type=range]):not([type=checkbox]), select, textarea, [contenteditable]";

export function keysOf({ session, lists, tools, image, actions }) {
  by("keys-table").replaceChildren(
    ...TABLE.map(([keys, words]) => make("tr", {}, make("th", { scope: "row" }, keys), make("td", {}, words))),
  );
  const plain = {
    "[": () => session.turn(session.plane - 1),
    "]": () => session.turn(session.plane + 1),
    a: () => lists.acceptNext(),
    o: () => actions.outlines(),
    s: () => actions.save(),
    "?": () => actions.help(),
    "+": () => lists.strengthen(1),
    "=": () => lists.strengthen(1),
    "-": () => lists.strengthen(-1),
    n: () => {
      const ids = lists.regions.map(({ id }) => id);
      if (ids.length) lists.choose(ids[(ids.indexOf(lists.chosen) + 1) % ids.length]);
    },
    b: () => image.flip(),
    z: () => image.zoom(1, tools.point ?? [0, 0]),
    Z: () => image.zoom(-1, tools.point ?? [0, 0]),
    Delete: () => lists.remove(),
    Backspace: () => lists.remove(),
  };
  document.addEventListener("keydown", (event) => {
    if (!session.state || document.querySelector("dialog[open]")) return;
    const typing = event.target.matches?.(TYPED);
    if ((event.ctrlKey || event.metaKey) && !event.altKey && event.key.toLowerCase() === "z" && !typing) {
      event.preventDefault();
      if (event.shiftKey) actions.redo();
      else actions.undo();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || typing) return;
    if (tools.key(event)) return event.preventDefault();
    const tool = event.key.length === 1 ? TOOLS[event.key.toLowerCase()] : null;
    const action = plain[event.key] ?? (event.shiftKey ? null : plain[event.key.toLowerCase()]);
    if (tool) tools.use(tool);
    else if (action) action();
    else return;
    event.preventDefault();
  });
}
