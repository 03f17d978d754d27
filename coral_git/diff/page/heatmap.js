// The heat map: a row for each layer; a column for each role a tensor has in it, or for each metric.

const MANY_FOLD = 30; // from here on a scale is logarithmic
const FAINTEST = 1e-6; // of the largest value; below that all cells look the same
const MANY_ROWS = 64; // more scroll in a window of their own
const GLYPHS = { added: "+", removed: "−" };

function scaleOf(values) {
  const positive = values.filter((value) => value > 0);
  const high = positive.reduce((all, one) => Math.max(all, one), 0);
  const low = positive.reduce((all, one) => Math.min(all, one), high);
  const faint = Math.max(low, high * FAINTEST);
  if (!high || high / faint < MANY_FOLD) return { low: 0, high, at: (value) => (high ? value / high : 0) };
  const at = (value) =>
    value > faint ? 0.06 + (0.94 * Math.log(value / faint)) / Math.log(high / faint) : value && 0.06;
  return { low: faint, high, at, logarithmic: true };
}

/** The largest value of a metric among tensors that share a cell; null where none has one. */
function largest(tensors, key) {
  return tensors.reduce((all, one) => (one[key] === null ? all : Math.max(all ?? one[key], one[key])), null);
}

/** Cells by row and column, rows in natural order, columns as they come. */
function arrange(tensors, columnsOf) {
  const rows = new Map();
  const columns = new Set();
  for (const tensor of tensors) {
    const { layer } = tensor.place;
    if (!rows.has(layer)) rows.set(layer, new Map());
    for (const column of columnsOf(tensor)) {
      columns.add(column);
      const cells = rows.get(layer);
      if (!cells.has(column)) cells.set(column, []);
      cells.get(column).push(tensor);
    }
  }
  return { rows: [...rows].sort(([one], [other]) => order(one, other)), columns: [...columns] };
}

/** Draw the heat maps of tensors; `metric` is null for all of them side by side. */
function heatMaps(tensors, metric, onChoice) {
  const metrics = METRICS.filter(({ key }) => largest(tensors, key) !== null);
  const scales = new Map(metrics.map(({ key }) => [key, scaleOf(tensors.map((one) => one[key]))]));
  const columnsOf = metric ? (tensor) => [tensor.place.role] : () => metrics.map((one) => one.label);
  const metricOf = metric ? () => metric : (label) => metrics.find((one) => one.label === label);
  const groups = [
    ["Layers", tensors.filter(({ place }) => place.numbered)],
    ["Outside layers", tensors.filter(({ place }) => !place.numbered)],
  ].filter(([, members]) => members.length);
  byId("grids").replaceChildren(
    ...groups.map(([title, members]) =>
      grid(groups.length > 1 ? title : "", arrange(members, columnsOf), metricOf, scales, onChoice),
    ),
  );
  byId("legend").replaceChildren(...legend(metric, metric && scales.get(metric.key)));
}

function grid(title, { rows, columns }, metricOf, scales, onChoice) {
  const heads = columns.map((name) => make("th", { scope: "col", title: name }, make("span", {}, name)));
  const body = rows.map(([layer, cells]) => {
    const row = make("tr", {}, make("th", { scope: "row", title: layer }, make("bdi", {}, layer)));
    let gap = 0;
    const close = () => gap && row.append(make("td", { colspan: gap }));
    columns.forEach((column, place) => {
      if (!cells.has(column)) return (gap += 1);
      close();
      gap = 0;
      const metric = metricOf(column);
      return row.append(
        cell(cells.get(column), metric, scales.get(metric.key), layer, column, place, onChoice),
      );
    });
    close();
    return row;
  });
  const size = columns.length <= 12 ? "roomy" : columns.length <= 28 ? "medium" : "dense";
  const table = make(
    "table",
    { class: size },
    title ? make("caption", {}, title) : null,
    make("thead", {}, make("tr", {}, make("td"), ...heads)),
    make("tbody", {}, ...body),
  );
  table.querySelector("button")?.setAttribute("tabindex", "0");
  table.addEventListener("keydown", (event) => steer(event, table));
  return make("div", { class: rows.length > MANY_ROWS ? "grid tall" : "grid" }, table);
}

function cell(members, metric, scale, layer, column, place, onChoice) {
  const tensors = [...members].sort((one, other) => (other[metric.key] ?? -1) - (one[metric.key] ?? -1));
  const value = tensors[0][metric.key];
  const { status } = tensors[0];
  const glyph = value === null ? (GLYPHS[status] ?? "") : "";
  const said = value === null ? status : metric.show(value);
  const label = `${layer}, ${column}: ${said}`;
  const button = make(
    "button",
    { type: "button", tabindex: -1, "data-column": place, "aria-label": label },
    glyph,
  );
  if (value === null) button.className = `void ${status}`;
  else button.style.setProperty("--heat", scale.at(value).toFixed(3));
  button.addEventListener("click", () => onChoice(tensors));
  for (const name of ["pointerenter", "focus"]) button.addEventListener(name, () => showTip(button, tensors));
  for (const name of ["pointerleave", "blur"]) button.addEventListener(name, hideTip);
  return make("td", {}, button);
}

/** Arrow keys go from cell to cell; the tab key enters and leaves the map. */
function steer(event, table) {
  const from = event.target.closest("button");
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  if (!from || !step) return;
  event.preventDefault();
  const [down, right] = step;
  let next = null;
  if (right) {
    const cells = [...from.closest("tr").querySelectorAll("button")];
    next = cells[cells.indexOf(from) + right];
  }
  for (let row = from.closest("tr"); down && row && !next;) {
    row = down > 0 ? row.nextElementSibling : row.previousElementSibling;
    next = row?.querySelector(`button[data-column="${from.dataset.column}"]`);
  }
  if (!next) return;
  from.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

function legend(metric, scale) {
  if (!metric) return [make("span", {}, "each column from its smallest to its largest value")];
  if (!scale?.high) return [];
  const ramp = make(
    "span",
    { class: "ramp" },
    ...Array.from({ length: 24 }, (_, step) => {
      const part = make("i");
      part.style.setProperty("--heat", (step / 23).toFixed(3));
      return part;
    }),
  );
  const label = scale.logarithmic ? "logarithmic" : "linear";
  return [
    make("span", {}, metric.show(scale.low)),
    ramp,
    make("span", {}, metric.show(scale.high)),
    make("span", { class: "quiet" }, label),
  ];
}

function showTip(button, tensors) {
  const alone = tensors.every(({ file }) => file === tensors[0].file);
  const shown = tensors
    .slice(0, 3)
    .flatMap((tensor) => [
      make("b", {}, make("bdi", {}, tensor.name)),
      alone ? null : make("p", {}, make("bdi", {}, tensor.file.path)),
      make("p", {}, `${tensor.status} · ${change(tensor.old_dtype, tensor.dtype)} · ${shape(tensor)}`),
      pairs(
        METRICS.filter(({ key }) => tensor[key] !== null).map(({ key, label, show }) => [
          label,
          show(tensor[key]),
        ]),
      ),
    ]);
  if (tensors.length > 3) shown.push(make("p", {}, `and ${count(tensors.length - 3)} more`));
  const tip = byId("tip");
  tip.replaceChildren(...shown.filter(Boolean));
  tip.hidden = false;
  const at = button.getBoundingClientRect();
  const left = Math.min(at.right + 8, document.documentElement.clientWidth - tip.offsetWidth - 8);
  const top = Math.min(at.bottom + 8, window.innerHeight - tip.offsetHeight - 8);
  tip.style.transform = `translate(${Math.max(8, left)}px, ${Math.max(8, top)}px)`;
}

function hideTip() {
  byId("tip").hidden = true;
}
