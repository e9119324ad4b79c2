// Lets the countdown of the waiting page go on between the live updates.
"use strict";
(() => {
  const seen = new WeakMap(); // the element, and when its time was what the server said
  setInterval(() => {
    const timer = document.querySelector("[data-left]");
    if (!timer) return;
    if (!seen.has(timer)) seen.set(timer, performance.now());
    const left = Number(timer.dataset.left) - (performance.now() - seen.get(timer));
    const s = Math.max(0, Math.ceil(left / 1000));
    const text = `${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")}`;
    if (timer.textContent !== text) timer.textContent = text;
  }, 200);
})();
