// Small helpers for elements.

export const by = (id) => document.getElementById(id);

const ATTRIBUTES = ["for", "role"];

/** An element: properties by name (also `class`, `data-...`, `aria-...`, and `on...` listeners), then children. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name.includes("-") || ATTRIBUTES.includes(name)) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

export const option = (value, text = value) => make("option", { value }, text);

/** Keeps one child for the `id` of every item, in order: `create(item)`, then `update(child, item, index)`. */
export function reconcile(list, items, create, update) {
  const focused = list.contains(document.activeElement) ? document.activeElement : null;
  const place = focused ? [...list.children].findIndex((child) => child.contains(focused)) : -1;
  const action = focused?.dataset.action;
  const known = new Map([...list.children].map((child) => [child.dataset.key, child]));
  items.forEach((item, index) => {
    const key = String(item.id);
    let child = known.get(key);
    if (!child) {
      child = create(item);
      child.dataset.key = key;
    }
    known.delete(key);
    if (list.children[index] !== child) list.insertBefore(child, list.children[index] ?? null);
    update(child, item, index);
  });
  for (const child of known.values()) child.remove();
  if (focused && !focused.isConnected && list.children.length) {
    // who worked in a row that is gone goes on in the one that took its place
    const row = list.children[Math.min(Math.max(place, 0), list.children.length - 1)];
    (row.querySelector(`[data-action="${action}"]`) ?? row.querySelector("button, input"))?.focus();
  }
}
