// Search, where there are many labels. In one block with review.js, whose names it uses: see review.html.j2.

function openSearch(letter) {
  at("search").value = letter;
  at("search").focus();
  find();
}

function closeSearch() {
  at("search").value = "";
  at("found").hidden = true;
  at("search").setAttribute("aria-expanded", "false");
  at("search").removeAttribute("aria-activedescendant");
}

const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

function find() {
  const wanted = plain(at("search").value.trim());
  const rank = (name) => (name.startsWith(wanted) ? 0 : name.split(/[^\p{L}\p{N}]+/u).some((word) => word.startsWith(wanted)) ? 1 : name.includes(wanted) ? 2 : 3);
  const hits = data.labels.map((label, index) => [rank(plain(label.name)), index]).filter(([worth]) => worth < 3).sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const list = hits.map(([, index], number) => {
    const line = make("li");
    line.id = `found-${index}`;
    line.setAttribute("role", "option");
    line.append(make("bdi", "", data.labels[index].name));
    line.addEventListener("mousedown", (event) => { event.preventDefault(); decide(index); });
    line.dataset.label = index;
    line.setAttribute("aria-selected", String(number === 0));
    return line;
  });
  at("found").replaceChildren(...(list.length ? list : [make("li", "none", "no such label")]));
  at("found").hidden = false;
  at("search").setAttribute("aria-expanded", "true");
  if (list.length) at("search").setAttribute("aria-activedescendant", list[0].id);
}

function shift(by) {
  const all = [...at("found").querySelectorAll("[data-label]")];
  if (!all.length || at("found").hidden) return find();
  const from = all.findIndex((each) => each.getAttribute("aria-selected") === "true");
  const to = all[(from + by + all.length) % all.length];
  all[from].setAttribute("aria-selected", "false");
  to.setAttribute("aria-selected", "true");
  to.scrollIntoView({ block: "nearest" });
  at("search").setAttribute("aria-activedescendant", to.id);
}

at("search").addEventListener("input", find);
at("search").addEventListener("blur", () => { at("found").hidden = true; at("search").setAttribute("aria-expanded", "false"); });
at("search").addEventListener("keydown", (event) => {
  event.stopPropagation();
  if (event.key === "Escape") { closeSearch(); at("text").focus({ preventScroll: true }); }
  else if (event.key === "ArrowDown") shift(1);
  else if (event.key === "ArrowUp") shift(-1);
  else if (event.key === "Enter" && !event.repeat) {
    const marked = at("found").hidden ? null : at("found").querySelector('[aria-selected="true"]');
    if (marked) decide(Number(marked.dataset.label));
  } else return;
  event.preventDefault();
});
