"use strict";
// Draws the page's plots. A plot has views (one complete figure each) and, where there are several, choices between them.
// Colours written `var(--name)` are the page's own, so that light and dark differ in the style sheet only.

const plots = JSON.parse(document.getElementById("plots").textContent);
const queries = [matchMedia("(prefers-color-scheme: dark)"), matchMedia("(max-width: 40rem)")];
const narrow = queries[1];
const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';
const DASHES = { dash: "6 3", dot: "2 3", dashdot: "6 3 2 3", longdash: "10 3", longdashdot: "10 3 2 3" };
const SHAPES = { circle: "M7 2a5 5 0 1 0 .01 0Z", square: "M2.5 2.5h9v9h-9Z", diamond: "M7 1l6 6-6 6-6-6Z",
  "triangle-up": "M7 1.5l6 11H1Z", cross: "M5 1h4v4h4v4H9v4H5V9H1V5h4Z", star: "M7 1l2 4 4 .5-3 3 .8 4.5L7 11l-3.8 2 .8-4.5-3-3L5 5Z",
  "line-ns": "M6 1h2v12H6Z" };
const HATCHES = '<path d="M3 11l8-8M1 8l6-6M7 13l6-6" stroke="var(--ground)" stroke-width="1.5"/>';

const first = value => Array.isArray(value) ? value[0] : value;
const keyOf = trace => trace.legendgroup || trace.name;

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function themed(value) {
  const style = getComputedStyle(document.documentElement);
  const walk = v => typeof v === "string"
    ? v.replace(/var\((--[a-z-]+)\)/g, (_, name) => style.getPropertyValue(name).trim())
    : Array.isArray(v) ? v.map(walk)
    : v && typeof v === "object" ? Object.fromEntries(Object.entries(v).map(([k, w]) => [k, walk(w)])) : v;
  return walk(value);
}

function axis(given) {
  return { gridcolor: "var(--grid)", zerolinecolor: "var(--line)", linecolor: "var(--line)", tickcolor: "var(--line)",
    automargin: true, fixedrange: true, ...given };
}

// The title of the y axis stands above it, where it is read without turning the head and costs no width.
function look(layout) {
  const { title, ...y } = layout.yaxis || {};
  const size = narrow.matches ? 11 : 12.5, small = { color: "var(--soft)", size };
  const heading = title && title.text ? [{ text: title.text, xref: "paper", yref: "paper", x: 0, y: 1, xanchor: "left",
    yanchor: "bottom", yshift: 6, showarrow: false, font: small }] : [];
  return { ...layout, autosize: true, showlegend: false, hovermode: layout.hovermode || "closest",
    font: { family: FONT, color: "var(--ink)", size },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 10, r: 14, t: heading.length ? 30 : 8, b: 10, ...layout.margin },
    hoverlabel: { namelength: -1, align: "left", bgcolor: "var(--raised)", bordercolor: "var(--soft)",
      font: { family: FONT, color: "var(--ink)", size: 12.5 } },
    xaxis: axis({ ...layout.xaxis, title: { standoff: 8, ...(layout.xaxis || {}).title, font: small } }), yaxis: axis(y),
    annotations: [...(layout.annotations || []), ...heading] };
}

function swatch(trace) {
  const marker = trace.marker || {}, mode = trace.type === "bar" ? "bar" : trace.mode || "";
  const colour = (mode.includes("lines") && trace.line && trace.line.color) || first(marker.color) || "currentColor";
  const line = mode.includes("lines") ? `<path d="M0 7h22" stroke="${colour}" stroke-width="2.5"
    stroke-dasharray="${DASHES[(trace.line || {}).dash] || "none"}"/>` : "";
  const shape = mode === "bar" ? "square" : String(first(marker.symbol) || "circle").replace("-open", "");
  const mark = mode === "lines" ? "" : `<path transform="translate(${line ? 4 : 0})" d="${SHAPES[shape] || SHAPES.circle}"
    fill="${colour}"/>`;
  const hatch = (marker.pattern || {}).shape ? HATCHES : "";
  const drawing = element("span", { "aria-hidden": "true" });
  drawing.innerHTML = `<svg width="${line ? 22 : 14}" height="14">${line}${mark}${hatch}</svg>`;
  return drawing.firstChild;
}

function fillLegend(plot, traces) {
  const seen = new Map();
  for (const trace of traces)
    if (trace.name && trace.showlegend !== false && !seen.has(keyOf(trace))) seen.set(keyOf(trace), trace);
  plot.legend.replaceChildren(...[...seen].map(([key, trace]) => {
    const button = element("button", { type: "button", class: "series", "aria-pressed": !plot.hidden.has(key),
      title: "show or hide" }, swatch(trace), trace.name);
    button.addEventListener("click", () => {
      plot.hidden.has(key) ? plot.hidden.delete(key) : plot.hidden.add(key);
      button.setAttribute("aria-pressed", !plot.hidden.has(key));
      draw(plot);
    });
    return button;
  }));
}

function draw(plot) {
  const view = plot.views[plot.shown];
  const figure = themed({ data: view.figure.data, layout: look(view.figure.layout) });
  const data = figure.data.map(trace => ({ ...trace, visible: !plot.hidden.has(keyOf(trace)) }));
  // Rows need their height; all else keeps a shape that can be read when the page is narrow.
  const tallest = Math.max(300, 1.2 * plot.node.clientWidth);
  if (figure.layout.meta !== "rows") figure.layout.height = Math.min(figure.layout.height, tallest);
  plot.node.style.height = `${figure.layout.height}px`;
  plot.node.setAttribute("aria-label", view.alt);
  plot.note.textContent = view.note;
  plot.note.hidden = !view.note;
  return Plotly.react(plot.node, data, figure.layout, { displayModeBar: false }).then(() => alongLines(plot.node));
}

// Annotations called "along" name a line of slope 1 (on logarithmic axes) that starts where they are: lay them along it,
// just above. How steep such a line is depends on the plot's size, which only the browser knows.
function alongLines(node) {
  const { xaxis, yaxis, annotations, font } = node._fullLayout, changes = {};
  const angle = Math.atan2(yaxis._length / (yaxis.range[1] - yaxis.range[0]), xaxis._length / (xaxis.range[1] - xaxis.range[0]));
  annotations.forEach((annotation, i) => {
    if (annotation.name !== "along") return;
    const half = 0.28 * font.size * annotation.text.length + 12, above = 0.75 * font.size;
    changes[`annotations[${i}].textangle`] = -angle * 180 / Math.PI;
    changes[`annotations[${i}].xshift`] = Math.cos(angle) * half - Math.sin(angle) * above;
    changes[`annotations[${i}].yshift`] = Math.sin(angle) * half + Math.cos(angle) * above;
  });
  return Object.keys(changes).length ? Plotly.relayout(node, changes) : node;
}

function show(plot, index) {
  plot.shown = index;
  fillLegend(plot, themed(plot.views[index].figure.data));
  for (const input of plot.controls.querySelectorAll("input"))
    input.checked = plot.views[index].choices[input.dataset.choice] === input.value;
  return draw(plot);
}

// The view that has the value just chosen and keeps as many of the other choices as there are.
function nearest(plot, choice, value) {
  const now = plot.views[plot.shown].choices;
  const kept = view => Object.entries(view.choices).filter(([name, v]) => now[name] === v).length;
  const fitting = plot.views.filter(view => view.choices[choice] === value);
  return plot.views.indexOf(fitting.reduce((best, view) => kept(view) > kept(best) ? view : best));
}

function addControls(plot) {
  for (const choice of Object.keys(plot.views[0].choices)) {
    const values = [...new Set(plot.views.map(view => view.choices[choice]))];
    if (values.length < 2) continue;
    if (values.every(value => !isNaN(value))) values.sort((a, b) => a - b);
    const labels = values.map(value => {
      const input = element("input", { type: "radio", name: `${plot.id}-${choice}`, value, "data-choice": choice });
      input.addEventListener("change", () => show(plot, nearest(plot, choice, value)));
      return element("label", { class: "choice" }, input, element("span", {}, value));
    });
    plot.controls.append(element("fieldset", {}, element("legend", {}, choice), ...labels));
  }
}

for (const plot of plots) {
  const figure = document.getElementById(plot.id);
  for (const part of ["controls", "legend", "note"]) plot[part] = figure.querySelector(`.${part}`);
  plot.node = figure.querySelector(".plot");
  plot.hidden = new Set();
  addControls(plot);
}
for (const query of queries) query.addEventListener("change", () => plots.forEach(draw));
let waiting;
addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(() => plots.forEach(draw), 120); });
const drawn = Promise.all(plots.map(plot => show(plot, plot.start)));
