"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const table = document.getElementById("points");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const make = (tag, text) => Object.assign(document.createElement(tag), { textContent: text ?? "" });
  const shown = new Set(rows.map((_, at) => at));

  const words = new Intl.Collator(undefined, { numeric: true });

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
      const keyed = rows.map((row, at) => [data.points[at]["c" + place], row]);
      keyed.sort(([x], [y]) => {
        if (x === null || y === null) return (x === null) - (y === null);
        return sign * (numbers ? x - y : words.compare(x, y));
      });
      // beside the page, so that it is laid out once
      body.remove();
      body.replaceChildren(...keyed.map(([, row]) => row));
      table.append(body);
    });
  });

  // filters: a box for each value of each axis
  const filters = document.getElementById("filters");
  const axes = data.columns.map((one, place) => ({ ...one, place })).filter((one) => one.axis);
  const values = (place) => data.columns[place].order ?? [...new Set(data.points.map((point) => point["c" + place]))];
  const boxes = [];
  for (const axis of axes) {
    const found = values(axis.place);
    if (found.length < 2 || found.length > 40) continue;
    const set = document.createElement("fieldset");
    const legend = make("legend", axis.heading);
    const all = Object.assign(make("button", "none"), { type: "button", title: `of ${axis.heading}, all or none` });
    const own = [];
    all.addEventListener("click", () => {
      const wanted = !own.every((box) => box.checked);
      own.forEach((box) => (box.checked = wanted));
      filter();
    });
    legend.append(all);
    set.append(legend);
    for (const value of found) {
      const label = make("label");
      const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: true });
      box.addEventListener("change", filter);
      boxes.push({ box, place: axis.place, value, own, all });
      own.push(box);
      label.append(box, " " + value);
      set.append(label);
    }
    filters.append(set);
  }
  filters.hidden = boxes.length === 0;

  function filter() {
    shown.clear();
    boxes.forEach((one) => (one.all.textContent = one.own.every((box) => box.checked) ? "none" : "all"));
    rows.forEach((row, at) => {
      const out = boxes.some((one) => !one.box.checked && data.points[at]["c" + one.place] === one.value);
      row.hidden = out;
      if (!out) shown.add(at);
    });
    draw();
  }

  // the chart: any number over any number or axis, coloured by an axis; or a map of two axes, whose
  // colour is the best number there; or a line a row through all axes and numbers
  const controls = document.getElementById("controls");
  const pick = (name, options, chosen) => {
    const label = document.createElement("label");
    const title = make("span", name + " ");
    const select = document.createElement("select");
    for (const [value, text] of options) {
      const option = make("option", text);
      option.value = value;
      option.selected = value === chosen;
      select.append(option);
    }
    select.addEventListener("change", draw);
    label.append(title, select);
    controls.append(label);
    return Object.assign(select, { title_: title });
  };
  const all = data.columns.map((_, place) => place);
  const numbers = all.filter((place) => data.columns[place].number);
  const named = axes.map((one) => one.place);
  if (!numbers.length || typeof vega === "undefined") return;
  document.getElementById("explore").hidden = false;
  const memory = all.find((place) => data.columns[place].less);
  // of many rows a map says more than points that hide each other
  const widest = named.filter((place) => values(place).length <= 20).sort((a, b) => values(b).length - values(a).length);
  const many = data.points.length > 200 && widest.length > 1;
  const over = (many ? widest[0] : named[0]) ?? memory ?? numbers[1] ?? numbers[0];
  const titled = (places) => places.map((place) => [place, data.columns[place]?.heading ?? "nothing"]);
  const KINDS = [["points", "points"], ["map", "heat map"], ["lines", "parallel coordinates"]];
  const kind = pick("As", KINDS.filter(([name]) => name !== "map" || named.length > 1), many ? "map" : "points");
  const up = pick("vertical:", titled(numbers), numbers[0]);
  const right = pick("horizontal:", titled([...new Set([...named, ...numbers])]), over);
  const by = pick("colour:", titled([-1, ...named]), (many ? widest[1] : named[1]) ?? named[0] ?? -1);
  const MOST_LINES = 300;
  const WORDS = {
    points: ["vertical:", "horizontal:", "colour:"],
    map: ["number:", "across:", "down:"],
    lines: ["the best by:", "", "colour:"],
  };
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

  function better(place) {
    // of two numbers in this column, whether the larger one is what people want
    return !data.columns[place].less && !/ ms$|^TTFT|^TPOT/.test(data.columns[place].heading);
  }

  function asPoints(kept, x, y, colour) {
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
    return { data: { values: kept }, height: 340, layer: layers };
  }

  function asMap(kept, x, y, down) {
    const op = better(y) ? "max" : "min";
    const found = kept.map((point) => point["c" + y]);
    const middle = (Math.min(...found) + Math.max(...found)) / 2;
    const at = { x: { ...channel(x), axis: { labelAngle: -30 } }, y: channel(down) };
    const title = `${op} ${data.columns[y].heading}`;
    const told = [channel(x), channel(down)].map(({ field, title, type }) => ({ field, title, type }));
    const value = { field: "value", type: "quantitative", title };
    const light = { condition: { test: `datum.value > ${middle}`, value: "#000000" }, value: "#ffffff" };
    return {
      data: { values: kept },
      height: { step: 26 },
      transform: [{ aggregate: [{ op, field: "c" + y, as: "value" }], groupby: ["c" + x, "c" + down] }],
      layer: [
        { mark: "rect", encoding: { ...at, color: { ...value, scale: { scheme: "viridis" } }, tooltip: [...told, value] } },
        { mark: { type: "text", fontSize: 11 }, encoding: { ...at, text: { ...value, format: ".3~s" }, color: light } },
      ],
    };
  }

  function asLines(kept, y, colour) {
    const sign = better(y) ? -1 : 1;
    const best = [...kept].sort((a, b) => sign * (a["c" + y] - b["c" + y])).slice(0, MOST_LINES);
    const shownColumns = all.filter((place) => named.includes(place) || numbers.includes(place));
    const corners = shownColumns.flatMap((place) => {
      const column = data.columns[place];
      const known = best.map((point) => point["c" + place]).filter((value) => value !== null);
      const order = column.number ? null : values(place);
      const [low, high] = column.number ? [Math.min(...known), Math.max(...known)] : [0, order.length - 1];
      return best
        .map((point, row) => ({ row, value: point["c" + place], colour: colour < 0 ? "" : point["c" + colour] }))
        .filter((one) => one.value !== null)
        .map((one) => {
          const number = column.number ? one.value : order.indexOf(one.value);
          return { ...one, column: column.heading, height: high > low ? (number - low) / (high - low) : 0.5 };
        });
    });
    const color = { field: "colour", type: "nominal", scale: { scheme: "viridis" }, title: data.columns[colour]?.heading };
    return {
      data: { values: corners },
      height: 340,
      mark: { type: "line", point: true, opacity: 0.5 },
      encoding: {
        x: { field: "column", type: "nominal", sort: null, title: null, axis: { labelAngle: -30 } },
        y: { field: "height", type: "quantitative", title: "lowest to highest", axis: { labels: false } },
        detail: { field: "row" },
        ...(colour < 0 ? {} : { color }),
        tooltip: [{ field: "column", title: "column" }, { field: "value", title: "value" }],
      },
    };
  }

  function draw() {
    if (!by) return;
    const [y, colour] = [Number(up.value), Number(by.value)];
    const x = kind.value === "map" && !named.includes(Number(right.value)) ? named[0] : Number(right.value);
    [up, right, by].forEach((one, at) => {
      one.title_.textContent = WORDS[kind.value][at] + " ";
      one.parentElement.hidden = !WORDS[kind.value][at];
    });
    const kept = data.points.filter((point, at) => shown.has(at) && point["c" + y] !== null);
    const other = named.find((place) => place !== x) ?? x;
    const drawn = {
      points: () => asPoints(kept, x, y, colour),
      map: () => asMap(kept, x, y, colour >= 0 && colour !== x ? colour : other),
      lines: () => asLines(kept, y, colour),
    }[kind.value]();
    const spec = {
      $schema: "https://vega.github.io/schema/vega-lite/v6.json",
      description: data.columns[y].heading + " over " + data.columns[x].heading,
      width: 640,
      ...drawn,
    };
    if (view) view.finalize();
    // as many points are drawn faster as one picture
    view = new vega.View(vega.parse(vegaLite.compile(spec).spec), {
      renderer: kept.length > 1500 ? "canvas" : "svg", container: document.getElementById("chart"), hover: true,
    });
    view.runAsync();
  }
  draw();
})();
