"use strict";
(() => {
  // Without this script all tables and all rows are shown, and no filters.
  const form = document.getElementById("filters");
  const at = (name) => document.getElementById("filter-" + name);
  const rows = [...document.querySelectorAll(".view table.board tbody tr")];
  const views = [...document.querySelectorAll(".view")];
  const apply = () => {
    const text = at("text").value.trim().toLowerCase();
    for (const view of views) view.hidden = at("view").value !== "" && view.id !== at("view").value;
    for (const row of rows) {
      row.hidden =
        !row.dataset.name.includes(text) ||
        (at("sees").value !== "" && row.dataset.sees !== at("sees").value) ||
        (at("knowledge").value !== "" && row.dataset.knowledge !== at("knowledge").value) ||
        (at("clean").checked && "clean" in row.dataset) ||
        (at("explores").checked && "explores" in row.dataset);
    }
    const shown = rows.filter((row) => !row.hidden && !row.closest(".view").hidden).length;
    const all = rows.filter((row) => !row.closest(".view").hidden).length;
    at("count").textContent = shown === all ? "" : shown + " of " + all + " rows";
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  apply(); // a browser keeps what was chosen before a reload
})();
