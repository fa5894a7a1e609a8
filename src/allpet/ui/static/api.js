// Requests to the server. Every one carries the token of the page's own address.

const KEY = "allpet-token";
const token = new URLSearchParams(location.search).get("token") ?? sessionStorage.getItem(KEY) ?? "";
sessionStorage.setItem(KEY, token);

/** What the server, or the way to it, refused; the message is for people. */
export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function request(method, path, { json, body, signal } = {}) {
  const headers = { "X-Token": token };
  if (json !== undefined) {
    headers["Content-Type"] = "application/json";
    body = JSON.stringify(json);
  }
  let answer;
  try {
    answer = await fetch(path, { method, headers, body, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The server does not answer; is 'allpet ui' still running?", 0);
  }
  if (answer.ok) return answer;
  let message = `${answer.status} ${answer.statusText}`;
  try {
    message = (await answer.json()).error ?? message;
  } catch {
    // no JSON: the status has to do
  }
  throw new Refused(message, answer.status);
}

export const get = async (path, signal) => (await request("GET", path, { signal })).json();
export const post = async (path, json = {}) => (await request("POST", path, { json })).json();
export const send = async (path, body) => (await request("POST", path, { body })).json();
export const remove = async (path) => request("DELETE", path);
export const bytes = async (path, signal) => (await request("GET", path, { signal })).arrayBuffer();

/** Saves what the server gives as a file of the browser. */
export async function download(path, name) {
  const blob = await (await request("GET", path)).blob();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
