"use strict";
(() => {
  const root = document.documentElement;
  const toggle = document.getElementById("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;

  function paint() {
    const theme = chosen ?? (dark.matches ? "dark" : "light");
    root.dataset.theme = theme;
    toggle.textContent = theme === "dark" ? "Light" : "Dark";
    toggle.setAttribute("aria-label", `Use the ${theme === "dark" ? "light" : "dark"} theme`);
  }
  toggle.addEventListener("click", () => {
    chosen = root.dataset.theme === "dark" ? "light" : "dark";
    paint();
  });
  dark.addEventListener("change", paint);
  paint();

  const tip = document.getElementById("tip");
  function show(children, x, y) {
    tip.replaceChildren(...children);
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const left = x + 16 + box.width > innerWidth ? x - 16 - box.width : x + 16;
    tip.style.left = `${Math.max(4, left)}px`;
    tip.style.top = `${Math.max(4, Math.min(y + 14, innerHeight - box.height - 4))}px`;
  }
  const hide = () => { tip.hidden = true; };
  function element(name, text, className) {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  }

  // Curves: the values of all lines at the place of the pointer, or of the arrow keys.
  for (const svg of document.querySelectorAll("svg.chart[data-lines]")) {
    const lines = JSON.parse(svg.dataset.lines);
    const names = JSON.parse(svg.dataset.ticks ?? "null");
    const cursor = svg.querySelector(".cursor");
    const places = [...new Set(lines.flatMap(line => line.points.map(point => point[2])))].sort((a, b) => a - b);
    if (!places.length) continue;
    let at = -1;
    function point(index, x, y) {
      at = index;
      const place = places[index];
      cursor.setAttribute("x1", place);
      cursor.setAttribute("x2", place);
      cursor.style.visibility = "visible";
      let first = null;
      const rows = [];
      for (const line of lines) {
        const found = line.points.find(each => each[2] === place);
        if (!found) continue;
        first ??= found[0];
        const row = element("div", undefined, "row");
        row.append(element("span", undefined, `swatch ${line.colour}`), element("span", line.name), element("b", String(+found[1].toPrecision(4)).replace("-", "−")));
        rows.push(row);
      }
      const title = names ? names[Math.round(first)] : `${svg.dataset.label} ${+first.toPrecision(4)}`;
      show([element("div", title, "soft"), ...rows], x, y);
    }
    function nearest(event) {
      const box = svg.getBoundingClientRect();
      const x = (event.clientX - box.left) * svg.viewBox.baseVal.width / box.width;
      let best = 0;
      places.forEach((place, index) => { if (Math.abs(place - x) < Math.abs(places[best] - x)) best = index; });
      point(best, event.clientX, event.clientY);
    }
    const leave = () => { cursor.style.visibility = "hidden"; hide(); };
    svg.addEventListener("pointermove", nearest);
    svg.addEventListener("pointerleave", leave);
    svg.addEventListener("blur", leave);
    svg.addEventListener("keydown", event => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (event.key === "Escape") leave();
      if (!step) return;
      event.preventDefault();
      const index = Math.max(0, Math.min(places.length - 1, at + step));
      const box = svg.getBoundingClientRect();
      point(index, box.left + places[index] * box.width / svg.viewBox.baseVal.width, box.top + 20);
    });
  }

  // The map: a thumbnail at the pointer, or of the point that the arrow keys reached.
  const holder = document.getElementById("map-data");
  if (!holder) return;
  const map = JSON.parse(holder.textContent);
  const svg = document.getElementById("map-svg");
  const circles = [...svg.querySelectorAll("circle")];
  const card = document.getElementById("map-card");
  const note = document.getElementById("map-note");
  let here = -1;
  function thumb(index, size) {
    const made = element("div", undefined, "thumb");
    const scale = size / map.side;
    made.setAttribute("role", "img");
    made.setAttribute("aria-label", map.names[index]);
    made.style.width = made.style.height = `${size}px`;
    made.style.backgroundImage = `url(${document.getElementById("map-sprite").src})`;
    made.style.backgroundSize = `${map.columns * size}px auto`;
    made.style.backgroundPosition = `-${index % map.columns * map.side * scale}px -${Math.floor(index / map.columns) * map.side * scale}px`;
    if (map.side < 48) made.style.imageRendering = "pixelated";
    return made;
  }
  function lines(index) {
    const label = map.class_names[map.labels[index]];
    const said = map.said[index];
    const found = [element("div", label)];
    if (said >= 0) {
      const right = said === map.labels[index];
      found.push(element("div", right ? "✓ named right" : `✗ called ${map.class_names[said]}`, `mark ${right ? "right" : "wrong"}`));
    }
    return found;
  }
  function mark(index) {
    circles[Math.max(here, 0)].classList.remove("here");
    here = index;
    circles[here].classList.add("here");
    card.replaceChildren(thumb(index, 112), ...lines(index), element("div", map.names[index], "soft"));
  }
  mark(0);
  function closest(event) {
    const box = svg.getBoundingClientRect();
    const scale = svg.viewBox.baseVal.width / box.width;
    const x = (event.clientX - box.left) * scale + svg.viewBox.baseVal.x;
    const y = (event.clientY - box.top) * scale + svg.viewBox.baseVal.y;
    let best = -1, least = 30 ** 2;
    circles.forEach((circle, index) => {
      const distance = (circle.cx.baseVal.value - x) ** 2 + (circle.cy.baseVal.value - y) ** 2;
      if (distance < least && !circle.classList.contains("dim")) { best = index; least = distance; }
    });
    return best;
  }
  svg.addEventListener("pointermove", event => {
    const index = closest(event);
    if (index < 0) return hide();
    if (index !== here) mark(index);
    show([thumb(index, 84), ...lines(index)], event.clientX, event.clientY);
  });
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("keydown", event => {
    const [x, y] = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key] ?? [0, 0];
    if (!x && !y) return;
    event.preventDefault();
    const from = circles[here];
    let best = here, least = Infinity;
    circles.forEach((circle, index) => {
      const right = circle.cx.baseVal.value - from.cx.baseVal.value, down = circle.cy.baseVal.value - from.cy.baseVal.value;
      const along = right * x + down * y, across = Math.abs(right * y) + Math.abs(down * x);
      if (along > 0 && across <= 2 * along && along + 2 * across < least && !circle.classList.contains("dim")) { best = index; least = along + 2 * across; }
    });
    mark(best);
  });
  for (const button of document.querySelectorAll("[data-layout]")) {
    button.addEventListener("click", () => {
      const layout = map.layouts[button.dataset.layout];
      circles.forEach((circle, index) => { circle.setAttribute("cx", layout[index][0]); circle.setAttribute("cy", layout[index][1]); });
      note.textContent = map.notes[button.dataset.layout];
      for (const other of document.querySelectorAll("[data-layout]")) other.setAttribute("aria-pressed", other === button);
    });
  }
  for (const button of document.querySelectorAll("[data-class]")) {
    button.addEventListener("click", () => {
      const pressed = button.getAttribute("aria-pressed") !== "true";
      for (const other of document.querySelectorAll("[data-class]")) other.setAttribute("aria-pressed", pressed && other === button);
      circles.forEach((circle, index) => circle.classList.toggle("dim", pressed && map.labels[index] !== Number(button.dataset.class)));
    });
  }
})();
