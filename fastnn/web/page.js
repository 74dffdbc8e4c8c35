"use strict";
const $ = id => document.getElementById(id);
const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const pad = $("pad"), context = pad.getContext("2d");
let strokes = [], current = null, picture = null, file = null, asking = false, again = false;
let turn = 0;  // of what is looked at: an answer to something older is not shown

// drawing

function redraw() {
  context.clearRect(0, 0, pad.width, pad.height);
  if (picture) {
    const scale = Math.min(pad.width / picture.width, pad.height / picture.height);
    const w = picture.width * scale, h = picture.height * scale;
    context.drawImage(picture, (pad.width - w) / 2, (pad.height - h) / 2, w, h);
  }
  context.lineCap = context.lineJoin = "round";
  context.strokeStyle = context.fillStyle = colour("--ink");
  for (const stroke of strokes) {
    context.lineWidth = stroke.pen;
    context.beginPath();
    context.moveTo(stroke[0].x, stroke[0].y);
    for (let n = 1; n < stroke.length - 1; n++) {  // through the middles of the points: smooth at any speed
      const p = stroke[n], q = stroke[n + 1];
      context.quadraticCurveTo(p.x, p.y, (p.x + q.x) / 2, (p.y + q.y) / 2);
    }
    const end = stroke[stroke.length - 1];
    context.lineTo(end.x + (stroke.length === 1 ? 0.01 : 0), end.y);
    context.stroke();
  }
}

function pointOf(event) {
  const box = pad.getBoundingClientRect();
  return { x: (event.clientX - box.left) * pad.width / box.width, y: (event.clientY - box.top) * pad.height / box.height };
}

pad.addEventListener("pointerdown", event => {
  if (event.button || current) return;
  event.preventDefault();
  pad.focus({ preventScroll: true });
  pad.setPointerCapture(event.pointerId);
  picture = null;
  turn++;
  current = [pointOf(event)];
  current.pen = +$("pen").value;
  current.id = event.pointerId;
  strokes.push(current);
  changed();
});
pad.addEventListener("pointermove", event => {
  if (!current || event.pointerId !== current.id) return;
  const events = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
  for (const one of events.length ? events : [event]) {
    const p = pointOf(one), q = current[current.length - 1];
    if (Math.hypot(p.x - q.x, p.y - q.y) >= 1) current.push(p);
  }
  changed();
});
for (const kind of ["pointerup", "pointercancel"]) {
  pad.addEventListener(kind, event => { if (current && event.pointerId === current.id) { current = null; changed(); } });
}

function undo() { turn++; if (picture) picture = null; else strokes.pop(); changed(); }
function clear() { turn++; strokes = []; picture = null; current = null; changed(); }
$("undo").onclick = undo;
$("clear").onclick = clear;
addEventListener("keydown", event => {
  if ($("draw").hidden || event.target.matches("input:not([type=range]), select")) return;
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") { event.preventDefault(); undo(); }
  else if (event.key === "Escape" || event.key === "Delete") clear();
});

// answers

function changed() { redraw(); ask(); }

async function ask() {
  if (picture) return;
  if (asking) { again = true; return; }
  asking = true;
  do {
    again = false;
    const pixels = pixelsOfStrokes(strokes);
    await tell(turn, async () => [await fastnnPredict(pixels), pixels]);
  } while (again);
  asking = false;
}

async function tell(mine, find) {  // what is found, or why nothing is, unless something else is looked at by then
  try {
    const [answer, pixels] = await find();
    if (mine === turn) show(answer, pixels);
  } catch (error) { if (mine === turn) say(error.message); }
}

async function request(path, options) {
  let response;
  try { response = await fetch(path, options); } catch { throw new Error("the server does not answer"); }
  const found = await response.json();
  if (!response.ok) throw new Error(found.error);
  return found;
}

// an exported page has its own
self.fastnnPredict ??= async pixels => {
  const path = "/predict?model=" + encodeURIComponent($("model").value);
  const body = JSON.stringify({ pixels: Array.from(pixels) });
  return (await request(path, { method: "POST", headers: { "content-type": "application/json" }, body })).predictions[0];
};

function show(answer, pixels) {
  const said = { sure: answer.label, unsure: `unsure, perhaps ${answer.label}`, nothing: "no digit" };
  say(said[answer.verdict], answer.verdict);
  const list = $("bars"), names = Object.keys(answer.probabilities);
  if (list.children.length !== names.length || list.dataset.names !== names.join()) {
    list.replaceChildren(...names.map(name => {
      const row = document.createElement("li");
      row.innerHTML = '<span class="name"></span><span class="bar"><i></i></span><span class="share"></span>';
      row.firstChild.textContent = name;
      return row;
    }));
    list.dataset.names = names.join();
  }
  names.forEach((name, n) => {
    const p = answer.verdict === "nothing" ? 0 : answer.probabilities[name], row = list.children[n];
    row.className = p && name === answer.label ? "best" : "";
    row.querySelector("i").style.transform = `scaleX(${p})`;
    row.lastChild.textContent = (100 * p).toFixed(1) + " %";
  });
  const view = $("seen").getContext("2d"), image = view.createImageData(28, 28);
  pixels.forEach((v, n) => image.data.set([255 - v, 255 - v, 255 - v, 255], 4 * n));
  view.putImageData(image, 0, 0);
}

function say(text, kind = "unsure") {
  if ($("verdict").textContent !== text) $("verdict").textContent = text;
  $("verdict").className = kind;
}

// pictures: dropped, pasted, chosen

async function read(chosen) {
  if (!chosen) return;
  again = false;  // of the drawing, nothing more is asked
  const mine = ++turn, seen = await createImageBitmap(chosen).catch(() => null);
  if (mine !== turn) return;
  file = chosen;
  strokes = [];
  picture = seen;
  redraw();
  await tell(mine, async () => {
    if (self.fastnnPicture) {
      if (!picture) throw new Error("not a picture");
      const pixels = fastnnPicture(picture);
      return [await fastnnPredict(pixels), pixels];
    }
    const path = "/predict?pixels=1&model=" + encodeURIComponent($("model").value);
    const body = file.size > 900000 && picture ? await smaller(picture) : file;
    const options = { method: "POST", headers: { "content-type": "application/octet-stream" }, body };
    const answer = (await request(path, options)).predictions[0];
    return [answer, Uint8Array.from(atob(answer.pixels), c => c.charCodeAt(0))];
  });
}

async function smaller(bitmap) {  // a photo of a phone is larger than what the server takes
  const scale = Math.min(1, 1200 / Math.max(bitmap.width, bitmap.height));
  const canvas = new OffscreenCanvas(Math.round(bitmap.width * scale), Math.round(bitmap.height * scale));
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas.convertToBlob({ type: "image/jpeg", quality: 0.9 });
}

$("file").onchange = event => { read(event.target.files[0]); event.target.value = ""; };
addEventListener("paste", event => read([...event.clipboardData.files][0]));
addEventListener("dragover", event => { event.preventDefault(); pad.classList.add("over"); });
addEventListener("dragleave", () => pad.classList.remove("over"));
addEventListener("drop", event => { event.preventDefault(); pad.classList.remove("over"); read(event.dataTransfer.files[0]); });

// tabs

const tabs = [...document.querySelectorAll("[role=tab]")];
function select(tab) {
  for (const one of tabs) {
    const on = one === tab;
    one.setAttribute("aria-selected", on);
    one.tabIndex = on ? 0 : -1;
    $(one.getAttribute("aria-controls")).hidden = !on;
  }
}
tabs.forEach((tab, n) => {
  tab.onclick = () => select(tab);
  tab.onkeydown = event => {
    if (event.key !== "ArrowRight" && event.key !== "ArrowLeft") return;
    const other = tabs[(n + 1) % tabs.length];
    select(other);
    other.focus();
  };
});

// training

const form = $("settings");
let source = null, watched = [];

function option(value) {
  const made = document.createElement("option");
  made.value = made.textContent = value;
  return made;
}

async function listModels(chosen) {
  const found = await request("/models");
  $("model").replaceChildren(...found.models.map(one => option(one.name)));
  if (chosen) $("model").value = chosen;
  if (!found.train) { $("tab-train").hidden = true; return; }
  if (!form.optimizer.children.length) {
    form.optimizer.replaceChildren(...found.train.optimizers.map(option));
    form.data.replaceChildren(...found.train.data.map(option));
  }
}

form?.addEventListener("submit", async event => {
  event.preventDefault();
  const asked = Object.fromEntries(new FormData(form));
  try {
    await request("/train", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(asked) });
    watch();
  } catch (error) { $("state").textContent = error.message; }
});
if ($("stop")) $("stop").onclick = () => request("/train/stop", { method: "POST", headers: { "content-type": "application/json" }, body: "{}" }).catch(error => { $("state").textContent = error.message; });

function watch() {
  source?.close();
  watched = [];
  plot();
  running(true);
  $("state").textContent = "loading data and kernels …";
  source = new EventSource("/train/events");
  source.onmessage = message => {
    const event = JSON.parse(message.data);
    if (event.event === "epoch") { watched.push(event); plot(); }
    $("state").textContent = event.text;
    if (event.event === "done" || event.event === "failed") {
      source.close();
      running(false);
      if (event.model) listModels(event.model).then(ask);
    }
  };
  source.onerror = () => { source.close(); running(false); $("state").textContent = "the server does not answer"; };
}

function running(on) { $("start").disabled = on; $("stop").disabled = !on; }

function plot() {
  curves($("loss"), [["loss", []]], true);
  curves($("accuracy"), [["accuracy", []], ["test_accuracy", [6, 4]]], false);
}

function curves(canvas, lines, logarithmic) {
  const g = canvas.getContext("2d"), w = canvas.width, h = canvas.height, edge = { l: 52, r: 10, t: 10, b: 24 };
  g.clearRect(0, 0, w, h);
  if (!watched.length) return;
  const values = lines.flatMap(([key]) => watched.map(e => e[key])).filter(Number.isFinite);
  const f = logarithmic ? v => Math.log10(Math.max(v, 1e-6)) : v => v;
  let low = Math.min(...values.map(f)), high = logarithmic ? Math.max(...values.map(f)) : 1;
  if (high - low < 1e-3) { low -= 5e-4; high += 5e-4; }
  const last = Math.max(2, watched[watched.length - 1].epochs);
  const x = epoch => edge.l + (epoch - 1) / (last - 1) * (w - edge.l - edge.r);
  const y = v => edge.t + (high - f(v)) / (high - low) * (h - edge.t - edge.b);
  g.font = "13px system-ui, sans-serif";
  g.fillStyle = g.strokeStyle = colour("--faint");
  for (const share of [0, 0.5, 1]) {
    const v = low + share * (high - low), shown = logarithmic ? (10 ** v).toPrecision(2) : (100 * v).toFixed(v < 1 ? 1 : 0) + "%";
    const at = edge.t + (1 - share) * (h - edge.t - edge.b);
    g.globalAlpha = 0.3; g.beginPath(); g.moveTo(edge.l, at); g.lineTo(w - edge.r, at); g.stroke(); g.globalAlpha = 1;
    g.textAlign = "right"; g.fillText(shown, edge.l - 6, at + 4);
  }
  g.textAlign = "center";
  g.fillText("1", x(1), h - 6); g.fillText(String(last), x(last) - 6, h - 6);
  lines.forEach(([key, dash], n) => {
    g.strokeStyle = g.fillStyle = colour(n ? "--unsure" : "--sure");
    g.lineWidth = 2.5; g.setLineDash(dash);
    g.beginPath();
    watched.filter(e => Number.isFinite(e[key])).forEach((e, i) => g[i ? "lineTo" : "moveTo"](x(e.epoch), y(e[key])));
    g.stroke(); g.setLineDash([]);
    const end = watched[watched.length - 1];
    if (Number.isFinite(end[key])) { g.beginPath(); g.arc(x(end.epoch), y(end[key]), 3.5, 0, 7); g.fill(); }
  });
}

// begin

$("model").onchange = () => picture ? read(file) : ask();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { redraw(); plot(); });
if (self.fastnnModels) $("model").replaceChildren(...fastnnModels.map(one => option(one.name)));
(self.fastnnModels ? Promise.resolve() : listModels()).then(ask).catch(error => say(error.message));
