// The table: sorted by any column; some rows at a time, so that thousands of tensors do not block the browser.

const ROWS_AT_ONCE = 150;

const shape = (tensor) => change(sizes(tensor.old_shape), sizes(tensor.shape));
const sizes = (lengths) => lengths && (lengths.length ? lengths.join("\u202f×\u202f") : "scalar");

const COLUMNS = [
  { key: "name", head: "Tensor", cell: nameCell },
  {
    key: "file",
    head: "File",
    cell: (tensor) => make("td", { title: tensor.file.path }, tensor.file.path.split("/").pop()),
    value: (tensor) => tensor.file.path,
    varies: true,
  },
  {
    key: "status",
    head: "Status",
    cell: (tensor) => make("td", {}, make("span", { class: `status ${tensor.status}` }, tensor.status)),
  },
  {
    key: "dtype",
    head: "Dtype",
    cell: (tensor) => make("td", {}, change(tensor.old_dtype, tensor.dtype)),
    value: (tensor) => tensor.dtype ?? tensor.old_dtype,
  },
  {
    key: "shape",
    head: "Shape",
    cell: (tensor) => make("td", { class: "shape" }, shape(tensor)),
    value: (tensor) => tensor.elements,
    largestFirst: true,
  },
  ...METRICS.map(({ key, head, label, show }) => ({
    key,
    head,
    label,
    numeric: true,
    optional: key === "rank",
    cell: (tensor) => figureCell(tensor, key, show),
  })),
  {
    key: "oddities",
    head: "NaN, ∞",
    label: "Values that are not finite",
    numeric: true,
    optional: true,
    cell: (tensor) => figureCell(tensor, "oddities", number),
  },
  {
    key: "raw_bytes",
    head: "New",
    label: "Bytes that the old version does not have",
    numeric: true,
    cell: (tensor) => figureCell(tensor, "raw_bytes", bytes),
  },
  {
    key: "stored_bytes",
    head: "Stored",
    label: "What these take in the store",
    numeric: true,
    cell: (tensor) => figureCell(tensor, "stored_bytes", bytes),
  },
];

function nameCell(tensor, isOpen) {
  const state = { type: "button", "aria-expanded": String(isOpen) };
  const button = make("button", state, make("bdi", {}, tensor.name));
  return make("th", { scope: "row", title: tensor.name }, button);
}

function figureCell(tensor, key, show) {
  const value = tensor[key];
  const isNothing = value === null || (key === "oddities" && !value);
  const cell = make("td", { class: isNothing ? "figure none" : "figure" }, show(value));
  if (key === "share" && value !== null) cell.style.setProperty("--share", value);
  if (key === "oddities" && value) cell.classList.add("alarm");
  return cell;
}

class TensorTable {
  constructor(table) {
    this.head = table.querySelector("thead tr");
    this.body = table.querySelector("tbody");
    this.open = new Set();
    this.sorting = null;
    this.rows = [];
    this.columns = [];
    this.body.addEventListener("click", (event) => this.clicked(event));
    const reached = ([end]) => end.isIntersecting && this.grow();
    new IntersectionObserver(reached, { rootMargin: "600px" }).observe(byId("more"));
    window.addEventListener("beforeprint", () => this.grow(Infinity));
  }

  /** Show the columns that say something about these tensors. */
  choose(tensors, isOneFile) {
    this.columns = COLUMNS.filter(({ key, optional, varies }) =>
      varies ? !isOneFile : !optional || tensors.some((one) => one[key]),
    );
    if (!this.columns.some(({ key }) => key === this.sorting?.key)) this.sorting = null;
    this.head.replaceChildren(...this.columns.map((column) => this.headCell(column)));
  }

  headCell({ key, head, label, numeric }) {
    const button = make("button", { type: "button", title: label ?? null }, head);
    const cell = make(
      "th",
      { scope: "col", class: numeric ? "figure" : null, "data-key": key, "aria-sort": "none" },
      button,
    );
    button.addEventListener("click", () => this.sortBy(key));
    return cell;
  }

  /** First the way that is wanted most: largest number, first letter; then the other way; then file order. */
  sortBy(key) {
    const { numeric, largestFirst } = this.columns.find((column) => column.key === key);
    const first = numeric || largestFirst ? "descending" : "ascending";
    const second = first === "descending" ? "ascending" : "descending";
    if (this.sorting?.key !== key) this.sorting = { key, direction: first };
    else this.sorting = this.sorting.direction === first ? { key, direction: second } : null;
    this.show(this.rows);
  }

  show(tensors) {
    this.rows = this.sorted(tensors);
    for (const cell of this.head.children) {
      const isSorted = cell.dataset.key === this.sorting?.key;
      cell.setAttribute("aria-sort", isSorted ? this.sorting.direction : "none");
    }
    this.body.replaceChildren();
    this.shown = 0;
    this.grow();
  }

  sorted(tensors) {
    const rows = [...tensors].sort((one, other) => one.index - other.index);
    if (!this.sorting) return rows;
    const { value, key } = this.columns.find((column) => column.key === this.sorting.key);
    const read = value ?? ((tensor) => tensor[key]);
    const sign = this.sorting.direction === "ascending" ? 1 : -1;
    const compare = (one, other) => (typeof one === "string" ? order(one, other) : one - other);
    return rows.sort((one, other) => {
      const [left, right] = [read(one), read(other)];
      if (left === null || right === null) return (left === null) - (right === null);
      return sign * compare(left, right);
    });
  }

  grow(more = ROWS_AT_ONCE) {
    const next = this.rows.slice(this.shown, this.shown + more);
    this.body.append(...next.flatMap((tensor) => this.rowsOf(tensor)));
    this.shown += next.length;
    const left = this.rows.length - this.shown;
    byId("more").textContent = left ? `${count(left)} more below` : "";
  }

  rowsOf(tensor) {
    const isOpen = this.open.has(tensor);
    const cells = this.columns.map(({ cell }) => cell(tensor, isOpen));
    const row = make("tr", { "data-index": tensor.index }, ...cells);
    return isOpen ? [row, this.detail(tensor)] : [row];
  }

  detail(tensor) {
    return make("tr", { class: "detail" }, make("td", { colspan: this.columns.length }, details(tensor)));
  }

  clicked(event) {
    const row = event.target.closest("tr[data-index]");
    if (row && (event.target.closest("button") || !String(getSelection()))) this.toggle(row);
  }

  toggle(row) {
    const tensor = this.rows.find(({ index }) => index === Number(row.dataset.index));
    const isOpen = !this.open.delete(tensor);
    if (isOpen) {
      this.open.add(tensor);
      row.after(this.detail(tensor));
    } else {
      row.nextElementSibling.remove();
    }
    row.querySelector("button").setAttribute("aria-expanded", String(isOpen));
  }

  /** Bring a tensor into view, open. */
  reveal(tensor) {
    while (this.shown <= this.rows.indexOf(tensor)) this.grow();
    const row = this.body.querySelector(`tr[data-index="${tensor.index}"]`);
    if (!this.open.has(tensor)) this.toggle(row);
    row.scrollIntoView({ block: "center" });
    row.querySelector("button").focus({ preventScroll: true });
  }
}

function details(tensor) {
  const facts = [
    ["Name before", tensor.old_name === tensor.name ? null : tensor.old_name],
    [norm("W"), tensor.norm === null ? null : change(number(tensor.norm), number(tensor.new_norm))],
    [norm("Δ"), tensor.delta_norm === null ? null : number(tensor.delta_norm)],
    ["Cosine", tensor.cosine === null ? null : tensor.cosine.toFixed(6)],
    [
      "Changed",
      tensor.changed === null ? null : `${count(tensor.changed)} of ${plural(tensor.values, "value")}`,
    ],
    ["Zeros", tensor.zeros === null ? null : change(count(tensor.old_zeros), count(tensor.zeros))],
    ["NaN", tensor.nans ? count(tensor.nans) : null],
    ["Infinite", tensor.infinities ? count(tensor.infinities) : null],
    ["Rank of Δ", tensor.rank === null ? null : `about ${tensor.rank}`],
  ].filter(([, value]) => value !== null);
  return make("div", { class: "details" }, picture(tensor), pairs(facts));
}

function picture(tensor) {
  if (!tensor.histogram) return make("p", { class: "quiet" }, "no values to compare");
  const caption = make("figcaption", {}, "values of Δ, counts on a logarithmic scale");
  return make("figure", {}, histogram(tensor.histogram), caption);
}
