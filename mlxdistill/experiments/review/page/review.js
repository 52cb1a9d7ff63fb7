// The page's behaviour. It keeps nothing that the store does not have: what is shown as decided was answered as saved,
// and a request whose answer is lost is sent again, with the number of the entry it was made on top of.

const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const MANY = data.labels.length > 9;
const POLL = 3000, RETRY = 1000, PATIENCE = 8000;
const statuses = new Map(), rows = new Map();
let version = 0, undoable = null, summary = null, place = null, current = null, ended = false;
let pending = 0; // what was asked for and not yet answered
let last = ""; // what the status line says

// ---- talking to the server: nothing is given up, and nothing is taken for saved before it is

const sleep = (time) => new Promise((done) => setTimeout(done, time));

function trouble(text) {
  if (at("trouble").textContent !== text) at("trouble").textContent = text;
  at("trouble").hidden = !text;
}

async function ask(path, body, patient = true) {
  for (;;) {
    let found = null;
    const saving = pending ? " Your last decision is kept in this window and sent as soon as it answers." : "";
    try {
      const sent = body && { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
      const answer = await fetch(path, { credentials: "same-origin", cache: "no-store", signal: AbortSignal.timeout(PATIENCE), ...sent });
      const is = answer.headers.get("content-type") || "";
      found = { status: answer.status, content: is.startsWith("application/json") ? await answer.json() : {} };
    } catch {
      trouble(`The review has stopped answering.${saving} If it was ended, start it again: ${data.again}`);
    }
    if (found && found.status === 503) trouble(`Not saved: ${found.content.message}.${found.content.hint ? ` ${found.content.hint}.` : ""}${saving}`);
    else if (found && found.status === 403) trouble(`This window is no longer let in: the review was started anew. Open the link that it printed.${saving}`);
    else if (found) {
      trouble("");
      return found;
    }
    if (!patient) return null;
    await sleep(RETRY);
  }
}

function take(state) {
  if (state.version < version) return; // it was on its way while something was decided
  for (const [key, status] of Object.entries(state.changes)) statuses.set(Number(key), status);
  version = Math.max(version, state.version);
  undoable = state.undoable;
  summary = state.summary;
}

const outcome = (of) => (statuses.get(of) || {}).outcome || null;
const isDecided = (of) => outcome(of) !== null;

function nextOpen(from) {
  for (let step = 0; step < data.total; step++) {
    const of = (from + step) % data.total;
    if (!isDecided(of)) return of;
  }
  return null;
}

function load(of) {
  if (of === null || of < 0 || of >= data.total) return null;
  if (!rows.has(of)) {
    if (rows.size > 40) rows.delete(rows.keys().next().value);
    rows.set(of, ask(`/row/${of}`).then((found) => found.content));
  }
  return rows.get(of);
}

// ---- moving

async function go(to) {
  if (to === null) return end();
  ended = false;
  place = to;
  try { history.replaceState(null, "", `/#${to + 1}`); } catch { /* too often for the browser; only the address is older */ }
  const row = await load(to);
  if (place !== to) return;
  current = row;
  at("end").hidden = true;
  at("main").hidden = false;
  draw();
  scrollTo(0, 0);
  at("text").focus({ preventScroll: true });
  load(nextOpen(to + 1));
}

async function busily(work) {
  if (pending) return;
  pending = 1;
  document.body.classList.add("busy");
  try { await work(); } finally {
    pending = 0;
    document.body.classList.remove("busy");
    frame();
  }
}

function decide(label) {
  if (!current || ended) return;
  return busily(async () => {
    const of = place, seen = (statuses.get(of) || { number: 0 }).number;
    const { status, content } = await ask("/decide", { place: of, label, seen, since: version });
    if (status !== 200 && status !== 409) return say(`Not saved: ${content.message || `the review answered ${status}`}`);
    take(content);
    const now = statuses.get(of);
    // An answer that was lost on its way may have been saved: then what stands is what was asked for.
    const saved = status === 200 || (now && now.outcome && now.label === label);
    const name = label === null ? "unsure" : data.labels[label].name;
    if (!saved) {
      say(`Decided in another window meanwhile: ${now && now.outcome ? said(now) : "taken back"}. Yours was not saved; decide again to change it.`);
      return draw();
    }
    say(`Row ${of + 1}: ${name}`);
    await go(nextOpen(of + 1));
  });
}

function accept() {
  if (!current || ended) return;
  if (!current.answer || current.answer.label === null) return say(current.blind ? "The teacher’s answer is not shown here: choose a label." : "The teacher named no label: choose one.");
  return decide(current.answer.label);
}

function undo() {
  if (!undoable) return say("Nothing to take back.");
  return busily(async () => {
    const { number, place: of } = undoable;
    const { status, content } = await ask("/undo", { number, since: version });
    if (status !== 200 && status !== 409) return say(`Not taken back: the review answered ${status}`);
    take(content);
    const gone = status === 200 || !undoable || undoable.number < number;
    say(gone ? `Row ${of + 1}: taken back${isDecided(of) ? `, now ${said(statuses.get(of))}` : ""}` : `Another window decided since, row ${undoable.place + 1}. Press again to take that back.`);
    if (gone) await go(of);
  });
}

function move(by) {
  const from = ended ? data.total : place;
  if (from === null) return;
  const to = from + by;
  if (to >= data.total) return nextOpen(0) === null ? end() : say("This is the last row.");
  if (to < 0) return say("This is the first row.");
  say("");
  return go(to);
}

// ---- drawing: text content only, never markup

function make(name, kind, text) {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  if (text !== undefined) made.textContent = text;
  return made;
}

const percent = (share) => (share > 0 && share < 0.005 ? "<1 %" : share > 0.995 && share < 1 ? ">99 %" : `${Math.round(100 * share)} %`);
const exact = (share) => `${(100 * share).toFixed(1)} %`;
const said = (status) => (status.outcome === "unsure" ? "unsure" : data.labels[status.label].name);

function say(text) {
  last = text;
  at("said").textContent = text;
}

function pieces(into, parts) {
  for (const [text, name] of parts) {
    if (name === undefined) into.append(text);
    else {
      const mark = make("span", "mark", name);
      mark.title = text;
      mark.setAttribute("role", "img");
      mark.setAttribute("aria-label", text);
      into.append(mark);
    }
  }
}

function draw() {
  const row = current, text = at("text");
  text.replaceChildren();
  text.classList.toggle("long", row.characters > 600);
  pieces(text, row.text);
  at("more").hidden = row.next === null;
  at("more").dataset.from = row.next;
  at("more").textContent = `Show more of ${row.characters.toLocaleString("en")} characters`;
  at("id").textContent = `Row ${row.id}`;
  at("size").textContent = `${row.characters.toLocaleString("en")} character${row.characters === 1 ? "" : "s"}`;
  at("gold").textContent = row.gold === null ? "" : `gold: ${row.gold}, which stays whatever is decided here`;
  at("why").replaceChildren(...row.reasons.map(([kind, sentence]) => make("li", kind, sentence)));
  drawChoices(row);
  at("others").hidden = !row.opinions.length;
  at("opinions").replaceChildren(...row.opinions.map((each) => opinion(each, row.answer)));
  closeSearch();
  frame();
}

function opinion(each, answer) {
  const line = make("li");
  line.append(make("bdi", "", each.who));
  const name = make("span", answer && each.label !== answer.label ? "differs" : "", each.label === null ? "no label" : data.labels[each.label].name);
  const share = make("span", "sure", each.share === null ? "" : percent(each.share));
  line.append(make("span", "times", each.of > 1 ? `${each.times} of ${each.of}` : ""), name, share);
  return line;
}

function shown(row) {
  const every = data.labels.map((_, index) => index);
  if (!MANY) return every;
  const shares = row.answer && row.answer.shares, chosen = (statuses.get(place) || {}).label;
  let best = shares ? every.sort((a, b) => shares[b] - shares[a] || a - b).slice(0, 6) : [];
  if (row.answer && row.answer.label !== null) best = [row.answer.label, ...best.filter((each) => each !== row.answer.label)];
  if (chosen !== null && chosen !== undefined && !best.includes(chosen)) best.push(chosen);
  return best.slice(0, 9);
}

function drawChoices(row) {
  const status = statuses.get(place), answer = row.answer;
  const list = shown(row).map((label, index) => {
    const button = make("button", "choice"), item = make("li");
    button.type = "button";
    button.dataset.label = label;
    button.title = MANY ? data.labels[label].about : "";
    const meter = make("span", "meter"), fill = make("span", "fill"), name = make("span", "name");
    meter.append(fill);
    name.append(make("bdi", "", data.labels[label].name));
    const share = answer && answer.shares ? answer.shares[label] : null;
    if (share !== null) fill.style.width = `${100 * share}%`;
    button.append(make("kbd", "", String(index + 1)), name, make("span", "share", share === null ? "" : percent(share)));
    if (data.labels[label].about) button.append(make("span", "about", data.labels[label].about));
    if (answer && answer.shares) button.append(meter);
    if (answer && answer.label === label) {
      button.classList.add("teacher");
      name.append(make("small", "", answer.copied ? "teacher, for a near duplicate" : answer.truncated ? "teacher, text cut" : "teacher"));
    }
    const chosen = Boolean(status && status.outcome && status.label === label);
    button.classList.toggle("chosen", chosen);
    button.setAttribute("aria-pressed", String(chosen));
    button.addEventListener("click", () => decide(label));
    item.append(button);
    return item;
  });
  at("choices").replaceChildren(...list);
  at("finder").hidden = !MANY;
}

function frame() {
  if (!summary) return;
  const { accepted, changed, labelled, unsure } = summary, parts = [];
  const add = (count, name) => { const part = make("span"); part.append(make("b", "", count.toLocaleString("en")), ` ${name}`); parts.push(part); };
  if (accepted + changed || !labelled) { add(accepted, "accepted"); add(changed, "changed"); }
  if (labelled) add(labelled, "labelled");
  add(unsure, "unsure");
  if (summary.share) parts.push(make("span", "", `${exact(summary.share.value)} changed (${exact(summary.share.ci[0])} to ${exact(summary.share.ci[1])})`));
  at("tally").replaceChildren(...parts);
  at("position").textContent = ended ? `${summary.decided} of ${data.total}` : `${(place ?? 0) + 1} of ${data.total}`;
  strip();
  at("undo").disabled = !undoable;
  at("accept").disabled = ended || !current || !current.answer || current.answer.label === null;
  at("unsure").disabled = ended;
  at("back").disabled = !ended && place === 0;
  const status = place === null ? null : statuses.get(place);
  if (!last && !ended && status && status.outcome) at("said").textContent = `Decided: ${said(status)}`;
}

function strip() {
  const bar = at("strip"), cells = Math.min(data.total, 400);
  if (bar.childElementCount !== cells) bar.replaceChildren(...Array.from({ length: cells }, () => make("i")));
  for (let cell = 0; cell < cells; cell++) {
    const of = Math.floor((cell * data.total) / cells), here = !ended && Math.floor((place * cells) / data.total) === cell;
    bar.children[cell].className = `${outcome(of) || ""}${here ? " here" : ""}`;
  }
  bar.setAttribute("aria-label", `${summary.decided} of ${data.total} rows decided`);
}

function end() {
  ended = true;
  current = null;
  at("main").hidden = true;
  at("end").hidden = false;
  at("end-title").textContent = data.total ? `All ${data.total.toLocaleString("en")} rows of this queue are decided.` : "No row is left to look at.";
  const figures = [["accepted", summary.accepted], ["changed", summary.changed], ["labelled", summary.labelled], ["unsure", summary.unsure]];
  at("figures").replaceChildren(...figures.filter(([name, count]) => count || (name !== "labelled" && !summary.labelled)).map(([name, count]) => {
    const pair = make("div");
    pair.append(make("dt", "", name), make("dd", "", count.toLocaleString("en")));
    return pair;
  }));
  at("findings").replaceChildren(...summary.findings.map((sentence) => make("p", "", sentence)));
  at("again").textContent = data.total ? "The same command goes on with the next rows." : "";
  try { history.replaceState(null, "", "/"); } catch { /* as above */ }
  at("end").focus();
  say("");
  frame();
}

// ---- keys and buttons

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || at("keys").open) return;
  if (event.target.closest("input, textarea, select")) return;
  const key = event.key, letter = key.length === 1;
  if (letter && !at("single").checked) return;
  if ((key === "Enter" || key === " ") && event.target.closest("button, a, summary")) return;
  const moves = { j: 1, ArrowRight: 1, k: -1, ArrowLeft: -1 };
  if (key in moves) move(moves[key]);
  else if (event.repeat) { if (letter || key === "Enter" || key === "Backspace") event.preventDefault(); return; } // a key held down decides once
  else if (key === "Enter") accept();
  else if (key === "u") decide(null);
  else if (key === "z" || key === "Backspace") undo();
  else if (key === "n") { const to = nextOpen((place ?? -1) + 1); if (to === null) end(); else go(to); }
  else if (key === "?") at("keys").showModal();
  else if (/^[1-9]$/.test(key)) {
    const button = at("choices").querySelectorAll(".choice")[Number(key) - 1];
    if (button && !ended) decide(Number(button.dataset.label));
  } else if (MANY && !ended && (key === "/" || /^\p{L}$/u.test(key))) openSearch(key === "/" ? "" : key);
  else return;
  event.preventDefault();
}

addEventListener("keydown", onKey);
at("accept").addEventListener("click", accept);
at("unsure").addEventListener("click", () => decide(null));
at("undo").addEventListener("click", undo);
at("back").addEventListener("click", () => move(-1));
at("ahead").addEventListener("click", () => move(1));
at("help").addEventListener("click", () => at("keys").showModal());
at("single").addEventListener("change", () => { try { localStorage.setItem("single", String(at("single").checked)); } catch { /* for this window alone */ } });
at("more").addEventListener("click", async () => {
  const of = place, from = Number(at("more").dataset.from);
  const { content } = await ask(`/row/${of}?start=${from}`);
  if (of !== place) return;
  pieces(at("text"), content.text);
  at("more").hidden = content.next === null;
  at("more").dataset.from = content.next;
});
addEventListener("beforeunload", (event) => { if (pending) event.preventDefault(); });

async function look() {
  if (!pending && document.visibilityState === "visible") {
    const found = await ask(`/state?since=${version}`, null, false);
    if (found && found.status === 200 && !pending) {
      const before = outcome(place);
      const news = Object.keys(found.content.changes).length > 0;
      take(found.content);
      if (news && !ended && current && outcome(place) !== before) draw();
      else if (news) frame();
    }
  }
  setTimeout(look, POLL);
}

(async () => {
  try { at("single").checked = localStorage.getItem("single") !== "false"; } catch { /* on */ }
  document.body.classList.toggle("many", MANY);
  const asked = Number(location.hash.slice(1));
  const { content } = await ask("/state?since=0");
  take(content);
  const there = Number.isInteger(asked) && asked >= 1 && asked <= data.total;
  await go(there ? asked - 1 : nextOpen(0));
  if (ended) history.replaceState(null, "", "/");
  setTimeout(look, POLL);
})();
