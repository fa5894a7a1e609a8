// The one door to whatever draws the image. A viewer has
//   open(volume)              show a volume of nifti.js
//   setPlane(k)               a plane of it
//   setWindow(low, high)      what the first and the last colour stand for
//   setColours(name)          a map of colours.js
//   setField(side)            mm that fit into the host without zoom, whatever the volume
//   setZoom(zoom, x, y)       zoom and the point in mm that is in the middle
//   toMm(px, py), toCanvas(x, y)  CSS pixels of its host <-> mm
//   onchange                  called when that relation has changed
//   name                      for the page's note
// Overlays are drawn by overlay.js on a canvas of its own above it, by toCanvas alone.

import { CanvasViewer } from "./viewer_canvas.js";
import { NiivueViewer } from "./viewer_niivue.js";

/** NiiVue where WebGL2 is there, else our own. `?viewer=canvas` chooses by hand. Gives [viewer, note or ""]. */
export async function openViewer(host) {
  const wanted = new URLSearchParams(location.search).get("viewer");
  if (wanted !== "canvas") {
    try {
      if (!document.createElement("canvas").getContext("webgl2")) throw new Error("this browser has no WebGL2");
      return [await NiivueViewer.in(host), ""];
    } catch (error) {
      host.replaceChildren();
      return [new CanvasViewer(host), `The image is drawn without the graphics card: ${error.message}.`];
    }
  }
  return [new CanvasViewer(host), ""];
}
