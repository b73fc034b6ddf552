/**
 * Draws the dashboards for Grafana (charts/liverank/files/dashboards) from a Prometheus, without Grafana: `node dashboards.mjs URL FOLDER [NAME…]`.
 * Places, units, thresholds, stacks and marks are the files' own; the look is this page's. It shows that each panel has data.
 */

import { readFile, readdir } from 'node:fs/promises';
import { launch } from './chromium.mjs';

const [prometheus, folder, ...only] = process.argv.slice(2);
const root = new URL('../../', import.meta.url);
const files = new URL('charts/liverank/files/dashboards/', root);
const MINUTES = Number(process.env.MINUTES ?? 5);
const STEP = 5;
/** Pictures are cut here, in pixels: the rest is more of the same. */
const TALLEST = 1320;

/** What `$__rate_interval` is at a scrape each 5 s, and every namespace. */
const plain = (expr) => expr.replaceAll('$__rate_interval', '20s').replaceAll('$namespace', '.*');

async function range(expr) {
  const end = Math.floor(Date.now() / 1000 / STEP) * STEP;
  const query = new URLSearchParams({ query: plain(expr), start: end - MINUTES * 60, end, step: STEP });
  const { status, data, error } = await (await fetch(`${prometheus}/api/v1/query_range?${query}`)).json();
  if (status !== 'success') throw new Error(`${expr}: ${error}`);
  return data.result;
}

const legend = (format, labels) => format.replaceAll(/\{\{(\w+)\}\}/g, (_, name) => labels[name] ?? '').replaceAll(/\s+/g, ' ').trim();

/** A panel with its lines: one list of times, and the values of each line at these. */
async function filled(panel) {
  const lines = [];
  for (const { expr, legendFormat } of panel.targets ?? []) {
    for (const { metric, values } of await range(expr)) lines.push({ name: legend(legendFormat, metric) || 'all', values });
  }
  const times = [...new Set(lines.flatMap(({ values }) => values.map(([at]) => at)))].sort((a, b) => a - b);
  const series = lines.map(({ name, values }) => {
    const known = new Map(values.map(([at, value]) => [at, Number(value)]));
    return { name, values: times.map((at) => (Number.isFinite(known.get(at)) ? known.get(at) : null)) };
  });
  return { ...panel, times, series };
}

async function marks(dashboard) {
  const found = [];
  for (const { expr, iconColor, name } of dashboard.annotations.list) {
    for (const { values } of await range(expr)) if (values.length > 0) found.push({ at: values[0][0], colour: iconColor, name });
  }
  return found;
}

/** Runs in the page. */
function draw({ title, panels, marks: found }) {
  const colours = ['#3b4fd8', '#0f9d76', '#e08a00', '#c2185b', '#5aa700', '#6d4aff', '#00838f', '#b35900', '#8e24aa', '#546e7a'];
  const units = { s: (v) => (v < 1 ? `${Math.round(v * 1000)} ms` : `${v.toFixed(1)} s`), percentunit: (v) => `${(v * 100).toFixed(1)} %`, ops: (v) => `${+v.toFixed(1)}/s` };
  const bytes = (v) => (v < 1024 ? `${Math.round(v)} B` : `${(v / 1024).toFixed(1)} KiB`);
  const words = (unit) => units[unit] ?? (/bytes|Bps/.test(unit) ? bytes : (v) => `${+v.toFixed(2)}`);
  document.body.innerHTML = `<h1>${title}</h1><main></main>`;
  for (const panel of panels) {
    const box = document.createElement('section');
    const { x, y, w, h } = panel.gridPos;
    box.style.gridArea = `${y + 1} / ${x + 1} / span ${h} / span ${w}`;
    box.className = panel.type;
    box.append(Object.assign(document.createElement('h2'), { textContent: panel.title }));
    document.querySelector('main').append(box);
    if (panel.type === 'row') continue;
    const { unit, thresholds, custom } = panel.fieldConfig.defaults;
    const say = words(unit);
    const last = (line) => line.values.findLast((value) => value !== null);
    if (panel.series.length === 0) {
      box.append(Object.assign(document.createElement('p'), { textContent: 'nothing of it happened' }));
    } else if (panel.type === 'stat') {
      box.append(Object.assign(document.createElement('p'), { textContent: say(last(panel.series[0]) ?? 0) }));
    } else {
      const stacked = custom.stacking.mode === 'normal';
      const sums = panel.times.map(() => 0);
      const data = panel.series.map(({ values }) => values.map((value, i) => (stacked ? (sums[i] += value ?? 0) : value)));
      const shown = panel.series.map(({ name }, i) => ({ label: name, stroke: colours[i % 10], width: 1.5, points: { show: false }, fill: stacked ? `${colours[i % 10]}22` : undefined }));
      const bound = custom.thresholdsStyle.mode === 'off' ? undefined : thresholds.steps[1]?.value;
      const lines = (u) => {
        const line = (colour, from, to) => { u.ctx.save(); u.ctx.strokeStyle = colour; u.ctx.setLineDash([5, 4]); u.ctx.beginPath(); u.ctx.moveTo(...from); u.ctx.lineTo(...to); u.ctx.stroke(); u.ctx.restore(); };
        for (const { at, colour } of found) { const px = u.valToPos(at, 'x', true); line(colour, [px, u.bbox.top], [px, u.bbox.top + u.bbox.height]); }
        if (bound > 0 && bound <= u.scales.y.max) { const py = u.valToPos(bound, 'y', true); line('#d32f2f', [u.bbox.left, py], [u.bbox.left + u.bbox.width, py]); }
      };
      const top = Math.max(...data.flat().filter((value) => value !== null), 0) || 1;
      const scales = { y: { range: [0, top * 1.1] } };
      const axes = [{ size: 24, font: '11px sans-serif' }, { size: 62, font: '11px sans-serif', values: (_, all) => all.map(say) }];
      new uPlot({ width: box.clientWidth - 16, height: box.clientHeight - 96, legend: { show: false }, cursor: { show: false }, scales, axes, hooks: { draw: [lines] },
        series: [{}, ...shown] }, [panel.times, ...data], box);
      const names = panel.series.slice(0, 5).map((line, i) => `<span style="color:${colours[i % 10]}">${line.name}</span> ${say(last(line) ?? 0)}`);
      if (panel.series.length > 5) names.push(`and ${panel.series.length - 5} more`);
      box.append(Object.assign(document.createElement('footer'), { innerHTML: names.join(' · ') }));
    }
  }
}

const STYLE = `body{margin:16px;font:13px sans-serif;background:#f4f5f8;color:#1b1f24}h1{font-size:20px}h2{font-size:13px;margin:0 0 4px}
main{display:grid;grid-template-columns:repeat(24,1fr);grid-auto-rows:32px;gap:8px}section{background:#fff;border-radius:6px;padding:8px;overflow:hidden;min-width:0}
section.row{background:none;padding:4px}.stat p{font-size:26px;margin:6px 0;color:#0f7a5a}footer{font-size:11px;line-height:1.4}.timeseries>p{color:#77808a}`;

const browser = await launch();
for (const file of (await readdir(files)).sort()) {
  const name = file.replace('.json', '');
  if (only.length > 0 && !only.includes(name)) continue;
  const dashboard = JSON.parse(await readFile(new URL(file, files), 'utf8'));
  const panels = await Promise.all(dashboard.panels.map(filled));
  const shown = panels.filter(({ type }) => type !== 'row');
  const page = await (await browser.newContext({ viewport: { width: 1440, height: 900 } })).newPage();
  await page.setContent('<!doctype html><title>liverank</title>');
  await page.addStyleTag({ content: (await readFile(new URL('web/vendor/uplot.css', root), 'utf8')) + STYLE });
  await page.addScriptTag({ content: await readFile(new URL('web/vendor/uplot.js', root), 'utf8') });
  await page.evaluate(draw, { title: dashboard.title, panels, marks: await marks(dashboard) });
  const height = Math.min(TALLEST, await page.evaluate(() => document.documentElement.scrollHeight));
  await page.screenshot({ path: `${folder}/dashboard-${name}.png`, fullPage: true, clip: { x: 0, y: 0, width: 1440, height } });
  const empty = shown.filter(({ series }) => series.length === 0).map(({ title }) => title);
  console.log(`${name}: ${shown.length} panels, without data: ${empty.join('; ') || 'none'}`);
}
await browser.close();
