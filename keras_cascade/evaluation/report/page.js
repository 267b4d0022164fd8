"use strict";
// Moves along the thresholds of the report; every number comes from the data.
(() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("slider-data").textContent);
  const slider = byId("threshold");
  const chart = byId("deferral-chart");
  const marker = byId("marker");
  const frame = JSON.parse(chart.dataset.frame);
  const last = data.threshold.length - 1;
  const shown = Array.from(document.querySelectorAll("[data-show]"));
  const guarantees = Array.from(document.querySelectorAll("[data-stands]"));

  // Text of an element: a list's value at an index, scaled and rounded.
  function text(element, index) {
    const { show, decimals, scale } = element.dataset;
    if (show === "threshold" && index === 0) return "below every score";
    if (show === "threshold" && index === last) return "above every score";
    const value = data[show][index] * Number(scale || 1);
    return value.toFixed(Number(decimals));
  }

  function moveMarker(index) {
    const { left, top, width, height, low, high } = frame;
    const up = (data.accuracy[index] - low) / (high - low);
    const x = left + width * data.delegation_rate[index];
    const y = top + height * (1 - up);
    marker.setAttribute("transform", `translate(${x} ${y})`);
  }

  // A guarantee stands at the calibrated threshold, and on one side of it.
  function stands(side, index) {
    return side === "above" ? index >= data.start : index <= data.start;
  }

  function update() {
    const index = Number(slider.value);
    const words = {};
    for (const element of shown) {
      const now = text(element, index);
      if (element.textContent !== now) element.textContent = now;
      words[element.dataset.show] = now;
    }
    for (const element of guarantees) {
      const holds = stands(element.dataset.stands, index);
      const verdict = element.querySelector(".verdict");
      const now = holds ? verdict.dataset.yes : verdict.dataset.no;
      if (verdict.textContent !== now) verdict.textContent = now;
      element.classList.toggle("broken", !holds);
    }
    moveMarker(index);
    const cost = data.amortized_cost
      ? `, cost ${words.amortized_cost} ${data.unit} per example`
      : "";
    const where = index === data.start ? ", as calibrated" : "";
    slider.setAttribute(
      "aria-valuetext",
      `threshold ${words.threshold}${where}: accuracy ${words.accuracy} %, ` +
        `${words.delegation_rate} % delegated${cost}`,
    );
  }

  slider.addEventListener("input", update);
  byId("reset").addEventListener("click", () => {
    slider.value = String(data.start);
    update();
    slider.focus();
  });
  // A reloaded page may come back with another position of the slider.
  slider.value = String(data.start);
  byId("controls").hidden = false;
  update();
})();
