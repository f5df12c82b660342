"use strict";
// The leaderboard: which rows are shown, in which order. Rows beyond the first stand as text in what
// is there for readers without scripts, and are made when they are shown.
const board = (() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const table = document.getElementById("points");
  const [body, caption] = [table.tBodies[0], table.caption];
  const made = [...body.rows];
  const rest = (document.getElementById("rest")?.textContent ?? "").split("\n").filter((line) => line.startsWith("<tr "));
  const FIRST = Math.max(made.length, 1);
  const make = (tag, text, more) => Object.assign(document.createElement(tag), { textContent: text ?? "" }, more);
  const every = data.points.map((_, at) => at);
  const axes = data.columns.map((one, place) => ({ ...one, place })).filter((one) => one.axis);
  const value = (at, place) => data.points[at]["c" + place];
  const orders = data.columns.map((one, place) => {
    if (one.number) return null;
    return one.order ?? [...new Set(data.points.map((point) => point["c" + place]))];
  });
  const places = orders.map((order) => order && new Map(order.map((text, at) => [text, at])));
  // a number as tables show it
  const [few, all] = [{ maximumSignificantDigits: 4 }, { maximumFractionDigits: 0 }].map((how) => new Intl.NumberFormat("en", how));
  const number = (one) => (Math.abs(one) < 1e4 ? few : all).format(one);
  // where a row stands on a column's scale: its number, or the place of its text among all
  const height = (at, place) => (places[place] ? places[place].get(value(at, place)) : value(at, place));
  const ranges = new Map();
  const listeners = [];
  let [order, kept, shown, most] = [every, every, every, FIRST];

  function lend(wanted) {
    const holder = document.createElement("template");
    const missing = wanted.filter((at) => made[at] === undefined);
    holder.innerHTML = missing.map((at) => rest[at - FIRST]).join("");
    [...holder.content.children].forEach((row, number) => (made[missing[number]] = row));
    return wanted.map((at) => made[at]);
  }

  // more rows, where there are more than are shown
  const more = make("p", "", { className: "note", hidden: true });
  const [next, whole] = [make("button", "", { type: "button" }), make("button", "all of them", { type: "button" })];
  more.append(next, " ", whole);
  table.parentElement.after(more);
  next.addEventListener("click", () => show(most + FIRST));
  whole.addEventListener("click", () => show(Infinity));
  addEventListener("beforeprint", () => show(Infinity));
  const told = caption.textContent;

  function show(wanted) {
    most = wanted;
    const rows = lend(shown.slice(0, most));
    const left = shown.length - rows.length;
    // beside the page, so that it is laid out once
    body.remove();
    body.replaceChildren(...rows);
    table.append(body);
    more.hidden = left === 0;
    next.textContent = `${number(Math.min(FIRST, left))} more`;
    const first = `The first ${number(rows.length)} of ${number(shown.length)} are below.`;
    const some = shown.length < every.length ? `${number(shown.length)} of them are below.` : "";
    caption.textContent = [told, left ? first : some].join(" ").trim();
  }

  // sorting: by number where the column has them, or all its texts are numbers of one unit; an axis
  // as its boxes stand, else by text; a second click turns it around
  const words = new Intl.Collator("en", { numeric: true });
  const QUANTITY = /^(?:x )?(-?[\d,]*\.?\d+)(.*)$/;

  function scale(place) {
    if (data.columns[place].number) return (at) => value(at, place);
    const found = every.map((at) => QUANTITY.exec(value(at, place)));
    const units = new Set(found.filter(Boolean).map(([, , unit]) => unit.replace(/^-[\d,.]+$/, "")));
    const known = found.every((one, at) => one || value(at, place) === "-");
    if (known && units.size === 1) return (at) => found[at] && Number(found[at][1].replaceAll(",", ""));
    return data.columns[place].axis && ((at) => height(at, place));
  }
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, place) => {
    const button = make("button", head.textContent, { type: "button" });
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const numbers = data.columns[place].number;
      const [first, other] = numbers ? ["descending", "ascending"] : ["ascending", "descending"];
      const way = head.getAttribute("aria-sort") === first ? other : first;
      heads.forEach((one) => one.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", way);
      const sign = way === "ascending" ? 1 : -1;
      const scaled = scale(place);
      order = [...every].sort((a, b) => {
        if (!scaled) return sign * words.compare(value(a, place), value(b, place));
        const [x, y] = [scaled(a), scaled(b)];
        if (x === null || y === null) return (x === null) - (y === null);
        return sign * (x - y);
      });
      choose();
      show(most);
    });
  });

  // filters: a box for each value of each axis, and a range of each column
  const filters = document.getElementById("filters");
  const boxes = [];
  for (const axis of axes) {
    const found = orders[axis.place];
    if (found.length < 2 || found.length > 40) continue;
    const set = document.createElement("fieldset");
    const legend = make("legend", axis.heading);
    const all = make("button", "none", { type: "button", title: `of ${axis.heading}, all or none` });
    const own = [];
    all.addEventListener("click", () => {
      const wanted = !own.every((box) => box.checked);
      own.forEach((box) => (box.checked = wanted));
      filter();
    });
    legend.append(all);
    set.append(legend);
    for (const text of found) {
      const label = make("label");
      const checked = axis.picked === null || axis.picked === text;
      const box = Object.assign(document.createElement("input"), { type: "checkbox", checked });
      box.addEventListener("change", filter);
      boxes.push({ box, place: axis.place, text, own, all });
      own.push(box);
      label.append(box, " " + text);
      set.append(label);
    }
    filters.append(set);
  }
  filters.hidden = boxes.length === 0;

  const between = (at, place, [low, high]) => {
    const here = height(at, place);
    return here !== null && here >= low && here <= high;
  };
  const within = (at, without) => [...ranges].every(([place, range]) => place === without || between(at, place, range));

  function choose() {
    shown = order.filter((at) => kept[at] && within(at));
  }

  function filter() {
    const out = boxes.filter((one) => !one.box.checked);
    boxes.forEach((one) => (one.all.textContent = one.own.every((box) => box.checked) ? "none" : "all"));
    kept = every.map((at) => !out.some((one) => value(at, one.place) === one.text));
    choose();
    show(FIRST);
    listeners.forEach((listener) => listener());
  }

  function limit(place, range) {
    if (range) ranges.set(place, range);
    else ranges.delete(place);
    filter();
  }

  filter();
  return {
    data, axes, orders, ranges, height, within, between, limit, make, number,
    /** Rows that pass the boxes; those that are in all ranges, too. */
    boxed: () => every.filter((at) => kept[at]),
    rows: () => every.filter((at) => kept[at] && within(at)),
    listen: (listener) => listeners.push(listener),
  };
})();
