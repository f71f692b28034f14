// The slider of the threshold, with the confusion matrix and the cost.
{
  const section = document.getElementById("threshold"), errors = JSON.parse(section.dataset.errors);
  const form = section.querySelector("form"), part = name => section.querySelector(`[data-value=${name}]`);
  const share = (count, all) => all ? `${(100 * count / all).toFixed(1)} %` : "\u2013";
  const cost = place => form.miss.value * errors.missed[place] + form.alarm.value * errors.alarms[place];
  function show() {
    const place = Number(form.place.value), missed = errors.missed[place], alarms = errors.alarms[place];
    const caught = errors.fake - missed, passed = errors.real - alarms;
    const values = {
      threshold: errors.threshold[place].toFixed(6), missed, alarms, caught, passed,
      tpr: share(caught, errors.fake), fpr: share(alarms, errors.real), precision: share(caught, caught + alarms),
      accuracy: share(caught + passed, errors.fake + errors.real), cost: Number(cost(place).toFixed(2)),
    };
    for (const [name, value] of Object.entries(values)) part(name).textContent = value;
    form.place.setAttribute("aria-valuetext", values.threshold);
  }
  form.addEventListener("input", show);
  form.cheapest.addEventListener("click", () => {
    const costs = errors.threshold.map((_, place) => cost(place));
    form.place.value = costs.indexOf(Math.min(...costs));
    show();
  });
  show();
}
