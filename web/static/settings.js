// Follows what is typed in the settings: the virtual IP with its prefix and interface, and the
// worst-case takeover, which this node computes.
"use strict";
(() => {
  const form = document.getElementById("settings");
  const derived = document.getElementById("derived");
  const worst = document.getElementById("worst");
  let timer = 0;

  function mode() { const m = form.querySelector("input[name=mode]:checked"); return m ? m.value : "standalone"; }

  function derive() {
    const address = form.elements[mode() + ":local.address"];
    const vip = form.elements[mode() + ":vip"];
    if (!address || !vip) return;
    const option = address.selectedOptions[0];
    const found = option && option.textContent.match(/\/(\d+) on ([^,]+),/);
    const host = vip.value.trim().split("/")[0];
    derived.textContent = host && found ? `${host}/${found[1]} on ${found[2]}` : "choose the local address and the virtual IP";
  }

  async function compute() {
    const q = new URLSearchParams();
    for (const e of form.elements) if (e.name && e.name.startsWith("timing.")) q.set(e.name, e.value);
    try {
      const answer = await fetch("/api/v1/redundancy/worst?" + q, { cache: "no-store" });
      const got = await answer.json();
      worst.textContent = answer.ok ? got.worst_case_takeover_ms + " ms" : got.error.message;
    } catch (e) {
      worst.textContent = "cannot be computed now";
    }
  }

  form.addEventListener("input", e => {
    derive();
    if (e.target.name && e.target.name.startsWith("timing.")) { clearTimeout(timer); timer = setTimeout(compute, 200); }
  });
  const dialog = document.querySelector(".dialog");
  if (dialog) {
    // What is behind the dialog cannot be reached while it is open.
    for (const part of document.querySelectorAll("header, #settings > section")) part.inert = true;
    (dialog.querySelector("input") || dialog.querySelector("button")).focus();
  } else {
    const wrong = form.querySelector("[aria-invalid]");
    if (wrong) wrong.focus();
  }
})();
