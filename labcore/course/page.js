// Draws the figures of a page. The text under a figure follows its slider.
"use strict";

// The slider of a figure that was explored stands under it, outside plotly.
function ruler(box, slider, tell) {
  const label = document.createElement("label");
  const text = document.createElement("span");
  const range = document.createElement("input");
  const show = () => {
    const step = slider.steps[range.value];
    text.textContent = slider.currentvalue.prefix + step.label;
    range.setAttribute("aria-valuetext", step.label);
    return step.args;
  };
  label.className = "ruler";
  Object.assign(range, { type: "range", min: 0, max: slider.steps.length - 1, step: 1 });
  range.value = slider.active;
  range.addEventListener("input", () => {
    const [names, how] = show();
    Plotly.animate(box, names, how);
    tell(names[0]);
  });
  show();
  label.append(text, range);
  box.after(label);
}

for (const box of document.querySelectorAll(".plot")) {
  const fig = JSON.parse(document.getElementById(box.id + "-data").textContent);
  const config = { displaylogo: false, showSendToCloud: false, responsive: true };
  const frames = fig.frames || [];
  const tell = (name) => {
    const shown = frames.find((frame) => frame.name === name);
    const meta = shown && shown.layout && shown.layout.meta;
    if (meta && meta.alt) document.getElementById(box.id + "-alt").textContent = meta.alt;
  };
  const explored = (fig.layout.sliders || []).find((slider) => slider.name === "explore");
  if (explored) fig.layout.sliders = [];
  Plotly.newPlot(box, fig.data, fig.layout, config).then(() => {
    if (frames.length) Plotly.addFrames(box, frames);
    if (explored) ruler(box, explored, tell);
    box.on("plotly_sliderchange", (event) => tell(event.step.args[0][0]));
  });
}
