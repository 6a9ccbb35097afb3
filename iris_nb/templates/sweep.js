addEventListener("DOMContentLoaded", function () {
  var source = document.getElementById("sweep-live"), box = document.getElementById("sweep-figure");
  document.querySelectorAll("table.sortable").forEach(sortable);
  if (!source || !window.Plotly) return;
  var all = JSON.parse(source.textContent);
  var metric = document.getElementById("sweep-metric"), parameter = document.getElementById("sweep-parameter");
  box.closest("figure").classList.add("is-live");
  metric.value = all.first.metric;
  parameter.value = all.first.parameter;
  [metric, parameter].forEach(function (select) { select.addEventListener("change", draw); });
  draw();

  function draw() {
    var m = all.metrics[metric.value], p = all.parameters[parameter.value];
    var layout = JSON.parse(JSON.stringify(all.layout));
    var traces = all.models.map(function (model, number) { return dots(model, number, m, p); });
    var across = p.axis ? layout.yaxis : layout.xaxis, along = p.axis ? layout.xaxis : layout.yaxis;
    across.title.text = m.title;
    along.title.text = p.title;
    if (!p.axis) {
      traces.push(middles(p.medians[metric.value] || []));
      Object.assign(along, {
        tickvals: p.names.map(function (_, line) { return line; }), ticktext: p.names,
        range: [p.names.length - 0.5, -0.5], ticks: "", showgrid: false
      });
    }
    layout.height = (p.axis ? 340 : 120 + 34 * p.names.length) + (box.clientWidth < 600 ? 22 * traces.length : 24);
    Plotly.react(box, traces, layout, {
      responsive: true, displaylogo: false, typesetMath: false,
      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"]
    });
    box.setAttribute("aria-label", m.title + " of every member by " + parameter.value);
    document.getElementById("sweep-help").textContent = m.help ? m.title + ": " + m.help + "." : "";
  }

  function dots(model, number, m, p) {
    var mine = [];
    m.values.forEach(function (value, i) { if (value !== null && all.members[i].model === number) mine.push(i); });
    var values = mine.map(function (i) { return m.values[i]; }), places = mine.map(function (i) { return p.places[i]; });
    return {
      type: "scatter", mode: "markers", name: model.name, hoverinfo: "text", showlegend: true,
      x: p.axis ? places : values, y: p.axis ? values : places,
      text: mine.map(function (i) { return all.members[i].text + "<br>" + m.title + " " + m.values[i].toFixed(3); }),
      marker: { color: model.colour, symbol: model.symbol, size: 9, opacity: 0.8 }
    };
  }

  function middles(rows) {
    return {
      type: "scatter", mode: "markers", name: "median", showlegend: true, hoverinfo: "text",
      x: rows.map(function (row) { return row[1]; }), y: rows.map(function (row) { return row[0]; }),
      text: rows.map(function (row) { return "median " + row[1].toFixed(3); }),
      marker: { symbol: "line-ns-open", size: 20, color: all.ink, line: { width: 2, color: all.ink } }
    };
  }
});

function sortable(table) {
  var body = table.tBodies[0], heads = Array.from(table.tHead.rows[0].cells);
  heads.forEach(function (head, column) {
    if (!("sort" in head.dataset)) return;
    var button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    while (head.firstChild) button.appendChild(head.firstChild);
    head.appendChild(button);
    button.addEventListener("click", function () {
      var up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach(function (other) { other.removeAttribute("aria-sort"); });
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      Array.from(body.rows).sort(function (a, b) {
        return compare(a.cells[column].dataset.key, b.cells[column].dataset.key, up ? 1 : -1);
      }).forEach(function (row) { body.appendChild(row); });
    });
  });

  function compare(a, b, way) {
    if (a === "" || b === "") return a === b ? 0 : a === "" ? 1 : -1;
    var x = Number(a), y = Number(b);
    return way * (isNaN(x) || isNaN(y) ? a.localeCompare(b) : x - y);
  }
}
