"use strict";
// Strokes or pictures to the 28x28 pixels that a network was trained on, as MNIST was made; and, in an exported page,
// the network itself. The same steps as in fastnn/images: box of 20, centre of mass in the middle.
const SIDE = 28, BOX = 20, PEN = 2.8;

/** Strokes [[{x, y}, …], …] → Uint8Array of 784, 0 paper to 255 ink; the pen is always as wide as MNIST's. */
function pixelsOfStrokes(strokes) {
  const points = strokes.flat();
  const out = new Uint8Array(SIDE * SIDE);
  if (!points.length) return out;
  const xs = points.map(p => p.x), ys = points.map(p => p.y);
  const left = Math.min(...xs), top = Math.min(...ys);
  const width = Math.max(...xs) - left, height = Math.max(...ys) - top;
  const scale = (BOX - PEN) / Math.max(width, height, 1e-6);
  const place = Math.max(width, height) < 1e-6 ? 0 : scale;
  // once to find the centre of mass, once with it in the middle
  let shift = { x: SIDE / 2 - place * (left + width / 2), y: SIDE / 2 - place * (top + height / 2) };
  for (let round = 0; round < 2; round++) {
    const ink = drawn(strokes.map(s => s.map(p => ({ x: p.x * place + shift.x, y: p.y * place + shift.y }))));
    let total = 0, row = 0, column = 0;
    for (let i = 0; i < ink.length; i++) {
      total += ink[i]; row += ink[i] * ((i / SIDE | 0) + 0.5); column += ink[i] * (i % SIDE + 0.5);
    }
    for (let i = 0; i < ink.length; i++) out[i] = Math.round(255 * ink[i]);
    if (!total) break;
    // MNIST's digits keep within 4 pixels of the box
    shift = { x: shift.x + clamp(SIDE / 2 + 0.5 - column / total, -4, 4), y: shift.y + clamp(SIDE / 2 + 0.5 - row / total, -4, 4) };
  }
  return out;
}

const clamp = (v, low, high) => Math.min(high, Math.max(low, v));

/** Ink of lines in units of pixels: clip(radius + 1/2 − distance, 0, 1). */
function drawn(strokes) {
  const ink = new Float32Array(SIDE * SIDE), radius = PEN / 2, reach = radius + 1;
  for (const stroke of strokes) {
    for (let n = 0; n < stroke.length; n++) {
      const a = stroke[Math.max(0, n - 1)], b = stroke[n];
      const dx = b.x - a.x, dy = b.y - a.y, square = Math.max(dx * dx + dy * dy, 1e-9);
      const rows = [Math.min(a.y, b.y) - reach, Math.max(a.y, b.y) + reach].map(Math.floor);
      const columns = [Math.min(a.x, b.x) - reach, Math.max(a.x, b.x) + reach].map(Math.floor);
      for (let r = Math.max(0, rows[0]); r <= Math.min(SIDE - 1, rows[1]); r++) {
        for (let c = Math.max(0, columns[0]); c <= Math.min(SIDE - 1, columns[1]); c++) {
          const t = clamp(((c + 0.5 - a.x) * dx + (r + 0.5 - a.y) * dy) / square, 0, 1);
          const far = Math.hypot(c + 0.5 - a.x - t * dx, r + 0.5 - a.y - t * dy);
          ink[r * SIDE + c] = Math.max(ink[r * SIDE + c], clamp(radius + 0.5 - far, 0, 1));
        }
      }
    }
  }
  return ink;
}
