// The index of all videos: filters, order, marks, and a list that draws only what is in view.
// Data files call triage.open (once) and triage.shard; text reaches the page by textContent only.
"use strict";
const triage = (() => {
  const ROW_PX = 84, KEPT_SHARDS = 80;
  const WORDS = { attributed: "attributed", one_of: "one of several", real: "real", unknown: "unknown",
    inconclusive: "inconclusive", rejected: "rejected" };
  const LABELS = { verdict: "verdict", generator: "generator", quality: "quality", folder: "folder",
    reject: "reject code", mark: "mark" };
  const ORDERS = { strength: "strongest first", weakest: "weakest first", probability: "highest probability",
    name: "by name" };
  const byId = (id) => document.getElementById(id);
  const list = byId("list"), space = byId("space"), panel = byId("panel");
  let data, marks = new Map(), chosen = {}, order = "strength", search = "", shown = [], current = 0;
  let kept = true, most = 1, names;
  const shards = new Map(), waiting = new Set();

  function make(tag, className, text) {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    return node;
  }

  // ---- data ------------------------------------------------------------------------------------------
  const value = (name, row) => data.filters[name]?.values[data.filters[name].codes[row]] ?? "";
  const idOf = (row) => (value("folder", row) ? value("folder", row) + "/" : "") + data.name[row];
  const markOf = (row) => marks.get(idOf(row)) ?? { mark: false, note: "" };

  function shard(number, rows) {
    shards.set(number, rows);
    waiting.delete(number);
    for (const old of shards.keys()) {
      if (shards.size <= KEPT_SHARDS) break;
      if (old !== number) shards.delete(old);
    }
    draw();
  }

  function details(row) {
    const number = Math.floor(row / data.per_shard), found = shards.get(number);
    if (found) return found[row % data.per_shard];
    if (!waiting.has(number)) {
      waiting.add(number);
      const script = document.createElement("script");
      script.src = `data/${String(number).padStart(5, "0")}.js`;
      script.onload = () => script.remove();
      script.onerror = () => script.remove();  // stays in `waiting`: a missing file is asked for once
      document.head.append(script);
    }
    return null;
  }

  // ---- marks -----------------------------------------------------------------------------------------
  const key = () => "dfdm-ray triage " + data.run;

  function readMarks() {
    try { marks = new Map(JSON.parse(localStorage.getItem(key()) ?? "[]")); } catch { kept = false; }
  }

  function setMark(row, change) {
    const now = { ...markOf(row), ...change, at: new Date().toISOString() };
    if (now.mark || now.note) marks.set(idOf(row), now); else marks.delete(idOf(row));
    try { localStorage.setItem(key(), JSON.stringify([...marks])); } catch { kept = false; }
    draw();
    count();
  }

  function csv() {
    const rows = [["video_id", "verdict", "generator", "log10_lr", "probability", "mark", "note", "marked_at"]];
    for (let row = 0; row < data.name.length; row++) {
      const found = marks.get(idOf(row));
      if (!found) continue;
      const ratio = data.strength[row];
      rows.push([idOf(row), value("verdict", row), value("generator", row),
        ratio === null ? "" : value("generator", row) === "real" ? -ratio : ratio,
        data.probability[row] ?? "", found.mark ? "review" : "", found.note, found.at]);
    }
    // A spreadsheet would run a text that begins like a formula.
    const safe = (cell) => typeof cell === "string" && /^[=+\-@\t\r]/.test(cell) ? "'" + cell : String(cell);
    return rows.map((row) => row.map((cell) => `"${safe(cell).replaceAll('"', '""')}"`).join(",")).join("\r\n") + "\r\n";
  }

  function exportMarks() {
    const link = make("a");
    link.href = URL.createObjectURL(new Blob(["\ufeff", csv()], { type: "text/csv" }));
    link.download = "marks.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  // ---- filters and order -----------------------------------------------------------------------------
  function fits(row, wanted) {
    for (const [name, code] of wanted) {
      if (name === "mark") {
        const found = markOf(row);
        if (!(code === 0 ? found.mark : code === 1 ? found.note : !found.mark && !found.note)) return false;
      } else if (data.filters[name].codes[row] !== code) return false;
    }
    return !search || names[row].includes(search);
  }

  const ORDER_OF = {
    strength: null,  // the order of the rows
    weakest: (a, b) => b - a,
    probability: (a, b) => (data.probability[b] ?? -1) - (data.probability[a] ?? -1) || a - b,
    name: (a, b) => (names[a] < names[b] ? -1 : names[a] > names[b] ? 1 : a - b),
  };

  function filter({ keep = false } = {}) {
    const before = shown[current];
    if ((search || order === "name") && !names) names = data.name.map((_, row) => idOf(row).toLowerCase());
    const wanted = Object.entries(chosen);
    shown = [];
    for (let row = 0; row < data.name.length; row++) if (fits(row, wanted)) shown.push(row);
    if (ORDER_OF[order]) shown.sort(ORDER_OF[order]);
    current = keep ? Math.max(0, shown.indexOf(before)) : 0;
    space.style.height = `${shown.length * ROW_PX}px`;
    byId("empty").hidden = shown.length > 0;
    if (!keep) list.scrollTop = 0;
    count();
    draw();
    show();
  }

  function count() {
    let marked = 0;
    for (const found of marks.values()) marked += found.mark;
    const all = data.name.length.toLocaleString("en"), some = shown.length.toLocaleString("en");
    const where = kept ? "" : "; this browser does not keep marks: export them before you leave";
    byId("count").textContent = `${some} of ${all} videos, ${marked} marked for review${where}`;
  }

  function controls() {
    const filters = byId("filters");
    const choices = Object.entries(data.filters).map(([name, column]) => {
      const counts = new Array(column.values.length).fill(0);
      for (const code of column.codes) if (code >= 0) counts[code]++;
      const texts = column.values.map((text, code) =>
        [code, `${name === "verdict" ? WORDS[text] : text || "(top)"} (${counts[code].toLocaleString("en")})`]);
      return [name, texts.filter(([code]) => counts[code])];
    });
    choices.push(["mark", [[0, "marked for review"], [1, "with a note"], [2, "neither"]]]);
    for (const [name, texts] of choices) {
      const select = make("select");
      select.id = "by-" + name;
      select.setAttribute("aria-label", LABELS[name]);
      select.append(new Option(`any ${LABELS[name]}`, ""), ...texts.map(([code, text]) => new Option(text, code)));
      select.disabled = !texts.length;
      select.onchange = () => {
        if (select.value === "") delete chosen[name]; else chosen[name] = Number(select.value);
        select.classList.toggle("on", select.value !== "");
        filter();
      };
      filters.append(select);
    }
    const sort = make("select"), find = make("input"), save = make("button", "", "Export marks (CSV)");
    sort.id = "order";
    sort.setAttribute("aria-label", "order");
    sort.append(...Object.entries(ORDERS).map(([name, text]) => new Option(text, name)));
    sort.onchange = () => { order = sort.value; filter(); };
    find.id = "search";
    find.type = "search";
    find.placeholder = "part of a name";
    find.setAttribute("aria-label", "part of a name");
    find.oninput = () => { search = find.value.toLowerCase(); find.classList.toggle("on", !!search); filter(); };
    save.id = "export";
    save.onclick = exportMarks;
    filters.append(sort, find, save);
  }

  // ---- list ------------------------------------------------------------------------------------------
  function strengthText(row) {
    const ratio = data.strength[row], probability = data.probability[row];
    if (ratio !== null) return `log10 LR ${Math.abs(ratio).toFixed(2)}`;
    const hasNone = probability === null || value("verdict", row) === "unknown";  // the ratio compares known classes
    return hasNone ? "" : `p ${probability.toFixed(2)}, uncalibrated`;
  }

  function answer(row) {
    const verdict = value("verdict", row), more = value({ attributed: "generator", rejected: "reject" }[verdict] ?? "", row);
    return WORDS[verdict] + (more ? ": " + more : "");
  }

  const closest = (row) => ["one_of", "unknown", "inconclusive"].includes(value("verdict", row)) && value("generator", row)
    ? "closest class " + value("generator", row) : "";

  function picture(row, className) {
    const found = details(row), image = make(found?.[0] ? "img" : "div", className);
    if (found?.[0]) { image.src = "data:image/jpeg;base64," + found[0]; image.alt = ""; }
    return image;
  }

  function rowNode(at) {
    const row = shown[at], verdict = value("verdict", row), found = markOf(row), node = make("div", "row " + verdict);
    node.classList.toggle("current", at === current);
    node.style.top = `${at * ROW_PX}px`;
    node.dataset.at = at;
    const words = make("div"), strength = make("div", "strength"), flags = make("div", "flags");
    words.style.minWidth = 0;
    const facts = [value("folder", row), value("quality", row), closest(row)].filter(Boolean);
    words.append(make("div", "verdict", answer(row)), make("div", "name", data.name[row]),
      make("div", "more", facts.join(" \u00b7 ")));
    if (strengthText(row)) {
      const track = make("span", "track"), bar = make("span");
      bar.style.width = `${100 * Math.min(1, Math.abs(data.strength[row] ?? 0) / most)}%`;
      track.append(bar);
      strength.append(track, strengthText(row));
    }
    if (found.mark) flags.append(make("b", "", "review"));
    if (found.note) flags.append(make("div", "", found.note));
    node.append(picture(row, "none"), words, strength, flags);
    return node;
  }

  function draw() {
    if (!data) return;
    const first = Math.max(0, Math.floor(list.scrollTop / ROW_PX) - 4);
    const last = Math.min(shown.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW_PX) + 4);
    const nodes = [];
    for (let at = first; at < last; at++) nodes.push(rowNode(at));
    space.replaceChildren(...nodes);
    const image = byId("portrait");
    if (image && shown.length && image.dataset.row === String(shown[current]) && !image.src) portrait(image, shown[current]);
  }

  function portrait(image, row) {
    const found = details(row);
    if (found?.[0]) image.src = "data:image/jpeg;base64," + found[0];
    if (found) byId("why").textContent = found[1];
  }

  function show() {
    if (!shown.length) { panel.replaceChildren(); return; }
    const row = shown[current], verdict = value("verdict", row), found = markOf(row);
    panel.className = verdict;
    const image = make("img"), buttons = make("div", "buttons"), mark = make("button", found.mark ? "pressed" : "", found.mark ? "Marked for review" : "Mark for review");
    image.id = "portrait"; image.alt = ""; image.dataset.row = row;
    mark.id = "mark"; mark.onclick = () => { toggle(); };
    mark.setAttribute("aria-pressed", found.mark);
    buttons.append(mark);
    const page = data.pages[row], link = make("a", "open", "Open the page");
    if (page) { link.id = "page"; link.href = `videos/${page}.html`; link.target = "_blank"; link.rel = "noopener"; buttons.prepend(link); }
    const note = make("textarea"), label = make("label", "keys", "Note"), why = make("p");
    note.id = "note"; note.value = found.note; label.htmlFor = "note"; why.id = "why";
    note.oninput = () => setMark(row, { note: note.value });
    note.placeholder = "note";
    panel.replaceChildren(image, make("h2", "", answer(row)), why,
      make("p", "", [strengthText(row), closest(row)].filter(Boolean).join(", ")), make("p", "id", idOf(row)), buttons, label, note);
    if (!page) panel.append(make("p", "keys", "It has no page yet. This makes one:"), make("code", "", `dfdm-ray report ${quoted(data.out)} --videos ${quoted(idOf(row))}`));
    const keys = make("p", "keys");
    for (const [name, what] of [["j", "next"], ["k", "previous"], ["m", "mark"], ["n", "note"], ["o", "open"], ["/", "search"], ["e", "export"]])
      keys.append(make("kbd", "", name), ` ${what} `);
    panel.append(keys);
    portrait(image, row);
  }

  const quoted = (text) => /^[\w@%+=:,.\/-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`;

  // ---- steps -----------------------------------------------------------------------------------------
  function go(at) {
    if (!shown.length) return;
    current = Math.min(Math.max(at, 0), shown.length - 1);
    const top = current * ROW_PX;
    if (top < list.scrollTop) list.scrollTop = top;
    if (top + ROW_PX > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW_PX - list.clientHeight;
    draw();
    show();
  }

  function toggle() {
    if (!shown.length) return;
    setMark(shown[current], { mark: !markOf(shown[current]).mark });
    show();
  }

  const page = () => Math.max(1, Math.floor(list.clientHeight / ROW_PX) - 1);
  const STEPS = {
    j: () => go(current + 1), ArrowDown: () => go(current + 1), k: () => go(current - 1), ArrowUp: () => go(current - 1),
    PageDown: () => go(current + page()), PageUp: () => go(current - page()), Home: () => go(0), End: () => go(shown.length - 1),
    m: toggle, n: () => byId("note")?.focus(), o: () => byId("page")?.click(), Enter: () => byId("page")?.click(),
    "/": () => byId("search").focus(), e: exportMarks,
  };

  document.addEventListener("keydown", (event) => {
    if (!data || event.ctrlKey || event.metaKey || event.altKey) return;
    const target = event.target, typing = target.matches("input, textarea, select");
    if (event.key === "Escape") { target.blur(); list.focus(); return; }
    if (typing || (target.matches("button, a") && event.key === "Enter")) return;
    const step = STEPS[event.key];
    if (step) { event.preventDefault(); step(); }
  });
  list.addEventListener("scroll", () => requestAnimationFrame(draw));
  addEventListener("resize", draw);
  space.addEventListener("click", (event) => {
    const row = event.target.closest(".row");
    if (row) { go(Number(row.dataset.at)); list.focus({ preventScroll: true }); }
  });
  space.addEventListener("dblclick", () => byId("page")?.click());

  return {
    open(content) {
      data = content;
      most = Math.max(1, ...[0].concat(data.strength.slice(0, 1), data.strength.filter((one) => one !== null).slice(-1)).map(Math.abs));
      readMarks();
      controls();
      filter();
      list.focus({ preventScroll: true });
    },
    shard,
    opened() { if (!data) byId("count").textContent = "data/index.js is missing beside this page; copy the whole folder."; },
  };
})();
