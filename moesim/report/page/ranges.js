"use strict";
// Ranges of columns: by hand, or drawn on the axes of parallel coordinates.
const brushes = (() => {
  const { data, orders, ranges, limit, make, number } = board;
  const shownAs = (place, at) => (orders[place] ? orders[place][Math.round(at)] : number(at));
  const inWords = (place, [low, high]) => {
    const [first, last] = orders[place] ? [Math.ceil(low), Math.floor(high)] : [low, high];
    const ends = [first, last].map((end) => (Number.isFinite(end) ? shownAs(place, end) : "any"));
    return `${data.columns[place].heading}: ${ends[0] === ends[1] ? ends[0] : ends.join(" to ")}`;
  };

  /** A column and two numbers, and the ranges that hold, each with a button that ends it. */
  function byHand(controls, places) {
    const set = document.createElement("fieldset");
    const column = make("select", "", { id: "ranged" });
    column.setAttribute("aria-label", "column of the range");
    column.append(...places.map((place) => make("option", data.columns[place].heading, { value: place })));
    const ends = ["from", "to"].map((name) => {
      const label = make("label", name + " ");
      const input = Object.assign(document.createElement("input"), { type: "number", step: "any", id: "range-" + name });
      input.addEventListener("change", set_);
      label.append(input);
      return [label, input];
    });
    const held = make("span", "", { id: "held" });
    held.setAttribute("aria-live", "polite");
    set.append(make("legend", "range"), column, " ", ...ends.map(([label]) => label), held);
    column.addEventListener("change", told);
    controls.append(set);

    function set_() {
      const [low, high] = ends.map(([, input]) => (input.value === "" ? null : Number(input.value)));
      limit(Number(column.value), low === null && high === null ? null : [low ?? -Infinity, high ?? Infinity]);
    }
    function told() {
      const now = ranges.get(Number(column.value)) ?? [];
      ends.forEach(([, input], at) => (input.value = Number.isFinite(now[at]) ? Number(now[at].toPrecision(4)) : ""));
      held.replaceChildren(...[...ranges].map(([place, range]) => {
        const button = make("button", `${inWords(place, range)} \u00d7`, { type: "button", title: "end this range" });
        button.addEventListener("click", () => limit(place, null));
        return button;
      }));
    }
    board.listen(told);
  }

  /** A strip along each axis of ``view``: a drag keeps what is between, a click ends the range. */
  function onAxes(view, places, spans, moved) {
    const box = document.getElementById("chart");
    const [left, top] = view.origin();
    const tall = view.height();
    const strips = places.map((place, column) => {
      const [low, high] = spans[column];
      const strip = make("div", "", { className: "strip" });
      const mark = make("div");
      const toValue = (y) => (high > low ? high - (y / tall) * (high - low) : low);
      const toPixel = (end) => (high > low ? ((high - Math.min(high, Math.max(low, end))) / (high - low)) * tall : tall / 2);
      Object.assign(strip.style, { left: `${left + view.scale("x")(column) - 12}px`, top: `${top}px`, height: `${tall}px` });
      strip.setAttribute("aria-hidden", "true");
      strip.dataset.column = data.columns[place].heading;
      strip.append(mark);
      const draw = (range) => {
        mark.hidden = !range;
        if (range) Object.assign(mark.style, { top: `${toPixel(range[1])}px`, height: `${Math.max(3, toPixel(range[0]) - toPixel(range[1]))}px` });
      };
      draw(ranges.get(place));
      let from = null;
      const at = (event) => Math.min(tall, Math.max(0, event.clientY - strip.getBoundingClientRect().top));
      const range = (event) => [toValue(Math.max(from, at(event))), toValue(Math.min(from, at(event)))];
      strip.addEventListener("pointerdown", (event) => {
        from = at(event);
        strip.setPointerCapture(event.pointerId);
        event.preventDefault();
      });
      strip.addEventListener("pointermove", (event) => {
        if (from === null) return;
        draw(range(event));
        moved(place, range(event));
      });
      strip.addEventListener("pointerup", (event) => {
        const drawn = Math.abs(at(event) - from) > 3 ? range(event) : null;
        from = null;
        limit(place, drawn);
      });
      return strip;
    });
    box.append(...strips);
  }

  return { byHand, onAxes, shownAs };
})();
