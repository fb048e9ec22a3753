// The charts of report.html, from the same numbers.

const SVG = "http://www.w3.org/2000/svg";

function draw(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function text(words, x, y, anchor) {
  return draw("text", { class: "tick", x, y, "text-anchor": anchor }, words);
}

function line(one, index, several) {
  const group = draw("g", { class: `s${index + 1}` });
  if (one.band) group.append(draw("path", { class: "band", d: one.band }));
  if (one.whiskers) group.append(draw("path", { class: "whiskers", d: one.whiskers }));
  const faint = one.dots.length === 0 && index === 0 && several ? " faint" : "";
  group.append(draw("path", { class: `line${faint}`, d: one.path }));
  for (const [cx, cy, title] of one.dots) group.append(draw("circle", { cx, cy, r: 4 }, draw("title", {}, title)));
  return group;
}

function figure(chart) {
  const svg = draw("svg", { viewBox: `0 0 ${chart.width} ${chart.height}`, role: "img", "aria-label": chart.title });
  for (const [y, label] of chart.y_ticks) {
    svg.append(draw("line", { class: "grid", x1: chart.left, x2: chart.right, y1: y, y2: y }), text(label, chart.left - 8, y + 4, "end"));
  }
  for (const x of chart.marks) svg.append(draw("line", { class: "mark", x1: x, x2: x, y1: chart.top, y2: chart.bottom }));
  for (const [x, label] of chart.x_ticks) svg.append(text(label, x, chart.bottom + 16, "middle"));
  svg.append(text(chart.x_label, (chart.left + chart.right) / 2, chart.height - 3, "middle"));
  svg.append(...chart.lines.map((one, index) => line(one, index, chart.lines.length > 1)));

  const legend = document.createElement("span");
  legend.className = "legend";
  chart.lines.forEach((one, index) => {
    const key = document.createElement("span");
    key.className = `key s${index + 1}`;
    key.textContent = one.name;
    legend.append(key);
  });
  const made = document.createElement("figure"), caption = document.createElement("figcaption");
  caption.append(chart.title, " ", legend);
  made.append(caption, svg);
  return made;
}

export const showCharts = (charts) => charts.map(figure);
