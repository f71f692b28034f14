// The map of all images: points on a canvas, and the images themselves where there is room for them.
{
  const section = document.getElementById("map"), form = section.querySelector("form");
  const canvas = section.querySelector("canvas"), pen = canvas.getContext("2d");
  const legend = section.querySelector(".legend"), found = section.querySelector(".found");
  const sheet = document.getElementById("sheet"), data = JSON.parse(document.getElementById("map-data").textContent);
  const decode = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  const places = new Uint16Array(decode(data.places).buffer), scores = new Uint16Array(decode(data.scores).buffer);
  const target = decode(data.target), kind = new Uint16Array(decode(data.kind).buffer);
  const words = {real: {{ _("real") | tojson }}, fake: {{ _("fake") | tojson }}, error: {{ _("error") | tojson }}, open: {{ _("Open") | tojson }}};
  const names = data.names, count = target.length, largest = 65535, border = 24;
  const cells = new Int32Array(count).fill(-1);
  data.thumbnails.forEach((row, cell) => cells[row] = cell);
  const most = 400, reach = 12, fewest = 400;  // pictures at once; pixels of the pointer; points that are drawn large
  let view = {x: .5, y: .5, zoom: 1}, drag = null, waiting = false;

  let wide = 0, high = 0;  // of the canvas: the browser computes these anew each time that it is asked
  const width = () => wide - 2 * border, height = () => high - 2 * border;
  const across = row => (places[2 * row] / largest - view.x) * view.zoom * width() + wide / 2;
  const down = row => (places[2 * row + 1] / largest - view.y) * view.zoom * height() + high / 2;
  const error = row => Math.abs(scores[row] / largest - target[row]);
  const css = name => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  function shade(row) {  // five steps of the error
    return Math.min(4, Math.floor(5 * error(row)));
  }
  const ways = {
    label: {groups: () => [[words.real, css("real")], [words.fake, css("fake")]], find: row => target[row]},
    error: {
      groups: () => [20, 40, 60, 80, 100].map((end, step) => [
        `${words.error} ${(end - 20) / 100} \u2013 ${end / 100}`,
        `color-mix(in oklab, ${css("accent")} ${10 + 22 * step}%, ${css("faint")})`]),
      find: shade,
    },
    kind: {
      groups: () => data.kinds.map((name, number) => [name || words.real, name ? css(`series-${number % 7}`) : css("faint")]),
      find: row => kind[row],
    },
  };
  function draw() {
    waiting = false;
    const scale = devicePixelRatio || 1;
    wide = canvas.clientWidth; high = canvas.clientHeight;
    canvas.width = wide * scale; canvas.height = high * scale;
    pen.scale(scale, scale);
    const way = ways[form.colour.value], groups = way.groups(), shown = [];
    const rows = groups.map(() => []);
    for (let row = 0; row < count; row++) {
      const x = across(row), y = down(row);
      if (x > -data.cell && y > -data.cell && x < wide + data.cell && y < high + data.cell) {
        rows[way.find(row)].push(row);
        if (cells[row] >= 0) shown.push(row);
      }
    }
    const visible = rows.reduce((sum, part) => sum + part.length, 0), edge = visible < fewest ? 6 : visible < 20 * fewest ? 4 : 2;
    rows.forEach((part, number) => {
      pen.fillStyle = groups[number][1];
      for (const row of part) pen.fillRect(across(row) - edge / 2, down(row) - edge / 2, edge, edge);
    });
    const pictures = shown.length <= most && view.zoom > 1 && sheet.complete;
    if (pictures) for (const row of shown) {
      const size = data.cell, x = across(row) - size / 2, y = down(row) - size / 2;
      pen.drawImage(sheet, ...corner(row), size, size, x, y, size, size);
      pen.strokeStyle = groups[way.find(row)][1]; pen.lineWidth = 2;
      pen.strokeRect(x, y, size, size);
    }
    canvas.dataset.visible = visible;
    canvas.dataset.pictures = pictures ? shown.length : 0;
    legend.replaceChildren(...groups.map(([words, colour]) => {
      const entry = document.createElement("li"), spot = document.createElement("i");
      spot.style.background = colour;
      entry.append(spot, words);
      return entry;
    }));
  }
  const corner = row => [cells[row] % data.columns * data.cell, Math.floor(cells[row] / data.columns) * data.cell];
  function redraw() { if (!waiting) { waiting = true; requestAnimationFrame(draw); } }
  function nearest(event) {
    const at = canvas.getBoundingClientRect(), x = event.clientX - at.left, y = event.clientY - at.top;
    const around = Number(canvas.dataset.pictures) ? data.cell / 2 : reach;
    let best = -1, least = around ** 2;
    for (let row = 0; row < count; row++) {
      const distance = (across(row) - x) ** 2 + (down(row) - y) ** 2;
      if (distance <= least) { least = distance; best = row; }
    }
    return best;
  }
  function tell(row) {
    if (row < 0) return;
    const word = target[row] ? words.fake : words.real, text = document.createElement("span");
    text.textContent = `${names[row]}: ${word}, y_pred ${(scores[row] / largest).toFixed(4)}`;
    found.replaceChildren(text);
    if (cells[row] >= 0) {
      const small = document.createElement("canvas");
      small.width = small.height = data.cell;
      small.getContext("2d").drawImage(sheet, ...corner(row), data.cell, data.cell, 0, 0, data.cell, data.cell);
      found.prepend(small);
    }
    if (images.has(names[row])) {
      const button = document.createElement("button");
      button.type = "button"; button.textContent = words.open;
      button.addEventListener("click", () => images.show(names[row]));
      found.append(button);
    }
  }
  function zoom(factor, x = wide / 2, y = high / 2) {
    const next = Math.min(200, Math.max(1, view.zoom * factor)), change = 1 / view.zoom - 1 / next;
    view = {
      x: view.x + (x - wide / 2) / width() * change, y: view.y + (y - high / 2) / height() * change,
      zoom: next,
    };
    if (next === 1) view = {x: .5, y: .5, zoom: 1};
    redraw();
  }
  function move(x, y) {
    const keep = value => Math.min(1, Math.max(0, value));
    view.x = keep(view.x - x / width() / view.zoom); view.y = keep(view.y - y / height() / view.zoom);
    redraw();
  }
  canvas.addEventListener("wheel", event => {
    event.preventDefault();
    const at = canvas.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY / 300), event.clientX - at.left, event.clientY - at.top);
  }, {passive: false});
  canvas.addEventListener("pointerdown", event => {
    canvas.setPointerCapture(event.pointerId);
    drag = {x: event.clientX, y: event.clientY, far: 0};
  });
  canvas.addEventListener("pointermove", event => {
    if (!drag) { tell(nearest(event)); return; }
    const x = event.clientX - drag.x, y = event.clientY - drag.y;
    drag = {x: event.clientX, y: event.clientY, far: drag.far + Math.abs(x) + Math.abs(y)};
    move(x, y);
  });
  canvas.addEventListener("pointerup", event => {
    const row = drag && drag.far < 4 ? nearest(event) : -1;
    drag = null;
    tell(row);
    if (row >= 0 && images.has(names[row])) images.show(names[row]);
  });
  canvas.addEventListener("pointercancel", () => drag = null);
  canvas.addEventListener("keydown", event => {
    const step = 60, moves = {ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step]};
    const factor = {"+": 1.5, "=": 1.5, "-": 1 / 1.5}[event.key];
    if (factor) zoom(factor); else if (moves[event.key]) move(...moves[event.key]); else return;
    event.preventDefault();
  });
  form.addEventListener("input", redraw);
  form.in.addEventListener("click", () => zoom(1.5));
  form.out.addEventListener("click", () => zoom(1 / 1.5));
  form.all.addEventListener("click", () => zoom(0));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  addEventListener("resize", redraw);
  sheet.decode().then(() => { if (view.zoom > 1) redraw(); });
  redraw();
}
