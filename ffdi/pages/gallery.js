// The example images: filters, order, and a dialog for one image.
const images = {};
{
  const form = document.getElementById("filter"), gallery = document.getElementById("gallery");
  const cards = [...gallery.children], dialog = document.getElementById("closer"), detail = document.getElementById("detail");
  const zoom = document.getElementById("zoom"), warm = document.getElementById("warm");
  const orders = {
    error: (a, b) => b.dataset.error - a.dataset.error,
    doubt: (a, b) => Math.abs(a.dataset.y_pred - .5) - Math.abs(b.dataset.y_pred - .5),
    y_pred: (a, b) => b.dataset.y_pred - a.dataset.y_pred,
    name: (a, b) => a.dataset.name < b.dataset.name ? -1 : 1,
  };
  const kinds = new Map(cards.map(card => [card, JSON.parse(card.dataset.kinds)]));
  let visible = cards, open = 0;
  function arrange() {
    const asked = Object.fromEntries(new FormData(form)), words = asked.name.toLowerCase();
    visible = cards.filter(card => (!asked.kind || kinds.get(card).includes(asked.kind))
      && (!asked.target || card.dataset.target === asked.target) && (!asked.fold || card.dataset.fold === asked.fold)
      && card.dataset.name.toLowerCase().includes(words)).sort(orders[asked.sort]);
    gallery.replaceChildren(...visible);
    document.getElementById("shown").textContent = {{ _("{some} of {every} images") | tojson }}
      .replace("{some}", visible.length).replace("{every}", cards.length);
  }
  function heat(shown) {  // one switch, in two places
    form.heat.checked = warm.checked = shown;
    for (const part of [gallery, detail]) part.classList.toggle("cold", !shown);
  }
  function look(number) {
    open = (number + visible.length) % visible.length;
    detail.replaceChildren(visible[open].querySelector("template").content.cloneNode(true));
    const plain = visible[open].querySelector(".picture").cloneNode(true), heated = plain.cloneNode(true);
    plain.querySelector(".heat").remove();
    heated.classList.add("warm");
    detail.querySelector(".panes").append(plain, heated);
    enlarge();
  }
  function enlarge() { detail.style.setProperty("--zoom", zoom.value); }
  images.has = name => cards.some(card => card.dataset.name === name);
  images.show = name => {
    form.reset();
    heat(warm.checked);
    arrange();
    look(visible.findIndex(card => card.dataset.name === name));
    dialog.showModal();
  };
  form.addEventListener("input", event => event.target === form.heat ? heat(form.heat.checked) : arrange());
  gallery.addEventListener("click", event => {
    const card = event.target.closest("li");
    if (card && event.target.closest("button")) { look(visible.indexOf(card)); dialog.showModal(); }
  });
  dialog.addEventListener("click", event => { if (event.target.dataset.step) look(open + Number(event.target.dataset.step)); });
  dialog.addEventListener("keydown", event => {
    if (event.target.type === "range") return;
    if (event.key === "ArrowRight") look(open + 1); else if (event.key === "ArrowLeft") look(open - 1);
  });
  dialog.addEventListener("close", () => visible[open]?.querySelector("button").focus());
  document.getElementById("close").addEventListener("click", () => dialog.close());
  zoom.addEventListener("input", enlarge);
  warm.addEventListener("input", () => heat(warm.checked));
  if (innerWidth < 600) zoom.value = 1;
  heat(false);
  arrange();
}
