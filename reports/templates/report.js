"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // The exact data of a figure stand beside its button, as text; saving needs no network.
  for (const button of all("button.csv")) {
    button.addEventListener("click", () => {
      const text = JSON.parse(document.getElementById(button.getAttribute("aria-controls")).textContent);
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob(["\ufeff", text], { type: "text/csv;charset=utf-8" }));
      link.download = button.dataset.name;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // a busy machine starts saving late
    });
  }

  // Headings sort: numbers as numbers, empty cells last.
  const key = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.value ?? cell.textContent.trim();
    const number = Number(text);
    return text === "" || text === "–" ? null : Number.isNaN(number) ? text : number;
  };
  const compare = (a, b) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en");
  };
  const sort = (table, column, heading) => {
    const down = heading.getAttribute("aria-sort") === "ascending";
    for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [key(row, column), row]);
    rows.sort(([a], [b]) => (a === null || b === null ? compare(a, b) : down ? compare(b, a) : compare(a, b)));
    body.append(...rows.map(([, row]) => row));
  };
  for (const table of all("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => sort(table, column, heading));
    });
  }

  // On a phone the rows of wide tables are blocks, in which every number has the name of its column beside it.
  const wide = [".statistics", ".numbers:not(.robust)", ".ledger", ".secure", ".guarantees", ".board"];
  for (const table of all(wide.join())) {
    const names = [...table.tHead.rows[0].cells].map((cell) => cell.textContent.trim());
    for (const row of table.tBodies[0].rows) [...row.cells].forEach((cell, i) => (cell.dataset.label = names[i]));
    table.classList.add("stacking");
  }

  // A link unfolds what it leads into.
  const folds = all("details.fold");
  const follow = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", follow);
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.('a[href^="#"]');
    if (link && link.hash === location.hash) follow(); // the address does not change
  });

  // Printing shows the sections and the scenario, but neither data nor explanations, and folds them again afterwards.
  let opened = [];
  addEventListener("beforeprint", () => {
    const closed = all("details.fold:not([open]), details.printed:not([open])");
    for (const one of closed) one.open = true;
    opened = opened.concat(closed);
  });
  addEventListener("afterprint", () => {
    for (const one of opened) one.open = false;
    opened = [];
  });

  // Series that the filter hides on the whole page, and those that a figure's legend hides in it.
  const tools = document.querySelector("form.tools");
  const off = { algorithm: new Set(), attack: new Set() };
  const legends = new Map();
  const begin = new Map();
  const show = (figure) => {
    const hidden = legends.get(figure) ?? new Set();
    for (const one of all("[data-series]", figure)) {
      one.classList.toggle("off", hidden.has(one.dataset.series) || off.algorithm.has(one.dataset.series));
    }
    for (const one of all("[data-entry]", figure)) {
      const gone = hidden.has(one.dataset.entry) || off.algorithm.has(one.dataset.entry);
      one.classList.toggle("faded", gone);
      if (one.hasAttribute("aria-pressed")) one.setAttribute("aria-pressed", String(!gone));
    }
  };
  for (const plot of all(".plot")) {
    const entries = all("[data-entry]", plot);
    const svg = plot.querySelector("svg");
    const first = all("[data-series].off", plot).map((one) => one.dataset.series); // of many curves some are off
    if (first.length) begin.set(plot, first);
    legends.set(plot, new Set(first));
    if (!entries.length || plot.closest("#verdict")) continue;
    svg.setAttribute("role", "group"); // so that its buttons are reached
    const toggle = (name) => {
      const hidden = legends.get(plot);
      if (!hidden.delete(name)) hidden.add(name);
      show(plot);
    };
    for (const one of entries) {
      one.addEventListener("click", () => toggle(one.dataset.entry));
      if (!one.querySelector("text")) continue;
      one.setAttribute("role", "button");
      one.setAttribute("tabindex", "0");
      one.setAttribute("aria-pressed", String(!first.includes(one.dataset.entry)));
      one.setAttribute("aria-label", `Show ${one.dataset.entry} in this figure`);
      one.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        toggle(one.dataset.entry);
      });
    }
  }

  if (tools) {
    const named = (row, kind) => {
      if (row.dataset[kind] !== undefined) return row.dataset[kind];
      const head = [...(row.closest("table").tHead?.rows[0]?.cells ?? [])];
      const column = head.findIndex((cell) => cell.textContent.trim().toLowerCase() === kind);
      return (row.dataset[kind] = row.cells[column]?.textContent.trim() ?? "");
    };
    const rows = all("main tbody tr");
    const output = tools.querySelector("output");
    const apply = () => {
      const words = tools.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const kind of Object.keys(off)) {
        const boxes = all(`input[name="${kind}"]`, tools);
        off[kind] = new Set(boxes.filter((box) => !box.checked).map((box) => box.value));
        const count = tools.querySelector(`[data-count="${kind}"]`);
        if (count) count.textContent = `${boxes.length - off[kind].size} of ${boxes.length}`;
      }
      const filtered = words.length > 0 || off.algorithm.size > 0 || off.attack.size > 0;
      let shown = 0;
      for (const row of rows) {
        const text = words.length ? row.textContent.replaceAll("\u00a0", " ").toLowerCase() : "";
        const hidden =
          filtered &&
          (off.algorithm.has(named(row, "algorithm")) ||
            off.attack.has(named(row, "attack")) ||
            !words.every((word) => text.includes(word)));
        row.hidden = hidden;
        shown += !hidden;
      }
      for (const plot of all(".plot")) show(plot);
      output.textContent = filtered ? `${shown} of ${rows.length} table rows shown` : "";
      document.body.classList.toggle("filtered", filtered);
    };
    let soon;
    tools.addEventListener("input", () => {
      clearTimeout(soon);
      soon = setTimeout(apply, 120);
    });
    tools.addEventListener("submit", (event) => event.preventDefault());
    tools.addEventListener("reset", () => {
      for (const plot of legends.keys()) legends.set(plot, new Set(begin.get(plot)));
      setTimeout(apply); // when the fields have their first values again
    });
    tools.querySelector("[data-open]").addEventListener("click", ({ currentTarget: button }) => {
      const open = button.dataset.open === "all";
      for (const one of folds) one.open = open;
      button.dataset.open = open ? "none" : "all";
      button.textContent = open ? "Fold all sections" : "Open all sections";
    });
    addEventListener("pageshow", apply); // a browser remembers fields
    tools.hidden = false;
  }

  // What an abbreviation or a point stands for, at once and without a mouse too; Escape puts it away.
  const tip = document.getElementById("tip");
  for (const one of all(".plot title")) {
    one.parentElement.dataset.tip = one.textContent;
    one.remove(); // else the browser shows it a second time
  }
  for (const one of all("abbr[title], .chip[title]")) {
    one.dataset.tip = one.title;
    one.setAttribute("aria-description", one.title);
    one.removeAttribute("title");
  }
  const say = (target) => {
    tip.hidden = !target;
    if (!target) return;
    tip.textContent = target.dataset.tip;
    const box = target.getBoundingClientRect();
    const left = Math.min(box.left + box.width / 2 - tip.offsetWidth / 2, innerWidth - tip.offsetWidth - 8);
    const above = box.top - tip.offsetHeight - 6;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${above < 4 ? box.bottom + 6 : above}px`;
  };
  for (const kind of ["pointerover", "focusin", "click"]) {
    document.addEventListener(kind, (event) => say(event.target.closest?.("[data-tip]")));
  }
  addEventListener("keydown", (event) => event.key === "Escape" && say(null));
  addEventListener("scroll", () => say(null), { passive: true, capture: true });

  // The contents list follows the reader; beside the text there is room for it, above it there is not.
  const menu = document.querySelector("details.menu");
  const room = matchMedia("(min-width: 72.01rem)");
  const unfold = () => (menu.open = room.matches);
  room.addEventListener("change", unfold);
  unfold();
  menu.addEventListener("click", (event) => {
    if (!room.matches && event.target.closest("a")) menu.open = false;
  });
  const links = new Map(all(".contents a").map((a) => [a.hash.slice(1), a]));
  const places = new Map();
  const watch = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        for (const link of links.values()) link.removeAttribute("aria-current");
        links.get(places.get(entry.target))?.setAttribute("aria-current", "true");
      }
    },
    { rootMargin: "0px 0px -70% 0px" },
  );
  for (const id of links.keys()) {
    const target = document.getElementById(id);
    if (!target) continue;
    const place = target.classList.contains("inside") ? target.closest("section") : target;
    places.set(place, id);
    watch.observe(place);
  }
  if (location.hash.length > 1) follow();
  document.body.dataset.ready = "true";
})();
