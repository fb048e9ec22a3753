// The sample browser: pages of an iteration's judged prompts, each with its win matrix.

import { ask, byId, element } from "./dom.js";

const controls = ["iteration", "sort", "order", "search"].map(byId);
const SIZE = 20;
let page = 1, asked = 0, known = 0, reading = false; // reading: a person has chosen, the list stays as it is

function matrix(sample) {
  const names = sample.matrix.map((_, index) => element("th", { scope: "col", textContent: index + 1 }));
  const rows = sample.matrix.map((row, index) => element("tr", {}, element("th", { scope: "row", textContent: index + 1 }),
    ...row.map((p) => p === null ? element("td", { textContent: "–" })
      : element("td", { className: `h${Math.round(p * 10)}`, textContent: p.toFixed(2) }))));
  return element("figure", { className: "matrix" }, element("figcaption", { textContent: "P[row beats column]" }),
    element("table", {}, element("thead", {}, element("tr", {}, element("td"), ...names)), element("tbody", {}, ...rows)));
}

function response(one, index) {
  const who = element("p", { className: "who" }, element("b", { textContent: index + 1 }), one.win_rate === null ? " set aside " : ` win rate ${one.win_rate.toFixed(3)} `);
  if (one.mark) who.append(element("span", { className: `tag ${one.mark}`, textContent: one.mark }));
  return element("li", { className: one.mark }, who, element("pre", { textContent: one.text }));
}

function details(sample) {
  const tags = element("span", { className: "tags" });
  if (sample.cycle) tags.append(element("span", { className: "tag cycle", textContent: "cycle" }));
  tags.append(element("span", { className: "tag", title: "margin", textContent: sample.margin.toFixed(2) }),
    element("span", { className: "tag dim", title: "disagreement, logits", textContent: `± ${sample.disagreement.toFixed(2)}` }));
  const texts = element("div", { className: "texts" }, element("h3", { textContent: "Prompt" }), element("pre", { textContent: sample.prompt }),
    element("h3", { textContent: "Responses" }), element("ol", {}, ...sample.responses.map(response)));
  const summary = element("summary", {}, element("span", { className: "head", textContent: sample.prompt.slice(0, 160) }), tags);
  return element("details", {}, summary, element("div", { className: "body" }, texts, matrix(sample)));
}

async function load() {
  const number = ++asked;
  const [iteration, sort, order, search] = controls.map((control) => control.value);
  if (!iteration) return;
  try {
    const query = new URLSearchParams({ page, size: SIZE, sort, order, search });
    const found = await (await ask(`/api/iterations/${iteration}/samples?${query}`)).json();
    if (number !== asked) return; // a later question was asked meanwhile
    const pages = Math.max(1, Math.ceil(found.total / SIZE));
    byId("list").replaceChildren(...found.samples.map(details));
    byId("count").value = `${found.total} ${found.total === 1 ? "sample" : "samples"}`;
    byId("page").textContent = `page ${page} of ${pages}`;
    byId("previous").disabled = page <= 1;
    byId("next").disabled = page >= pages;
  } catch (error) {
    byId("count").value = error.message;
  }
}

function turn(to) {
  page = to;
  load();
}

function step(direction) {
  const rows = [...byId("list").children];
  const now = rows.indexOf(document.activeElement?.closest?.("details"));
  rows[now + direction]?.querySelector("summary").focus();
}

export function startSamples() {
  let waiting;
  for (const control of controls) {
    control.addEventListener("input", () => {
      reading = true;
      clearTimeout(waiting);
      waiting = setTimeout(() => turn(1), control.id === "search" ? 250 : 0);
    });
  }
  byId("list").addEventListener("toggle", () => { reading = true; }, true);
  byId("find").addEventListener("submit", (event) => event.preventDefault());
  byId("previous").addEventListener("click", () => { reading = true; turn(page - 1); });
  byId("next").addEventListener("click", () => { reading = true; turn(page + 1); });
  document.addEventListener("keydown", (event) => {
    if (event.target.closest("input, select, dialog") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "j") step(1);
    if (event.key === "k") step(-1);
  });
  return {
    // As iterations begin they can be chosen; the samples of the first are shown as soon as there are some.
    follow(run) {
      if (run.iteration > known) {
        for (; known < run.iteration; known++) byId("iteration").append(element("option", { textContent: known + 1 }));
        if (reading) return;
        byId("iteration").value = Math.max(1, run.finished);
        turn(1);
      } else if (byId("list").children.length === 0 && byId("search").value === "" && run.stages.some((stage) => stage.key === "judge" && stage.done)) {
        load();
      }
    },
  };
}
