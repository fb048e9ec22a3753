// The pools and their members; a form a pool sets its target.

import { ask, byId, element } from "./dom.js";

const COLUMNS = ["member", "state", "calls", "restarts", "holds"];
const cards = new Map();

function card(pool, said) {
  const input = element("input", { type: "number", min: pool.min, max: pool.max, value: pool.target, ariaLabel: `members of ${pool.name}` });
  const form = element("form", {}, element("span", { textContent: "members" }), input, element("button", { textContent: "Set" }));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await ask(`/api/pools/${pool.name}/target`, { target: input.valueAsNumber });
      said(`${pool.name}: aiming at ${input.value}.`);
    } catch (error) {
      said(error);
    }
  });
  const words = element("small"), rows = element("tbody");
  const header = element("thead", {}, element("tr", {}, ...COLUMNS.map((name) => element("th", { scope: "col", textContent: name }))));
  const scroll = element("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: `Members of ${pool.name}` },
    element("table", { className: "numbers" }, header, rows));
  const head = element("div", { className: "head" }, element("h3", { textContent: pool.name }), form);
  const made = element("div", { className: "card pool" }, head, words, scroll);
  byId("pools").append(made);
  return { words, rows };
}

function row(member) {
  const state = element("span", { className: `state ${member.state}`, textContent: member.state, title: member.failure ?? "" });
  return element("tr", {}, element("th", { scope: "row", textContent: member.name }), element("td", {}, state),
    ...[member.load, member.restarts, member.snapshot ?? "–"].map((value) => element("td", { textContent: value })));
}

export function showPools(pools, said) {
  for (const pool of pools) {
    if (!cards.has(pool.name)) cards.set(pool.name, card(pool, said));
    const { words, rows } = cards.get(pool.name);
    const up = pool.members.filter((member) => member.state === "up").length;
    words.textContent = `${up} up, target ${pool.target} (${pool.min} to ${pool.max}), ${pool.waiting} calls waiting`;
    rows.replaceChildren(...pool.members.map(row));
  }
}
