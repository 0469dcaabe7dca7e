"use strict";
// One page over the service's own API. Everything that came from elsewhere is written as text, never as markup.

const byId = (id) => document.getElementById(id);
const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in element && name !== "list" && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
};
const percent = (p) => p > 0 && p < 5e-5 ? "<\u00a00.01\u00a0%" : p < 1 && p > 1 - 5e-5 ? ">\u00a099.99\u00a0%" : (p > 0.995 && p < 1) || (p < 0.005 && p > 0) ? `${(100 * p).toFixed(2)}\u00a0%` : `${(100 * p).toFixed(p > 0.1 && p < 0.9 ? 0 : 1)}\u00a0%`;
const number = (v) => v === null || v === undefined ? "" : typeof v !== "number" ? String(v) :
  Number.isInteger(v) && Math.abs(v) < 1e9 ? String(v) : Math.abs(v) >= 1e6 || (Math.abs(v) < 1e-4 && v !== 0) ? v.toExponential(2) : String(Number(v.toPrecision(4)));
const MS_PER_YEAR = 365.25 * 864e5; // dates are numbers to the model, in years since 1970
const dateOf = (years) => { const day = new Date(Math.round(years * MS_PER_YEAR)); return Number.isNaN(day.valueOf()) ? "" : day.toISOString().slice(0, 10); };
const shownAs = (input, v) => input && (v === null || v === undefined) ? "(missing)" : input?.kind === "date" && typeof v === "number" ? dateOf(v) :
  input?.kind === "boolean" ? (Number(v) ? "yes" : "no") : number(v);
const inputNamed = (name) => schema.inputs.find((one) => one.name === name);
const colourOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

let schema, row, last, faulty = new Set();

async function ask(address, body, signal) {
  const response = await fetch(address, body === undefined ? {} :
    { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal });
  const answer = await response.json();
  if (!response.ok) throw Object.assign(new Error(answer.errors[0].message), { faults: answer.errors });
  return answer;
}

// ---- the row
function fieldOf(input, index) {
  const id = `input-${index}`, fault = make("p", { class: "fault", id: `${id}-fault`, role: "alert" });
  fault.hidden = true;
  const field = make("div", { class: "field" }), label = make("label", { for: id }, input.name);
  field.dataset.name = input.name;
  const say = (message) => {
    fault.textContent = message; fault.hidden = !message;
    control.setAttribute("aria-invalid", String(Boolean(message)));
    message ? faulty.add(input.name) : faulty.delete(input.name);
  };
  let control, show;
  if (input.kind === "category") {
    control = make("select", { id });
    const labels = schema.takes_missing ? ["", ...input.categories] : input.categories;
    for (const one of labels) control.append(make("option", { value: one }, one === "" ? "(missing)" : one));
    control.addEventListener("change", () => change(input.name, control.value === "" ? null : control.value));
    show = (value) => { control.value = value ?? ""; };
    field.append(label, control);
  } else if (input.kind === "boolean") {
    control = make("input", { id, type: "checkbox" });
    control.addEventListener("change", () => change(input.name, control.checked));
    show = (value) => { control.checked = value === true || value === 1; };
    field.append(label, control);
  } else {
    const dated = input.kind === "date";
    control = make("input", dated ? { id, type: "date" } : { id, type: "text", inputmode: "decimal" });
    const slides = input.low !== null && input.high !== null && input.high > input.low;
    const slider = slides ? make("input", { type: "range", min: String(input.low), max: String(input.high),
      step: input.whole ? "1" : "any", "aria-label": `${input.name}, slider` }) : null;
    control.addEventListener("input", () => {
      const text = control.value.trim().replace(",", ".");
      if (text === "" && schema.takes_missing) { say(""); return change(input.name, null); }
      const value = dated ? Date.parse(text) / MS_PER_YEAR : Number(text);
      if (text === "" || !Number.isFinite(value)) {
        say(`Type a ${dated ? "date" : "number"}${slides ? `, usually ${shownAs(input, input.low)} to ${shownAs(input, input.high)}` : ""}.`);
        return stale();
      }
      say("");
      if (slider) slider.value = String(value);
      change(input.name, value);
    });
    if (slider) slider.addEventListener("input", () => {
      const value = dated ? Number(slider.value) : Number(Number(slider.value).toPrecision(5));
      control.value = shownAs(input, value); say(""); change(input.name, value);
    });
    show = (value) => { control.value = value === null ? "" : shownAs(input, value); if (slider && value !== null) slider.value = String(value); };
    field.append(label, control);
    if (slider) field.append(slider);
  }
  control.setAttribute("aria-describedby", fault.id);
  field.append(fault);
  field.say = say; field.show = (value) => { say(""); show(value); };
  return field;
}
const fields = () => [...byId("form").children];
const fieldNamed = (name) => fields().find((field) => field.dataset.name === name);
function change(name, value) { row[name] = value; schedule(); }
function showRow() { for (const field of fields()) field.show(row[field.dataset.name]); }

// ---- the answer
let timer, controller;
function stale() { for (const id of ["sentence", "bars"]) byId(id).classList.add("stale"); }
function schedule() { clearTimeout(timer); timer = setTimeout(update, 60); }
async function update() {
  stale();
  if (faulty.size) return;
  controller?.abort();
  controller = new AbortController();
  const { signal } = controller, asked = { ...row };
  try {
    const answer = await ask("predict", { rows: [asked] }, signal);
    last = answer.predictions[0];
    say("trouble", "");
    showAnswer(last, answer.notes);
    await Promise.all([showSurface(asked, signal), showNearest(asked, signal)]);
  } catch (error) {
    if (error.name === "AbortError") return;
    const known = (error.faults ?? []).filter((fault) => fieldNamed(fault.column));
    for (const fault of known) fieldNamed(fault.column).say(fault.message);
    if (!known.length) say("trouble", error.faults ? error.message : `The service does not answer (${error.message}).`);
  }
}
function say(id, text) { byId(id).textContent = text; byId(id).hidden = !text; }
const focusClass = () => schema.classes[schema.classes.length === 2 ? 1 : schema.classes.indexOf(last.label)];

function showAnswer(answer, notes) {
  const sentence = byId("sentence");
  const bars = byId("bars");
  for (const one of [sentence, bars]) one.classList.remove("stale");
  if (schema.task === "classification") {
    const name = answer.label;
    sentence.replaceChildren(`${schema.target}: `, make("strong", {}, name), ` with probability `,
      make("strong", {}, percent(answer.probabilities[name])),
      ` (90\u00a0% interval ${percent(answer.low[name])} to ${percent(answer.high[name])})`);
    const order = schema.classes.length === 2 ? [...schema.classes].reverse() :
      [...schema.classes].sort((a, b) => answer.probabilities[b] - answer.probabilities[a]).slice(0, 8);
    bars.replaceChildren(...order.map((one) => bar(one, answer.probabilities[one], answer.low[one], answer.high[one])));
    const most = Math.log(schema.classes.length);
    const [noise, ignorance] = [answer.aleatoric / most, answer.epistemic / most];
    showParts(noise, ignorance, `${percent(noise)} of the greatest possible doubt (${answer.aleatoric.toFixed(3)} nats)`,
      `${percent(ignorance)} (${answer.epistemic.toFixed(3)} nats)`);
  } else {
    sentence.replaceChildren(`${schema.target}: `, make("strong", {}, number(answer.mean)),
      ` (90\u00a0% interval ${number(answer.low)} to ${number(answer.high)})`);
    const reach = answer.high - answer.low || 1, left = answer.low - 0.3 * reach, wide = 1.6 * reach;
    const at = (v) => `${100 * (v - left) / wide}%`;
    const track = make("div", { class: "track" }), span = make("div", { class: "span" }), dot = make("div", { class: "dot" });
    span.style.left = at(answer.low); span.style.width = `${100 * reach / wide}%`; dot.style.left = at(answer.mean);
    track.append(span, dot);
    bars.replaceChildren(track, make("div", { class: "ends" }, make("span", {}, number(left)), make("span", {}, number(left + wide))));
    const total = answer.aleatoric + answer.epistemic || 1;
    showParts(answer.aleatoric / total, answer.epistemic / total,
      `${percent(answer.aleatoric / total)} of the variance (± ${number(Math.sqrt(answer.aleatoric))})`,
      `${percent(answer.epistemic / total)} (± ${number(Math.sqrt(answer.epistemic))})`);
  }
  byId("notes").replaceChildren(...notes.map((note) => make("li", {}, note)));
  byId("notes").hidden = !notes.length;
}
function bar(name, value, low, high) {
  const track = make("div", { class: "track" }), fill = make("div", { class: "fill" }), span = make("div", { class: "span" });
  fill.style.width = `${100 * value}%`;
  span.style.left = `${100 * low}%`; span.style.width = `${100 * Math.max(0, high - low)}%`;
  track.append(fill, span);
  return make("div", { class: "bar" }, make("span", { class: "label" }, name), track, make("span", { class: "value" }, percent(value)));
}
function showParts(noise, ignorance, noiseText, ignoranceText) {
  const [a, b, c] = byId("parts").children;
  a.style.width = `${100 * noise}%`; b.style.width = `${100 * ignorance}%`; c.style.flex = "1";
  byId("meaning").replaceChildren(make("dt", {}, "Noise"),
    make("dd", {}, noiseText, make("span", { class: "why" }, ": what would stay open however much data there were")),
    make("dt", { class: "ignorance" }, "Ignorance"),
    make("dd", {}, ignoranceText, make("span", { class: "why" }, ": what more data like this could still settle")));
}

// ---- the surface
let surface, drawn;
async function showSurface(asked, signal) {
  if (byId("place-card").hidden) return;
  const [first, second] = [byId("first").value, byId("second").value];
  surface = { ...(await ask("surface", { row: asked, first, second }, signal)), names: [first, second] };
  draw();
}
const MAPS = {
  probability: [[0, 114, 178], [255, 255, 255], [213, 94, 0]],
  amount: [[247, 250, 252], [120, 178, 215], [6, 60, 110]],
  ignorance: [[252, 250, 245], [235, 160, 70], [120, 40, 0]],
};
function colour(map, t) {
  const k = Math.min(1, Math.max(0, t)) * 2, i = Math.min(1, Math.floor(k)), f = k - i;
  return map[i].map((v, j) => v + (map[i + 1][j] - v) * f);
}
const MARKS = "●▲■◆▼✚"; // one for each of the first labels, who need not see colours; more could not be told apart
const OUTCOMES = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
function draw() {
  if (!surface) return;
  const canvas = byId("surface"), width = canvas.clientWidth, height = Math.min(420, Math.max(280, Math.round(width * 0.7)));
  const ratio = devicePixelRatio || 1, n = surface.first.length;
  canvas.style.height = `${height}px`; canvas.width = width * ratio; canvas.height = height * ratio;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.clearRect(0, 0, width, height);
  const what = byId("show").value, labelled = schema.task === "classification";
  const k = labelled ? schema.classes.indexOf(byId("class").value || focusClass()) : 0;
  const values = what === "epistemic" ? surface.epistemic : labelled ? surface.mean.map((line) => line.map((p) => p[k])) : surface.mean;
  const flat = values.flat();
  let low = Math.min(...flat), high = Math.max(...flat);
  if (what === "epistemic") low = 0;
  else if (labelled) [low, high] = [0, 1];
  if (!(high > low)) high = low + 1;
  const map = what === "epistemic" ? MAPS.ignorance : labelled ? MAPS.probability : MAPS.amount;
  const image = new ImageData(n, n);
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) {
    const [r, g, b] = colour(map, (values[n - 1 - i][j] - low) / (high - low));
    image.data.set([r, g, b, 255], 4 * (i * n + j));
  }
  const small = make("canvas"); small.width = small.height = n;
  small.getContext("2d").putImageData(image, 0, 0);
  const scale = 64, box = { left: 58, top: 8, width: width - 58 - 8 - scale, height: height - 8 - 40 };
  const [x0, x1] = [surface.first[0], surface.first[n - 1]], [y0, y1] = [surface.second[0], surface.second[n - 1]];
  const px = (x) => box.left + (x - x0) / (x1 - x0) * box.width, py = (y) => box.top + (y1 - y) / (y1 - y0) * box.height;
  drawn = { box, x0, x1, y0, y1 };
  context.imageSmoothingQuality = "high";
  // The grid's values stand in the middle of its pixels: half a pixel of the picture lies beyond the box.
  context.save();
  context.beginPath(); context.rect(box.left, box.top, box.width, box.height); context.clip();
  const step = [box.width / (n - 1), box.height / (n - 1)];
  context.drawImage(small, box.left - step[0] / 2, box.top - step[1] / 2, box.width + step[0], box.height + step[1]);
  if (surface.points) surface.points[0].forEach((x, i) => {
    const y = surface.points[1][i];
    if (x === null || y === null) return;
    const which = labelled && surface.outcomes ? schema.classes.indexOf(surface.outcomes[i]) : -1;
    mark(context, px(x), py(y), which);
  });
  context.restore();
  context.strokeStyle = context.fillStyle = colourOf("--ink");
  context.lineWidth = 1;
  context.strokeRect(box.left, box.top, box.width, box.height);
  if (surface.names.every((name) => typeof row[name] === "number")) {
    const here = [px(row[surface.names[0]]), py(row[surface.names[1]])];
    context.strokeStyle = "#fff"; cross(context, ...here, 11, 4); context.strokeStyle = "#000"; cross(context, ...here, 11, 2);
  }
  const marks = surface.names.map((name, i) => {
    const [low, high] = [[x0, x1], [y0, y1]][i];
    return inputNamed(name).kind === "date" ? dateTicks(low, high, 5) : ticks(low, high, 5).map((t) => [t, number(t)]);
  });
  context.font = "12px system-ui, sans-serif";
  context.textAlign = "center"; context.textBaseline = "top";
  for (const [t, text] of marks[0]) context.fillText(text, px(t), box.top + box.height + 4);
  context.fillText(surface.names[0], box.left + box.width / 2, box.top + box.height + 21);
  context.textAlign = "right"; context.textBaseline = "middle";
  for (const [t, text] of marks[1]) context.fillText(text, box.left - 4, py(t));
  context.save();
  context.translate(9, box.top + box.height / 2); context.rotate(-Math.PI / 2);
  context.textAlign = "center"; context.fillText(surface.names[1], 0, 0);
  context.restore();
  const right = box.left + box.width + 14;
  for (let i = 0; i < box.height; i++) {
    const [r, g, b] = colour(map, 1 - i / box.height);
    context.fillStyle = `rgb(${r}, ${g}, ${b})`; context.fillRect(right, box.top + i, 12, 1.5);
  }
  context.fillStyle = colourOf("--ink"); context.textAlign = "left";
  for (const t of ticks(low, high, 4)) context.fillText(labelled && what === "mean" ? `${Math.round(100 * t)} %` : number(t), right + 15, box.top + box.height * (1 - (t - low) / (high - low)));
  const of = what === "epistemic" ? `Ignorance (${schema.unit})` : labelled ? `Probability of ${schema.classes[k]}` : schema.target;
  const at = surface.names.map((name) => `${name} ${shownAs(inputNamed(name), row[name])}`).join(", ");
  canvas.setAttribute("aria-label", `${of} over ${surface.names[0]} and ${surface.names[1]}: from ${number(Math.min(...flat))} to ${number(Math.max(...flat))}. This row lies at ${at}.`);
  byId("surface-hint").textContent = `${of}; the other inputs as in the row, which the cross marks. ${surface.points ? (labelled && surface.outcomes ? `Marks are training rows: ${[...schema.classes.slice(0, MARKS.length).map((one, i) => `${MARKS[i]} ${one}`), ...(schema.classes.length > MARKS.length ? ["○ others"] : [])].join(", ")}. ` : "Marks are training rows. ") : ""}Click to move the row.`;
}
function mark(context, x, y, which) {
  context.beginPath();
  if (which === 1) { context.moveTo(x, y - 4.5); context.lineTo(x + 4, y + 3); context.lineTo(x - 4, y + 3); context.closePath(); }
  else if (which === 2) context.rect(x - 3, y - 3, 6, 6);
  else if (which === 3) { context.moveTo(x, y - 4); context.lineTo(x + 4, y); context.lineTo(x, y + 4); context.lineTo(x - 4, y); context.closePath(); }
  else if (which === 4) { context.moveTo(x, y + 4.5); context.lineTo(x + 4, y - 3); context.lineTo(x - 4, y - 3); context.closePath(); }
  else if (which === 5) { context.rect(x - 4.5, y - 1.7, 9, 3.4); context.rect(x - 1.7, y - 4.5, 3.4, 9); }
  else context.arc(x, y, 3.2, 0, 7);
  context.fillStyle = which < 0 ? "#444" : which < MARKS.length ? OUTCOMES[which] : "#fff8";
  context.strokeStyle = which < MARKS.length ? "#fff" : "#444"; context.lineWidth = 1;
  if (which === 5) context.stroke(); // else the arms of the cross would be cut apart
  context.fill();
  if (which !== 5) context.stroke();
}
function cross(context, x, y, size, width) {
  context.lineWidth = width;
  context.beginPath(); context.moveTo(x - size, y); context.lineTo(x + size, y); context.moveTo(x, y - size); context.lineTo(x, y + size); context.stroke();
}
function ticks(low, high, about) {
  const rough = (high - low) / about, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) found.push(Number((k * step).toPrecision(12)));
  return found;
}
// Dates at the beginnings of years or months, or of days where there are few.
function dateTicks(low, high, about) {
  const months = 12 * (high - low) / about;
  if (months < 1) return ticks(low, high, about).map((t) => [t, dateOf(t)]).filter(([, text], i, all) => !i || text !== all[i - 1][1]);
  const step = [1, 2, 3, 6, 12, 24, 60, 120, 240, 600, 1200].find((s) => s >= months) ?? 12 * Math.ceil(months / 12);
  const found = [], first = Math.ceil(12 * (1970 + low) / step) * step;
  for (let k = first - step; k <= 12 * (1970 + high) + 1; k += step) {
    const t = Date.UTC(Math.floor(k / 12), k % 12) / MS_PER_YEAR;
    if (t >= low && t <= high) found.push([t, step % 12 ? dateOf(t).slice(0, 7) : String(Math.floor(k / 12))]);
  }
  return found;
}
function move(event) {
  if (!drawn) return;
  const { box, x0, x1, y0, y1 } = drawn, place = byId("surface").getBoundingClientRect();
  const across = (event.clientX - place.left - box.left) / box.width, up = 1 - (event.clientY - place.top - box.top) / box.height;
  if (across < 0 || across > 1 || up < 0 || up > 1) return;
  [[0, x0 + across * (x1 - x0)], [1, y0 + up * (y1 - y0)]].forEach(([i, value]) => {
    const name = surface.names[i], { whole, kind } = inputNamed(name);
    row[name] = kind === "date" ? value : whole ? Math.round(value) : Number(value.toPrecision(4));
    fieldNamed(name).show(row[name]);
  });
  schedule();
}

// ---- the nearest rows
async function showNearest(asked, signal) {
  if (byId("near-card").hidden) return;
  const found = await ask("nearest", { row: asked }, signal);
  const shown = schema.inputs.slice(0, 8).map((one) => one.name);
  const head = make("tr", {}, ...["distance", ...(found.outcomes ? [schema.target] : []), ...shown].map((name) => make("th", { scope: "col", ...(isNumber(name, found) ? { class: "number" } : {}) }, name)));
  const lines = found.rows.map((one, i) => make("tr", {}, cell(Number(found.distance[i].toPrecision(3))), ...(found.outcomes ? [cell(found.outcomes[i])] : []), ...shown.map((name) => cell(one[name], inputNamed(name)))));
  byId("near-table").replaceChildren(make("thead", {}, head), make("tbody", {}, ...lines));
  let sentence = "";
  if (found.outcomes && schema.task === "classification") {
    const counts = {};
    for (const one of found.outcomes) counts[one] = (counts[one] ?? 0) + 1;
    sentence = `Of the ${found.outcomes.length} nearest, ${Object.entries(counts).sort((a, b) => b[1] - a[1]).map(([name, count]) => `${count} ${count === 1 ? "was" : "were"} ${name}`).join(" and ")}.`;
  } else if (found.outcomes) {
    const seen = found.outcomes.filter((v) => typeof v === "number");
    sentence = `Their ${schema.target} ran from ${number(Math.min(...seen))} to ${number(Math.max(...seen))}.`;
  }
  byId("near-sentence").textContent = `${sentence} Distance in standard deviations of an input, on average.`.trim();
}
function isNumber(name, found) { return name === "distance" || typeof (name === schema.target ? found.outcomes?.[0] : found.rows[0]?.[name]) === "number"; }
function cell(value, input) { return make("td", typeof value === "number" ? { class: "number" } : {}, shownAs(input, value)); }

// ---- many rows
async function send(event) {
  event.preventDefault();
  const file = byId("file").files[0], share = Number(byId("refer").value) / 100;
  say("upload-trouble", "");
  byId("downloads").hidden = byId("referred-place").hidden = true;
  if (!file) return say("upload-trouble", "Choose a file first.");
  if (!(share >= 0 && share <= 1)) return say("upload-trouble", "The share to refer is a number from 0 to 100.");
  byId("send").disabled = true;
  byId("upload-status").textContent = `Predicting ${file.name} …`;
  try {
    const response = await fetch(`upload?refer=${share}`, { method: "POST", headers: { "Content-Type": "text/csv" }, body: file });
    if (!response.ok) {
      const { errors } = await response.json();
      throw new Error(errors.map((e) => `${e.row ? `Row ${e.row}: ` : ""}${e.column && e.row ? `${e.column}: ` : ""}${e.message}`).join("\n"));
    }
    const text = await response.text(), lines = text.trimEnd().split("\n");
    const referred = lines.filter((line, i) => i === 0 || line.endsWith(",yes"));
    for (const [id, content] of [["all", text], ["referred", referred.join("\n") + "\n"]]) {
      URL.revokeObjectURL(byId(id).href);
      byId(id).href = URL.createObjectURL(new Blob([content], { type: "text/csv" }));
    }
    byId("downloads").hidden = false;
    byId("upload-status").textContent = `${(lines.length - 1).toLocaleString("en")} rows predicted, ${(referred.length - 1).toLocaleString("en")} to refer.`;
    const cells = referred.slice(0, 11).map((line) => split(line));
    byId("referred-table").replaceChildren(make("thead", {}, make("tr", {}, ...cells[0].map((c) => make("th", { scope: "col" }, c)))),
      make("tbody", {}, ...cells.slice(1).map((line) => make("tr", {}, ...line.map((c) => cell(c !== "" && Number.isFinite(Number(c)) ? Number(c) : c))))));
    byId("referred-place").hidden = referred.length < 2;
  } catch (error) {
    byId("upload-status").textContent = "";
    say("upload-trouble", error.message);
  } finally {
    byId("send").disabled = false;
  }
}
function split(line) { // one line of CSV
  return [...line.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^,]*))/g)].map((m) => m[1] !== undefined ? m[1].replaceAll('""', '"') : m[2]);
}

// ---- the start
async function start() {
  schema = await ask("schema");
  row = { ...schema.start };
  document.title = `${schema.name} · Posterion`;
  byId("name").textContent = schema.name;
  byId("lead").textContent = schema.task === "classification" ?
    `Predicts ${schema.target} (${schema.classes.join(", ")}) from ${schema.inputs.length} inputs, and says how sure it is.` :
    `Predicts ${schema.target} from ${schema.inputs.length} inputs, and says how sure it is.`;
  byId("form").append(...schema.inputs.map(fieldOf));
  byId("form").addEventListener("submit", (event) => event.preventDefault());
  byId("reset").addEventListener("click", () => { row = { ...schema.start }; showRow(); schedule(); });
  byId("filter-place").hidden = schema.inputs.length <= 8;
  byId("filter").addEventListener("input", () => {
    const wanted = byId("filter").value.trim().toLowerCase();
    for (const field of fields()) field.hidden = !field.dataset.name.toLowerCase().includes(wanted);
  });
  const numbers = schema.inputs.filter((one) => one.kind === "number" || one.kind === "date").map((one) => one.name);
  if (numbers.length >= 2) {
    byId("place-card").hidden = false;
    for (const id of ["first", "second"]) {
      byId(id).append(...numbers.map((name) => make("option", { value: name }, name)));
      byId(id).addEventListener("change", (event) => {
        const other = byId(id === "first" ? "second" : "first");
        if (other.value === event.target.value) other.value = numbers.find((name) => name !== other.value);
        schedule();
      });
    }
    byId("second").value = numbers[1];
    byId("show").addEventListener("change", draw);
    if (schema.classes.length > 2) {
      byId("class-place").hidden = false;
      byId("class").append(...schema.classes.map((name) => make("option", { value: name }, name)));
      byId("class").addEventListener("change", draw);
    }
    byId("surface").addEventListener("click", move);
    addEventListener("resize", draw);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  }
  byId("near-card").hidden = !schema.has_training_rows;
  byId("upload-form").addEventListener("submit", send);
  showRow();
  await update();
}
start().catch((error) => say("trouble", `The service does not answer (${error.message}).`));
