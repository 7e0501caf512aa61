// Draws every <div data-chart="id"> from the JSON of <script id="id">, in the colours of the page, light or dark.
(function () {
  "use strict";
  const style = () => getComputedStyle(document.documentElement);
  const colour = (name) => style().getPropertyValue("--" + name).trim();
  const roles = ["good", "bad", "line", "other"];

  function painted(value) {
    if (Array.isArray(value)) return value.map(painted);
    if (value && typeof value === "object") {
      const copy = {};
      for (const [key, inner] of Object.entries(value)) {
        copy[key] = (key === "color" && roles.includes(inner)) ? colour(inner)
          : (key === "colorscale" && inner === "heat") ? [[0, colour("surface")], [1, colour("bad")]]
          : painted(inner);
      }
      return copy;
    }
    return value;
  }

  function layout(wanted) {
    const axis = { gridcolor: colour("border"), zerolinecolor: colour("border"), automargin: true };
    return Object.assign({}, wanted, {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: colour("text"), family: style().getPropertyValue("--font"), size: 12 },
      colorway: [colour("line"), colour("other"), colour("bad"), colour("good"), colour("warn"), colour("muted")],
      margin: Object.assign({ l: 60, r: 20, t: 10, b: 40 }, wanted.margin),
      xaxis: Object.assign({}, axis, wanted.xaxis), yaxis: Object.assign({}, axis, wanted.yaxis),
      legend: { orientation: "h", y: -0.2 },
    });
  }

  function draw() {
    document.querySelectorAll("[data-chart]").forEach((place) => {
      const chart = painted(JSON.parse(document.getElementById(place.dataset.chart).textContent));
      Plotly.react(place, chart.data, layout(chart.layout), { displayModeBar: false, responsive: true });
    });
  }

  document.addEventListener("DOMContentLoaded", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
