"use strict";
(() => {
  const data = JSON.parse(document.getElementById("choices").textContent);
  const place = document.getElementById("picks");
  const body = document.getElementById("answers");
  const flags = document.getElementById("flags");
  const make = (tag, text) => Object.assign(document.createElement(tag), { textContent: text ?? "" });
  const MOST = 20;
  const [what, first] = [data.had.length, data.had.length + 1];
  const [why, line] = [first + data.numbers.length, first + data.numbers.length + 1];
  document.getElementById("choose").hidden = false;

  const pick = (name, values, chosen) => {
    const label = make("label", name + " ");
    const select = document.createElement("select");
    values.forEach(([value, text]) => {
      const option = make("option", text);
      option.value = value;
      select.append(option);
    });
    select.value = String(chosen);
    select.addEventListener("change", show);
    label.append(select);
    place.append(label);
    return select;
  };

  // a link with '#choose:0,2' opens with these values picked; what is not there is any
  const wanted = () => /^#choose:([\d,*]+)$/.exec(location.hash)?.[1].split(",");
  const asked = (told) => data.had.map(([, values], at) => (/^\d+$/.test(told[at]) && told[at] < values.length ? Number(told[at]) : -1));
  const opened = asked(wanted() ?? ["0"]);
  const picks = data.had.map(([title, values], at) => {
    const texts = ["any", ...values].map((value, number) => [number - 1, value]);
    return pick(title, texts, opened[at]);
  });
  addEventListener("hashchange", () => {
    if (!wanted()) return;
    asked(wanted()).forEach((value, at) => (picks[at].value = String(value)));
    show();
  });
  // what there is none of in any row is nothing to order by; the ends of the range follow the speed
  const known = data.numbers.map((_, at) => at).filter((at) => data.rows.some((row) => row[first + at] !== null));
  const orders = known.filter((at) => !["from", "to"].includes(data.numbers[at]));
  const order = pick("best by", orders.map((at) => [at, data.numbers[at]]), orders.find((at) => data.numbers[at] === data.by) ?? orders[0] ?? 0);

  const text = (value) => (value === null ? "-" : value.toLocaleString("en", { maximumSignificantDigits: 4 }));

  function keep(picked) {
    const told = picked.map((value) => (value < 0 ? "*" : value)).join(",");
    try {
      history.replaceState(null, "", "#choose:" + told);
    } catch {
      return; // a page inside of another one may not
    }
  }

  function command(row, button) {
    for (const one of body.querySelectorAll("button")) one.setAttribute("aria-pressed", String(one === button));
    const words = row ? data.texts[row[line]].split(" ") : [];
    flags.replaceChildren(...words.flatMap((word) => [Object.assign(make("span", word), { className: "word" }), " "]));
    flags.hidden = !flags.textContent.trim();
  }

  function answer(row, open, best) {
    const one = document.createElement("tr");
    if (best) one.className = "best";
    const choice = document.createElement("td");
    const button = Object.assign(make("button", data.texts[row[what]]), { type: "button", title: "show its command" });
    button.addEventListener("click", () => command(row, button));
    choice.append(button);
    one.append(...open.map((axis) => make("td", data.had[axis][1][row[axis]])), choice);
    for (const at of known) one.append(Object.assign(make("td", text(row[first + at])), { className: "number" }));
    one.append(make("td", data.texts[row[why]]));
    return one;
  }

  function show(event) {
    const picked = picks.map((one) => Number(one.value));
    if (event) keep(picked);
    const open = picked.map((value, at) => (value < 0 ? at : -1)).filter((at) => at >= 0);
    const found = data.rows.filter((row) => picked.every((value, at) => value < 0 || row[at] === value));
    const [by, sign] = [first + Number(order.value), ["tokens/s", "good %"].includes(data.numbers[order.value]) ? -1 : 1];
    const unknown = (row) => Number(row[by] === null);
    const ran = found.filter((row) => row[first] !== null);
    ran.sort((a, b) => unknown(a) - unknown(b) || sign * (a[by] - b[by]));
    const head = document.createElement("tr");
    const titles = [...open.map((at) => data.had[at][0]), "choice", ...known.map((at) => data.numbers[at]), "most time"];
    titles.forEach((title, at) => {
      const cell = Object.assign(make("th", title), { scope: "col" });
      if (at > open.length && at <= open.length + known.length) cell.className = "number";
      head.append(cell);
    });
    body.tHead.replaceChildren(head);
    body.tBodies[0].replaceChildren(...ran.slice(0, MOST).map((row, at) => answer(row, open, at === 0)));
    const count = `${ran.length} answers that run, the best first` + (ran.length > MOST ? `; ${MOST} shown` : "");
    document.getElementById("count").textContent = ran.length ? count : "Nothing that was tried runs.";
    command(ran[0], body.querySelector("button"));
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
