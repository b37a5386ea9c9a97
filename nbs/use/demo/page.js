// The page Try it: saved sentences at once, the model on demand, and the bars of whatever was chosen or typed last.

const here = (name) => new URL(name, import.meta.url);
const json = async (name) => (await fetch(here(name))).json();
const $ = (id) => document.getElementById(id);
const megabytes = (bytes) => `${Math.round(bytes / 1e6)} MB`;

const MARKUP = `
  <p id="try-note"></p>
  <p id="try-loading">
    <button type="button" id="try-load"></button>
    <progress id="try-progress" aria-label="Download of the model" value="0" hidden></progress>
    <span id="try-status" role="status"></span>
  </p>
  <p id="try-typing" hidden>
    <label for="try-text">Your sentence</label>
    <textarea id="try-text" rows="2" maxlength="5000" autocomplete="off"></textarea>
  </p>
  <p>
    <label for="try-saved">A saved sentence</label>
    <select id="try-saved"></select>
  </p>
  <blockquote id="try-chosen"></blockquote>
  <fieldset>
    <legend>From which probability on a label counts</legend>
    <label><input type="checkbox" id="try-own" checked> the model’s own thresholds, one for each label</label>
    <label class="try-slider">one for all: <output id="try-value" for="try-threshold"></output>
      <input type="range" id="try-threshold" min="0.01" max="0.99" step="0.01" value="0.5"></label>
  </fieldset>
  <p id="try-summary" role="status"></p>
  <ol id="try-bars" aria-label="Emotions, the most probable first"></ol>`;

let labels, ownThresholds, sentences, files;
let shown = []; // the probabilities whose bars are shown, in the order of the labels

// ---- the bars

const threshold = (i) => ($("try-own").checked ? ownThresholds[i] : Number($("try-threshold").value));

/** One label as a list item: its name, a bar with a mark at the threshold, and the probability. */
function bar(i) {
  const counts = shown[i] >= threshold(i);
  const item = document.createElement("li");
  item.className = counts ? "counts" : "";
  item.dataset.label = labels[i];
  item.dataset.probability = shown[i].toFixed(4);
  item.innerHTML = `<span class="try-name">${labels[i]}</span>
    <span class="try-bar" aria-hidden="true"><i style="width: ${shown[i] * 100}%"></i><b style="left: ${threshold(i) * 100}%"></b></span>
    <span class="try-number">${shown[i].toFixed(2)}${counts ? '<span class="try-spoken">, counts</span>' : ""}</span>`;
  return item;
}

function draw() {
  const order = [...labels.keys()].sort((a, b) => shown[b] - shown[a]);
  const counting = order.filter((i) => shown[i] >= threshold(i)).map((i) => labels[i]);
  $("try-value").textContent = Number($("try-threshold").value).toFixed(2);
  $("try-summary").textContent = counting.length ? `Counts: ${counting.join(", ")}` : "No label reaches its threshold.";
  $("try-bars").replaceChildren(...order.map(bar));
}

function show(probabilities) {
  shown = probabilities;
  draw();
}

// ---- the model, in worker.js

let worker;
let busy = false; // while the worker computes, only the newest text waits

function ask() {
  if (busy) return;
  busy = true;
  worker.postMessage({ text: $("try-text").value });
}

function answer({ probabilities, tokens, text }) {
  busy = false;
  if (text !== $("try-text").value) ask();
  show(probabilities);
  $("try-text").dataset.text = text;
  $("try-text").dataset.tokens = tokens;
  const full = tokens.length === files.max_length;
  $("try-status").textContent = full ? `The model reads the first ${files.max_length} tokens of this text.` : "";
}

function load() {
  $("try-load").disabled = true;
  $("try-progress").hidden = false;
  worker = new Worker(here("worker.js"), { type: "module" });
  worker.onmessage = ({ data }) => {
    if (data.error) fail(data.error);
    else if (data.received) report(data.received);
    else if (data.ready) start();
    else answer(data);
  };
  worker.onerror = (event) => fail(event.message || "the script cannot be run");
  worker.postMessage({ load: files });
}

function report(received) {
  $("try-progress").value = received / files.bytes;
  $("try-status").textContent = received < files.bytes ? "Loading …" : "Starting …";
}

function start() {
  $("try-loading").before($("try-typing"));
  $("try-load").hidden = $("try-progress").hidden = $("try-chosen").hidden = true;
  $("try-status").textContent = "";
  $("try-typing").hidden = false;
  $("try-note").textContent = "The model is loaded and runs in this browser. What you type is sent nowhere.";
  $("try-text").value = sentences[$("try-saved").value].text;
  $("try-text").focus();
  ask();
}

function fail(reason) {
  worker.terminate();
  busy = false;
  $("try-typing").hidden = $("try-progress").hidden = true;
  $("try-load").hidden = $("try-load").disabled = $("try-chosen").hidden = false;
  $("try-saved").selectedIndex = Math.max(0, $("try-saved").selectedIndex);
  describe();
  choose();
  $("try-status").textContent = `The model could not be loaded: ${reason}. The saved sentences remain.`;
}

// ---- the page

function choose() {
  const { text, probabilities } = sentences[$("try-saved").value];
  $("try-text").value = $("try-chosen").textContent = text; // a narrow window shows only a part of the choice
  if ($("try-typing").hidden) show(probabilities);
  else ask();
}

function describe() {
  const withModel = files.bytes > 0;
  $("try-loading").hidden = !withModel;
  $("try-load").textContent = `Load the model (${megabytes(files.bytes)})`;
  $("try-note").textContent = withModel
    ? "Choose a saved sentence, or load the model and type your own. The model runs in this browser, and what you type is sent nowhere."
    : `This copy of the site was built without the model. It shows ${sentences.length} saved sentences, with the probabilities that the model gave them.`;
}

async function main() {
  let saved;
  [saved, files] = await Promise.all(["sentences.json", "files.json"].map(json));
  ({ labels, thresholds: ownThresholds, sentences } = saved);
  $("try-it").innerHTML = MARKUP;
  $("try-saved").append(...sentences.map(({ text }, i) => new Option(text, i)));
  describe();
  choose();
  $("try-load").onclick = load;
  $("try-saved").onchange = choose;
  $("try-text").oninput = () => {
    $("try-saved").selectedIndex = -1;
    ask();
  };
  $("try-own").onchange = draw;
  $("try-threshold").oninput = () => {
    $("try-own").checked = false;
    draw();
  };
}

main();
