// How the values of a change are distributed: bars whose heights are logarithms, because most changes are near zero.

const PLOT = { width: 520, height: 150, left: 44, right: 8, top: 8, bottom: 22 };

function histogram({ edges, counts }) {
  const { width, height, left, right, top, bottom } = PLOT;
  const [low, high] = [edges[0], edges[edges.length - 1]];
  const most = counts.reduce((all, one) => Math.max(all, one), 1);
  const floor = height - bottom;
  const x = (value) => left + ((value - low) / (high - low || 1)) * (width - left - right);
  const y = (value) => floor - (Math.log1p(value) / Math.log1p(most)) * (floor - top);
  const total = counts.reduce((all, one) => all + one, 0);
  const picture = draw("svg", {
    class: "histogram",
    viewBox: `0 0 ${width} ${height}`,
    role: "img",
    "aria-label": `Histogram of Δ: ${count(total)} values from ${number(low)} to ${number(high)}`,
  });
  picture.append(...rulers(most, y), ...bars(edges, counts, x, y, floor));
  const marks = [
    ["start", low],
    ["end", high],
  ];
  if (low < 0 && high > 0) {
    if (Math.min(-low, high) > 0.15 * (high - low)) marks.push(["middle", 0]);
    picture.append(draw("line", { class: "zero", x1: x(0), x2: x(0), y1: top, y2: floor }));
  }
  for (const [anchor, value] of marks) {
    picture.append(draw("text", { x: x(value), y: height - 6, "text-anchor": anchor }, number(value)));
  }
  return picture;
}

function bars(edges, counts, x, y, floor) {
  return counts.flatMap((value, bin) => {
    if (!value) return [];
    const [start, end] = [x(edges[bin]), x(edges[bin + 1])];
    const range = `${number(edges[bin])} … ${number(edges[bin + 1])}: ${plural(value, "value")}`;
    const shape = { x: start, y: y(value), width: Math.max(1, end - start - 1), height: floor - y(value) };
    return [draw("rect", shape, draw("title", {}, range))];
  });
}

/** Lines at 1, 10, 100, …; every second one where they are many. */
function rulers(most, y) {
  const decades = Math.floor(Math.log10(most));
  const step = decades > 4 ? 2 : 1;
  const lines = [];
  for (let power = 0; power <= decades; power += step) {
    const at = y(10 ** power);
    const label =
      power < 4 ? count(10 ** power) : `10${[...String(power)].map((digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]).join("")}`;
    lines.push(draw("line", { class: "ruler", x1: PLOT.left, x2: PLOT.width - PLOT.right, y1: at, y2: at }));
    lines.push(draw("text", { x: PLOT.left - 6, y: at + 3.5, "text-anchor": "end" }, label));
  }
  return lines;
}
