// The pools and their members; a form a pool sets its target.

import { ask, byId, duration, element, number } from "./dom.js";

const COLUMNS = ["member", "state", "calls", "restarts", "holds", "tokens/s", "sequences"];
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

const perSecond = (rate) => rate === null ? "–" : number(Math.round(rate));

function row(member) {
  const again = member.retry_at === null ? "" : `, again in ${duration(Math.max(0, member.retry_at - Date.now() / 1000))}`;
  const state = element("span", { className: `state ${member.state}`, textContent: member.state + again, title: member.failure ?? "" });
  return element("tr", {}, element("th", { scope: "row", textContent: member.name }), element("td", {}, state),
    ...[member.load, member.restarts, member.snapshot ?? "–", perSecond(member.tokens_per_second), number(member.sequences)].map((value) => element("td", { textContent: value })));
}

export function showPools(pools, said) {
  for (const pool of pools) {
    if (!cards.has(pool.name)) cards.set(pool.name, card(pool, said));
    const { words, rows } = cards.get(pool.name);
    const up = pool.members.filter((member) => member.state === "up").length;
    const live = pool.sequences === null ? "" : `, ${perSecond(pool.tokens_per_second)} tokens/s, ${pool.sequences} sequences in flight`;
    words.textContent = `${up} up, target ${pool.target} (${pool.min} to ${pool.max}), ${pool.waiting} calls waiting${live}`;
    rows.replaceChildren(...pool.members.map(row));
  }
}
