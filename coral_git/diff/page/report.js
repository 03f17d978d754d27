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
  const tensors = plural(files.reduce((all, file) => all + file.tensors.length, 0), "tensor");
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
  const sha = make("span", { class: "sha", title: `SHA-256 ${change(...sums)}` }, change(...sums.map((sum) => sum && sum.slice(0, 8))));
  const parts = [
    make("span", { class: "path" }, make("bdi", {}, path), " ", make("span", { class: `status ${file.status}` }, file.status)),
    make("strong", {}, file.verdict),
    make("span", { class: "counts" }, counts),
    make("span", { class: "costs" }, costs(file)),
    sha,
  ];
  if (files.length === 1) return make("li", {}, make("div", { class: "file" }, ...parts));
  return choice("file", parts, state.file === file, () => show({ file: state.file === file ? null : file }));
}

function choice(kind, parts, pressed, onClick) {
  const button = make("button", { type: "button", class: kind, "aria-pressed": String(pressed) }, ...parts);
  button.addEventListener("click", onClick);
  return kind === "file" ? make("li", {}, button) : button;
}

function metricChoices(tensors) {
  const usable = METRICS.filter(({ key }) => largest(tensors, key) !== null);
  if (state.metric && !usable.includes(state.metric)) state.metric = usable[0] ?? METRICS[0];
  const all = usable.length > 1 ? [...usable, null] : usable;
  return all.map((metric) => choice("metric", [metric?.label ?? "All"], state.metric === metric, () => show({ metric })));
}

function statusChoices(tensors) {
  const present = STATUSES.filter((status) => tensors.some((one) => one.status === status));
  return present.map((status) => {
    const number = count(tensors.filter((one) => one.status === status).length);
    const parts = [make("span", { class: `status ${status}` }, status), " ", make("span", { class: "quiet" }, number)];
    return choice("filter", parts, state.statuses.has(status), () => {
      if (!state.statuses.delete(status)) state.statuses.add(status);
      show();
    });
  });
}

/** Draw what depends on the choices again, and keep the focus where it was. */
function show(changes = {}) {
  Object.assign(state, changes);
  const tensors = current();
  redraw("files", files.map(fileItem));
  redraw("metrics", metricChoices(tensors));
  redraw("statuses", statusChoices(tensors));
  heatMaps(tensors, state.metric, reveal);
  table.choose(tensors, state.file !== null);
  list();
}

function redraw(id, children) {
  const buttons = () => [...byId(id).querySelectorAll("button")];
  const focused = buttons().indexOf(document.activeElement);
  byId(id).replaceChildren(...children);
  if (focused >= 0) buttons()[focused]?.focus();
}

function list() {
  const tensors = current();
  const matches = matcher(byId("search").value);
  const rows = tensors.filter((one) => matches(one) && (!state.statuses.size || state.statuses.has(one.status)));
  table.show(rows);
  byId("count").textContent = rows.length === tensors.length ? plural(rows.length, "tensor") : `${count(rows.length)} of ${plural(tensors.length, "tensor")}`;
}

/** Show the tensors of a cell in the table, whatever was searched before. */
function reveal(tensors) {
  if (!tensors.every((one) => table.rows.includes(one))) {
    byId("search").value = "";
    state.statuses.clear();
    show();
  }
  hideTip();
  table.reveal(tensors[0]);
}

byId("summary").textContent = summary();
byId("map").hidden = byId("list").hidden = !files.some((file) => file.tensors.length);
byId("search").addEventListener("input", list);
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== byId("search")) {
    event.preventDefault();
    byId("search").focus();
  }
  if (event.key === "Escape") hideTip();
});
show();
