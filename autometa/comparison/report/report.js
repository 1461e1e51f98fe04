// Sorting and searching of the tables; without this script they are read as they stand.
"use strict";
(() => {
  const FEWEST_TO_SEARCH = 12;
  const SECONDS = { h: 3600, min: 60, s: 1, ms: 0.001 };

  // The number that a cell begins with, durations in seconds; NaN where it is no number.
  function numberIn(text) {
    const parts = [...text.matchAll(/([\d.,]+) (h|min|ms|s)\b/g)];
    if (parts.length) return parts.reduce((sum, [, size, unit]) => sum + Number(size.replaceAll(",", "")) * SECONDS[unit], 0);
    const found = text.replaceAll(",", "").replace("−", "-").match(/^[<>]?\s*([+-]?(?:inf\b|\d[\d.]*(?:e[+-]?\d+)?))/);
    return found ? Number(found[1].replace("inf", "Infinity")) : NaN;
  }

  function sortable(table) {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const heads = [...table.tHead.rows[0].cells];
    const columns = new Map();

    function column(place) {
      if (!columns.has(place)) {
        const texts = rows.map((row) => row.cells[place].textContent.trim());
        const numbers = texts.map(numberIn);
        const told = texts.filter((text) => text && text !== "–").length;
        const isNumeric = told > 0 && numbers.filter((value) => !Number.isNaN(value)).length === told;
        columns.set(place, new Map(rows.map((row, i) => [row, isNumeric ? numbers[i] : texts[i]])));
      }
      return columns.get(place);
    }

    function isMissing(value) {
      return typeof value === "number" ? Number.isNaN(value) : value === "" || value === "–";
    }

    function sort(place, sign) {
      const key = column(place);
      const order = new Intl.Collator("en", { numeric: true });
      rows.sort((one, other) => {
        const [a, b] = [key.get(one), key.get(other)];
        if (isMissing(a) || isMissing(b)) return isMissing(a) - isMissing(b);
        return sign * (typeof a === "number" ? (a > b) - (a < b) : order.compare(a, b));
      });
      body.append(...rows);
      heads.forEach((head, i) => {
        if (i === place) head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
        else head.removeAttribute("aria-sort");
      });
    }

    heads.forEach((head, place) => {
      if (!head.textContent.trim()) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      button.addEventListener("click", () => sort(place, head.getAttribute("aria-sort") === "ascending" ? -1 : 1));
      head.append(button);
    });
    if (rows.length >= FEWEST_TO_SEARCH) searchable(table, rows);
  }

  function searchable(table, rows) {
    const box = document.createElement("div");
    const field = document.createElement("input");
    const count = document.createElement("output");
    let texts = null;
    box.className = "controls";
    field.type = "search";
    field.placeholder = "Search";
    field.setAttribute("aria-label", `Search ${rows.length} rows`);
    count.textContent = `${rows.length} rows`;
    field.addEventListener("input", () => {
      texts ??= new Map(rows.map((row) => [row, [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase()]));
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        row.hidden = !words.every((word) => texts.get(row).includes(word));
        shown += !row.hidden;
      }
      count.textContent = words.length ? `${shown} of ${rows.length} rows` : `${rows.length} rows`;
    });
    box.append(field, count);
    table.parentElement.before(box);
  }

  document.querySelectorAll("table.sortable").forEach(sortable);
})();
