// NIfTI-1 images as the server writes them: (column, row, plane), rows from anterior, columns from the patient's right,
// planes from the head. Anything else is refused rather than shown the wrong way round.

const READERS = { 2: Uint8Array, 4: Int16Array, 8: Int32Array, 16: Float32Array, 64: Float64Array, 512: Uint16Array };

async function unpacked(buffer) {
  const head = new Uint8Array(buffer, 0, 2);
  if (head[0] !== 0x1f || head[1] !== 0x8b) return buffer;
  const stream = new Blob([buffer]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

/** {file, data, size, planes, pixel, step, least, most}: `file` is the unpacked file, data are planes of rows. */
export async function readNifti(buffer) {
  const file = await unpacked(buffer);
  const view = new DataView(file);
  if (view.getInt32(0, true) !== 348) throw new Error("The image is not a little-endian NIfTI-1 file.");
  const [size, rows, planes] = [42, 44, 46].map((at) => view.getInt16(at, true));
  const [pixel, , step] = [80, 84, 88].map((at) => view.getFloat32(at, true));
  const Kind = READERS[view.getInt16(70, true)];
  if (!Kind || size !== rows) throw new Error("The image has a type or a shape that this page does not show.");
  const slopes = [280, 300, 320].map((at) => view.getFloat32(at, true)); // diagonal of the affine
  if (view.getInt16(254, true) > 0 && slopes.some((slope) => slope >= 0)) {
    throw new Error("The image is not stored from right to left, anterior to posterior, head to feet.");
  }
  const scale = view.getFloat32(112, true) || 1;
  const shift = view.getFloat32(112, true) ? view.getFloat32(116, true) : 0;
  const start = view.getFloat32(108, true);
  const raw = new Kind(file.slice(start, start + size * rows * planes * Kind.BYTES_PER_ELEMENT));
  const data = Float32Array.from(raw, (value) => value * scale + shift);
  return { file, data, size, planes, pixel, step, ...ends(data) };
}

function ends(data) {
  let [least, most] = [Infinity, -Infinity];
  for (const value of data) {
    if (value < least) least = value;
    if (value > most) most = value;
  }
  return { least, most };
}

/** `volume` less the planes of `other` from `first` on, which are read between its pixels where they are others. */
export function difference(volume, other, first) {
  const { size, pixel, planes } = volume;
  const data = new Float32Array(volume.data);
  const places = Array.from({ length: size }, (_, index) => {
    const at = ((index - (size - 1) / 2) * pixel) / other.pixel + (other.size - 1) / 2;
    const low = Math.min(Math.max(Math.floor(at), 0), other.size - 2);
    return { low, share: Math.min(Math.max(at - low, 0), 1), inside: at > -0.51 && at < other.size - 0.49 };
  });
  for (let plane = 0, index = 0; plane < planes; plane++) {
    const start = (first + plane) * other.size * other.size;
    for (const row of places) {
      for (const column of places) {
        if (row.inside && column.inside) {
          const corner = start + row.low * other.size + column.low;
          const along = (at) => other.data[at] + column.share * (other.data[at + 1] - other.data[at]);
          const above = along(corner);
          data[index] -= above + row.share * (along(corner + other.size) - above);
        }
        index++;
      }
    }
  }
  const head = new DataView(volume.file.slice(0, 352));
  head.setInt16(70, 16, true); // float32
  head.setInt16(72, 32, true);
  head.setFloat32(108, 352, true); // without extensions
  head.setFloat32(112, 1, true);
  head.setFloat32(116, 0, true);
  head.setUint32(348, 0, true);
  const file = new Uint8Array(352 + data.byteLength);
  file.set(new Uint8Array(head.buffer));
  file.set(new Uint8Array(data.buffer), 352);
  return { ...volume, file: file.buffer, data, ...ends(data) };
}

/** Value of a volume at a point of a plane (nearest pixel), or null outside. */
export function valueAt(volume, plane, x, y) {
  const half = (volume.size - 1) / 2;
  const column = Math.round(x / volume.pixel + half);
  const row = Math.round(half - y / volume.pixel);
  const outside = plane < 0 || plane >= volume.planes || Math.min(column, row) < 0;
  if (outside || Math.max(column, row) >= volume.size) return null;
  return volume.data[(plane * volume.size + row) * volume.size + column];
}
