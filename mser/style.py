"""The look of the page: dark on light, wide tables scroll in their box, readable on a phone and in print."""

CSS = """
:root { --ink: #1f2933; --soft: #52606d; --line: #d9dfe5; --pale: #f5f7f9; --blue: #0b5d99; --warn: #fff4e0; }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; scroll-padding-top: 3.2rem; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: #fff; color: var(--ink); line-height: 1.5;
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; }
main { max-width: 70rem; margin: 0 auto; padding: 0 1.25rem 4rem; }
header { padding: 2.2rem 0 .6rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h1 em { font-style: normal; color: var(--blue); }
h2 { font-size: 1.35rem; margin: 0 0 .6rem; padding-top: 1.6rem; }
h3 { font-size: 1.05rem; margin: 1.6rem 0 .5rem; overflow-wrap: anywhere; }
h4 { font-size: .95rem; margin: 1rem 0 .4rem; }
section + section { margin-top: 1.4rem; border-top: 1px solid var(--line); }
p { margin: .4rem 0; max-width: 48rem; overflow-wrap: anywhere; }
a { color: var(--blue); }
.kicker { text-transform: uppercase; letter-spacing: .08em; font-size: .75rem; color: var(--soft); }
.facts, .lead, .small, figcaption { color: var(--soft); font-size: .9rem; }
.lead { margin-bottom: .8rem; }
.small { font-size: .84rem; }
ul { max-width: 52rem; padding-left: 1.2rem; margin: .5rem 0; }
li { margin: .3rem 0; overflow-wrap: anywhere; }
.warning { background: var(--warn); border: 1px solid #f0c36d; border-left: 6px solid #c77700; border-radius: 8px;
  padding: .9rem 1.1rem; margin: .8rem 0 1.2rem; }
.warning h2 { font-size: 1.05rem; padding: 0; margin: 0 0 .2rem; }
nav { position: sticky; top: 0; z-index: 3; display: flex; gap: .2rem; overflow-x: auto; background: #fffffff2;
  border-bottom: 1px solid var(--line); padding: .5rem 0; }
nav a { text-decoration: none; font-size: .88rem; padding: .2rem .6rem; border-radius: 999px; white-space: nowrap; }
nav a:hover, nav a:focus { background: #e3f0f8; }
nav + section { border-top: 0; }
.scroll { overflow-x: auto; max-width: 100%; -webkit-overflow-scrolling: touch; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; margin: .3rem 0; }
th, td { padding: .38rem .7rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
thead th { color: var(--soft); font-weight: 600; font-size: .8rem; vertical-align: bottom; white-space: normal; }
tbody th { font-weight: 500; }
td small { display: block; color: var(--soft); font-size: .78rem; }
td strong { color: var(--blue); font-weight: 750; }
.prose td:last-child { white-space: normal; min-width: 15rem; }
.prose tbody th { white-space: normal; min-width: 6rem; }
.main tbody tr:not(.group) > th, .grouped tbody tr:not(.group) > th, .wide tbody th {
  position: sticky; left: 0; z-index: 1; background: #fff; box-shadow: inset 0 -1px 0 var(--line); }
.main { width: 100%; }
.main th, .main td { padding-left: .4rem; padding-right: .4rem; }
.main tbody th { min-width: 9rem; max-width: 15rem; white-space: normal; }
.main .group th { background: var(--pale); max-width: none; color: var(--soft); font-weight: 400; }
.main .group b { color: var(--ink); font-size: 1.05rem; margin-right: .4rem; }
.grouped .group th { background: var(--pale); color: var(--soft); font-weight: 400; }
.grouped .group b { color: var(--ink); }
.main tbody tr:last-child > * { color: var(--soft); border-bottom: 2px solid var(--line); }
.stay { position: sticky; left: .7rem; display: inline-block; max-width: calc(100vw - 5rem); }
.audit { margin: .8rem 0; }
.audit h3 { margin: .8rem 0 .3rem; }
.finding, .leak { border-left: 4px solid #8fb8d6; background: #f0f6fa; padding: .5rem .8rem;
  border-radius: 0 6px 6px 0; }
.leak { border-color: #b3261e; background: #fdeceb; font-weight: 600; }
.badge { display: inline-block; border-radius: 4px; padding: 0 .35rem; font-size: .72rem; line-height: 1.35;
  font-weight: 700; vertical-align: middle; white-space: nowrap; }
.badge.leaky { background: #b3261e; color: #fff; }
.badge.transductive { background: #fff4e0; color: #7a4a00; border: 1px solid #c77700; }
.badge.adapts { background: #e3f0f8; color: var(--blue); border: 1px solid #8fb8d6; }
.badge.chosen-on-test { background: #b3261e; color: #fff; }
.plain { color: inherit; text-decoration: none; }
.plain:hover, .plain:focus { text-decoration: underline; }
.board thead th:first-child { position: sticky; left: 0; z-index: 1; background: #fff; }
.board tbody th { min-width: 10rem; max-width: 17rem; white-space: normal; }
.board tbody th small { display: block; }
.board tbody th small, .failed, .part { color: var(--soft); }
.mark { font-size: .7rem; margin-left: .25rem; color: #00734f; }
.mark.down { color: #b3261e; }
.legend { list-style: none; padding: 0; font-size: .88rem; }
.beside { display: flex; flex-wrap: wrap; gap: 0 2rem; align-items: center; }
.beside > div { flex: 1 1 18rem; }
.beside figure { max-width: 100%; }
.beside svg { max-width: 100%; height: auto; }
thead th small { display: block; font-weight: 400; white-space: nowrap; }
.tally { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .5rem; }
.tally li { background: var(--pale); border: 1px solid var(--line); border-radius: 8px; padding: .4rem .7rem; margin: 0;
  font-size: .9rem; }
.reading { list-style: none; padding: 0; }
.reading li { border-left: 4px solid var(--line); padding: .2rem 0 .2rem .8rem; margin: .6rem 0; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20.5rem), 1fr)); gap: .6rem 1rem; }
.grid > * { min-width: 0; }
figure { margin: .6rem 0; break-inside: avoid; }
figcaption { margin: .2rem 0; }
figcaption b { color: var(--ink); }
figure svg { display: block; max-width: none; font-family: inherit; }
figure svg text { font-family: inherit !important; }
.grid figure svg { max-width: 100%; height: auto; }
.matrix { border-collapse: separate; border-spacing: 2px; font-size: .76rem; margin-left: -2px; }
.matrix td { text-align: center; min-width: 2.1rem; padding: .15rem 0; border: 0; border-radius: 4px; }
.matrix td small { color: inherit; font-size: .68rem; line-height: 1.15; }
.matrix th { border: 0; font-weight: 400; font-size: .76rem; vertical-align: middle; padding: .15rem .4rem .15rem 0; }
.matrix thead th { vertical-align: bottom; text-align: center; padding: .2rem 0; }
.upright { writing-mode: vertical-rl; transform: rotate(180deg); white-space: nowrap; }
.chip { display: inline-block; background: #e3f0f8; border-radius: 999px; padding: .05rem .6rem;
  margin: .1rem .3rem .1rem 0; }
details { margin: .6rem 0; border: 1px solid var(--line); border-radius: 8px; padding: .1rem .8rem; }
details[open] { padding-bottom: .6rem; }
summary { cursor: pointer; padding: .4rem 0; font-size: .9rem; color: var(--blue); overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  main { padding: 0 .8rem 3rem; }
  h1 { font-size: 1.45rem; }
  th, td { padding: .32rem .5rem; }
  .main tbody tr:not(.group) > th, .grouped tbody tr:not(.group) > th, .wide tbody th {
    min-width: 6.5rem; max-width: 7.5rem; white-space: normal; overflow-wrap: break-word; }
}
@media print {
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  html { font-size: 9pt; }
  main { max-width: none; padding: 0; }
  nav { display: none; }
  .scroll { overflow: visible; }
  .main tbody th, .grouped tbody th, .wide tbody th { position: static !important; box-shadow: none; }
  th, td { padding: .2rem .35rem; }
  .main th, .main td { padding: .2rem; font-size: .76rem; }
  .main tbody th { min-width: 5rem; }
  .main td:last-child { white-space: normal; }
  .board th, .board td { padding: .15rem; font-size: .64rem; }
  .board small { font-size: .56rem; white-space: normal; }
  .board tbody th { min-width: 4.5rem; }
  .board thead th { position: static; }
  th, td:not(.main td, .matrix td) { white-space: normal; }
  .matrix td { min-width: 1.9rem; }
  tr, .audit, .warning { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  figure svg { max-width: 100%; height: auto; }
  details:not([open]) { display: none; }
  details { border: 0; padding: 0; }
}
"""
