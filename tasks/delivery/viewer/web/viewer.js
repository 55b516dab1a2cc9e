"use strict";
(() => {
const get = id => document.getElementById(id);
const read = id => JSON.parse(get(id).textContent);
const data = read("data"), published = read("published");
const DASH = "–", EDGE = 0.02, BIN_HOURS = 0.25, BIN_DEGREES = 10, FEWEST = 3;

// text from the data is only ever inserted as text nodes
function make(name, text, attributes) {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
  return element;
}
function row(...cells) {
  const line = make("tr");
  cells.forEach((cell, i) => {
    const place = i ? make("td") : make("th", undefined, {scope: "row"});
    place.append(cell);
    line.append(place);
  });
  return line;
}
function head(table, ...names) {
  const line = make("tr");
  for (const name of names) line.append(make("th", name, {scope: "col"}));
  const top = make("thead");
  top.append(line);
  table.append(top);
}
// integers n, little-endian; a value is (first + n) / 10**digits, and the largest integer marks a missing value
function unpack(series) {
  const text = atob(series.data), width = series.width, missing = 256 ** width - 1;
  const values = new Array(text.length / width);
  for (let i = 0; i < values.length; i++) {
    let n = 0;
    for (let k = width - 1; k >= 0; k--) n = n * 256 + text.charCodeAt(i * width + k);
    const whole = series.first + n;
    values[i] = n === missing ? NaN : series.digits >= 0 ? whole / 10 ** series.digits : whole * 10 ** -series.digits;
  }
  return values;
}
const once = (owner, name, make) => name in owner ? owner[name] : (owner[name] = make());
const values = series => once(series, "values", () => unpack(series));
// a 0 has no sign, whether it is exact or all that its decimals show
const unsigned = text => /[1-9]/.test(text) ? text : text.replace("-", "");
const decimals = (value, digits) => unsigned(value.toFixed(Math.max(digits, 0)));
const fixed = (value, digits) => Number.isFinite(value) ? decimals(value, digits).replace("-", "−") : DASH;
const signed = value => (value >= 0.5 ? "+" : "") + fixed(value, 0);
const finite = values => values.filter(Number.isFinite);
function median(values) {
  const sorted = finite(values).sort((a, b) => a - b), n = sorted.length;
  return n ? (sorted[(n - 1) >> 1] + sorted[n >> 1]) / 2 : NaN;
}
// rounding leaves ticks at 0 with a tiny value
const tickTexts = ticks => ticks.map(t => Math.abs(t) < 1e-9 * Math.abs(ticks.at(-1) - ticks[0]) ? "0"
  : String(+t.toPrecision(12)).replace("-", "−"));
const ppmText = value => fixed(value, Math.abs(value) >= 100 || value === 0 ? 0 : Math.abs(value) >= 1 ? 1 : 3);

for (const set of data.sets) {
  set.event = unpack(set.event);
  set.quality = unpack(set.quality);
  set.index = unpack(set.index);
  set.bjd = unpack(set.bjd);
  const begin = finite(set.bjd).reduce((a, b) => Math.min(a, b), Infinity);
  set.begin = Math.min(begin, data.sets[0].begin === undefined ? Infinity : data.sets[0].begin);
  set.hours = set.bjd.map(t => 24 * (t - set.begin));
  set.roll = set.quantities.find(q => q.name === "roll");
  for (const own of Object.values(set.curves)) {
    const same = set.curves[own.same];
    if (same) Object.assign(own, {flux: same.flux, error: same.error});
  }
  set.flagsOf = set.event.map((event, i) => flagsOf(event, set.quality[i]));
}
function flagsOf(event, quality) {
  const flags = [];
  for (const digit of data.flags.event) {
    const value = Math.floor(event / digit.unit) % 10;
    const meaning = digit.meanings[value] || `digit ${value}`;
    if (value) flags.push({key: `E${digit.unit}`, label: digit.label, meaning, of: "EVENT"});
  }
  for (const {value, label, meaning} of data.flags.quality)
    if (Math.floor(quality / value) % 2) flags.push({key: `Q${value}`, label, meaning, of: "QUALITY"});
  return flags;
}

const NAMES = ["DEFAULT", "OPTIMAL", "PSF", "RINF", "RSUP", "R25_Fixed"];
const state = {
  curve: "DEFAULT", over: "time", unit: "ppm", bins: true, bars: false, whole: false, point: null, range: null,
  hidden: new Set(), panels: new Set(["background", "centroid", "roll", "contamination", "temperature"]),
};
const setOf = name => data.sets.find(s => name in s.curves);
const current = () => setOf(state.curve);
const curve = () => current().curves[state.curve];
const overRoll = () => state.over === "roll" && current().roll !== undefined;
const plots = [];

// the visible points of the current curve: indices into its set, sorted along the x axis
function view() {
  const set = current(), own = curve(), flux = values(own.flux), error = values(own.error);
  const along = overRoll() ? values(set.roll).map(a => (a % 360 + 360) % 360) : set.hours;
  const good = flux.map((f, i) => !set.flagsOf[i].length && f > 0);
  const kept = good.some(Boolean) ? flux.filter((_, i) => good[i]) : flux;
  const level = median(kept);
  const order = [...flux.keys()].filter(i => Number.isFinite(along[i]) && Number.isFinite(flux[i])
    && set.flagsOf[i].every(f => !state.hidden.has(f.key))).sort((a, b) => along[a] - along[b] || a - b);
  const scale = state.unit === "ppm" && level > 0 ? 1e6 / level : 1;
  const shift = state.unit === "ppm" && level > 0 ? 1e6 : 0;
  return {set, order, along, good, level, x: order.map(i => along[i]),
    main: {name: "flux", label: `flux ${state.curve}`, unit: state.unit === "ppm" ? "ppm from the median" : "electrons",
      series: [{label: "flux", y: order.map(i => flux[i] * scale - shift)}],
      bars: state.bars ? order.map(i => error[i] * scale) : null}};
}
function panelsOf(set) {
  const by = Object.fromEntries(set.quantities.map(q => [q.name, q]));
  const all = [];
  for (const q of set.quantities) {
    if (q.name === "y" && by.x) continue;
    if (q.name === "x" && by.y) all.push({name: "centroid", label: "centroid x, y − median", unit: q.unit, of: [by.x, by.y]});
    else all.push({name: q.name, label: q.label, unit: q.unit, of: [q]});
  }
  return all;
}

let colours = {};
function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["ink", "soft", "line", "grid", "good", "bad", "median", "pick", "back"])
    colours[name] = style.getPropertyValue(`--${name}`).trim();
}
// The range of an axis follows the good points: the running median of three points, which ignores single outliers,
// plus a margin. Neighbours in roll angle are not neighbours in time, so there the range holds all points but 0.3 % at
// either end.
function limits(values) {
  if (values.length < FEWEST) { const m = values[0] || 0, d = Math.abs(m) * 0.01 || 1; return [m - d, m + d]; }
  if (overRoll()) {
    const sorted = [...values].sort((a, b) => a - b), last = sorted.length - 1, cut = Math.floor(0.003 * last);
    const low = sorted[cut], high = sorted[last - cut], margin = 0.12 * (high - low) || Math.abs(low) * 0.01 || 1;
    return [low - margin, high + margin];
  }
  let low = Infinity, high = -Infinity;
  const steps = [];
  for (let i = 1; i < values.length; i++) {
    steps.push(Math.abs(values[i] - values[i - 1]));
    if (i + 1 === values.length) break;
    const [a, b, c] = [values[i - 1], values[i], values[i + 1]], m = Math.max(Math.min(a, b), Math.min(Math.max(a, b), c));
    low = Math.min(low, m); high = Math.max(high, m);
  }
  const margin = Math.max(4 * 1.4826 * median(steps) / Math.SQRT2, 0.08 * (high - low)) || Math.abs(low) * 0.01 || 1;
  return [low - margin, high + margin];
}
function heights(now, panel, from, to) {
  const chosen = [], all = [];
  for (const series of panel.series) for (let k = 0; k < now.x.length; k++) {
    const y = series.y[k];
    if (now.x[k] < from || now.x[k] > to || !Number.isFinite(y)) continue;
    all.push(y);
    if (now.good[now.order[k]]) chosen.push(y);
  }
  if (state.whole && all.length) {
    const low = all.reduce((a, b) => Math.min(a, b)), high = all.reduce((a, b) => Math.max(a, b));
    const margin = 0.05 * (high - low) || Math.abs(low) * 0.01 || 1;
    return [low - margin, high + margin];
  }
  return limits(chosen.length ? chosen : all);
}
function medians(now, y) {
  const width = overRoll() ? BIN_DEGREES : BIN_HOURS, bins = new Map();
  now.x.forEach((x, k) => {
    if (!now.good[now.order[k]] || !Number.isFinite(y[k])) return;
    const bin = Math.floor(x / width);
    if (!bins.has(bin)) bins.set(bin, []);
    bins.get(bin).push(y[k]);
  });
  return [...bins].filter(([, inside]) => inside.length >= FEWEST).sort((a, b) => a[0] - b[0])
    .map(([bin, inside]) => [bin, (bin + 0.5) * width, median(inside)]);
}
function draw(u, now, panel) {
  const {ctx, bbox} = u, ratio = devicePixelRatio, inset = EDGE * bbox.height;
  const top = bbox.top + inset, bottom = bbox.top + bbox.height - inset;
  const size = (panel.name === "flux" ? 1.9 : 1.35) * ratio * (now.x.length < 100 ? 1.4 : 1);
  const at = y => Math.min(Math.max(u.valToPos(y, "y", true), top), bottom);
  ctx.save();
  ctx.beginPath(); ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height); ctx.clip();
  panel.series.forEach((series, which) => {
    const dots = new Path2D(), crosses = new Path2D(), bars = new Path2D();
    for (let k = 0; k < now.x.length; k++) {
      if (!Number.isFinite(series.y[k])) continue;
      const x = u.valToPos(now.x[k], "x", true), y = at(series.y[k]);
      if (x < bbox.left - 9 || x > bbox.left + bbox.width + 9) continue;
      if (panel.bars) {
        bars.moveTo(x, u.valToPos(series.y[k] - panel.bars[k], "y", true));
        bars.lineTo(x, u.valToPos(series.y[k] + panel.bars[k], "y", true));
      }
      if (now.good[now.order[k]]) {
        dots.moveTo(x + size, y);
        dots.arc(x, y, size, 0, 2 * Math.PI);
      } else {
        const d = size * 1.4;
        crosses.moveTo(x - d, y - d);
        crosses.lineTo(x + d, y + d);
        crosses.moveTo(x - d, y + d);
        crosses.lineTo(x + d, y - d);
      }
    }
    ctx.lineWidth = ratio; ctx.strokeStyle = colours.soft; ctx.globalAlpha = 0.45; ctx.stroke(bars); ctx.globalAlpha = 1;
    ctx.fillStyle = colours.good; ctx.strokeStyle = colours.good;
    if (which) { ctx.lineWidth = ratio * 0.9; ctx.stroke(dots); } else ctx.fill(dots);
    ctx.lineWidth = 1.2 * ratio; ctx.strokeStyle = colours.bad; ctx.stroke(crosses);
    if (panel.name === "flux" && state.bins) {
      const line = new Path2D();
      let last = null;
      for (const [bin, x, y] of medians(now, series.y)) {
        line[bin - 1 === last ? "lineTo" : "moveTo"](u.valToPos(x, "x", true), at(y));
        last = bin;
      }
      // an outline in the background colour sets the line off from the points
      ctx.lineJoin = "round"; ctx.lineWidth = 4 * ratio; ctx.strokeStyle = colours.back; ctx.stroke(line);
      ctx.lineWidth = 1.8 * ratio; ctx.strokeStyle = colours.median; ctx.stroke(line);
    }
    const picked = state.point === null ? -1 : now.order.indexOf(state.point);
    if (picked >= 0 && Number.isFinite(series.y[picked])) {
      ctx.strokeStyle = colours.pick; ctx.lineWidth = 2 * ratio;
      const x = u.valToPos(now.x[picked], "x", true), y = at(series.y[picked]);
      ctx.beginPath(); ctx.arc(x, y, 6 * ratio, 0, 2 * Math.PI); ctx.stroke();
      ctx.globalAlpha = 0.5; ctx.lineWidth = ratio;
      ctx.beginPath(); ctx.moveTo(x, bbox.top); ctx.lineTo(x, bbox.top + bbox.height); ctx.stroke();
      ctx.globalAlpha = 1;
    }
  });
  ctx.restore();
}

let now = null; // the view that is drawn
function wholeRange() {
  if (!now.x.length) return [0, 1];
  const low = now.x[0], high = now.x[now.x.length - 1], margin = 0.015 * (high - low) || 0.5;
  return [low - margin, high + margin];
}
const range = () => state.range || wholeRange();

function build() {
  now = view();
  // rebuilding the panels must not lose the focus
  const focused = document.activeElement && document.activeElement.closest ? document.activeElement.closest("figure") : null;
  const name = focused && focused.dataset.panel;
  for (const plot of plots.splice(0)) plot.destroy();
  get("plots").replaceChildren();
  const set = now.set, panels = panelsOf(set).filter(p => state.panels.has(p.name) && !(overRoll() && p.name === "roll"));
  plots.push(plot(now.main));
  for (const panel of panels) plots.push(plot({...panel, series: panel.of.map(q => {
    const all = values(q), middle = panel.of.length > 1 ? median(all.filter((_, i) => now.good[i])) || 0 : 0;
    return {label: q.label, y: now.order.map(i => all[i] - middle)};
  })}));
  if (name) { const again = get("plots").querySelector(`[data-panel="${CSS.escape(name)}"]`); if (again) again.focus(); }
  updateStatus();
}
function plot(panel) {
  const figure = make("figure", undefined, {tabindex: "0", role: "group", "data-panel": panel.name});
  const caption = make("figcaption");
  caption.append(make("b", panel.label), ` [${panel.unit}]${panel.of && panel.of.length > 1 ? ": x filled, y open" : ""}`);
  const across = overRoll() ? "roll angle" : "time";
  figure.setAttribute("aria-label", `${panel.label} in ${panel.unit} against ${across}, ${now.x.length} points. `
    + "Use the arrow keys to step from point to point.");
  figure.append(caption);
  get("plots").append(figure);
  const width = Math.max(figure.clientWidth, 200), narrow = innerWidth < 560;
  const axis = {
    stroke: colours.soft, font: "12px system-ui, sans-serif",
    grid: {stroke: colours.grid, width: 1}, ticks: {stroke: colours.line, width: 1, size: 5},
  };
  // tick spacings grow by factors of at most two: from 15 pixels on, every small panel has at least two labelled ticks
  const space = panel.name === "flux" ? 26 : 15;
  const height = panel.name === "flux" ? (narrow ? 260 : 330) : narrow ? 105 : 118;
  const u = new uPlot({
    width, height, legend: {show: false}, padding: [6, 12, 0, 0],
    scales: {x: {time: false, range: () => range()}, y: {range: (u, low, high) => heights(now, panel, ...range())}},
    axes: [{...axis, size: 30, space: 70, values: (u, ticks) => ticks.map(t => overRoll() ? `${t}°` : `${t} h`)},
      {...axis, size: 62, space, values: (u, ticks) => tickTexts(ticks)}],
    series: [{}, ...panel.series.map(s => ({label: s.label, paths: () => null, points: {show: false}}))],
    cursor: {
      sync: {key: "visit", scales: ["x", null]}, drag: {x: true, y: false, setScale: false},
      points: {show: false}, y: false, bind: {dblclick: () => () => setRange(null)},
    },
    hooks: {draw: [u => draw(u, now, panel)], setSelect: [u => {
      if (u.select.width > 2) setRange([u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")]);
      u.setSelect({left: 0, top: 0, width: 0, height: 0}, false);
    }], setCursor: [u => hover(u)]},
  }, [now.x, ...panel.series.map(s => s.y)], figure);
  let pressed = 0;
  u.over.addEventListener("mousedown", event => { pressed = event.clientX; });
  u.over.addEventListener("click", event => {
    if (Math.abs(event.clientX - pressed) > 3) return;
    const box = u.over.getBoundingClientRect();
    pick(nearest(u, panel, event.clientX - box.left, event.clientY - box.top));
  });
  u.over.addEventListener("wheel", event => {
    // with all points in view, scrolling further out scrolls the page
    if (event.deltaY >= 0 && !state.range) return;
    event.preventDefault();
    const sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY) ? event.deltaX : 0;
    const across = event.shiftKey ? event.deltaY || event.deltaX : sideways;
    if (across) pan(0.1 * Math.sign(across));
    else zoom(event.deltaY < 0 ? 0.8 : 1.25, u.posToVal(event.clientX - u.over.getBoundingClientRect().left, "x"));
  }, {passive: false});
  figure.addEventListener("keydown", keys);
  return u;
}
function nearest(u, panel, left, top) {
  let best = null, least = Infinity;
  for (const series of panel.series) for (let k = 0; k < now.x.length; k++) {
    if (!Number.isFinite(series.y[k])) continue;
    const dx = u.valToPos(now.x[k], "x") - left, height = u.over.clientHeight;
    const dy = Math.min(Math.max(u.valToPos(series.y[k], "y"), EDGE * height), (1 - EDGE) * height) - top;
    const away = dx * dx + dy * dy;
    if (away < least) { least = away; best = now.order[k]; }
  }
  return best;
}
function setRange(range) {
  const [low, high] = wholeRange();
  if (range) {
    let [from, to] = range;
    const least = (high - low) * 1e-4;
    if (to - from < least) { const middle = (from + to) / 2; from = middle - least / 2; to = middle + least / 2; }
    range = [Math.max(from, low), Math.min(to, high)];
    if (range[1] <= range[0] || range[1] - range[0] > 0.999 * (high - low)) range = null;
  }
  state.range = range;
  redraw();
}
function redraw() {
  for (const u of plots) u.setData(u.data, true);
  updateStatus();
}
function zoom(factor, about) {
  const [from, to] = range(), middle = about === undefined ? (from + to) / 2 : about;
  setRange([middle - (middle - from) * factor, middle + (to - middle) * factor]);
}
function pan(share) {
  if (!state.range) return;
  const [from, to] = state.range, [low, high] = wholeRange();
  const step = Math.min(Math.max(share * (to - from), low - from), high - to);
  setRange([from + step, to + step]);
}
function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const [from, to] = range(), step = event.shiftKey ? 10 : 1, last = now.order.length - 1;
  const place = now.order.indexOf(state.point), about = place < 0 ? undefined : now.x[place];
  const begin = now.x.findIndex(x => x >= from);
  const go = where => {
    if (last < 0) return;
    const k = Math.min(Math.max(where, 0), last), x = now.x[k];
    pick(now.order[k]);
    // follow the selected point out of the range
    if (state.range && (x < from || x > to)) setRange([x - (to - from) / 2, x + (to - from) / 2]);
  };
  const actions = {
    ArrowRight: () => go(place < 0 ? begin : place + step),
    ArrowLeft: () => go(place < 0 ? begin : place - step),
    Home: () => go(0),
    End: () => go(last),
    "+": () => zoom(0.6, about),
    "=": () => zoom(0.6, about),
    "-": () => zoom(1 / 0.6),
    0: () => setRange(null),
    Escape: () => pick(null),
  };
  if (!(event.key in actions)) return;
  event.preventDefault();
  actions[event.key]();
}

function describe(i) {
  const set = current(), own = curve(), flux = values(own.flux)[i], error = values(own.error)[i];
  const kind = set === data.sets[0] ? "image" : "imagette";
  const electrons = `${fixed(flux, own.flux.digits)} ± ${fixed(error, Math.min(own.error.digits, 1))} electrons`;
  const ppm = `${ppmText(1e6 * (flux / now.level - 1))} ± ${ppmText(1e6 * error / now.level)} ppm`;
  return `${kind} ${set.index[i]}: BJD ${fixed(set.bjd[i], 6)}, ${fixed(set.hours[i], 3)} h, flux ${electrons} (${ppm})`;
}
function hover(u) {
  const k = u.cursor.idx;
  if (k === null || k === undefined || !now || now.order[k] === undefined) return;
  const i = now.order[k], marks = current().flagsOf[i].map(f => f.label).join(", ");
  get("hover").textContent = describe(i) + (marks ? `; flagged: ${[...new Set(marks.split(", "))].join(", ")}` : "");
}
function pick(i) {
  state.point = i;
  for (const u of plots) u.redraw(false, false);
  showPoint();
}
function showPoint() {
  const place = get("point"), i = state.point, set = current();
  place.replaceChildren();
  if (i === null) return;
  const kind = set === data.sets[0] ? "Image" : "Imagette";
  place.append(make("h2", `${kind} ${set.index[i]}`), make("p", describe(i).replace(/^[^:]*: /, "")));
  const flags = set.flagsOf[i];
  if (!flags.length) place.append(make("p", "Good point, no flags."));
  for (const flag of flags) {
    const line = make("p");
    line.append(make("span", `× ${flag.label}`, {class: "flagged"}), ` (${flag.of}): ${flag.meaning}`);
    place.append(line);
  }
  if (set.budget) { place.append(...stagesOf(set.budget, i)); place.append(...errorsOf(set.budget, i)); }
  const table = make("table");
  table.append(make("caption", "Conditions"));
  for (const q of set.quantities) table.append(row(q.label, `${fixed(values(q)[i], q.digits)} ${q.unit}`));
  place.append(table);
}
function stagesOf(budget, i) {
  const table = make("table"), start = values(budget.start)[i];
  table.append(make("caption", `Electrons within ${budget.radius} pixels of the first position`));
  head(table, "after", "change", "flux");
  table.append(row("as read out", "", fixed(start, 0)));
  let flux = start;
  for (const stage of budget.stages) {
    const change = values(stage)[i];
    flux += change;
    const line = row(stage.label, signed(change), fixed(flux, 0));
    line.title = stage.meaning;
    table.append(line);
  }
  const centred = values(data.sets[0].curves.DEFAULT.flux)[i];
  table.append(row("circle recentred", signed(centred - flux), fixed(centred, 0)));
  if (state.curve !== "DEFAULT") table.append(row(`in ${state.curve}`, "", fixed(values(curve().flux)[i], 0)));
  table.lastChild.className = "sum";
  return [make("h3", "Flux, step by step"), table];
}
function errorsOf(budget, i) {
  const table = make("table");
  table.append(make("caption", `Standard deviations of the flux within ${budget.radius} pixels (DEFAULT)`));
  head(table, "term", "electrons", "ppm", "variance");
  const flux = values(data.sets[0].curves.DEFAULT.flux)[i], terms = budget.errors.map(t => [t, values(t)[i]]);
  const total = Math.sqrt(terms.reduce((sum, [, e]) => sum + (Number.isFinite(e) ? e * e : 0), 0));
  for (const [term, error] of [...terms].sort((a, b) => (b[1] || 0) - (a[1] || 0))) {
    const share = total > 0 ? error * error / total / total : NaN, percent = `${fixed(100 * share, 1)} percent`;
    const bar = make("span", undefined, {class: "share", role: "img", "aria-label": percent});
    bar.style.width = `${Math.max(100 * share, 0) || 0}%`;
    const line = row(term.label, fixed(error, term.digits), ppmText(1e6 * error / flux), bar);
    line.lastChild.className = "wide"; line.title = term.meaning;
    table.append(line);
  }
  const sum = row("total", fixed(total, budget.errors[0].digits), ppmText(1e6 * total / flux), "");
  sum.className = "sum";
  table.append(sum);
  const elements = [make("h3", "Error, term by term"), table], at = budget.radii.indexOf(curve().radius);
  if (state.curve !== "DEFAULT" && at >= 0) {
    const terms = budget.errors.map(t => [t.label, t.typical[at]]).filter(([, typical]) => typical > 0);
    const largest = terms.sort((a, b) => b[1] - a[1]).slice(0, 3).map(([name, typical]) => `${name} ${fixed(typical, 0)}`);
    const text = `At ${curve().radius} pixels, the largest terms (medians over the visit) are: ${largest.join(", ")} electrons.`;
    elements.push(make("p", text, {class: "why"}));
  }
  return elements;
}

function updateStatus() {
  const set = current(), [from, to] = range(), n = now.x.filter(x => x >= from && x <= to).length, own = curve();
  const good = now.order.filter((i, k) => now.good[i] && now.x[k] >= from && now.x[k] <= to).length, m = own.metrics;
  const across = overRoll() ? `${fixed(from, 1)}° to ${fixed(to, 1)}°`
    : `${fixed(from, 3)} to ${fixed(to, 3)} h after BJD ${fixed(set.begin, 5)}`;
  const subset = set.index.length < set.count
    ? ` (this page holds an evenly spaced ${set.index.length} of ${set.count}; the FITS files hold all of them)` : "";
  const noise = Number.isFinite(m.P2P_PPM)
    ? `; point-to-point scatter ${ppmText(m.P2P_PPM)} ppm, formal error ${ppmText(m.FORM_PPM)} ppm` : "";
  const shown = `${n} of ${set.index.length} ${set.label} shown${subset}, ${good} good`;
  get("status").textContent = `${state.curve}, ${own.radius} pixels: ${shown}; ${across}${noise}`;
}
function csv() {
  const set = current(), own = curve(), [from, to] = range();
  const shown = now.order.filter((_, k) => now.x[k] >= from && now.x[k] <= to);
  const panelOf = q => "xy".includes(q.name) ? "centroid" : q.name;
  const quantities = set.quantities.filter(q => state.panels.has(panelOf(q)) || q === set.roll);
  const cell = (series, i) => Number.isFinite(values(series)[i]) ? decimals(values(series)[i], series.digits) : "";
  const columns = ["INDEX", "BJD_TIME [d]", "FLUX [electron]", "FLUXERR [electron]", "EVENT", "QUALITY",
    ...quantities.map(q => `${q.name.toUpperCase()} [${q.unit}]`)];
  const points = `${shown.length} of ${set.count} ${set.label}`;
  const lines = [`# ${published.folder}, light curve ${state.curve}, ${own.radius} pixels, ${points}`,
    `# values are rounded; the FITS files hold them in full precision`, columns.join(",")];
  for (const i of shown) {
    const flux = [cell(own.flux, i), cell(own.error, i)], flags = [set.event[i], set.quality[i]];
    lines.push([set.index[i], set.bjd[i].toFixed(8), ...flux, ...flags, ...quantities.map(q => cell(q, i))].join(","));
  }
  return lines.join("\n") + "\n";
}
function download() {
  const url = URL.createObjectURL(new Blob([csv()], {type: "text/csv"}));
  const link = make("a", undefined, {href: url, download: `${published.folder}_${state.curve}.csv`});
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
function fillChoices() {
  const set = current(), flags = get("flags"), panels = get("panels");
  get("over").disabled = set.roll === undefined;
  flags.querySelectorAll("label, span").forEach(e => e.remove());
  panels.querySelectorAll("label").forEach(e => e.remove());
  const counts = new Map();
  for (const flag of set.flagsOf.flat()) {
    const {count} = counts.get(flag.key) || {count: 0};
    counts.set(flag.key, {...flag, count: count + 1});
  }
  const box = (checked, text, title, change, name) => {
    const label = make("label", undefined, {title}), input = make("input", undefined, {type: "checkbox"});
    input.checked = checked;
    if (name) input.setAttribute("aria-label", name);
    input.addEventListener("change", () => { change(input.checked); state.range = state.range && range(); build(); });
    label.append(input, ` ${text}`);
    return label;
  };
  const toggle = (owner, key, on) => on ? owner.add(key) : owner.delete(key);
  if (!counts.size) flags.append(make("span", "none"));
  if (counts.size > 1) flags.append(box([...counts.keys()].every(k => !state.hidden.has(k)), "all", "all flagged points", on => {
    for (const key of counts.keys()) toggle(state.hidden, key, !on);
    fillChoices();
  }));
  for (const of of ["EVENT", "QUALITY"]) {
    const some = [...counts].filter(([, flag]) => flag.of === of);
    if (some.length) flags.append(make("span", of, {class: "of"}));
    for (const [key, flag] of some)
      flags.append(box(!state.hidden.has(key), `${flag.label} ${flag.count}`, flag.meaning, on => {
        toggle(state.hidden, key, !on);
        fillChoices();
      }, `${of} ${flag.label}, ${flag.count} points`));
  }
  for (const {name, label, unit} of panelsOf(set)) {
    const text = name === "centroid" ? name : label;
    panels.append(box(state.panels.has(name), text, unit, on => toggle(state.panels, name, on)));
  }
}
function fillPage() {
  const {target, start, stop, images, exposures} = data.heading;
  get("target").textContent = target === DASH ? data.visit : target;
  get("visit").textContent =
    `Visit ${data.visit}, ${published.version} · ${start} to ${stop} UTC · ${images} images of ${exposures}`;
  const kinds = {good: ["good", "✓"], "usable with care": ["care", "▲"], "not usable": ["not", "✕"]};
  const badge = get("verdict"), [kind, shape] = kinds[data.verdict.word];
  badge.classList.add(kind);
  badge.querySelector(".shape").textContent = shape;
  badge.querySelector(".word").textContent = data.verdict.word;
  for (const reason of data.verdict.reasons) get("reasons").append(make("li", reason));
  for (const metric of data.tiles.map(label => data.metrics.find(r => r.label === label)).filter(Boolean)) {
    const tile = make("div"), value = make("dd", metric.shown);
    value.append(make("small", ` ${metric.value === null ? metric.reason : metric.unit}`));
    tile.append(make("dt", metric.label), value);
    get("numbers").append(tile);
  }
  for (const [id, rows] of [["all", data.metrics], ["run", data.run]]) for (const r of rows) {
    const value = make("span", `${r.shown} ${r.unit}`);
    if (r.value === null) value.append(make("span", r.reason, {class: "why"}));
    get(id).append(row(r.label, value));
  }
  const publication = `${published.folder}, created by drp ${published.software}, published ${published.date} UTC.`;
  get("facts").textContent = `${publication} Light curves are rounded to 0.1 ppm and errors to 1 %; `
    + "the FITS files next to this page hold them in full precision.";
  for (const set of data.sets) {
    const group = make("optgroup", undefined, {label: set.label}), names = Object.keys(set.curves);
    const first = NAMES.filter(n => names.includes(n));
    for (const name of [...first, ...names.filter(n => !first.includes(n)).sort()])
      group.append(make("option", `${name} · ${set.curves[name].radius} pixels`, {value: name}));
    get("curve").append(group);
  }
}
function listen() {
  get("curve").addEventListener("change", event => {
    const before = current();
    state.curve = event.target.value;
    if (current() !== before) { state.point = null; fillChoices(); }
    build();
    showPoint();
  });
  for (const input of document.querySelectorAll("input[type=radio]")) input.addEventListener("change", () => {
    state[input.name] = input.value;
    if (input.name === "over") state.range = null;
    build();
  });
  for (const name of ["bins", "bars", "whole"]) get(name).addEventListener("change", event => {
    state[name] = event.target.checked;
    build();
  });
  get("left").addEventListener("click", () => pan(-0.3));
  get("right").addEventListener("click", () => pan(0.3));
  get("in").addEventListener("click", () => zoom(0.6));
  get("out").addEventListener("click", () => zoom(1 / 0.6));
  get("reset").addEventListener("click", () => setRange(null));
  get("csv").addEventListener("click", download);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const theme = name => { document.documentElement.dataset.theme = name; readColours(); if (now) build(); };
  get("theme").addEventListener("click", () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
  dark.addEventListener("change", () => theme(dark.matches ? "dark" : "light"));
  theme(dark.matches ? "dark" : "light");
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; build(); } });
}
fillPage();
fillChoices();
listen();
build();
// for tests, and for use from the console
window.viewer = {data, state, values, view: () => now, plots, csv};
})();
