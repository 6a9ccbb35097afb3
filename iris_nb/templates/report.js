addEventListener("DOMContentLoaded", function () {
  if (!window.Plotly) return;
  document.querySelectorAll("[data-figure]").forEach(function (box) {
    var spec = JSON.parse(document.getElementById("spec-" + box.dataset.figure).textContent);
    var named = spec.data.filter(function (part) { return part.showlegend !== false; }).length;
    box.parentNode.classList.add("is-live");
    if (box.clientWidth < 600 && named > 6 && spec.layout.height) spec.layout.height += 13 * named;
    Plotly.newPlot(box, spec.data, spec.layout, {
      responsive: true, displaylogo: false, typesetMath: false,
      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"]
    });
  });
});
addEventListener("beforeprint", function () {
  document.querySelectorAll("details:not([open])").forEach(function (part) { part.open = true; part.dataset.opened = "1"; });
});
addEventListener("afterprint", function () {
  document.querySelectorAll("details[data-opened]").forEach(function (part) { part.open = false; delete part.dataset.opened; });
});
