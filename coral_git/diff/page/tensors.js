// The tensors of the report, what is measured of them, and which layer they belong to.

/** How a norm is written; the sign that is made for it is too tall in some fonts. */
const norm = (letter) => `∥${letter}∥`;

const METRICS = [
  { key: "relative", label: "Relative change", head: `${norm("Δ")} / ${norm("W")}`, show: number },
  { key: "max_delta", label: "Largest change", head: "max |Δ|", show: number },
  { key: "distance", label: "Cosine distance", head: "1 − cos", show: number },
  { key: "share", label: "Changed values", head: "Changed", show: percent },
  { key: "rank", label: "Rank", head: "Rank", show: number },
];

const STATUSES = ["changed", "added", "removed", "renamed", "reshaped", "retyped"];

// up to the first part of the name that is a number, or ends in one after an underscore
const LAYER = /^(.*?(?:^|[./_])\d+)[./](.+)$/s;
const NUMBER_INSIDE = /(^|[./])\d+(?=[./]|$)/g;

/** Where a tensor is in the heat map; numbers further inside, of experts for one, share a column. */
function placeOf(name) {
  const found = LAYER.exec(name);
  if (found) return { numbered: true, layer: found[1], role: found[2].replace(NUMBER_INSIDE, "$1*") };
  const cut = Math.max(name.lastIndexOf("."), name.lastIndexOf("/"));
  if (cut < 1) return { numbered: false, layer: name, role: "value" };
  return { numbered: false, layer: name.slice(0, cut), role: name.slice(cut + 1) };
}

function prepare(tensor, file, index) {
  const { cosine } = tensor;
  const name = tensor.name || "(no name)";
  return {
    ...tensor,
    name,
    file,
    index,
    distance: cosine === null ? null : Math.max(0, 1 - cosine),
    oddities: tensor.nans === null ? null : tensor.nans + tensor.infinities,
    elements: (tensor.shape ?? tensor.old_shape ?? []).reduce((all, length) => all * length, 1),
    searched: name.toLowerCase(),
    place: placeOf(name),
  };
}

/** A test of names: those that contain a text, or match a glob as a whole; case does not matter. */
function matcher(wanted) {
  const text = wanted.trim().toLowerCase();
  if (!/[*?[]/.test(text)) return (tensor) => tensor.searched.includes(text);
  const pattern = text.replace(/\[(!?)([^\]]+)\]|[^]/g, (one, not, inside) => {
    if (inside) return `[${not && "^"}${inside.replace(/[\\^[]/g, "\\$&")}]`;
    if (one === "*") return ".*";
    return one === "?" ? "." : one.replace(/[\\^$.+()[\]{}|/]/g, "\\$&");
  });
  try {
    const whole = new RegExp(`^${pattern}$`, "s");
    return (tensor) => whole.test(tensor.searched);
  } catch {
    return () => false; // a range that runs backwards matches nothing, as in a shell
  }
}
