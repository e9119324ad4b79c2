// Follows what is typed in the settings: the virtual IP with its prefix and interface, a warning
// beside an address that may change, and the worst-case takeover, which this node computes.
"use strict";
(() => {
  const form = document.getElementById("settings");
  const worst = document.getElementById("worst");
  let timer = 0;
  let asked = 0;

  function mode() { const m = form.querySelector("input[name=mode]:checked"); return m ? m.value : "standalone"; }

  function derive() {
    for (const select of form.querySelectorAll("select[name$='local.address']")) {
      const note = document.getElementById(select.id + "-help").querySelector(".dynamic");
      if (note) note.hidden = !(select.selectedOptions[0] && "dynamic" in select.selectedOptions[0].dataset);
    }
    const address = form.elements[mode() + ":local.address"];
    const vip = form.elements[mode() + ":vip"];
    if (!address || !vip) return;
    const found = address.selectedOptions[0] ? address.selectedOptions[0].dataset : {};
    const host = vip.value.trim().split("/")[0];
    const on = form.elements["interface"].value.trim() || found.interface;
    const text = host && found.prefix ? `${host}/${found.prefix} on ${on}` : "choose the local address and the virtual IP";
    for (const out of form.querySelectorAll(".derived")) if (out.textContent !== text) out.textContent = text;
  }

  // beside shows what is wrong with a time that is just being typed, at its field.
  function beside(fields) {
    for (const old of form.querySelectorAll(".typed, #timing-help > *")) old.remove(); // a verify of other times
    for (const old of form.querySelectorAll("[name^='timing.'][aria-invalid]")) old.removeAttribute("aria-invalid");
    for (const f of fields) {
      const input = form.elements[f.field];
      if (!input) continue;
      const p = document.createElement("p");
      p.className = "wrong typed";
      p.setAttribute("role", "alert");
      p.textContent = `${f.message}: ${f.fix}.`;
      for (const old of document.getElementById(input.id + "-help").querySelectorAll(".wrong")) old.remove();
      document.getElementById(input.id + "-help").append(p);
      input.setAttribute("aria-invalid", "true");
    }
  }

  async function compute() {
    const mine = ++asked;
    const q = new URLSearchParams();
    for (const e of form.elements) if (e.name && e.name.startsWith("timing.")) q.set(e.name, e.value);
    try {
      const answer = await fetch("/api/v1/redundancy/worst?" + q, { cache: "no-store" });
      const got = await answer.json();
      if (mine !== asked) return; // something newer was typed
      worst.textContent = answer.ok ? got.worst_case_takeover_ms + " ms" : "cannot be: " + got.error.message;
      beside(answer.ok ? [] : got.error.fields || []);
    } catch (e) {
      worst.textContent = "cannot be computed now";
    }
  }

  form.addEventListener("input", e => {
    derive();
    if (e.target.name && e.target.name.startsWith("timing.")) { clearTimeout(timer); timer = setTimeout(compute, 200); }
  });
  derive();
  const dialog = document.querySelector(".dialog");
  if (dialog) {
    // What is behind the dialog cannot be reached while it is open.
    for (const part of document.querySelectorAll("header, #settings > section")) part.inert = true;
    (dialog.querySelector("input") || dialog.querySelector("button")).focus();
  } else {
    const wrong = form.querySelector("[aria-invalid]") || document.getElementById("verified");
    if (wrong) wrong.focus();
  }
})();
