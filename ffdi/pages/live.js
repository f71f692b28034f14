// A page from a disk cannot fetch its file, but it can open it in a hidden frame, which posts its content here.
const main = document.getElementById("main"), stale = document.getElementById("stale"), body = document.body.dataset;
if (window !== top) {
  parent.postMessage({header: document.querySelector("header p").innerHTML, main: main.innerHTML, ...body}, "*");
} else if (!body.ended) {
  let frame, looks = 0, answers = 0, renewed = Math.min(Date.now(), body.written * 1000);
  const pieces = root => new Map([...root.querySelectorAll("[data-piece]")].map(piece => [piece.dataset.piece, piece]));
  const sources = new Map([...pieces(main)].map(([name, piece]) => [name, piece.innerHTML]));  // a chart in use differs
  function show({header, main: content, written, ended}) {
    const next = new DOMParser().parseFromString(content, "text/html").body, before = pieces(main), after = pieces(next);
    // what has not changed stays, and so does the focus; what is at the top of the window stays there
    const blocks = [...document.querySelectorAll("h1, h2, h3, table, [data-piece]:not(tbody)")];
    const top = blocks.find(one => one.getBoundingClientRect().bottom > 0), place = top?.getBoundingClientRect().top;
    document.querySelector("header p").innerHTML = header;
    if ([...before.keys()].join() !== [...after.keys()].join()) main.innerHTML = content;
    else for (const [name, piece] of before)
      if (sources.get(name) !== after.get(name).innerHTML) piece.innerHTML = after.get(name).innerHTML;
    for (const [name, piece] of after) sources.set(name, piece.innerHTML);
    watchCharts(main);
    if (top?.isConnected) scrollBy(0, top.getBoundingClientRect().top - place);
    Object.assign(body, {written, ended});
    renewed = Date.now();
  }
  function tick() {
    const age = Math.max(0, Math.round((Date.now() - renewed) / 1000));
    const words = age < 100 ? `${age} s` : `${Math.round(age / 60)} min`;
    if (!body.ended) document.getElementById("age").textContent = {{ _(", {time} ago") | tojson }}.replace("{time}", words);
    const late = !body.ended && age > Number(body.stale);
    if (late && stale.hidden)
      stale.textContent = {{ _("This page is not renewed any more: its command has ended, or cannot write here. To renew it:") | tojson }} + " "
        + body.command;
    stale.hidden = !late;
  }
  function look() {
    frame?.remove();
    if (body.ended) { clearInterval(timer); tick(); return; }
    if (looks++ > 3 && !answers) location.reload();  // this browser opens no frames from a disk
    frame = document.createElement("iframe");
    Object.assign(frame, {hidden: true, title: "the page as it is now", src: `${location.href.split(/[?#]/)[0]}?${Date.now()}`});
    document.body.append(frame);
  }
  addEventListener("message", event => {
    if (event.source !== frame?.contentWindow) return;
    answers++;
    if (event.data.written !== body.written) show(event.data);
    tick();
  });
  addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
  const timer = setInterval(() => { look(); tick(); }, 1000 * body.look);
  tick();
}
