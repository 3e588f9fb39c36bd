"""How the page looks: light and dark, on paper, on a phone. Nothing is fetched from anywhere."""

from typing import Final

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5c6670; --faint: #dfe3e8; --page: #ffffff;
  --raised: #f6f8fa; --accent: #0072b2; --blue: #0072b2; --orange: #d55e00;
  --font: system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ebee; --soft: #9aa5b1; --faint: #343c46;
  --page: #14181d; --raised: #1c2229; --accent: #56b4e9; --blue: #3d9be0; --orange: #f08a4b; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 2.2rem 1.6rem 4rem; font: 15px/1.5 var(--font);
  color: var(--ink); background: var(--page); }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; margin: 3rem 0 .6rem; padding-top: 1.1rem; border-top: 1px solid var(--faint);
  overflow-wrap: anywhere; }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem; }
p { margin: .4rem 0; max-width: 52rem; }
.soft, figcaption { color: var(--soft); font-size: .87rem; }
nav { margin: 1rem 0 0; display: flex; flex-wrap: wrap; gap: .4rem; }
nav a { padding: .15rem .7rem; border: 1px solid var(--faint); border-radius: 1rem; color: var(--accent);
  text-decoration: none; font-size: .87rem; }
nav a:hover, nav a:focus { background: var(--raised); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .5rem 0 1rem; font-size: .89rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .36rem .7rem .36rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--faint); }
thead th { color: var(--soft); font-weight: 600; font-size: .8rem; vertical-align: bottom; }
tbody tr:hover { background: var(--raised); }
.number { text-align: right; white-space: nowrap; padding-left: .4rem; }
td:first-child { white-space: nowrap; }
small { display: block; color: var(--soft); font-size: .79rem; }
.pairs th { font-weight: 500; color: var(--soft); white-space: nowrap; padding-right: 1.6rem; }
.pairs td { overflow-wrap: anywhere; }
.figures { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; margin: .8rem 0; }
figure { margin: 0; padding: .8rem; background: var(--raised); border-radius: .5rem; max-width: 100%; }
figure svg { max-width: 100%; height: auto; display: block; color: var(--ink); }
figcaption { margin-top: .4rem; }
details { margin: .6rem 0; }
summary { cursor: pointer; color: var(--accent); }
pre { overflow-x: auto; background: var(--raised); padding: .9rem; border-radius: .5rem; font-size: .8rem; }
footer { margin-top: 3rem; color: var(--soft); font-size: .83rem; }
@media print { details > * { display: block; } nav { display: none; } figure { break-inside: avoid; } }
"""
