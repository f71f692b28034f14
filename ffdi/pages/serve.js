const at = id => document.getElementById(id), results = [], largest = {{ bytes }}, tries = 5, edge = 40;
const words = (text, values) => Object.entries(values).reduce((made, [name, value]) => made.replace(`{${name}}`, () => value), text);
const parts = {
  "eyes": {{ _("eyes") | tojson }},
  "mouth": {{ _("mouth") | tojson }},
  "rest of the face": {{ _("rest of the face") | tojson }},
  "background": {{ _("background") | tojson }},
  "upper half": {{ _("upper half") | tojson }},
  "lower half": {{ _("lower half") | tojson }},
  "light and shadow": {{ _("light and shadow") | tojson }},
  "noise of the pixels": {{ _("noise of the pixels") | tojson }}
};
let running = Promise.resolve(), shrinking = Promise.resolve(), current = null;
function made(tag, text, kind) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (kind) element.className = kind;
  return element;
}
async function post(route, file) {
  if (file.size > largest) return {error: words({{ _("{name} has more than {limit} MB, the limit") | tojson }}, {name: file.name, limit: largest / 1e6})};
  for (let left = tries; ; left--) {
    try {
      const answer = await fetch(`${route}?img_name=${encodeURIComponent(file.name)}`, {method: "POST", body: file});
      if (answer.status !== 503 || !left) {
        if (answer.headers.get("content-type") === "application/json") return await answer.json();
        return {error: answer.status === 503 ? {{ _("the server is busy: drop it again") | tojson }} : words({{ _("the server answers {status}") | tojson }}, {status: answer.status})};
      }
      at("status").textContent = {{ _("The server is busy: trying again …") | tojson }};
      await new Promise(done => setTimeout(done, 1000 * (answer.headers.get("retry-after") ?? 2)));
    } catch { return {error: {{ _("the server does not answer: it has ended, or refused what was sent") | tojson }}}; }
  }
}
function add(file) {
  const row = made("tr"), head = made("th"), open = made("button", file.name, "row"), cell = made("td", "…");
  const result = {file, row, cell, small: made("canvas")};
  result.small.width = result.small.height = edge;
  head.scope = "row"; open.type = "button"; open.addEventListener("click", () => show(result));
  head.append(result.small, open); row.append(head, cell); at("rows").append(row);
  results.push(result);
  return result;
}
async function shrink(result) {  // one image at a time: a browser holds it at its full size for a moment
  try {
    const image = await createImageBitmap(result.file, {resizeHeight: edge, resizeQuality: "medium"});
    const side = Math.min(image.width, image.height);
    result.small.getContext("2d").drawImage(image, (image.width - side) / 2, 0, side, side, 0, 0, edge, edge);
    image.close();
  } catch { result.small.remove(); }  // a format that this browser does not show, such as TIFF
}
const orders = {
  name: (a, b) => a.file.name < b.file.name ? -1 : 1,
  y_pred: (a, b) => (a.y_pred ?? -1) - (b.y_pred ?? -1),
};
let order = null;
function sort() {
  if (!order) return;
  const sorted = [...results].sort(orders[order.by]);
  at("rows").append(...(order.down ? sorted.reverse() : sorted).map(one => one.row));
  for (const by of Object.keys(orders)) {
    const head = at(`by-${by}`);
    if (by === order.by) head.setAttribute("aria-sort", order.down ? "descending" : "ascending"); else head.removeAttribute("aria-sort");
  }
}
for (const button of document.querySelectorAll("[data-by]")) button.addEventListener("click", () => {
  const by = button.dataset.by;
  order = {by, down: order?.by === by ? !order.down : by === "y_pred"};
  sort();
});
async function score(result) {
  const found = await post("score", result.file);
  result.error = found.error; result.y_pred = found.y_pred;
  result.cell.textContent = found.error ?? Number(found.y_pred).toFixed(4);
  if (found.error) result.cell.className = "fault";
  if (result === current && !found.error) say(found.y_pred);
  if (order?.by === "y_pred") sort();
  count();
}
function count() {
  const done = results.filter(one => one.y_pred !== undefined), faulty = results.filter(one => one.error);
  const text = faulty.length ? {{ _("{some} of {every} scored, {faulty} cannot be used") | tojson }} : {{ _("{some} of {every} scored") | tojson }};
  at("status").textContent = words(text, {some: done.length, every: results.length, faulty: faulty.length});
  at("save").disabled = !done.length;
}
async function show(result) {
  current = result;
  for (const one of results) one.row.toggleAttribute("aria-current", one === result);
  at("one").hidden = false;
  at("title").textContent = result.file.name;
  for (const id of ["score", "change"]) at(id).textContent = "";
  for (const id of ["picture", "rests", "looks"]) at(id).replaceChildren();
  at("scale").hidden = true;
  if (result.y_pred !== undefined) say(result.y_pred);
  if (!result.found && !result.error) at("change").textContent = {{ _("Computing the heat map …") | tojson }};
  const found = result.found ??= await post("look", result.file);
  if (current !== result) return;
  if (found.error) { result.found = undefined; at("score").textContent = ""; at("change").textContent = found.error; return; }
  say(found.y_pred);
  const verdict = found.y_pred >= .5 ? {{ _("Rather fake.") | tojson }} : {{ _("Rather real.") | tojson }};
  const reason = found.change >= .005
    ? {{ _("Blurring the part that speaks most for it pulls the logit back by {change}.") | tojson }}
    : {{ _("No single part speaks for it: blurring any leaves the score where it is, or strengthens it.") | tojson }};
  at("change").textContent = `${verdict} ${words(reason, {change: found.change.toFixed(2)})}`;
  for (const [name, kind] of [["picture", ""], ["heat", "heat"]]) {
    const image = made("img", undefined, kind);
    image.src = found[name]; image.alt = kind ? "" : result.file.name; at("picture").append(image);
  }
  if (found.shares.length) at("rests").append(table(found.shares));
  for (const [name, address] of Object.entries(found.looks)) {
    const figure = made("figure"), image = made("img");
    image.src = address; image.alt = ""; figure.append(image, made("figcaption", parts[name])); at("looks").append(figure);
  }
}
function say(y_pred) {
  at("score").textContent = Number(y_pred).toFixed(4);
  at("score").className = `score ${y_pred >= .5 ? "fake" : "real"}`;
  at("scale").hidden = false; at("meter").value = y_pred;
}
function table(shares) {
  const sheet = made("table"), head = made("tr"), body = made("tbody"), top = made("thead");
  const columns = [{{ _("part") | tojson }}, {{ _("of the heat map") | tojson }}, {{ _("of the image") | tojson }}];
  body.className = "shares";
  sheet.append(made("caption", {{ _("What the score rests on, by the landmarks of the face") | tojson }}));
  for (const word of columns) { const cell = made("th", word); cell.scope = "col"; head.append(cell); }
  for (const {part, heat, area} of shares) {
    const row = made("tr"), name = made("th", parts[part]); name.scope = "row";
    row.append(name, ...[heat, area].map(share => made("td", `${Math.round(share * 100)} %`)));
    body.append(row);
  }
  top.append(head); sheet.append(top, body);
  return sheet;
}
function take(files) {
  const added = [...files].map(add);
  if (!added.length) return;
  at("all").hidden = false; count();
  for (const result of added) running = running.then(() => score(result));
  for (const result of added) shrinking = shrinking.then(() => shrink(result));
  sort();
  running = running.then(() => show(added[0]));
}
const quoted = name => /[",\r\n]/.test(name) ? `"${name.replaceAll('"', '""')}"` : name;
at("save").addEventListener("click", () => {
  const lines = results.filter(one => one.y_pred !== undefined).map(one => `${quoted(one.file.name)},${one.y_pred}\n`);
  const link = made("a"); link.download = "scores.csv";
  link.href = URL.createObjectURL(new Blob(["img_name,y_pred\n", ...lines], {type: "text/csv"}));
  link.click(); URL.revokeObjectURL(link.href);
});
at("files").addEventListener("change", event => { take(event.target.files); event.target.value = ""; });
at("warm").addEventListener("input", () => at("picture").classList.toggle("cold", !at("warm").checked));
for (const kind of ["dragenter", "dragover"]) document.addEventListener(kind, event => { event.preventDefault(); at("drop").classList.add("over"); });
for (const kind of ["dragleave", "drop"]) document.addEventListener(kind, event => { event.preventDefault(); at("drop").classList.remove("over"); });
document.addEventListener("drop", event => take(event.dataTransfer.files));
