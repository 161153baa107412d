"""The look of the pages and the few lines of script behind them. No fonts, no libraries, nothing to download."""

CSS = """
:root {
  --paper: #fff; --ink: #1b1d21; --soft: #636a76; --rule: #e4e6ea; --wash: #f5f6f8;
  --accent: #2b66d9; --good: #14804a; --bad: #c5361b;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #131519; --ink: #e5e7eb; --soft: #9aa1ad; --rule: #2c3038; --wash: #1b1e24;
    --accent: #7fa8ff; --good: #55c58a; --bad: #ff8066;
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 0 24px; max-width: 1128px; background: var(--paper); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
header { padding-top: 48px; }
h1 { margin: 0; font-size: 34px; line-height: 1.15; font-weight: 650; letter-spacing: -.02em; overflow-wrap: anywhere; }
h2 { margin: 0 0 4px; font-size: 21px; font-weight: 620; letter-spacing: -.01em; }
h3 { margin: 32px 0 8px; font-size: 15px; font-weight: 620; }
section { padding: 40px 0 0; }
p { margin: 0 0 12px; max-width: 76ch; text-wrap: pretty; }
a { color: var(--accent); text-decoration-thickness: 1px; text-underline-offset: 3px; }
.kicker { margin: 0 0 8px; color: var(--soft); font-size: 13px; }
.lead { margin: 6px 0 0; font-size: 18px; color: var(--soft); overflow-wrap: anywhere; }
.intro, .missing, figcaption, footer, .legend { color: var(--soft); }
.intro { margin-bottom: 16px; }
.missing { padding: 12px 16px; background: var(--wash); border-radius: 6px; }
nav { display: flex; flex-wrap: wrap; gap: 4px 20px; margin-top: 24px; padding: 10px 0; border: solid var(--rule);
  border-width: 1px 0; font-size: 14px; }
nav a { text-decoration: none; }
nav a:hover { text-decoration: underline; }
footer { margin-top: 56px; padding: 16px 0 40px; border-top: 1px solid var(--rule); font-size: 13px; }
code, pre { font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace; }
pre { margin: 0 0 12px; padding: 12px 16px; background: var(--wash); border-radius: 6px; white-space: pre-wrap;
  overflow-wrap: anywhere; user-select: all; }

.facts { display: flex; flex-wrap: wrap; gap: 12px 36px; margin: 24px 0 0; }
.facts dt { color: var(--soft); font-size: 12.5px; }
.facts dd { margin: 0; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.findings { margin: 24px 0 0; padding: 0; list-style: none; }
.findings li { margin: 0 0 8px; padding: 8px 14px; border-left: 3px solid var(--rule); background: var(--wash);
  border-radius: 0 6px 6px 0; max-width: 80ch; }
.findings .warn { border-color: var(--bad); }
.findings .warn b { color: var(--bad); font-weight: 620; }

table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 500; color: var(--soft); font-size: 13px; }
th, td { padding: 9px 20px 9px 0; border-bottom: 1px solid var(--rule); vertical-align: middle; }
th:last-child, td:last-child { padding-right: 0; }
thead th { vertical-align: bottom; padding-top: 0; }
tbody th { color: var(--ink); font-size: 15px; }
.n { text-align: right; white-space: nowrap; }
.value { font-weight: 650; }
.sub { display: block; color: var(--soft); font-size: 13px; font-weight: 400; }
.spread { color: var(--soft); font-weight: 400; }
.worse { color: var(--bad); }
.bars { width: 36%; min-width: 180px; }
.bar { position: relative; height: 14px; background: var(--wash); border-radius: 2px; }
.bar i { position: absolute; top: 0; bottom: 0; }
.bar .fill { left: 0; background: var(--accent); border-radius: 2px; }
.bar .whisker { height: 2px; top: 6px; background: var(--ink); }
.bar .init { width: 4px; top: -4px; bottom: -4px; margin-left: -2px; }
.bar .raw { width: 12px; top: 1px; bottom: 1px; margin-left: -6px; }
.bar .init, .key .init { width: 4px; background: var(--ink); border: solid var(--paper); border-width: 0 1px; }
.bar .raw, .key .raw { background: var(--paper); border: 2.5px solid var(--ink); border-radius: 50%; }
.key { display: flex; flex-wrap: wrap; gap: 4px 24px; margin: 12px 0 0; max-width: none; color: var(--soft);
  font-size: 13px; }
.key span { display: inline-flex; align-items: center; gap: 8px; }
.key i { display: inline-block; height: 14px; }
.key .fill { width: 18px; height: 10px; border-radius: 2px; background: var(--accent); }
.key .init { height: 16px; }
.key .raw { width: 12px; height: 12px; }
.key + .strip { margin-top: 16px; }
.settings th { width: 42%; font-size: 13.5px; overflow-wrap: anywhere; }
.settings th, .settings td { padding-top: 5px; padding-bottom: 5px; overflow-wrap: anywhere; vertical-align: top; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 0 48px; }

figure { margin: 0; min-width: 0; }
figcaption { font-size: 13.5px; max-width: 80ch; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 300px), 1fr)); gap: 24px 28px; }
.chart figcaption { display: flex; align-items: baseline; gap: 12px; margin-bottom: 4px; }
.chart b { color: var(--ink); font-weight: 560; overflow-wrap: anywhere; }
.chart output { margin-left: auto; text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.chart svg { display: block; width: 100%; height: auto; overflow: visible; touch-action: pan-y; }
.chart text { fill: var(--soft); font-size: 11px; font-variant-numeric: tabular-nums; }
.chart .rule { stroke: var(--rule); }
.chart .stage { stroke: var(--soft); stroke-dasharray: 2 3; }
.chart .guide { stroke: var(--good); stroke-dasharray: 4 3; }
.chart .danger { fill: var(--bad); opacity: .13; }
.chart .raw-line { fill: none; stroke: var(--accent); stroke-width: 1; opacity: .28; }
.chart .line { fill: none; stroke: var(--accent); stroke-width: 1.8; stroke-linejoin: round; stroke-linecap: round; }
.chart .dots { fill: none; stroke: var(--accent); stroke-width: 5; stroke-linecap: round; }
.chart .broken { stroke: var(--bad); stroke-width: 1.5; }
.chart .cursor { visibility: hidden; fill: var(--accent); stroke: var(--soft); }
.chart .cursor line { stroke-width: .75; }
.chart .cursor circle { stroke: var(--paper); stroke-width: 1.5; }

.scatter { display: grid; grid-template-columns: minmax(0, 1fr) 200px; gap: 28px; margin-bottom: 32px; }
.scatter.alone { grid-template-columns: minmax(0, 820px); }
.plot { position: relative; border: 1px solid var(--rule); border-radius: 6px; }
.plot svg { display: block; width: 100%; height: auto; }
.plot path { fill: none; stroke-width: 5.5; stroke-linecap: round; opacity: .85; transition: opacity .15s; }
.plot path.other { stroke: var(--soft); opacity: .4; }
.plot.focused path:not(.on) { opacity: .06; }
.plot span { position: absolute; transform: translate(-50%, -50%); font-size: 12.5px; font-weight: 600;
  white-space: nowrap; pointer-events: none;
  text-shadow: 0 0 3px var(--paper), 0 0 3px var(--paper), 0 0 3px var(--paper), 0 0 6px var(--paper); }
.legend { margin: 0; padding: 0; list-style: none; font-size: 13.5px; align-self: start; columns: 1; }
.legend li { display: flex; align-items: center; gap: 8px; padding: 2px 4px; border-radius: 4px; cursor: default; }
.legend li:hover, .legend li:focus { background: var(--wash); color: var(--ink); outline: none; }
.legend i { flex: none; width: 10px; height: 10px; border-radius: 50%; background: var(--soft); }
.legend small { margin-left: auto; font-size: inherit; font-variant-numeric: tabular-nums; }
.legend span { min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.scroll { overflow-x: auto; }
.map { display: block; width: 100%; min-width: 720px; height: auto; padding: 10px; border-radius: 6px;
  background: var(--wash); }

.strip { display: flex; align-items: flex-start; gap: 6px; margin: 0 0 10px; }
.strip .name { flex: none; width: 120px; font-size: 13.5px; color: var(--soft); overflow-wrap: anywhere;
  align-self: center; }
.strip .pictures { display: flex; gap: 6px; min-width: 0; overflow-x: auto; flex: 1; padding: 1px; }
.strip img { display: block; flex: 1 1 0; min-width: 34px; max-width: 104px; width: 0; height: auto;
  border-radius: 4px; }
.strip .wide img { min-width: 44px; max-width: 160px; }
.strip .query { flex: none; width: 96px; margin-right: 12px; max-width: none; min-width: 0; }
.pixelated { image-rendering: pixelated; }
.same { border: 3px solid var(--good); }
.different { border: 3px dashed var(--bad); }
.swatch { width: 16px; border-radius: 4px; }
img.plain { border: 1px solid var(--rule); }

@media (max-width: 720px) {
  body { padding: 0 16px; }
  header { padding-top: 28px; }
  h1 { font-size: 28px; }
  .scatter { grid-template-columns: 1fr; gap: 12px; }
  .legend { columns: 2; }
  .strip { flex-wrap: wrap; margin-bottom: 16px; }
  .strip .name { width: 100%; }
  .near .query { width: 22%; margin-right: 6px; }
  .near .pictures { display: grid; grid-template-columns: repeat(4, 1fr); }
  .near .pictures img { width: 100%; max-width: none; }
  .strip .pictures { gap: 3px; }
  .strip img { min-width: 30px; }
  .results thead { display: none; }
  .results tbody tr { display: grid; grid-template-columns: repeat(3, 1fr); padding: 12px 0;
    border-bottom: 1px solid var(--rule); }
  .results tbody th, .results tbody td { border: 0; padding: 2px 0; text-align: left; }
  .results tbody th, .results .bars { grid-column: 1 / -1; width: auto; }
  .results .bars { padding: 8px 0 4px; }
  .results td[data-label]::before { content: attr(data-label); display: block; color: var(--soft);
    font-size: 12px; font-weight: 400; }
}
@media print { nav, footer { display: none; } section, figure, tr { break-inside: avoid; } }
"""

SCRIPT = """
for (const chart of document.querySelectorAll(".chart[data-points]")) {
  const points = JSON.parse(chart.dataset.points), svg = chart.querySelector("svg");
  const cursor = svg.querySelector(".cursor"), out = chart.querySelector("output"), rest = out.textContent;
  svg.addEventListener("pointermove", event => {
    const box = svg.getBoundingClientRect(), x = (event.clientX - box.left) * svg.viewBox.baseVal.width / box.width;
    const near = points.reduce((a, b) => Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a);
    cursor.style.visibility = "visible";
    cursor.querySelector("line").setAttribute("transform", `translate(${near[0]} 0)`);
    cursor.querySelector("circle").setAttribute("transform", `translate(${near[0]} ${near[1]})`);
    out.textContent = near[2];
  });
  svg.addEventListener("pointerleave", () => { cursor.style.visibility = "hidden"; out.textContent = rest; });
}
for (const scatter of document.querySelectorAll(".scatter")) {
  const plot = scatter.querySelector(".plot"), paths = plot.querySelectorAll("path");
  scatter.querySelectorAll(".legend li").forEach((item, k) => {
    const focus = on => { plot.classList.toggle("focused", on); paths[k].classList.toggle("on", on); };
    for (const name of ["pointerenter", "focus"]) item.addEventListener(name, () => focus(true));
    for (const name of ["pointerleave", "blur"]) item.addEventListener(name, () => focus(false));
  });
}
"""
