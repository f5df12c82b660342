"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const table = document.getElementById("points");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const make = (tag, text) => Object.assign(document.createElement(tag), { textContent: text ?? "" });
  const shown = new Set(rows.map((_, at) => at));

  // sorting: by number where the column has them, else by text; a second click turns it around
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, place) => {
    const button = make("button", head.textContent);
    button.type = "button";
    head.textContent = "";
    head.append(button);
    button.addEventListener("click", () => {
      const numbers = data.columns[place].number;
      const first = numbers ? "descending" : "ascending";
      const other = numbers ? "ascending" : "descending";
      const order = head.getAttribute("aria-sort") === first ? other : first;
      heads.forEach((one) => one.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const value = (row) => data.points[row.dataset.row]["c" + place];
      const compare = (a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x === null || y === null) return (x === null) - (y === null);
        const apart = numbers ? x - y : String(x).localeCompare(String(y), undefined, { numeric: true });
        return sign * apart;
      };
      body.append(...[...rows].sort(compare));
    });
  });

  // filters: a box for each value of each axis
  const filters = document.getElementById("filters");
  const axes = data.columns.map((one, place) => ({ ...one, place })).filter((one) => one.axis);
  const values = (place) => [...new Set(data.points.map((point) => point["c" + place]))];
  const boxes = [];
  for (const axis of axes) {
    const found = values(axis.place);
    if (found.length < 2 || found.length > 40) continue;
    const set = document.createElement("fieldset");
    set.append(make("legend", axis.heading));
    for (const value of found) {
      const label = make("label");
      const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: true });
      box.addEventListener("change", filter);
      boxes.push({ box, place: axis.place, value });
      label.append(box, " " + value);
      set.append(label);
    }
    filters.append(set);
  }
  filters.hidden = boxes.length === 0;

  function filter() {
    shown.clear();
    rows.forEach((row, at) => {
      const out = boxes.some((one) => !one.box.checked && data.points[at]["c" + one.place] === one.value);
      row.hidden = out;
      if (!out) shown.add(at);
    });
    draw();
  }

  // the chart: any number over any number or axis, coloured by an axis
  const controls = document.getElementById("controls");
  const pick = (name, places, chosen) => {
    const label = make("label", name + " ");
    const select = document.createElement("select");
    for (const place of places) {
      const option = make("option", data.columns[place]?.heading ?? "nothing");
      option.value = place;
      option.selected = place === chosen;
      select.append(option);
    }
    select.addEventListener("change", draw);
    label.append(select);
    controls.append(label);
    return select;
  };
  const all = data.columns.map((_, place) => place);
  const numbers = all.filter((place) => data.columns[place].number);
  const named = axes.map((one) => one.place);
  if (!numbers.length || typeof vega === "undefined") return;
  document.getElementById("explore").hidden = false;
  const memory = all.find((place) => data.columns[place].less);
  const over = named[0] ?? memory ?? numbers[1] ?? numbers[0];
  const up = pick("Vertical:", numbers, numbers[0]);
  const right = pick("horizontal:", [...new Set([...named, ...numbers])], over);
  const by = pick("colour:", [-1, ...named], named[1] ?? named[0] ?? -1);
  let view;

  function channel(place) {
    const column = data.columns[place];
    const order = column.number ? undefined : values(place);
    return { field: "c" + place, title: column.heading, type: column.number ? "quantitative" : "nominal", sort: order };
  }

  function front(x, y) {
    // of points drawn over what people want little of, those that no point with as little beats
    if (!data.columns[x].less || y !== numbers[0]) return [];
    const kept = data.points.filter((point, at) => shown.has(at) && point["c" + x] !== null && point["c" + y] !== null);
    let most = -Infinity;
    return kept
      .sort((a, b) => a["c" + x] - b["c" + x] || b["c" + y] - a["c" + y])
      .filter((point) => point["c" + y] > most && ((most = point["c" + y]), true));
  }

  function draw() {
    if (!up) return;
    const [x, y, colour] = [Number(right.value), Number(up.value), Number(by.value)];
    const kept = data.points.filter((point, at) => shown.has(at) && point["c" + y] !== null);
    const encoding = {
      x: { ...channel(x), axis: { labelAngle: data.columns[x].number ? 0 : -30 } },
      y: channel(y),
      tooltip: data.columns.map((_, place) => channel(place)).map(({ field, title, type }) => ({ field, title, type })),
    };
    if (colour >= 0) {
      encoding.color = { ...channel(colour), scale: { scheme: "viridis" } };
      encoding.shape = { ...channel(colour) };
    }
    const layers = [{ mark: { type: "point", filled: true, size: 70, opacity: 0.9 }, encoding }];
    const best = front(x, y);
    if (best.length > 1) {
      layers.unshift({
        data: { values: best },
        mark: { type: "line", color: "#57606a", strokeDash: [4, 3], interpolate: "step-after" },
        encoding: { x: channel(x), y: channel(y) },
      });
    }
    const spec = {
      $schema: "https://vega.github.io/schema/vega-lite/v6.json",
      description: data.columns[y].heading + " over " + data.columns[x].heading,
      data: { values: kept },
      width: 640,
      height: 340,
      layer: layers,
    };
    if (view) view.finalize();
    view = new vega.View(vega.parse(vegaLite.compile(spec).spec), {
      renderer: "svg", container: document.getElementById("chart"), hover: true,
    });
    view.runAsync();
  }
  draw();
})();
