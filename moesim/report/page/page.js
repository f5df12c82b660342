"use strict";
(() => {
  const { data, axes, make } = board;
  const values = (place) => board.orders[place];
  const extent = (found) => found.reduce(([low, high], one) => [Math.min(low, one), Math.max(high, one)], [Infinity, -Infinity]);

  // the chart: any number over any number or axis, coloured by an axis; or a map of two axes, whose
  // colour is the best number there; or a line a row through all axes and numbers
  const [controls, chart] = ["controls", "chart"].map((id) => document.getElementById(id));
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
  document.querySelector("nav a[hidden]").hidden = false;
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
  const columns = all.filter((place) => named.includes(place) || numbers.includes(place));
  const [NARROW, MOST_LETTERS] = [600, 24];
  // pixels that a column of a map, or an axis, takes at least
  const LEAST = { points: 0, map: 36, lines: 72 };
  let view;

  function channel(place) {
    const column = data.columns[place];
    const order = column.number ? undefined : values(place);
    return { field: "c" + place, title: column.heading, type: column.number ? "quantitative" : "nominal", sort: order };
  }

  function told(place) {
    const { field, title, type } = channel(place);
    return { field, title, type, ...(type === "quantitative" ? { format: ",.5~r" } : {}) };
  }

  function looks(place, found) {
    // a colour is one value's, whichever rows are left; the legend names those that are
    const left = new Set(found);
    const legend = { values: values(place).filter((one) => left.has(one)), labelLimit: 300 };
    return { title: data.columns[place].heading, type: "nominal", legend, scale: { domain: values(place) } };
  }

  function models(kept) {
    // runs of different models are no choice between them; one in several formats is
    const place = named.find((one) => ["model", "base"].includes(data.columns[one].heading));
    return new Set(kept.map((point) => String(point["c" + place]).split("@")[0])).size;
  }

  const ahead = new Set(data.ahead.map((at) => data.points[at]));

  function front(kept, x, y) {
    // of points drawn over what people want little of, those that no point with as little beats,
    // by a program that does not know the future
    if (!data.columns[x].less || y !== numbers[0] || models(kept) > 1) return [];
    let most = -Infinity;
    return kept
      .filter((point) => point["c" + x] !== null && !ahead.has(point))
      .sort((a, b) => a["c" + x] - b["c" + x] || b["c" + y] - a["c" + y])
      .filter((point) => point["c" + y] > most && ((most = point["c" + y]), true));
  }

  function better(place) {
    // of two numbers in this column, whether the larger one is what people want
    return !data.columns[place].low && !/ ms$|^TTFT|^TPOT/.test(data.columns[place].heading);
  }

  function asPoints(kept, x, y, colour) {
    const encoding = {
      x: { ...channel(x), axis: { labelAngle: data.columns[x].number ? 0 : -30 } },
      y: channel(y),
      tooltip: all.map(told),
    };
    if (colour >= 0) {
      const look = looks(colour, kept.map((point) => point["c" + colour]));
      encoding.color = { field: "c" + colour, ...look, scale: { ...look.scale, scheme: "viridis" } };
      encoding.shape = { field: "c" + colour, ...look };
    }
    const layers = [{ mark: { type: "point", filled: true, size: 70, opacity: 0.9 }, encoding }];
    const best = front(kept, x, y);
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
    const [op, end] = better(y) ? ["max", "highest"] : ["min", "lowest"];
    const found = kept.map((point) => point["c" + y]);
    const middle = extent(found).reduce((low, high) => (low + high) / 2);
    const at = { x: { ...channel(x), axis: { labelAngle: -30 } }, y: channel(down) };
    const title = `${end} ${data.columns[y].heading}`;
    const value = { field: "value", type: "quantitative", title };
    const short = "format(datum.value, abs(datum.value) < 1e4 ? '.3~r' : '.3~s')";
    const light = { condition: { test: `datum.value > ${middle}`, value: "#000000" }, value: "#ffffff" };
    return {
      data: { values: kept },
      height: 26 * new Set(kept.map((point) => point["c" + down])).size,
      transform: [
        { aggregate: [{ op, field: "c" + y, as: "value" }], groupby: ["c" + x, "c" + down] },
        { calculate: short, as: "short" },
      ],
      layer: [
        { mark: "rect", encoding: { ...at, color: { ...value, scale: { scheme: "viridis" } }, tooltip: [told(x), told(down), { ...value, format: ",.5~r" }] } },
        { mark: { type: "text", fontSize: 11 }, encoding: { ...at, text: { field: "short", type: "nominal" }, color: light } },
      ],
    };
  }

  function asLines(kept, y, colour) {
    // the best of what is in all ranges, and of what is not, behind them
    const sign = better(y) ? -1 : 1;
    const ordered = [...kept].sort((a, b) => sign * (data.points[a]["c" + y] - data.points[b]["c" + y]));
    const best = [ordered.filter(board.within), ordered.filter((at) => !board.within(at))].flatMap((some) => some.slice(0, MOST_LINES));
    const ends = spans(kept);
    const corners = columns.flatMap((place, column) => {
      const [low, high] = ends[column];
      return best
        .filter((row) => data.points[row]["c" + place] !== null)
        .map((row) => ({
          row,
          column,
          heading: data.columns[place].heading,
          value: brushes.shownAs(place, board.height(row, place)),
          colour: colour < 0 ? "" : data.points[row]["c" + colour],
          height: high > low ? (board.height(row, place) - low) / (high - low) : 0.5,
        }));
    });
    const look = colour < 0 ? {} : looks(colour, best.map((row) => data.points[row]["c" + colour]));
    const color = { field: "colour", ...look, scale: { ...look.scale, scheme: "viridis" } };
    const titles = columns.map((place, column) => {
      const [low, high] = ends[column].map((end) => brushes.shownAs(place, end));
      const both = low === high ? low : `${low} to ${high}`;
      return both.length > MOST_LETTERS ? data.columns[place].heading : [data.columns[place].heading, both];
    });
    return {
      data: { values: corners },
      height: 340,
      params: [{ name: "out", value: outside(best) }, { name: "titles", value: titles }],
      mark: { type: "line", point: true },
      encoding: {
        x: { field: "column", type: "ordinal", scale: { type: "point" }, title: null, axis: { labelAngle: -30, labelExpr: "titles[datum.value]" } },
        y: { field: "height", type: "quantitative", title: "lowest to highest", axis: { labels: false }, scale: { domain: [0, 1] } },
        detail: { field: "row" },
        opacity: { condition: { test: "out[datum.row]", value: 0.06 }, value: 0.6 },
        ...(colour < 0 ? {} : { color }),
        tooltip: [{ field: "heading", title: "column" }, { field: "value", title: "value" }],
      },
    };
  }

  function spans(kept) {
    // of each column its least and its greatest place
    return columns.map((place) => {
      if (!data.columns[place].number) return [0, values(place).length - 1];
      return extent(kept.map((at) => data.points[at]["c" + place]).filter((value) => value !== null));
    });
  }

  function outside(rows, place, range) {
    // rows that are not in all ranges, once that of one column is another
    const is = (at) => board.within(at, place) && (!range || board.between(at, place, range));
    return Object.fromEntries(rows.filter((at) => !is(at)).map((at) => [at, true]));
  }

  function draw() {
    if (!by) return;
    const [y, colour] = [Number(up.value), Number(by.value)];
    const x = kind.value === "map" && !named.includes(Number(right.value)) ? named[0] : Number(right.value);
    [up, right, by].forEach((one, at) => {
      one.title_.textContent = WORDS[kind.value][at] + " ";
      one.parentElement.hidden = !WORDS[kind.value][at];
    });
    const known = (rows) => rows.filter((at) => data.points[at]["c" + y] !== null);
    const boxed = known(board.boxed());
    const kept = known(board.rows()).map((at) => data.points[at]);
    if (view) view.finalize();
    view = undefined;
    if (!(kind.value === "lines" ? boxed : kept).length) {
      chart.replaceChildren(board.make("p", `No row that is left has a number of ${data.columns[y].heading}.`));
      return;
    }
    const narrow = chart.clientWidth < NARROW;
    const other = named.find((place) => place !== x) ?? x;
    const drawn = {
      points: () => asPoints(kept, x, y, colour),
      map: () => asMap(kept, x, y, colour >= 0 && colour !== x ? colour : other),
      lines: () => asLines(boxed, y, colour),
    }[kind.value]();
    const spec = {
      $schema: "https://vega.github.io/schema/vega-lite/v6.json",
      description: data.columns[y].heading + " over " + data.columns[x].heading,
      width: Math.max(chart.clientWidth, LEAST[kind.value] * (kind.value === "map" ? values(x).length + 6 : columns.length)),
      autosize: { type: "fit-x", contains: "padding" },
      config: narrow ? { legend: { orient: "bottom", columns: 2 } } : {},
      ...drawn,
    };
    // as many points are drawn faster as one picture
    const marks = kind.value === "map" ? 0 : drawn.data.values.length;
    view = new vega.View(vega.parse(vegaLite.compile(spec).spec), {
      renderer: marks > 1500 ? "canvas" : "svg", container: chart, hover: true,
    });
    view.runAsync().then((drawn) => {
      if (kind.value !== "lines" || drawn !== view) return;
      brushes.onAxes(view, columns, spans(boxed), (place, range) => view.signal("out", outside(boxed, place, range)).runAsync());
    });
  }
  board.listen(draw);
  let width = chart.clientWidth;
  addEventListener("resize", () => {
    if (!chart.clientWidth || chart.clientWidth === width) return;
    width = chart.clientWidth;
    draw();
  });
  brushes.byHand(controls, columns.filter((place) => data.columns[place].number));
  draw();
})();
