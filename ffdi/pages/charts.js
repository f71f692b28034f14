// Shows the values of a chart at the pointer, or with the arrow keys.
const watched = new WeakSet();
function watchCharts(part) {
  for (const figure of part.querySelectorAll(".chart")) if (!watched.has(figure)) watchChart(figure);
}
function watchChart(figure) {
  watched.add(figure);
  const svg = figure.querySelector("svg"), plot = figure.querySelector(".plot"), words = figure.querySelector("output");
  const points = JSON.parse(figure.dataset.points)
    .flatMap(([colour, places]) => places.map(([x, y, text]) => ({x, y, text, colour})));
  const dot = document.createElementNS(svg.namespaceURI, "circle");
  dot.setAttribute("r", 4);
  let place = -1;
  function mark(number) {
    place = number;
    const {x, y, text, colour} = points[number];
    dot.setAttribute("cx", x); dot.setAttribute("cy", y);
    dot.style.fill = `var(--series-${colour})`;
    svg.append(dot);
    words.value = text;
  }
  svg.addEventListener("pointermove", event => {
    const shown = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.width / shown.width;
    const x = (event.clientX - shown.left) * scale, y = (event.clientY - shown.top) * scale;
    const distances = points.map(point => (point.x - x) ** 2 + (point.y - y) ** 2);
    if (points.length) mark(distances.indexOf(Math.min(...distances)));
  });
  svg.addEventListener("pointerleave", () => { dot.remove(); words.value = ""; });
  plot.addEventListener("keydown", event => {
    const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
    if (!step || !points.length) return;
    event.preventDefault();
    mark((place + step + points.length) % points.length);
  });
}
watchCharts(document);
