"use strict";
const $ = id => document.getElementById(id);
const videos = [$("left"), $("right")];
const choices = [...document.querySelectorAll("button[data-side]")];
const KEYS = { ArrowLeft: "left", a: "left", 1: "left", ArrowRight: "right", b: "right", 2: "right" };
// A phone has no keys.
const KEYS_HINT = matchMedia("(hover: hover)").matches ? " Keys: \u2190 and \u2192." : "";
// Between two loops, and before videos are played that are not loaded.
const PAUSE_MS = 400, LOADING_MS = 4000;
let participant = new URLSearchParams(location.search).get("p");
let question = null, startedAt = null, unlocked = false, ended = 0, timer = 0;

function show(section) {
  for (const each of document.querySelectorAll("section")) each.hidden = each.id !== section;
}
function hint(text, isError = false) {
  $("hint").textContent = text; $("hint").classList.toggle("error", isError);
}
async function request(path, content) {
  const options = content && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(content) };
  const response = await fetch(path, options);
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}
function setUnlocked(value) {
  unlocked = value;
  for (const button of choices) button.disabled = !value;
}

function showQuestion(next) {
  question = next; startedAt = null; ended = 0;
  clearTimeout(timer);
  setUnlocked(false);
  if (next.index >= next.total) { show("thanks"); return; }
  show("question");
  $("count").textContent = `${next.index + 1} of ${next.total}`;
  $("bar").max = next.total; $("bar").value = next.index;
  hint("You can choose when both videos have played once.");
  $("apertures").replaceChildren(...next.f_numbers.map(number => {
    const item = document.createElement("li");
    item.textContent = "f/" + number;
    return item;
  }));
  videos.forEach((video, i) => { video.src = "videos/" + [next.left, next.right][i]; video.load(); });
  // Browsers that load nothing before they play
  timer = setTimeout(() => { if (startedAt === null) playBoth(); }, LOADING_MS);
}
function bothReady() {
  return videos.every(video => video.readyState >= HTMLMediaElement.HAVE_ENOUGH_DATA);
}
// Both begin at once and wait for each other at their end, so that the apertures shown are the same
async function playBoth() {
  ended = 0;
  $("play").hidden = true;
  for (const video of videos) video.currentTime = 0;
  if (startedAt === null) startedAt = performance.now();
  try {
    await Promise.all(videos.map(video => video.play()));
  } catch (error) {
    // A browser that plays nothing without a click; anything else is the next question's loading
    if (error.name === "NotAllowedError") { startedAt = null; $("play").hidden = false; }
  }
}
for (const video of videos) {
  video.addEventListener("canplaythrough", () => {
    if (startedAt === null && bothReady() && videos.every(each => each.paused)) playBoth();
  });
  video.addEventListener("error", () => hint("A video cannot be loaded; reload the page.", true));
  video.addEventListener("ended", () => {
    ended += 1;
    if (ended < videos.length) return;
    if (startedAt !== null && !unlocked) { setUnlocked(true); hint("Which one is better?" + KEYS_HINT); }
    timer = setTimeout(playBoth, PAUSE_MS);
  });
}
$("play").addEventListener("click", playBoth);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && question && question.left && startedAt !== null)
    for (const video of videos) if (video.paused && !video.ended) video.play().catch(() => {});
});

function showAperture() {
  const items = $("apertures").children, video = videos[0];
  const now = Math.min(items.length - 1, Math.floor(items.length * video.currentTime / (video.duration || 1)));
  for (let i = 0; i < items.length; i++) items[i].classList.toggle("now", i === now);
  requestAnimationFrame(showAperture);
}

async function choose(side) {
  if (!unlocked) return;
  setUnlocked(false);
  const answer = { participant, index: question.index, chosen: side, reaction_s: (performance.now() - startedAt) / 1000 };
  try {
    showQuestion(await request("answer", answer));
  } catch (error) {
    setUnlocked(true);
    hint("Your answer could not be stored: check the connection, and choose again.", true);
  }
}
for (const button of choices) button.addEventListener("click", () => choose(button.dataset.side));
document.addEventListener("keydown", event => {
  const isPlain = !event.repeat && !event.ctrlKey && !event.metaKey && !event.altKey;
  if (isPlain && event.key in KEYS) choose(KEYS[event.key]);
});

// The link has the participant's id in it: the same link goes on where one stopped
async function open() {
  if (participant === null) { show("start"); return; }
  try {
    showQuestion(await request("question?p=" + encodeURIComponent(participant)));
  } catch (error) {
    show("problem");
    $("reason").textContent = error instanceof TypeError
      ? "The study's computer does not respond. Try again later with the same link."
      : "This link belongs to no participant. Remove what follows the ? in the address to begin anew.";
  }
}
$("agree").addEventListener("click", async () => {
  $("agree").disabled = true;
  try {
    ({ participant } = await request("start", {}));
    history.replaceState(null, "", "?p=" + encodeURIComponent(participant));
    await open();
  } catch (error) {
    $("agree").disabled = false;
    show("problem");
    $("reason").textContent = "The study's computer does not respond. Reload the page to try again.";
  }
});
requestAnimationFrame(showAperture);
open();
