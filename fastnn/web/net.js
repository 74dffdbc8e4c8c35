"use strict";
// The network of an exported page: its weights are in the page, and nothing leaves it.
const net = JSON.parse(document.getElementById("description").textContent);
const numbers = (() => {
  const text = atob(document.getElementById("weights").textContent.trim()), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return new Float32Array(bytes.buffer);
})();
const ACTIVATIONS = {
  "relu": z => Math.max(z, 0),
  "leaky-relu": z => z > 0 ? z : 0.01 * z,
  "gelu": z => z * 0.5 * erfc(-z / Math.SQRT2),
  "tanh": Math.tanh,
  "logistic": z => 1 / (1 + Math.exp(-z)),
  "identity": z => z,
};

/** 1 − erf(x), to 1.2e-7 of itself (Press et al., Numerical Recipes, erfcc). */
function erfc(x) {
  const t = 1 / (1 + 0.5 * Math.abs(x));
  const c = [0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807, -0.18628806, 0.09678418, 0.37409196, 1.00002368, -1.26551223];
  const value = t * Math.exp(-x * x + c.reduce((sum, one) => sum * t + one));
  return x >= 0 ? value : 2 - value;
}

/** Probabilities of 784 pixels: softmax((… f(x w + b) …) / temperature). */
function probabilities(pixels) {
  let a = Float64Array.from(pixels, v => v / 255), at = 0;
  if (net.scaling) a = a.map((v, n) => (v - net.scaling[0][n]) / net.scaling[1][n]);
  for (const [inputs, units, activation] of net.layers) {
    const z = new Float64Array(units);
    for (let k = 0; k < inputs; k++) {
      if (a[k] === 0) continue;
      const row = at + k * units;
      for (let h = 0; h < units; h++) z[h] += a[k] * numbers[row + h];
    }
    at += inputs * units;
    for (let h = 0; h < units; h++) z[h] = ACTIVATIONS[activation](z[h] + numbers[at + h]);
    at += units;
    a = z;
  }
  a = a.map(v => v / net.temperature);
  const top = Math.max(...a), e = a.map(v => Math.exp(v - top)), total = e.reduce((x, y) => x + y);
  return e.map(v => v / total);
}

self.fastnnModels = [net];
self.fastnnPredict = async pixels => {
  const p = probabilities(pixels), best = p.indexOf(Math.max(...p));
  const verdict = pixels.every(v => v === 0) ? "nothing" : p[best] < net.unsure_below ? "unsure" : "sure";
  return { label: net.classes[best], confidence: p[best], verdict, probabilities: Object.fromEntries(net.classes.map((name, n) => [name, p[n]])) };
};

/** A picture to 28x28: paper is what the border is made of, ink what differs by more than Otsu's threshold. */
self.fastnnPicture = bitmap => {
  const scale = Math.min(1, 400 / Math.max(bitmap.width, bitmap.height));
  const w = Math.max(1, Math.round(bitmap.width * scale)), h = Math.max(1, Math.round(bitmap.height * scale));
  const canvas = new OffscreenCanvas(w, h), g = canvas.getContext("2d");
  g.fillStyle = "#fff";
  g.fillRect(0, 0, w, h);
  g.drawImage(bitmap, 0, 0, w, h);
  const data = g.getImageData(0, 0, w, h).data, grey = new Float32Array(w * h), border = [];
  for (let i = 0; i < w * h; i++) {
    grey[i] = (0.299 * data[4 * i] + 0.587 * data[4 * i + 1] + 0.114 * data[4 * i + 2]) / 255;
    const x = i % w, y = i / w | 0;
    if (!x || !y || x === w - 1 || y === h - 1) border.push(grey[i]);
  }
  const paper = border.sort((a, b) => a - b)[border.length >> 1];
  let low = 1, high = 0;
  for (const v of grey) { low = Math.min(low, v); high = Math.max(high, v); }
  const out = new Uint8Array(784);
  if (high - low < 0.06) return out;
  const dark = paper > (low + high) / 2, ink = grey.map(v => Math.max(0, dark ? paper - v : v - paper));
  const top = ink.reduce((a, b) => Math.max(a, b)), level = otsu(ink, top);
  let [x0, y0, x1, y1] = [w, h, -1, -1];
  ink.forEach((v, i) => { if (v >= level) { x0 = Math.min(x0, i % w); x1 = Math.max(x1, i % w); y0 = Math.min(y0, i / w | 0); y1 = Math.max(y1, i / w | 0); } });
  const bw = x1 - x0 + 1, bh = y1 - y0 + 1, ratio = 20 / Math.max(bw, bh);
  let total = 0, row = 0, column = 0;
  for (let y = y0; y <= y1; y++) for (let x = x0; x <= x1; x++) {
    const v = Math.min(1, ink[y * w + x] / top * (ink[y * w + x] >= level / 2));
    total += v; row += v * (y - y0 + 0.5) * ratio; column += v * (x - x0 + 0.5) * ratio;
  }
  const dx = Math.round(clamp(14 - column / total, 0, 28 - bw * ratio)), dy = Math.round(clamp(14 - row / total, 0, 28 - bh * ratio));
  for (let r = 0; r < 28; r++) for (let c = 0; c < 28; c++) {  // the mean of what each pixel covers, 4 x 4 samples
    let sum = 0;
    for (let i = 0; i < 16; i++) {
      const y = y0 + (r - dy + (i >> 2) / 4 + 0.125) / ratio, x = x0 + (c - dx + (i & 3) / 4 + 0.125) / ratio;
      if (y >= y0 && y < y1 + 1 && x >= x0 && x < x1 + 1) { const v = ink[(y | 0) * w + (x | 0)]; sum += v >= level / 2 ? Math.min(1, v / (0.8 * top)) : 0; }
    }
    out[r * 28 + c] = Math.round(255 * sum / 16);
  }
  return out;
};

function otsu(values, top) {
  const counts = new Float64Array(64);
  for (const v of values) counts[Math.min(63, v / top * 64 | 0)]++;
  let best = 0, level = 32, below = 0, sum = 0;
  const total = values.length, mean = counts.reduce((s, n, i) => s + n * i, 0);
  for (let i = 0; i < 63; i++) {
    below += counts[i]; sum += counts[i] * i;
    if (!below || below === total) continue;
    const gap = sum / below - (mean - sum) / (total - below), value = below * (total - below) * gap * gap;
    if (value > best) { best = value; level = i + 1; }
  }
  return level / 64 * top;
}
