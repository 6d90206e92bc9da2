(function () {
  "use strict";
  const stored = document.getElementById("atlas-data"), map = document.getElementById("atlas-map");
  if (!stored || !map) return;
  const data = JSON.parse(stored.textContent), points = Array.from(map.querySelectorAll("circle"));
  const select = document.getElementById("atlas-color"), scale = document.getElementById("atlas-scale");
  const said = document.getElementById("atlas-said");
  // Anchors of ramps whose lightness rises evenly, so that they are read without hue too; no end is lost on the paper.
  const ramps = {
    light: [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 190, 90], [240, 205, 30]],
    dark: [[112, 92, 214], [66, 140, 190], [60, 185, 150], [150, 220, 90], [255, 240, 110]],
  };
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  let ramp = ramps.light;
  const kinds = ["#1971c2", "#e8590c", "#2b8a3e", "#ae3ec9", "#f59f00", "#0ca678", "#e64980", "#495057"];
  const show = value => typeof value === "number" ? String(Number(value.toPrecision(4))) : value;

  function shade(share) {
    const place = share * (ramp.length - 1), left = Math.min(Math.floor(place), ramp.length - 2), part = place - left;
    return "rgb(" + ramp[left].map((c, i) => Math.round(c + part * (ramp[left + 1][i] - c))).join(",") + ")";
  }

  function item(color, words) {
    const span = document.createElement("span"), swatch = document.createElement("i");
    swatch.className = "swatch";
    swatch.style.background = color;
    span.append(swatch, words);
    return span;
  }

  function paint(point, color) {
    point.classList.toggle("none", color === null);
    point.style.fill = color === null ? "" : color;
  }

  function byNumber(values) {
    const known = values.filter(value => value !== null).sort((a, b) => a - b);
    if (!known.length) return points.forEach(point => paint(point, null));
    // A few extreme agents do not take the colours from all others.
    const low = known[Math.floor(0.02 * (known.length - 1))], high = known[Math.ceil(0.98 * (known.length - 1))];
    const share = value => high > low ? Math.min(Math.max((value - low) / (high - low), 0), 1) : 0.5;
    points.forEach((point, i) => paint(point, values[i] === null ? null : shade(share(values[i]))));
    const bar = document.createElement("i"), ends = document.createElement("span");
    bar.className = "ramp";
    bar.style.background = "linear-gradient(90deg," + ramp.map(c => "rgb(" + c.join(",") + ")").join(",") + ")";
    ends.append((known[0] < low ? "up to " : "") + show(low), bar, show(high) + (known[known.length - 1] > high ? " and more" : ""));
    scale.append(ends);
  }

  function byText(values) {
    const count = new Map();
    values.forEach(value => value !== null && count.set(value, (count.get(value) || 0) + 1));
    const often = Array.from(count.keys()).sort((a, b) => count.get(b) - count.get(a) || (a < b ? -1 : 1));
    const named = often.slice(0, kinds.length), color = new Map(named.map((text, i) => [text, kinds[i]]));
    points.forEach((point, i) => paint(point, values[i] === null ? null : color.get(values[i]) || "#adb5bd"));
    scale.append(...named.map(text => item(color.get(text), text)));
    if (often.length > named.length) scale.append(item("#adb5bd", (often.length - named.length) + " others"));
  }

  function recolor() {
    const values = data.columns[Number(select.value)].values;
    ramp = dark.matches ? ramps.dark : ramps.light;
    scale.replaceChildren();
    (values.some(value => typeof value === "string") ? byText : byNumber)(values);
    if (values.includes(null)) scale.append(item("transparent", "hollow: not known"));
  }

  function tell(point) {
    const i = Number(point.dataset.i), column = select && data.columns[Number(select.value)];
    const value = column ? column.values[i] : null;
    said.textContent = "Agent " + data.names[i] + (column ? ": " + column.name + " " + (value === null ? "not known" : show(value)) : "");
  }

  points.forEach(point => {
    point.addEventListener("mouseenter", () => tell(point));
    point.addEventListener("click", () => {
      tell(point);
      const own = document.getElementById("agent-" + point.dataset.n);
      if (own) own.scrollIntoView();
    });
  });
  if (select) {
    select.addEventListener("change", recolor);
    dark.addEventListener("change", recolor);
    recolor();
  }
})();
