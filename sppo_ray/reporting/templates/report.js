"use strict";
const byId = (id) => document.getElementById(id);
const list = byId("list"), iteration = byId("iteration"), order = byId("order"), find = byId("find");
const pairs = [...list.children];

function show() {
  const words = find.value.trim().toLowerCase();
  const shown = pairs.filter((pair) => {
    pair.hidden = pair.dataset.iteration !== iteration.value
      || (words !== "" && !pair.textContent.toLowerCase().includes(words));
    return !pair.hidden;
  });
  shown.sort((a, b) => b.dataset[order.value] - a.dataset[order.value]);
  list.append(...shown);
  byId("count").value = shown.length + (shown.length === 1 ? " pair" : " pairs");
}

function step(direction) {
  const shown = [...list.children].filter((pair) => !pair.hidden);
  const now = shown.indexOf(document.activeElement?.closest?.("details"));
  shown[now + direction]?.querySelector("summary").focus();
}

// j and k go to the next and the previous pair; Enter opens it.
document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, select") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "j") step(1);
  if (event.key === "k") step(-1);
});
document.querySelector(".controls").addEventListener("submit", (event) => event.preventDefault());
for (const control of [iteration, order, find]) control.addEventListener("input", show);
document.querySelector(".controls").hidden = false;
show();
if (list.querySelector("details:not([hidden])")) list.querySelector("details:not([hidden])").open = true;
