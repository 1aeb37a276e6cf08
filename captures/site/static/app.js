"use strict";
// A script long enough to be compressed.
const totals = new Map();
function add(name, cents) {
  totals.set(name, (totals.get(name) || 0) + cents);
  return totals.get(name);
}
function show(element) {
  element.textContent = [...totals].map(([name, cents]) => `${name}: ${cents / 100} €`).join(", ");
}
document.addEventListener("DOMContentLoaded", () => {
  for (const item of document.querySelectorAll("[data-price]")) add(item.id, Number(item.dataset.price));
  const target = document.getElementById("totals");
  if (target) show(target);
  fetch("https://api.example.test/v1/status").then((answer) => answer.json()).then(console.log);
});
//# sourceMappingURL=app.js.map
