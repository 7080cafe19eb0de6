"use strict";
// A picture goes to /classify, then to /explain; answers that come after a newer question are dropped.

const SHOWN = 5;
const CLASSES = 1000;
const MAP_PIXELS = 512;
const CAMERA_PIXELS = 1280;
const CHOOSE_DELAY = 120; // milliseconds: who walks through the classes by arrow keys asks for the last one

const by = (id) => document.getElementById(id);
const state = { about: null, token: "", picture: null, chosen: null, stream: null, retry: null, pointed: false, round: 0, mapRound: 0 };

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(path, body) {
  const headers = { Accept: path.startsWith("explain") ? "image/png, application/json" : "application/json" };
  if (state.token) headers.Authorization = `Bearer ${state.token}`;
  const options = { headers, cache: "no-store", credentials: "same-origin" };
  if (body) Object.assign(options, { method: "POST", body });
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Refused(0, "The server did not answer. It may be restarting, or the connection is gone.");
  }
  if (response.ok) return response;
  throw new Refused(response.status, await sentence(response));
}

async function sentence(response) {
  const text = await response.text();
  try {
    const said = JSON.parse(text).error;
    if (typeof said === "string" && said) return said.charAt(0).toUpperCase() + said.slice(1) + (/[.!?]$/.test(said) ? "" : ".");
  } catch {
    // No JSON: something before the server has answered; its code is all there is to tell.
  }
  return `The answer was ${response.status} ${response.statusText}`.trim() + ".";
}

// Runs what was asked for; a refusal is shown, and can be tried again where that may help.
async function attempt(work) {
  try {
    await work();
  } catch (error) {
    state.retry = work;
    if (error instanceof Refused && error.status === 401) return askForToken(error.message);
    showAlert(error.message, !(error instanceof Refused) || error.status === 0 || error.status >= 429);
  }
}

function showAlert(text, again) {
  by("alert-text").textContent = text;
  by("again").hidden = !again;
  by("alert").hidden = false;
}

function clearAlert() {
  by("alert").hidden = true;
  by("alert-text").textContent = "";
}

function askForToken(message) {
  if (state.token) showAlert(message, false);
  state.token = "";
  by("login").hidden = false;
  by("token").value = "";
  by("token").focus();
}

by("login").addEventListener("submit", (event) => {
  event.preventDefault();
  state.token = by("token").value.trim();
  by("token").value = "";
  by("login").hidden = true;
  clearAlert();
  const retry = state.retry;
  attempt(async () => {
    if (!state.about) await loadAbout();
    if (retry && retry !== loadAbout) await retry();
  });
  by("file").focus();
});

by("again").addEventListener("click", () => {
  clearAlert();
  by("file").focus();
  attempt(state.retry);
});

// --- what is served ---

async function loadAbout() {
  state.about = await (await ask("about")).json();
  const { model, version, precision, classes, training } = state.about;
  document.title = `${model} · Lepton`;
  by("model").textContent = model;
  const form = precision === "int8" ? " · 8 bits" : "";
  by("version").textContent = `Version ${version} · ${classes} ${classes === 1 ? "class" : "classes"}${form}`;
  showTraining(training);
}

function showTraining(training) {
  const figures = [
    ["Accuracy", training?.accuracy],
    [`Top-${training?.topK} accuracy`, training?.topK < state.about.classes ? training?.topKAccuracy : undefined],
    ["Precision", training?.precision],
    ["Recall", training?.recall],
    ["F1", training?.f1],
  ].filter(([, value]) => typeof value === "number");
  by("figures").replaceChildren(
    ...figures.map(([name, value]) => {
      const group = document.createElement("div");
      group.append(element("dt", "", name), element("dd", "", percent(value)));
      return group;
    }),
  );
  by("training-none").hidden = figures.length > 0;
  by("training-note").textContent =
    figures.length && training.samples
      ? `Measured on ${training.samples.toLocaleString("en")} test pictures that it never learned from.`
      : "";
  by("training").hidden = false;
}

// --- the picture ---

function usePicture(file, name) {
  if (!file) return; // the dialog was left without a choice
  stopCamera();
  const round = ++state.round;
  state.mapRound++;
  state.chosen = null;
  state.picture = file;
  clearAlert();
  showPicture(file, name);
  by("answer").classList.add("busy");
  attempt(() => classify(round));
}

function showPicture(file, name) {
  const image = by("picture");
  replaceSource(image, URL.createObjectURL(file));
  image.alt = `Your picture${name ? `, ${name}` : ""}`;
  image.hidden = false;
  dropMap();
  by("empty").hidden = true;
  by("stage").classList.add("filled");
}

function dropMap() {
  by("map").hidden = true;
  replaceSource(by("map"), "");
  by("map").alt = "";
  by("map-tools").hidden = true;
}

function replaceSource(image, url) {
  if (image.src.startsWith("blob:")) URL.revokeObjectURL(image.src);
  if (url) image.src = url;
  else image.removeAttribute("src");
}

by("picture").addEventListener("load", () => {
  const { naturalWidth, naturalHeight } = by("picture");
  by("stage").style.aspectRatio = Math.min(2, Math.max(0.75, naturalWidth / naturalHeight));
});

by("picture").addEventListener("error", emptyStage); // the server says what is wrong with it

function emptyStage() {
  replaceSource(by("picture"), "");
  by("picture").hidden = true;
  dropMap();
  by("empty").hidden = false;
  by("stage").classList.remove("filled");
  by("stage").style.aspectRatio = "";
}

by("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  usePicture(file, file?.name);
  event.target.value = ""; // so that the same file can be chosen again
});

document.addEventListener("paste", (event) => {
  const file = [...(event.clipboardData?.files ?? [])][0];
  if (file) {
    event.preventDefault();
    usePicture(file, "pasted");
  }
});

document.addEventListener("dragover", (event) => {
  event.preventDefault();
  by("stage").classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) by("stage").classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  by("stage").classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file) usePicture(file, file.name);
  else showAlert("That was no file. Save the picture first, then drop its file here.", false);
});

// --- the answer ---

async function classify(round) {
  const picture = state.picture;
  try {
    if (!state.about) await loadAbout();
    const started = performance.now();
    const answer = await (await ask(`classify?top=${CLASSES}`, picture)).json();
    const milliseconds = performance.now() - started;
    if (round !== state.round) return;
    clearAlert();
    showAnswer(answer.predictions, milliseconds);
  } catch (error) {
    if (round !== state.round) return;
    by("answer").hidden = true;
    by("waiting").hidden = false;
    if (error.status === 415) throw new Refused(415, "This file is not a JPEG, PNG, WebP, BMP or GIF picture.");
    throw error;
  } finally {
    if (round === state.round) by("answer").classList.remove("busy");
  }
  if (state.about.explanations) await explain(state.chosen);
}

function showAnswer(predictions, milliseconds) {
  const [best] = predictions;
  by("waiting").hidden = true;
  by("answer").hidden = false;
  by("best").textContent = best.label;
  by("best-value").textContent = percent(best.probability);
  showPrecision(best);
  const explained = state.about.explanations;
  by("classes-title").textContent = explained ? "Choose a class to see what speaks for it" : "Classes";
  by("bars").replaceChildren(...predictions.map((one, place) => row(one, place, explained)));
  const hidden = predictions.length - SHOWN;
  by("more").hidden = hidden <= 0;
  by("more").textContent = `Show ${hidden} more`;
  by("more").setAttribute("aria-expanded", "false");
  by("latency").textContent = `Answered in ${milliseconds.toFixed(milliseconds < 100 ? 1 : 0)} ms, network included.`;
  by("status").textContent = `${best.label}, ${percent(best.probability)}.`;
  state.chosen = best;
}

function showPrecision(best) {
  const precision = state.about.training?.classPrecision?.[best.index];
  by("precision").textContent =
    typeof precision === "number" ? `In the test, ${percent(precision)} of such answers were right.` : "";
}

function row(prediction, place, explained) {
  const line = element(explained ? "label" : "div", "row");
  line.hidden = place >= SHOWN;
  if (explained) {
    const radio = document.createElement("input");
    Object.assign(radio, { type: "radio", name: "class", value: String(prediction.index), checked: place === 0 });
    radio.addEventListener("change", () => choose(prediction));
    line.addEventListener("pointerup", () => (state.pointed = true));
    line.addEventListener("keydown", () => (state.pointed = false));
    line.append(radio);
  }
  const track = element("span", "track");
  const bar = element("span", "");
  bar.style.width = `${100 * prediction.probability}%`;
  track.setAttribute("aria-hidden", "true");
  track.append(bar);
  line.append(element("span", "name", prediction.label), element("span", "value", percent(prediction.probability)), track);
  return line;
}

by("more").addEventListener("click", () => {
  const open = by("more").getAttribute("aria-expanded") === "false";
  const rows = [...by("bars").children];
  for (const line of rows.slice(SHOWN)) line.hidden = !open && !line.querySelector(":checked");
  by("more").setAttribute("aria-expanded", String(open));
  by("more").textContent = open ? "Show fewer" : `Show ${rows.filter((line) => line.hidden).length} more`;
});

// --- the map ---

let choosing = 0;

function choose(prediction) {
  state.chosen = prediction;
  clearTimeout(choosing);
  choosing = setTimeout(() => attempt(() => explain(prediction)), CHOOSE_DELAY);
}

async function explain(prediction) {
  const round = ++state.mapRound;
  const response = await ask(`explain?class=${prediction.index}&size=${MAP_PIXELS}`, state.picture);
  const blob = await response.blob();
  if (round !== state.mapRound) return;
  clearAlert();
  const map = by("map");
  replaceSource(map, URL.createObjectURL(blob));
  map.alt = `The picture under the activation map of ${prediction.label}`;
  const nothing = Number(response.headers.get("Lepton-Maximum")) === 0;
  const told = nothing
    ? `Nothing in this picture speaks for ${prediction.label}.`
    : `The map shows what speaks for ${prediction.label}.`;
  by("map-note").textContent = told;
  map.hidden = false;
  by("map-tools").hidden = false;
  // On a phone the picture is above the classes; who walks by keys must not lose sight of the class.
  if (state.pointed) by("stage").scrollIntoView({ block: "nearest" });
  state.pointed = false;
  by("status").textContent = `${prediction.label}, ${percent(prediction.probability)}. ${told}`;
}

by("strength").addEventListener("input", (event) => {
  by("map").style.opacity = event.target.value / 100;
});

// --- the camera ---

function prepareCamera() {
  const usable = window.isSecureContext && navigator.mediaDevices?.getUserMedia;
  by("camera").hidden = !usable;
  if (!usable) note("The camera can be used where this page comes over HTTPS or from localhost.");
}

function note(text) {
  by("camera-note").textContent = text;
  by("camera-note").hidden = !text;
}

by("camera").addEventListener("click", async () => {
  note("");
  try {
    state.stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" }, audio: false });
  } catch (error) {
    const why = {
      NotAllowedError: "The browser was not allowed to use the camera: allow it in the settings of this page.",
      NotFoundError: "There is no camera on this device.",
      NotReadableError: "The camera is in use by another program.",
    };
    return showAlert(why[error.name] ?? `The camera can't be used: ${error.message}`, false);
  }
  clearAlert();
  const video = by("video");
  video.srcObject = state.stream;
  await video.play();
  for (const id of ["picture", "map", "empty", "map-tools", "camera"]) by(id).hidden = true;
  for (const id of ["video", "shoot", "stop"]) by(id).hidden = false;
  by("stage").classList.add("filled");
  by("shoot").focus();
});

by("shoot").addEventListener("click", () => {
  const video = by("video");
  const scale = Math.min(1, CAMERA_PIXELS / Math.max(video.videoWidth, video.videoHeight));
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(video.videoWidth * scale);
  canvas.height = Math.round(video.videoHeight * scale);
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  canvas.toBlob((blob) => usePicture(blob, "from the camera"), "image/jpeg", 0.92);
});

by("stop").addEventListener("click", () => {
  stopCamera();
  const before = Boolean(by("picture").getAttribute("src"));
  by("picture").hidden = !before;
  by("map").hidden = by("map-tools").hidden = !by("map").getAttribute("src");
  by("empty").hidden = before;
  by("stage").classList.toggle("filled", before);
});

function stopCamera() {
  if (!state.stream) return;
  for (const track of state.stream.getTracks()) track.stop();
  state.stream = null;
  by("video").srcObject = null;
  for (const id of ["video", "shoot", "stop"]) by(id).hidden = true;
  by("camera").hidden = false;
  by("camera").focus();
}

// --- small things ---

function element(tag, className, text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.textContent = text;
  return made;
}

function percent(value) {
  const text = (100 * value).toFixed(1);
  if (text === "0.0" && value > 0) return "< 0.1 %";
  if (text === "100.0" && value < 1) return "> 99.9 %";
  return `${text.replace(/\.0$/, "")} %`;
}

by("command").textContent = `curl --data-binary @picture.jpg ${new URL("classify", location.href).href}`;
prepareCamera();
attempt(loadAbout);
