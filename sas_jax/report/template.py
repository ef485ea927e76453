"""The page around the report's sections: its style in both themes, and a policy that lets nothing load or run."""

from sas_jax.report.markup import Markup, element

# Nothing is fetched and no script runs, whatever a name in the data may contain.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

# Each series' colour stands out from its ground by 4.5 to 1 or more; neighbours also differ in lightness or in dashes.
_STYLE = """
:root {
  color-scheme: light dark;
  --ground: #fff; --panel: #f6f6f4; --ink: #1d1d1b; --soft: #5c5c58; --rule: #dcdcd7;
  --c0: #75756f; --c1: #2563a8; --c2: #b85017; --c3: #2a2a28; --c4: #8a6a00; --c5: #1b7f5c; --c6: #96307a; 
  --c7: #0d7f95; --c8: #b03044;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --ground: #161615; --panel: #20201f; --ink: #e9e8e3; --soft: #a5a49d; --rule: #3a3a37;
    --c0: #93928b; --c1: #7db4f0; --c2: #f0985e; --c3: #f4f3ee; --c4: #e0bd4f; --c5: #62caa2; --c6: #dd8fc6; 
    --c7: #63c4d8; --c8: #f08a98;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); line-height: 1.55; font-size: 16px;
  font-family: system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, "Liberation Sans", sans-serif; }
main { max-width: 940px; margin: 0 auto; padding: 40px 20px 64px; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .4rem; font-weight: 650; letter-spacing: -.01em; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 .6rem; padding-top: .9rem; border-top: 1px solid var(--rule);
  font-weight: 650; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; font-weight: 600; }
p, #answer li, .notes { max-width: 44rem; }
p { margin: .5rem 0; }
h1, h3, p, li, figcaption, summary { overflow-wrap: anywhere; }
.soft, figcaption, .notes { color: var(--soft); font-size: .875rem; line-height: 1.45; }
#answer ul, .notes { padding-left: 1.1rem; margin: .6rem 0; }
#answer li { margin: .35rem 0; }
#answer .first { font-size: 1.15rem; line-height: 1.45; margin: 1.1rem 0 .9rem; padding-left: .9rem;
  border-left: 3px solid var(--c1); }
.notes li { margin: .2rem 0; }
.whole { white-space: nowrap; }
.scroll { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
.arms { width: 100%; }
th, td { padding: .38rem .5rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--rule);
  vertical-align: baseline; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th:last-child, td:last-child { padding-right: 0; }
thead th { white-space: normal; color: var(--soft); font-weight: 500; vertical-align: bottom;
  border-bottom-color: var(--soft); }
tbody th { font-weight: 600; }
td small, th small { font-weight: 400; display: block; color: var(--soft); font-size: .79rem; }
.key { display: inline-block; width: .62em; height: .62em; border-radius: 50%; margin-right: .45em;
  background: var(--c); }
.share { display: block; height: .5rem; min-width: 1px; background: var(--c1); border-radius: 1px; }
.stages { width: 100%; max-width: 44rem; }
.stages td:nth-child(3) { width: 45%; min-width: 90px; text-align: left; color: var(--soft); }
.facts td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
.facts thead th { text-align: left; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 330px), 1fr)); gap: 1.6rem 2rem;
  margin: 1rem 0; align-items: start; }
figure { margin: 0; min-width: 0; }
figcaption { margin-top: .35rem; }
svg { display: block; width: 100%; max-width: 420px; height: auto; overflow: visible; }
svg text { fill: var(--soft); font-size: 11.5px; font-family: inherit; font-variant-numeric: tabular-nums; }
svg .label { fill: var(--ink); font-size: 12px; }
svg .mark { stroke: none; fill: var(--ink); }
svg line.grid { stroke: var(--rule); stroke-width: 1; }
svg line.axis { stroke: var(--soft); stroke-width: 1; }
svg line.budget { stroke: var(--soft); stroke-width: 1; stroke-dasharray: 4 3; }
svg line.turning { stroke: var(--c2); stroke-width: 1.5; }
svg text.turning { fill: var(--c2); }
svg line.reference { stroke: var(--c0); stroke-width: 1; }
.shade { fill: var(--c0); opacity: .16; }
.line { fill: none; stroke: var(--c); stroke-width: 1.8; stroke-linejoin: round; }
.line.fine { stroke-width: 1; stroke-dasharray: none; opacity: .7; }
.band { fill: var(--c); opacity: .18; }
.bar, .dot { fill: var(--c); }
.ring { fill: none; stroke: var(--c); stroke-width: 1.2; }
.whisker { stroke: var(--c); stroke-width: 2.2; }
.s0 { --c: var(--c0); } .s1 { --c: var(--c1); } .s2 { --c: var(--c2); } .s3 { --c: var(--c3); } .s4 { --c: var(--c4); }
.s5 { --c: var(--c5); } .s6 { --c: var(--c6); } .s7 { --c: var(--c7); } .s8 { --c: var(--c8); }
.line.s2 { stroke-dasharray: 7 3; } .line.s3 { stroke-width: 1.3; } .line.s4 { stroke-dasharray: 8 3 2 3; }
.cloud { fill: none; stroke: var(--c); stroke-width: 2.6; stroke-linecap: round; opacity: .75; }
.cloud.s0 { opacity: .35; } .cloud.sparse { stroke-width: 3.6; }
.pale { opacity: .35; }
.line.plain { stroke-dasharray: none; stroke-width: 1.8; } .line.dashed { stroke-dasharray: 4 3; stroke-width: 1.8; }
.dot.open { fill: var(--ground); stroke: var(--c); stroke-width: 1.6; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .15rem 1rem; margin: .3rem 0 0; padding: 0;
  font-size: .8125rem; }
.swatch { display: inline-block; width: 1.5em; border-top: 2.5px solid var(--c); vertical-align: middle;
  margin-right: .4em; }
.swatch.s2 { border-top-style: dashed; } .swatch.s3 { border-top-width: 1.3px; }
.swatch.spot { width: .7em; height: .7em; border: 0; border-radius: 50%; background: var(--c); }
.swatch.plain { border-top-style: solid; border-top-width: 2.5px; }
.swatch.dashed { border-top-style: dashed; border-top-width: 2.5px; }
.picks { margin: 1.6rem 0; }
.picks h3 { margin: 0 0 .5rem; }
.picks h3 span { font-weight: 400; color: var(--soft); }
.row { display: grid; grid-template-columns: 3rem 1fr; align-items: start; margin: .5rem 0; }
.row h4 { font-size: .875rem; font-weight: 400; color: var(--soft); margin: .2rem 0; }
.row div { display: grid; grid-template-columns: repeat(8, minmax(0, 112px)); gap: 8px; }
.row img { width: 100%; height: auto; aspect-ratio: 1; display: block; background: var(--panel); border-radius: 3px;
  object-fit: contain; }
.row figcaption { font-size: .75rem; margin-top: .15rem; text-align: center; overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap; }
img.tiny { image-rendering: pixelated; }
details { margin: .8rem 0; }
summary { cursor: pointer; font-size: .9375rem; }
pre { background: var(--panel); padding: .9rem 1rem; overflow-x: auto; font-size: .8125rem; line-height: 1.45;
  border-radius: 3px; font-family: ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; }
a { color: var(--c1); }
@media (max-width: 560px) {
  main { padding: 24px 16px 48px; }
  h1 { font-size: 1.45rem; }
  #answer .first { font-size: 1.05rem; }
  .row { grid-template-columns: 1fr; }
  .row div { grid-template-columns: repeat(4, minmax(0, 112px)); }
}
@media print {
  body { font-size: 11pt; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  main { padding: 0; max-width: none; }
  details:not([open]) { display: none; }
  figure, .picks, tr, #answer { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  .scroll { overflow: visible; }
  .arms { font-size: .78rem; }
}
"""


def page(title: str, content: Markup) -> str:
    """Returns the whole document.

    Args:
      title: Of the browser's tab.
      content: The body.
    """
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name_="generator", content="sas_jax"),
        element("title", title),
        element("style", Markup(_STYLE)),
    )
    return "<!doctype html>\n" + element("html", head, element("body", element("main", content)), lang="en") + "\n"
