// Draws the figures of a page. The text under a figure follows its slider.
"use strict";
for (const box of document.querySelectorAll(".plot")) {
  const fig = JSON.parse(document.getElementById(box.id + "-data").textContent);
  const config = { displaylogo: false, showSendToCloud: false, responsive: true };
  const frames = fig.frames || [];
  Plotly.newPlot(box, fig.data, fig.layout, config).then(() => {
    if (frames.length) Plotly.addFrames(box, frames);
    box.on("plotly_sliderchange", (event) => {
      const name = event.step.args[0][0];
      const shown = frames.find((frame) => frame.name === name);
      const meta = shown && shown.layout && shown.layout.meta;
      if (meta && meta.alt) document.getElementById(box.id + "-alt").textContent = meta.alt;
    });
  });
}
