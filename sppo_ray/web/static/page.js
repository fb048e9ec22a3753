// Live progress, and what steers the run. The stream of events reconnects by itself.

import { showCharts } from "./charts.js";
import { ask, byId, duration, element, number } from "./dom.js";
import { showPools } from "./pools.js";
import { startSamples } from "./samples.js";
import "./chat.js";

const STEP = {
  loss: "loss", chosen_log_ratio: "log-ratio chosen", rejected_log_ratio: "log-ratio rejected",
  gradient_norm: "gradient norm", learning_rate: "learning rate", reference_mean_abs: "sampler against trainer", step: "step",
};
const samples = startSamples();
let finished = -1;

function show(run) {
  byId("run").textContent = run.run;
  document.title = `${run.iteration}/${run.iterations} ${run.phase} · ${run.run}`;
  byId("facts").textContent = `recipe ${run.recipe} · ${run.finished} of ${run.iterations} iterations finished · base ${run.model.split("/").at(-1)}`;
  byId("phase").textContent = (run.iteration ? `Iteration ${run.iteration}: ` : "") + run.phase + (run.paused ? ", paused" : "");
  byId("left").textContent = run.seconds_left ? `about ${duration(run.seconds_left)} left` : "";
  byId("pause").disabled = run.paused;
  byId("resume").disabled = !run.paused;
  showStages(run.stages);
  byId("step").replaceChildren(...Object.entries(STEP).filter(([key]) => run.step?.[key] != null).map(
    ([key, name]) => element("div", {}, element("dt", { textContent: name }), element("dd", { textContent: number(run.step[key]) }))));
  const warnings = [...(run.pause_reason ? [`Paused: ${run.pause_reason}`] : []), ...run.warnings, ...(run.set_aside ? [`${run.set_aside} prompts were set aside: they failed on every engine, or their responses cannot be compared`] : [])];
  byId("warnings").hidden = warnings.length === 0;
  byId("warnings").replaceChildren(...warnings.map((words) => element("li", { textContent: words })));
  showPools(run.pools, said);
  samples.follow(run);
  if (run.finished !== finished) {
    finished = run.finished;
    ask("/api/charts").then((answer) => answer.json()).then((charts) => {
      byId("none").hidden = charts.length > 0;
      byId("charts").replaceChildren(...showCharts(charts));
    }).catch(said);
  }
}

function showStages(stages) {
  const rows = byId("stages");
  if (rows.children.length !== stages.length) {
    rows.replaceChildren(...stages.map((stage) => element("div", { className: "stage" },
      element("span", { textContent: stage.name }), element("progress", { ariaLabel: stage.name }), element("span"))));
  }
  stages.forEach((stage, index) => {
    const [, bar, words] = rows.children[index].children;
    bar.max = stage.total || 1;
    bar.value = stage.done;
    const rate = stage.rate ? ` · ${number(stage.rate)}/s` : "";
    const left = stage.seconds_left ? ` · ${duration(stage.seconds_left)} left` : "";
    words.textContent = `${stage.done} of ${stage.total} ${stage.unit}${rate}${left}`;
  });
}

function said(words) {
  byId("said").textContent = words instanceof Error ? words.message : words;
}

function linked(state, words) {
  byId("link").className = `tag ${state}`;
  byId("link").textContent = words;
}

function listen() {
  const events = new EventSource("/api/events");
  events.addEventListener("status", (event) => {
    linked("up", "live");
    show(JSON.parse(event.data));
  });
  events.addEventListener("lost", (event) => linked("down", event.data));
  events.addEventListener("error", () => {
    linked("down", "reconnecting");
    // A browser gives up for good when it is refused once, as while the service comes back.
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, 2000);
  });
}

async function steer(action, words) {
  said("");
  try {
    show(await (await ask(`/api/${action}`, {})).json());
    said(words);
  } catch (error) {
    said(error);
  }
}

byId("pause").addEventListener("click", () => steer("pause", "Pausing: what is in flight ends."));
byId("resume").addEventListener("click", () => steer("resume", "The run goes on."));
byId("stop").addEventListener("click", () => byId("sure").showModal());
byId("sure").addEventListener("close", () => {
  if (byId("sure").returnValue === "yes") steer("stop", "Stopping: the run makes a checkpoint and ends.");
});
listen();
