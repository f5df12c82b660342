"use strict";
(() => {
  const data = JSON.parse(document.getElementById("choices").textContent);
  const place = document.getElementById("picks");
  const body = document.getElementById("answers");
  const make = (tag, text) => Object.assign(document.createElement(tag), { textContent: text ?? "" });
  const MOST = 20;
  const [what, first] = [data.had.length, data.had.length + 1];
  const [why, line] = [first + data.numbers.length, first + data.numbers.length + 1];
  document.getElementById("choose").hidden = false;

  // a link with '#choose:0,2' opens with these values picked
  const wanted = /^#choose:([\d,*]+)$/.exec(location.hash)?.[1].split(",") ?? [];
  const picks = data.had.map(([title, values], at) => {
    const label = make("label", title + " ");
    const select = document.createElement("select");
    ["any", ...values].forEach((value, number) => {
      const option = make("option", value);
      option.value = number - 1;
      select.append(option);
    });
    const asked = wanted[at] === undefined ? (at === 0 ? 0 : -1) : wanted[at] === "*" ? -1 : Number(wanted[at]);
    select.value = String(Math.min(asked, values.length - 1));
    select.addEventListener("change", show);
    label.append(select);
    place.append(label);
    return select;
  });

  const text = (value) => (value === null ? "-" : value.toLocaleString("en", { maximumSignificantDigits: 4 }));

  function show() {
    const picked = picks.map((one) => Number(one.value));
    const open = picked.map((value, at) => (value < 0 ? at : -1)).filter((at) => at >= 0);
    const found = data.rows.filter((row) => picked.every((value, at) => value < 0 || row[at] === value));
    const ran = found.filter((row) => row[first] !== null).sort((a, b) => b[first] - a[first]);
    const head = document.createElement("tr");
    const titles = [...open.map((at) => data.had[at][0]), "choice", ...data.numbers, "most of the time"];
    const named = open.length + 1;
    titles.forEach((title, at) => {
      const cell = Object.assign(make("th", title), { scope: "col" });
      if (at >= named && at < named + data.numbers.length) cell.className = "number";
      head.append(cell);
    });
    const rows = ran.slice(0, MOST).map((row, at) => {
      const one = document.createElement("tr");
      if (at === 0) one.className = "best";
      one.append(...open.map((axis) => make("td", data.had[axis][1][row[axis]])), make("td", data.texts[row[what]]));
      for (const value of row.slice(first, why)) {
        one.append(Object.assign(make("td", text(value)), { className: "number" }));
      }
      one.append(make("td", data.texts[row[why]]));
      return one;
    });
    body.tHead.replaceChildren(head);
    body.tBodies[0].replaceChildren(...rows);
    const count = `${ran.length} answers that run, the fastest first` + (ran.length > MOST ? `; ${MOST} shown` : "");
    document.getElementById("count").textContent = ran.length ? count : "Nothing that was tried runs.";
    const command = ran.length ? data.texts[ran[0][line]] : "";
    document.getElementById("flags").textContent = command;
    document.getElementById("flags").hidden = !command;
    const gone = found.filter((row) => row[first] === null);
    const shown = gone.slice(0, MOST).map((row) => {
      const names = open.map((axis) => data.had[axis][1][row[axis]]);
      return make("li", [...names, data.texts[row[what]]].join(", ") + ": " + data.texts[row[why]]);
    });
    if (gone.length > MOST) shown.push(make("li", `and ${gone.length - MOST} more`));
    document.getElementById("gone").replaceChildren(...shown);
    document.getElementById("lacking").hidden = gone.length === 0;
  }
  show();
})();
