// Lets the countdown of the waiting page go on between the live updates.
"use strict";
(() => {
  let said = ""; // what the server said last, and when
  let at = 0;
  setInterval(() => {
    const timer = document.querySelector("[data-left]");
    if (!timer) return;
    if (timer.dataset.left !== said) { said = timer.dataset.left; at = performance.now(); }
    const left = Number(said) - (performance.now() - at);
    const s = Math.max(0, Math.ceil(left / 1000));
    const text = `${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")}`;
    if (timer.textContent !== text) timer.textContent = text;
  }, 200);
})();
