// Puts the page together: files, heat map, search, table.

const report = JSON.parse(byId("report").textContent);
const files = report.files.map((file) => {
  const tensors = file.tensors.map((tensor, index) => prepare(tensor, file, index));
  return { ...file, tensors };
});
files.flatMap((file) => file.tensors).forEach((tensor, index) => (tensor.index = index));

const table = new TensorTable(byId("tensors"));
const state = { file: files.length === 1 ? files[0] : null, metric: METRICS[0], statuses: new Set() };

const current = () => (state.file ? state.file.tensors : files.flatMap((file) => file.tensors));

function summary() {
  const { total } = report;
  const tensors = plural(
    files.reduce((all, file) => all + file.tensors.length, 0),
    "tensor",
  );
  if (!total.files) return "no weight file differs";
  return `${plural(total.files, "file")} · ${tensors} · ${costs(total)}`;
}

function costs({ raw_bytes, stored_bytes }) {
  if (!raw_bytes) return "no new bytes";
  if (stored_bytes === null) return `${bytes(raw_bytes)} new`;
  return `${bytes(raw_bytes)} new, ${bytes(stored_bytes)} stored (${percent(stored_bytes / raw_bytes)})`;
}

function fileItem(file) {
  const path = file.old_path === file.path ? file.path : `${file.old_path} → ${file.path}`;
  const counts = `${count(file.tensors.length)} of ${plural(file.tensors.length + file.same, "tensor")}`;
  const sums = [file.old_sha256, file.new_sha256];
  const sha = make(
    "span",
    { class: "sha", title: `SHA-256 ${change(...sums)}` },
    change(...sums.map((sum) => sum && sum.slice(0, 8))),
  );
  const parts = [
    make(
      "span",
      { class: "path" },
      make("bdi", {}, path),
      make("span", { class: `status ${file.status}` }, file.status),
      sha,
    ),
    make("strong", {}, file.verdict),
    make("span", { class: "counts" }, counts),
    make("span", { class: "costs" }, costs(file)),
  ];
  if (files.length === 1) return make("li", {}, make("div", { class: "file" }, ...parts));
  const choose = () => {
    state.file = state.file === file ? null : file;
    state.statuses.clear();
    showFiles();
  };
  return make("li", {}, choice(parts, state.file === file, choose, "file"));
}

function choice(parts, pressed, onClick, kind = null) {
  const button = make("button", { type: "button", class: kind, "aria-pressed": String(pressed) }, ...parts);
  button.addEventListener("click", onClick);
  return button;
}

/** Put choices in their place again, and keep the focus where it was. */
function redraw(id, children) {
  const buttons = () => [...byId(id).querySelectorAll("button")];
  const focused = buttons().indexOf(document.activeElement);
  byId(id).replaceChildren(...children);
  buttons()[focused]?.focus();
}

function showFiles() {
  redraw("files", files.map(fileItem));
  table.choose(current(), state.file !== null);
  showMap();
  showStatuses();
}

function showMap() {
  const tensors = current();
  const usable = METRICS.filter(({ key }) => largest(tensors, key) !== null);
  const offered = usable.length > 1 ? [...usable, null] : usable; // null is all of them
  if (!offered.includes(state.metric)) state.metric = offered[0] ?? METRICS[0];
  const choose = (metric) => () => showMap((state.metric = metric));
  redraw(
    "metrics",
    offered.map((metric) => choice([metric?.label ?? "All"], state.metric === metric, choose(metric))),
  );
  heatMaps(tensors, state.metric, reveal);
}

function showStatuses() {
  const counts = new Map();
  for (const { status } of current()) counts.set(status, (counts.get(status) ?? 0) + 1);
  const present = counts.size > 1 ? STATUSES.filter((status) => counts.has(status)) : [];
  redraw(
    "statuses",
    present.map((status) => {
      const parts = [
        make("span", { class: `status ${status}` }, status),
        " ",
        make("span", { class: "quiet" }, count(counts.get(status))),
      ];
      return choice(parts, state.statuses.has(status), () => {
        if (!state.statuses.delete(status)) state.statuses.add(status);
        showStatuses();
      });
    }),
  );
  showList();
}

function showList() {
  const tensors = current();
  const matches = matcher(byId("search").value);
  const rows = tensors.filter(
    (one) => matches(one) && (!state.statuses.size || state.statuses.has(one.status)),
  );
  table.show(rows);
  const all = plural(tensors.length, "tensor");
  byId("count").textContent = rows.length === tensors.length ? all : `${count(rows.length)} of ${all}`;
}

/** Show the tensors of a cell in the table, whatever was searched before. */
function reveal(tensors) {
  if (!tensors.every((one) => table.rows.includes(one))) {
    byId("search").value = "";
    state.statuses.clear();
    showStatuses();
  }
  hideTip();
  table.reveal(tensors[0]);
}

byId("summary").textContent = summary();
byId("hint").hidden = files.length < 2;
byId("map").hidden = byId("list").hidden = !files.some((file) => file.tensors.length);
byId("search").addEventListener("input", showList);
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== byId("search")) {
    event.preventDefault();
    byId("search").focus();
  }
  if (event.key === "Escape") hideTip();
});
showFiles();
