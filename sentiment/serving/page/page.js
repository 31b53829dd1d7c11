// The demo page. Texts of users and of the service are inserted as text nodes, never as HTML.
"use strict";

const FILM_EXAMPLES = [ // for negative and positive, where the service has no examples of its own
  "A gripping, funny film with a heart.",
  "Two hours of my life that I want back.",
  "Not as bad as the trailer made me fear, and the ending is even moving.",
  "The actors do what they can, but the story is empty.",
];
const MIN_WEIGHT = 0.01; // words below one percentage point are not marked
const FULL_WEIGHT = 0.1; // at least this weight has the strongest mark, so that small weights stay pale
const POLAR = ["negative", "positive"]; // only these two have colours of their own and a bar with two sides
const TOP = 3; // of other classes, the most probable ones are shown
const HEADLINES = {
  0: "The service does not answer",
  400: "The request is invalid",
  401: "The service rejected this token",
  413: "The texts are too long for one request",
  429: "The service is busy",
  500: "The model failed on one of the texts",
  503: "The service did not answer in time",
};
const find = (id) => document.getElementById(id);
const state = { token: "", info: null, names: [], isBusy: false, retry: null }; // the token is stored nowhere else

/** An error to show. `status` is that of HTTP, 0 without a response, null for requests that are not sent. */
class RequestError extends Error {
  constructor(message, status = null, line = null) {
    super(message);
    Object.assign(this, { status, line });
  }
}

/** An element with a class and children. */
function build(tag, className, ...children) {
  const element = document.createElement(tag);
  element.className = className;
  element.append(...children); // strings become text nodes
  return element;
}

/** The service's answer. The path is relative, to work behind a proxy's path prefix. */
async function ask(path, body) {
  const headers = {};
  // Headers hold bytes: each byte of the token in UTF-8 becomes one character.
  if (state.token) headers.authorization = `Bearer ${String.fromCharCode(...new TextEncoder().encode(state.token))}`;
  if (body) headers["content-type"] = "application/json";
  const signal = AbortSignal.timeout(1000 * (10 + (state.info?.limits.timeout ?? 10)));
  let response, answer;
  try {
    response = await fetch(path, { method: body ? "POST" : "GET", headers, body, signal, cache: "no-store" });
    answer = await response.json().catch(() => null); // a proxy's errors are not JSON
  } catch {
    throw new RequestError("It may be down, or the network is. Your texts are still here: try again later.", 0);
  }
  if (response.ok && answer !== null) return answer;
  const message = typeof answer?.error === "string" ? answer.error : `${response.status} ${response.statusText}`.trim();
  throw new RequestError(message, response.status);
}

/** The lines that are not blank, with their numbers. */
function readTexts() {
  const lines = find("texts").value.split("\n").map((text, index) => ({ text: text.trim(), line: index + 1 }));
  return lines.filter(({ text }) => text);
}

/** Whether the classes are negative and positive. */
function isPolar() {
  return state.info.labels.length === 2 && POLAR.every((label, place) => state.info.labels[place] === label);
}

/** The body of /query; throws a RequestError if it exceeds a limit of the service. */
function buildQuery(texts, limits) {
  if (!texts.length) throw new RequestError("Type a text first.");
  if (texts.length > limits.max_sentences) {
    throw new RequestError(`${texts.length} texts are too many: at most ${limits.max_sentences} per request.`);
  }
  for (const { text, line } of texts) {
    const length = [...text].length; // in code points, as the service counts
    const most = limits.max_characters;
    if (length > most) throw new RequestError(`Line ${line} has ${length} characters: at most ${most}.`, null, line);
  }
  const body = JSON.stringify({ sentences: texts.map(({ text }) => text), ...(isPolar() ? {} : { top_k: TOP }) });
  const bytes = new TextEncoder().encode(body).length;
  if (bytes > limits.max_body_bytes) {
    throw new RequestError(`The texts have ${bytes} bytes: at most ${limits.max_body_bytes} per request.`);
  }
  return body;
}

/** Load and show the models, classes and limits of the service. */
async function loadInfo() {
  state.info = await ask("info");
  const { models } = state.info;
  state.names = models.map(({ name }) => name);
  if (new Set(state.names).size < models.length) state.names = models.map(({ name }, place) => `${name} (${place + 1})`);
  const lines = models.map(({ backend, precision, max_seq_length }, place) => {
    const details = ` · ${backend}, ${precision} · up to ${max_seq_length} tokens per text`;
    return build("li", "", build("strong", "", state.names[place]), details);
  });
  find("models").replaceChildren(...lines);
  find("classes").textContent = isPolar() ? "" : describeClasses(state.info.labels);
  document.documentElement.classList.toggle("neutral", !isPolar());
  find("texts").placeholder = chooseExamples().slice(0, 2).join("\n");
  showCount();
}

function describeClasses(labels) {
  const shown = labels.length > 8 ? labels.slice(0, 6) : labels;
  const others = labels.length - shown.length;
  return `${labels.length} classes: ${shown.join(", ")}${others ? ` and ${others} more` : ""}`;
}

/** Show the number of texts and its limit. */
function showCount() {
  const count = readTexts().length;
  const most = state.info?.limits.max_sentences ?? Infinity;
  find("count").textContent = Number.isFinite(most) ? `${count} of ${most} texts` : `${count} texts`;
  find("count").classList.toggle("over", count > most);
  find("examples").hidden = find("texts").value !== "" || !chooseExamples().length;
  find("texts").removeAttribute("aria-invalid");
}

/** Texts to try, in the language and of the kind that the model was trained for. */
function chooseExamples() {
  if (state.info?.examples?.length) return state.info.examples;
  return state.info && isPolar() ? FILM_EXAMPLES : [];
}

/** Classify the texts and show the answers. */
async function labelTexts() {
  if (state.isBusy) return;
  const texts = readTexts();
  setBusy(true);
  try {
    await loadInfo(); // each time, since the service may have been restarted with other options
    showAnswers(texts, await ask("query", buildQuery(texts, state.info.limits)));
  } catch (error) {
    find("results").replaceChildren(); // the answers before are to other texts
    find("summary").textContent = "";
    showError(error, labelTexts, texts);
  } finally {
    setBusy(false);
  }
}

function setBusy(isBusy) {
  state.isBusy = isBusy;
  find("submit").setAttribute("aria-disabled", isBusy); // `disabled` would remove the focus
  find("submit").textContent = isBusy ? "Labelling…" : "Label texts";
  find("results").setAttribute("aria-busy", isBusy);
  if (!isBusy) return;
  find("error").replaceChildren();
  find("texts").removeAttribute("aria-invalid");
}

function showAnswers(texts, answer) {
  const answers = answer.compared ? [answer, answer.compared] : [answer];
  const apart = new Set(answer.disagreements);
  const rows = texts.map(({ text }, place) => {
    const found = answers.map(({ labels, scores, top, truncated }) => (
      { label: labels[place], score: scores[place], top: top?.[place], isCut: truncated?.[place] }
    ));
    return buildRow(text, place, found, apart.has(place), answer.reasons?.[place]);
  });
  find("results").replaceChildren(...rows);
  find("results").className = answers.length > 1 ? "compared" : "";
  find("summary").textContent = summarize(answer);
}

function summarize({ labels, compared, disagreements }) {
  const counted = `${labels.length} ${labels.length === 1 ? "text" : "texts"}`;
  const blank = labels.filter((label) => label === null).length;
  const end = blank ? `, ${blank} without text` : "";
  if (!compared) return `${counted}: ${countLabels(labels.filter((label) => label !== null))}${end}`;
  return `${counted}: the models ${disagreements.length ? `disagree on ${disagreements.length}` : "agree on all"}${end}`;
}

/** How many texts have each label, most frequent first. */
function countLabels(labels) {
  const counts = new Map(isPolar() ? [["positive", 0], ["negative", 0]] : []);
  for (const label of labels) counts.set(label, (counts.get(label) ?? 0) + 1);
  if (isPolar()) return [...counts].map(([label, count]) => `${count} ${label}`).join(", ");
  const pairs = [...counts].sort((one, other) => other[1] - one[1]);
  const shown = pairs.length > 5 ? pairs.slice(0, 4) : pairs;
  const others = pairs.slice(shown.length).reduce((sum, [, count]) => sum + count, 0);
  const parts = shown.map(([label, count]) => `${count} × “${label}”`);
  return [...parts, ...(others ? [`${others} × others`] : [])].join(", ") || "none labelled";
}

/** A text with the answer of each model, or the reason why there is none. */
function buildRow(text, place, answers, isApart, reason) {
  const said = build("p", "text", text);
  const why = build("button", "quiet", "Why?", build("span", "unseen", ` Text ${place + 1}`));
  const reasons = build("div", "reasons");
  said.dir = "auto";
  if (reason) return build("li", "", build("div", "said", said), build("p", "fine", `No label: the text ${reason}`));
  why.type = "button";
  reasons.id = `reasons-${place}`;
  reasons.hidden = true;
  why.setAttribute("aria-controls", reasons.id);
  why.setAttribute("aria-expanded", false);
  const row = { text, said, why, reasons, found: null };
  why.addEventListener("click", () => toggleReasons(row));
  const shown = build("div", "answers", ...answers.map(({ label, score, top }, model) => {
    const name = answers.length > 1 ? build("span", "model", state.names[model]) : "";
    return top ? buildRanking(name, top) : buildAnswer(name, label, score);
  }));
  const notes = isApart ? [build("strong", "differ", "The models disagree")] : [];
  answers.forEach(({ isCut }, model) => isCut && notes.push(build("p", "fine", describeCut(model))));
  const left = build("div", "said", said, ...notes);
  return build("li", isApart ? "apart" : "", left, shown, why, reasons);
}

function describeCut(model) {
  const reader = state.names.length > 1 ? ` by ${state.names[model]}` : "";
  return `Read in part only${reader}: it has more than ${state.info.models[model].max_seq_length} tokens`;
}

/** The most probable classes with their probabilities, and bars from 0 to 100%. */
function buildRanking(name, top) {
  const entries = top.map(({ label, score }) => {
    const fill = build("span", "");
    const bar = build("div", "share", fill);
    fill.style.setProperty("--share", score);
    bar.setAttribute("aria-hidden", true);
    const shown = build("bdi", "label", label);
    shown.title = label; // a long one is cut
    return build("li", "", shown, " ", build("span", "score", formatShare(score)), bar);
  });
  return build("div", "answer", name, build("ol", "ranking", ...entries));
}

function formatShare(score) {
  if (score > 0.9995) return "> 99.9%";
  return score < 0.0005 ? "< 0.1%" : `${(100 * score).toFixed(1)}%`;
}

/** A label with its probability, and a bar from the middle (50%) to an edge (100%). */
function buildAnswer(name, label, score) {
  const fill = build("span", "");
  const bar = build("div", "bar", fill);
  fill.style.setProperty("--sureness", 2 * score - 1);
  bar.setAttribute("aria-hidden", true);
  const shown = [build("span", "label", label), " ", build("span", "score", formatShare(score))];
  return build("div", `answer ${label}`, name, ...shown, bar);
}

/** Show or hide the marks of a row. */
async function toggleReasons(row) {
  const isOpen = row.why.getAttribute("aria-expanded") === "true";
  if (!isOpen && !(await loadReasons(row))) return;
  row.said.replaceChildren(...(isOpen ? [row.text] : markWords(row)));
  row.reasons.hidden = isOpen;
  row.why.setAttribute("aria-expanded", !isOpen);
  if (!isOpen) find("announcement").textContent = row.reasons.textContent;
}

/** Load the weights of a row's words; returns whether they are available, and shows the error if not. */
async function loadReasons(row) {
  if (row.found || row.why.ariaBusy === "true") return row.found !== null;
  row.why.ariaBusy = "true";
  try {
    row.found = await ask("explain", JSON.stringify({ sentence: row.text }));
    row.reasons.replaceChildren(...describeReasons(row.found));
  } catch (error) {
    if (error.status === 401) showError(error, () => toggleReasons(row), []);
    else row.reasons.replaceChildren(...describeError(error));
    row.reasons.hidden = error.status === 401;
    find("announcement").textContent = row.reasons.textContent;
  }
  row.why.ariaBusy = "false";
  return row.found !== null;
}

/** The words of a text, with marks on those above the minimum weight. */
function markWords({ text, found: { label, words } }) {
  const largest = Math.max(FULL_WEIGHT, ...words.map(({ weight }) => Math.abs(weight)));
  const pieces = [];
  let end = 0;
  for (const { text: word, weight } of words) {
    const start = text.indexOf(word, end);
    if (start < 0) continue;
    pieces.push(text.slice(end, start));
    end = start + word.length; // also past unmarked words: a later one may be the same word
    if (Math.abs(weight) < MIN_WEIGHT) {
      pieces.push(word);
      continue;
    }
    const mark = build("mark", weight > 0 ? "for" : "against", word);
    mark.title = `Without it, “${label}” would ${weight > 0 ? "lose" : "gain"} ${formatPoints(weight)} points`;
    mark.style.setProperty("--strength", Math.abs(weight) / largest);
    pieces.push(mark);
  }
  return [...pieces, text.slice(end)];
}

/** The heaviest words for and against the label, as text. */
function describeReasons({ label, words, counterfactual }) {
  const weighed = words.filter(({ weight }) => Math.abs(weight) >= MIN_WEIGHT);
  weighed.sort((one, other) => Math.abs(other.weight) - Math.abs(one.weight));
  const lines = [["for", (weight) => weight > 0], ["against", (weight) => weight < 0]].map(([side, isOn]) => {
    const heaviest = weighed.filter(({ weight }) => isOn(weight)).slice(0, 3);
    const listed = heaviest.flatMap(({ text, weight }, place) => (
      [place ? " · " : "", build("bdi", "", trimPunctuation(text)), ` ${formatPoints(weight)}`] // bdi: right to left
    ));
    return listed.length && build("p", "", build("mark", side, side), " “", build("bdi", "", label), "”: ", ...listed);
  }).filter(Boolean);
  const units = `Percentage points that “${label}” would lose, or gain, without the word`;
  const reader = state.names.length > 1 ? `, as ${state.names[0]} reads the text` : "";
  if (lines.length) lines.push(build("p", "fine", `${units}${reader}.`));
  else lines.push(build("p", "", `No word alone changes the answer much${reader}.`));
  lines.push(describeCounterfactual(counterfactual, words));
  const skipped = words.filter(({ weight }) => weight === null).length;
  if (skipped) lines.push(build("p", "fine", `Only the first ${words.length - skipped} words are analysed.`));
  return lines;
}

/** The words without which the answer would be another one. */
function describeCounterfactual(counterfactual, words) {
  if (!counterfactual) return build("p", "", "No few words were found without which the answer would be another one.");
  const { omitted, label, score } = counterfactual;
  const listed = omitted.flatMap((place, number) => (
    [number ? (number === omitted.length - 1 ? " and " : ", ") : "", "“", build("bdi", "", trimPunctuation(words[place].text)), "”"]
  ));
  return build("p", "", "Without ", ...listed, ", the answer would be “", build("bdi", "", label), `” (${formatShare(score)}).`);
}

function formatPoints(weight) {
  const points = Math.abs(100 * weight);
  return points.toFixed(points < 9.95 ? 1 : 0);
}

function trimPunctuation(word) {
  return word.replace(/^\p{P}+|\p{P}+$/gu, "") || word;
}

/** An error as a headline and the service's message. */
function describeError(error) {
  const { status, message } = error instanceof RequestError ? error : new RequestError("The answer cannot be read.", -1);
  if (status === null) return [build("p", "", message)];
  return [build("strong", "", HEADLINES[status] ?? "Something went wrong"), build("p", "", message)];
}

/** Show an error and select its line; `retry` runs once a token is given. */
function showError(error, retry, texts) {
  if (error.status === 401) {
    state.retry = retry;
    find("token-form").hidden = false;
    find("token").focus();
    find("token").select();
    if (!state.token) return; // no error yet: the token was not asked for before
  }
  const found = /^sentences\[(\d+)\]/.exec(error.message);
  const line = found ? texts[found[1]].line : error.line;
  if (found) error.message = error.message.replace(found[0], `Line ${line}`);
  find("error").replaceChildren(...describeError(error));
  if (line) selectLine(line);
}

function selectLine(line) {
  const area = find("texts");
  const lines = area.value.split("\n");
  const start = lines.slice(0, line - 1).join("\n").length + (line > 1 ? 1 : 0);
  area.setAttribute("aria-invalid", true);
  area.focus();
  area.setSelectionRange(start, start + lines[line - 1].length);
}

/** Use the typed token, and retry what failed without it. */
async function useToken() {
  state.token = find("token").value.trim();
  if (!state.token) return;
  find("error").replaceChildren();
  find("token-form").hidden = true;
  find("texts").focus();
  await state.retry();
}

/** Classify the texts of a link: `#text=`, with %0A between lines. */
async function followFragment() {
  const text = new URLSearchParams(location.hash.slice(1)).get("text");
  if (text === null) return;
  find("texts").value = text;
  showCount();
  await labelTexts();
}

async function start() {
  try {
    await loadInfo();
  } catch (error) {
    showError(error, start, []);
    return;
  }
  await followFragment();
}

function onSubmit(act) {
  return (event) => {
    event.preventDefault();
    act();
  };
}

find("form").addEventListener("submit", onSubmit(labelTexts));
find("token-form").addEventListener("submit", onSubmit(useToken));
find("texts").addEventListener("input", showCount);
find("texts").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) labelTexts();
});
find("examples").addEventListener("click", () => {
  find("texts").value = chooseExamples().map((text) => text.replace(/\s+/g, " ")).join("\n");
  find("texts").focus();
  showCount();
  labelTexts();
});
addEventListener("hashchange", followFragment);
start();
