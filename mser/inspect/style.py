"""What the pages of ``mser inspect`` add to the look of all pages, and the little that runs in them."""

CSS = """
.plot { width: 100%; margin: .4rem 0 1rem; break-inside: avoid; }
.square { max-width: 44rem; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: .6rem 1.4rem; }
.pair > * { min-width: 0; }
.damaged { color: #b3261e; font-weight: 600; }
.empty { color: var(--soft); font-style: italic; }
.wide td, .wide th { white-space: nowrap; }
.why td { white-space: normal; min-width: 12rem; }
@media print {
  .modebar, .updatemenu-container { display: none !important; }
  .pair { display: block; }
}
"""
#: Points get what they are from the texts beside their picture; a map's legend goes below it where it is narrow; on
#: paper pictures take the paper's width.
SCRIPT = """
(function () {
  var all = function (kind) { return Array.prototype.slice.call(document.querySelectorAll(kind)); };
  var fit = function (plot, width) {
    var change = {width: width}, narrow = width < 600;
    if (plot.closest(".map")) {
      change["legend.orientation"] = narrow ? "h" : "v";
      change["legend.x"] = narrow ? 0 : 1.02;
      change["legend.y"] = narrow ? -0.02 : 1;
      change["legend.yanchor"] = "top";
    }
    Plotly.relayout(plot, change);
  };
  var resize = function (width) {
    all(".js-plotly-plot").forEach(function (plot) { fit(plot, width || plot.closest(".plot").clientWidth); });
  };
  var begin = function () {
    all(".cloud").forEach(function (cloud) {
      var said = JSON.parse(cloud.querySelector(".said").textContent);
      cloud.querySelectorAll(".js-plotly-plot").forEach(function (plot) {
        plot.data.forEach(function (trace) {
          trace.text = trace.customdata.map(function (row) { return said[row]; });
        });
        Plotly.redraw(plot);
      });
    });
    resize();
  };
  var waiting = null;
  window.addEventListener("load", begin);
  window.addEventListener("resize", function () { clearTimeout(waiting); waiting = setTimeout(resize, 150); });
  window.addEventListener("beforeprint", function () { resize(660); });
  window.addEventListener("afterprint", function () { resize(); });
})();
"""
