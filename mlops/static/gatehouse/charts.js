// Draws every <div data-chart="id"> from the JSON of <script id="id">, in the colours of the page, light or dark.
(function () {
  "use strict";
  const style = () => getComputedStyle(document.documentElement);
  const colour = (name) => style().getPropertyValue("--" + name).trim();
  const roles = ["good", "bad", "line", "other", "warn", "muted"];
  const bands = { "line-band": "line", "other-band": "other" };

  // A colour as it looks through: the interval around a curve must not hide the other curve.
  function faint(name) {
    const hex = colour(name).replace("#", "");
    const [red, green, blue] = [0, 2, 4].map((place) => parseInt(hex.slice(place, place + 2), 16));
    return `rgba(${red}, ${green}, ${blue}, 0.16)`;
  }

  // Plotly reads some HTML (links, for one) in whatever it writes, and levels, groups and names are other people's words.
  const plain = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

  function painted(value) {
    if (typeof value === "string") return plain(value);
    if (Array.isArray(value)) return value.map(painted);
    if (value && typeof value === "object") {
      const copy = {};
      for (const [key, inner] of Object.entries(value)) {
        copy[key] = (key === "color" && roles.includes(inner)) ? colour(inner)
          : (key === "fillcolor" && inner in bands) ? faint(bands[inner])
          : (key === "hovertemplate") ? inner // ours alone, with tags; what it fills in is plain
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
      legend: Object.assign({ orientation: "h", y: -0.2 }, wanted.legend),
    });
  }

  // What is folded away has no size: it is drawn when it is unfolded.
  const isFolded = (place) => Boolean(place.closest("details:not([open])"));

  function draw(within) {
    within.querySelectorAll("[data-chart]").forEach((place) => {
      if (isFolded(place)) return;
      const chart = painted(JSON.parse(document.getElementById(place.dataset.chart).textContent));
      Plotly.react(place, chart.data, layout(chart.layout), { displayModeBar: false, responsive: true });
    });
  }

  const drawAll = () => draw(document);
  document.addEventListener("DOMContentLoaded", drawAll);
  document.addEventListener("toggle", (event) => { if (event.target.open) draw(event.target); }, true);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
})();
